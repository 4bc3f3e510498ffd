//! Commands on the cluster and its nodes.

use clap::Subcommand;

/// The cluster.
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Nodes, their roles and how far their logs are. Exit 3 when there is no leader.
    Status,
    /// Have another node lead.
    TransferLeader {
        /// Its number.
        id: u64,
    },
}

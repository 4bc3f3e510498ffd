//! Nodes among each other: what they say, how they reach each other, who answers.
//!
//! Traffic is kept apart on connections of its own: heartbeats and votes must not wait behind entries.

mod line;
mod network;
mod receiving;
mod sending;
mod server;
mod wire;

use kv_api::transport::Service;

pub(crate) use line::{Line, Target};
pub(crate) use network::Peers;
pub(crate) use receiving::Receiving;
pub use server::PeerService;
pub(crate) use wire::SnapshotHead;
pub use wire::{Peer, WireVote};

/// Heartbeats, votes, read indexes: small, and in a hurry.
pub const CONTROL: Service = Service(Service::PEER_FIRST.0);
/// Entries.
pub const ENTRIES: Service = Service(Service::PEER_FIRST.0 + 1);
/// The state of the leader, for a follower that its log does not reach any more.
pub const SNAPSHOTS: Service = Service(Service::PEER_FIRST.0 + 2);

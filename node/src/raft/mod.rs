//! The consensus library behind a thin facade. Only this folder names openraft.
//!
//! ```text
//! service -> RaftNode::write -> openraft -> LogStore::append -> kv-vlog   (durable, then committed)
//!                                        -> StateMachine::apply -> kv-lsm (pointers only)
//! ```
//! Rules that follow from how openraft 0.10 works, each enforced here:
//! - It replicates an entry when it is submitted, before the leader's own sync. A leader killed in
//!   between must not resume its term and give the same `(term, index)` to another entry:
//!   `enable_leader_restore` is off; a sole voter elects itself at start instead. (A simulation turns it on
//!   to show that replicas then differ.)
//! - Snapshots are virtual and triggered by us, never by its policy, and so are purges (`retention`): by
//!   default it would purge what is in no table yet. It waits with a purge for streams that still read.
//! - Requests of a stream must reach the follower in order, over one connection: what comes too early is a
//!   conflict, and after the acknowledgement of what is before it openraft takes that for lost entries.
//! - Heartbeats are streams of one request without entries.
//! - It keeps the last log id of each term, not the first.
//! - When it stops by itself, the process ends: it would live on as a node that answers nothing.
//! - The committed index is kept in the log's groups, so that the state never goes back at a restart.
//! - What time it is comes with entries, from the leader's clock (`time`): applying one asks no clock.

mod log_store;
pub mod peer;

mod node;
mod retention;
mod state_machine;
#[cfg(test)]
mod storage_tests;
mod time;
mod types;

pub use node::{NodeConfig, RaftNode};
pub use types::{Command, Outcome};

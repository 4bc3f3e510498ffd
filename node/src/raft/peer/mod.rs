//! Nodes among each other: what they say, how they reach each other, who answers.
//!
//! Traffic is kept apart on connections of its own: heartbeats and votes must not wait behind entries.

mod line;
mod network;
mod pipeline;
mod receiving;
mod sending;
mod server;
mod wire;

use kv_api::transport::{ServeOptions, Service};

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

/// Longest frame between nodes, whatever each of them lets its clients send: a page of entries and the
/// largest batch that can be configured.
const FRAME_BYTES_MAX: u32 = 544 << 20;
/// Bytes of peers' requests worked on at a time. Another budget than the clients': a leader that was replaced
/// holds the requests of its clients until it has taken the entries of the new one.
const IN_FLIGHT_BYTES: u32 = 64 << 20;

/// How connections of peers are served: in the order of arrival, for entries must not overtake each other.
#[must_use]
pub fn serve_options() -> ServeOptions {
    ServeOptions { in_order: true, ..ServeOptions::new(FRAME_BYTES_MAX, IN_FLIGHT_BYTES) }
}

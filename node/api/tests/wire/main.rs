//! The wire: bytes, limits, hostile input, and the behaviour of both ends of a connection.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests")]

mod bytes_on_wire;
mod connections;
mod hostile;
mod sizes;
mod support;

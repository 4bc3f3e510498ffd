//! How messages travel: any byte stream, a [`preamble`], then frames until one side closes.
//!
//! tarpc keeps the calls apart (numbers, deadlines, cancellation); the bytes are ours, byte by byte in
//! `docs/format/wire.md`. tarpc's own serde form is not used: its deadline is a duration that overflows
//! `Instant` (a panic) where a stranger wants it to.
//!
//! In reading order: [`io`] (streams, dialling), [`preamble`] (who are you), [`frame`] (length and body),
//! [`message`] (what a body is), [`budget`] (bytes in flight), [`client`], [`server`], [`listener`].

pub mod budget;
pub mod client;
pub mod frame;
pub mod io;
pub mod listener;
pub mod message;
pub mod preamble;
pub mod server;

pub use budget::{ByteBudget, Permit};
pub use client::{ClientTransport, context};
pub use io::{Acceptor, BoxIo, Dialer, Io, TcpDialer};
pub use listener::{ListenOptions, listen};
pub use preamble::{PreambleError, Refusal, Service, Welcome};
pub use server::{Connection, ServeOptions, run_to_end, serve};

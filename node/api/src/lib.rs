//! What kvnode says on the wire: request and reply types, the tarpc services, errors, limits, and the
//! transport they travel on. No engine and no consensus library is behind this crate, so that a program
//! which only wants the client compiles neither.

pub mod admin;
pub mod beside;
pub mod error;
pub mod kv;
pub mod limits;
pub mod stats;
pub mod transport;

pub use error::{KvError, Limit};
pub use limits::{InvalidLimits, Limits};

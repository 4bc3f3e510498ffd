//! The harness of the end-to-end tests: runs the real programs, fresh from cargo, and waits for what they
//! say rather than for time to pass.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on has failed")]
#![expect(clippy::panic, reason = "a test that cannot go on has failed")]

mod cluster;
mod detour;
mod ended;
pub mod files;
mod kvadmin;
mod node;
mod process;
mod programs;
mod proxy;
mod seed;

pub use cluster::{Cluster, IDS};
pub use detour::Detour;
pub use ended::Ended;
pub use kvadmin::{kvadmin, kvadmin_command};
pub use node::{Launch, Node};
pub use process::{Process, Signal};
pub use programs::{Programs, cargo, example, programs};
pub use proxy::{Link, Passing, Proxy};
pub use seed::{number_from_env, seed};

//! The Rust client of kvnode.
//!
//! ```no_run
//! # async fn example() -> Result<(), kv_client::Error> {
//! use kv_client::{Batch, Client, Expect, Scan};
//! use futures::TryStreamExt;
//!
//! let client = Client::builder().endpoints(["127.0.0.1:7400"]).build()?;
//! let revision = client.put("greeting", "hello").await?;
//! assert_eq!(client.get("greeting").await?.unwrap().bytes, "hello");
//!
//! client.write(Batch::new().put("a", "1").delete("b")).await?;
//! client.compare_and_set("greeting", Expect::Revision(revision), "hi").await?;
//! client.put_for("session", "ann", std::time::Duration::from_secs(3600)).await?;
//! let names: Vec<_> = client.scan(Scan::prefix("user/").keys_only()).try_collect().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it does by itself
//! - Connects when needed and again when a connection is lost; follows the leader; goes round the endpoints.
//! - Tries again until the deadline (one for all tries of a call) while it is certain that **nothing
//!   happened**: no connection, not sent, `Busy`, not the leader, unavailable. Exponential back-off with full jitter.
//! - After an **unknown outcome** (sent, then no answer) it repeats reads only. Repeating a `put` or `delete`
//!   may overwrite what someone else wrote in between, so the caller gets an error whose
//!   [`may_have_happened`](Error::may_have_happened) says so. [`Builder::retry_unknown_writes`] changes that.
//! - Bulk calls (over 64 KiB) travel on connections of their own, so that small ones do not wait behind them.
//! - Checks sizes before it sends, with the limits the node told at connect.
//!
//! Needs a tokio runtime with time and I/O.

mod admin;
mod batch;
mod builder;
mod client;
mod endpoints;
mod error;
mod line;
mod retry;
mod scan;

pub use admin::Admin;
pub use batch::Batch;
pub use builder::Builder;
pub use client::{CasOutcome, Client, Value};
pub use error::Error;
pub use kv_api::{
    KvError, Limit, Limits,
    kv::{Expect, Item, Revision, WriteReply as WriteOutcome},
};
pub use scan::Scan;

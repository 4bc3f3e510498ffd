//! kvnode: one node of the replicated key-value store for large values.
//!
//! The outer shell, in the order in which a process goes through it: [`config`] (what it was told),
//! [`datadir`] (whose data it is), [`server`] (ties everything together), [`http`] and [`metrics`] (what
//! operators ask), [`shutdown`] (how it is asked to stop) and [`exit`] (what it says when it ends).

mod blocking;
pub mod config;
pub mod datadir;
pub mod exit;
pub mod http;
pub mod metrics;
pub mod process;
pub mod raft;
pub mod server;
pub mod service;
pub mod shutdown;

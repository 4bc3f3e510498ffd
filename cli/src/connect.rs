//! From the command line to a client.

use std::time::Duration;

use kv_client::{Builder, Client};

use crate::args::Global;
use crate::exit::Failure;

/// How long a request may take unless `--timeout` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The same for import and export: long enough that a node can restart meanwhile.
const PATIENT_TIMEOUT: Duration = Duration::from_secs(60);

/// The same for what reads a whole disk.
const LONG_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 3600);

/// A client for single requests. A write whose outcome is unknown is reported, not repeated.
///
/// # Errors
/// The endpoints make no sense.
pub fn client(global: &Global) -> Result<Client, Failure> {
    Ok(builder(global, TIMEOUT).build()?)
}

/// A client for writes that may be repeated: deleting, or setting the same bytes again.
///
/// # Errors
/// The endpoints make no sense.
pub fn repeating_client(global: &Global) -> Result<Client, Failure> {
    Ok(builder(global, TIMEOUT).retry_unknown_writes(true).build()?)
}

/// A repeating client that waits for a node that restarts.
///
/// # Errors
/// The endpoints make no sense.
pub fn patient_client(global: &Global) -> Result<Client, Failure> {
    Ok(builder(global, PATIENT_TIMEOUT).retry_unknown_writes(true).build()?)
}

/// A client for requests that may take hours.
///
/// # Errors
/// The endpoints make no sense.
pub fn long_client(global: &Global) -> Result<Client, Failure> {
    Ok(builder(global, LONG_TIMEOUT).build()?)
}

fn builder(global: &Global, timeout: Duration) -> Builder {
    Client::builder().endpoints(global.endpoints.clone()).deadline(global.timeout.unwrap_or(timeout))
}

//! From the command line to a connected client.

use std::time::Duration;

use kv_client::Client;

use crate::args::Global;
use crate::exit::Failure;

/// How long one request may take unless `--timeout` says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// The same for import and export: long enough that a node can restart meanwhile.
pub const PATIENT_TIMEOUT: Duration = Duration::from_secs(60);

/// A client for single commands: a write whose outcome is unknown is reported, not repeated.
///
/// # Errors
/// The endpoints make no sense.
pub fn client(global: &Global) -> Result<Client, Failure> {
    Ok(builder(global, TIMEOUT).build()?)
}

/// A client whose writes may be repeated: they set the same bytes again.
///
/// # Errors
/// The endpoints make no sense.
pub fn patient_client(global: &Global) -> Result<Client, Failure> {
    Ok(builder(global, PATIENT_TIMEOUT).retry_unknown_writes(true).build()?)
}

fn builder(global: &Global, timeout: Duration) -> kv_client::Builder {
    Client::builder().endpoints(global.endpoints.clone()).deadline(global.timeout.unwrap_or(timeout))
}

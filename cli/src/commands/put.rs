//! `put`: write a value.

use std::path::Path;

use kv_client::Client;
use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::{args, connect, local};

#[derive(Serialize)]
struct Written {
    revision: u64,
}

/// Runs the command.
///
/// # Errors
/// The value cannot be read or written.
pub async fn run(args: args::Put, context: &mut Context) -> Result<Exit, Failure> {
    let client = connect::client(&context.global)?;
    let value = match (args.value, args.file) {
        (Some(value), _) if value != "-" => args::literal(value),
        (_, Some(file)) => read(&client, Some(&file)).await?,
        _ => read(&client, None).await?,
    };
    let revision = match args.ttl {
        Some(time) => client.put_for(args.key.0, value, time).await?,
        None => client.put(args.key.0, value).await?,
    };
    if context.out.is_json() {
        context.out.json(&Written { revision })?;
    } else {
        context.out.line(&revision.to_string())?;
    }
    Ok(Exit::Ok)
}

/// Reads a file, or standard input, that is short enough for a value.
async fn read(client: &Client, path: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let bytes_max = u64::from(client.limits().await?.value_bytes_max);
    let source = path.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let path = path.map(Path::to_owned);
    let bytes = local::blocking(move || local::read_up_to(path.as_deref(), bytes_max)).await;
    bytes.map_err(|error| Failure::from(error).of(&source))?.ok_or_else(|| {
        Failure::error(format!(
            "{source}: longer than the limit of {bytes_max} bytes for a value; \
             `kvadmin import` stores such files in parts"
        ))
    })
}

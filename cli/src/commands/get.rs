//! `get`: read a value.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use kv_client::{Client, Value};
use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::output::Base64;
use crate::{args, bytes_text, connect, local};

#[derive(Serialize)]
struct Found<'a> {
    key: Base64<'a>,
    revision: u64,
    value_bytes: u64,
    /// Left out where a file holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Base64<'a>>,
}

/// Runs the command.
///
/// # Errors
/// There is no such key, or the value cannot be read or written to the file.
pub async fn run(args: args::Get, context: &mut Context) -> Result<Exit, Failure> {
    let client = connect::client(&context.global)?;
    let key = Bytes::from(args.key.0);
    let Some(value) = read(&client, key.clone(), args.offset, args.length).await? else {
        return Err(Failure::new(Exit::NotFound, format!("no such key: {}", bytes_text::format(&key))));
    };
    if let Some(path) = &args.out {
        let written = save(path.clone(), value.bytes.clone()).await;
        written.map_err(|error| error.of(path.display()))?;
    }
    let to_stdout = args.out.is_none();
    if context.out.is_json() {
        context.out.json(&Found {
            key: Base64(&key),
            revision: value.revision,
            value_bytes: value.value_bytes,
            value: to_stdout.then_some(Base64(&value.bytes)),
        })?;
    } else if to_stdout {
        context.out.bytes(&value.bytes)?;
    }
    Ok(Exit::Ok)
}

async fn read(
    client: &Client,
    key: Bytes,
    offset: Option<u64>,
    length: Option<u64>,
) -> Result<Option<Value>, Failure> {
    Ok(match (offset, length) {
        (None, None) => client.get(key).await?,
        // The server cuts a range at the value's end.
        _ => client.get_range(key, offset.unwrap_or(0), length.unwrap_or(u64::MAX)).await?,
    })
}

async fn save(path: PathBuf, bytes: Bytes) -> Result<(), Failure> {
    let write = move |path: &Path| {
        let sink = local::Sink::beside(path)?;
        sink.write(&bytes, 0)?;
        sink.sync()?;
        sink.commit()
    };
    Ok(local::blocking(move || write(&path)).await?)
}

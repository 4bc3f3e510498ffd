//! `get`: read a value.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use kv_client::{Client, Value};
use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::output::Base64;
use crate::progress::message;
use crate::{args, bytes_text, connect, local, views};

#[derive(Serialize)]
struct Found<'a> {
    key: Base64<'a>,
    revision: u64,
    value_bytes: u64,
    /// Left out where a file holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Base64<'a>>,
    /// In seconds since 1970; left out where it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
}

/// Runs the command.
///
/// # Errors
/// There is no such key, or the value cannot be read or written to the file.
pub async fn run(args: args::Get, context: &mut Context) -> Result<Exit, Failure> {
    let client = connect::client(&context.global)?;
    let key = Bytes::from(args.key.0.clone());
    let Some(value) = read(&client, key.clone(), &args).await? else {
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
            expires_at: value.expires_at,
        })?;
        return Ok(Exit::Ok);
    }
    if let Some(expires_at) = value.expires_at {
        message(&format!("it goes away at {}", views::seconds(expires_at)));
    }
    if to_stdout {
        context.out.bytes(&value.bytes)?;
    }
    Ok(Exit::Ok)
}

async fn read(client: &Client, key: Bytes, args: &args::Get) -> Result<Option<Value>, Failure> {
    // The server cuts a range at the value's end.
    let (offset, length) = (args.offset.unwrap_or(0), args.length.unwrap_or(u64::MAX));
    let is_whole = args.offset.is_none() && args.length.is_none();
    Ok(match args.revision {
        None if is_whole => client.get(key).await?,
        None => client.get_range(key, offset, length).await?,
        Some(revision) if is_whole => client.get_at(key, revision).await?,
        Some(revision) => client.get_range_at(key, revision, offset, length).await?,
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

//! `flush`, `compact`, `checkpoint`, `verify`: what a node is to do with its store. It goes on when `--timeout` has passed.

use kv_api::admin::{CompactReport, TableSum, TablesReport, VerifyReport};
use serde::Serialize;
use serde_json::json;

use super::Context;
use crate::args::{self, Key};
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::keys::Range;
use crate::progress::message;

/// Runs `flush`.
///
/// # Errors
/// No node answers, or it could not.
pub async fn flush(context: &mut Context) -> Result<Exit, Failure> {
    connect::long_client(&context.global)?.admin().flush().await?;
    if context.out.is_json() {
        context.out.json(&json!({ "flushed": true }))?;
    } else {
        context.out.line("all that was written is in tables")?;
    }
    Ok(Exit::Ok)
}

/// Runs `compact`.
///
/// # Errors
/// No node answers, or it could not; the range is empty.
pub async fn compact(args: args::Compact, context: &mut Context) -> Result<Exit, Failure> {
    let bytes = |key: Option<Key>| key.map(|key| key.0);
    let prefix = bytes(args.prefix).unwrap_or_default();
    let range = Range::prefix(&prefix).and(bytes(args.from), bytes(args.to));
    let Some((from, to)) = range.bounds() else {
        return Err(Failure::new(
            Exit::Usage,
            "no key can be in this range: --from is not before --to, or outside --prefix",
        ));
    };
    let admin = connect::long_client(&context.global)?.admin();
    let report = admin.compact(from.into(), to.map(Into::into)).await?;
    if context.out.is_json() {
        context.out.json(&report)?;
    } else {
        context.out.line(&compacted(&report))?;
    }
    Ok(Exit::Ok)
}

fn compacted(report: &CompactReport) -> String {
    let sum = |TableSum { tables, bytes, entries }: TableSum| {
        format!("{tables} tables, {bytes} bytes, {entries} entries")
    };
    format!("node {}: before {}; after {}", report.node_id, sum(report.before), sum(report.after))
}

/// Runs `checkpoint`.
///
/// # Errors
/// No node answers, or it could not.
pub async fn checkpoint(args: &args::Checkpoint, context: &mut Context) -> Result<Exit, Failure> {
    let made = connect::long_client(&context.global)?.admin().checkpoint(&args.directory).await;
    let report = made.map_err(|error| {
        let may_be_there = error.may_have_happened();
        let hint = "; it may be made, or be on the way: what has a CURRENT in it is complete";
        let failure = Failure::from(error);
        if may_be_there { failure.and(hint) } else { failure }
    })?;
    if context.out.is_json() {
        context.out.json(&report)?;
    } else {
        let kv_api::admin::CheckpointReport { node_id, files, bytes, .. } = &report;
        let dir = crate::bytes_text::format(report.dir.as_bytes());
        context.out.line(&format!("node {node_id}: {files} files, {bytes} bytes in {dir}"))?;
    }
    Ok(Exit::Ok)
}

/// What a verification of everything found.
#[derive(Serialize)]
struct Verified {
    tables: TablesReport,
    segments: VerifyReport,
}

/// Runs `verify`.
///
/// # Errors
/// No node answers.
pub async fn verify(context: &mut Context) -> Result<Exit, Failure> {
    let admin = connect::long_client(&context.global)?.admin();
    let found = Verified { tables: admin.verify_tables().await?, segments: admin.verify().await? };
    let damages: Vec<&String> = found.tables.damages.iter().chain(&found.segments.damages).collect();
    if context.out.is_json() {
        context.out.json(&found)?;
    } else {
        for damage in &damages {
            context.out.line(&format!("damaged: {damage}"))?;
        }
        context.out.line(&verified(&found))?;
    }
    if damages.is_empty() {
        return Ok(Exit::Ok);
    }
    message("stored data is damaged: compare with another node before anything else");
    Ok(Exit::Corruption)
}

fn verified(found: &Verified) -> String {
    let Verified { tables, segments } = found;
    format!(
        "{} tables, {} bytes: {} damaged; {} segments, {} bytes: {} records intact, {} damaged",
        tables.tables,
        tables.bytes,
        tables.damages.len(),
        segments.segments,
        segments.bytes,
        segments.records,
        segments.damages.len()
    )
}

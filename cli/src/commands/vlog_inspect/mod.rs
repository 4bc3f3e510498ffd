//! `vlog inspect`: what stands in a segment, record by record.

mod filter;
mod json;
mod places;
mod rows;
#[cfg(test)]
mod tests;

use std::path::Path;

use kv_lsm::offline::segment_input;
use kv_manifest::names;
use kv_vlog::{
    Codec, Expect, Expiry, Found, Op, OpValue, Payload, Record, ScanEnd, SegmentHeader, SegmentInput,
    SegmentScanner, ValueRecord,
};
use serde_json::{Value, json};

use super::Context;
use crate::args::Shown;
use crate::exit::{Exit, Failure};
use crate::offline::{Directory, failure, not_found};
use crate::output::Output;
use crate::progress::message;
use crate::table::Table;
use crate::views;
use filter::Filter;
use json::{group_json, header_json};
use rows::{columns, group_row, record_rows, vote_text};

/// Bytes before the key of an operation.
const OP_HEADER_BYTES: u64 = kv_vlog::format::OP_HEADER_BYTES as u64;

/// A record with its offset and its length.
type Placed = (u32, u32, Record);

/// Runs the command.
///
/// # Errors
/// The directory holds no data, or not the segment; or the segment cannot be read.
pub fn run(segment: u64, dir: &Path, shown: &Shown, context: &mut Context) -> Result<Exit, Failure> {
    let directory = Directory::open(dir)?;
    let known = directory.state().segments.get(&segment);
    let known = known.ok_or_else(|| not_found("segment", segment, &directory))?;
    let input = segment_input(dir, directory.state(), known);
    match inspect(&directory, &input, shown, context) {
        Err(failure) if failure.exit == Exit::Corruption && is_given_up(&directory, &input)? => {
            Err(given_up(&input))
        }
        result => result,
    }
}

fn inspect(
    directory: &Directory,
    input: &SegmentInput,
    shown: &Shown,
    context: &mut Context,
) -> Result<Exit, Failure> {
    if shown.remap {
        return places::remap(directory, input, shown.limit, context);
    }
    let mut scanner = open(directory, input)?;
    match shown.dump_value {
        Some(offset) => match places::dump(&mut scanner, offset, shown.out.as_deref(), context) {
            Err(_) if is_given_up(directory, input)? => Err(given_up(input)),
            dumped => dumped,
        },
        None => list(directory, input, &mut scanner, shown, &mut context.out),
    }
}

fn open(directory: &Directory, input: &SegmentInput) -> Result<SegmentScanner, Failure> {
    let end = input.sealed.as_ref().map(|summary| summary.end);
    let scanner = SegmentScanner::open(&*directory.vfs, &input.path, end).map_err(failure)?;
    scanner.expect(&input.identity).map_err(failure)?;
    Ok(scanner)
}

fn list(
    directory: &Directory,
    input: &SegmentInput,
    scanner: &mut SegmentScanner,
    shown: &Shown,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let end = input.sealed.as_ref().map(|summary| summary.end);
    let mut listing = Listing::begin(input, scanner.header(), out)?;
    let ended = walk(scanner, shown, &mut listing, out)?;
    let damage = match &ended {
        Some(ScanEnd::Broken { offset, why, is_stale }) => {
            let named = scanner.durable_end_named_behind(*offset).map_err(failure)?;
            let durable = end.or(named).is_some_and(|durable| durable > *offset);
            // Else it is what the file held before.
            let what = format!("{}, offset {offset}: {why}", names::segment_name(input.identity.file));
            (durable || !is_stale).then_some((durable, what))
        }
        _ => None,
    };
    if damage.is_some() && is_given_up(directory, input)? {
        return Err(given_up(input));
    }
    listing.end(ended.as_ref(), damage.as_ref(), out)?;
    match damage {
        Some((true, what)) => {
            message(&format!("damaged: {what}"));
            Ok(Exit::Corruption)
        }
        Some((false, what)) => {
            message(&format!("note: {what}; what stands there was never acknowledged, or is being written"));
            Ok(Exit::Ok)
        }
        None => Ok(Exit::Ok),
    }
}

/// Whether the file has lost its name since the manifest was read: a node that runs beside has given it up, and may be
/// writing another segment into it, or cutting it. No other file ever gets the name.
fn is_given_up(directory: &Directory, input: &SegmentInput) -> Result<bool, Failure> {
    Ok(!directory.vfs.exists(&input.path)?)
}

fn given_up(input: &SegmentInput) -> Failure {
    let (segment, file) = (input.identity.segment, names::segment_name(input.identity.file));
    Failure::error(format!(
        "segment {segment} was given up while it was read, and {file} may hold another one by now: run this again; if no \
         node runs, the file is lost: see `kvadmin check`"
    ))
}

/// Lists what is to be shown of each group. `None`: stopped at the limit.
fn walk(
    scanner: &mut SegmentScanner,
    shown: &Shown,
    listing: &mut Listing,
    out: &mut Output,
) -> Result<Option<ScanEnd>, Failure> {
    let filter = Filter(shown);
    let mut left = usize::try_from(shown.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    while left > 0 {
        let found = match scanner.next_group().map_err(failure)? {
            Ok(found) => found,
            Err(end) => return Ok(Some(end)),
        };
        let records: Vec<Placed> =
            found.records.iter().filter_map(|record| filter.part(record)).take(left).collect();
        left -= records.len();
        // Where something is looked for, groups without it are in the way.
        if !records.is_empty() || !filter.is_set() {
            listing.group(&found, &records, out)?;
        }
    }
    Ok(None)
}

/// The result, in one of its forms. The JSON form is kept until its end: as long as the segment at most.
enum Listing {
    Json { head: Value, groups: Vec<Value> },
    Table(Table),
}

impl Listing {
    fn begin(input: &SegmentInput, header: &SegmentHeader, out: &mut Output) -> Result<Self, Failure> {
        if out.is_json() {
            return Ok(Self::Json { head: header_json(header), groups: Vec::new() });
        }
        let (identity, end) = (&header.identity, &header.end);
        let file = names::segment_name(identity.file);
        out.line(&format!(
            "segment {}  {file}  generation {}  epoch {}",
            identity.segment, identity.generation, identity.epoch
        ))?;
        out.line(&format!(
            "begun behind entry {}, committed below {}, change-set {}, vote {}",
            views::or_dash(end.last.map(|at| at.index)),
            end.committed_next,
            end.ledger_number,
            end.vote.map_or_else(|| "none".into(), vote_text)
        ))?;
        let sealed = input.sealed.as_ref();
        out.line(&sealed.map_or_else(|| "open".into(), |summary| format!("sealed at {}", summary.end)))?;
        out.line("")?;
        Ok(Self::Table(Table::new(&columns())))
    }

    fn group(&mut self, found: &Found, records: &[Placed], out: &mut Output) -> Result<(), Failure> {
        match self {
            Self::Json { groups, .. } => groups.push(group_json(found, records.iter())),
            Self::Table(table) => {
                table.row(out, group_row(found.offset, &found.header))?;
                for (offset, length, record) in records {
                    for row in record_rows(*offset, *length, record) {
                        table.row(out, row)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn end(
        self,
        ended: Option<&ScanEnd>,
        damage: Option<&(bool, String)>,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let (head, groups) = match self {
            Self::Json { head, groups } => (head, groups),
            Self::Table(table) => return table.end(out),
        };
        let end = ended.map(|ended| match ended {
            ScanEnd::Complete { offset } | ScanEnd::Broken { offset, .. } => *offset,
        });
        let text = |durable: bool| damage.filter(|(is, _)| *is == durable).map(|(_, what)| what);
        out.json(&json!({
            "header": head,
            "groups": groups,
            "end": end,
            "torn": text(false),
            "damaged": text(true),
        }))
    }
}

/// A value record without an entry, as the put that it once was.
fn value_op(record: &ValueRecord) -> Op {
    Op::Put { key: record.key.clone(), value: OpValue::Full(record.value.clone()) }
}

fn payload(payload: &Payload) -> &'static str {
    match payload {
        Payload::Blank => "blank",
        Payload::Ops(_) => "entry",
        Payload::Membership(_) => "membership",
    }
}

fn op_kind(op: &Op) -> &'static str {
    match op {
        Op::Put { .. } => "put",
        Op::Delete { .. } => "delete",
        Op::Check { expect: Expect::Absent, .. } => "check absent",
        Op::Check { expect: Expect::Seq(_), .. } => "check version",
    }
}

/// Length of a value, length as stored, codec.
fn stored(op: &Op) -> Option<(u64, u64, &'static str)> {
    let Op::Put { value: OpValue::Full(value), .. } = op else { return None };
    let codec = match value.codec {
        Codec::Raw => "raw",
        Codec::Zstd => "zstd",
        Codec::Chunked => "chunked",
    };
    Some((value.value_bytes, value.stored_bytes() as u64, codec))
}

fn op_bytes(op: &Op) -> u64 {
    OP_HEADER_BYTES + op.key().len() as u64 + stored(op).map_or(0, |stored| stored.1)
}

/// When a value goes away.
fn expires(op: &Op) -> Expiry {
    match op {
        Op::Put { value: OpValue::Full(value), .. } => value.expires,
        Op::Put { value: OpValue::At { expires, .. }, .. } => *expires,
        Op::Delete { .. } | Op::Check { .. } => Expiry::NEVER,
    }
}

/// Checksum over key, codec, length, expiry and stored bytes of a value.
fn value_crc(op: &Op) -> Option<u32> {
    match op {
        Op::Put { value: OpValue::Full(value), .. } => Some(value.crc),
        _ => None,
    }
}

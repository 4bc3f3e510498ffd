//! `vlog inspect`: what stands in a segment, record by record.

use std::path::Path;

use kv_lsm::offline::segment_input;
use kv_manifest::names;
use kv_vlog::{
    Codec, Expect, Found, GroupHeader, Op, OpValue, Payload, Record, ScanEnd, SegmentHeader, SegmentInput,
    SegmentScanner, ValueRecord, Vote,
};
use serde_json::{Value, json};

use super::Context;
use crate::bytes_text;
use crate::exit::{Exit, Failure};
use crate::offline::{Directory, failure, not_found};
use crate::output::{Base64, Output};
use crate::progress::message;
use crate::table::{Align, Table};
use crate::views;

/// Bytes before the key of an operation.
const OP_HEADER_BYTES: u64 = kv_vlog::format::OP_HEADER_BYTES as u64;

/// Runs the command.
///
/// # Errors
/// The directory holds no data, or not the segment; or the segment cannot be read.
pub fn run(segment: u64, dir: &Path, limit: Option<u64>, context: &mut Context) -> Result<Exit, Failure> {
    let directory = Directory::open(dir)?;
    let known = directory.state().segments.get(&segment);
    let known = known.ok_or_else(|| not_found("segment", segment, &directory))?;
    let input = segment_input(dir, directory.state(), known);
    let end = input.sealed.as_ref().map(|summary| summary.end);
    let mut scanner = SegmentScanner::open(&*directory.vfs, &input.path, end).map_err(failure)?;
    scanner.expect(&input.identity).map_err(failure)?;
    let mut listing = Listing::begin(&input, scanner.header(), &mut context.out)?;
    let ended = walk(&mut scanner, limit, |found, left| listing.group(&found, left, &mut context.out))?;
    let damage = match &ended {
        Some(ScanEnd::Broken { offset, why, is_stale }) => {
            let named = scanner.durable_end_named_behind(*offset).map_err(failure)?;
            let durable = end.or(named).is_some_and(|durable| durable > *offset);
            // Else it is what the file held before.
            (durable || !is_stale)
                .then(|| (durable, format!("{}, offset {offset}: {why}", names::segment_name(known.file))))
        }
        _ => None,
    };
    listing.end(ended.as_ref(), damage.as_ref(), &mut context.out)?;
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

/// Gives each group, and how many of its records may be shown. `None`: stopped at the limit.
fn walk(
    scanner: &mut SegmentScanner,
    limit: Option<u64>,
    mut each: impl FnMut(Found, usize) -> Result<(), Failure>,
) -> Result<Option<ScanEnd>, Failure> {
    let mut left = limit.unwrap_or(u64::MAX);
    while left > 0 {
        match scanner.next_group().map_err(failure)? {
            Ok(found) => {
                let shown = usize::try_from(left).unwrap_or(usize::MAX).min(found.records.len());
                left -= shown as u64;
                each(found, shown)?;
            }
            Err(end) => return Ok(Some(end)),
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
        let (left, right) = (Align::Left, Align::Right);
        let mut columns = vec![("OFFSET", right), ("BYTES", right), ("WHAT", left)];
        columns.extend(["TERM", "INDEX", "VALUE", "STORED"].map(|name| (name, right)));
        columns.extend(["CODEC", "KEY"].map(|name| (name, left)));
        Ok(Self::Table(Table::new(&columns)))
    }

    fn group(&mut self, found: &Found, shown: usize, out: &mut Output) -> Result<(), Failure> {
        let records = found.records.iter().take(shown);
        match self {
            Self::Json { groups, .. } => groups.push(group_json(found, records)),
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

fn header_json(header: &SegmentHeader) -> Value {
    let (identity, end) = (&header.identity, &header.end);
    let position = |at: kv_vlog::Position| json!({ "term": at.term, "index": at.index });
    json!({
        "segment": identity.segment,
        "file": identity.file,
        "generation": identity.generation,
        "epoch": identity.epoch,
        "cluster_id": views::hex(&identity.cluster_id),
        "incarnation": identity.incarnation,
        "group_id": identity.group_id,
        "last": end.last.map(position),
        "committed_next": end.committed_next,
        "purged": end.purged.map(position),
        "change_set": end.ledger_number,
        "vote": end.vote.map(vote_json),
    })
}

fn group_json<'a>(found: &Found, records: impl Iterator<Item = &'a (u32, u32, Record)>) -> Value {
    let header = &found.header;
    json!({
        "offset": found.offset,
        "bytes": header.length,
        "used_bytes": header.used,
        "number": header.number,
        "durable_segment": header.durable_segment,
        "durable_end": header.durable_end,
        "committed_next": header.committed_next,
        "change_set": header.ledger_number,
        "records": records.map(|(at, length, record)| record_json(*at, *length, record)).collect::<Vec<_>>(),
    })
}

fn record_json(offset: u32, length: u32, record: &Record) -> Value {
    let (kind, fields) = match record {
        Record::Entry(entry, offsets) => {
            let ops = entry.payload.ops().iter().zip(offsets).map(|(op, at)| op_json(op, *at));
            let fields = json!({
                "term": entry.at.term,
                "index": entry.at.index,
                "payload": payload(&entry.payload),
                "ops": ops.collect::<Vec<_>>(),
            });
            ("entry", fields)
        }
        Record::Vote(vote) => ("vote", vote_json(*vote)),
        Record::Truncate(next) => ("truncate", json!({ "from_index": next })),
        Record::Footer => ("footer", json!({})),
        Record::Values(values) => {
            let ops = values.iter().map(|value| op_json(&value_op(value), value.offset));
            ("values", json!({ "ops": ops.collect::<Vec<_>>() }))
        }
    };
    let mut json = json!({ "offset": offset, "bytes": length, "kind": kind });
    if let (Some(json), Value::Object(fields)) = (json.as_object_mut(), fields) {
        json.extend(fields);
    }
    json
}

fn op_json(op: &Op, offset: u32) -> Value {
    let stored = stored(op);
    json!({
        "offset": offset,
        "bytes": op_bytes(op),
        "kind": op_kind(op),
        "key": Base64(op.key()),
        "value_bytes": stored.map(|stored| stored.0),
        "stored_bytes": stored.map(|stored| stored.1),
        "codec": stored.map(|stored| stored.2),
        "expected_seq": match op {
            Op::Check { expect: Expect::Seq(seq), .. } => Some(*seq),
            _ => None,
        },
    })
}

fn vote_json(vote: Vote) -> Value {
    json!({ "term": vote.term, "node": vote.node, "committed": vote.committed })
}

fn vote_text(vote: Vote) -> String {
    let committed = if vote.committed { ", committed" } else { "" };
    format!("for node {} in term {}{committed}", views::or_dash(vote.node), vote.term)
}

fn group_row(offset: u64, header: &GroupHeader) -> Vec<String> {
    let mut row = vec![offset.to_string(), header.length.to_string(), format!("group {}", header.number)];
    row.resize(8, String::new());
    row.push(format!(
        "(durable to {}:{}, committed below {}, change-set {})",
        header.durable_segment, header.durable_end, header.committed_next, header.ledger_number
    ));
    row
}

fn record_rows(offset: u32, length: u32, record: &Record) -> Vec<Vec<String>> {
    let row = |what: &str, term: Option<u64>, index: Option<u64>, detail: String| {
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        let mut row = vec![offset.to_string(), length.to_string(), what.to_owned()];
        row.extend([number(term), number(index), String::new(), String::new(), String::new(), detail]);
        row
    };
    match record {
        Record::Vote(vote) => vec![row("vote", Some(vote.term), None, format!("({})", vote_text(*vote)))],
        Record::Truncate(next) => vec![row("truncate", None, Some(*next), "(void from here on)".into())],
        Record::Footer => vec![row("footer", None, None, String::new())],
        Record::Values(values) => {
            let ops = values.iter().map(|value| op_row(&value_op(value), value.offset));
            std::iter::once(row("values", None, None, String::new())).chain(ops).collect()
        }
        Record::Entry(entry, offsets) => {
            let (term, index) = (Some(entry.at.term), Some(entry.at.index));
            let ops = entry.payload.ops().iter().zip(offsets).map(|(op, at)| op_row(op, *at));
            std::iter::once(row(payload(&entry.payload), term, index, String::new())).chain(ops).collect()
        }
    }
}

/// A value record without an entry, as the put that it once was.
fn value_op(record: &ValueRecord) -> Op {
    Op::Put { key: record.key.clone(), value: OpValue::Full(record.value.clone()) }
}

fn op_row(op: &Op, offset: u32) -> Vec<String> {
    let (value, stored, codec) = match stored(op) {
        Some((value, stored, codec)) => (value.to_string(), stored.to_string(), codec.to_owned()),
        None => Default::default(),
    };
    let what = format!("  {}", op_kind(op));
    let key = bytes_text::format(op.key());
    let none = String::new;
    vec![offset.to_string(), op_bytes(op).to_string(), what, none(), none(), value, stored, codec, key]
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

#[cfg(test)]
mod tests {
    use super::*;
    use kv_vlog::{Compression, Entry, Position, StoredValue};

    #[test]
    fn an_entry_comes_with_its_operations() {
        let value = StoredValue::new(b"k\0", vec![7; 4000].into(), &Compression::default());
        let ops = vec![
            Op::Check { key: "k".into(), expect: Expect::Seq(9) },
            Op::Put { key: b"k\0"[..].into(), value: OpValue::Full(value) },
            Op::Delete { key: "d".into() },
        ];
        let entry = Entry { at: Position { term: 2, index: 5 }, payload: Payload::Ops(ops) };
        let record = Record::Entry(entry, vec![100, 141, 300]);
        let rows = record_rows(68, 500, &record);
        assert_eq!(rows[0][..5], ["68", "500", "entry", "2", "5"]);
        assert_eq!((&rows[1][2][..], &rows[3][2][..]), ("  check version", "  delete"));
        assert_eq!((&rows[2][0][..], &rows[2][5][..], &rows[2][7][..]), ("141", "4000", "zstd"));
        assert_eq!(rows[2][8], r"k\x00");
        assert!(rows.iter().all(|row| row.len() == 9));
        let json = record_json(68, 500, &record);
        assert_eq!((&json["kind"], &json["index"]), (&json!("entry"), &json!(5)));
        assert_eq!((&json["ops"][0]["expected_seq"], &json["ops"][1]["key"]), (&json!(9), &json!("awA=")));
        assert_eq!(json["ops"][2]["bytes"], json!(41));
    }

    #[test]
    fn marks_have_rows_of_their_own() {
        let vote = Vote { term: 3, node: Some(2), committed: true };
        for (record, what) in
            [(Record::Vote(vote), "vote"), (Record::Truncate(4), "truncate"), (Record::Footer, "footer")]
        {
            assert_eq!(record_json(1, 2, &record)["kind"], what);
            let rows = record_rows(1, 2, &record);
            assert_eq!((rows.len(), rows[0].len(), &rows[0][2][..]), (1, 9, what));
        }
        assert_eq!(vote_text(vote), "for node 2 in term 3, committed");
    }
}

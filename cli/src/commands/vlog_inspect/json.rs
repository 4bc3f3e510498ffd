//! A segment as JSON.

use kv_vlog::{Expect, Found, Op, Record, SegmentHeader, Vote};
use serde_json::{Value, json};

use super::{expires, op_bytes, op_kind, payload, stored, value_crc, value_op};
use crate::output::Base64;
use crate::views;

pub(super) fn header_json(header: &SegmentHeader) -> Value {
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

pub(super) fn group_json<'a>(found: &Found, records: impl Iterator<Item = &'a (u32, u32, Record)>) -> Value {
    let header = &found.header;
    json!({
        "offset": found.offset,
        "bytes": header.length,
        "used_bytes": header.used,
        "crc": header.crc,
        "number": header.number,
        "durable_segment": header.durable_segment,
        "durable_end": header.durable_end,
        "committed_next": header.committed_next,
        "change_set": header.ledger_number,
        "records": records.map(|(at, length, record)| record_json(*at, *length, record)).collect::<Vec<_>>(),
    })
}

pub(super) fn record_json(offset: u32, length: u32, record: &Record) -> Value {
    let (kind, fields) = match record {
        Record::Entry(entry, offsets) => {
            let ops = entry.payload.ops().iter().zip(offsets).map(|(op, at)| op_json(op, *at));
            let fields = json!({
                "term": entry.at.term,
                "index": entry.at.index,
                "time": (entry.time > 0).then_some(entry.time),
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

pub(super) fn op_json(op: &Op, offset: u32) -> Value {
    let stored = stored(op);
    json!({
        "offset": offset,
        "bytes": op_bytes(op),
        "kind": op_kind(op),
        "key": Base64(op.key()),
        "value_bytes": stored.map(|stored| stored.0),
        "stored_bytes": stored.map(|stored| stored.1),
        "codec": stored.map(|stored| stored.2),
        "value_crc": value_crc(op),
        "expires_at": expires(op).time(),
        "expected_seq": match op {
            Op::Check { expect: Expect::Seq(seq), .. } => Some(*seq),
            _ => None,
        },
    })
}

pub(super) fn vote_json(vote: Vote) -> Value {
    json!({ "term": vote.term, "node": vote.node, "committed": vote.committed })
}

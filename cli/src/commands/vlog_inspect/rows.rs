//! A segment as a table.

use kv_vlog::{GroupHeader, Op, Record, Vote};

use super::{expires, op_bytes, op_kind, payload, stored, value_crc, value_op};
use crate::bytes_text;
use crate::table::Align;
use crate::views;

/// The columns of the table.
pub(super) fn columns() -> Vec<(&'static str, Align)> {
    let (left, right) = (Align::Left, Align::Right);
    let mut columns = vec![("OFFSET", right), ("BYTES", right), ("WHAT", left)];
    columns.extend(["TERM", "INDEX", "VALUE", "STORED"].map(|name| (name, right)));
    columns.extend(["CODEC", "CRC", "EXPIRES", "KEY"].map(|name| (name, left)));
    columns
}

pub(super) fn vote_text(vote: Vote) -> String {
    let committed = if vote.committed { ", committed" } else { "" };
    format!("for node {} in term {}{committed}", views::or_dash(vote.node), vote.term)
}

pub(super) fn group_row(offset: u64, header: &GroupHeader) -> Vec<String> {
    let mut row = vec![offset.to_string(), header.length.to_string(), format!("group {}", header.number)];
    row.resize(8, String::new());
    row.push(format!("{:08x}", header.crc));
    row.push(String::new());
    row.push(format!(
        "(durable to {}:{}, committed below {}, change-set {})",
        header.durable_segment, header.durable_end, header.committed_next, header.ledger_number
    ));
    row
}

pub(super) fn record_rows(offset: u32, length: u32, record: &Record) -> Vec<Vec<String>> {
    let row = |what: &str, term: Option<u64>, index: Option<u64>, detail: String| {
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        let mut row = vec![offset.to_string(), length.to_string(), what.to_owned()];
        row.extend([number(term), number(index)]);
        row.resize(10, String::new());
        row.push(detail);
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
            let time = match entry.time {
                0 => String::new(),
                time => format!("(at {})", views::seconds(time.into())),
            };
            std::iter::once(row(payload(&entry.payload), term, index, time)).chain(ops).collect()
        }
    }
}

pub(super) fn op_row(op: &Op, offset: u32) -> Vec<String> {
    let (value, stored, codec) = match stored(op) {
        Some((value, stored, codec)) => (value.to_string(), stored.to_string(), codec.to_owned()),
        None => Default::default(),
    };
    let what = format!("  {}", op_kind(op));
    let key = bytes_text::format(op.key());
    let none = String::new;
    let crc = value_crc(op).map_or_else(none, |crc| format!("{crc:08x}"));
    let expires = views::expiry(expires(op));
    let (offset, bytes) = (offset.to_string(), op_bytes(op).to_string());
    vec![offset, bytes, what, none(), none(), value, stored, codec, crc, expires, key]
}

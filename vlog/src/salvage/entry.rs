//! Records of which a part is damaged.

use bytes::Bytes;

use super::ValuePlace;
use crate::field::Fields;
use crate::format::{RECORD_HEADER_BYTES, kind, op, payload};
use crate::record::{self, OpHeader};
use crate::types::{Entry, Expect, Op, OpValue, Payload, Pointer, Position, seq_of};

/// The entry whose record begins `bytes`, which stand at `start` in `segment`, though values in it are damaged: its
/// checksum covers all but these. All values are pointers, and a read of those that are damaged says so.
pub(super) fn entry_without_values(bytes: &Bytes, segment: u64, start: u32) -> Option<Entry> {
    let f = Fields(bytes);
    let (length, crc) = record::peek(bytes)?;
    if f.u8(0)? != kind::ENTRY || f.u8(1)? != payload::OPS {
        return None;
    }
    let record = bytes.get(..length as usize)?;
    let at = Position { term: f.u64(16)?, index: f.u64(24)? };
    let places = op_headers(record.get(RECORD_HEADER_BYTES as usize..)?, f.u16(2)?);
    let is_whole = places.len() == usize::from(f.u16(2)?)
        && (0..).zip(&places).all(|(number, (_, header, _))| header.seq == seq_of(at.index, number));
    let head = f.slice(0, RECORD_HEADER_BYTES as usize)?;
    if !is_whole || record::record_crc(head, places.iter().map(|(_, header, _)| header.crc), &[]) != crc {
        return None;
    }
    let ops = places.into_iter().map(|(at, header, key)| {
        let offset = start + RECORD_HEADER_BYTES + at;
        Some(match header.kind {
            op::PUT => {
                let pointer = Pointer { segment, offset, length: header.record_bytes() as u32 };
                Op::Put {
                    key,
                    value: OpValue::At { pointer, value_bytes: header.value_bytes, expires: header.expires },
                }
            }
            op::DELETE => Op::Delete { key },
            op::CHECK_ABSENT => Op::Check { key, expect: Expect::Absent },
            op::CHECK_SEQ => Op::Check { key, expect: Expect::Seq(header.value_bytes) },
            _ => return None,
        })
    });
    let time = f.u32(12)?;
    Some(Entry { at, time, payload: Payload::Ops(ops.collect::<Option<_>>()?) })
}

/// The value records, as far as their headers are whole, of the record of values that begins `bytes` and stands at
/// `start`.
pub(super) fn values(bytes: &Bytes, start: u32) -> Vec<ValuePlace> {
    let f = Fields(bytes);
    if f.u8(0) != Some(kind::VALUES) {
        return Vec::new();
    }
    let length = record::peek(bytes).map_or(0, |(length, _)| length as usize).min(bytes.len());
    let body = bytes.get(RECORD_HEADER_BYTES as usize..length).unwrap_or_default();
    let heads = op_headers(body, f.u16(2).unwrap_or_default()).into_iter();
    let puts = heads.filter(|(_, header, _)| header.kind == op::PUT);
    let place = |(at, header, key): (u32, OpHeader, Bytes)| ValuePlace {
        offset: start + RECORD_HEADER_BYTES + at,
        length: header.record_bytes() as u32,
        key,
        seq: header.seq,
        value_bytes: header.value_bytes,
        expires: header.expires,
    };
    puts.map(place).collect()
}

/// Offset, header and key of each operation, up to the first whose header is damaged: where the next one begins
/// nobody knows then.
fn op_headers(body: &[u8], count: u16) -> Vec<(u32, OpHeader, Bytes)> {
    let (mut found, mut at) = (Vec::new(), 0usize);
    for _ in 0..count {
        let Some(Ok((header, key))) = body.get(at..).map(OpHeader::decode) else { break };
        found.push((at as u32, header, Bytes::copy_from_slice(key)));
        at = at.saturating_add(header.record_bytes() as usize);
    }
    found
}

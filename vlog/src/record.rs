//! Records: entries, votes and truncate marks, as they stand in a group.
//!
//! Lengths are known before a byte is written: positions are assigned when an entry is appended, its
//! bytes are made when its group is written.

use bytes::Bytes;
use kv_vfs::AlignedBuf;

use crate::field::{Fields, FixedFields};
use crate::format::{KEY_BYTES_MAX, OP_HEADER_BYTES, RECORD_HEADER_BYTES, kind, op, payload};
use crate::header::{decode_vote, encode_vote};
use crate::types::{Entry, Expect, Expiry, Op, OpValue, Payload, Position, ValueRecord, Vote, seq_of};
use crate::value::StoredValue;

const RECORD_HEAD: usize = RECORD_HEADER_BYTES as usize;
const OP_HEAD: usize = OP_HEADER_BYTES as usize;

type RecordHead = FixedFields<RECORD_HEAD>;

/// Length of the entry's record.
pub(crate) fn entry_bytes(entry: &Entry) -> u64 {
    let body = match &entry.payload {
        Payload::Blank => 0,
        Payload::Membership(blob) => blob.len() as u64,
        Payload::Ops(ops) => ops.iter().map(op_bytes).sum(),
    };
    u64::from(RECORD_HEADER_BYTES) + body
}

/// Length of an operation's record: of a value record, for a put.
pub(crate) fn op_bytes(op: &Op) -> u64 {
    let value = match op {
        Op::Put { value: OpValue::Full(value), .. } => value.stored_bytes() as u64,
        Op::Put { value: OpValue::At { pointer, .. }, .. } => return u64::from(pointer.length),
        Op::Delete { .. } | Op::Check { .. } => 0,
    };
    u64::from(OP_HEADER_BYTES) + op.key().len() as u64 + value
}

/// Appends the entry's record; returns its checksum. Values must be full: a pointer is an error of ours.
pub(crate) fn put_entry(out: &mut AlignedBuf, entry: &Entry) -> u32 {
    let ops = entry.payload.ops();
    let (payload_kind, blob): (u8, &[u8]) = match &entry.payload {
        Payload::Blank => (payload::BLANK, &[]),
        Payload::Ops(_) => (payload::OPS, &[]),
        Payload::Membership(blob) => (payload::MEMBERSHIP, blob),
    };
    let mut head = RecordHead::new();
    head.at(0, &[kind::ENTRY, payload_kind]).at(2, &(ops.len() as u16).to_le_bytes());
    head.at(4, &(entry_bytes(entry) as u32).to_le_bytes()).at(8, &[0; 4]);
    head.at(12, &entry.time.to_le_bytes())
        .at(16, &entry.at.term.to_le_bytes())
        .at(24, &entry.at.index.to_le_bytes());
    let head = head.finish();
    let (start, mut digest) = (out.len(), record_digest(&head));
    out.extend_from_slice(&head);
    for (number, op) in (0u16..).zip(ops) {
        let crc = put_op(out, op, seq_of(entry.at.index, number));
        digest.update(&crc.to_le_bytes());
    }
    digest.update(blob);
    out.extend_from_slice(blob);
    let crc = digest.finalize();
    // Known only now: it covers the operations' checksums, which are made while they are copied.
    put_crc(out.as_mut_slice().get_mut(start..).unwrap_or_default(), crc);
    crc
}

/// Appends an operation; returns the checksum of its header.
fn put_op(out: &mut AlignedBuf, op: &Op, seq: u64) -> u32 {
    match op {
        Op::Put { key, value: OpValue::Full(value) } => put_value(out, key, seq, value),
        op => {
            let (header, crc) = op_header(op, seq);
            out.extend_from_slice(&header);
            out.extend_from_slice(op.key());
            crc
        }
    }
}

/// Appends one value record, as it stands in an entry; returns the checksum of its header.
pub(crate) fn put_value(out: &mut AlignedBuf, key: &[u8], seq: u64, value: &StoredValue) -> u32 {
    let (header, crc) = value_header(key, seq, value);
    out.extend_from_slice(&header);
    out.extend_from_slice(key);
    out.extend_from_slice(&value.head);
    out.extend_from_slice(&value.body);
    crc
}

/// The header of a record of values, whose value records have these header checksums and this length; and
/// its own checksum.
pub(crate) fn values_header(ops: &[u32], body_bytes: u32) -> ([u8; RECORD_HEAD], u32) {
    let mut head = RecordHead::new();
    let length = RECORD_HEADER_BYTES + body_bytes;
    head.at(0, &[kind::VALUES, 0]).at(2, &(ops.len() as u16).to_le_bytes());
    head.at(4, &length.to_le_bytes()).at(8, &[0; 24]);
    let mut head = head.finish();
    let crc = record_crc(&head, ops.iter().copied(), &[]);
    put_crc(&mut head, crc);
    (head, crc)
}

/// Appends a vote; returns its checksum.
pub(crate) fn put_vote(out: &mut AlignedBuf, vote: Vote) -> u32 {
    let (flags, bytes) = encode_vote(Some(vote));
    put_mark(out, kind::VOTE, flags, &bytes)
}

/// Appends a mark that entries from `next` on are void; returns its checksum.
pub(crate) fn put_truncate(out: &mut AlignedBuf, next: u64) -> u32 {
    let mut bytes = [0; 16];
    bytes.split_at_mut(8).0.copy_from_slice(&next.to_le_bytes());
    put_mark(out, kind::TRUNCATE, 0, &bytes)
}

fn put_mark(out: &mut AlignedBuf, kind: u8, flags: u8, bytes: &[u8; 16]) -> u32 {
    let mut head = RecordHead::new();
    head.at(0, &[kind, flags, 0, 0]).at(4, &RECORD_HEADER_BYTES.to_le_bytes());
    head.at(8, &[0; 8]).at(16, bytes);
    put_head(out, head.finish(), &[])
}

/// Appends the footer's record; returns its checksum.
pub(crate) fn put_footer(out: &mut AlignedBuf, body: &[u8]) -> u32 {
    let mut head = RecordHead::new();
    let length = RECORD_HEADER_BYTES + body.len() as u32;
    head.at(0, &[kind::FOOTER, 0, 0, 0]).at(4, &length.to_le_bytes()).at(8, &[0; 24]);
    put_head(out, head.finish(), body)
}

/// Appends a record of this header and body; returns its checksum.
fn put_head(out: &mut AlignedBuf, mut head: [u8; RECORD_HEAD], body: &[u8]) -> u32 {
    let crc = record_crc(&head, std::iter::empty(), body);
    put_crc(&mut head, crc);
    out.extend_from_slice(&head);
    out.extend_from_slice(body);
    crc
}

/// Checksum of a record: its header without the checksum field, the checksums of its operations' headers
/// (which cover keys and, through the value checksums, values) and its blob.
pub(crate) fn record_crc(head: &[u8], ops: impl Iterator<Item = u32>, blob: &[u8]) -> u32 {
    let mut digest = record_digest(head);
    ops.for_each(|op| digest.update(&op.to_le_bytes()));
    digest.update(blob);
    digest.finalize()
}

fn record_digest(head: &[u8]) -> crc32fast::Hasher {
    let mut digest = crc32fast::Hasher::new();
    let f = Fields(head);
    digest.update(f.slice(0, 8).unwrap_or_default());
    digest.update(f.slice(12, RECORD_HEADER_BYTES as usize - 12).unwrap_or_default());
    digest
}

/// Puts the checksum into the record that begins there.
fn put_crc(record: &mut [u8], crc: u32) {
    if let Some(place) = record.get_mut(8..12) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}

/// Header of an operation without a value, and its checksum.
fn op_header(op: &Op, seq: u64) -> ([u8; OP_HEAD], u32) {
    let (kind, value_bytes) = match op {
        Op::Put { .. } => unreachable!("an entry that is appended carries its values"),
        Op::Delete { .. } => (op::DELETE, 0),
        Op::Check { expect: Expect::Absent, .. } => (op::CHECK_ABSENT, 0),
        Op::Check { expect: Expect::Seq(seq), .. } => (op::CHECK_SEQ, *seq),
    };
    let (crc, stored_bytes, value_crc) = (0, 0, 0);
    let key_bytes = op.key().len() as u32;
    let (codec, expires) = (0, Expiry::NEVER);
    OpHeader { crc, kind, codec, key_bytes, stored_bytes, value_bytes, seq, value_crc, expires }
        .encode(op.key())
}

fn value_header(key: &[u8], seq: u64, value: &StoredValue) -> ([u8; OP_HEAD], u32) {
    let header = OpHeader {
        crc: 0,
        kind: op::PUT,
        codec: value.codec as u8,
        key_bytes: key.len() as u32,
        stored_bytes: value.stored_bytes() as u32,
        value_bytes: value.value_bytes,
        seq,
        value_crc: value.crc,
        expires: value.expires,
    };
    header.encode(key)
}

fn op_crc(head: &[u8], key: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head.get(4..OP_HEADER_BYTES as usize).unwrap_or_default());
    crc.update(key);
    crc.finalize()
}

/// Header of an operation, read back and verified with its key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpHeader {
    pub crc: u32,
    pub kind: u8,
    pub codec: u8,
    pub key_bytes: u32,
    pub stored_bytes: u32,
    pub value_bytes: u64,
    pub seq: u64,
    pub value_crc: u32,
    pub expires: Expiry,
}

impl OpHeader {
    /// The header's bytes with its checksum, and that; `crc` of `self` is ignored.
    fn encode(&self, key: &[u8]) -> ([u8; OP_HEAD], u32) {
        let mut f = FixedFields::new();
        f.at(0, &[0; 4]).at(4, &[self.kind, self.codec, 0, 0]).at(8, &self.key_bytes.to_le_bytes());
        f.at(12, &self.stored_bytes.to_le_bytes()).at(16, &self.value_bytes.to_le_bytes());
        f.at(24, &self.seq.to_le_bytes()).at(32, &self.value_crc.to_le_bytes());
        f.at(36, &self.expires.stored().to_le_bytes());
        let mut bytes: [u8; OP_HEAD] = f.finish();
        let crc = op_crc(&bytes, key);
        bytes.split_at_mut(4).0.copy_from_slice(&crc.to_le_bytes());
        (bytes, crc)
    }

    /// Reads the header and the key from the start of `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), String> {
        let f = Fields(bytes);
        let header = Self::fields(f).ok_or("operation is cut short")?;
        if header.key_bytes as usize > KEY_BYTES_MAX {
            return Err("key length makes no sense".into());
        }
        let key =
            f.slice(OP_HEADER_BYTES as usize, header.key_bytes as usize).ok_or("operation is cut short")?;
        if op_crc(bytes, key) != header.crc {
            return Err("checksum of an operation's header does not match".into());
        }
        Ok((header, key))
    }

    fn fields(f: Fields<'_>) -> Option<Self> {
        Some(Self {
            crc: f.u32(0)?,
            kind: f.u8(4)?,
            codec: f.u8(5)?,
            key_bytes: f.u32(8)?,
            stored_bytes: f.u32(12)?,
            value_bytes: f.u64(16)?,
            seq: f.u64(24)?,
            value_crc: f.u32(32)?,
            expires: Expiry::from_stored(f.u32(36)?),
        })
    }

    /// Length of the whole record.
    pub(crate) fn record_bytes(&self) -> u64 {
        u64::from(OP_HEADER_BYTES) + u64::from(self.key_bytes) + u64::from(self.stored_bytes)
    }
}

/// A record read back from a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// An entry with its values, and the offset of each operation within the record.
    Entry(Entry, Vec<u32>),
    Vote(Vote),
    /// Entries from this index on are void.
    Truncate(u64),
    /// Body of a footer.
    Footer(Bytes),
    /// Value records, their offsets within the record.
    Values(Vec<ValueRecord>),
}

/// Length and checksum of the record that begins `bytes`, unverified.
pub(crate) fn peek(bytes: &[u8]) -> Option<(u32, u32)> {
    Some((Fields(bytes).u32(4)?, Fields(bytes).u32(8)?))
}

/// Reads and verifies the record at the start of `bytes`; values are slices of `bytes`.
pub(crate) fn parse(bytes: &Bytes) -> Result<(Parsed, u32), String> {
    let f = Fields(bytes);
    let (length, crc) = peek(bytes).ok_or("record is cut short")?;
    if length < RECORD_HEADER_BYTES || length as usize > bytes.len() {
        return Err("record length makes no sense".into());
    }
    let record = bytes.slice(..length as usize);
    let head = f.slice(0, RECORD_HEADER_BYTES as usize).ok_or("record is cut short")?;
    let body = record.slice(RECORD_HEADER_BYTES as usize..);
    let byte = |at| f.u8(at).unwrap_or_default();
    let word = |at| f.u64(at).unwrap_or_default();
    let (parsed, expected) = match byte(0) {
        kind::ENTRY => {
            let at = Position { term: word(16), index: word(24) };
            parse_entry(byte(1), f.u16(2).unwrap_or_default(), at, head, &body)?
        }
        kind::VOTE => {
            let vote = decode_vote(byte(1), f.slice(16, 16).unwrap_or_default()).ok_or("empty vote")?;
            (Parsed::Vote(vote), record_crc(head, std::iter::empty(), &[]))
        }
        kind::TRUNCATE => (Parsed::Truncate(word(16)), record_crc(head, std::iter::empty(), &[])),
        kind::FOOTER => {
            let crc = record_crc(head, std::iter::empty(), &body);
            (Parsed::Footer(body), crc)
        }
        kind::VALUES => {
            let parsed = parse_ops(f.u16(2).unwrap_or_default(), &body)?;
            let crc = record_crc(head, parsed.iter().map(|op| op.header.crc), &[]);
            (Parsed::Values(parsed.into_iter().map(ParsedOp::into_value).collect::<Result<_, _>>()?), crc)
        }
        other => return Err(format!("unknown record kind {other}: written by a newer version, or damaged")),
    };
    if expected != crc {
        return Err("checksum of the record does not match".into());
    }
    Ok((parsed, crc))
}

fn parse_entry(
    payload_kind: u8,
    count: u16,
    at: Position,
    head: &[u8],
    body: &Bytes,
) -> Result<(Parsed, u32), String> {
    let (payload, offsets, crc) = match payload_kind {
        payload::BLANK => (Payload::Blank, Vec::new(), record_crc(head, std::iter::empty(), &[])),
        payload::MEMBERSHIP => {
            let crc = record_crc(head, std::iter::empty(), body);
            (Payload::Membership(body.clone()), Vec::new(), crc)
        }
        payload::OPS => {
            let parsed = parse_ops(count, body)?;
            let mut seqs = (0..count).map(|number| seq_of(at.index, number));
            if !parsed.iter().all(|op| Some(op.header.seq) == seqs.next()) {
                return Err("sequence number of an operation does not match".into());
            }
            let crc = record_crc(head, parsed.iter().map(|op| op.header.crc), &[]);
            let (ops, offsets) = parsed.into_iter().map(|op| (op.op, op.offset)).unzip();
            (Payload::Ops(ops), offsets, crc)
        }
        other => return Err(format!("unknown payload kind {other}: written by a newer version, or damaged")),
    };
    let time = Fields(head).u32(12).unwrap_or_default();
    Ok((Parsed::Entry(Entry { at, time, payload }, offsets), crc))
}

/// An operation within a record.
struct ParsedOp {
    offset: u32,
    header: OpHeader,
    op: Op,
}

impl ParsedOp {
    fn into_value(self) -> Result<ValueRecord, String> {
        let Self { offset, header, op } = self;
        match op {
            Op::Put { key, value: OpValue::Full(value) } => {
                Ok(ValueRecord { offset, length: header.record_bytes() as u32, seq: header.seq, key, value })
            }
            _ => Err("a record of values holds something else".into()),
        }
    }
}

fn parse_ops(count: u16, body: &Bytes) -> Result<Vec<ParsedOp>, String> {
    // Bounded by the bytes that are there, whatever the count says.
    let mut ops = Vec::with_capacity(usize::from(count).min(body.len() / OP_HEADER_BYTES as usize));
    let mut at = 0usize;
    for _ in 0..count {
        let rest = body.slice(at..);
        let (header, op) = parse_op(&rest)?;
        ops.push(ParsedOp { offset: RECORD_HEADER_BYTES + at as u32, header, op });
        at += header.record_bytes() as usize;
    }
    if at != body.len() {
        return Err("operations do not fill their record".into());
    }
    Ok(ops)
}

/// Reads and verifies one operation, its value included.
pub(crate) fn parse_op(bytes: &Bytes) -> Result<(OpHeader, Op), String> {
    let (header, key) = OpHeader::decode(bytes)?;
    let key = bytes.slice_ref(key);
    let start = OP_HEADER_BYTES as usize + key.len();
    let end = start.saturating_add(header.stored_bytes as usize);
    if end > bytes.len() {
        return Err("value is cut short".into());
    }
    let op = match header.kind {
        op::PUT => {
            let stored = bytes.slice(start..end);
            let OpHeader { codec, value_crc, value_bytes, expires, .. } = header;
            let value = StoredValue::parse(&key, codec, value_crc, value_bytes, expires, stored)?;
            Op::Put { key, value: OpValue::Full(value) }
        }
        op::DELETE => Op::Delete { key },
        op::CHECK_ABSENT => Op::Check { key, expect: Expect::Absent },
        op::CHECK_SEQ => Op::Check { key, expect: Expect::Seq(header.value_bytes) },
        other => {
            return Err(format!("unknown operation kind {other}: written by a newer version, or damaged"));
        }
    };
    Ok((header, op))
}

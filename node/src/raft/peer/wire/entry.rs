//! Log entries on their way to another node.

use bytes::Bytes;
use kv_vlog::{Entry, Expect, LogTime, Op, OpValue, Payload, StoredValue};
use serde::{Deserialize, Serialize};

use super::value::WireValue;
use super::{At, Malformed};

/// A log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireEntry {
    at: At,
    time: LogTime,
    payload: WirePayload,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum WirePayload {
    Blank,
    Membership(Bytes),
    Ops(Vec<WireOp>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum WireOp {
    Put { key: Bytes, value: WireValue },
    Delete { key: Bytes },
    Absent { key: Bytes },
    Version { key: Bytes, seq: u64 },
}

impl WireEntry {
    /// The entry as it is sent; a pointer in it is an error of ours.
    pub(crate) fn pack(entry: Entry) -> Result<Self, Malformed> {
        let payload = match entry.payload {
            Payload::Blank => WirePayload::Blank,
            Payload::Membership(blob) => WirePayload::Membership(blob),
            Payload::Ops(ops) => WirePayload::Ops(ops.into_iter().map(pack_op).collect::<Result<_, _>>()?),
        };
        Ok(Self { at: entry.at.into(), time: entry.time, payload })
    }

    /// The entry that came, with its values verified: what was damaged on the way is not stored.
    pub(crate) fn unpack(self) -> Result<Entry, Malformed> {
        let payload = match self.payload {
            WirePayload::Blank => Payload::Blank,
            WirePayload::Membership(blob) => Payload::Membership(blob),
            WirePayload::Ops(ops) if ops.len() > usize::from(u16::MAX) => {
                return Err(Malformed(format!("an entry of {} operations", ops.len())));
            }
            WirePayload::Ops(ops) => Payload::Ops(ops.into_iter().map(unpack_op).collect::<Result<_, _>>()?),
        };
        Ok(Entry { at: self.at.into(), time: self.time, payload })
    }
}

fn pack_op(op: Op) -> Result<WireOp, Malformed> {
    Ok(match op {
        Op::Put { key, value: OpValue::Full(value) } => WireOp::Put { key, value: value.into() },
        Op::Put { value: OpValue::At { .. }, .. } => {
            return Err(Malformed("an entry to be sent holds a pointer".into()));
        }
        Op::Delete { key } => WireOp::Delete { key },
        Op::Check { key, expect: Expect::Absent } => WireOp::Absent { key },
        Op::Check { key, expect: Expect::Seq(seq) } => WireOp::Version { key, seq },
    })
}

fn unpack_op(op: WireOp) -> Result<Op, Malformed> {
    Ok(match op {
        WireOp::Put { key, value } => {
            let value = StoredValue::try_from(value)?;
            value.verify(&key).map_err(Malformed)?;
            Op::Put { key, value: OpValue::Full(value) }
        }
        WireOp::Delete { key } => Op::Delete { key },
        WireOp::Absent { key } => Op::Check { key, expect: Expect::Absent },
        WireOp::Version { key, seq } => Op::Check { key, expect: Expect::Seq(seq) },
    })
}

#[cfg(test)]
mod tests {
    use kv_vlog::{Compression, Expiry, Position};

    use super::*;

    fn entry() -> Entry {
        let key = Bytes::from_static(b"k");
        let value = vec![7; 300_000].into();
        let value = StoredValue::expiring(&key, value, &Compression::default(), Expiry::at(1_800_000_000));
        let ops = vec![
            Op::Check { key: key.clone(), expect: Expect::Seq(9) },
            Op::Put { key: key.clone(), value: OpValue::Full(value) },
            Op::Delete { key },
        ];
        Entry { at: Position { term: 2, index: 5 }, time: 1_700_000_000, payload: Payload::Ops(ops) }
    }

    #[test]
    fn entries_come_back_as_stored() {
        assert_eq!(WireEntry::pack(entry()).unwrap().unpack().unwrap(), entry());
    }

    #[test]
    fn a_value_damaged_on_the_way_is_refused() {
        let mut packed = WireEntry::pack(entry()).unwrap();
        let WirePayload::Ops(ops) = &mut packed.payload else { panic!() };
        let WireOp::Put { value, .. } = &mut ops[1] else { panic!() };
        let mut damaged = value.body.to_vec();
        damaged[3] ^= 1;
        value.body = damaged.into();
        assert!(packed.unpack().is_err());
    }

    #[test]
    fn a_pointer_is_never_sent() {
        let pointer = kv_vlog::Pointer { segment: 1, offset: 4096, length: 99 };
        let value = OpValue::At { pointer, value_bytes: 50, expires: Expiry::NEVER };
        let ops = vec![Op::Put { key: Bytes::from_static(b"k"), value }];
        let entry = Entry { at: Position { term: 1, index: 1 }, time: 0, payload: Payload::Ops(ops) };
        assert!(WireEntry::pack(entry).is_err());
    }
}

//! What nodes say to each other. Values travel as they are stored, beside the message.

use bytes::Bytes;
use kv_api::beside;
use kv_vlog::{Codec, Entry, Expect, Op, OpValue, Payload, Position, StoredValue};
use serde::{Deserialize, Serialize};

/// Why bytes of a peer are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(String);

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    term: u64,
    index: u64,
}

/// A vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireVote {
    /// Term voted in.
    pub term: u64,
    /// Node voted for.
    pub node: u64,
    /// Whether a quorum granted it.
    pub committed: bool,
}

/// New entries, or none: a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// The leader's vote.
    pub vote: WireVote,
    /// The entry before the new ones.
    pub previous: Option<At>,
    /// What the leader knows to be committed.
    pub committed: Option<At>,
    /// The entries.
    pub entries: Vec<WireEntry>,
}

/// Answer to an [`Append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Appended {
    /// All entries are durable.
    Success,
    /// Entries up to here are durable.
    Partial(Option<At>),
    /// The entry before the new ones is another one here.
    Conflict,
    /// There is a newer leader or candidate.
    HigherVote(WireVote),
}

/// Asks for a vote, or whether one would be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// The candidate's vote.
    pub vote: WireVote,
    /// The last entry of its log.
    pub last: Option<At>,
    /// Whether the leader asked it to stand.
    pub transfer: bool,
}

/// Answer to a [`Ballot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voted {
    /// The voter's vote now.
    pub vote: WireVote,
    /// Whether it was given.
    pub granted: bool,
    /// The last entry of the voter's log.
    pub last: Option<At>,
}

/// The leader hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// The leader's vote.
    pub from: WireVote,
    /// Who is to lead.
    pub to: u64,
    /// What it must have in its log.
    pub last: Option<At>,
}

/// A log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireEntry {
    at: At,
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
    Put {
        key: Bytes,
        codec: u8,
        crc: u32,
        value_bytes: u64,
        #[serde(with = "beside")]
        head: Bytes,
        #[serde(with = "beside")]
        body: Bytes,
    },
    Delete {
        key: Bytes,
    },
    Absent {
        key: Bytes,
    },
    Version {
        key: Bytes,
        seq: u64,
    },
}

impl From<Position> for At {
    fn from(at: Position) -> Self {
        Self { term: at.term, index: at.index }
    }
}

impl From<At> for Position {
    fn from(at: At) -> Self {
        Self { term: at.term, index: at.index }
    }
}

impl WireEntry {
    /// The entry as it is sent; a pointer in it is an error of ours.
    pub(crate) fn pack(entry: Entry) -> Result<Self, Malformed> {
        let payload = match entry.payload {
            Payload::Blank => WirePayload::Blank,
            Payload::Membership(blob) => WirePayload::Membership(blob),
            Payload::Ops(ops) => WirePayload::Ops(ops.into_iter().map(pack_op).collect::<Result<_, _>>()?),
        };
        Ok(Self { at: entry.at.into(), payload })
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
        Ok(Entry { at: self.at.into(), payload })
    }
}

fn pack_op(op: Op) -> Result<WireOp, Malformed> {
    Ok(match op {
        Op::Put { key, value: OpValue::Full(value) } => WireOp::Put {
            key,
            codec: value.codec as u8,
            crc: value.crc,
            value_bytes: value.value_bytes,
            head: value.head,
            body: value.body,
        },
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
        WireOp::Put { key, codec, crc, value_bytes, head, body } => {
            let codec = Codec::try_from(codec).map_err(|e| Malformed(e.to_string()))?;
            let value = StoredValue { codec, crc, value_bytes, head, body };
            value.verify(&key).map_err(Malformed)?;
            Op::Put { key, value: OpValue::Full(value) }
        }
        WireOp::Delete { key } => Op::Delete { key },
        WireOp::Absent { key } => Op::Check { key, expect: Expect::Absent },
        WireOp::Version { key, seq } => Op::Check { key, expect: Expect::Seq(seq) },
    })
}

/// What nodes ask each other.
#[tarpc::service]
pub trait Peer {
    /// Takes entries; answers once they are durable.
    async fn append(request: Append) -> Result<Appended, String>;
    /// Gives a vote, or not; durable before the answer.
    async fn vote(request: Ballot) -> Result<Voted, String>;
    /// Whether a vote would be given; changes nothing.
    async fn pre_vote(request: Ballot) -> Result<Voted, String>;
    /// Stands for election at once.
    async fn transfer(request: Transfer) -> Result<(), String>;
    /// The leader's read index: what must be applied before a linearizable read.
    async fn read_index() -> Result<Option<At>, kv_api::KvError>;
    /// Where the node stands.
    async fn status() -> Result<kv_api::admin::NodeStatus, kv_api::KvError>;
}

#[cfg(test)]
mod tests {
    use kv_vlog::Compression;

    use super::*;

    fn entry() -> Entry {
        let key = Bytes::from_static(b"k");
        let value = StoredValue::new(&key, vec![7; 300_000].into(), &Compression::default());
        let ops = vec![
            Op::Check { key: key.clone(), expect: Expect::Seq(9) },
            Op::Put { key: key.clone(), value: OpValue::Full(value) },
            Op::Delete { key },
        ];
        Entry { at: Position { term: 2, index: 5 }, payload: Payload::Ops(ops) }
    }

    #[test]
    fn entries_come_back_as_stored() {
        assert_eq!(WireEntry::pack(entry()).unwrap().unpack().unwrap(), entry());
    }

    #[test]
    fn a_value_damaged_on_the_way_is_refused() {
        let mut packed = WireEntry::pack(entry()).unwrap();
        let WirePayload::Ops(ops) = &mut packed.payload else { panic!() };
        let WireOp::Put { body, .. } = &mut ops[1] else { panic!() };
        let mut damaged = body.to_vec();
        damaged[3] ^= 1;
        *body = damaged.into();
        assert!(packed.unpack().is_err());
    }

    #[test]
    fn a_pointer_is_never_sent() {
        let pointer = kv_vlog::Pointer { segment: 1, offset: 4096, length: 99 };
        let value = OpValue::At { pointer, value_bytes: 50 };
        let ops = vec![Op::Put { key: Bytes::from_static(b"k"), value }];
        let entry = Entry { at: Position { term: 1, index: 1 }, payload: Payload::Ops(ops) };
        assert!(WireEntry::pack(entry).is_err());
    }
}

//! The types that openraft is told to use, and their way to and from the log's own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

use bytes::Bytes;
use kv_vlog::{Entry, LogTime, Op, Payload, Position};
use openraft::alias::{CommittedLeaderIdOf, EntryOf, LogIdOf, StoredMembershipOf, VoteOf};
use openraft::{BasicNode, EntryPayload, LogId, Membership, RaftTypeConfig, StoredMembership};
use serde::{Deserialize, Serialize};

use super::peer::WireVote;

openraft::declare_raft_types!(
    /// What consensus is made of here: node numbers are `u64`, one leader a term.
    pub TypeConfig:
        D = Command,
        R = Outcome,
        NodeId = u64,
        Node = BasicNode,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
);

pub(crate) type LogIdOfUs = LogIdOf<TypeConfig>;
pub(crate) type EntryOfUs = EntryOf<TypeConfig>;
pub(crate) type VoteOfUs = VoteOf<TypeConfig>;
pub(crate) type StoredMembershipOfUs = StoredMembershipOf<TypeConfig>;

/// A write, as it stands in the log: checks, then changes; with none it only says what time it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What time it is, by the clock of the leader.
    pub time: LogTime,
    /// At most 65,535; see [`kv_vlog::Op`].
    pub ops: Vec<Op>,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} operations", self.ops.len())
    }
}

/// What applying an entry answers.
pub type Outcome = kv_lsm::Applied;

pub(crate) fn log_id(at: Position) -> LogIdOfUs {
    LogId::new(CommittedLeaderIdOf::<TypeConfig>::new(at.term), at.index)
}

pub(crate) fn position(id: &LogIdOfUs) -> Position {
    Position { term: id.committed_leader_id().term, index: id.index() }
}

pub(crate) fn to_vlog_vote(vote: &VoteOfUs) -> kv_vlog::Vote {
    kv_vlog::Vote {
        term: vote.leader_id.term,
        node: Some(vote.leader_id.voted_for),
        committed: vote.committed,
    }
}

pub(crate) fn from_vlog_vote(vote: kv_vlog::Vote) -> io::Result<VoteOfUs> {
    let node = vote.node.ok_or_else(|| io::Error::other("the vote in the log names no node"))?;
    Ok(if vote.committed { VoteOfUs::new_committed(vote.term, node) } else { VoteOfUs::new(vote.term, node) })
}

pub(crate) fn to_wire_vote(vote: &VoteOfUs) -> WireVote {
    WireVote { term: vote.leader_id.term, node: vote.leader_id.voted_for, committed: vote.committed }
}

pub(crate) fn from_wire_vote(vote: WireVote) -> VoteOfUs {
    let WireVote { term, node, committed } = vote;
    if committed { VoteOfUs::new_committed(term, node) } else { VoteOfUs::new(term, node) }
}

pub(crate) fn to_vlog_entry(entry: EntryOfUs) -> io::Result<Entry> {
    let (time, payload) = match entry.payload {
        EntryPayload::Blank => (0, Payload::Blank),
        EntryPayload::Normal(Command { time, ops }) => (time, Payload::Ops(ops)),
        EntryPayload::Membership(membership) => (0, Payload::Membership(encode_membership(&membership)?)),
    };
    Ok(Entry { at: position(&entry.log_id), time, payload })
}

pub(crate) fn from_vlog_entry(entry: Entry) -> io::Result<EntryOfUs> {
    let payload = match entry.payload {
        Payload::Blank => EntryPayload::Blank,
        Payload::Ops(ops) => EntryPayload::Normal(Command { time: entry.time, ops }),
        Payload::Membership(blob) => EntryPayload::Membership(decode_membership(&blob)?),
    };
    Ok(EntryOfUs { log_id: log_id(entry.at), payload })
}

/// A membership as the log stores it.
#[derive(Serialize, Deserialize)]
struct MembershipRecord {
    voters: Vec<BTreeSet<u64>>,
    addresses: BTreeMap<u64, String>,
}

type MembershipOfUs = Membership<<TypeConfig as RaftTypeConfig>::NodeId, BasicNode>;

fn encode_membership(membership: &MembershipOfUs) -> io::Result<Bytes> {
    let record = MembershipRecord {
        voters: membership.get_joint_config().clone(),
        addresses: membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
    };
    postcard::to_stdvec(&record).map(Bytes::from).map_err(io::Error::other)
}

/// A membership with the place where it was decided, as the engine keeps it.
pub(crate) fn encode_stored_membership(
    stored: &StoredMembershipOfUs,
) -> io::Result<(Option<Position>, Bytes)> {
    Ok((stored.log_id().as_ref().map(position), encode_membership(stored.membership())?))
}

/// The way back.
pub(crate) fn decode_stored_membership(
    decided: Option<Position>,
    blob: &[u8],
) -> io::Result<StoredMembershipOfUs> {
    Ok(StoredMembership::new(decided.map(log_id), decode_membership(blob)?))
}

/// The membership, as the log stores it, of a group of this one node.
pub(crate) fn sole_voter(node_id: u64, address: &str) -> io::Result<Bytes> {
    let record = MembershipRecord {
        voters: vec![BTreeSet::from([node_id])],
        addresses: BTreeMap::from([(node_id, address.to_owned())]),
    };
    postcard::to_stdvec(&record).map(Bytes::from).map_err(io::Error::other)
}

fn decode_membership(blob: &[u8]) -> io::Result<MembershipOfUs> {
    let record: MembershipRecord = postcard::from_bytes(blob).map_err(|e| {
        io::Error::new(io::ErrorKind::InvalidData, format!("the membership in the log is damaged: {e}"))
    })?;
    let nodes: BTreeMap<u64, BasicNode> =
        record.addresses.into_iter().map(|(id, addr)| (id, BasicNode { addr })).collect();
    Membership::new(record.voters, nodes).map_err(|e| {
        io::Error::new(io::ErrorKind::InvalidData, format!("the membership in the log makes no sense: {e}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_votes_come_back() {
        let nodes = BTreeMap::from([(1, BasicNode::new("a:1")), (2, BasicNode::new("b:2"))]);
        let membership = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        let entry = EntryOfUs {
            log_id: log_id(Position { term: 3, index: 9 }),
            payload: EntryPayload::Membership(membership),
        };
        let stored = to_vlog_entry(entry.clone()).unwrap();
        assert_eq!(stored.at, Position { term: 3, index: 9 });
        assert_eq!(from_vlog_entry(stored).unwrap(), entry);

        for vote in [VoteOfUs::new(4, 2), VoteOfUs::new_committed(5, 1)] {
            assert_eq!(from_vlog_vote(to_vlog_vote(&vote)).unwrap(), vote);
        }
    }
}

//! The answering side: what peers ask is passed on to openraft.

use kv_api::KvError;
use kv_api::admin::NodeStatus;
use kv_vlog::Entry;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use tarpc::context::Context;

use super::wire::{
    Append, Appended, At, Ballot, Peer, SnapshotBegun, SnapshotHead, SnapshotPage, Transfer, Voted,
    WireEntry, WireVote,
};
use crate::raft::node::RaftNode;
use crate::raft::types::{TypeConfig, from_vlog_entry, from_wire_vote, log_id, position, to_wire_vote};

/// See [`Peer`].
#[derive(Clone, Debug)]
pub struct PeerService {
    node: RaftNode,
}

impl PeerService {
    /// Answers for this member.
    #[must_use]
    pub fn new(node: RaftNode) -> Self {
        Self { node }
    }
}

impl Peer for PeerService {
    async fn append(self, _: Context, request: Append) -> Result<Appended, String> {
        let first_log = request.first_log;
        let entries: Vec<Entry> = request
            .entries
            .into_iter()
            .map(WireEntry::unpack)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("the entries were not taken: {error}"))?;
        let entries = entries.into_iter().map(from_vlog_entry).collect::<std::io::Result<_>>();
        let request = AppendEntriesRequest::<TypeConfig> {
            vote: from_wire_vote(request.vote),
            prev_log_id: request.previous.map(|at| log_id(at.into())),
            entries: entries.map_err(|error| error.to_string())?,
            leader_commit: request.committed.map(|at| log_id(at.into())),
        };
        let answer = self.node.raft().append_entries(request).await.map_err(|error| error.to_string())?;
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            self.node.leader_floor().hear(first_log);
        }
        Ok(match answer {
            AppendEntriesResponse::Success => Appended::Success,
            AppendEntriesResponse::PartialSuccess(at) => {
                Appended::Partial(at.as_ref().map(|id| position(id).into()))
            }
            AppendEntriesResponse::Conflict => Appended::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Appended::HigherVote(to_wire_vote(&vote)),
        })
    }

    async fn vote(self, _: Context, request: Ballot) -> Result<Voted, String> {
        self.node.may_vote()?;
        voted(self.node.raft().vote(vote_request(request)).await)
    }

    async fn pre_vote(self, _: Context, request: Ballot) -> Result<Voted, String> {
        self.node.may_vote()?;
        voted(self.node.raft().pre_vote(vote_request(request)).await)
    }

    async fn begin_snapshot(self, _: Context, head: SnapshotHead) -> Result<SnapshotBegun, String> {
        // Before anything is sent; openraft looks again when it is to be installed.
        if let Some(higher) = self.node.vote_above(&from_wire_vote(head.vote)) {
            return Ok(SnapshotBegun::HigherVote(to_wire_vote(&higher)));
        }
        let transfer = self.node.receiving().begin(self.node.store().clone(), head);
        transfer.await.map(SnapshotBegun::Transfer)
    }

    async fn snapshot_page(self, _: Context, page: SnapshotPage) -> Result<(), String> {
        self.node.receiving().page(page).await
    }

    async fn end_snapshot(self, _: Context, transfer: u64, pages: u64) -> Result<WireVote, String> {
        let (head, receiver) = self.node.receiving().end(transfer, pages).await?;
        let vote = self.node.install_snapshot(head, receiver).await?;
        Ok(to_wire_vote(&vote))
    }

    async fn transfer(self, _: Context, request: Transfer) -> Result<(), String> {
        let last = request.last.map(|at| log_id(at.into()));
        let request = TransferLeaderRequest::new(from_wire_vote(request.from), request.to, last);
        let answer = self.node.raft().handle_transfer_leader(request).await;
        answer.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    async fn read_index(self, _: Context) -> Result<Option<At>, KvError> {
        Ok(self.node.read_index().await?.map(At::from))
    }

    async fn status(self, _: Context) -> Result<NodeStatus, KvError> {
        Ok(self.node.own_status())
    }
}

fn vote_request(ballot: Ballot) -> VoteRequest<TypeConfig> {
    VoteRequest {
        vote: from_wire_vote(ballot.vote),
        last_log_id: ballot.last.map(|at| log_id(at.into())),
        leadership_transfer: ballot.transfer,
    }
}

fn voted<E: std::fmt::Display>(answer: Result<VoteResponse<TypeConfig>, E>) -> Result<Voted, String> {
    let answer = answer.map_err(|error| error.to_string())?;
    Ok(Voted {
        vote: to_wire_vote(&answer.vote),
        granted: answer.vote_granted,
        last: answer.last_log_id.as_ref().map(|id| position(id).into()),
    })
}

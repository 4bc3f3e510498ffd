//! The calling side, as openraft wants it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use kv_api::transport::Dialer;
use openraft::alias::{LogIdOf, SnapshotOf, VoteOf};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::v2::RaftNetworkV2;
use openraft::network::{RPCOption, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend};

use super::line::Connected;
use super::pipeline::{Sent, answers, in_order};
use super::sending::send;
use super::wire::{Append, Appended, At, Ballot, SnapshotHead, Transfer, WireEntry};
use super::{CONTROL, ENTRIES, Line, SNAPSHOTS, Target};
use crate::raft::retention::Floor;
use crate::raft::state_machine::SnapshotData;
use crate::raft::types::{
    TypeConfig, encode_stored_membership, from_wire_vote, log_id, position, to_vlog_entry, to_wire_vote,
};

/// How long a follower may take to make entries durable: a slow disk is no dead node.
const ENTRIES_DEADLINE: Duration = Duration::from_secs(10);
/// Makes connections to the other members.
#[derive(Clone)]
pub(crate) struct Peers {
    pub cluster_id: [u8; 16],
    pub dialer: Arc<dyn Dialer>,
    /// What streams of entries may not hold on to.
    pub floor: Floor,
}

impl Peers {
    pub(crate) fn target(&self, node_id: u64, address: &str) -> Target {
        let (cluster_id, dialer) = (self.cluster_id, self.dialer.clone());
        Target { node_id, address: address.into(), cluster_id, dialer }
    }
}

/// The connections to one member, made when they are needed. openraft asks for a network for each kind of
/// traffic: heartbeats go over connections of their own, although they look like entries.
pub(crate) struct PeerNetwork {
    control: Line,
    entries: Line,
    snapshots: Line,
    floor: Floor,
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> PeerNetwork {
        let target = self.target(target, &node.addr);
        PeerNetwork {
            control: Line::new(target.clone(), CONTROL),
            entries: Line::new(target.clone(), ENTRIES),
            snapshots: Line::new(target, SNAPSHOTS),
            floor: self.floor.clone(),
        }
    }
}

/// The peer may be gone: openraft waits a while before it tries again.
fn unreachable(why: String) -> RPCError<TypeConfig> {
    Unreachable::from_string(why).into()
}

fn ours(why: impl std::fmt::Display) -> RPCError<TypeConfig> {
    NetworkError::from_string(why).into()
}

impl RaftNetworkV2<TypeConfig> for PeerNetwork {
    type SnapshotData = SnapshotData;

    /// Heartbeats and entries go through [`Self::stream_append`].
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let connected = self.entries.connect().await.map_err(unreachable)?;
        append(&connected, option.hard_ttl(), &self.floor, rpc).await
    }

    /// Sends requests without waiting for the answers to those before; answers come in order.
    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, StreamAnswer>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let (line, floor) = (self.entries.clone(), self.floor.clone());
        Box::pin(async move {
            // openraft waits out its back-off inside of this stream: who dials before that dials in a loop.
            let Some(first) = input.next().await else { return Ok(stream::empty().boxed()) };
            let connected = line.connect().await.map_err(unreachable)?;
            let requests = stream::iter([first]).chain(input);
            let sent = requests.then(move |rpc| {
                let (bare, last) = (rpc.entries.is_empty(), last_of(&rpc));
                let call = in_order(append_in_stream(connected.clone(), floor.clone(), rpc));
                call.map(move |answer| Sent { last, bare, answer })
            });
            Ok(answers(sent).boxed())
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let ballot = ballot(&rpc);
        let call = self
            .control
            .call(option.hard_ttl(), |peer, context| async move { peer.vote(context, ballot).await });
        voted(call.await.and_then(|answer| answer))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let ballot = ballot(&rpc);
        let call = self
            .control
            .call(option.hard_ttl(), |peer, context| async move { peer.pre_vote(context, ballot).await });
        voted(call.await.and_then(|answer| answer))
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let (meta, SnapshotData::Sent(export)) = (snapshot.meta, snapshot.snapshot) else {
            return Err(ours("a snapshot that was received is not sent on").into());
        };
        let Some(at) = meta.last_log_id else { return Err(ours("there is nothing to send yet").into()) };
        let (decided, blob) = encode_stored_membership(&meta.last_membership).map_err(ours)?;
        let membership = (decided.map(At::from), blob);
        let (vote, at, time) = (to_wire_vote(&vote), position(&at).into(), export.time());
        let head = SnapshotHead { vote, at, time, membership };
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = send(&self.snapshots, head, export) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(from_wire_vote(vote))),
                Err(why) => Err(unreachable(why).into()),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let transfer = Transfer {
            from: to_wire_vote(request.from_leader()),
            to: *request.to_node_id(),
            last: request.last_log_id().map(|id| position(id).into()),
        };
        self.control
            .call(option.hard_ttl(), |peer, context| async move { peer.transfer(context, transfer).await })
            .await
            .and_then(|answer| answer)
            .map_err(unreachable)?;
        Ok(Ok(()))
    }
}

type StreamAnswer = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

async fn append(
    connected: &Connected,
    deadline: Duration,
    floor: &Floor,
    rpc: AppendEntriesRequest<TypeConfig>,
) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
    let entries = rpc.entries.into_iter().map(|entry| {
        let entry = to_vlog_entry(entry)?;
        WireEntry::pack(entry).map_err(io::Error::other)
    });
    let request = Append {
        vote: to_wire_vote(&rpc.vote),
        previous: rpc.prev_log_id.as_ref().map(|id| position(id).into()),
        committed: rpc.leader_commit.as_ref().map(|id| position(id).into()),
        first_log: floor.next_kept(),
        entries: entries.collect::<io::Result<_>>().map_err(ours)?,
    };
    let answer = connected
        .call(deadline, |peer, context| async move { peer.append(context, request).await })
        .await
        .and_then(|answer| answer)
        .map_err(unreachable)?;
    Ok(match answer {
        Appended::Success => AppendEntriesResponse::Success,
        Appended::Partial(at) => AppendEntriesResponse::PartialSuccess(at.map(|at| log_id(at.into()))),
        Appended::Conflict => AppendEntriesResponse::Conflict,
        Appended::HigherVote(vote) => AppendEntriesResponse::HigherVote(from_wire_vote(vote)),
    })
}

/// Sends one request of a pipeline; also says whether all of it was taken.
async fn append_in_stream(
    connected: Connected,
    floor: Floor,
    rpc: AppendEntriesRequest<TypeConfig>,
) -> (StreamAnswer, bool) {
    let previous = rpc.prev_log_id;
    // Not so for requests without entries: heartbeats go on while the follower gets a snapshot.
    if !rpc.entries.is_empty() && previous.map_or(0, |id| id.index() + 1) < floor.next_kept() {
        return (Err(ours("the follower is too far behind: it gets a snapshot")), false);
    }
    let last = last_of(&rpc);
    match append(&connected, ENTRIES_DEADLINE, &floor, rpc).await {
        Ok(answer) => {
            let answer = answer.into_stream_result(previous, last);
            let complete = answer.as_ref().is_ok_and(|taken| *taken == last);
            (Ok(answer), complete)
        }
        Err(error) => (Err(error), false),
    }
}

/// The last entry that the follower has when it has taken the request.
fn last_of(rpc: &AppendEntriesRequest<TypeConfig>) -> Option<LogIdOf<TypeConfig>> {
    rpc.entries.last().map(|entry| entry.log_id).or(rpc.prev_log_id)
}

fn ballot(rpc: &VoteRequest<TypeConfig>) -> Ballot {
    Ballot {
        vote: to_wire_vote(&rpc.vote),
        last: rpc.last_log_id.as_ref().map(|id| position(id).into()),
        transfer: rpc.leadership_transfer,
    }
}

fn voted(
    answer: Result<super::wire::Voted, String>,
) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
    let answer = answer.map_err(unreachable)?;
    let last = answer.last.map(|at| log_id(at.into()));
    Ok(VoteResponse::new(from_wire_vote(answer.vote), last, answer.granted))
}

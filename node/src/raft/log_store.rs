//! openraft's log storage on kv-vlog. Votes, truncations and entries go through one writer, in order.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use kv_lsm::Store;
use kv_vfs::planted;
use kv_vlog::{Position, Vlog, VlogError};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::oneshot;

use super::types::{
    EntryOfUs, LogIdOfUs, TypeConfig, VoteOfUs, from_vlog_entry, from_vlog_vote, log_id, position,
    to_vlog_entry, to_vlog_vote,
};

/// Bytes of entries handed to replication at once.
const REPLICATION_BYTES_MAX: u64 = 4 << 20;

/// The log as openraft sees it; also its reader.
#[derive(Clone, Debug)]
pub(crate) struct LogStore {
    store: Arc<Store>,
}

impl LogStore {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    fn log(&self) -> &Arc<Vlog> {
        self.store.log()
    }

    /// Entries of the range. Reads from disk run on the blocking pool: the reactor must not wait for a
    /// slow disk, or heartbeats would.
    async fn read(
        &self,
        range: std::ops::Range<u64>,
        bytes: u64,
        values: bool,
    ) -> io::Result<Vec<EntryOfUs>> {
        let entries = match self.log().cached_entries(range.clone(), bytes, values) {
            Some(entries) => entries,
            None => {
                let log = self.log().clone();
                let reading = crate::blocking::run(move || log.entries(range, bytes, values));
                reading.await.map_err(io::Error::other)?.map_err(to_io)?
            }
        };
        entries.into_iter().map(from_vlog_entry).collect()
    }

    fn bounded<RB: RangeBounds<u64>>(&self, range: &RB) -> std::ops::Range<u64> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => *start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => *end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        // Entries below the floor are gone, which openraft tolerates at the beginning of a range.
        let floor = self.log().state().purged.map_or(0, |purged| purged.index + 1);
        start.max(floor)..end
    }
}

pub(crate) fn to_io(error: VlogError) -> io::Error {
    match error {
        VlogError::Io(error) => error,
        VlogError::Corruption { .. } => io::Error::new(io::ErrorKind::InvalidData, error),
        other => io::Error::other(other),
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    /// Pointer-only entries: this is what apply reads.
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<EntryOfUs>>
    where
        RB: RangeBounds<u64> + Clone + Debug + openraft::OptionalSend,
    {
        self.read(self.bounded(&range), u64::MAX, false).await
    }

    /// Entries with their values, bounded in bytes: this is what replication sends.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<EntryOfUs>> {
        self.read(start..end, REPLICATION_BYTES_MAX, true).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOfUs>> {
        self.log().vote().map(from_vlog_vote).transpose()
    }

    /// From memory: the log knows where each term begins.
    async fn get_key_log_ids(
        &mut self,
        range: std::ops::RangeInclusive<LogIdOfUs>,
    ) -> io::Result<Vec<LogIdOfUs>> {
        let (first, last) = range.into_inner();
        let starts = self.log().term_starts(first.index(), last.index());
        Ok(last_of_terms(&starts, &last))
    }
}

/// The last entry of each term, which is what openraft keeps: it looks for the term of an entry in the first
/// one at or after it. Given where the terms begin instead, a restarted node takes entries for others.
fn last_of_terms(starts: &[Position], last: &LogIdOfUs) -> Vec<LogIdOfUs> {
    let next = starts.iter().skip(1);
    let ended =
        starts.iter().zip(next).map(|(start, next)| log_id(Position { index: next.index - 1, ..*start }));
    ended.chain([*last]).collect()
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.log().state();
        Ok(LogState { last_purged_log_id: state.purged.map(log_id), last_log_id: state.last.map(log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    /// Durable on return: a vote whose reply leaves before that could be given twice in one term.
    async fn save_vote(&mut self, vote: &VoteOfUs) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        let vote = to_vlog_vote(vote);
        self.log().save_vote(vote, Box::new(move |result| drop(done.send(result)))).map_err(to_io)?;
        wait(durable).await
    }

    /// Not durable by itself: it rides in the next group.
    async fn save_committed(&mut self, committed: Option<LogIdOfUs>) -> io::Result<()> {
        if let Some(committed) = committed {
            self.log().set_committed(committed.index() + 1);
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogIdOfUs>> {
        let Some(index) = self.log().committed_next().checked_sub(1) else { return Ok(None) };
        Ok(self.log().term_starts(index, index).first().copied().map(log_id))
    }

    /// Readable on return; the callback comes from the writer's thread, after the sync.
    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = EntryOfUs> + openraft::OptionalSend,
        I::IntoIter: openraft::OptionalSend,
    {
        let entries = entries.into_iter().map(to_vlog_entry).collect::<io::Result<Vec<_>>>()?;
        let done =
            Box::new(move |result: Result<(), VlogError>| callback.io_completed(result.map_err(to_io)));
        self.log().append(entries, done).map_err(to_io)
    }

    async fn truncate_after(&mut self, last: Option<LogIdOfUs>) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        let next = last.map_or(0, |last| last.index() + 1);
        self.log().truncate(next, Box::new(move |result| drop(done.send(result)))).map_err(to_io)?;
        wait(durable).await
    }

    async fn purge(&mut self, upto: LogIdOfUs) -> io::Result<()> {
        let (store, at) = (self.store.clone(), position(&upto));
        let purging = crate::blocking::run(move || store.purge(at));
        purging.await.map_err(io::Error::other)?.map_err(io::Error::other)
    }
}

async fn wait(durable: oneshot::Receiver<Result<(), VlogError>>) -> io::Result<()> {
    if planted::is("votes and truncations answered before they are durable") {
        return Ok(());
    }
    durable.await.map_err(|_| io::Error::other("the log's writer is gone"))?.map_err(to_io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_term_is_named_by_its_last_entry() {
        let at = |term, index| Position { term, index };
        let ids = |ids: &[(u64, u64)]| ids.iter().map(|(t, i)| log_id(at(*t, *i))).collect::<Vec<_>>();
        assert_eq!(last_of_terms(&[at(2, 2), at(5, 4)], &log_id(at(5, 5))), ids(&[(2, 3), (5, 5)]));
        assert_eq!(
            last_of_terms(&[at(0, 0), at(2, 1), at(3, 8)], &log_id(at(3, 8))),
            ids(&[(0, 0), (2, 7), (3, 8)])
        );
        assert_eq!(last_of_terms(&[at(4, 7)], &log_id(at(4, 7))), ids(&[(4, 7)]));
    }
}

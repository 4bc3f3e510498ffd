//! A log and a state machine that lose the power after each call that changes them: just when the call is
//! acknowledged. What was acknowledged must be there when they open again.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::ops::{RangeBounds, RangeInclusive};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures::{Stream, StreamExt as _};
use kv_lsm::{Environment, Options, Store};
use kv_vfs::mem::Survival;
use kv_vfs::{ManualClock, MemVfs, SteppedExecutor};
use kv_vlog::Entry;
use openraft::OptionalSend;
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::storage::{
    EntryResponder, IOFlushed, LogState, RaftLogReader, RaftLogStorage, RaftStateMachine,
};
use openraft::type_config::TypeConfigExt as _;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::super::log_store::LogStore;
use super::super::state_machine::{SnapshotData, StateMachine};
use super::super::types::{EntryOfUs, LogIdOfUs, StoredMembershipOfUs, TypeConfig, VoteOfUs, to_vlog_entry};
use super::{OURS, dir, with_directory};

/// The node, through all of its lives. Cloning shares it.
#[derive(Clone)]
pub(super) struct Lives(Arc<Mutex<Life>>);

struct Life {
    disk: MemVfs,
    executor: SteppedExecutor,
    store: Arc<Store>,
    /// What was applied, for what is not in the log: openraft gives the committed entries again after a restart.
    applied: Vec<Entry>,
    losses: u64,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.store.stop();
    }
}

/// Waits for an acknowledgement, and keeps what is left when it has come.
struct Acknowledgement {
    told: oneshot::Receiver<io::Result<()>>,
    result: Option<io::Result<()>>,
    left: Option<MemVfs>,
}

impl Acknowledgement {
    fn look(&mut self, left: impl FnOnce() -> MemVfs) {
        if self.result.is_none() {
            self.result = self.told.try_recv().ok();
        }
        if self.result.is_some() && self.left.is_none() {
            self.left = Some(left());
        }
    }
}

/// The models of what survives, in turn; in all of them what is synced does.
fn survival(seed: u64) -> Survival {
    match seed % 6 {
        0 => Survival::Synced,
        1 => Survival::Torn { sector: 512, seed },
        2 => Survival::Subset { seed },
        3 => Survival::NamesLost { seed },
        4 => Survival::NamesSubset { seed },
        _ => Survival::Everything,
    }
}

fn open(disk: &MemVfs) -> (SteppedExecutor, Arc<Store>) {
    let clock = Arc::new(ManualClock::default());
    let executor = SteppedExecutor::new(clock.clone());
    let environment =
        Environment { vfs: Arc::new(disk.clone()), clock, executor: Arc::new(executor.clone()) };
    let opened = Store::open(&environment, dir(), Options::default(), Some(OURS));
    (executor, opened.unwrap_or_else(|error| panic!("does not open: {error}")))
}

impl Lives {
    pub(super) fn new() -> Self {
        let disk = with_directory();
        let (executor, store) = open(&disk);
        Self(Arc::new(Mutex::new(Life { disk, executor, store, applied: Vec::new(), losses: 0 })))
    }

    fn store(&self) -> Arc<Store> {
        self.0.lock().store.clone()
    }

    fn log(&self) -> LogStore {
        LogStore::new(self.store())
    }

    fn machine(&self) -> StateMachine {
        StateMachine::new(self.store())
    }

    /// Polls `call`, and lets the log's writer do its work only when `call` waits for it.
    async fn drive<T>(&self, call: impl Future<Output = T> + Send) -> T {
        let mut call = pin!(call);
        loop {
            if let Poll::Ready(done) = futures::poll!(call.as_mut()) {
                return done;
            }
            let executor = self.0.lock().executor.clone();
            executor.run_until_idle();
        }
    }

    /// The disk, who works on it, and what will survive of it next time.
    fn next_loss(&self) -> (MemVfs, SteppedExecutor, Survival) {
        let mut life = self.0.lock();
        life.losses += 1;
        (life.disk.clone(), life.executor.clone(), survival(life.losses))
    }

    /// The next life, on what a loss of power left.
    fn reopen_on(&self, left: MemVfs) {
        let mut life = self.0.lock();
        life.store.stop();
        (life.executor, life.store) = open(&left);
        life.disk = left;
        let recovered = life.store.applied();
        for entry in &life.applied {
            if recovered.is_none_or(|at| entry.at.index > at.index) {
                life.store.apply(entry).unwrap();
            }
        }
    }

    /// Does this, which is acknowledged when it returns, and loses the power then.
    async fn acknowledged<T>(&self, call: impl Future<Output = io::Result<T>> + Send) -> io::Result<T> {
        let done = self.drive(call).await?;
        let (disk, _, survival) = self.next_loss();
        self.reopen_on(disk.crash_clone(&survival));
        Ok(done)
    }

    /// Has the entries up to this one applied and in tables, as a node has before it purges them.
    async fn flush_up_to(&self, upto: &LogIdOfUs) -> io::Result<()> {
        let next = self.store().applied().map_or(0, |at| at.index + 1);
        let mut log = self.log();
        log.save_committed(Some(*upto)).await?;
        let entries = log.try_get_log_entries(next..=upto.index()).await?;
        let entries = futures::stream::iter(entries.into_iter().map(|entry| Ok((entry, None))));
        self.clone().apply(entries).await?;
        self.store().flush().map_err(io::Error::other)
    }
}

impl RaftLogReader<TypeConfig> for Lives {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<EntryOfUs>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.log().try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<EntryOfUs>> {
        self.log().limited_get_log_entries(start, end).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOfUs>> {
        self.log().read_vote().await
    }

    async fn get_key_log_ids(&mut self, range: RangeInclusive<LogIdOfUs>) -> io::Result<Vec<LogIdOfUs>> {
        self.log().get_key_log_ids(range).await
    }
}

impl RaftLogStorage<TypeConfig> for Lives {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        self.log().get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOfUs) -> io::Result<()> {
        let mut log = self.log();
        self.acknowledged(log.save_vote(vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogIdOfUs>) -> io::Result<()> {
        self.log().save_committed(committed).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogIdOfUs>> {
        self.log().read_committed().await
    }

    /// The power goes before the first operation on the disk behind the acknowledgement, or at the end.
    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = EntryOfUs> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (tell, told) = TypeConfig::oneshot();
        let watched = Arc::new(Mutex::new(Acknowledgement { told, result: None, left: None }));
        let (disk, executor, survival) = self.next_loss();
        let watching = watched.clone();
        disk.before_each(move |moment| watching.lock().look(|| moment.crash_clone(&survival)));
        self.log().append(entries, IOFlushed::signal(tell)).await?;
        executor.run_until_idle();
        disk.unwatch();
        let (result, left) = {
            let mut watched = watched.lock();
            watched.look(|| disk.crash_clone(&survival));
            watched.result.take().zip(watched.left.take()).expect("never acknowledged")
        };
        self.reopen_on(left);
        callback.io_completed(result);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOfUs>) -> io::Result<()> {
        let mut log = self.log();
        self.acknowledged(log.truncate_after(last)).await
    }

    async fn purge(&mut self, upto: LogIdOfUs) -> io::Result<()> {
        self.flush_up_to(&upto).await?;
        let mut log = self.log();
        self.acknowledged(log.purge(upto)).await
    }
}

impl RaftStateMachine<TypeConfig> for Lives {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = StateMachine;

    async fn applied_state(&mut self) -> io::Result<(Option<LogIdOfUs>, StoredMembershipOfUs)> {
        self.machine().applied_state().await
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let lives = self.clone();
        let noted = entries.map(move |item| {
            let (entry, responder) = item?;
            lives.0.lock().applied.push(to_vlog_entry(entry.clone())?);
            Ok((entry, responder))
        });
        let mut machine = self.machine();
        self.acknowledged(machine.apply(noted)).await
    }

    async fn get_snapshot_builder(&mut self) -> StateMachine {
        self.machine()
    }

    /// As a peer would have sent it.
    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let SnapshotData::Sent(export) = snapshot else { panic!("of another node") };
        let mut received = self.store().receive().unwrap();
        for record in export.page(None, usize::MAX).unwrap() {
            received.add(record).unwrap();
        }
        let mut machine = self.machine();
        let received = SnapshotData::Received(Box::new(received), export.time());
        self.acknowledged(machine.install_snapshot(meta, received)).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, SnapshotData>>> {
        self.machine().get_current_snapshot().await
    }
}

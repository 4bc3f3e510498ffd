//! Opening: manifest, tables, then the log from the replay position on.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use kv_manifest::names::FileName;
use kv_manifest::{
    Identity, Manifest, ManifestError, SegmentState, State, cross_check, names, remove_orphans,
};
use kv_vfs::{Clock, Executor, Vfs};
use kv_vlog::{
    Entry, FilePool, OnFatal, RecoverInput, Recovered, Replay, SegmentIdentity, SegmentInput, SegmentKind,
    SegmentScanner, Vlog, VlogError, VlogOptions,
};
use parking_lot::Mutex;

use super::changes::{Changes, from_manifest, to_summary};
use super::compact::{Compactions, Compactor};
use super::core::Core;
use super::counters::Counters;
use super::flush::{self, Flusher};
use super::gc::Collector;
use super::identity;
use super::readers::Readers;
use super::recycle;
use super::refusals::Refusals;
use super::stall::{Pacer, Stalls};
use super::sweep::{Sweep, Sweeper};
use super::values::Values;
use super::written::Written;
use super::{Shared, Store};
use crate::error::StoreError;
use crate::options::Options;

/// The seams a store runs on.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Files.
    pub vfs: Arc<dyn Vfs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Background work.
    pub executor: Arc<dyn Executor>,
}

/// Whose a new store is.
#[derive(Clone, Copy, Debug)]
pub struct NewStore {
    /// Random, the same on all nodes of a cluster.
    pub cluster_id: [u8; 16],
    /// The node's number; 0 for an embedded store.
    pub node_id: u64,
    /// Random: tells this directory from one that the same node had before.
    pub incarnation: u64,
}

pub(super) fn open(
    environment: &Environment,
    dir: &Path,
    options: Options,
    new: Option<NewStore>,
) -> Result<Arc<Store>, StoreError> {
    options.validate().map_err(StoreError::Invalid)?;
    let written = Arc::new(Written::default());
    let sweep = Sweep::new(written.counted(&environment.vfs, dir), options.freed_bytes_max);
    let environment = &Environment { vfs: sweep.vfs(), ..environment.clone() };
    let options = Options { on_fatal: once(options.on_fatal.clone()), ..options };
    let mut manifest = open_manifest(environment, dir, &options, new)?;
    let accepted = identity::compare(&manifest.state().identity.options, &options)?;
    manifest.set_rewrite_bytes_min(options.manifest_rewrite_bytes_min);
    let (state, name) = (manifest.state().clone(), manifest.file_name());
    let vfs = &environment.vfs;
    let found = cross_check(&**vfs, dir, &state)?;
    if let Some(problem) = found.problems.first() {
        return Err(StoreError::Damaged(format!(
            "{}: {} ({} problems in all; `kvadmin check --data-dir D` lists them)",
            problem.file,
            problem.why,
            found.problems.len()
        )));
    }
    for orphan in &found.orphans {
        if let Some(number) = later_change_set(&**vfs, dir, &state, orphan)? {
            return Err(StoreError::Damaged(format!(
                "{name} has lost its end: {} is its last change-set, but {orphan} was written after {number} \
                 was durable",
                state.number
            )));
        }
    }
    let core = Core::open(vfs.clone(), dir, options, &state)?;
    let changes = Arc::new(Changes::new(vfs.clone(), dir, core.options.clone(), manifest));
    let (recovered, pending) = recover(&core, Some(&changes), dir, &state)?;
    // The log remembers the newest change-set it saw durable: a manifest that ends before it lost some.
    changes.require(recovered.end.ledger_number)?;
    let torn = recovered.torn.clone();
    if let Some(torn) = &torn {
        tracing::info!("cut a write that was never acknowledged: {torn}");
    }
    let pool = recycle::open_pool(&core, &changes, &found)?;
    let log = start_log(environment, &core, &changes, &state, pool, recovered)?;
    // What is in tables is committed; the log's own mark comes one group later and may have been lost.
    if let Some(flushed) = *core.flushed.lock() {
        log.set_committed(flushed.index + 1);
    }
    // What the manifest does not know was never acknowledged: a file is recorded before anything in it is.
    // Only now, because starting the log has made durable what the manifest was read to say.
    let settled = remove_orphans(&**vfs, dir, &found).map_err(StoreError::from);
    if let Err(error) = settled.and_then(|_| changes.set_options(accepted)) {
        log.stop()?; // nothing may write once the caller has given up the directory
        return Err(error);
    }
    changes.attach(&log);
    let shared = Arc::new(Shared {
        core,
        changes,
        log,
        clock: environment.clock.clone(),
        applier: Mutex::new(()),
        structure: Mutex::new(()),
        collecting: Arc::default(),
        waiting: Mutex::default(),
        compactions: Mutex::new(Compactions::default()),
        compactors: OnceLock::new(),
        stalls: Stalls::default(),
        counters: Counters::default(),
        written,
        sweep,
        flushes_refused: Refusals::default(),
        compactions_refused: Refusals::default(),
        idle_at: 0.into(),
        stopping: false.into(),
        poisoned: Mutex::default(),
    });
    shared.measure_load();
    let executor = environment.executor.clone();
    let spawn_compactor = |_| executor.spawn("compactor", Box::new(Compactor::new(shared.clone())));
    let compactors: Vec<_> = (0..shared.core.options.compactions_max).map(spawn_compactor).collect();
    shared.compactors.get_or_init(|| compactors);
    let flusher = executor.spawn("flusher", Box::new(Flusher::new(shared.clone())));
    shared.core.disposal.attach(flusher.clone());
    shared.sweep.attach(executor.spawn("sweeper", Box::new(Sweeper::new(shared.clone()))));
    let pacer = executor.spawn("pacer", Box::new(Pacer { shared: shared.clone() }));
    let collector =
        executor.spawn("collector", Box::new(Collector::new(shared.clone(), environment.clock.clone())));
    shared.collecting.space.attach(collector.clone());
    let values = Values::new(shared.log.clone(), shared.core.options.value_cache_bytes);
    let readers = Readers::new(values.clone(), executor.clone(), shared.core.options.read_threads);
    let uncommitted = Mutex::new(pending);
    Ok(Arc::new(Store { shared, executor, flusher, pacer, collector, values, readers, torn, uncommitted }))
}

/// The log and the store may fail one after the other: the second failure is no news.
fn once(on_fatal: OnFatal) -> OnFatal {
    let told = AtomicBool::new(false);
    Arc::new(move |why| {
        if !told.swap(true, Ordering::AcqRel) {
            on_fatal(why);
        }
    })
}

fn open_manifest(
    environment: &Environment,
    dir: &Path,
    options: &Options,
    new: Option<NewStore>,
) -> Result<Manifest, StoreError> {
    let Environment { vfs, clock, .. } = environment;
    Ok(match (Manifest::open(vfs.clone(), clock.clone(), dir), new) {
        (Err(ManifestError::Missing { .. }), Some(new)) => {
            let identity = Identity {
                cluster_id: new.cluster_id,
                node_id: new.node_id,
                incarnation: new.incarnation,
                group_id: 0,
                created_unix_ms: clock.unix_ms(),
                options: identity::to_record(options),
            };
            Manifest::create(vfs.clone(), clock.clone(), dir, identity)?
        }
        (opened, _) => opened?,
    })
}

/// The change-set, later than all that the manifest holds, that a segment unknown to it has seen. A segment
/// is recorded before its first group is written: one that is not was left empty by a crash, or dropped
/// since, or the manifest has lost its end.
pub(crate) fn later_change_set(
    vfs: &dyn Vfs,
    dir: &Path,
    state: &State,
    orphan: &str,
) -> Result<Option<u64>, StoreError> {
    let Some(FileName::Segment(file)) = names::parse(orphan) else { return Ok(None) };
    let mut scanner = match SegmentScanner::open(vfs, &dir.join(orphan), None) {
        Ok(scanner) => scanner,
        // A crash while it was made.
        Err(VlogError::Corruption { .. } | VlogError::Unsupported { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (ours, found) = (&state.identity, scanner.header().identity);
    // A recycled file has the header of what it held until the new one is written.
    if (found.cluster_id, found.incarnation, found.file) != (ours.cluster_id, ours.incarnation, file) {
        return Ok(None);
    }
    let first = scanner.next_group()?.ok().map(|first| first.header.ledger_number);
    Ok(first.filter(|number| *number > state.number))
}

/// Reads the log into the memtable; flushes on the way when told where to record that. Returns what it
/// found and the entries that are not known to be committed.
pub(crate) fn recover(
    core: &Core,
    changes: Option<&Arc<Changes>>,
    dir: &Path,
    state: &State,
) -> Result<(Recovered, Vec<Entry>), StoreError> {
    let input = RecoverInput {
        segments: state.segments.values().map(|segment| recovery_input(dir, state, segment)).collect(),
        replay_from: state.replay_from.unwrap_or_default(),
        purged: state.purge_floor.as_ref().map(from_manifest),
        inline_below: core.options.separate_bytes_min,
        durable: changes.is_some(),
    };
    let newest = input.segments.iter().rfind(|segment| segment.kind == SegmentKind::Log).cloned();
    let mut replayer = Replayer { core, changes, newest, pending: VecDeque::new() };
    let recovered = kv_vlog::recover(&core.vfs, input, &mut replayer)?;
    Ok((recovered, replayer.pending.into()))
}

fn recovery_input(dir: &Path, state: &State, segment: &SegmentState) -> SegmentInput {
    match state.owner_of(segment.file) {
        Some(owner) if segment.remapped => {
            let into = owner.segment;
            let input = segment_input(dir, state, segment);
            let identity = SegmentIdentity { segment: segment.segment, ..input.identity };
            SegmentInput { kind: SegmentKind::Moved { into }, identity, ..input }
        }
        _ => segment_input(dir, state, segment),
    }
}

/// The file that holds the values of a segment: that of another one, where value GC has moved them.
pub(crate) fn segment_input(dir: &Path, state: &State, segment: &SegmentState) -> SegmentInput {
    let owner = state.owner_of(segment.file).unwrap_or(segment);
    let kind = match owner.kind {
        kv_manifest::SegmentKind::Log => SegmentKind::Log,
        kv_manifest::SegmentKind::Values => SegmentKind::Values,
    };
    SegmentInput {
        kind,
        identity: SegmentIdentity {
            cluster_id: state.identity.cluster_id,
            incarnation: state.identity.incarnation,
            group_id: state.identity.group_id,
            segment: owner.segment,
            file: owner.file,
            generation: owner.generation,
            epoch: owner.epoch,
        },
        path: dir.join(names::segment_name(owner.file)),
        sealed: owner.sealed.as_ref().map(to_summary),
    }
}

fn start_log(
    environment: &Environment,
    core: &Core,
    changes: &Arc<Changes>,
    state: &State,
    pool: Arc<FilePool>,
    recovered: Recovered,
) -> Result<Arc<Vlog>, StoreError> {
    let options = VlogOptions {
        cluster_id: state.identity.cluster_id,
        incarnation: state.identity.incarnation,
        group_id: state.identity.group_id,
        epoch: state.epoch + 1,
        group_bytes_max: core.options.group_bytes_max,
        tail_cache_bytes: core.options.tail_cache_bytes,
        inline_below: core.options.separate_bytes_min,
        pool: Some(pool),
        on_fatal: core.options.on_fatal.clone(),
        lazy: core.options.batch_delay,
        ..Default::default()
    };
    let Environment { vfs, clock, executor } = environment.clone();
    Ok(Vlog::start(vfs, clock, executor, changes.clone(), options, recovered)?)
}

/// Applies entries as the committed mark passes them. Bounded: what is not committed was bounded when it
/// was appended, and full memtables are flushed.
struct Replayer<'a> {
    core: &'a Core,
    changes: Option<&'a Arc<Changes>>,
    /// The newest segment, until the manifest was held against it.
    newest: Option<SegmentInput>,
    pending: VecDeque<Entry>,
}

impl Replayer<'_> {
    fn apply(&mut self, entry: &Entry) -> Result<(), StoreError> {
        if let Some(changes) = self.changes
            && self.core.is_full()
        {
            // Before the manifest grows: change-sets that it lost must not have their numbers taken.
            if let Some(newest) = self.newest.take() {
                changes.require(kv_vlog::ledger_number(&self.core.vfs, &newest)?)?;
            }
            self.core.freeze(None);
            let frozen = self.core.view().frozen.first().cloned();
            if let Some(frozen) = frozen {
                // The replay position stays: it moves with the next flush of the running store.
                let number = changes.allocate();
                flush::flush(self.core, &frozen, number, |edits| {
                    changes.commit("flush in recovery", edits).map(drop)
                })?;
            }
        }
        self.core.apply(entry).map(drop)
    }
}

impl Replay for Replayer<'_> {
    type Error = StoreError;

    fn entry(&mut self, entry: Entry) -> Result<(), StoreError> {
        self.truncate(entry.at.index)?;
        self.pending.push_back(entry);
        Ok(())
    }

    fn truncate(&mut self, next: u64) -> Result<(), StoreError> {
        while self.pending.back().is_some_and(|entry| entry.at.index >= next) {
            self.pending.pop_back();
        }
        Ok(())
    }

    fn committed(&mut self, next: u64) -> Result<(), StoreError> {
        while self.pending.front().is_some_and(|entry| entry.at.index < next) {
            if let Some(entry) = self.pending.pop_front() {
                self.apply(&entry)?;
            }
        }
        Ok(())
    }
}

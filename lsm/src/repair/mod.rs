//! Repair: a new directory with all that is left of a damaged one, which is only read.
//!
//! Nothing is taken on trust. A file counts by what it says of itself, a version because the block it stands in is
//! whole, a value because the record proves to be that version of that key. What was found is merged, newest
//! version first, and given to a new store as a snapshot of another node is: one change-set makes it the state.
//!
//! - The new store has an identity of its own: it must not pass for the old node, whose votes and acknowledged entries it
//!   may have lost. Versions stay what they are.
//! - A version that is known to be the newest, but cannot be read, is lost; no older one takes its place.
//! - Of the log only what is known to be committed counts.
//! - What lost tables may have overwritten or deleted is brought over, and named.
//!
//! `docs/repair.md` says what to expect for each kind of damage.

mod build;
mod inventory;
mod log;
mod lost;
mod report;
mod scratch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_manifest::ManifestError;
use kv_vfs::Vfs;
use kv_vlog::{Position, SalvagedValues, Vote};

pub use report::{LostRange, RepairReport, RepairedKey, RepairedKeys};

use crate::db::new_store;
use crate::error::StoreError;
use crate::offline::Progress;
use crate::options::Options;
use crate::store::{Environment, NewStore, Store, carried_on};
use build::Build;
use inventory::Inventory;
use log::LogReading;
use lost::Lost;
use scratch::Scratch;

/// How to repair.
#[derive(Clone, Debug, Default)]
pub struct RepairOptions {
    /// Number of the node that the new directory is for; `None`: that of the old one, 0 where it is not known.
    pub node_id: Option<u64>,
    /// Whether entries at the end of the log count that are not known to be committed. They were, if the node was
    /// alone; in a cluster they may have been voided. `None`: if the store was embedded.
    pub whole_log: Option<bool>,
    /// Settings of the new store. The shape of its levels is that of the old one, unless
    /// [`accept_level_options`](Options::accept_level_options) is set.
    pub store: Options,
}

/// Makes the new directory `into` of what is left in `dir`. It appears when it is complete: a crash leaves
/// `<into>.tmp`, which is to be removed.
///
/// # Errors
/// [`StoreError::Invalid`] where `into` or `<into>.tmp` is there already; `Missing` where `dir` holds no data; what
/// reading and writing can fail with. Damage in `dir` is no error, but said in the report.
pub fn repair(
    environment: &Environment,
    dir: &Path,
    into: &Path,
    options: RepairOptions,
    progress: &dyn Fn(Progress),
) -> Result<RepairReport, StoreError> {
    let vfs = &environment.vfs;
    let work = working_directory(vfs, into)?;
    let mut report = RepairReport::default();
    let inventory = Inventory::take(vfs, dir, &mut report)?;
    if inventory.is_empty() {
        return Err(ManifestError::Missing { dir: dir.into() }.into());
    }
    let store_options = carried_on(&inventory.hint.identity.options, options.store)?;
    let old_node = (inventory.hint.number > 0).then_some(inventory.hint.identity.node_id);
    let node_id = options.node_id.or(old_node).unwrap_or_default();
    let whole_log = options.whole_log.unwrap_or(old_node == Some(0));
    let new = NewStore { node_id, ..new_store(environment) };
    kv_vfs::create_dir(&**vfs, &work)?;
    let store = Store::open(environment, &work, store_options, Some(new))?;
    let filled = fill(&store, vfs, &work, inventory, whole_log, &mut report, progress);
    let closed = filled.and_then(|()| store.close());
    store.stop();
    closed?;
    // All of it is durable; now its name. Before, there is no such directory.
    vfs.rename(&work, into)?;
    vfs.sync_dir(parent(into))?;
    report.problems.sort_unstable();
    report.problems.dedup();
    Ok(report)
}

fn fill(
    store: &Arc<Store>,
    vfs: &Arc<dyn Vfs>,
    work: &Path,
    inventory: Inventory,
    whole_log: bool,
    report: &mut RepairReport,
    progress: &dyn Fn(Progress),
) -> Result<(), StoreError> {
    let mut scratch = Scratch::new(vfs, work);
    let mut lost = Lost::salvage(vfs, &inventory.damaged, &inventory.missing, &mut scratch)?;
    let inline_below = store.options().separate_bytes_min;
    let mut reading = LogReading::new(&inventory, &lost, &mut scratch, report, inline_below);
    let last = reading.run(&inventory, whole_log)?;
    let (whole_from, term, time) = (reading.whole_from, reading.term, reading.time);
    lost.restored_from(whole_from, report);
    report.files += inventory.tables.len() as u64 + inventory.damaged.len() as u64;
    // In tables alone no term is told; none that was seen is higher than this.
    let at = last.map(|at| if at.term == 0 { Position { term: term.max(1), ..at } } else { at });
    report.applied = at;
    let Some(at) = at else { return Ok(()) };
    let total_bytes = inventory.tables.iter().map(|table| table.properties().value_bytes).sum();
    let (inventory, values) = open_values(inventory, report);
    let mut receiver = store.receive()?;
    let build = Build { values: &values, lost: &lost, report, at, time, progress, total_bytes };
    build.run(&inventory, &scratch, &mut receiver)?;
    store.install(receiver, at, time, None)?;
    vote(store, term.max(at.term))
}

/// Where values are looked for; the segments go from the inventory into that.
fn open_values(mut inventory: Inventory, report: &mut RepairReport) -> (Inventory, SalvagedValues) {
    let mut values = SalvagedValues::default();
    for found in std::mem::take(&mut inventory.segments) {
        let (name, at) = (found.file.name(), found.remap_at);
        if let Some(why) = values.add(found.file, at) {
            report.problem(name, at, format!("where values were moved to cannot be read: {why}"));
        }
    }
    (inventory, values)
}

/// Has the node stand for no term that was there before.
fn vote(store: &Store, term: u64) -> Result<(), StoreError> {
    let node_id = store.state().identity.node_id;
    if node_id > 0 {
        store.log().save_vote(Vote { term, node: Some(node_id), committed: false }, Box::new(|_| {}))?;
    }
    Ok(store.log().wait_durable()?)
}

fn working_directory(vfs: &Arc<dyn Vfs>, into: &Path) -> Result<PathBuf, StoreError> {
    let mut work = into.as_os_str().to_owned();
    work.push(".tmp");
    let work = PathBuf::from(work);
    for path in [into, &work] {
        if vfs.exists(path)? {
            return Err(StoreError::Invalid(format!("{} is there already", path.display())));
        }
    }
    Ok(work)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Inventory {
    fn is_empty(&self) -> bool {
        self.hint.number == 0 && self.segments.is_empty() && self.tables.is_empty() && self.damaged.is_empty()
    }
}

//! What an operator has a node do that takes its time. Once begun it goes on to its end, whether or not the caller waits;
//! the log says what came of it.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use kv_api::KvError;
use kv_api::admin::{CheckpointReport, CompactReport, TableSum, TablesReport};
use kv_api::transport::run_to_end;
use kv_lsm::{ScanRange, Store, StoreError};
use kv_vfs::Vfs;
use tokio::sync::Semaphore;

use super::Shared;

/// Works of this kind at once: each has a thread, and reads or writes a lot.
const AT_ONCE: usize = 4;

/// When to ask again for one that has no place.
const RETRY_AFTER_MS: u32 = 1_000;

/// Places for works under way.
#[derive(Debug)]
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// Writes out what is in memory.
pub(super) async fn flush(shared: Arc<Shared>) -> Result<(), KvError> {
    finish(shared, "flush".into(), |shared| shared.store.flush()).await
}

/// Compacts a range.
pub(super) async fn compact(shared: Arc<Shared>, range: ScanRange) -> Result<CompactReport, KvError> {
    finish(shared, "compaction of a range".into(), move |shared| {
        let store = &shared.store;
        // Before the tables are counted: what is in memory goes into them anyway.
        store.flush()?;
        let before = tables(store);
        store.compact_range(&range)?;
        Ok(CompactReport { node_id: shared.raft.id(), before, after: tables(store) })
    })
    .await
}

/// Makes a checkpoint.
pub(super) async fn checkpoint(shared: Arc<Shared>, dir: String) -> Result<CheckpointReport, KvError> {
    finish(shared, format!("checkpoint in {dir}"), move |shared| {
        let (vfs, data_dir) = shared.store.place();
        let path = new_directory(&**vfs, data_dir, &dir)?;
        shared.store.checkpoint(&path)?;
        let files = vfs.list(&path)?;
        Ok(CheckpointReport {
            node_id: shared.raft.id(),
            dir,
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.len).sum(),
        })
    })
    .await
}

/// Reads and checks all tables.
pub(super) async fn verify_tables(shared: Arc<Shared>) -> Result<TablesReport, KvError> {
    finish(shared, "verification of tables".into(), |shared| {
        let mut report = TablesReport::default();
        for (bytes, found) in shared.store.verify_tables() {
            report.tables += 1;
            report.bytes += bytes;
            report.damages.extend(found.err().map(|error| error.to_string()));
        }
        Ok(report)
    })
    .await
}

/// Does a work to its end, if there is a place for it.
async fn finish<T: Send + 'static>(
    shared: Arc<Shared>,
    what: String,
    work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, KvError> {
    let places = shared.upkeep.0.clone();
    to_end(places, what, move || work(&shared)).await
}

async fn to_end<T: Send + 'static>(
    places: Arc<Semaphore>,
    what: String,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, KvError> {
    let Ok(place) = places.try_acquire_owned() else {
        return Err(KvError::Busy { retry_after_ms: RETRY_AFTER_MS });
    };
    run_to_end(async move {
        let done = crate::blocking::run(work).await;
        drop(place);
        match done {
            Ok(Ok(done)) => {
                tracing::info!("{what}: done");
                Ok(done)
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "{what}: not done");
                Err(refused(&error))
            }
            Err(error) => Err(KvError::Unknown(format!("{what} ended early: {error}"))),
        }
    })
    .await
}

/// What the caller is told: not to try again at once, unlike of a read.
fn refused(error: &StoreError) -> KvError {
    match error {
        StoreError::Invalid(why) => KvError::Invalid(why.clone()),
        damage if damage.is_damage() => KvError::Corrupt(damage.to_string()),
        other => KvError::Failed(other.to_string()),
    }
}

fn tables(store: &Store) -> TableSum {
    let sum = |sum: TableSum, table: &kv_manifest::TableMeta| TableSum {
        tables: sum.tables + 1,
        bytes: sum.bytes + table.bytes,
        entries: sum.entries + table.entries,
    };
    store.tables().iter().fold(TableSum::default(), sum)
}

/// The path of a directory that a checkpoint may be made in. Whoever may ask for one may be on another machine: nothing that
/// is there is touched, and nothing is copied that could be linked.
fn new_directory(vfs: &dyn Vfs, data_dir: &Path, dir: &str) -> Result<PathBuf, StoreError> {
    let refuse = |why: String| Err(StoreError::Invalid(format!("a checkpoint in {dir}: {why}")));
    let path = PathBuf::from(dir);
    let is_plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    let Some(parent) = path.parent().filter(|_| path.is_absolute() && path.components().all(is_plain)) else {
        return refuse("give an absolute path without . and .. on the machine of the node".into());
    };
    let data_dir = std::path::absolute(data_dir)?;
    if path.starts_with(&data_dir) || data_dir.starts_with(&path) {
        return refuse("give a path outside the data directory".into());
    }
    if vfs.exists(&path)? {
        return refuse("it is there already, give a new one".into());
    }
    if !vfs.exists(parent)? {
        return refuse(format!("there is no directory {}", parent.display()));
    }
    if !vfs.same_file_system(parent, &data_dir)? {
        return refuse(format!(
            "it is on another file system than the data directory, {}, so that every file would have to be copied: \
             make it on that one, and copy it from there",
            data_dir.display()
        ));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use kv_vfs::{IoMode, MemVfs};

    use super::*;

    /// Broken by: work that ends with the call that asked for it, at the caller's deadline.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_work_goes_on_when_nobody_waits_for_it() {
        let places = Places::default();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
        let (done, is_done) = tokio::sync::oneshot::channel();
        let work = move || {
            begun.send(()).unwrap();
            goes_on.recv().unwrap();
            done.send("done").unwrap();
            Ok(())
        };
        let call = tokio::spawn(to_end(places.0.clone(), "a work".into(), work));
        has_begun.await.unwrap();
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        assert_eq!(places.0.available_permits(), AT_ONCE - 1, "it has its place still");
        go_on.send(()).unwrap();
        assert_eq!(is_done.await.unwrap(), "done");
        // The place is given back behind that.
        drop(places.0.acquire_many(AT_ONCE as u32).await.unwrap());
    }

    #[tokio::test]
    async fn there_are_so_many_places() {
        let places = Places::default();
        let taken = places.0.clone().acquire_many_owned(AT_ONCE as u32).await.unwrap();
        let ask = || to_end(places.0.clone(), "a work".into(), || Ok(5));
        assert_eq!(ask().await, Err(KvError::Busy { retry_after_ms: RETRY_AFTER_MS }));
        drop(taken);
        assert_eq!(ask().await, Ok(5));
        let full = || Err::<(), _>(StoreError::NoRoom { why: "the disk is full".into() });
        let refused = to_end(places.0.clone(), "a work".into(), full).await;
        assert!(matches!(refused, Err(KvError::Failed(why)) if why.contains("the disk is full")));
    }

    #[test]
    fn a_checkpoint_goes_to_a_new_place_only() {
        let disk = MemVfs::new();
        disk.create_dir_all(Path::new("/srv/data/sub")).unwrap();
        disk.create(Path::new("/srv/file"), IoMode::Buffered).unwrap();
        let ask = |dir: &str| new_directory(&disk, Path::new("/srv/data"), dir);
        assert_eq!(ask("/srv/copy").unwrap(), Path::new("/srv/copy"));
        assert_eq!(ask("/srv/data-1").unwrap(), Path::new("/srv/data-1"));
        for (dir, why) in [
            ("", "absolute path"),
            ("copy", "absolute path"),
            ("/srv/../copy", "absolute path"),
            ("/", "absolute path"),
            ("/srv/data", "outside"),
            ("/srv/data/sub/copy", "outside"),
            ("/srv", "outside"),
            ("/srv/file", "there already"),
            ("/srv/none/copy", "no directory /srv/none"),
        ] {
            let refused = ask(dir).unwrap_err().to_string();
            assert!(refused.contains(why), "{dir}: {refused}");
        }
    }
}

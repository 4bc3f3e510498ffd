//! A copy of the store in another directory, while it is written to.

use std::collections::BTreeMap;
use std::path::Path;

use kv_manifest::{State, names};
use kv_vfs::{IoMode, Vfs};

use super::changes::ManifestCopy;
use super::pins::Holder;
use super::{Shared, Store};
use crate::error::StoreError;

/// Bytes copied at once.
const COPY_BYTES: usize = 1 << 20;

impl Store {
    /// Makes a copy of the store in `dir`, which is made and must not hold a store: everything that was
    /// acknowledged before the call, and perhaps what came meanwhile. Complete files are hard linked, where `dir`
    /// is on the same file system, the others are copied: tables and complete segments take no space until
    /// they are replaced here. Durable on return; after an error or a crash `dir` is no store.
    ///
    /// The copy has the identity of the store.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where there is a store already; what reading and writing can fail with.
    pub fn checkpoint(&self, dir: &Path) -> Result<(), StoreError> {
        let Shared { core, changes, log, structure, .. } = &*self.shared;
        let vfs = &*core.vfs;
        kv_vfs::create_dir(vfs, dir)?;
        if vfs.list(dir)?.iter().any(|entry| names::parse(&entry.name).is_some()) {
            return Err(StoreError::Invalid(format!("{} is not empty", dir.display())));
        }
        log.wait_durable()?;
        // The view keeps the files that the state names, from one moment on.
        let (view, copy) = {
            let _structure = structure.lock();
            self.shared.check()?;
            // One that the log does not know yet has been recorded a moment ago: its header is there, and no more.
            let header = u64::from(kv_vlog::format::SEGMENT_HEADER_BYTES);
            (core.view(), changes.copy(|segment| log.written(segment).unwrap_or(header))?)
        };
        let _pin = view.pin.held_by(Holder::Checkpoint);
        for id in copy.state.tables.keys() {
            link(vfs, &core.dir, dir, &names::table_name(*id))?;
        }
        for (file, end) in segment_files(&copy) {
            let name = names::segment_name(file);
            match end {
                None => link(vfs, &core.dir, dir, &name)?,
                // It goes on being written: only what was there when the manifest was copied.
                Some(end) => copy_file(vfs, &core.dir.join(&name), &dir.join(&name), end)?,
            }
        }
        write(vfs, &dir.join(&copy.name), &copy.manifest)?;
        // All that CURRENT leads to, and the names of it, before CURRENT: what is incomplete is no store.
        vfs.sync_dir(dir)?;
        write(vfs, &dir.join(names::CURRENT), &copy.current)?;
        Ok(vfs.sync_dir(dir)?)
    }
}

/// The files of segments; of those that are not complete, how much of them there was.
fn segment_files(copy: &ManifestCopy) -> BTreeMap<u64, Option<u64>> {
    let State { segments, .. } = &copy.state;
    let end = |segment: u64| copy.open.iter().find(|(open, _)| *open == segment).map(|(_, end)| *end);
    segments.values().map(|segment| (segment.file, end(segment.segment))).collect()
}

/// Gives a file that does not change any more a name in another directory, or copies it where that cannot be.
fn link(vfs: &dyn Vfs, from: &Path, to: &Path, name: &str) -> Result<(), StoreError> {
    let (from, to) = (from.join(name), to.join(name));
    match vfs.hard_link(&from, &to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let len = vfs.open_read(&from, IoMode::Buffered)?.len()?;
            copy_file(vfs, &from, &to, len)
        }
        linked => Ok(linked?),
    }
}

/// Copies the first `len` bytes of a file; durable on return but for its name.
fn copy_file(vfs: &dyn Vfs, from: &Path, to: &Path, len: u64) -> Result<(), StoreError> {
    let (from, to) = (vfs.open_read(from, IoMode::Buffered)?, vfs.create(to, IoMode::Buffered)?);
    let mut buffer = vec![0; COPY_BYTES.min(len as usize)];
    let mut at = 0;
    while at < len {
        buffer.truncate((len - at).min(COPY_BYTES as u64) as usize);
        from.read_exact_at(&mut buffer, at)?;
        to.write_at(&buffer, at)?;
        at += buffer.len() as u64;
    }
    Ok(to.sync_data()?)
}

fn write(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let file = vfs.create(path, IoMode::Buffered)?;
    file.write_at(bytes, 0)?;
    Ok(file.sync_data()?)
}

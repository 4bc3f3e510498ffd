//! `CURRENT`: the file that names the manifest in use; and the steps by which another one comes into use.
//!
//! It holds the manifest's file name and the CRC of that name, each on a line of its own, so that a
//! flipped bit cannot make it name another file.

use std::io;
use std::path::Path;
use std::sync::Arc;

use kv_vfs::{File, IoMode, Vfs, planted};

use crate::error::ManifestError;
use crate::format;
use crate::header::Header;
use crate::names::{self, CURRENT, FileName, manifest_name, temporary_name};
use crate::scan::find_later;

/// Longer than any `CURRENT` is.
const CURRENT_BYTES_MAX: u64 = 256;

/// The file number that [`crate::Manifest::create`] uses, and nobody after it.
pub(crate) const FIRST_NUMBER: u64 = 1;

/// The contents that name the manifest with this number.
pub(crate) fn contents(number: u64) -> String {
    let name = manifest_name(number);
    let crc = crc32fast::hash(name.as_bytes());
    format!("{name}\n{crc:08x}\n")
}

/// Number of the manifest in use.
pub(crate) fn load(vfs: &dyn Vfs, dir: &Path) -> Result<u64, ManifestError> {
    let path = dir.join(CURRENT);
    let damaged = |why: String| ManifestError::corruption(&path, 0, why);
    let bytes = match vfs.read_all(&path, CURRENT_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(absent(vfs, dir)?),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => return Err(damaged(e.to_string())),
        Err(e) => return Err(e.into()),
    };
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match str::from_utf8(line).ok().and_then(names::parse) {
        // What it ought to be is written out and compared, so that there is one spelling of it.
        Some(FileName::Manifest(number)) if bytes == contents(number).as_bytes() => Ok(number),
        Some(FileName::Manifest(_)) => Err(damaged("the CRC of the name in it does not match".to_string())),
        _ => Err(damaged("it names no manifest".to_string())),
    }
}

/// Opens the manifest that `CURRENT` names, for reading.
pub(crate) fn open_named(vfs: &dyn Vfs, dir: &Path, number: u64) -> Result<Arc<dyn File>, ManifestError> {
    let name = manifest_name(number);
    vfs.open_read(&dir.join(&name), IoMode::Buffered).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            ManifestError::corruption(&dir.join(CURRENT), 0, format!("it names {name}, which is missing"))
        }
        _ => e.into(),
    })
}

/// Makes a manifest file with its header; nothing of it is durable yet.
pub(crate) fn start_file(
    vfs: &dyn Vfs,
    dir: &Path,
    number: u64,
    header: &Header,
) -> io::Result<Arc<dyn File>> {
    let file = vfs.create(&dir.join(manifest_name(number)), IoMode::Buffered)?;
    file.write_at(&header.encode(), 0)?;
    Ok(file)
}

/// Makes the written file durable, then has `CURRENT` name it.
pub(crate) fn switch(vfs: &dyn Vfs, dir: &Path, number: u64, file: &dyn File) -> io::Result<()> {
    // Contents and name before CURRENT names it: else a power loss may leave a CURRENT that names a file
    // which is cut short, or missing. Until then the old CURRENT stands, and this file is an orphan.
    planted::unless("manifest not synced before CURRENT names it", || file.sync_data())?;
    planted::unless("name of a manifest not synced before CURRENT", || vfs.sync_dir(dir))?;
    store(vfs, dir, number)
}

/// Has `CURRENT` name the manifest with this number, durably. That file and its name are durable already.
fn store(vfs: &dyn Vfs, dir: &Path, number: u64) -> io::Result<()> {
    let temporary = dir.join(temporary_name(CURRENT));
    // A crash further down in an earlier life may have left one.
    if vfs.exists(&temporary)? {
        vfs.remove(&temporary)?;
    }
    let file = vfs.create(&temporary, IoMode::Buffered)?;
    file.write_at(contents(number).as_bytes(), 0)?;
    // Before the rename: else the new name may survive a power loss that its contents do not, and
    // CURRENT is empty.
    planted::unless("CURRENT before its content", || file.sync_data())?;
    vfs.rename(&temporary, &dir.join(CURRENT))?;
    // Before anybody relies on it: else a power loss brings back the old CURRENT, and with it a manifest
    // that knows nothing of the change-sets acknowledged since.
    planted::unless("name of CURRENT not synced", || vfs.sync_dir(dir))
}

/// What it means that there is no `CURRENT`: nothing was ever here, or it got lost.
///
/// A crash in [`crate::Manifest::create`] leaves the first manifest and perhaps a `CURRENT.tmp`. Before
/// that, nothing can have been acknowledged, so a directory that holds no more than this is empty. A first
/// manifest with a second change-set, any other manifest, a table or a segment was there under a `CURRENT`.
pub(crate) fn absent(vfs: &dyn Vfs, dir: &Path) -> io::Result<ManifestError> {
    let entries = match vfs.list(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(e),
    };
    for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
        let tells = match names::parse(&entry.name) {
            Some(FileName::Manifest(FIRST_NUMBER)) => {
                let file = vfs.open_read(&dir.join(&entry.name), IoMode::Buffered)?;
                find_later(&*file, format::FIRST_FRAME_AT, file.len()?, 1)?.is_some()
            }
            other => other.and_then(FileName::number).is_some(),
        };
        if tells {
            return Ok(ManifestError::LostCurrent { dir: dir.to_path_buf(), found: entry.name });
        }
    }
    Ok(ManifestError::Missing { dir: dir.to_path_buf() })
}

//! What recovery is about to believe, made durable.

use std::path::{Path, PathBuf};

use kv_vfs::{File, IoMode, Vfs, planted};

use crate::error::VlogError;

/// Bytes copied at once.
const COPY_BYTES: u64 = 1 << 20;

/// Makes the contents of the segment that was open last durable, as the caller is going to read them.
///
/// What a killed process left may be in the page cache only: a sync writes it. After a sync that failed, though, the page
/// cache may show what never reached the disk and take it for clean, so that no later sync writes it. Direct I/O does not
/// see that; where there is none, the file is written anew and takes the place of the old one.
pub(crate) fn settle(vfs: &dyn Vfs, path: &Path) -> Result<(), VlogError> {
    if planted::is("recovered end of the log not synced") {
        return Ok(());
    }
    let file = vfs.open(path, IoMode::Direct)?;
    file.sync_data()?;
    if file.is_direct() || planted::is("recovered end of the log read from the page cache") {
        return Ok(());
    }
    let copy = copy_name(path);
    // Left by a crash in the middle of this.
    if vfs.exists(&copy)? {
        vfs.remove(&copy)?;
    }
    write_copy(vfs, path, &*vfs.create(&copy, IoMode::Buffered)?)?;
    // Contents before the name: either file is whole, and the new one durable before anything is built upon it.
    vfs.rename(&copy, path)?;
    path.parent().map_or(Ok(()), |dir| Ok(vfs.sync_dir(dir)?))
}

/// An orphan until it is renamed.
fn copy_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

fn write_copy(vfs: &dyn Vfs, from: &Path, to: &dyn File) -> Result<(), VlogError> {
    let from = vfs.open_read(from, IoMode::Buffered)?;
    let (len, mut at) = (from.len()?, 0);
    let mut buffer = vec![0; COPY_BYTES.min(len) as usize];
    while at < len {
        buffer.truncate((len - at).min(COPY_BYTES) as usize);
        from.read_exact_at(&mut buffer, at)?;
        to.write_at(&buffer, at)?;
        at += buffer.len() as u64;
    }
    Ok(to.sync_data()?)
}

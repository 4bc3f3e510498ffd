//! Making a directory whose name stays.

use std::io;
use std::path::Path;

use crate::file::Vfs;
use crate::planted;

/// Makes the directory and those above it, where they are missing, durably: else a power loss may take all
/// that was acknowledged in it.
///
/// # Errors
/// Those of the file system. A later call begins again.
pub fn create_dir(vfs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    let (mut missing, mut there) = (Vec::new(), None);
    for dir in dir.ancestors().filter(|dir| !dir.as_os_str().is_empty()) {
        if vfs.exists(dir)? {
            there = Some(dir);
            break;
        }
        missing.push(dir);
    }
    // One at a time: an earlier call that was killed may have left one whose name is not durable, and it
    // is the deepest there is. Where the parent may not be opened it was somebody else who made it.
    match there.map_or(Ok(()), |dir| sync_parent(vfs, dir)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        synced => synced?,
    }
    for dir in missing.into_iter().rev() {
        vfs.create_dir_all(dir)?;
        sync_parent(vfs, dir)?;
    }
    Ok(())
}

fn sync_parent(vfs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    planted::unless("name of the data directory not synced", || match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => vfs.sync_dir(Path::new(".")),
        Some(parent) => vfs.sync_dir(parent),
        None => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::{MemVfs, Survival};

    const DIR: &str = "/above/data";

    /// Broken by: a call after a kill that takes a directory for durable because it is there.
    #[test]
    fn what_it_returned_for_stays_even_after_a_kill_half_way() {
        let killed = Arc::new(Mutex::new(Vec::new()));
        let (disk, keep) = (MemVfs::new(), killed.clone());
        disk.before_each(move |moment| keep.lock().push(moment.number()));
        create_dir(&disk, Path::new(DIR)).unwrap();
        assert!(killed.lock().len() >= 4);
        for n in killed.lock().iter().copied().chain([u64::MAX]) {
            let disk = MemVfs::new();
            disk.stop_after(n);
            let first = create_dir(&disk, Path::new(DIR));
            assert!(first.is_err() || n == u64::MAX);
            disk.stop_after(u64::MAX);
            create_dir(&disk, Path::new(DIR)).unwrap();
            assert!(disk.crash_clone(&Survival::Synced).exists(Path::new(DIR)).unwrap(), "killed at {n}");
        }
    }
}

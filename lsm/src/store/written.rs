//! Bytes that are written to the data directory, by the kind of file.

use std::path::Path;
use std::sync::Arc;

use kv_manifest::names::{self, FileName};
use kv_vfs::{CountingVfs, Tally, Vfs};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub segments: Tally,
    pub tables: Tally,
    pub others: Tally,
}

impl Written {
    /// The file system, what is written into the directory counted here. What goes elsewhere, into a checkpoint, is
    /// not.
    pub(crate) fn counted(self: &Arc<Self>, vfs: &Arc<dyn Vfs>, dir: &Path) -> Arc<dyn Vfs> {
        let (written, dir) = (self.clone(), dir.to_path_buf());
        Arc::new(CountingVfs::new(vfs.clone(), move |path| {
            let name = path.file_name().filter(|_| path.parent() == Some(&*dir))?.to_str()?;
            Some(written.tally(name).clone())
        }))
    }

    fn tally(&self, name: &str) -> &Tally {
        match names::parse(name) {
            Some(FileName::Segment(_) | FileName::Free(_)) => &self.segments,
            Some(FileName::Table(_)) => &self.tables,
            _ => &self.others,
        }
    }
}

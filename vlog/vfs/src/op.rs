//! File operations as values: what [`MemVfs`](crate::MemVfs) logs and [`FaultVfs`](crate::FaultVfs) lets fail.

use std::path::PathBuf;

/// The kinds of operation of [`Vfs`](crate::Vfs) and [`File`](crate::File).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpKind {
    /// `create`.
    Create,
    /// `open` and `open_read`.
    Open,
    /// `read_at`.
    Read,
    /// `write_at` and `write_vectored_at`.
    Write,
    /// `sync_data`.
    Sync,
    /// `set_len`.
    SetLen,
    /// `preallocate`.
    Preallocate,
    /// `len`.
    Len,
    /// `rename`.
    Rename,
    /// `remove`.
    Remove,
    /// `hard_link`.
    Link,
    /// `create_dir_all`; once for each directory that it creates.
    CreateDir,
    /// `list`.
    List,
    /// `exists`, `permissions` and `link_count`.
    Stat,
    /// `sync_dir`.
    SyncDir,
    /// `lock`.
    Lock,
    /// `space`.
    Space,
}

impl OpKind {
    /// Whether the operation changes what is on disk, or what of it would survive a loss of power. `Lock`
    /// does not count: what it does to its file are operations of their own.
    #[must_use]
    pub fn mutates(self) -> bool {
        match self {
            Self::Create
            | Self::Write
            | Self::Sync
            | Self::SetLen
            | Self::Preallocate
            | Self::Rename
            | Self::Remove
            | Self::Link
            | Self::CreateDir
            | Self::SyncDir => true,
            Self::Open | Self::Read | Self::Len | Self::List | Self::Stat | Self::Lock | Self::Space => false,
        }
    }
}

/// One operation that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// What was done.
    pub kind: OpKind,
    /// To which file or directory; the old name for `Rename` and `Link`.
    pub path: PathBuf,
    /// The new name, for `Rename` and `Link` alone.
    pub to: Option<PathBuf>,
    /// Where in the file, in bytes: for `Write`, else 0.
    pub offset: u64,
    /// Bytes written, or the length asked for with `SetLen` and `Preallocate`; else 0.
    pub len: u64,
}

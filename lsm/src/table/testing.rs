//! What tests of tables share: a directory, tables in it, versions to fill them with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kv_manifest::names;
use kv_vfs::{FaultVfs, MemVfs, Vfs};
use kv_vlog::Expiry;
use proptest::prelude::*;

use super::{TableError, TableIdentity, TableOptions, TableReader, TableSummary, TableWriter};
use crate::cursor::{Cursor, TwoWayCursor};
use crate::key::{InternalKey, Seq, Slot, ValuePointer};

/// Versions in internal order.
pub(crate) type Versions = BTreeMap<InternalKey, Slot>;

/// A directory in memory, where operations can be made to fail.
pub(crate) struct TestDir {
    pub memory: MemVfs,
    pub faults: FaultVfs,
    pub vfs: Arc<dyn Vfs>,
}

impl TestDir {
    pub(crate) fn new() -> Self {
        Self::on(MemVfs::new())
    }

    pub(crate) fn on(memory: MemVfs) -> Self {
        let faults = FaultVfs::new(Arc::new(memory.clone()));
        let dir = Self { vfs: Arc::new(faults.clone()), memory, faults };
        dir.vfs.create_dir_all(dir.path()).unwrap();
        dir
    }

    pub(crate) fn path(&self) -> &Path {
        Path::new("/data")
    }

    pub(crate) fn write(&self, id: u64, options: &TableOptions, versions: &Versions) -> TableSummary {
        let mut writer = TableWriter::create(&self.vfs, self.path(), &identity(id), options).unwrap();
        for (key, slot) in versions {
            writer.add(&key.key, key.seq, slot).unwrap();
        }
        writer.finish().unwrap()
    }

    pub(crate) fn open(&self, summary: &TableSummary) -> Arc<TableReader> {
        self.try_open(summary.id, summary.bytes).unwrap()
    }

    pub(crate) fn try_open(&self, id: u64, bytes: u64) -> Result<Arc<TableReader>, TableError> {
        TableReader::open(&self.vfs, self.path(), &identity(id), bytes)
    }

    pub(crate) fn table(&self, id: u64, options: &TableOptions, versions: &Versions) -> Arc<TableReader> {
        self.open(&self.write(id, options, versions))
    }

    pub(crate) fn bytes(&self, id: u64) -> Vec<u8> {
        self.memory.read_file(&self.path().join(names::table_name(id))).unwrap()
    }

    /// Replaces the file of a table.
    pub(crate) fn put(&self, id: u64, bytes: &[u8]) {
        self.memory.write_file(&self.path().join(names::table_name(id)), bytes).unwrap();
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.vfs.list(self.path()).unwrap().into_iter().map(|entry| entry.name).collect()
    }
}

pub(crate) fn identity(table_id: u64) -> TableIdentity {
    TableIdentity { cluster_id: *b"cluster-of-tests", incarnation: 3, group_id: 0, table_id }
}

pub(crate) fn version(key: &[u8], seq: Seq) -> InternalKey {
    InternalKey { key: Bytes::copy_from_slice(key), seq }
}

pub(crate) fn pointer(segment: u64, offset: u32, length: u32) -> Slot {
    Slot::Pointer(ValuePointer { segment, offset, length, value_bytes: u64::from(length) * 2 }, Expiry::NEVER)
}

pub(crate) fn inline(value: &[u8]) -> Slot {
    Slot::Inline(Bytes::copy_from_slice(value), Expiry::NEVER)
}

/// A version of every kind, several versions of a key, the shortest key and an empty value.
pub(crate) fn few() -> Versions {
    let mut versions = Versions::new();
    versions.insert(version(b"", 5), inline(b""));
    versions.insert(version(b"apple", 9), Slot::Tombstone);
    versions.insert(version(b"apple", 7), inline(b"red"));
    for n in 0..40u32 {
        let key = format!("key{n:03}");
        versions.insert(version(key.as_bytes(), 100 + u64::from(n)), pointer(4, 4096 + n * 100, 100));
    }
    versions.insert(version(b"key039", 20), pointer(2, 0, 9));
    versions.insert(version(b"zebra", u64::MAX), inline(&[7; 200]));
    versions.insert(
        version(b"zebra", 6),
        Slot::Inline(Bytes::from_static(b"gone soon"), Expiry::at(1_700_000_000)),
    );
    versions
}

/// All versions from where the cursor stands.
pub(crate) fn collect(cursor: &mut dyn Cursor) -> Result<Vec<(InternalKey, Slot)>, TableError> {
    let mut found = Vec::new();
    while cursor.valid() {
        found.push((version(cursor.key(), cursor.seq()), cursor.slot()));
        cursor.next()?;
    }
    Ok(found)
}

/// All versions from where the cursor stands, backward.
pub(crate) fn collect_back(cursor: &mut dyn TwoWayCursor) -> Result<Vec<(InternalKey, Slot)>, TableError> {
    let mut found = Vec::new();
    while cursor.valid() {
        found.push((version(cursor.key(), cursor.seq()), cursor.slot()));
        cursor.prev()?;
    }
    Ok(found)
}

/// The newest version of a key that is not newer than `seq`.
pub(crate) fn lookup(versions: &Versions, key: &[u8], seq: Seq) -> Option<(Seq, Slot)> {
    let (found, slot) = versions.range(version(key, seq)..).next()?;
    (found.key == key).then(|| (found.seq, slot.clone()))
}

pub(crate) fn any_slot() -> impl Strategy<Value = Slot> {
    let expires = prop_oneof![Just(0), any::<u32>()].prop_map(Expiry::from_stored);
    let slot = prop_oneof![
        Just(Slot::Tombstone),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|value| inline(&value)),
        (0u64..4, any::<u32>(), 0u32..100_000).prop_map(|(s, o, l)| pointer(s, o, l)),
    ];
    (slot, expires).prop_map(|(slot, expires)| match slot {
        Slot::Inline(value, _) => Slot::Inline(value, expires),
        Slot::Pointer(at, _) => Slot::Pointer(at, expires),
        Slot::Tombstone => Slot::Tombstone,
    })
}

/// Keys that share prefixes, a few of them long.
pub(crate) fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(prop::sample::select(&b"ab\0\xff"[..]), 0..6),
        1 => prop::collection::vec(any::<u8>(), 0..300),
        1 => (0usize..=65_536, any::<u8>()).prop_map(|(len, last)| {
            let mut key = vec![b'a'; len];
            if let Some(end) = key.last_mut() {
                *end = last;
            }
            key
        }),
    ]
}

pub(crate) fn any_versions(count: std::ops::Range<usize>) -> impl Strategy<Value = Versions> {
    let seq = prop_oneof![0u64..20, any::<u64>()];
    prop::collection::vec((any_key(), seq, any_slot()), count).prop_map(|versions| {
        versions.into_iter().map(|(key, seq, slot)| (version(&key, seq), slot)).collect()
    })
}

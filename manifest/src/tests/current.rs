//! `CURRENT` damaged, missing or wrong, and manifests of other programs.

use kv_vfs::{MemVfs, Vfs};

use super::make::*;
use crate::current::contents;
use crate::format::{CLUSTER_AT, FIRST_FRAME_AT, HEADER_CRC_AT, VERSION_AT};
use crate::names::{CURRENT, segment_name, table_name, temporary_name};
use crate::{Edit, ManifestError, read};

fn refusal(vfs: &MemVfs) -> ManifestError {
    let error = open(vfs).unwrap_err();
    assert_eq!(error.to_string(), read(vfs, dir()).unwrap_err().to_string());
    error
}

#[test]
fn a_damaged_current_is_noticed() {
    let vfs = empty();
    drop(create(&vfs));
    let path = dir().join(CURRENT);
    let bytes = bytes_of(&vfs, &path);
    assert_eq!(bytes, contents(1).as_bytes());
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = refusal(&with_contents(&vfs, &path, &flipped));
        assert!(
            matches!(&error, ManifestError::Corruption { file, .. } if *file == path),
            "bit {bit}: {error}"
        );
    }
    for len in 0..bytes.len() {
        let error = refusal(&with_contents(&vfs, &path, &bytes[..len]));
        assert!(matches!(error, ManifestError::Corruption { .. }), "cut to {len}: {error}");
    }
    for other in [b"LOCK\n".to_vec(), vec![b'x'; 10_000], [&bytes[..], b"\n"].concat()] {
        let error = refusal(&with_contents(&vfs, &path, &other));
        assert!(matches!(error, ManifestError::Corruption { .. }), "{error}");
    }
}

#[test]
fn a_current_that_names_a_missing_file_is_damage() {
    let vfs = empty();
    drop(create(&vfs));
    let vfs = with_contents(&vfs, &dir().join(CURRENT), contents(7).as_bytes());
    let error = refusal(&vfs).to_string();
    assert!(error.contains("MANIFEST-000007") && error.contains("kvadmin check --data-dir /data"), "{error}");
}

#[test]
fn an_empty_directory_is_missing_a_manifest() {
    let vfs = empty();
    assert!(matches!(refusal(&vfs), ManifestError::Missing { .. }));
    write(&vfs, &dir().join("LOCK"), b"pid 1");
    write(&vfs, &dir().join("notes.txt"), b"not ours");
    assert!(matches!(refusal(&vfs), ManifestError::Missing { .. }));
    create(&vfs);
    // No directory at all is no data either.
    assert!(matches!(refusal(&MemVfs::new()), ManifestError::Missing { .. }));
}

#[test]
fn a_lost_current_is_never_taken_for_empty() {
    let with_data: [&dyn Fn(&MemVfs); 4] = [
        &|vfs| write(vfs, &dir().join(table_name(4)), b"table"),
        &|vfs| write(vfs, &dir().join(segment_name(5)), b"segment"),
        &|vfs| assert_eq!(create(vfs).append("open", vec![Edit::Epoch(1)]).unwrap(), 2),
        &|vfs| create(vfs).rewrite().unwrap(),
    ];
    for data in with_data {
        let vfs = empty();
        data(&vfs);
        if vfs.exists(&dir().join(CURRENT)).unwrap() {
            vfs.remove(&dir().join(CURRENT)).unwrap();
        }
        let error = refusal(&vfs);
        assert!(matches!(error, ManifestError::LostCurrent { .. }), "{error}");
        let created = crate::Manifest::create(std::sync::Arc::new(vfs.clone()), clock(), dir(), identity());
        assert!(matches!(created, Err(ManifestError::LostCurrent { .. })));
    }
}

#[test]
fn a_create_that_a_crash_met_may_begin_again() {
    let vfs = empty();
    drop(create(&vfs));
    let first = manifest_path(&vfs);
    let bytes = bytes_of(&vfs, &first);
    vfs.remove(&dir().join(CURRENT)).unwrap();
    for len in [0, 1, 47, 48, 4096, 4100, bytes.len()] {
        let vfs = with_contents(&vfs, &first, &bytes[..len]);
        write(&vfs, &dir().join(temporary_name(CURRENT)), b"MANI");
        assert!(matches!(refusal(&vfs), ManifestError::Missing { .. }));
        assert_eq!(create(&vfs).state(), open(&vfs).unwrap().state());
    }
}

#[test]
fn a_second_create_is_refused() {
    let vfs = empty();
    drop(create(&vfs));
    let again = crate::Manifest::create(std::sync::Arc::new(vfs.clone()), clock(), dir(), identity());
    assert!(matches!(again, Err(ManifestError::Exists { .. })));
    open(&vfs).unwrap();
}

/// The manifest with the header changed, and its CRC made right again.
fn with_header(at: usize, new: &[u8]) -> MemVfs {
    let vfs = empty();
    drop(create(&vfs));
    let path = manifest_path(&vfs);
    let mut bytes = bytes_of(&vfs, &path);
    bytes[at..at + new.len()].copy_from_slice(new);
    let crc = crc32fast::hash(&bytes[..HEADER_CRC_AT]).to_le_bytes();
    bytes[HEADER_CRC_AT..HEADER_CRC_AT + 4].copy_from_slice(&crc);
    with_contents(&vfs, &path, &bytes)
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let error = refusal(&with_header(VERSION_AT, &7u32.to_le_bytes()));
    assert!(matches!(error, ManifestError::Newer { .. }));
    let expected = "format version 7 of MANIFEST-000001 is newer than this program's 1: upgrade kvnode";
    assert_eq!(error.to_string(), expected);
    let error = refusal(&with_header(VERSION_AT, &0u32.to_le_bytes()));
    assert!(matches!(error, ManifestError::Corruption { .. }));
}

#[test]
fn an_unknown_edit_is_refused_by_name() {
    let vfs = empty();
    drop(create(&vfs));
    let path = manifest_path(&vfs);
    let mut bytes = bytes_of(&vfs, &path);
    bytes.extend(crate::encode::frame(&[2, 0, 0, 1, 77, 1, 2, 3]).unwrap());
    let error = refusal(&with_contents(&vfs, &path, &bytes)).to_string();
    let expected =
        "edit kind 77 in change-set 2 of MANIFEST-000001 is newer than this program's 16: upgrade kvnode";
    assert_eq!(error, expected);
}

#[test]
fn a_manifest_from_elsewhere_is_refused() {
    let error = refusal(&with_header(CLUSTER_AT, b"another cluster."));
    assert!(matches!(&error, ManifestError::Corruption { offset: FIRST_FRAME_AT, .. }), "{error}");
}

//! Data directories that are refused: not ours, not for us, not readable by this version, lost.

use std::path::{Path, PathBuf};

use kv_tests::{Launch, Node, files};
use tempfile::TempDir;

/// A directory in which a node has stored something and was stopped.
fn used() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = Node::start(&data);
    node.kvadmin(["put", "key", "value"]).expect(0);
    node.terminate().expect(0);
    (dir, data)
}

#[track_caller]
fn works(data: &Path) {
    let node = Node::start(data);
    assert_eq!(node.kvadmin(["get", "key"]).expect(0), "value");
    node.terminate().expect(0);
}

fn only(data: &Path, of: &str) -> PathBuf {
    let names = files::names(data);
    data.join(names.iter().rfind(|name| name.contains(of)).unwrap())
}

/// Broken by: a node that works, or leaves anything, in a directory that belongs to somebody else.
#[test]
fn files_of_somebody_else_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("photos");
    files::make_dir(&data, 0o700);
    files::write(&data.join("cat.jpg"), b"a cat");
    Launch::new(&data).run().fails(1, &["not kvnode's", "cat.jpg", "--data-dir"]);
    assert_eq!(files::names(&data), ["cat.jpg"]);
    Launch::new(&data.join("cat.jpg")).run().fails(1, &["cat.jpg is not a directory", "--data-dir"]);
    assert_eq!(files::read(&data.join("cat.jpg")), b"a cat");
}

/// Broken by: values that every user of the machine can read.
#[test]
fn a_directory_open_to_others_is_refused() {
    let (_dir, data) = used();
    for mode in [0o755, 0o750, 0o701] {
        files::make_dir(&data, mode);
        Launch::new(&data).run().fails(1, &[&format!("permissions {mode:04o}"), "chmod 700"]);
    }
    files::make_dir(&data, 0o700);
    works(&data);
}

/// Broken by: two processes in one directory, which write over each other.
#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let (_dir, data) = used();
    let first = Node::start(&data);
    let pid = format!("pid {} ", first.process.id());
    Launch::new(&data).run().fails(1, &["in use by", &pid, "--data-dir"]);
    assert_eq!(first.kvadmin(["get", "key"]).expect(0), "value", "the first one goes on");
    first.kill();
    works(&data);
}

/// Broken by: a node that takes over the data, and so the votes, of another one.
#[test]
fn the_directory_of_another_node_is_refused() {
    let (_dir, data) = used();
    Launch::new(&data)
        .arg("--node-id=2")
        .run()
        .fails(1, &["belongs to node 1, not to node 2", "--node-id 1"]);
    works(&data);
}

/// Broken by: reading a format that this version does not know as if it did, or calling it damage.
#[test]
fn a_newer_format_is_refused_as_newer() {
    let (_dir, data) = used();
    let manifest = only(&data, "MANIFEST-");
    let header = files::read(&manifest)[..48].to_vec();
    let mut newer = header.clone();
    newer[8] += 1;
    let crc = crc32fast::hash(&newer[..44]);
    newer[44..48].copy_from_slice(&crc.to_le_bytes());
    files::patch(&manifest, 0, &newer);
    let name = manifest.file_name().unwrap().to_str().unwrap();
    Launch::new(&data).run().fails(1, &["format version 2", name, "upgrade"]);
    files::patch(&manifest, 0, &header);

    let segment = only(&data, ".seg");
    let header = files::read(&segment)[..4096].to_vec();
    let mut newer = header.clone();
    newer[8] += 1;
    let crc = crc32fast::hash(&[&newer[..12], &newer[16..]].concat());
    newer[12..16].copy_from_slice(&crc.to_le_bytes());
    files::patch(&segment, 0, &newer);
    let name = segment.file_name().unwrap().to_str().unwrap();
    Launch::new(&data).run().fails(1, &["format version 2", name, "upgrade"]);
    files::patch(&segment, 0, &header);
    works(&data);
}

/// Broken by: taking a directory that has lost a file for an empty one, and beginning anew in it.
#[test]
fn a_lost_file_is_damage() {
    for lost in ["CURRENT", "MANIFEST-", ".seg", ".sst"] {
        let (_dir, data) = used();
        let path = only(&data, lost);
        let (name, content) = (path.file_name().unwrap().to_str().unwrap().to_owned(), files::read(&path));
        files::remove(&path);
        Launch::new(&data).run().fails(6, &[&name]);
        files::write(&path, &content);
        works(&data);
    }
}

/// Broken by: believing what a checksum denies.
#[test]
fn a_flipped_bit_in_a_header_is_damage() {
    for (kind, offset) in
        [("CURRENT", 12), ("MANIFEST-", 20), ("MANIFEST-", 4_100), (".seg", 8), (".seg", 20)]
    {
        let (_dir, data) = used();
        let path = only(&data, kind);
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        files::flip_bit(&path, offset);
        Launch::new(&data).run().fails(6, &[&name, "offset", "kvadmin check"]);
        files::flip_bit(&path, offset);
        works(&data);
    }
}

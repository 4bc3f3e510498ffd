//! import and export.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::node::{Node, small_limits};
use crate::run::{Run, command, kvadmin};

fn write(root: &Path, name: &[u8], content: &[u8]) {
    let path = root.join(OsStr::from_bytes(name));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// All files below a directory, by name.
fn files(root: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
                files.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    files
}

fn content(bytes: usize, seed: u8) -> Vec<u8> {
    (0..bytes).map(|n| (n / 7) as u8 ^ (n >> 8) as u8 ^ seed).collect()
}

fn import(node: &Node, root: &Path, prefix: &str) -> Run {
    kvadmin(
        node,
        [OsStr::new("import"), root.as_os_str(), "--prefix".as_ref(), prefix.as_ref(), "-ojson".as_ref()],
    )
}

fn export(node: &Node, root: &Path, more: &[&str]) -> Run {
    let args: Vec<OsString> = ["export".into(), root.into(), "-ojson".into()].into();
    kvadmin(node, args.into_iter().chain(more.iter().map(Into::into)))
}

struct Place {
    _dir: tempfile::TempDir,
    from: PathBuf,
    to: PathBuf,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    std::fs::create_dir(&from).unwrap();
    Place { _dir: dir, from, to }
}

/// The parts of a file, by key.
fn parts(node: &Node, file: &str) -> Vec<Bytes> {
    let prefix = [file.as_bytes(), b"\0part\0"].concat();
    node.keys().into_iter().filter(|key| key.starts_with(&prefix)).collect()
}

#[test]
fn a_tree_comes_back_byte_for_byte() {
    let (node, place) = (Node::start(small_limits()), place());
    for (name, bytes) in [
        (&b"empty"[..], 0),
        (b"limit", 1000),
        (b"over", 1001),
        (b"over.d/x", 1),
        (b"large", 17_345),
        (b"deep/er/still", 20),
        (b"deep-er", 21),
        (b"sp ace\nline", 22),
        (b"\xff\xfe/\xfd", 23),
        (b"back\\slash", 24),
    ] {
        write(&place.from, name, &content(bytes, 1));
    }
    write(&place.from, b"magic", b"KVPARTS1 is how a header begins");
    write(&place.from, b"magic2", &[b"KVPARTS2".to_vec(), content(1500, 5)].concat());
    std::fs::create_dir(place.from.join("nothing")).unwrap();
    std::os::unix::fs::symlink("limit", place.from.join("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place.from.join("socket")).unwrap();
    let expected = {
        let mut expected = files_without(&place.from, &["link", "socket"]);
        expected.remove(&b"nothing"[..]);
        expected
    };

    for _ in 0..2 {
        let run = import(&node, &place.from, "p/");
        for named in
            ["nothing: skipped: empty directory", "link: skipped: symbolic link", "socket: skipped: pipe"]
        {
            assert!(run.stderr.contains(named), "{}", run.stderr);
        }
        let summary = run.json(0);
        assert_eq!((&summary["files"], &summary["files_in_parts"]), (&json!(12), &json!(4)));
        let skipped = json!({ "symbolic_links": 1, "empty_directories": 1, "special_files": 1 });
        assert_eq!((&summary["skipped"], &summary["failed"]), (&skipped, &json!(0)));
        let total: usize = expected.values().map(Vec::len).sum();
        assert_eq!(summary["bytes"], json!(total));
        assert_eq!(parts(&node, "p/large").len(), 18, "old parts are deleted");
    }
    assert_eq!(node.value("p/magic").unwrap().len(), 40);
    assert_eq!(parts(&node, "p/magic").len(), 1);
    node.put("q", "not below the prefix");

    let summary = export(&node, &place.to, &["--prefix", "p/"]).json(0);
    assert_eq!(summary["files"], json!(12));
    assert_eq!(files(&place.to), expected);

    let refused = export(&node, &place.to, &["--prefix", "p/"]).failure(5);
    assert!(refused.contains("--yes"), "{refused}");
    std::fs::write(place.to.join("large"), b"other").unwrap();
    std::fs::write(place.to.join("mine"), b"stays").unwrap();
    node.state().expired_pages = 3;
    export(&node, &place.to, &["--prefix", "p/", "--yes"]).json(0);
    let mut expected = expected;
    expected.insert(b"mine".to_vec(), b"stays".to_vec());
    assert_eq!(files(&place.to), expected);
}

fn files_without(root: &Path, names: &[&str]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let hidden: Vec<_> = names.iter().map(|name| root.join(name)).collect();
    let aside = root.with_file_name("aside");
    std::fs::create_dir(&aside).unwrap();
    for path in &hidden {
        std::fs::rename(path, aside.join(path.file_name().unwrap())).unwrap();
    }
    let files = files(root);
    for path in &hidden {
        std::fs::rename(aside.join(path.file_name().unwrap()), path).unwrap();
    }
    files
}

#[test]
fn values_are_read_in_pieces() {
    let (node, place) = (Node::start(kv_api::Limits::default()), place());
    let value = content((20 << 20) + 5, 3);
    write(&place.from, b"big", &value);
    assert_eq!(import(&node, &place.from, "").json(0)["files_in_parts"], json!(0));
    export(&node, &place.to, &[]).json(0);
    assert!(files(&place.to)[&b"big"[..]] == value);
}

#[test]
fn a_file_replaces_what_was_there_whatever_its_size() {
    let (node, place) = (Node::start(small_limits()), place());
    for (round, bytes) in [5000, 10, 3000, 0, 40_000, 1000].into_iter().enumerate() {
        write(&place.from, b"f", &content(bytes, round as u8));
        import(&node, &place.from, "").json(0);
        let expected = if bytes > 1000 { bytes.div_ceil(1000) } else { 0 };
        assert_eq!(parts(&node, "f").len(), expected, "round {round}");
        export(&node, &place.to, &["--yes"]).json(0);
        assert!(files(&place.to) == files(&place.from), "round {round}");
    }
}

#[test]
fn parts_of_an_import_that_was_killed_are_skipped_and_then_deleted() {
    let (node, place) = (Node::start(small_limits()), place());
    node.put("f\0part\x000123456789abcdef\x000000000000", "orphan");
    node.put("f", "before");
    export(&node, &place.to, &[]).json(0);
    assert_eq!(files(&place.to), BTreeMap::from([(b"f".to_vec(), b"before".to_vec())]));
    write(&place.from, b"f", b"after");
    import(&node, &place.from, "").json(0);
    assert_eq!(node.keys(), ["f"]);
}

#[test]
fn writes_of_unknown_outcome_are_repeated() {
    let (node, place) = (Node::start(small_limits()), place());
    write(&place.from, b"large", &content(3000, 1));
    write(&place.from, b"small", b"x");
    // Enough for every write of both files to be done twice at least.
    node.state().unknown_writes = 6;
    import(&node, &place.from, "").json(0);
    assert_eq!(parts(&node, "large").len(), 3);
    export(&node, &place.to, &[]).json(0);
    assert!(files(&place.to) == files(&place.from));
}

#[test]
fn an_import_and_an_export_go_through_restarts_of_the_node() {
    let (mut node, place) = (Node::start(small_limits()), place());
    for n in 0..600 {
        write(&place.from, format!("{}/{n}", n % 7).as_bytes(), &content(n * 2, n as u8));
    }
    for args in [["import", "from"], ["export", "to"]] {
        let path = place.from.with_file_name(args[1]);
        let mut command = command(&node);
        let mut child =
            command.arg(args[0]).arg(path).args(["-o", "json"]).stdout(Stdio::piped()).spawn().unwrap();
        for _ in 0..2 {
            let before = node.state().requests;
            while node.state().requests < before + 150 {
                assert_eq!(child.try_wait().unwrap(), None, "{} ended too early to be disturbed", args[0]);
                std::thread::sleep(Duration::from_millis(1));
            }
            node.restart(Duration::from_millis(200));
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["files"], json!(600));
    }
    assert!(files(&place.to) == files(&place.from));
}

#[test]
fn two_imports_of_one_file_do_not_mix() {
    let (node, place) = (Node::start(small_limits()), place());
    write(&place.from, b"f", &content(5000, 1));
    // When the last part is in, another import deletes all parts it finds.
    node.state().meddler = Some((b"\x000000000004", Bytes::from_static(b"f\0part\0"), None));
    import(&node, &place.from, "").json(0);
    assert!(node.state().meddler.is_none());
    assert_eq!(parts(&node, "f").len(), 5);
    export(&node, &place.to, &[]).json(0);
    assert!(files(&place.to) == files(&place.from));
}

#[test]
fn a_damaged_file_is_named_and_the_others_are_written() {
    let (node, place) = (Node::start(small_limits()), place());
    for name in ["checksum", "header", "missing", "short"] {
        write(&place.from, name.as_bytes(), &content(2500, 1));
    }
    write(&place.from, b"whole", &content(2500, 2));
    import(&node, &place.from, "d/").json(0);
    let part = |name: &str| parts(&node, name)[1].clone();
    let (missing, short, checksum) = (part("d/missing"), part("d/short"), part("d/checksum"));
    node.state().map.remove(&missing);
    node.put(short, content(999, 1));
    node.put(checksum, content(1000, 9));
    node.put("d/header", "KVPARTS1 and nothing else");
    let run = export(&node, &place.to, &["--prefix", "d/"]);
    for named in ["d/missing: part 1 ", "d/short: part 1 ", "d/checksum: its parts", "d/header: begins like"]
    {
        assert!(run.stderr.contains(named), "{}", run.stderr);
    }
    let summary = run.json(6);
    assert_eq!((&summary["files"], &summary["damaged"]), (&json!(1), &json!(4)));
    assert_eq!(files(&place.to).keys().collect::<Vec<_>>(), [&b"whole"[..]]);
}

#[test]
fn keys_that_are_no_safe_path_are_named_and_skipped() {
    let (node, place) = (Node::start(small_limits()), place());
    let outside = place.to.with_file_name("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::create_dir_all(&place.to).unwrap();
    std::os::unix::fs::symlink(&outside, place.to.join("link")).unwrap();
    for key in [
        "p", "p../x", "p/abs", "pa//b", "pa/./b", "pa\0b", "pf", "pf/below", "pf!", "pgood", "plink/x", "pd/",
    ] {
        node.put(key, key);
    }
    node.put(["p", &"n".repeat(300)].concat(), "too long for a name");
    let run = export(&node, &place.to, &["--prefix", "p", "--yes"]);
    for named in [
        "p: skipped: nothing",
        "p../x: skipped: '.'",
        "p/abs: skipped: behind",
        "pa//b: skipped: '.'",
        "pa/./b: skipped: '.'",
        r"pa\x00b: skipped: a file name",
        "pf/below: skipped: its directory would have to be the file of the key pf",
        "plink/x: a file or link",
        "pd/: skipped: '.'",
        "nnn: ",
    ] {
        assert!(run.stderr.contains(named), "{named}: {}", run.stderr);
    }
    let summary = run.json(1);
    assert_eq!(summary["skipped"], json!({ "unsafe_keys": 7, "below_files": 1 }));
    assert_eq!((&summary["files"], &summary["failed"]), (&json!(3), &json!(2)));
    let written = ["f", "f!", "good"].map(|name| name.as_bytes().to_vec());
    assert_eq!(files(&place.to).into_keys().collect::<Vec<_>>(), written);
    assert!(files(&outside).is_empty());
}

#[test]
fn a_data_directory_is_no_target() {
    let (node, place) = (Node::start(small_limits()), place());
    write(&place.to, b"CURRENT", b"");
    write(&place.to, b"LOCK", b"");
    let error = export(&node, &place.to, &["--yes"]).failure(1);
    assert!(error.contains("data directory"), "{error}");
}

#[test]
fn what_cannot_be_imported_is_named_and_the_rest_is_imported() {
    let (node, place) = (Node::start(small_limits()), place());
    write(&place.from, b"a", b"1");
    write(&place.from, b"z", b"2");
    // More parts than a batch with such long names has conditions.
    let long = ["l".repeat(200), "l".repeat(200), "l".repeat(200)].join("/");
    write(&place.from, long.as_bytes(), &content(40_000, 1));
    let too_long = vec!["k".repeat(250); 4].join("/");
    write(&place.from, too_long.as_bytes(), b"the key is too long");
    let run = import(&node, &place.from, "");
    assert!(run.stderr.contains("bytes are too many"), "{}", run.stderr);
    assert!(run.stderr.contains("key too large"), "{}", run.stderr);
    let summary = run.json(1);
    assert_eq!((&summary["files"], &summary["failed"]), (&json!(2), &json!(2)));
    assert_eq!(node.keys(), ["a", "z"]);

    let error = import(&node, &place.from.join("none"), "").failure(1);
    assert!(error.contains("none"), "{error}");
    let error = import(&node, &place.from.join("a"), "").failure(1);
    assert!(error.contains("not a directory"), "{error}");
}

#[test]
fn nobody_there_is_said_soon() {
    let (node, place) = (Node::start(small_limits()), place());
    write(&place.from, b"a", b"1");
    for args in [["import", "from"], ["export", "to"]] {
        let path = place.from.with_file_name(args[1]);
        let run = kvadmin(
            &node,
            [
                args[0].as_ref(),
                path.as_os_str(),
                "--endpoints=127.0.0.1:1".as_ref(),
                "--timeout=0.3".as_ref(),
            ],
        );
        run.failure(7);
    }
    assert!(!place.to.exists());
}

#[test]
fn progress_goes_to_standard_error() {
    let (node, place) = (Node::start(small_limits()), place());
    write(&place.from, b"a", b"1");
    let run = kvadmin(&node, [OsStr::new("import"), place.from.as_os_str(), "--progress".as_ref()]);
    let text = run.stdout(0);
    assert!(text.starts_with("imported 1 files (0 in parts), 1 bytes in "), "{text}");
    let quiet: Value = import(&node, &place.from, "").json(0);
    assert_eq!(quiet["files"], json!(1));
}

//! manifest, vlog, sst and check, on data directories that the embedded engine made.

use std::path::Path;

use kv_lsm::{Db, Options};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::run::{Run, alone};

/// Runs a command on a data directory.
fn at(dir: &Path, line: &str) -> Run {
    let dir = dir.to_str().unwrap();
    alone(line.split_whitespace().chain(["--data-dir", dir]))
}

fn bytes_at(dir: &Path, line: &str) -> Vec<u8> {
    at(dir, line).bytes(0)
}

fn json_at(dir: &Path, line: &str, code: i32) -> Value {
    at(dir, &format!("-o json {line}")).json(code)
}

fn fill(dir: &Path) -> Db {
    let db = Db::open(dir, Options { segment_bytes: 64 << 10..=64 << 10, ..Options::default() }).unwrap();
    for n in 0..40u8 {
        db.put(&[b'k', n], vec![n; 3]).unwrap();
        db.put(format!("key{n:02}").as_bytes(), (0..4000u32).map(|m| (m * m / 8) as u8).collect::<Vec<_>>())
            .unwrap();
    }
    db.delete(b"key07").unwrap();
    db.store().flush().unwrap();
    db
}

fn closed() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).close().unwrap();
    dir
}

/// Flips a byte in the one file of this kind that comes first.
fn damage(dir: &Path, suffix: &str, offset: usize) -> String {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let file = files.into_iter().find(|file| file.to_str().unwrap().ends_with(suffix)).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.get_mut(offset).unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    file.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_whole_directory_passes_and_is_shown() {
    let dir = closed();
    let report = json_at(dir.path(), "check", 0);
    assert_eq!((&report["keys"], &report["problems"]), (&json!(79), &json!([])));
    assert_eq!((&report["applied"], &report["applied_term"]), (&json!(81), &json!(1)));
    assert_eq!(report["content_hash"].as_str().unwrap().len(), 32);
    let text = at(dir.path(), "check").stdout(0);
    assert!(text.contains("79 keys") && text.ends_with("no damage\n"), "{text}");
    assert_eq!(json_at(dir.path(), "check", 0), report, "looking changed something");

    let manifest = json_at(dir.path(), "manifest inspect --changes", 0);
    assert_eq!(manifest["flushed"], json!({ "term": 1, "index": 81 }));
    assert_eq!(manifest["tables"][0]["smallest"], "awA=");
    assert!(manifest["segments"][0]["sealed"]["end"].is_u64());
    assert_eq!(manifest["changes"][0]["edits"][0]["edit"], "Identity");
    assert!(at(dir.path(), "manifest inspect --changes").stdout(0).contains("  flush  "));
    assert!(json_at(dir.path(), "manifest inspect", 0).get("changes").is_none());
    let text = at(dir.path(), "manifest inspect").stdout(0);
    let options = "base_bytes = 268435456  comparator = bytewise  level_multiplier = 10  levels = 7";
    assert!(text.contains(options), "{text}");
    assert_eq!(manifest["identity"]["options"]["level_multiplier"], "10");
    assert_eq!(json_at(dir.path(), "manifest check", 0)["problems"], json!([]));
    assert!(at(dir.path(), "manifest check").stdout(0).ends_with(" 0 problems\n"));

    let (id, segment) = (&manifest["tables"][0]["id"], &manifest["segments"][0]["segment"]);
    assert_eq!(json_at(dir.path(), "sst list", 0)["tables"], manifest["tables"]);
    let table = json_at(dir.path(), &format!("sst inspect {id} --keys --limit 3"), 0);
    assert_eq!(
        (&table["refs"], table["versions"].as_array().unwrap().len()),
        (&manifest["tables"][0]["refs"], 3)
    );
    assert_eq!(
        (&table["versions"][0]["key"], &table["versions"][0]["kind"]),
        (&json!("awA="), &json!("inline"))
    );
    assert!(at(dir.path(), &format!("sst inspect {id} --keys")).stdout(0).contains("key07"));

    let list = json_at(dir.path(), "vlog list", 0);
    assert_eq!((&list["segments"][0]["segment"], &list["segments"][0]["sealed"]), (segment, &json!(true)));
    let verified = json_at(dir.path(), "vlog verify", 0);
    assert_eq!((&verified["damages"], &verified["records"]), (&json!([]), &report["records"]));
    let inspected = json_at(dir.path(), &format!("vlog inspect {segment}"), 0);
    assert_eq!(inspected["end"], manifest["segments"][0]["sealed"]["end"]);
    let records =
        inspected["groups"].as_array().unwrap().iter().flat_map(|g| g["records"].as_array().unwrap());
    let first = records.clone().find(|record| record["kind"] == "entry").unwrap();
    assert_eq!((&first["ops"][0]["key"], &first["ops"][0]["kind"]), (&json!("awA="), &json!("put")));
    let limited = json_at(dir.path(), &format!("vlog inspect {segment} --limit 2"), 0);
    assert!(records.count() > 2 && limited["end"].is_null());
    assert!(at(dir.path(), &format!("vlog inspect {segment}")).stdout(0).contains(r"k\x00"));
}

#[test]
fn what_is_not_there_is_4_and_no_data_is_1() {
    let dir = closed();
    for line in ["vlog inspect 999", "sst inspect 999"] {
        let error = at(dir.path(), line).failure(4);
        assert!(error.contains("999") && error.contains("MANIFEST-"), "{error}");
    }
    let empty = tempfile::tempdir().unwrap();
    let everything = ["check", "manifest inspect", "manifest check", "vlog list", "vlog verify", "sst list"];
    for line in everything.into_iter().chain(["vlog inspect 1", "sst inspect 1"]) {
        assert!(at(empty.path(), line).failure(1).contains("holds no data"), "{line}");
        at(&empty.path().join("nowhere"), line).failure(1);
    }
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0, "a lock file was left");
}

#[test]
fn damage_is_6_and_named() {
    let dir = closed();
    let file = damage(dir.path(), ".seg", 4096 + 20);
    let report = json_at(dir.path(), "check", 6);
    assert_eq!(
        (&report["problems"][0]["file"], &report["problems"][0]["offset"]),
        (&json!(file), &json!(4096))
    );
    assert!(at(dir.path(), "check").stdout(6).starts_with(&format!("damaged: {file}, offset 4096: ")));
    assert!(at(dir.path(), "vlog verify").stdout(6).contains(&file));
    let inspected = json_at(dir.path(), "vlog inspect 1", 6);
    assert!(inspected["damaged"].as_str().unwrap().contains(&file));

    let dir = closed();
    let id = json_at(dir.path(), "sst list", 0)["tables"][0]["id"].clone();
    let file = damage(dir.path(), ".sst", 40);
    assert_eq!(json_at(dir.path(), "check", 6)["problems"][0]["file"], json!(file));
    assert!(at(dir.path(), &format!("sst inspect {id} --keys")).stderr.contains(&file));
    std::fs::remove_file(dir.path().join(&file)).unwrap();
    assert_eq!(json_at(dir.path(), "manifest check", 6)["problems"][0]["file"], json!(file));
    assert!(at(dir.path(), "manifest check").stdout(6).contains("missing"));
    assert!(at(dir.path(), &format!("sst inspect {id}")).failure(1).contains("kvadmin check"));

    damage(dir.path(), "CURRENT", 15);
    for line in ["manifest inspect", "manifest check", "vlog list", "sst list"] {
        assert!(at(dir.path(), line).failure(6).contains("CURRENT"), "{line}");
    }
    assert_eq!(json_at(dir.path(), "check", 6)["problems"][0]["file"], "CURRENT");
}

#[test]
fn a_directory_in_use_can_be_inspected_but_not_checked() {
    let dir = tempfile::tempdir().unwrap();
    let db = fill(dir.path());
    let error = at(dir.path(), "check").failure(1);
    assert!(error.contains(&format!("in use by pid {}", std::process::id())), "{error}");
    for line in
        ["manifest inspect", "manifest check", "vlog list", "vlog verify", "sst list", "vlog inspect 1"]
    {
        at(dir.path(), line).stdout(0);
    }
    drop(db); // as a kill
    json_at(dir.path(), "check", 0);
}

#[test]
fn a_torn_tail_is_a_note() {
    let dir = tempfile::tempdir().unwrap();
    drop(fill(dir.path()));
    let segments = json_at(dir.path(), "manifest inspect", 0)["segments"].clone();
    let open = segments.as_array().unwrap().iter().find(|segment| segment["sealed"].is_null()).unwrap();
    let file = dir.path().join(format!("{:08}.seg", open["file"].as_u64().unwrap()));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.extend_from_slice(&[b'x'; 4096]);
    std::fs::write(&file, bytes).unwrap();
    assert!(at(dir.path(), "check").stdout(0).contains("note: "));
    let inspected = at(dir.path(), &format!("vlog inspect {}", open["segment"]));
    assert!(inspected.stderr.contains("note: ") && inspected.code == 0, "{inspected:?}");
    assert!(at(dir.path(), "vlog verify").stderr.contains("note: "));
}

#[test]
fn a_damaged_directory_is_repaired_and_what_is_lost_is_listed() {
    let dir = closed();
    let home = tempfile::tempdir().unwrap();
    let repair = |name: &str| {
        let into = home.path().join(name);
        alone(["-o", "json", "repair", dir.path().to_str().unwrap(), "--into", into.to_str().unwrap()])
    };
    let report = repair("whole").json(0);
    assert_eq!((&report["complete"], &report["keys"]), (&json!(true), &json!(79)));
    let checked = json_at(&home.path().join("whole"), "check", 0);
    assert_eq!(checked["content_hash"], json_at(dir.path(), "check", 0)["content_hash"]);
    assert!(repair("whole").failure(1).contains("there already"));

    let lost = damage(dir.path(), ".seg", 3);
    std::fs::remove_file(dir.path().join(&lost)).unwrap();
    let report = repair("rest").json(6);
    assert_eq!((&report["complete"], &report["problems"][0]["file"]), (&json!(false), &json!(lost)));
    let (lost, kept) = (report["lost_keys"]["count"].as_u64().unwrap(), report["keys"].as_u64().unwrap());
    assert!(lost > 0 && lost + kept == 79, "{report}");
    assert_eq!(json_at(&home.path().join("rest"), "check", 0)["keys"], kept);
    let into = home.path().join("text");
    let text = alone(["repair", dir.path().to_str().unwrap(), "--into", into.to_str().unwrap()]).stdout(6);
    assert!(
        text.contains("lost: key key") && text.contains(&format!("{lost} keys known to be lost")),
        "{text}"
    );
    let empty = tempfile::tempdir().unwrap();
    let into = home.path().join("none");
    let run = alone(["repair", empty.path().to_str().unwrap(), "--into", into.to_str().unwrap()]);
    assert!(run.failure(1).contains("holds no data"));
}

#[test]
fn a_segment_is_searched_and_a_value_is_taken_out_of_it() {
    let dir = closed();
    let inspect = |line: &str| json_at(dir.path(), &format!("vlog inspect 1 {line}"), 0);
    let ops = |json: &Value| -> Vec<Value> {
        let records =
            json["groups"].as_array().unwrap().iter().flat_map(|group| group["records"].as_array().unwrap());
        records.flat_map(|record| record["ops"].as_array().unwrap().clone()).collect()
    };
    let found = ops(&inspect("--key key03"));
    assert_eq!(found.len(), 1);
    let (offset, crc) = (found[0]["offset"].as_u64().unwrap(), found[0]["value_crc"].as_u64());
    assert!(crc.is_some());
    let dumped = bytes_at(dir.path(), &format!("vlog inspect 1 --dump-value {offset}"));
    assert_eq!(dumped, (0..4000u32).map(|m| (m * m / 8) as u8).collect::<Vec<_>>());
    let file = dir.path().join("dumped");
    let line = format!("vlog inspect 1 --dump-value {offset} --out {}", file.to_str().unwrap());
    assert_eq!(bytes_at(dir.path(), &line), b"");
    assert_eq!(std::fs::read(&file).unwrap(), dumped);
    assert!(at(dir.path(), "vlog inspect 1 --dump-value 5").failure(4).contains("no value begins"));

    let puts = ops(&inspect("--kind put --from-index 3 --to-index 6"));
    assert!(puts.len() == 4 && puts.iter().all(|op| op["kind"] == "put"), "{puts:?}");
    assert_eq!(inspect("--term 9")["groups"], json!([]));
    assert_eq!(inspect("--remap")["moves"], json!([]));
    let text = at(dir.path(), "vlog inspect 1 --limit 2").stdout(0);
    assert!(text.contains("CRC") && text.contains("put"), "{text}");
}

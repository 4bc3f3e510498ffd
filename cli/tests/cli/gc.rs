//! Value GC, against a node and on a data directory in which it has run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kv_api::Limits;
use kv_lsm::{Db, Environment, Options};
use kv_vfs::{ManualClock, RealVfs, SteppedExecutor};
use serde_json::{Value, json};

use crate::node::Node;
use crate::run::{Run, alone, kvadmin};

fn at(dir: &Path, line: &str) -> Run {
    let dir = dir.to_str().unwrap();
    alone(line.split_whitespace().chain(["--data-dir", dir]))
}

fn json_at(dir: &Path, line: &str) -> Value {
    at(dir, &format!("-o json {line}")).json(0)
}

fn overwrite(db: &Db, round: u32) {
    for n in 0..60u32 {
        let value: Vec<u8> = (0..4000u32).map(|m| (m * m / 8 + n * round) as u8).collect();
        db.put(format!("key{n:02}").as_bytes(), value).unwrap();
    }
    db.store().flush().unwrap();
}

/// All keys written three times, and what was garbage collected after the second time.
fn collected() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let executor = SteppedExecutor::new(clock.clone());
    let environment = Environment { vfs: Arc::new(RealVfs), clock, executor: Arc::new(executor.clone()) };
    let options = Options { segment_bytes: 64 << 10..=64 << 10, ..Options::default() };
    let db = Db::open_in(&environment, dir.path(), options).unwrap();
    db.store().gc_pause();
    // Four tables of level 0 are compacted, which shows what is garbage.
    (1..=4).for_each(|round| overwrite(&db, round));
    executor.advance(Duration::from_millis(100));
    let store = db.store();
    store.purge(store.purge_candidate(0).unwrap()).unwrap();
    assert!(!store.gc_run().unwrap().is_empty());
    overwrite(&db, 5);
    db.close().unwrap();
    dir
}

#[test]
fn a_collected_directory_is_shown_and_explained() {
    let dir = collected();
    let dir = dir.path();
    let report = json_at(dir, "check");
    assert_eq!((&report["keys"], &report["problems"]), (&json!(60), &json!([])));
    let verified = json_at(dir, "vlog verify");
    assert_eq!((&verified["damages"], &verified["records"]), (&json!([]), &report["records"]));

    let list = json_at(dir, "vlog list");
    let segments = list["segments"].as_array().unwrap();
    let moved = segments.iter().find(|segment| segment["moved"] == true).unwrap();
    let owner = segments.iter().find(|s| s["file"] == moved["file"] && s["moved"] == false).unwrap();
    assert!(at(dir, "vlog list").stdout(0).contains("moved"));
    assert!(segments.iter().all(|segment| segment["pins"].is_null()), "nobody can tell");
    // What is shown of a moved segment is where its values are.
    let inspected = json_at(dir, &format!("vlog inspect {}", moved["segment"]));
    assert_eq!(inspected, json_at(dir, &format!("vlog inspect {}", owner["segment"])));

    let remap = json_at(dir, &format!("vlog inspect {} --remap", moved["segment"]));
    assert_eq!(remap["segment"], owner["segment"]);
    let moves = remap["moves"].as_array().unwrap();
    let of_moved = moves.iter().find(|place| place["segment"] == moved["segment"]).unwrap();
    let value =
        at(dir, &format!("vlog inspect {} --dump-value {}", owner["segment"], of_moved["to"])).bytes(0);
    assert_eq!(value.len(), 4000);
    assert!(
        at(dir, &format!("vlog inspect {} --remap --limit 1", owner["segment"])).stdout(0).contains("OFFSET")
    );

    let plan = json_at(dir, "vlog gc plan");
    let files = plan["files"].as_array().unwrap();
    let file = files.iter().find(|file| file["file"] == moved["file"]).unwrap();
    assert!(file["segments"].as_array().unwrap().contains(&moved["segment"]));
    let explained = json_at(dir, &format!("vlog gc explain {}", moved["segment"]));
    assert_eq!(&explained["file"], file);
    // Behind the segments come files that are kept to be written again.
    let last = segments.iter().rfind(|line| line["free"] == false).unwrap()["segment"].as_u64().unwrap();
    let text = at(dir, &format!("vlog gc explain {last}")).stdout(0);
    assert!(text.contains(&format!("segment {last}, file ")), "{text}");
    assert!(at(dir, "vlog gc plan --any-garbage").stdout(0).contains("WHY"));
    assert!(at(dir, "vlog gc explain 9999").failure(4).contains("9999"));

    let history = json_at(dir, "manifest history --cause gc");
    let change = &history["changes"][0];
    assert_eq!(change["cause"], "gc");
    let number = change["number"].as_u64().unwrap();
    let then = json_at(dir, &format!("manifest at {number}"));
    let before = json_at(dir, &format!("manifest at {}", number - 1));
    assert_eq!(then["number"], number);
    let is_moved = |manifest: &Value| {
        let segments = manifest["segments"].as_array().unwrap().clone();
        segments.iter().find(|s| s["segment"] == moved["segment"]).unwrap()["remapped"] == true
    };
    assert!(is_moved(&then) && !is_moved(&before));
    let one = json_at(dir, &format!("manifest history --from {number} --to {number}"));
    assert_eq!(one["changes"].as_array().unwrap().len(), 1);
    let of_segment = json_at(dir, &format!("manifest history --segment {} --last 1", moved["segment"]));
    assert_eq!(of_segment["changes"][0]["number"], number);
    assert!(at(dir, "manifest at 99999").failure(4).contains("99999"));

    let rewritten = at(dir, "manifest rewrite").stdout(0);
    assert!(rewritten.contains("MANIFEST-"), "{rewritten}");
    assert_eq!(json_at(dir, "check")["content_hash"], report["content_hash"]);
    assert_eq!(json_at(dir, "manifest history")["changes"].as_array().unwrap().len(), 1);
    assert_eq!(json_at(dir, "vlog gc plan"), plan);
}

#[test]
fn a_rewrite_is_refused_while_the_directory_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    assert!(at(dir.path(), "manifest rewrite").failure(1).contains("in use"));
    db.close().unwrap();
}

#[test]
fn a_node_is_asked() {
    let node = Node::start(Limits::default());
    let run = |line: &str| kvadmin(&node, line.split_whitespace());
    assert_eq!(run("-o json vlog gc plan").json(0)["plan"], Value::Null);
    let text = run("vlog gc plan").stdout(0);
    assert!(text.starts_with("nothing to collect\n") && text.contains("file 90 "), "{text}");
    let text = run("vlog gc plan --any-garbage").stdout(0);
    assert!(text.starts_with("collect 1 files") && text.contains("reclaim 750"), "{text}");
    let text = run("vlog gc run").stdout(0);
    assert!(text.contains("write 250") && text.contains("251 written"), "{text}");
    assert!(text.contains("reclaim 750") && text.contains("749 reclaimed"), "{text}");
    let done = run("-o json vlog gc run").json(0)["runs"][0]["done"].clone();
    assert_eq!((&done["written_bytes"], &done["reclaimed_bytes"]), (&json!(251), &json!(749)));
    assert_eq!(run("-o json vlog gc pause").json(0), json!({ "paused": true }));
    let text = run("vlog gc explain 18").stdout(0);
    assert!(text.contains("below ratio") && text.contains("paused"), "{text}");
    assert!(text.contains("file of segment 17"), "18 was moved: {text}");
    assert!(text.contains("file 90 (400 bytes) is given up, but kept by exports or transfers (1)"), "{text}");
    assert!(text.contains("2 open snapshots"), "{text}");
    let text = run("vlog gc explain 16").stdout(0);
    assert!(text.contains("segment 16 is given up") && text.contains("kept by exports"), "{text}");
    let json = run("-o json vlog gc explain 16").json(0);
    let pin = json!({ "by": "exports or transfers", "count": 1 });
    assert_eq!((&json["file"], &json["held"][0]["pins"]), (&Value::Null, &json!([pin])));
    let lines = run("-o json vlog list").json(0)["segments"].clone();
    assert_eq!((&lines[0]["file"], &lines[0]["pins"]), (&json!(93), &json!([pin])));
    assert_eq!((&lines[1]["file"], &lines[1]["state"]), (&json!(90), &json!("given up")));
    assert!(run("vlog list").stdout(0).contains("exports or transfers (1)"));
    run("vlog gc resume").stdout(0);
    assert!(!run("vlog gc explain 18").stdout(0).contains("paused"));
    assert!(run("vlog gc explain 19").failure(4).contains("no segment 19"));
}

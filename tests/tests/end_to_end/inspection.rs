//! What a node says of its segments is what its directory says, looked at beside it and when it has ended.

use std::path::Path;
use std::time::Duration;

use kv_tests::{Launch, Node, kvadmin};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use serde_json::Value;

const KEYS: u64 = 300;
const VALUE_BYTES: usize = 80 << 10;
/// How long a node may take to compact and to purge, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);
/// How often to look for a moment in which nothing changes.
const ATTEMPTS: u32 = 100;

/// What is said at one moment.
struct Said {
    list: Vec<Value>,
    plan: Value,
    /// Of each segment.
    explained: Vec<Value>,
}

/// Broken by: figures of a running node that are not those of its manifest, and an explanation of what is on the disk
/// that differs from what the node goes by.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_and_its_directory_say_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // Files are of no age, since a directory does not know any.
    let node = Launch::new(&data).setting("engine.gc_age_ms", 0).start();
    node.kvadmin(["vlog", "gc", "pause"]).expect(0);
    overwrite(&node).await;
    let before = the_same(&node, &data);
    assert!(before.plan["plan"].is_object() && !states(&before).contains(&"moved"), "{}", before.plan);
    collect(&node);
    let live = the_same(&node, &data);
    assert!(live.plan["totals"]["runs"].as_u64() > Some(0));
    for state in ["active", "sealed", "moved"] {
        assert!(states(&live).contains(&state), "{:?}", states(&live));
    }
    let history = offline(&data, "manifest history")["changes"].as_array().unwrap().clone();
    node.terminate().expect(0);
    after_the_end(&live, &history, &data);
}

fn states(said: &Said) -> Vec<&str> {
    said.list.iter().map(|line| line["state"].as_str().unwrap()).collect()
}

/// Compares what a node and its directory say at one moment.
fn the_same(node: &Node, data: &Path) -> Said {
    let (live, beside) = at_one_moment(node, data);
    same_list(&live.list, &beside.list);
    same_plan(&live.plan, &beside.plan);
    for (live, beside) in live.explained.iter().zip(&beside.explained) {
        assert_eq!(live["moved"], beside["moved"]);
        same_file(&live["file"], &beside["file"]);
    }
    live
}

/// All keys, and two fifths of them again and again, until what is garbage shows in tables: of what does not show there
/// is nothing to say.
async fn overwrite(node: &Node) {
    let client = node.client();
    let mut bytes = vec![0; VALUE_BYTES];
    let mut random = StdRng::seed_from_u64(1);
    for turn in 0..5 {
        for number in (0..KEYS).filter(|number| turn == 0 || number % 5 == turn % 2) {
            random.fill_bytes(&mut bytes);
            client.put(format!("key{number}"), bytes.clone()).await.unwrap();
        }
        client.admin().flush().await.unwrap();
    }
    let shows = async {
        while client.admin().gc_status(false).await.unwrap().plan.is_none_or(|plan| plan.values < 10) {}
    };
    tokio::time::timeout(DEADLINE, shows).await.unwrap();
}

/// What was foreseen and what was done, as they are shown: within two in a hundred.
fn collect(node: &Node) {
    let ran = asked(node, "vlog gc run");
    let runs = ran["runs"].as_array().unwrap();
    let mut values = 0;
    for run in runs {
        for what in ["read_bytes", "written_bytes", "reclaimed_bytes"] {
            let [foreseen, done] = ["plan", "done"].map(|side| run[side][what].as_i64().unwrap());
            assert!((foreseen - done).abs() * 50 <= done.abs(), "{what}: {run}");
        }
        values += run["done"]["values"].as_u64().unwrap();
    }
    assert!(values > 0, "{ran}");
}

fn asked(node: &Node, line: &str) -> Value {
    node.kvadmin(["-o", "json"].into_iter().chain(line.split(' '))).json(0)
}

fn offline(dir: &Path, line: &str) -> Value {
    let dir = ["--data-dir", dir.to_str().unwrap()];
    kvadmin("127.0.0.1:1", ["-o", "json"].into_iter().chain(line.split(' ')).chain(dir)).json(0)
}

fn said(ask: impl Fn(&str) -> Value) -> Said {
    let list = ask("vlog list")["segments"].as_array().unwrap().clone();
    let segments = list.iter().filter(|line| line["free"] == false);
    let explain = |line: &Value| ask(&format!("vlog gc explain {}", line["segment"]));
    Said { plan: ask("vlog gc plan"), explained: segments.map(explain).collect(), list }
}

/// Both, of a moment in which nothing has changed.
fn at_one_moment(node: &Node, dir: &Path) -> (Said, Said) {
    let look = || {
        let (number, list) = (offline(dir, "manifest inspect")["number"].clone(), asked(node, "vlog list"));
        let sizes = list["segments"].as_array().unwrap().iter().map(|line| line["bytes"].clone());
        (number, sizes.collect::<Vec<_>>())
    };
    let both = || {
        let before = look();
        let both = (said(|line| asked(node, line)), said(|line| offline(dir, line)));
        (before == look()).then_some(both)
    };
    (0..ATTEMPTS).find_map(|_| both()).unwrap()
}

/// Segment by segment. Of the one that is written, a directory knows the length of the file; for how long a file is
/// complete, and who reads, a node alone.
fn same_list(live: &[Value], beside: &[Value]) {
    assert_eq!(live.len(), beside.len());
    for (live, beside) in live.iter().zip(beside) {
        let is_active = live["state"] == "active";
        let fields =
            ["segment", "file", "live_bytes", "free", "sealed", "moved", "first_index", "last_index"];
        for field in fields
            .iter()
            .chain(&["state", "gc"])
            .chain(&["bytes", "garbage_bytes"][..if is_active { 0 } else { 2 }])
        {
            assert_eq!(live[field], beside[field], "{field}: {live} {beside}");
        }
        assert!(!is_active || live["bytes"].as_u64() <= beside["bytes"].as_u64(), "{live} {beside}");
        assert!(beside["age_ms"].is_null() && beside["pins"].is_null());
        let has_file = live["free"] == false && live["moved"] == false;
        assert_eq!(live["pins"].is_array(), has_file, "{live}");
    }
}

/// But for ages, and for what was done, or kept, by a process.
fn same_plan(live: &Value, beside: &Value) {
    assert_eq!((&live["plan"], &live["emergency"]), (&beside["plan"], &beside["emergency"]));
    assert_eq!((&live["paused"], &beside["paused"]), (&true.into(), &false.into()));
    let [mine, theirs] = [live, beside].map(|said| said["files"].as_array().unwrap());
    assert_eq!(mine.len(), theirs.len());
    mine.iter().zip(theirs).for_each(|(live, beside)| same_file(live, beside));
    assert_eq!(beside["totals"]["runs"], 0);
}

fn same_file(live: &Value, beside: &Value) {
    for field in ["file", "owner", "segments", "bytes", "live_bytes", "live_values", "chosen", "why"] {
        assert_eq!(live[field], beside[field], "{field}: {live} {beside}");
    }
    assert!(beside["age_ms"].is_null());
}

/// The end seals the segment that was written, and goes on in the manifest where it was.
fn after_the_end(live: &Said, history: &[Value], dir: &Path) {
    let ended = said(|line| offline(dir, line));
    let changes = offline(dir, "manifest history")["changes"].as_array().unwrap().clone();
    assert!(changes.len() > history.len() && changes.starts_with(history), "the history is another one");
    // What a compaction changes, if the node was idle for so long, is another story.
    let causes = changes[history.len()..].iter().map(|change| change["cause"].as_str().unwrap());
    if !causes.into_iter().any(|cause| cause.starts_with("compact")) {
        the_same_after_the_end(&live.list, &ended.list);
    }
    let state = offline(dir, "manifest inspect");
    assert_eq!(state["number"], changes.last().unwrap()["number"]);
    let segments: Vec<&Value> = state["segments"].as_array().unwrap().iter().map(|s| &s["segment"]).collect();
    let listed: Vec<&Value> =
        ended.list.iter().filter(|line| line["free"] == false).map(|line| &line["segment"]).collect();
    assert_eq!(segments, listed);
    assert_eq!(offline(dir, "check")["problems"], Value::Array(Vec::new()));
}

fn the_same_after_the_end(live: &[Value], ended: &[Value]) {
    let mut compared = 0;
    for line in live.iter().filter(|line| line["free"] == false) {
        let after = ended.iter().find(|after| after["segment"] == line["segment"]).unwrap();
        assert_eq!(after["sealed"], true, "{after}");
        for field in ["file", "live_bytes", "moved"] {
            assert_eq!(line[field], after[field], "{field}: {line} {after}");
        }
        if line["sealed"] == true {
            for field in ["bytes", "first_index", "last_index", "state"] {
                assert_eq!(line[field], after[field], "{field}: {line} {after}");
            }
            compared += 1;
        }
    }
    assert!(compared > 2);
}

//! How a node stops, and what the next one makes of what it finds.

use std::path::Path;

use bytes::Bytes;
use kv_tests::{Launch, Node, files, seed};
use kv_vfs::{BLOCK, RealVfs};
use kv_vlog::{GroupHeader, SegmentScanner};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::model::Model;

/// Broken by: a SIGTERM that drops what is under way after it was acknowledged, or a close that seals what
/// the next open cannot read.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_exits_with_0_and_keeps_what_was_acknowledged() {
    let mut rng = StdRng::seed_from_u64(seed());
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = Node::start(&data);
    let (ack, mut acks) = mpsc::unbounded_channel();
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let mut model = Model::new(&format!("writer{writer}/"), 20, StdRng::from_rng(&mut rng));
        let (client, ack) = (node.client().with_deadline(std::time::Duration::from_secs(2)), ack.clone());
        writers.spawn(async move {
            while model.write(&client).await.is_ok() {
                let _ = ack.send(());
            }
            model
        });
    }
    for _ in 0..100 {
        acks.recv().await.unwrap();
    }
    node.terminate().expect(0);
    let models = writers.join_all().await;
    let node = Node::start(&data);
    for mut model in models {
        model.check(&node.client()).await;
    }
    node.terminate().expect(0);
}

/// A value that can be found in a file.
fn mark(fill: u8) -> Bytes {
    Bytes::from([b"a mark that is nowhere else: ", [fill; 16].as_slice(), &[0x5a; 4_000]].concat())
}

/// The segment file that holds a value, and where.
fn find(data: &Path, value: &Bytes) -> (std::path::PathBuf, u64) {
    // Compressed values begin otherwise: the node must store them as they are.
    let held = |path: &std::path::PathBuf| {
        let place = files::read(path).windows(40).position(|window| window == &value[..40])?;
        Some((path.clone(), place as u64))
    };
    files::segments(data).iter().find_map(held).unwrap()
}

fn uncompressed(data: &Path) -> Launch {
    Launch::new(data).setting("engine.compression", "false")
}

/// The node refuses to start with exit code 6, names the file, what is wrong with it, and what to run.
#[track_caller]
fn refuses(data: &Path, file: &Path, wrong: &str) {
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    // The lock file says who was there last.
    let all_but_lock =
        || files::tree(data).into_iter().filter(|(name, _)| name != Path::new("LOCK")).collect::<Vec<_>>();
    let before = all_but_lock();
    uncompressed(data).run().fails(6, &["damaged", &name, wrong, "kvadmin check", "nothing was changed"]);
    assert!(before == all_but_lock(), "something was changed");
}

/// Broken by: a clean stop that does not say where the log ends, so that damage at its end passes for a
/// torn tail and an acknowledged write is cut away (Badger #434).
#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_last_write_of_a_cleanly_stopped_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = uncompressed(&data).start();
    node.client().put("first", mark(1)).await.unwrap();
    node.client().put("last", mark(2)).await.unwrap();
    node.terminate().expect(0);
    let (file, offset) = find(&data, &mark(2));

    files::flip_bit(&file, offset + 1_000);
    refuses(&data, &file, ", offset ");
    files::flip_bit(&file, offset + 1_000);

    let whole = files::read(&file);
    files::truncate(&file, offset + 100);
    refuses(&data, &file, "bytes long instead of");
    files::write(&file, &whole);

    let node = uncompressed(&data).start();
    assert_eq!(node.client().get("last").await.unwrap().unwrap().bytes, mark(2));
}

/// Broken by: cutting at any bad checksum, also where a later group says that this one was durable.
#[tokio::test(flavor = "multi_thread")]
async fn damage_before_the_end_of_a_killed_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = uncompressed(&data).start();
    for (key, fill) in [("first", 1), ("second", 2), ("third", 3)] {
        node.client().put(key, mark(fill)).await.unwrap();
    }
    node.kill();
    let (file, offset) = find(&data, &mark(1));
    files::flip_bit(&file, offset + 1_000);
    refuses(&data, &file, ", offset ");
    files::flip_bit(&file, offset + 1_000);
    let node = uncompressed(&data).start();
    assert_eq!(node.client().get("first").await.unwrap().unwrap().bytes, mark(1));
}

/// Broken by: taking a write that was cut off by the kill for damage, or reading anything of it; or by cutting
/// more than that.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_write_after_a_kill_is_cut_with_a_note() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = uncompressed(&data).start();
    node.client().put("first", mark(1)).await.unwrap();
    node.client().put("last", mark(2)).await.unwrap();
    node.kill();
    let file = files::segments(&data).pop().unwrap();
    let offset = write_half_a_group(&file);

    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    for starts in 0..3 {
        let node = uncompressed(&data).start();
        for (key, fill) in [("first", 1), ("last", 2)] {
            assert_eq!(node.client().get(key).await.unwrap().unwrap().bytes, mark(fill));
        }
        let note = format!("never acknowledged: {name}, offset {offset}");
        let stderr = node.kill().stderr;
        // It is said once: the cut is recorded.
        assert_eq!(stderr.contains(&note), starts == 0, "{note:?}: {stderr}");
    }
}

/// Writes the header of a group, as the node would have written it next, and only a part of what it announces.
/// Returns where.
fn write_half_a_group(file: &Path) -> u64 {
    let mut scanner = SegmentScanner::open(&RealVfs, file, None).unwrap();
    let mut last = None;
    while let Ok(found) = scanner.next_group().unwrap() {
        last = Some(found);
    }
    let last = last.unwrap();
    let offset = last.offset + u64::from(last.header.length);
    let next = GroupHeader {
        number: last.header.number + 1,
        durable_segment: last.header.segment,
        durable_end: offset,
        previous_crc: last.header.crc,
        length: 4 * BLOCK as u32,
        used: 3 * BLOCK as u32 + 5,
        records: 1,
        ..last.header
    };
    let (mut bytes, _) = next.encode();
    bytes.resize(2 * BLOCK, 0x77);
    files::patch(file, offset, &bytes);
    offset
}

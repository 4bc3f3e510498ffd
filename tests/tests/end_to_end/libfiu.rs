//! The real kvnode, whose calls of the C library fail: an outside check of what the file systems of our own say.
//!
//! libfiu is preloaded and fails what Rust's standard library calls: open, pread, pwrite, fdatasync, fsync (of
//! directories), ftruncate, rename, unlink. It does not reach what rustix does by system calls of its own, which
//! are preallocation, the lock of the directory and the free space; `FaultVfs` fails those, and the rest besides.
//! That is why rustix is not made to go through the C library for this: nothing that acknowledges depends on them.
//!
//! Skipped, with a word, where there is no `fiu-run` (Debian: `fiu-utils`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kv_tests::{Launch, Node, programs, seed};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinSet;

use crate::crash_loop::small;
use crate::model::Model;

const EIO: u32 = 5;
const ENOSPC: u32 = 28;

/// What must come of failing calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The node ends by itself.
    Ends,
    /// It ends or not: not every call of this name is about what was acknowledged.
    May,
}

/// Calls, by libfiu's name for them, and how they fail.
const CALLS: [(&str, u32, Then); 10] = [
    ("posix/io/sync/fdatasync", EIO, Then::Ends),
    ("posix/io/sync/fdatasync", ENOSPC, Then::Ends),
    ("posix/io/sync/fsync", EIO, Then::Ends),
    ("posix/io/rw/pwrite", EIO, Then::Ends),
    ("posix/io/rw/pwrite", ENOSPC, Then::Ends),
    ("posix/io/rw/ftruncate", EIO, Then::Ends),
    ("posix/io/oc/open", ENOSPC, Then::Ends),
    ("posix/io/rw/pread", EIO, Then::May),
    ("posix/io/dir/rename", EIO, Then::May),
    ("posix/io/dir/unlink", EIO, Then::May),
];

/// Nothing that is acknowledged is written less by this: the rest of a short write is written again.
const SHORT_WRITE: &str = "posix/io/rw/pwrite/reduce";

const WRITERS: u64 = 4;

/// `fiu-run`, if there is one.
fn fiu_run() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("fiu-run")).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: there is no fiu-run (Debian: fiu-utils)");
    }
    found
}

/// kvnode on this data directory with libfiu, which listens to `fiu-ctrl` and has had these commands.
fn launch(fiu_run: &Path, data: &Path, commands: &[String]) -> Launch {
    let mut launch = small(Launch::program(fiu_run, data)).arg("-x").arg("-f").arg(control(data));
    for command in commands {
        launch = launch.arg("-c").arg(command);
    }
    launch.arg(&programs().kvnode)
}

fn control(data: &Path) -> PathBuf {
    data.with_extension("fiu")
}

/// Tells libfiu in a running node.
fn tell(node: &Node, command: &str) {
    let mut tool = Command::new("fiu-ctrl");
    tool.arg("-f").arg(control(&node.dir)).args(["-c", command]).arg(node.process.id().to_string());
    let output = tool.output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{command}: {output:?}");
}

/// Each writer writes until a write fails, or so many times.
async fn write(node: &Node, models: Vec<Model>, times: usize) -> (Vec<Model>, usize) {
    let client = node.client().with_deadline(Duration::from_secs(2));
    let mut writers = JoinSet::new();
    for mut model in models {
        let client = client.clone();
        writers.spawn(async move {
            let mut written = 0;
            while written < times && model.write(&client).await.is_ok() {
                written += 1;
            }
            (model, written)
        });
    }
    let (models, written): (Vec<_>, Vec<_>) = writers.join_all().await.into_iter().unzip();
    (models, written.iter().sum())
}

async fn check(node: &Node, models: &mut [Model]) {
    for model in models {
        model.check(&node.client()).await;
    }
}

fn models(rng: &mut StdRng) -> Vec<Model> {
    (0..WRITERS).map(|n| Model::new(&format!("writer{n}/"), 10, StdRng::from_rng(rng))).collect()
}

/// Broken by: a failed call that is not looked at, or retried; an acknowledgement after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_system_calls_fail_loses_nothing() {
    let Some(fiu_run) = fiu_run() else { return };
    let mut rng = StdRng::seed_from_u64(seed());
    for (call, errno, then) in CALLS {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let node = launch(&fiu_run, &data, &[]).start();
        let (models, written) = write(&node, models(&mut rng), 10).await;
        assert_eq!(written as u64, 10 * WRITERS, "{call}: a write failed before any call did");
        tell(&node, &format!("enable name={call},failinfo={errno}"));
        let (mut models, written) = write(&node, models, 150).await;
        let ended = match then {
            Then::Ends => {
                let ended = node.process.wait();
                assert_eq!(ended.code, Some(1), "{call}, errno {errno}: {}", ended.stderr);
                assert!(ended.stderr.contains(&format!("(os error {errno})")), "{call}: {}", ended.stderr);
                ended
            }
            Then::May => node.kill(),
        };
        eprintln!("{call}, errno {errno}: {written} writes behind it, then {:?}", ended.code);
        assert!(!ended.stderr.contains("panicked"), "{call}: {}", ended.stderr);
        let node = small(Launch::new(&data)).start();
        check(&node, &mut models).await;
        node.terminate().expect(0);
    }
}

/// Broken by: a recovery that takes a failed call for an empty file or a missing one.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_system_calls_fail_now_and_then_starts_or_refuses() {
    let Some(fiu_run) = fiu_run() else { return };
    let mut rng = StdRng::seed_from_u64(seed());
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut models = models(&mut rng);
    let (mut started, mut refused) = (0, 0);
    for round in 0..20 {
        let (call, errno, _) = CALLS[round % CALLS.len()];
        let probability = [0.02, 0.2][rng.random_range(0..2)];
        let faults = [
            format!("enable_random name={call},probability={probability},failinfo={errno}"),
            format!("enable_random name={SHORT_WRITE},probability=0.1"),
        ];
        let node = match launch(&fiu_run, &data, &faults).try_start() {
            Ok(node) => node,
            Err(ended) => {
                refused += 1;
                assert!(ended.code.is_some_and(|code| code != 0), "{call}: {ended:?}");
                assert!(!ended.stderr.contains("panicked"), "{call}: {}", ended.stderr);
                continue;
            }
        };
        started += 1;
        models = write(&node, models, 20).await.0;
        let ended = node.kill();
        assert!(!ended.stderr.contains("panicked"), "{call}: {}", ended.stderr);
        // Only now and then: that is what takes most of the time.
        if round % 5 == 4 {
            let node = small(Launch::new(&data)).start();
            check(&node, &mut models).await;
            node.terminate().expect(0);
        }
    }
    eprintln!("{started} started, {refused} refused");
    assert!(started > 2 && refused > 0, "{started} started, {refused} refused");
    let node = small(Launch::new(&data)).start();
    check(&node, &mut models).await;
    node.kvadmin(["vlog", "verify"]).expect(0);
    node.terminate().expect(0);
}

//! GC that runs by itself, or is asked to, and says why not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_lsm::gc::{GcOptions, Obstacle, Priority, Standing, Verdict, files};
use kv_lsm::{Db, Environment, Options};
use kv_manifest::names;
use kv_vfs::{ManualClock, MemVfs, SteppedExecutor, Vfs};

use crate::node::*;
use crate::support::*;

const KEYS: u64 = 300;

fn automatic() -> Options {
    Options {
        log_kept_bytes: Some(0),
        segment_bytes: 128 << 10..=128 << 10,
        group_bytes_max: 64 << 10,
        ..options()
    }
}

/// Time goes by, in steps in which workers look about.
fn pass(world: &World, seconds: u64) {
    for _ in 0..seconds {
        world.executor.as_ref().unwrap().advance(Duration::from_secs(1));
    }
}

/// Overwrites all keys in some order, with values of this round.
fn overwrite(node: &Node, round: u64) {
    for number in 0..KEYS {
        let number = (number * 7 + round * 13) % KEYS;
        node.write(1, &[(key(number), Some(of_round(round, number)))]).unwrap();
    }
}

/// One that cannot be compressed.
fn of_round(round: u64, number: u64) -> Bytes {
    value(2 * (round * KEYS + number), 2_000)
}

fn holds_round(node: &Node, round: u64) {
    let expected: Contents = (0..KEYS).map(|number| (key(number), of_round(round, number))).collect();
    assert!(node.contents() == expected);
}

#[test]
fn garbage_goes_by_itself() {
    let (disk, world) = memory();
    let node = world.open_with(automatic()).unwrap();
    for round in 0..3 {
        overwrite(&node, round);
        pass(&world, 2);
    }
    node.store.flush().unwrap();
    pass(&world, 60);
    let done = node.store.collected();
    assert!(done.runs > 0 && done.freed_bytes > done.written_bytes, "{done:?}");
    assert_eq!(node.store.gc_audit().unwrap(), []);
    let (live, held) = (live_bytes(&node.store), disk_bytes(&disk));
    assert!(live >= KEYS * 2_000, "{live}");
    // Besides, the segment that is open.
    assert!(held <= live * 125 / 100 + (128 << 10), "{held} bytes for {live} live ones");
    holds_round(&node, 2);
    node.store.close().unwrap();
    drop(node);
    whole(&world.vfs);
    holds_round(&world.open().unwrap(), 2);
}

#[test]
fn a_pause_gives_up_what_is_under_way_and_a_resume_goes_on() {
    let (disk, world) = memory();
    let slow = GcOptions { bytes_per_second_max: 4 << 10, ..GcOptions::default() };
    let node = world.open_with(Options { gc: slow, ..automatic() }).unwrap();
    (0..2).for_each(|round| overwrite(&node, round));
    node.store.flush().unwrap();
    pass(&world, 15);
    let claimed = |node: &Node| {
        let verdicts = node.store.gc_decision(Priority::Normal).unwrap().verdicts;
        verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::Obstacle(Obstacle::Claimed)).count()
    };
    assert!(claimed(&node) > 0, "it is under way, and slow");
    node.store.gc_pause();
    pass(&world, 1);
    assert!(node.store.gc_is_paused());
    assert_eq!((claimed(&node), node.store.collected().runs), (0, 0));
    assert_eq!(orphans(&disk, &node.store), [""; 0]);
    pass(&world, 100);
    assert_eq!(node.store.collected().runs, 0);
    node.store.gc_resume();
    pass(&world, 1_000);
    assert!(node.store.collected().runs > 0);
    holds_round(&node, 1);
}

#[test]
fn what_was_foreseen_is_what_was_done() {
    let (disk, world) = memory();
    let node = world.open_with(automatic()).unwrap();
    node.store.gc_pause();
    (0..3).for_each(|round| overwrite(&node, round));
    settle(&node).unwrap();
    pass(&world, 1);
    settle(&node).unwrap();
    let before = disk_bytes(&disk);
    let runs = run(&node.store).unwrap();
    assert!(!runs.is_empty());
    let within = |foreseen: u64, done: u64| foreseen.abs_diff(done) * 50 <= done;
    for run in &runs {
        let (plan, done) = (&run.plan, run.done);
        assert_eq!(
            (plan.files.len() as u64, plan.values, plan.read_bytes),
            (done.files, done.values, done.read_bytes)
        );
        assert!(within(plan.written_bytes, done.written_bytes), "{run:?}");
    }
    let reclaimed: i64 = runs.iter().map(|run| run.plan.reclaimed_bytes()).sum();
    assert!(within(reclaimed as u64, before - disk_bytes(&disk)), "{reclaimed} foreseen, {before} before");
    assert_eq!(run(&node.store).unwrap(), [], "nothing is gained any more");
    holds_round(&node, 2);
}

#[test]
fn a_damaged_file_is_named_and_the_others_go() {
    let (disk, world) = memory();
    let node = world.open_with(automatic()).unwrap();
    node.store.gc_pause();
    (0..2).for_each(|round| overwrite(&node, round));
    settle(&node).unwrap();
    pass(&world, 1);
    settle(&node).unwrap();
    let candidate = files(&node.store.state()).into_iter().find(|found| {
        found.live_values > 0 && found.live_bytes * 2 < found.bytes && found.standing == Standing::Complete
    });
    let victim = candidate.unwrap();
    let path = dir().join(names::segment_name(victim.file));
    (4_300..victim.bytes).step_by(500).for_each(|at| disk.corrupt(&path, at, 4).unwrap());
    node.store.gc_resume();
    pass(&world, 30);
    assert!(node.store.collected().files > 0);
    let verdicts = node.store.gc_decision(Priority::Normal).unwrap().verdicts;
    let said = &verdicts.iter().find(|(file, _)| *file == victim.file).unwrap().1;
    assert!(matches!(said, Verdict::Obstacle(Obstacle::Damaged(_))), "{said}");
    assert!(said.to_string().contains("cannot be read"), "{said}");
}

/// With little room any garbage goes, in pieces that fit, and the store goes on.
#[test]
fn a_full_disk_is_freed_in_pieces() {
    let (disk, world) = memory();
    let gc = GcOptions {
        emergency_bytes: 256 << 10,
        reserve_bytes: 4 << 10,
        age_min: Duration::from_secs(100_000),
        ..GcOptions::default()
    };
    let node = world.open_with(Options { gc, ..automatic() }).unwrap();
    (0..3).for_each(|round| overwrite(&node, round));
    node.store.flush().unwrap();
    pass(&world, 5);
    assert_eq!(node.store.collected().values, 0, "too young");
    disk.write_file(Path::new("/other"), &vec![1; 8 << 20]).unwrap();
    let mut before = (disk_bytes(&disk), node.store.collected().runs);
    for _ in 0..3 {
        // Room for one or two files at a time.
        disk.set_space(150 << 10);
        pass(&world, 30);
        let now = (disk_bytes(&disk), node.store.collected().runs);
        assert!(now.0 < before.0 && now.1 > before.1, "{now:?} after {before:?}");
        let space = disk.space(dir()).unwrap();
        assert!(space.available > 256 << 10, "{space:?}");
        before = now;
    }
    disk.set_space(100 << 20);
    overwrite(&node, 3);
    holds_round(&node, 3);
}

/// Three times all keys at random, embedded, with nothing set and nothing asked for.
#[test]
fn an_embedded_database_gives_garbage_back() {
    let disk = MemVfs::new();
    let clock = Arc::new(ManualClock::default());
    let executor = SteppedExecutor::new(clock.clone());
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    let environment = Environment { vfs, clock, executor: Arc::new(executor.clone()) };
    let db = Db::open_in(&environment, dir(), Options { log_kept_bytes: None, ..automatic() }).unwrap();
    for round in 0..3 {
        for number in 0..KEYS {
            let number = (number * 11 + round * 29) % KEYS;
            db.put(&key(number), of_round(round, number)).unwrap();
        }
        executor.advance(Duration::from_secs(1));
    }
    db.store().flush().unwrap();
    for _ in 0..60 {
        executor.advance(Duration::from_secs(1));
    }
    let live = KEYS * 2_048;
    assert!(disk_bytes(&disk) <= live * 125 / 100 + (128 << 10), "{} bytes", disk_bytes(&disk));
    for number in 0..KEYS {
        assert_eq!(db.get(&key(number)).unwrap().unwrap().value, of_round(2, number));
    }
    db.close().unwrap();
}

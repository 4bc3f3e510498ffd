//! What goes away by itself is gone, and gives its room back, though nobody looks.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kv_lsm::{Db, Durability, Environment, Options, WriteBatch};
use kv_vfs::{Clock, ManualClock, MemVfs, SteppedExecutor};

const MINUTE: Duration = Duration::from_secs(60);

/// A database in memory and in simulated time.
struct Scene {
    clock: Arc<ManualClock>,
    executor: SteppedExecutor,
    db: Db,
}

impl Scene {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        clock.advance(Duration::from_secs(1_700_000_000));
        let executor = SteppedExecutor::new(clock.clone());
        let environment = Environment {
            vfs: Arc::new(MemVfs::new()),
            clock: clock.clone(),
            executor: Arc::new(executor.clone()),
        };
        let compression = kv_vlog::Compression { level: None, bytes_min: 0 };
        let options = Options {
            compression,
            segment_bytes: 64 << 10..=256 << 10,
            recycled_bytes_max: 0,
            ..Options::default()
        };
        let db = Db::open_in(&environment, Path::new("/above/data"), options).unwrap();
        Self { clock, executor, db }
    }

    /// Writes keys, half of them large, that stay for so long; `None`: for ever.
    fn write(&self, prefix: &str, keys: usize, time: Option<Duration>) {
        for number in 0..keys {
            let value = vec![number as u8; if number % 2 == 0 { 4_000 } else { 100 }];
            let key = format!("{prefix}{number:05}");
            let mut batch = WriteBatch::default();
            match time {
                Some(time) => batch.put_for(key.as_bytes(), value, time),
                None => batch.put(key.as_bytes(), value),
            };
            batch.durability(Durability::Batched);
            self.db.write(batch).unwrap();
        }
    }

    /// Time passes, and what is to be done is done.
    fn pass(&self, time: Duration) {
        let step = Duration::from_secs(1);
        for _ in 0..time.as_secs() {
            self.executor.advance(step);
        }
    }

    fn versions(&self) -> u64 {
        self.db.tables().iter().map(|table| table.entries).sum()
    }
}

#[test]
fn what_has_expired_gives_its_room_back_though_nobody_reads() {
    let scene = Scene::new();
    scene.write("stays", 200, None);
    scene.write("goes", 2_000, Some(5 * MINUTE));
    scene.pass(MINUTE);
    let before = scene.db.stats().unwrap();
    assert_eq!(
        (scene.versions(), scene.db.multi_get(&["goes00000", "goes01999"]).unwrap().iter().flatten().count()),
        (2_200, 2)
    );
    scene.pass(30 * MINUTE);
    let after = scene.db.stats().unwrap();
    assert_eq!(scene.versions(), 200, "expired versions are left in tables");
    assert!(after.live_bytes * 8 < before.live_bytes, "{} of {}", after.live_bytes, before.live_bytes);
    assert!(
        after.segment_bytes * 3 < before.segment_bytes,
        "{} of {}",
        after.segment_bytes,
        before.segment_bytes
    );
    assert_eq!(scene.db.get(b"goes00000").unwrap(), None);
    assert!(scene.db.get(b"stays00000").unwrap().is_some());
    scene.db.verify().unwrap();
    scene.db.close().unwrap();
}

/// Broken by: a store that is never at rest, because it writes down what time it is.
#[test]
fn what_expires_bit_by_bit_goes_bit_by_bit() {
    let scene = Scene::new();
    for number in 0..1_000u64 {
        let time = Duration::from_secs(60 + number);
        scene.db.put_for(format!("goes{number:05}").as_bytes(), "x", time).unwrap();
    }
    scene.pass(10 * MINUTE);
    assert!((400..700).contains(&scene.versions()), "{}", scene.versions());
    scene.db.close().unwrap();
}

#[test]
fn where_nothing_expires_nothing_is_written() {
    let scene = Scene::new();
    scene.write("stays", 10, None);
    scene.pass(MINUTE);
    let applied = scene.db.store().applied();
    for _ in 0..10 {
        scene.pass(MINUTE);
        assert_eq!(scene.db.iter(Default::default()).entries().count(), 10);
    }
    assert_eq!(scene.db.store().applied(), applied);
    scene.db.close().unwrap();
}

#[test]
fn reads_write_down_the_time_once_a_second_at_most() {
    let scene = Scene::new();
    scene.write("goes", 10, Some(MINUTE));
    let applied = || scene.db.store().applied().map_or(0, |at| at.index);
    let before = applied();
    for second in 1..=5 {
        scene.clock.advance(Duration::from_secs(1));
        (0..20).for_each(|_| assert!(scene.db.get(b"goes00001").unwrap().is_some()));
        assert_eq!(applied(), before + second);
    }
    assert_eq!(u64::from(scene.db.store().time()) * 1000, scene.clock.unix_ms());
    scene.clock.advance(2 * MINUTE);
    assert_eq!(scene.db.get(b"goes00001").unwrap(), None);
    assert_eq!(scene.db.snapshot().multi_get(&["goes00002"]).unwrap(), [None]);
    scene.db.close().unwrap();
}

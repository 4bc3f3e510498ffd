//! Random operations under many option sets answer like a map, through reopens, snapshots and compactions.

use std::time::Duration;

use kv_lsm::{Options, ScanRange, Snapshot};

use crate::world::*;

const KEYS: u64 = 300;

/// Option sets that lead to different compactions.
fn sets() -> Vec<(&'static str, Options)> {
    let base = small();
    let hour = Duration::from_secs(3600);
    vec![
        ("one worker", Options { compactions_max: 1, ..base.clone() }),
        ("four workers", Options { compactions_max: 4, ..base.clone() }),
        ("deep", Options { level_multiplier: 2, base_bytes: 1, ..base.clone() }),
        ("flat", Options { base_bytes: 1 << 40, ..base.clone() }),
        ("one version a table", Options { table_bytes: 1, compactions_max: 4, ..base.clone() }),
        ("huge tables", Options { table_bytes: 1 << 30, ..base.clone() }),
        ("one entry a memtable", Options { memtable_entries_max: 1, ..base.clone() }),
        (
            "huge memtables",
            Options { memtable_bytes_max: 1 << 30, log_flush_bytes_max: 1 << 30, ..base.clone() },
        ),
        (
            "many tables of level 0",
            Options { l0_tables_max: 8, l0_tables_slow: 9, l0_tables_stop: 10, ..base.clone() },
        ),
        ("separated", Options { separate_bytes_min: 16, ..base.clone() }),
        ("inline", Options { separate_bytes_min: 32 << 10, ..base.clone() }),
        ("erased soon", Options { erase_within: Some(Duration::from_secs(2)), ..base.clone() }),
        ("never idle", Options { idle_after: 1000 * hour, ..base.clone() }),
        ("idle at once", Options { idle_after: Duration::from_millis(1), ..base.clone() }),
        ("no garbage", Options { garbage_percent: 0, idle_after: Duration::from_millis(10), ..base.clone() }),
        ("uncompressed", Options { table_compression_level: None, memtables_waiting_max: 1, ..base }),
    ]
}

struct Run {
    world: World,
    options: Options,
    dice: Dice,
    model: Contents,
}

impl Run {
    fn new(world: World, options: Options, seed: u64) -> Self {
        Self { world, options, dice: Dice(seed), model: Contents::new() }
    }

    fn change(&mut self) -> (bytes::Bytes, Option<bytes::Bytes>) {
        let key = key(self.dice.below(KEYS));
        let value = (self.dice.below(4) > 0).then(|| self.dice.value(&[0, 7, 100, 900, 1100, 3000]));
        match &value {
            Some(value) => drop(self.model.insert(key.clone(), value.clone())),
            None => drop(self.model.remove(&key)),
        }
        (key, value)
    }

    /// One life of the process.
    fn life(&mut self, steps: u64) {
        let db = self.world.open(&self.options);
        assert_eq!(contents(&db), self.model);
        let mut pinned: Vec<(Snapshot, Contents)> = Vec::new();
        for _ in 0..steps {
            match self.dice.below(60) {
                0 => db.store().flush().unwrap(),
                1 => pinned.push((db.snapshot(), self.model.clone())),
                2 if !pinned.is_empty() => {
                    let at = self.dice.below(pinned.len() as u64) as usize;
                    let (snapshot, model) = pinned.swap_remove(at);
                    assert_eq!(seen(&db, &snapshot), model);
                }
                3 => self.world.pass(Duration::from_millis(self.dice.below(3000))),
                4 if self.dice.below(4) == 0 => {
                    let from = self.dice.below(KEYS);
                    let to = from + self.dice.below(KEYS);
                    db.store().compact_range(&ScanRange { from: key(from), to: Some(key(to)) }).unwrap();
                    self.check_compacted(&db, from, to, pinned.is_empty());
                }
                5 => check_shape(&db),
                _ => {
                    let count = 1 + self.dice.below(3);
                    let changes: Vec<_> = (0..count).map(|_| self.change()).collect();
                    write(&db, &changes);
                    let (key, _) = &changes[0];
                    let found = db.get(key).unwrap().map(|found| found.value);
                    assert_eq!(found.as_ref(), self.model.get(key));
                }
            }
        }
        assert_eq!(contents(&db), self.model);
        for (snapshot, model) in pinned {
            assert_eq!(seen(&db, &snapshot), model);
        }
        check_shape(&db);
        if self.dice.below(2) == 0 {
            db.close().unwrap();
        }
    }

    /// Nobody else writes: what was in the range is at the bottom, and of the deleted keys nothing is left.
    fn check_compacted(&self, db: &kv_lsm::Db, from: u64, to: u64, unseen: bool) {
        let tables = db.store().tables();
        let bottom = tables.iter().map(|table| table.level).max();
        let (from, to) = (key(from), key(to));
        for table in tables.iter().filter(|table| *table.largest >= *from && *table.smallest < *to) {
            assert_eq!(Some(table.level), bottom, "{table:?}");
            assert!(!unseen || table.tombstones == 0, "{table:?}");
        }
    }
}

fn sequences(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        for (name, options) in sets() {
            println!("{name}, seed {seed}");
            let mut run = Run::new(World::stepped(), options, seed * 1000 + name.len() as u64);
            for _ in 0..4 {
                run.life(400);
            }
        }
    }
}

#[test]
fn every_option_set_answers_like_a_map() {
    sequences(0..2);
}

/// Five thousand sequences; for a release.
#[test]
#[ignore = "takes an hour"]
fn every_option_set_answers_like_a_map_many_times() {
    sequences(2..315);
}

#[test]
fn threads_answer_like_a_map() {
    for compactions_max in [1, 4] {
        let mut run = Run::new(World::threaded(), Options { compactions_max, ..small() }, 7);
        for _ in 0..4 {
            run.life(1000);
        }
    }
}

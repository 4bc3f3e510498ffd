//! Which compactions ran side by side, by the log of a run (`RUST_LOG=kv_lsm=debug` shows the same): there are such, and none
//! are in each other's way.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::sync::Once;

use kv_lsm::{Options, ScanRange, WriteBatch};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::world::*;

/// Keeps the lines of the log that speak of a job, for each thread that asks.
struct Log;

thread_local! {
    static LINES: RefCell<Option<Vec<Line>>> = const { RefCell::new(None) };
}

/// Fields of a line, as text.
type Line = BTreeMap<&'static str, String>;

struct Fields(Line);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = self.0.entry(field.name()).or_default();
        write!(text, "{value:?}").unwrap();
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("kv_lsm")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        LINES.with_borrow_mut(|lines| {
            let Some(lines) = lines else { return };
            let mut fields = Fields(Line::new());
            event.record(&mut fields);
            if fields.0.contains_key("job") {
                lines.push(fields.0);
            }
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A compaction, as the log tells of it.
#[derive(Clone, Debug)]
struct Job {
    from: u64,
    to: u64,
    tables: Vec<u64>,
    smallest: String,
    largest: String,
}

impl Job {
    fn of(line: &Line) -> Self {
        let tables = line["tables"].trim_matches(['[', ']']).split(", ");
        Self {
            from: line["from"].parse().unwrap(),
            to: line["to"].parse().unwrap(),
            tables: tables.map(|id| id.parse().unwrap()).collect(),
            smallest: line["smallest"].clone(),
            largest: line["largest"].clone(),
        }
    }

    /// Why both must not run at once; told from what they are, not by the code that keeps them apart.
    fn disturbs(&self, other: &Self) -> Option<&'static str> {
        if self.tables.iter().any(|table| other.tables.contains(table)) {
            return Some("they share a table");
        }
        let share_keys = self.smallest <= other.largest && other.smallest <= self.largest;
        // A merge within level 0 writes where tables may overlap.
        let share_levels = (self.from..=self.to).any(|level| (other.from..=other.to).contains(&level));
        let within_level_0 = self.to == 0 || other.to == 0;
        (share_keys && share_levels && !within_level_0).then_some("they share keys of a level")
    }
}

/// The log of a run, whose workers are stepped by this thread.
fn log_of(run: impl FnOnce()) -> Vec<Line> {
    static SUBSCRIBED: Once = Once::new();
    SUBSCRIBED.call_once(|| {
        tracing::subscriber::set_global_default(Log).unwrap();
        // Other tests may have come by where there was nobody to listen, which is remembered.
        tracing::callsite::rebuild_interest_cache();
    });
    LINES.set(Some(Vec::new()));
    run();
    LINES.take().unwrap()
}

/// Overwrites random keys.
fn overwrite(compactions_max: usize) {
    let (world, mut dice) = (World::stepped(), Dice(11));
    let db = world.open(&Options { compactions_max, ..small() });
    for _ in 0..3000 {
        let (key, value) = (key(dice.below(2000)), dice.value(&[100, 300]));
        write(&db, &[(key, Some(value))]);
    }
    db.close().unwrap();
}

/// Fills a database, then writes one small table after the other while the way down from level 0 takes long.
fn fill_level_0() {
    const KEYS: u64 = 60_000;
    let (world, mut dice) = (World::stepped(), Dice(8));
    let base = Options { base_bytes: 1 << 40, table_bytes: 1 << 20, compactions_max: 3, ..small() };
    let db = world.open(&Options { memtable_bytes_max: 16 << 20, ..base.clone() });
    for first in (0..KEYS).step_by(1000) {
        let changes: Vec<_> = (first..first + 1000).map(|n| (key(n), Some(dice.value(&[5])))).collect();
        write(&db, &changes);
    }
    db.compact_range(&ScanRange::default()).unwrap();
    db.close().unwrap();
    let options = Options { memtable_entries_max: 8, l0_tables_slow: 30, l0_tables_stop: 40, ..base };
    let db = world.open(&options);
    for _ in 0..80 {
        let mut batch = WriteBatch::default();
        (0..9).for_each(|_| _ = batch.put(&key(dice.below(KEYS)), dice.value(&[7])));
        // Waits for the disk: the workers go on meanwhile, for as long as that takes.
        db.write(batch).unwrap();
    }
    db.close().unwrap();
}

/// Goes through a log; gives the most jobs that ran at once, and how many there were.
fn replay(lines: &[Line]) -> (usize, usize) {
    let (mut running, mut most, mut begun) = (BTreeMap::new(), 0, 0);
    for line in lines {
        let job = &line["job"];
        if line["message"] == "compaction ends" {
            assert!(running.remove(job).is_some(), "job {job} ends and has not begun");
            continue;
        }
        let begins = Job::of(line);
        for (number, other) in &running {
            let why = begins.disturbs(other);
            assert_eq!(why, None, "job {job}, {begins:?}, begins while job {number} runs: {other:?}");
        }
        assert!(running.insert(job.clone(), begins).is_none(), "job {job} begins twice");
        (most, begun) = (most.max(running.len()), begun + 1);
    }
    (most, begun)
}

/// Broken by: compactions that wait for each other, or that do not look what others have taken.
#[test]
fn the_log_shows_jobs_side_by_side_and_none_in_the_way_of_another() {
    let (one, _) = replay(&log_of(|| overwrite(1)));
    assert_eq!(one, 1);
    let (two, begun) = replay(&log_of(|| overwrite(2)));
    assert!(two == 2 && begun > 50, "{two} at once, {begun} in all");
    let (four, begun) = replay(&log_of(|| overwrite(4)));
    assert!(four >= 3 && begun > 50, "{four} at once, {begun} in all");
}

/// Of level 0 a table may be merged with its neighbours while others go down; not the same one.
#[test]
fn no_table_of_level_0_is_in_two_jobs() {
    let lines = log_of(fill_level_0);
    let (most, begun) = replay(&lines);
    assert!(most >= 2 && begun > 10, "{most} at once, {begun} in all");
    let within = lines.iter().filter(|line| line.get("to").is_some_and(|to| to == "0"));
    assert!(within.count() > 0, "none within level 0");
}

/// The judge of the test above sees what it is there for.
#[test]
#[should_panic(expected = "they share a table")]
fn a_log_of_two_jobs_with_one_table_is_refused() {
    let line = |job: &str| -> Line {
        let fields = [("job", job), ("from", "0"), ("to", "5"), ("tables", "[7, 8]")];
        let fields =
            fields.into_iter().chain([("smallest", "a"), ("largest", "b"), ("message", "compaction begins")]);
        fields.map(|(name, text)| (name, text.to_owned())).collect()
    };
    replay(&[line("1"), line("2")]);
}

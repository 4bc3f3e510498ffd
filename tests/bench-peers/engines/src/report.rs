//! The tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::engine::Kind;
use crate::work::Outcome;

/// What came out of all rounds.
#[derive(Default)]
pub struct Report(BTreeMap<usize, BTreeMap<Kind, Vec<Outcome>>>);

/// A figure: its title, where it is found, and in how many of its units one of the printed ones is.
type Figure = (&'static str, fn(&Outcome) -> f64, f64);

/// Higher is better.
const RATES: [Figure; 7] = [
    ("fill, no sync, k/s", |outcome| outcome.fill, 1000.0),
    ("overwrite 3x, no sync, k/s", |outcome| outcome.overwrite, 1000.0),
    ("put, each synced, 1 thread, k/s", |outcome| outcome.durable_1, 1000.0),
    ("put, each synced, 16 threads, k/s", |outcome| outcome.durable_16, 1000.0),
    ("get, warm, 1 thread, k/s", |outcome| outcome.get_1, 1000.0),
    ("get, warm, 4 threads, k/s", |outcome| outcome.get_4, 1000.0),
    ("scan of 100, k items/s", |outcome| outcome.scan, 1000.0),
];

/// Lower is better.
const COSTS: [Figure; 7] = [
    ("processor us an operation, fill and close", |outcome| outcome.fill_cpu_us, 1.0),
    ("processor us an operation, overwrite and close", |outcome| outcome.overwrite_cpu_us, 1.0),
    ("processor us a get, 1 thread", |outcome| outcome.get_cpu_us, 1.0),
    ("bytes written per user byte, fill", |outcome| outcome.fill_written, 1.0),
    ("bytes written per user byte, fill and overwrite", |outcome| outcome.overwrite_written, 1.0),
    ("longest write of the fill, ms", |outcome| outcome.fill_longest_ms, 1.0),
    ("peak resident MiB", |outcome| outcome.peak_mib, 1.0),
];

impl Report {
    pub fn add(&mut self, kind: Kind, value_bytes: usize, outcome: Outcome) {
        self.0.entry(value_bytes).or_default().entry(kind).or_default().push(outcome);
    }

    fn table(&self, f: &mut fmt::Formatter<'_>, figures: &[Figure], ratios: bool) -> fmt::Result {
        let kinds: BTreeSet<Kind> = self.0.values().flat_map(|kinds| kinds.keys().copied()).collect();
        let titles: Vec<&str> = kinds.iter().map(|kind| kind.title()).collect();
        writeln!(f, "| | value bytes | {} |\n|---|---|{}", titles.join(" | "), "---|".repeat(kinds.len()))?;
        for (title, figure, unit) in figures {
            for (value_bytes, by_kind) in &self.0 {
                write!(f, "| {title} | {value_bytes} |")?;
                let spread = |kind: &Kind| by_kind.get(kind).map(|all| Spread::of(all, *figure, *unit));
                for kind in &kinds {
                    match (spread(kind), spread(&Kind::Kv)) {
                        (None, _) => write!(f, " |")?,
                        (Some(its), Some(ours)) if ratios && *kind != Kind::Kv => {
                            write!(f, " **{:.2}** ({its}) |", ours.median / its.median)?;
                        }
                        (Some(its), _) => write!(f, " {its} |")?,
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "kv-lsm's rate divided by the other's (the other's: median, least-most of all rounds):\n"
        )?;
        self.table(f, &RATES, true)?;
        writeln!(f, "\nCosts (median, least-most):\n")?;
        self.table(f, &COSTS, false)
    }
}

/// A figure over all rounds.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(rounds: &[Outcome], figure: fn(&Outcome) -> f64, unit: f64) -> Self {
        let mut all: Vec<f64> = rounds.iter().map(|outcome| figure(outcome) / unit).collect();
        all.sort_by(f64::total_cmp);
        Self { median: all[all.len() / 2], least: all[0], most: all[all.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = |number: f64| match number {
            _ if number >= 100.0 => format!("{number:.0}"),
            _ if number >= 10.0 => format!("{number:.1}"),
            _ => format!("{number:.2}"),
        };
        write!(f, "{}, {}-{}", digits(self.median), digits(self.least), digits(self.most))
    }
}

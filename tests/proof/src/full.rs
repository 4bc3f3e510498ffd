//! The crash enumeration of many seeds, in chunks.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kv_vfs::{File, IoMode, RealVfs, Vfs};

use crate::coverage::Coverage;
use crate::crash::{Figures, Share, Subject, enumerate};
use crate::embedded::Embedded;
use crate::node::Node;

/// Seeds that are given to the processors at once.
const CHUNK: usize = 4;

/// What was to be reached by a release.
const GOAL: Figures = Figures { operations: 0, states: 300_000, recoveries: 2_000 };

/// The figures of the seeds that are done, kept in a file of lines: kind, seed, figures.
#[derive(Debug)]
pub struct Progress {
    file: Arc<dyn File>,
    lines: Vec<String>,
    end: u64,
}

impl Progress {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !RealVfs.exists(path)? {
            RealVfs.create(path, IoMode::Buffered)?;
        }
        let text = String::from_utf8_lossy(&RealVfs.read_all(path, 1 << 24)?).into_owned();
        let lines = text.lines().map(str::to_owned).collect();
        Ok(Self { file: RealVfs.open(path, IoMode::Buffered)?, lines, end: text.len() as u64 })
    }

    fn has(&self, kind: &str, seed: u64) -> bool {
        let begin = format!("{kind} {seed} ");
        self.lines.iter().any(|line| line.starts_with(&begin))
    }

    fn note(&mut self, kind: &str, seed: u64, figures: &Figures) -> io::Result<()> {
        let Figures { operations, states, recoveries } = figures;
        let line = format!("{kind} {seed} {operations} {states} {recoveries}");
        self.file.write_at(format!("{line}\n").as_bytes(), self.end)?;
        self.end += line.len() as u64 + 1;
        self.lines.push(line);
        Ok(())
    }

    fn total(&self) -> Figures {
        let mut total = Figures::default();
        for line in &self.lines {
            let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
            if let [_, operations, states, recoveries] = numbers[..] {
                total.add(&Figures { operations, states, recoveries });
            }
        }
        total
    }
}

/// How much is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Full {
    /// Workloads of each kind.
    pub seeds: u64,
    /// For about so many minutes.
    pub minutes: u64,
}

impl Full {
    /// Does what is left; says whether all is done and the goal reached.
    ///
    /// # Errors
    /// Those of keeping the figures.
    ///
    /// # Panics
    /// Where a crash leaves what it must not.
    pub fn run(self, mut progress: Progress) -> io::Result<bool> {
        let end = Instant::now() + Duration::from_secs(self.minutes.saturating_mul(60).min(1 << 32));
        let done = self.kind(Node, &mut progress, end)? && self.kind(Embedded, &mut progress, end)?;
        let total = progress.total();
        println!("{total}");
        Ok(done && total.states >= GOAL.states && total.recoveries >= GOAL.recoveries)
    }

    fn kind<S: Subject>(self, subject: S, progress: &mut Progress, end: Instant) -> io::Result<bool> {
        let left: Vec<u64> = (1..=self.seeds).filter(|seed| !progress.has(S::NAME, *seed)).collect();
        for seeds in left.chunks(CHUNK) {
            if Instant::now() >= end {
                return Ok(false);
            }
            let coverage = Arc::new(Coverage::default());
            for (seed, figures) in enumerate(subject, seeds, Share::FULL, &coverage) {
                progress.note(S::NAME, seed, &figures)?;
            }
            println!("{} workloads of seeds {seeds:?} done; {}", S::NAME, progress.total());
        }
        Ok(true)
    }
}

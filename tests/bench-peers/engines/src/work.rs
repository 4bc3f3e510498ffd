//! The work that each engine does.

use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};
use std::{fmt, fs};

use anyhow::Context as _;
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, Kind};

/// Bytes that do not compress; values are parts of them.
const NOISE_BYTES: usize = 4 << 20;
/// Times that the keys are overwritten, in random order.
const OVERWRITES: u64 = 3;
/// Items of a scan.
const SCANNED: usize = 100;

/// What is done again and again until the time is over; gives how many items it was.
type Repeated<'a> = Box<dyn FnMut() -> anyhow::Result<usize> + 'a>;

/// Figures of one run: operations (or items) a second.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub fill: f64,
    pub overwrite: f64,
    pub durable_1: f64,
    pub durable_16: f64,
    pub get_1: f64,
    pub get_4: f64,
    pub scan: f64,
    /// The longest write of the fill, in milliseconds.
    pub fill_longest_ms: f64,
    /// Processor time of all threads for an operation of the fill with what it left to do until the database was
    /// closed, in microseconds; of the overwriting, and of the gets by one thread.
    pub fill_cpu_us: f64,
    pub overwrite_cpu_us: f64,
    pub get_cpu_us: f64,
    /// Bytes given to the disk by the end of the fill, for each byte of keys and values.
    pub fill_written: f64,
    pub overwrite_written: f64,
    /// Most memory that was resident until the end of the overwriting, in MiB.
    pub peak_mib: f64,
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    pub value_bytes: usize,
    pub keys: u64,
}

impl FromStr for Work {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text} is not VALUE_BYTES:KEYS");
        let (value_bytes, keys) = text.split_once(':').ok_or_else(refused)?;
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0).ok_or_else(refused);
        let value_bytes = number(value_bytes)? as usize;
        if value_bytes > NOISE_BYTES / 2 {
            return Err(format!("values of more than {} bytes", NOISE_BYTES / 2));
        }
        Ok(Self { value_bytes, keys: number(keys)? })
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.value_bytes, self.keys)
    }
}

/// Writes keys with fresh values; one for each thread.
struct Source<'a> {
    noise: &'a [u8],
    value_bytes: usize,
    random: SmallRng,
}

impl<'a> Source<'a> {
    fn value(&mut self) -> &'a [u8] {
        let from = self.random.random_range(0..=self.noise.len() - self.value_bytes);
        &self.noise[from..from + self.value_bytes]
    }
}

/// A key of 16 bytes: another one for each number, in no order (the last steps of splitmix64).
fn key(number: u64) -> [u8; 16] {
    let mut mixed = number;
    for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9), (27, 0x94d0_49bb_1331_11eb), (31, 1)] {
        mixed = (mixed ^ (mixed >> shift)).wrapping_mul(factor);
    }
    let mut key = [0; 16];
    for (at, digit) in key.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(mixed >> (60 - 4 * at)) as usize & 15];
    }
    key
}

impl Work {
    /// Does it with this engine in an empty directory.
    ///
    /// Reads and synced writes go on for `each`, apiece.
    pub fn run(&self, kind: Kind, dir: &Path, each: Duration) -> anyhow::Result<Outcome> {
        let mut noise = vec![0; NOISE_BYTES];
        SmallRng::seed_from_u64(1).fill_bytes(&mut noise);
        let source = |seed| Source {
            noise: &noise,
            value_bytes: self.value_bytes,
            random: SmallRng::seed_from_u64(seed),
        };
        let (data, durable) = (dir.join("data"), dir.join("durable"));
        for dir in [&data, &durable] {
            fs::create_dir(dir)?;
        }

        let (db, before) = (kind.open(&data)?, cpu_us()?);
        let (fill, fill_longest_ms) = self.fill(&*db, &mut source(2))?;
        db.close()?;
        let fill_cpu_us = (cpu_us()? - before) / self.keys as f64;
        let fill_written = written()? / self.user_bytes(1);

        // Opened again: nothing is in a memtable, and each engine has had the same chance to compact.
        let db = kind.open(&data)?;
        self.warm(&*db)?;
        let before = cpu_us()?;
        let get_1 = repeat(1, each, |thread| self.get(&*db, thread))?;
        let get_cpu_us = (cpu_us()? - before) / (get_1 * each.as_secs_f64());
        let get_4 = repeat(4, each, |thread| self.get(&*db, thread))?;
        let scan = repeat(1, each, |thread| self.scan(&*db, thread))?;
        let before = cpu_us()?;
        let overwrite = self.overwrite(&*db, &mut source(3))?;
        db.close()?;
        let overwrite_cpu_us = (cpu_us()? - before) / (OVERWRITES * self.keys) as f64;
        let overwrite_written = written()? / self.user_bytes(1 + OVERWRITES);
        let peak_mib = number("/proc/self/status", "VmHWM:")? / 1024.0;
        fs::remove_dir_all(&data)?;

        let db = kind.open(&durable)?;
        let durable_1 = repeat(1, each, |thread| self.durable(&*db, 16, source(16 + thread)))?;
        let durable_16 = repeat(16, each, |thread| self.durable(&*db, thread, source(32 + thread)))?;
        db.close()?;
        Ok(Outcome {
            fill,
            overwrite,
            durable_1,
            durable_16,
            get_1,
            get_4,
            scan,
            fill_longest_ms,
            fill_cpu_us,
            overwrite_cpu_us,
            get_cpu_us,
            fill_written,
            overwrite_written,
            peak_mib,
        })
    }

    fn user_bytes(&self, times: u64) -> f64 {
        (times * self.keys * (16 + self.value_bytes as u64)) as f64
    }

    fn fill(&self, db: &dyn Engine, source: &mut Source<'_>) -> anyhow::Result<(f64, f64)> {
        let (mut longest, began) = (0.0_f64, Instant::now());
        let mut before = began;
        for number in 0..self.keys {
            db.put(&key(number), source.value(), false)?;
            let now = Instant::now();
            longest = longest.max((now - before).as_secs_f64());
            before = now;
        }
        Ok((self.keys as f64 / began.elapsed().as_secs_f64(), longest * 1000.0))
    }

    fn overwrite(&self, db: &dyn Engine, source: &mut Source<'_>) -> anyhow::Result<f64> {
        let (writes, began) = (OVERWRITES * self.keys, Instant::now());
        for _ in 0..writes {
            let number = source.random.random_range(0..self.keys);
            db.put(&key(number), source.value(), false)?;
        }
        Ok(writes as f64 / began.elapsed().as_secs_f64())
    }

    fn warm(&self, db: &dyn Engine) -> anyhow::Result<()> {
        for number in 0..self.keys {
            let found = db.get(&key(number))?.with_context(|| format!("key {number} is not there"))?;
            anyhow::ensure!(found == self.value_bytes, "a value of {found} bytes");
        }
        Ok(())
    }

    fn get<'a>(&self, db: &'a dyn Engine, thread: u64) -> Repeated<'a> {
        let (keys, mut random) = (self.keys, SmallRng::seed_from_u64(thread));
        Box::new(move || {
            let number = random.random_range(0..keys);
            db.get(&key(number))?.with_context(|| format!("key {number} is not there"))?;
            Ok(1)
        })
    }

    fn scan<'a>(&self, db: &'a dyn Engine, thread: u64) -> Repeated<'a> {
        let (keys, mut random) = (self.keys, SmallRng::seed_from_u64(thread));
        Box::new(move || db.scan(&key(random.random_range(0..keys)), SCANNED))
    }

    fn durable<'a>(&self, db: &'a dyn Engine, thread: u64, mut source: Source<'a>) -> Repeated<'a> {
        let mut number = thread << 32;
        Box::new(move || {
            number += 1;
            db.put(&key(number), source.value(), true)?;
            Ok(1)
        })
    }
}

/// Items a second of so many threads, each of which repeats what is made for it until the time is over.
fn repeat<'a>(
    threads: u64,
    time: Duration,
    make: impl Fn(u64) -> Repeated<'a> + Sync,
) -> anyhow::Result<f64> {
    let began = Instant::now();
    let work = |thread| {
        let (mut once, mut items) = (make(thread), 0);
        while began.elapsed() < time {
            items += once()?;
        }
        anyhow::Ok(items)
    };
    let items: usize = std::thread::scope(|scope| {
        let work = &work;
        let all: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        let ended = all.into_iter().map(|one| one.join());
        ended
            .map(|items| items.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked"))))
            .sum::<Result<_, _>>()
    })?;
    Ok(items as f64 / began.elapsed().as_secs_f64())
}

/// Bytes that this process has given to the disk.
fn written() -> anyhow::Result<f64> {
    number("/proc/self/io", "write_bytes:")
}

/// Processor time of this process so far, to a hundredth of a second.
fn cpu_us() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may hold anything: the 12th and the 13th field, in ticks of 10 ms.
    let (_, fields) = stat.rsplit_once(')').context("name")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? * 10_000.0)
}

fn number(file: &str, field: &str) -> anyhow::Result<f64> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).context("field")?;
    Ok(line.split_whitespace().next().context("number")?.parse()?)
}

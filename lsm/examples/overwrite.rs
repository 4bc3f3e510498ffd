//! Overwrites a database at random and says what that takes on the disk, and what reads and writes wait for value GC: `cargo run --release -p kv-lsm --example
//! overwrite -- [KEYS] [VALUE_BYTES] [TIMES] [THREADS] [DIR]`.
#![expect(clippy::print_stdout, reason = "a program that prints figures")]
#![expect(clippy::disallowed_methods, reason = "what the disk holds is asked of the system")]

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kv_lsm::{Db, Durability, Options, WriteBatch};

const READERS: u64 = 4;

/// How many a second, and how long each took in microseconds, in ascending order.
type Timed = (f64, Vec<u64>);
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Bytes that the files take.
fn disk_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.blocks() * 512).sum()
}

/// What this process has had written to the disk.
fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0)
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state ^ (*state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
}

struct Work {
    keys: u64,
    value_bytes: usize,
    threads: u64,
    /// What values are cut from; nothing in it repeats.
    noise: Vec<u8>,
}

impl Work {
    /// Writes all keys in order, or some at random; says how many a second, and how long writes took.
    fn write(&self, db: &Db, writes: u64, in_order: bool) -> Result<Timed, Failure> {
        let (began, next) = (Instant::now(), AtomicU64::new(0));
        let one = |seed: u64| -> Result<Vec<u64>, Failure> {
            let (mut state, mut micros) = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), Vec::new());
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= writes {
                    return Ok(micros);
                }
                let key = if in_order { number } else { random(&mut state) % self.keys };
                let from = random(&mut state) as usize % (self.noise.len() - self.value_bytes);
                let value = self.noise.get(from..from + self.value_bytes).unwrap_or_default().to_vec();
                let mut batch = WriteBatch::default();
                batch.put(format!("{key:016x}").as_bytes(), value).durability(Durability::Sync);
                let before = Instant::now();
                db.write(batch)?;
                micros.push(before.elapsed().as_micros() as u64);
            }
        };
        let mut micros = std::thread::scope(|scope| -> Result<Vec<u64>, Failure> {
            let threads: Vec<_> = (1..=self.threads).map(|seed| scope.spawn(move || one(seed))).collect();
            let ended = threads.into_iter().map(|thread| thread.join().map_err(|_| "a writer panicked")?);
            Ok(ended.collect::<Result<Vec<_>, _>>()?.concat())
        })?;
        micros.sort_unstable();
        Ok((writes as f64 / began.elapsed().as_secs_f64(), micros))
    }

    /// Overwrites at random while as many threads read at random; says how long writes and reads took.
    fn mix(&self, db: &Db, writes: u64) -> Result<(Timed, Timed), Failure> {
        let stop = AtomicBool::new(false);
        let read = |seed: u64| -> Result<Vec<u64>, Failure> {
            let (mut state, mut micros) = (seed.wrapping_mul(0x7f4a_7c15_9e37_79b9), Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let key = format!("{:016x}", random(&mut state) % self.keys);
                let before = Instant::now();
                db.get(key.as_bytes())?;
                micros.push(before.elapsed().as_micros() as u64);
            }
            Ok(micros)
        };
        let began = Instant::now();
        std::thread::scope(|scope| {
            let readers: Vec<_> = (1..=READERS)
                .map(|seed| {
                    scope.spawn({
                        let read = &read;
                        move || read(seed)
                    })
                })
                .collect();
            let written = self.write(db, writes, false);
            stop.store(true, Ordering::Relaxed);
            let ended = readers.into_iter().map(|reader| reader.join().map_err(|_| "a reader panicked")?);
            let mut micros = ended.collect::<Result<Vec<_>, _>>()?.concat();
            micros.sort_unstable();
            Ok((written?, (micros.len() as f64 / began.elapsed().as_secs_f64(), micros)))
        })
    }
}

fn shown((rate, micros): &Timed) -> String {
    let at = |share: f64| micros.get((micros.len() as f64 * share) as usize).copied().unwrap_or(0);
    let longest = micros.last().copied().unwrap_or(0);
    format!(
        "{rate:.0}/s, p50 {} us, p99 {} us, p99.9 {} us, longest {longest} us",
        at(0.5),
        at(0.99),
        at(0.999)
    )
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |n: usize, default: u64| arguments.get(n).map_or(Ok(default), |text| text.parse());
    let (keys, value_bytes, times) = (number(0, 20_000)?, number(1, 65_536)?, number(2, 3)?);
    let mut state = 7;
    let noise = (0..(4 << 20) / 8).flat_map(|_| random(&mut state).wrapping_mul(0x1_0001).to_le_bytes());
    let noise = noise.collect();
    let work = Work { keys, value_bytes: value_bytes as usize, threads: number(3, 16)?, noise };
    let dir = match arguments.get(4) {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let db = Db::open(dir.path(), Options::default())?;
    let (live, before) = ((keys * value_bytes) as f64, written_bytes());
    let (peak, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| -> Result<(), Failure> {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                peak.fetch_max(disk_bytes(dir.path()), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let result = (|| {
            println!("fill: {}", shown(&work.write(&db, keys, true)?));
            println!("peak {:.2} x", peak.load(Ordering::Relaxed) as f64 / live);
            for _ in 0..times {
                println!("overwrite: {}", shown(&work.write(&db, keys, false)?));
                let now = disk_bytes(dir.path()) as f64 / live;
                println!("peak {:.2} x, now {now:.2} x", peak.load(Ordering::Relaxed) as f64 / live);
            }
            Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        result
    })?;
    let written = |label: &str| {
        let ratio = (written_bytes() - before) as f64 / (live * (times + 1) as f64);
        println!("{label}: on the disk {:.2} x, written {ratio:.2} x", disk_bytes(dir.path()) as f64 / live);
    };
    written("at the last write");
    for seconds in [5, 10, 15] {
        std::thread::sleep(Duration::from_secs(seconds));
        written(&format!("{seconds} s later"));
    }
    for round in 0..4 {
        let is_paused = round % 2 == 0;
        if is_paused {
            db.store().gc_pause()
        } else {
            db.store().gc_resume()
        }
        let before = db.stats()?.collected.read_bytes;
        let (writes, reads) = work.mix(&db, keys / 3)?;
        let collected = (db.stats()?.collected.read_bytes - before) >> 20;
        println!("GC {}: {collected} MiB copied", if is_paused { "paused" } else { "running" });
        println!("  put: {}\n  get: {}", shown(&writes), shown(&reads));
    }
    println!("{:?}\n{:?}", db.stats()?.collected, db.stats()?.compactions);
    println!("{:?}", db.stats()?.stalls);
    db.close()?;
    Ok(())
}

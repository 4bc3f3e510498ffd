//! Fills a database, opens it again and reads keys with nothing in its cache, and says what that cost:
//! `cargo run --release -p kv-lsm --example fill -- KEYS [VALUE_BYTES] [MEMTABLE_MIB]`.
#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::path::Path;
use std::time::{Duration, Instant};

use kv_lsm::{Db, Durability, Options, ScanRange, WriteBatch};

/// Keys of 16 bytes in a shuffled order: a bijection, so that no key comes twice.
fn key(number: u64) -> String {
    format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Keys that are read with a cold cache.
const GETS: u64 = 100_000;

/// A number that the system knows of this process.
#[expect(clippy::disallowed_methods, reason = "no data directory")]
fn of_process(file: &str, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse().ok())
}

fn resident() -> String {
    let mib = |field| of_process("status", field).unwrap_or_default() >> 10;
    format!("resident {} MiB, {} at most", mib("VmRSS:"), mib("VmHWM:"))
}

/// Reads keys in no order from a database that was just opened.
fn get_cold(dir: &Path, keys: u64, options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let db = Db::open(dir, options)?;
    let began = Instant::now();
    for number in 0..GETS {
        let number = number.wrapping_mul(0xd134_2543_de82_ef95) % keys;
        assert!(db.get(key(number).as_bytes())?.is_some());
    }
    let rate = GETS as f64 / began.elapsed().as_secs_f64();
    // Of the gets alone: a compaction that goes on beside them reads, too.
    let reads = db.stats()?.reads;
    let reads = reads.blocks as f64 / reads.gets as f64;
    println!("{rate:.0} gets/s, {reads:.3} data blocks read a get, {}", resident());
    Ok(db.close()?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<u64> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let keys = arguments.first().copied().unwrap_or(2_000_000);
    let value_bytes = arguments.get(1).copied().unwrap_or(100);
    let memtable_bytes_max = arguments.get(2).copied().unwrap_or(64) << 20;
    let dir = tempfile::tempdir()?;
    // The shape of a store that is larger by as much as the memtable is smaller.
    let base_bytes = 4 * memtable_bytes_max;
    let table_bytes = memtable_bytes_max;
    let options = Options { memtable_bytes_max, base_bytes, table_bytes, ..Options::default() };
    let db = Db::open(dir.path(), options.clone())?;
    let (mut longest, mut over) = (Duration::ZERO, [0u64; 4]);
    let began = Instant::now();
    for number in 0..keys {
        let noise = number.wrapping_mul(0xd134_2543_de82_ef95);
        let value: Vec<u8> = (0..value_bytes).map(|n| (noise.rotate_left(n as u32) >> 17) as u8).collect();
        let mut batch = WriteBatch::default();
        batch.put(key(number).as_bytes(), value).durability(Durability::Batched);
        let before = Instant::now();
        db.write(batch)?;
        let took = before.elapsed();
        longest = longest.max(took);
        for (count, millis) in over.iter_mut().zip([1, 10, 50, 200]) {
            *count += u64::from(took > Duration::from_millis(millis));
        }
    }
    let filled = began.elapsed();
    db.store().flush()?;
    let tables = db.store().tables();
    let at = |level| tables.iter().filter(|table| table.level == level).count();
    let user_bytes = keys * (16 + value_bytes);
    println!("{:.0} writes/s, longest {longest:.1?}, {}", keys as f64 / filled.as_secs_f64(), resident());
    println!("writes over 1, 10, 50, 200 ms: {over:?}");
    println!("{:?}", db.stats()?.compactions);
    println!("{:?}", db.stats()?.stalls);
    println!("tables by level: {:?}", (0..7).map(at).collect::<Vec<_>>());
    if let Some(written) = of_process("io", "wchar:") {
        let log = user_bytes + keys * 60;
        println!(
            "{} MB written, {:.2} times keys and values",
            written >> 20,
            written as f64 / user_bytes as f64
        );
        println!(
            "without the log, about {:.2} times",
            written.saturating_sub(log) as f64 / user_bytes as f64
        );
    }
    let listed = Instant::now();
    let count = db.scan(ScanRange::default())?.count();
    println!("{count} keys listed in {:.1?}", listed.elapsed());
    db.close()?;
    get_cold(dir.path(), keys, options)
}

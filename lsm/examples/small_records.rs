//! A million small records by one thread: how fast they are written, opened again and listed, and how much
//! memory that takes. `cargo run --release -p kv-lsm --example small_records [RECORDS] [DIR]`

use std::path::{Path, PathBuf};
use std::time::Instant;

use kv_lsm::{Db, Durability, Options, ScanRange, WriteBatch};

/// Bytes of key and value together.
const RECORD_BYTES: usize = 151;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let records: u64 = args.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let temporary = tempfile::tempdir()?;
    let dir = args.next().map_or_else(|| temporary.path().to_path_buf(), PathBuf::from);
    let db = Db::open(&dir, Options::default())?;
    report("fill", records, || fill(&db, records))?;
    report("durable", records, || Ok(db.store().log().wait_durable()?))?;
    report("list (just written)", records, || list(&db, records))?;
    report("get", records, || get(&db, records))?;
    report("close", records, || Ok(db.close()?))?;
    measure_reopened(&dir, records)
}

fn measure_reopened(dir: &Path, records: u64) -> Result<(), Box<dyn std::error::Error>> {
    let mut opened = None;
    report("open", records, || {
        opened = Some(Db::open(dir, Options::default())?);
        Ok(())
    })?;
    let Some(db) = opened else { return Ok(()) };
    report("list (first)", records, || list(&db, records))?;
    report("list (again)", records, || list(&db, records))?;
    report("get", records, || get(&db, records))?;
    println!("{:#?}", db.stats()?);
    Ok(db.close()?)
}

fn report(
    what: &str,
    records: u64,
    run: impl FnOnce() -> Result<(), Box<dyn std::error::Error>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let (begin, busy) = (Instant::now(), busy_seconds());
    run()?;
    let (seconds, busy) = (begin.elapsed().as_secs_f64(), busy_seconds() - busy);
    let rate = records as f64 / seconds;
    println!(
        "{what:20} {seconds:8.3} s  {rate:12.0}/s  this thread {busy:6.2} s  resident {} MiB",
        resident_mib()
    );
    Ok(())
}

/// Keys in no order, the same each time.
fn key(number: u64, records: u64) -> String {
    format!("record/{:016}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % records.next_power_of_two())
}

fn fill(db: &Db, records: u64) -> Result<(), Box<dyn std::error::Error>> {
    for number in 0..records {
        let key = key(number, records);
        let value = vec![number as u8; RECORD_BYTES - key.len()];
        let mut batch = WriteBatch::default();
        batch.put(key.as_bytes(), value).durability(Durability::Batched);
        db.write(batch)?;
    }
    Ok(())
}

fn list(db: &Db, records: u64) -> Result<(), Box<dyn std::error::Error>> {
    let mut count = 0;
    for item in db.scan(ScanRange::default())? {
        item?;
        count += 1;
    }
    assert_eq!(count, records);
    Ok(())
}

fn get(db: &Db, records: u64) -> Result<(), Box<dyn std::error::Error>> {
    for number in 0..records {
        assert!(db.get(key(number, records).as_bytes())?.is_some());
    }
    Ok(())
}

/// Processor time of this thread: what others do on the machine does not count.
fn busy_seconds() -> f64 {
    let stat = proc("thread-self/schedstat");
    let nanoseconds = stat.split(' ').next().and_then(|text| text.parse::<u64>().ok());
    nanoseconds.unwrap_or_default() as f64 / 1e9
}

#[expect(clippy::disallowed_methods, reason = "no data directory: what the system says of this process")]
fn proc(name: &str) -> String {
    std::fs::read_to_string(Path::new("/proc").join(name)).unwrap_or_default()
}

fn resident_mib() -> u64 {
    let status = proc("self/status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or_default() / 1024
}

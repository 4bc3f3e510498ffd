//! Entries that nobody waits for.

use std::sync::Arc;
use std::time::Duration;

use kv_vfs::{Clock, ManualClock, RealVfs, SteppedExecutor};

use crate::tests::{Home, noise};
use crate::*;

fn put(len: usize) -> Vec<Op> {
    let (key, value) = ("key".into(), noise(len as u64, len));
    let value = StoredValue::new(b"key", value, &Compression::default());
    vec![Op::Put { key, value: OpValue::Full(value) }]
}

#[test]
fn are_written_when_it_is_time_when_there_are_many_or_when_somebody_waits() {
    let clock = Arc::new(ManualClock::default());
    let executor = SteppedExecutor::new(clock.clone());
    let home = Home::new(64 << 20);
    let (recovered, _) = home.recover().unwrap();
    let lazy = Duration::from_millis(5);
    let options = VlogOptions { cluster_id: [7; 16], lazy, ..VlogOptions::default() };
    let vfs = Arc::new(RealVfs);
    let log =
        Vlog::start(vfs, clock.clone(), Arc::new(executor.clone()), home.book.clone(), options, recovered);
    let log = log.unwrap();

    let first = log.append_next(1, 7, put(10), None).unwrap();
    assert_eq!(first.at, Position { term: 1, index: 1 });
    executor.run_until_idle();
    executor.advance(Duration::from_millis(4));
    assert!(log.durable_next() <= 1 && log.waiting_bytes() > 0);
    executor.advance(Duration::from_millis(1));
    assert_eq!((log.durable_next(), log.waiting_bytes()), (2, 0));

    let seen = log.append_next(1, 7, put(300_000), None).unwrap();
    assert!(matches!(seen.payload.ops(), [Op::Put { value: OpValue::At { value_bytes: 300_000, .. }, .. }]));
    executor.run_until_idle();
    assert_eq!(log.durable_next(), 2);
    log.append_next(1, 7, put(300_001), None).unwrap();
    executor.run_until_idle();
    assert_eq!(log.durable_next(), 4, "many bytes do not wait");

    log.append_next(1, 7, put(10), None).unwrap();
    executor.run_until_idle();
    log.append_next(1, 7, put(11), Some(Box::new(|result| result.unwrap()))).unwrap();
    executor.run_until_idle();
    assert_eq!(log.durable_next(), 6, "a callback brings those before it along");

    let before = clock.monotonic();
    log.append_next(1, 7, put(12), None).unwrap();
    log.wait_durable().unwrap();
    log.append_next(1, 7, put(13), None).unwrap();
    log.wait_room(1).unwrap();
    assert_eq!((log.durable_next(), clock.monotonic()), (8, before), "who waits does not wait for the time");

    log.append_next(1, 7, put(14), None).unwrap();
    log.close().unwrap();
    let (_, replayed) = home.recover().unwrap();
    assert_eq!(replayed.entries.len(), 8);
}

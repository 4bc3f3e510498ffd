//! What keeps to the limits fits into a frame.

use std::time::Duration;

use bytes::Bytes;
use kv_api::{
    KvError, Limit, Limits,
    kv::*,
    limits::{BATCH_OPS_MAX, ITEM_BYTES, OP_BYTES, TTL_MS_MAX, TTL_MS_MIN},
    transport::message::{Prepared, request},
};

fn tight() -> Limits {
    let mut limits = Limits {
        key_bytes_max: 100,
        value_bytes_max: 5000,
        batch_bytes_max: 70_000,
        batch_ops_max: 65_535,
        page_bytes_max: 20_000,
        frame_bytes_max: 0,
    };
    limits.frame_bytes_max = limits.frame_bytes_needed().try_into().unwrap();
    limits.validate().unwrap();
    limits
}

#[test]
fn the_defaults_agree() {
    Limits::default().validate().unwrap();
    let needed = Limits::default().frame_bytes_needed();
    assert!(needed <= 67 << 20);
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    let check = |change: fn(&mut Limits), word: &str| {
        let mut limits = Limits::default();
        change(&mut limits);
        let error = limits.validate().unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    check(|l| l.frame_bytes_max = 65 << 20, "frame_bytes_max");
    check(|l| l.batch_bytes_max = 64 << 20, "batch_bytes_max");
    check(|l| l.key_bytes_max = (64 << 10) + 1, "key_bytes_max");
    check(|l| l.page_bytes_max = 0, "page_bytes_max");
    check(|l| l.page_bytes_max = u32::MAX, "frame_bytes_max");
    check(|l| l.batch_ops_max = 65_536, "batch_ops_max");
}

#[test]
fn the_batch_with_most_overhead_fits() {
    let limits = tight();
    let key = |_| Check { key: "k".into(), expect: Expect::Revision(u64::MAX) };
    let checks: Vec<_> = (0..BATCH_OPS_MAX).map(key).collect();
    let largest = WriteRequest { checks, ops: vec![] };
    limits.check_write(&largest).unwrap();
    request(u64::MAX, Duration::MAX, &largest, limits.frame_bytes_max).unwrap();

    let value: Bytes = vec![0; 4097].into();
    let put =
        |key: usize, value: Bytes| WriteOp::Put { key: vec![0; key].into(), value, ttl_ms: Some(TTL_MS_MAX) };
    let beside = WriteRequest { checks: vec![], ops: vec![put(20, value); 17] };
    let short = WriteRequest { checks: vec![], ops: vec![put(1, Bytes::new()); BATCH_OPS_MAX as usize] };
    for write in [beside, short] {
        limits.check_write(&write).unwrap();
        request(u64::MAX, Duration::MAX, &write, limits.frame_bytes_max).unwrap();
    }
}

/// What the constants say of any put and item, of which the ones above are but examples.
#[test]
fn the_largest_numbers_take_no_more_than_said() {
    let put = WriteOp::Put { key: vec![0; 64 << 10].into(), value: Bytes::new(), ttl_ms: Some(TTL_MS_MAX) };
    // A value of 511 MiB has a length of five bytes.
    let bytes = postcard::to_stdvec(&put).unwrap().len() as u64 - (64 << 10) + 5;
    assert!(bytes <= OP_BYTES, "{bytes}");
    let item = item(Some(Bytes::new()));
    let bytes = postcard::to_stdvec(&Item { key: vec![0; 64 << 10].into(), ..item }).unwrap().len() as u64;
    assert!(bytes - (64 << 10) + 5 <= ITEM_BYTES, "{bytes}");
}

fn item(value: Option<Bytes>) -> Item {
    let expires_at = Some(u64::MAX);
    Item { key: "k".into(), revision: u64::MAX, value_bytes: u64::MAX, value, expires_at }
}

#[test]
fn the_page_with_most_overhead_fits() {
    let limits = tight();
    for one in [item(None), item(Some(Bytes::new())), item(Some(vec![0; 4096].into()))] {
        let count = u64::from(limits.page_bytes_max) / one.page_bytes();
        let next = Some(Cursor { snapshot: u64::MAX, from: vec![0; 101].into() });
        let page = ScanPage { items: vec![one; count as usize], next };
        let reply = KvResponse::Scan(Ok(page));
        Prepared::reply(&reply, limits.frame_bytes_max).unwrap();
    }
    assert_eq!(item(None).page_bytes(), 1 + ITEM_BYTES);
}

#[test]
fn each_limit_is_named() {
    let limits = tight();
    let broken = |request: WriteRequest| match limits.check_write(&request) {
        Err(KvError::TooLarge { limit, .. }) => limit,
        other => panic!("{other:?}"),
    };
    let put = |key: usize, value: usize| WriteOp::Put {
        key: vec![0; key].into(),
        value: vec![0; value].into(),
        ttl_ms: None,
    };
    let write = |ops| WriteRequest { checks: vec![], ops };
    assert_eq!(broken(write(vec![put(101, 1)])), Limit::Key);
    assert_eq!(broken(write(vec![put(1, 5001)])), Limit::Value);
    assert_eq!(broken(write(vec![put(1, 5000); 15])), Limit::BatchBytes);
    assert_eq!(broken(write(vec![put(0, 0); 65_536])), Limit::BatchOps);
    limits.check_write(&write(vec![put(100, 5000)])).unwrap();
    let put_for =
        |ttl_ms| write(vec![WriteOp::Put { key: "k".into(), value: "v".into(), ttl_ms: Some(ttl_ms) }]);
    assert_eq!(broken(put_for(TTL_MS_MAX + 1)), Limit::Ttl);
    let short = limits.check_write(&put_for(TTL_MS_MIN - 1)).unwrap_err();
    assert!(matches!(short, KvError::Invalid(why) if why.contains("1000 ms")));
    limits.check_write(&put_for(TTL_MS_MIN)).unwrap();
    limits.check_write(&put_for(TTL_MS_MAX)).unwrap();
    assert!(limits.check_key(&[0; 101]).is_err());
}

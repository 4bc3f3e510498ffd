use std::path::PathBuf;

use kv_vfs::MemVfs;

use super::*;
use crate::*;

fn path() -> PathBuf {
    "/00000005.seg".into()
}

fn identity() -> SegmentIdentity {
    let (segment, file, generation, epoch) = (1, 5, 0, 1);
    SegmentIdentity { cluster_id: [7; 16], incarnation: 1, group_id: 0, segment, file, generation, epoch }
}

/// A segment of values with a remap, one value in each group; and where the values are.
fn written() -> (MemVfs, SegmentSummary, Vec<(Bytes, Pointer)>) {
    let vfs = MemVfs::new();
    let mut writer = ValueSegmentWriter::create(&vfs, path(), identity(), 1, 4096).unwrap();
    let places: Vec<(Bytes, Pointer)> = (0..4u8)
        .map(|n| {
            let key = Bytes::from(format!("key{n}"));
            let value = StoredValue::new(
                &key,
                Bytes::from(vec![n; 3000]),
                &Compression { level: None, ..Compression::default() },
            );
            let at = writer.add(&key, u64::from(n) << 16, &value).unwrap();
            (key, at)
        })
        .collect();
    // Pointers name offset 10, 20, ... of segment 9.
    let moves: Vec<Moved> =
        (1u32..).zip(&places).map(|(n, (_, at))| Moved { segment: 9, from: n * 10, to: at.offset }).collect();
    let (summary, _) = writer.finish_moved(&moves).unwrap();
    (vfs, summary, places)
}

fn flip(vfs: &MemVfs, at: u64) {
    let file = vfs.open(&path(), IoMode::Buffered).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn open(vfs: &MemVfs) -> SalvageFile {
    SalvageFile::open(vfs, &path()).unwrap()
}

/// All that it says, as a short text.
fn told(vfs: &MemVfs, end: u64, durable: bool) -> Vec<String> {
    let mut told = Vec::new();
    let tell = &mut |found| {
        told.push(match found {
            Salvaged::Values(values) => format!("{} values", values.len()),
            Salvaged::Damage { from, to, .. } => format!("damage {from}..{to}"),
            Salvaged::Torn { from, .. } => format!("torn {from}"),
            Salvaged::Committed(_) => return Ok(()),
            other => format!("{other:?}"),
        });
        Ok::<(), VlogError>(())
    };
    open(vfs).salvage(end, durable, 0, tell).unwrap();
    told
}

fn read(
    vfs: &MemVfs,
    summary: &SegmentSummary,
    segment: u64,
    n: usize,
    at: Pointer,
) -> Result<Bytes, String> {
    let mut values = SalvagedValues::default();
    values.add(open(vfs), Some(summary.end));
    let from = Pointer { segment, offset: if segment == 9 { n as u32 * 10 + 10 } else { at.offset }, ..at };
    values
        .value(from, format!("key{n}").as_bytes(), (n as u64) << 16)
        .map_err(|none| none.to_string())
        .and_then(|value| value.decode())
}

#[test]
fn a_whole_segment_says_all_and_a_damaged_one_all_but_that() {
    let (vfs, summary, places) = written();
    assert_eq!(told(&vfs, summary.end, true), ["1 values"; 4]);
    assert_eq!(open(&vfs).values_end(), Some((summary.end, true)));

    // The header of a group, then a value: the others are there, and so is the place of the damaged value.
    let (second, third) = (u64::from(places[1].1.offset), u64::from(places[2].1.offset));
    flip(&vfs, 2 * 4096 + 20);
    assert_eq!(told(&vfs, summary.end, true), ["1 values", "damage 8192..12288", "1 values", "1 values"]);
    flip(&vfs, third + 500);
    let end =
        ["1 values", "damage 8192..12288", "1 values", &format!("damage {}..16384", 12288 + 96), "1 values"];
    assert_eq!(told(&vfs, summary.end, true), end);
    assert_eq!(second / 4096, 2);
    for (n, (_, at)) in places.iter().enumerate() {
        let found = read(&vfs, &summary, 1, n, *at);
        assert_eq!(found.is_ok(), n != 2, "{n}: {found:?}");
        assert!(found.is_err() || found == Ok(Bytes::from(vec![n as u8; 3000])));
    }
}

#[test]
fn what_nothing_follows_is_torn_unless_it_was_durable() {
    let (vfs, summary, _) = written();
    flip(&vfs, 4 * 4096 + 20);
    assert_eq!(told(&vfs, summary.end, false), ["1 values", "1 values", "1 values", "torn 16384"]);
    assert_eq!(told(&vfs, summary.end, true), ["1 values", "1 values", "1 values", "damage 16384..20480"]);
}

#[test]
fn values_are_found_without_their_remap_and_without_a_header() {
    let (vfs, summary, places) = written();
    let found =
        |vfs: &MemVfs| places.iter().enumerate().all(|(n, (_, at))| read(vfs, &summary, 9, n, *at).is_ok());
    assert!(found(&vfs));
    // In the body of the remap: now only their versions tell where the values are.
    flip(&vfs, summary.end + 150);
    assert!(SalvagedValues::default().add(open(&vfs), Some(summary.end)).is_some());
    assert!(found(&vfs));
    flip(&vfs, 30);
    assert!(open(&vfs).header().is_err() && found(&vfs));
    assert_eq!(open(&vfs).written_as(), Some(WrittenAs { segment: 1, generation: 0, epoch: 1 }));
    // Another version is not taken for it.
    let mut values = SalvagedValues::default();
    values.add(open(&vfs), Some(summary.end));
    assert!(values.value(places[0].1, b"key0", 1).is_err());
    assert!(values.value(places[0].1, b"key1", 0).is_err());
}

#[test]
fn an_entry_keeps_what_its_damaged_values_do_not_touch() {
    let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
    let put = |key: &Bytes| Op::Put {
        key: key.clone(),
        value: OpValue::Full(StoredValue::new(key, Bytes::from_static(b"value"), &Compression::default())),
    };
    let at = Position { term: 2, index: 7 };
    let entry = Entry { at, time: 0, payload: Payload::Ops(vec![put(&a), Op::Delete { key: b.clone() }]) };
    let mut bytes = kv_vfs::AlignedBuf::new();
    crate::record::put_entry(&mut bytes, &entry);
    let value_at = crate::format::RECORD_HEADER_BYTES as usize + crate::format::OP_HEADER_BYTES as usize + 1;
    for at in 0..bytes.len() {
        let mut damaged = bytes[..].to_vec();
        damaged[at] ^= 1;
        let found = entry::entry_without_values(&damaged.into(), 3, 100);
        let in_value = (value_at..value_at + 5).contains(&at);
        assert_eq!(found.is_some(), in_value, "{at}");
        let Some(found) = found else { continue };
        assert_eq!((found.at, &found.payload.ops()[1]), (entry.at, &Op::Delete { key: b.clone() }));
        let Op::Put { value: OpValue::At { pointer, .. }, .. } = &found.payload.ops()[0] else {
            panic!("{found:?}")
        };
        assert_eq!((pointer.segment, pointer.offset, pointer.length), (3, 132, 46));
    }
}

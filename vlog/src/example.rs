//! The worked example of `docs/format/segment.md`, decoded and made again, so that it stays true.

use std::path::Path;

use bytes::Bytes;
use kv_vfs::{AlignedBuf, BLOCK, MemVfs, Vfs};

use crate::record::{self, Parsed};
use crate::*;

const PAGE: &str = include_str!("../../docs/format/segment.md");

fn entry() -> Entry {
    let key = Bytes::from_static(b"k");
    let value = OpValue::Full(StoredValue::new(&key, Bytes::from_static(b"hello"), &Compression::default()));
    let ops = vec![Op::Put { key, value }, Op::Delete { key: Bytes::from_static(b"old") }];
    Entry { at: Position { term: 1, index: 3 }, time: 0, payload: Payload::Ops(ops) }
}

fn identity() -> SegmentIdentity {
    SegmentIdentity {
        cluster_id: [7; 16],
        incarnation: 1,
        group_id: 0,
        segment: 1,
        file: 5,
        generation: 0,
        epoch: 1,
    }
}

/// The two blocks of the example.
fn encode() -> Vec<u8> {
    let end = LogEnd { last: Some(Position { term: 1, index: 2 }), committed_next: 3, ..LogEnd::default() };
    let (mut bytes, previous_crc) = SegmentHeader::encode(&identity(), &end);
    let mut group = AlignedBuf::new();
    group.resize(format::GROUP_HEADER_BYTES as usize);
    let record_crc = record::put_entry(&mut group, &entry());
    let used = group.len() as u32;
    group.pad_to_block();
    let header = GroupHeader {
        segment: 1,
        generation: 0,
        number: 0,
        epoch: 1,
        length: group.len() as u32,
        used,
        durable_segment: 0,
        durable_end: 0,
        committed_next: 3,
        ledger_number: 2,
        previous_crc,
        records: 1,
        records_crc: crc32fast::hash(&record_crc.to_le_bytes()),
        crc: 0,
    };
    bytes.extend_from_slice(&header.encode().0);
    bytes.extend_from_slice(&group[format::GROUP_HEADER_BYTES as usize..]);
    bytes
}

/// The bytes of a hex block of the page, counted from 1.
fn example(block: usize) -> Vec<u8> {
    let hex = PAGE.split("```hex\n").nth(block).unwrap().split("```").next().unwrap();
    let mut bytes = Vec::new();
    for word in hex.split_whitespace() {
        match word {
            "*" => bytes.resize(bytes.len().next_multiple_of(BLOCK), 0),
            pair => bytes.push(u8::from_str_radix(pair, 16).unwrap()),
        }
    }
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

#[test]
fn the_worked_example_is_what_the_code_writes_and_reads() {
    assert_eq!(example(1), encode(), "the hex block should be:\n{}", dump(&encode()));
    let bytes = Bytes::from(example(1));
    let header = SegmentHeader::decode(Path::new("00000005.seg"), &bytes).unwrap();
    assert_eq!(header.identity, identity());
    let group = GroupHeader::decode(&bytes[BLOCK..]).unwrap();
    assert_eq!((group.previous_crc, group.records), (header.crc, 1));
    let record = bytes.slice(BLOCK + format::GROUP_HEADER_BYTES as usize..);
    let Parsed::Entry(found, _) = record::parse(&record).unwrap().0 else { panic!("no entry") };
    assert_eq!(found, entry());
}

/// Writes the segment of values of the page's second example.
fn written_values() -> (MemVfs, SegmentInput) {
    let (vfs, path) = (MemVfs::new(), Path::new("/00000006.seg"));
    let identity = SegmentIdentity { segment: 2, file: 6, ..identity() };
    let mut writer = ValueSegmentWriter::create(&vfs, path.into(), identity, 2, 1 << 20).unwrap();
    for (key, seq, value) in [("a", 3 << 16, "left"), ("b", 2 << 16, "right")] {
        let value = StoredValue::new(key.as_bytes(), Bytes::from(value), &Compression::default());
        writer.add(key.as_bytes(), seq, &value).unwrap();
    }
    let sealed = Some(writer.finish().unwrap());
    (vfs, SegmentInput { kind: SegmentKind::Values, identity, path: path.into(), sealed })
}

#[test]
fn the_worked_example_of_values_is_what_the_code_writes_and_reads() {
    let (vfs, input) = written_values();
    let bytes = vfs.read_file(&input.path).unwrap();
    assert!(example(2) == bytes, "the hex block should be:\n{}", dump(&bytes));
    let mut met = Vec::new();
    let walked = walk_segment(&vfs, &input, &mut |found| {
        let [(_, _, Record::Values(values))] = &found.records[..] else { panic!("{found:?}") };
        met.extend(values.iter().map(|v| (v.key.clone(), v.seq, v.value.decode().unwrap())));
    });
    walked.unwrap();
    let expected = [("a", 196_608, "left"), ("b", 131_072, "right")];
    let expected = expected.map(|(key, seq, value)| (Bytes::from(key), seq, Bytes::from(value)));
    assert_eq!(met, expected);
}

#[test]
fn the_worked_example_of_a_remap_is_what_the_code_writes_and_reads() {
    let (vfs, input) = written_values();
    let whole = vfs.read_file(&input.path).unwrap();
    vfs.remove(&input.path).unwrap();
    let mut writer =
        ValueSegmentWriter::create(&vfs, input.path.clone(), input.identity, 2, 1 << 20).unwrap();
    let mut places = Vec::new();
    for (key, seq, value) in [("a", 3 << 16, "left"), ("b", 2 << 16, "right")] {
        let value = StoredValue::new(key.as_bytes(), Bytes::from(value), &Compression::default());
        places.push(writer.add(key.as_bytes(), seq, &value).unwrap().offset);
    }
    let moved = |from, to| Moved { segment: 1, from, to };
    let moves = [moved(8_320, places[1]), moved(12_416, places[0])];
    writer.finish_moved(&moves).unwrap();
    let bytes = vfs.read_file(&input.path).unwrap();
    let (values, footer) = bytes.split_at(whole.len());
    assert_eq!(values, whole);
    assert!(example(3) == footer, "the hex block should be:\n{}", dump(footer));
    assert_eq!(read_moves(&vfs, &input).unwrap(), moves);
}

fn dump(bytes: &[u8]) -> String {
    let block = |block: &[u8]| {
        let used = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let lines = block[..used]
            .chunks(16)
            .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ") + "\n");
        lines.collect::<String>()
    };
    bytes.chunks(BLOCK).map(block).collect::<Vec<_>>().join("*\n")
}

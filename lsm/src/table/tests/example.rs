//! The worked example of `docs/format/sst.md` is what this program writes and reads.

use crate::cursor::Cursor;
use crate::key::Slot;
use crate::table::testing::{TestDir, Versions, collect, identity, inline, version};
use crate::table::{TableIdentity, TableOptions, TableReader, TableWriter};

const PAGE: &str = include_str!("../../../../docs/format/sst.md");

/// A hex dump of the page: the fenced block marked `hex` with this number.
fn dump(number: usize) -> Vec<u8> {
    let rest = PAGE.split("```hex\n").nth(number + 1).expect("no hex dump on the page");
    let (dump, _) = rest.split_once("```").unwrap();
    let digits = dump.lines().filter_map(|line| line.split_once("  ")).flat_map(|(_, bytes)| {
        bytes.split('|').next().unwrap().split_whitespace().map(|hex| u8::from_str_radix(hex, 16).unwrap())
    });
    digits.collect()
}

/// As on the page: sixteen bytes a line.
fn print(bytes: &[u8]) -> String {
    let line = |(at, bytes): (usize, &[u8])| {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown =
            |byte: &u8| if (0x20..0x7f).contains(byte) && *byte != b'|' { *byte as char } else { '.' };
        format!("{:04x}  {:47} |{}|\n", at * 16, hex.join(" "), bytes.iter().map(shown).collect::<String>())
    };
    bytes.chunks(16).enumerate().map(line).collect()
}

fn example() -> (TableIdentity, TableOptions, Versions) {
    let identity = TableIdentity { cluster_id: *b"example cluster!", ..identity(12) };
    let options = TableOptions { compression_level: None, ..TableOptions::default() };
    let seq = |index: u64, op: u64| index << 16 | op;
    let at = |offset, length| {
        let value_bytes = u64::from(length) - 40;
        Slot::Pointer(
            crate::key::ValuePointer { segment: 17, offset, length, value_bytes },
            kv_vlog::Expiry::NEVER,
        )
    };
    let versions = Versions::from([
        (version(b"apple", seq(6, 0)), Slot::Tombstone),
        (version(b"apple", seq(4, 0)), at(4096, 1064)),
        (version(b"apricot", seq(5, 0)), at(5160, 1064)),
        (version(b"banana", seq(5, 1)), inline(b"ripe")),
    ]);
    (identity, options, versions)
}

fn partitioned() -> (TableIdentity, TableOptions, Versions) {
    let (identity, options, _) = example();
    let options = TableOptions { block_bytes: 64, partition_bytes: 1, ..options };
    let versions = Versions::from([
        (version(b"cat", 7 << 16), inline(&[b'm'; 52])),
        (version(b"dog", 7 << 16 | 1), Slot::Tombstone),
    ]);
    (TableIdentity { table_id: 13, ..identity }, options, versions)
}

#[test]
fn the_examples_are_what_is_written() {
    for (number, (identity, options, versions)) in [example(), partitioned()].into_iter().enumerate() {
        let dir = TestDir::new();
        let mut writer = TableWriter::create(&dir.vfs, dir.path(), &identity, &options).unwrap();
        for (key, slot) in &versions {
            writer.add(&key.key, key.seq, slot).unwrap();
        }
        writer.finish().unwrap();
        let written = dir.bytes(identity.table_id);
        assert!(dump(number) == written, "docs/format/sst.md should show\n{}", print(&written));
        assert!(PAGE.contains(&print(&written)), "the text beside the bytes differs\n{}", print(&written));
    }
}

#[test]
fn the_examples_are_read() {
    for (number, (identity, _, versions)) in [example(), partitioned()].into_iter().enumerate() {
        let dir = TestDir::new();
        let bytes = dump(number);
        dir.put(identity.table_id, &bytes);
        let table = TableReader::open(&dir.vfs, dir.path(), &identity, bytes.len() as u64).unwrap();
        table.verify().unwrap();
        let mut cursor = table.cursor();
        cursor.seek_first().unwrap();
        assert_eq!(collect(&mut cursor).unwrap(), versions.into_iter().collect::<Vec<_>>());
    }
}

//! `docs/format/manifest.md` says what the code does: its example is decoded, and written again.

use std::sync::Arc;
use std::time::Duration;

use kv_vfs::{ManualClock, MemVfs};

use super::make::*;
use crate::format::Kind;
use crate::{Edit, Manifest, read};

const PAGE: &str = include_str!("../../../docs/format/manifest.md");

/// The contents of the code block with this label.
fn block(label: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("```{label}\n")).expect("the block begins");
    rest.split_once("```").expect("the block ends").0
}

/// The bytes of a dump as `hexdump -C` makes it, without the text at the right.
fn bytes_of_dump(dump: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in dump.lines().filter(|line| *line != "*") {
        let mut words = line.split_whitespace();
        let offset = usize::from_str_radix(words.next().unwrap(), 16).unwrap();
        assert!(offset >= bytes.len());
        bytes.resize(offset, 0);
        bytes.extend(words.map(|word| u8::from_str_radix(word, 16).unwrap()));
    }
    bytes
}

fn dump_of_bytes(bytes: &[u8]) -> String {
    let mut dump = String::new();
    let mut starred = false;
    for (n, line) in bytes.chunks(16).enumerate() {
        if line.iter().all(|byte| *byte == 0) {
            dump.push_str(if starred { "" } else { "*\n" });
            starred = true;
            continue;
        }
        starred = false;
        let words: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        dump.push_str(&format!("{:08x}  {}\n", n * 16, words.join(" ")));
    }
    dump.push_str(&format!("{:08x}\n", bytes.len()));
    dump
}

/// The change-sets of the page's example.
fn example() -> (MemVfs, Manifest) {
    let vfs = empty();
    let clock = Arc::new(ManualClock::default());
    clock.advance(Duration::from_millis(1_700_000_000_000));
    let mut manifest = Manifest::create(Arc::new(vfs.clone()), clock.clone(), dir(), identity()).unwrap();
    clock.advance(Duration::from_millis(5));
    let opened = Edit::OpenSegment { segment: 1, file: 2, generation: 0, epoch: 1 };
    let edits = vec![Edit::NextFile(3), Edit::Epoch(1), opened, Edit::ReplayFrom { segment: 1 }];
    manifest.append("open", edits).unwrap();
    clock.advance(Duration::from_millis(60_000));
    let edits = vec![Edit::NextFile(4), Edit::AddTable(table(3, 0, "apple", "plum", &[1])), flushed(300)];
    manifest.append("flush", edits).unwrap();
    (vfs, manifest)
}

#[test]
fn the_example_is_what_is_written() {
    let (vfs, _) = example();
    let written = bytes_of(&vfs, &manifest_path(&vfs));
    assert_eq!(block("hex"), dump_of_bytes(&written), "the page should read:\n{}", dump_of_bytes(&written));
    assert_eq!(bytes_of_dump(block("hex")), written);
    assert_eq!(block("current").as_bytes(), bytes_of(&vfs, &dir().join("CURRENT")));
}

#[test]
fn the_example_is_read() {
    let vfs = empty();
    write(&vfs, &dir().join("MANIFEST-000001"), &bytes_of_dump(block("hex")));
    write(&vfs, &dir().join("CURRENT"), block("current").as_bytes());
    let reading = read(&vfs, dir()).unwrap();
    assert_eq!(reading.torn_tail, None);
    assert_eq!(&reading.state, example().1.state());
    let causes: Vec<_> = reading.change_sets.iter().map(|r| r.change_set.cause.as_str()).collect();
    assert_eq!(causes, ["create", "open", "flush"]);
}

/// The table that takes change-set 3 apart: offsets without gap, and bytes as in the dump.
#[test]
fn the_walk_through_the_example_is_right() {
    let bytes = bytes_of_dump(block("hex"));
    let mut at = 0x3000;
    let (_, walk) = PAGE.split_once("Change-set 3, from 0x3000:").unwrap();
    for row in walk.lines().filter(|line| line.starts_with("| 0x")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!(cells[1], format!("{at:#06x}"), "{row}");
        for word in cells[2].trim_matches('`').split(' ') {
            assert_eq!(word, format!("{:02x}", bytes[at]), "{row}");
            at += 1;
        }
    }
    let last = read_example_end();
    assert_eq!(at as u64, last);
}

fn read_example_end() -> u64 {
    let (vfs, _) = example();
    let last = read(&vfs, dir()).unwrap().change_sets.pop().unwrap();
    last.offset + last.length
}

#[test]
fn every_kind_has_a_row() {
    for byte in 1..=Kind::LAST {
        let row = format!("\n| {byte} | `{:?}` |", Kind::from_byte(byte).unwrap());
        assert!(PAGE.contains(&row), "{row}");
    }
}

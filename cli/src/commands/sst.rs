//! `sst`: tables, as the manifest knows them and as they are.

use std::path::Path;
use std::sync::Arc;

use kv_lsm::cursor::Cursor as _;
use kv_lsm::key::Slot;
use kv_lsm::offline::table_identity;
use kv_lsm::table::{Properties, SegmentOffsets, TableCursor, TableReader};
use kv_manifest::TableMeta;
use kv_vfs::{RealVfs, Vfs as _};
use serde_json::{Value, json};

use super::Context;
use crate::args::Sst;
use crate::bytes_text;
use crate::exit::{Exit, Failure};
use crate::offline::{Directory, failure, not_found};
use crate::output::{Base64, Output};
use crate::table::{Align, Table};
use crate::views;

/// Runs the command.
///
/// # Errors
/// The directory holds no data, or not the table; or the table cannot be read.
pub fn run(command: &Sst, context: &mut Context) -> Result<Exit, Failure> {
    match command {
        Sst::List(at) => list(&at.data_dir, context),
        Sst::Inspect { id, at, keys, limit } => {
            let reader = open(&at.data_dir, *id)?;
            inspect(&reader, *id, keys.then(|| limit.unwrap_or(u64::MAX)), &mut context.out)
        }
    }
}

/// Whether the file has lost its name since it was opened: a node that runs beside has compacted the table away, and may be
/// cutting the file.
fn is_given_up(reader: &TableReader) -> bool {
    matches!(RealVfs.exists(reader.path()), Ok(false))
}

fn given_up(id: u64) -> Failure {
    Failure::error(format!(
        "table {id} was given up while it was read: a node beside has compacted it; run this again"
    ))
}

fn list(dir: &Path, context: &mut Context) -> Result<Exit, Failure> {
    let directory = Directory::open(dir)?;
    let tables = directory.state().tables.values();
    if context.out.is_json() {
        let tables: Vec<Value> = tables.map(views::table_json).collect();
        context.out.json(&json!({ "tables": tables }))?;
    } else {
        table(tables, &mut context.out)?;
    }
    Ok(Exit::Ok)
}

/// Writes tables as a table.
///
/// # Errors
/// Standard output cannot be written to.
pub fn table<'a>(tables: impl Iterator<Item = &'a TableMeta>, out: &mut Output) -> Result<(), Failure> {
    let right = |name| (name, Align::Right);
    let mut columns =
        ["TABLE", "LEVEL", "BYTES", "ENTRIES", "TOMBSTONES", "SEGMENTS", "VALUE BYTES"].map(right).to_vec();
    columns.extend(["SMALLEST", "LARGEST"].map(|name| (name, Align::Left)));
    let mut table = Table::new(&columns);
    for meta in tables {
        table.row(out, row(meta))?;
    }
    table.end(out)
}

fn row(meta: &TableMeta) -> Vec<String> {
    let TableMeta { id, level, bytes, entries, tombstones, refs, .. } = meta;
    let referenced = refs.iter().map(|refs| refs.bytes).fold(0, u64::saturating_add);
    let numbers = [*id, u64::from(*level), *bytes, *entries, *tombstones, refs.len() as u64, referenced];
    let keys = [&meta.smallest, &meta.largest].map(|key| views::preview(key));
    numbers.map(|number| number.to_string()).into_iter().chain(keys).collect()
}

fn open(dir: &Path, id: u64) -> Result<Arc<TableReader>, Failure> {
    let directory = Directory::open(dir)?;
    let state = directory.state();
    let meta = state.tables.get(&id).ok_or_else(|| not_found("table", id, &directory))?;
    TableReader::open(&directory.vfs, dir, &table_identity(state, id), meta.bytes).map_err(failure)
}

fn inspect(reader: &Arc<TableReader>, id: u64, keys: Option<u64>, out: &mut Output) -> Result<Exit, Failure> {
    let shown = show(reader, keys, out);
    shown.map_err(|failure| if is_given_up(reader) { given_up(id) } else { failure })
}

fn show(reader: &Arc<TableReader>, keys: Option<u64>, out: &mut Output) -> Result<Exit, Failure> {
    let refs = reader.refs().map_err(failure)?;
    if out.is_json() {
        let mut json = table_json(reader, &refs);
        if let (Some(limit), Some(fields)) = (keys, json.as_object_mut()) {
            let mut versions = Vec::new();
            each_version(reader, limit, |cursor| {
                versions.push(version_json(cursor));
                Ok(())
            })?;
            fields.insert("versions".into(), versions.into());
        }
        out.json(&json)?;
        return Ok(Exit::Ok);
    }
    for line in property_lines(reader) {
        out.line(&line)?;
    }
    out.line("")?;
    refs_table(&refs, out)?;
    if let Some(limit) = keys {
        out.line("")?;
        versions_table(reader, limit, out)?;
    }
    Ok(Exit::Ok)
}

fn table_json(reader: &TableReader, refs: &[SegmentOffsets]) -> Value {
    let p = reader.properties();
    let refs: Vec<Value> = refs
        .iter()
        .map(|refs| json!({ "segment": refs.segment, "count": refs.count, "bytes": refs.bytes }))
        .collect();
    json!({
        "id": reader.identity().table_id,
        "bytes": reader.bytes(),
        "cause": p.cause,
        "entries": p.entries,
        "tombstones": p.tombstones,
        "expiring": p.expiries.count,
        "pointers": p.pointers,
        "keys": p.keys,
        "seq_min": p.seq_min,
        "seq_max": p.seq_max,
        "smallest": Base64(&p.smallest),
        "largest": Base64(&p.largest),
        "key_bytes": p.key_bytes,
        "inline_bytes": p.inline_bytes,
        "value_bytes": p.value_bytes,
        "blocks": p.blocks,
        "block_bytes": p.block_bytes,
        "refs": refs,
    })
}

fn property_lines(reader: &TableReader) -> Vec<String> {
    let p: &Properties = reader.properties();
    let cause = bytes_text::format(p.cause.as_bytes());
    let mut lines = vec![
        format!("table {}  {} bytes  made by {cause}", reader.identity().table_id, reader.bytes()),
        format!(
            "{} keys, {} versions: {} tombstones, {} pointers, {} inline",
            p.keys,
            p.entries,
            p.tombstones,
            p.pointers,
            p.entries.saturating_sub(p.tombstones).saturating_sub(p.pointers)
        ),
        format!("seq {} to {}", p.seq_min, p.seq_max),
        format!("{} to {}", bytes_text::format(&p.smallest), bytes_text::format(&p.largest)),
        format!(
            "bytes: keys {}, inline values {}, values pointed to {}",
            p.key_bytes, p.inline_bytes, p.value_bytes
        ),
        format!("{} data blocks, {} bytes before compression", p.blocks, p.block_bytes),
    ];
    if let (Some(first), Some(last)) = (p.expiries.bounds.first(), p.expiries.bounds.last()) {
        let [first, last] = [*first, *last].map(|time| views::seconds(time.into()));
        lines.push(format!("{} versions expire, {first} to {last}", p.expiries.count));
    }
    lines
}

fn refs_table(refs: &[SegmentOffsets], out: &mut Output) -> Result<(), Failure> {
    let mut table = Table::new(&["SEGMENT", "VALUES", "BYTES"].map(|name| (name, Align::Right)));
    for refs in refs {
        table.row(out, [refs.segment, refs.count, refs.bytes].map(|number| number.to_string()).to_vec())?;
    }
    table.end(out)
}

fn each_version(
    reader: &Arc<TableReader>,
    limit: u64,
    mut each: impl FnMut(&TableCursor) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut cursor = reader.cursor();
    cursor.seek_first().map_err(failure)?;
    let mut left = limit;
    while cursor.valid() && left > 0 {
        each(&cursor)?;
        cursor.next().map_err(failure)?;
        left -= 1;
    }
    Ok(())
}

fn version_json(cursor: &TableCursor) -> Value {
    let slot = cursor.slot();
    let mut json = json!({
        "key": Base64(cursor.key()),
        "seq": cursor.seq(),
        "kind": kind(&slot),
        "value_bytes": slot.value_bytes(),
    });
    if let Some(fields) = json.as_object_mut() {
        if let Slot::Pointer(at, _) = &slot {
            let at = json!({ "segment": at.segment, "offset": at.offset, "length": at.length });
            fields.insert("pointer".into(), at);
        }
        if let Some(time) = slot.expires().time() {
            fields.insert("expires_at".into(), time.into());
        }
    }
    json
}

fn versions_table(reader: &Arc<TableReader>, limit: u64, out: &mut Output) -> Result<(), Failure> {
    let (left, right) = (Align::Left, Align::Right);
    let mut columns = vec![("KEY", left), ("SEQ", right), ("KIND", left), ("VALUE BYTES", right)];
    columns.extend(["EXPIRES", "WHERE"].map(|name| (name, left)));
    let mut table = Table::new(&columns);
    each_version(reader, limit, |cursor| {
        let slot = cursor.slot();
        let place = match &slot {
            Slot::Pointer(at, _) => {
                format!("segment {}, offset {}, {} bytes", at.segment, at.offset, at.length)
            }
            Slot::Inline(..) | Slot::Tombstone => String::new(),
        };
        let (key, seq) = (bytes_text::format(cursor.key()), cursor.seq().to_string());
        let (kind, expires) = (kind(&slot).to_owned(), views::expiry(slot.expires()));
        table.row(out, vec![key, seq, kind, slot.value_bytes().to_string(), expires, place])
    })?;
    table.end(out)
}

fn kind(slot: &Slot) -> &'static str {
    match slot {
        Slot::Tombstone => "tombstone",
        Slot::Inline(..) => "inline",
        Slot::Pointer(..) => "pointer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_manifest::SegmentRef;

    #[test]
    fn a_table_is_a_row() {
        let meta = TableMeta {
            id: 12,
            level: 1,
            bytes: 500,
            smallest: b"a\0".to_vec(),
            largest: vec![b'z'; 100],
            entries: 9,
            tombstones: 2,
            refs: [3, 4].map(|segment| SegmentRef { segment, count: 2, bytes: 1000 }).to_vec(),
            ..TableMeta::default()
        };
        let row = row(&meta);
        assert_eq!(row[..8], ["12", "1", "500", "9", "2", "2", "2000", r"a\x00"]);
        assert!(row[8].ends_with("z..."));
    }
    /// Broken by: a table that a node compacts away, and gives back to the disk, while it is read here passed for a damaged one.
    #[test]
    fn a_table_that_is_given_up_meanwhile_is_not_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let db = kv_lsm::Db::open(dir.path(), kv_lsm::Options::default()).unwrap();
        for n in 0..2_000u32 {
            let noise: Vec<u8> =
                (0..100).map(|at| (n.wrapping_mul(2_654_435_761) >> (at % 24)) as u8).collect();
            db.put(&n.to_be_bytes(), noise).unwrap();
        }
        db.store().flush().unwrap();
        let id = db.tables().first().unwrap().id;
        db.close().unwrap();
        let reader = open(dir.path(), id).unwrap();
        let gone = reader.path().with_extension("gone");
        RealVfs.rename(reader.path(), &gone).unwrap();
        RealVfs.open(&gone, kv_vfs::IoMode::Buffered).unwrap().set_len(8 << 10).unwrap();
        let mut out = Output::new(crate::output::Format::Json);
        let error = inspect(&reader, id, Some(u64::MAX), &mut out).unwrap_err();
        assert_eq!(error.exit, Exit::Error);
        assert!(error.to_string().contains("given up while it was read"), "{error}");
    }
}

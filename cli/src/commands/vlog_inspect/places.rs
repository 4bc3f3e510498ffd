//! Where values are: the remap of a file, and the value at one place.

use std::path::Path;

use kv_vlog::{Op, OpValue, Record, SegmentInput, SegmentScanner, StoredValue, read_moves};
use serde_json::json;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::local::Sink;
use crate::offline::{Directory, failure};
use crate::table::{Align, Table};

/// Shows where in the file the values are that pointers into other segments name.
///
/// # Errors
/// The remap cannot be read.
pub(super) fn remap(
    directory: &Directory,
    owner: &SegmentInput,
    limit: Option<u64>,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let file = owner.identity.file;
    let is_shared = directory.state().segments_in(file).any(|segment| segment.remapped);
    let moves = if is_shared { read_moves(&*directory.vfs, owner).map_err(failure)? } else { Vec::new() };
    let shown =
        moves.iter().take(limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)));
    if context.out.is_json() {
        let moves: Vec<_> = shown
            .map(|moved| json!({ "segment": moved.segment, "offset": moved.from, "to": moved.to }))
            .collect();
        context.out.json(&json!({ "segment": owner.identity.segment, "file": file, "moves": moves }))?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["SEGMENT", "OFFSET", "TO"].map(|name| (name, Align::Right)));
    for moved in shown {
        let cells = [moved.segment, moved.from.into(), moved.to.into()].map(|number| number.to_string());
        table.row(&mut context.out, cells.to_vec())?;
    }
    table.end(&mut context.out)?;
    Ok(Exit::Ok)
}

/// Writes the value whose record begins at this offset.
///
/// # Errors
/// None does, or it is damaged; or it cannot be written.
pub(super) fn dump(
    scanner: &mut SegmentScanner,
    offset: u64,
    file: Option<&Path>,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let value = loop {
        let Ok(found) = scanner.next_group().map_err(failure)? else {
            let what =
                format!("no value begins at offset {offset}; `vlog inspect` lists those that are there");
            return Err(Failure::new(Exit::NotFound, what));
        };
        if let Some(value) = found.records.iter().find_map(|(_, _, record)| value_at(record, offset)) {
            break value;
        }
    };
    let bytes = value.decode().map_err(|why| Failure::new(Exit::Corruption, why))?;
    match file {
        None => context.out.bytes(&bytes)?,
        Some(file) => {
            let sink = Sink::beside(file)?;
            sink.write(&bytes, 0)?;
            sink.sync()?;
            sink.commit()?;
        }
    }
    Ok(Exit::Ok)
}

fn value_at(record: &Record, offset: u64) -> Option<StoredValue> {
    let value = match record {
        Record::Entry(entry, offsets) => {
            let at = offsets.iter().position(|at| u64::from(*at) == offset)?;
            match entry.payload.ops().get(at)? {
                Op::Put { value: OpValue::Full(value), .. } => value,
                _ => return None,
            }
        }
        Record::Values(values) => &values.iter().find(|value| u64::from(value.offset) == offset)?.value,
        Record::Vote(_) | Record::Truncate(_) | Record::Footer => return None,
    };
    Some(value.clone())
}

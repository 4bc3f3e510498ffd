//! `manifest`: what a data directory holds, and how it came to be.

use std::path::Path;

use kv_manifest::{CrossCheck, Reading, Recorded, SegmentState, State, cross_check};
use serde_json::{Value, json};

use super::{Context, manifest_history, sst};
use crate::args::Manifest;
use crate::exit::{Exit, Failure};
use crate::offline::{Directory, failure};
use crate::output::{Base64, Output};
use crate::table::{Align, Table};
use crate::views;

/// How often files and manifest are compared while a running node changes both.
const ATTEMPTS: u32 = 16;

/// Runs the command.
///
/// # Errors
/// The directory holds no data, or the manifest cannot be read.
pub fn run(command: &Manifest, context: &mut Context) -> Result<Exit, Failure> {
    match command {
        Manifest::Inspect { at, changes } => inspect(&at.data_dir, *changes, context),
        Manifest::Check(at) => check(&at.data_dir, context),
        Manifest::History { at, filter } => manifest_history::history(&at.data_dir, filter, context),
        Manifest::At { number, at } => manifest_history::at(&at.data_dir, *number, context),
        Manifest::Rewrite(at) => manifest_history::rewrite(&at.data_dir, context),
    }
}

fn inspect(dir: &Path, changes: bool, context: &mut Context) -> Result<Exit, Failure> {
    show(&Directory::open(dir)?.reading, changes, context)
}

/// Shows a manifest.
///
/// # Errors
/// The result cannot be written.
pub fn show(reading: &Reading, changes: bool, context: &mut Context) -> Result<Exit, Failure> {
    if context.out.is_json() {
        context.out.json(&reading_json(reading, changes))?;
        return Ok(Exit::Ok);
    }
    for line in head(reading) {
        context.out.line(&line)?;
    }
    context.out.line("")?;
    sst::table(reading.state.tables.values(), &mut context.out)?;
    context.out.line("")?;
    segments(&reading.state, &mut context.out)?;
    if changes {
        context.out.line("")?;
        reading.change_sets.iter().flat_map(change_lines).try_for_each(|line| context.out.line(&line))?;
    }
    Ok(Exit::Ok)
}

fn reading_json(reading: &Reading, changes: bool) -> Value {
    let state = &reading.state;
    let torn =
        |torn: &kv_manifest::TornTail| json!({ "offset": torn.offset, "bytes": torn.bytes, "why": torn.why });
    let mut json = json!({
        "file": reading.file,
        "identity": views::identity_json(&reading.identity),
        "number": state.number,
        "epoch": state.epoch,
        "next_file": state.next_file,
        "flushed": state.flushed.as_ref().map(views::position_json),
        "membership": Base64(&state.membership),
        "replay_from": state.replay_from,
        "purge_floor": state.purge_floor.as_ref().map(views::position_json),
        "tables": state.tables.values().map(views::table_json).collect::<Vec<_>>(),
        "segments": state.segments.values().map(views::segment_json).collect::<Vec<_>>(),
        "torn_tail": reading.torn_tail.as_ref().map(torn),
    });
    if let Some(fields) = json.as_object_mut().filter(|_| changes) {
        fields.insert("changes".into(), reading.change_sets.iter().map(change_json).collect());
    }
    json
}

/// A change-set, as JSON.
pub fn change_json(recorded: &Recorded) -> Value {
    let set = &recorded.change_set;
    json!({
        "number": set.number,
        "unix_ms": set.unix_ms,
        "cause": set.cause,
        "offset": recorded.offset,
        "bytes": recorded.length,
        "edits": set.edits.iter().map(views::edit_json).collect::<Vec<_>>(),
    })
}

/// A change-set: its head, then a line for each edit.
pub fn change_lines(recorded: &Recorded) -> Vec<String> {
    let set = &recorded.change_set;
    let cause = crate::bytes_text::format(set.cause.as_bytes());
    let head = format!(
        "change-set {}  {}  {cause}  (offset {}, {} bytes)",
        set.number,
        views::time(set.unix_ms),
        recorded.offset,
        recorded.length
    );
    let edits = set.edits.iter().map(|edit| format!("  {}", views::edit_text(edit)));
    std::iter::once(head).chain(edits).collect()
}

fn head(reading: &Reading) -> Vec<String> {
    let (state, identity) = (&reading.state, &reading.identity);
    let none = || "none".to_owned();
    let flushed = state.flushed.as_ref().map_or_else(none, views::position_text);
    let floor = state.purge_floor.as_ref().map_or_else(none, views::position_text);
    let options = identity.options.iter().map(|(name, value)| format!("{name} = {value}"));
    vec![
        format!(
            "cluster {}  node {}  incarnation {}  group {}",
            views::hex(&identity.cluster_id),
            identity.node_id,
            identity.incarnation,
            identity.group_id
        ),
        format!(
            "created {}  {}",
            views::time(identity.created_unix_ms),
            options.collect::<Vec<_>>().join("  ")
        ),
        format!(
            "{}  change-set {}  epoch {}  next file {}",
            reading.file, state.number, state.epoch, state.next_file
        ),
        format!(
            "in tables up to {flushed}  replay from segment {}  log purged up to {floor}",
            views::or_dash(state.replay_from)
        ),
    ]
}

fn segments(state: &State, out: &mut Output) -> Result<(), Failure> {
    let right = |name| (name, Align::Right);
    let mut columns = ["SEGMENT", "FILE", "GENERATION", "EPOCH", "END"].map(right).to_vec();
    columns.push(("STATE", Align::Left));
    columns.extend(["FIRST", "LAST", "VALUES", "VALUE BYTES"].map(right));
    let mut table = Table::new(&columns);
    for segment in state.segments.values() {
        table.row(out, segment_row(segment))?;
    }
    table.end(out)
}

fn segment_row(known: &SegmentState) -> Vec<String> {
    let SegmentState { segment, file, generation, epoch, sealed, .. } = known;
    let mut row = [*segment, *file, u64::from(*generation), *epoch].map(|number| number.to_string()).to_vec();
    let info = sealed.as_ref();
    row.push(views::or_dash(info.map(|info| info.end)));
    let name = match info {
        None => "open",
        Some(_) if known.remapped => "moved",
        Some(info) if info.cut => "cut",
        Some(_) => "sealed",
    };
    row.push(name.to_owned());
    row.push(views::or_dash(info.and_then(|info| info.first_index)));
    row.push(views::or_dash(info.and_then(|info| info.last_index)));
    row.push(views::or_dash(info.map(|info| info.values)));
    row.push(views::or_dash(info.map(|info| info.value_bytes)));
    row
}

fn check(dir: &Path, context: &mut Context) -> Result<Exit, Failure> {
    let (directory, found) = compare(dir)?;
    let problems = found.problems.len();
    if context.out.is_json() {
        let problem = |p: &kv_manifest::Problem| json!({ "file": p.file, "why": p.why });
        context.out.json(&json!({
            "file": directory.reading.file,
            "number": directory.state().number,
            "tables": directory.state().tables.len(),
            "segments": directory.state().segments.len(),
            "problems": found.problems.iter().map(problem).collect::<Vec<_>>(),
            "orphans": found.orphans,
            "foreign": found.foreign,
        }))?;
    } else {
        for problem in &found.problems {
            context.out.line(&format!("damaged: {}: {}", problem.file, problem.why))?;
        }
        for (names, what) in [
            (&found.orphans, "not in the manifest; the next start of a node removes it"),
            (&found.foreign, "no file of kvnode"),
        ] {
            for name in names {
                let name = crate::bytes_text::format(name.as_bytes());
                context.out.line(&format!("note: {name}: {what}"))?;
            }
        }
        let (file, state) = (&directory.reading.file, directory.state());
        let (number, tables, segments) = (state.number, state.tables.len(), state.segments.len());
        context.out.line(&format!(
            "{file}, change-set {number}: {tables} tables, {segments} segments, {problems} problems"
        ))?;
    }
    Ok(if problems == 0 { Exit::Ok } else { Exit::Corruption })
}

/// Compares manifest and files. Beside a running node the two are read at different times: what looks
/// wrong counts only if the manifest is still the same after it.
fn compare(dir: &Path) -> Result<(Directory, CrossCheck), Failure> {
    let mut directory = Directory::open(dir)?;
    let mut attempt = 1;
    loop {
        let found = cross_check(&*directory.vfs, dir, directory.state()).map_err(failure)?;
        let now = if found.problems.is_empty() { None } else { Some(Directory::open(dir)?) };
        match now.filter(|now| now.state().number != directory.state().number && attempt < ATTEMPTS) {
            Some(now) => (directory, attempt) = (now, attempt + 1),
            None => return Ok((directory, found)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_manifest::SealedInfo;

    #[test]
    fn a_segment_is_a_row() {
        let mut segment =
            SegmentState { segment: 7, file: 12, generation: 1, epoch: 3, ..Default::default() };
        assert_eq!(segment_row(&segment), ["7", "12", "1", "3", "-", "open", "-", "-", "-", "-"]);
        segment.sealed =
            Some(SealedInfo { end: 8192, first_index: Some(4), last_index: Some(5), ..Default::default() });
        assert_eq!(segment_row(&segment), ["7", "12", "1", "3", "8192", "sealed", "4", "5", "0", "0"]);
    }
}

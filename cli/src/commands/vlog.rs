//! `vlog`: the segments of a running node, or of a data directory.

use kv_api::admin::{GcHeld, GcPin, GcStatus, SegmentStatus, VerifyReport};
use serde::Serialize;

use super::{Context, vlog_gc, vlog_inspect, vlog_offline};
use crate::args::Vlog;
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::progress::message;
use crate::table::{Align, Table};
use crate::views;

#[derive(Serialize)]
struct Segments {
    segments: Vec<Line>,
}

/// A segment, and what value GC says of its file.
#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    segment: SegmentStatus,
    garbage_bytes: u64,
    state: &'static str,
    age_ms: Option<u64>,
    gc: Option<String>,
    /// Who keeps the file, or would, were it given up now; null: nobody can tell.
    pins: Option<Vec<GcPin>>,
}

impl Line {
    /// `live`: a node says it, not a directory.
    fn of(segment: SegmentStatus, gc: &GcStatus, live: bool) -> Self {
        // Of one whose values were moved, the file is accounted for with its owner.
        let file = gc.files.iter().find(|file| file.file == segment.file && !segment.moved);
        let state = match (segment.free, segment.sealed, segment.moved) {
            (true, ..) => "free",
            (_, _, true) => "moved",
            (_, true, _) => "sealed",
            _ => "active",
        };
        Self {
            garbage_bytes: segment
                .bytes
                .saturating_sub(file.map_or(segment.live_bytes, |file| file.live_bytes)),
            state,
            age_ms: file.and_then(|file| file.age_ms),
            gc: file.map(|file| file.why.clone()),
            pins: file.filter(|_| live).map(|_| gc.pins.clone()),
            segment,
        }
    }

    /// A file that is given up, but not gone.
    fn held(held: &GcHeld) -> Self {
        let GcHeld { file, segments, bytes, pins } = held;
        let segment = SegmentStatus {
            segment: segments.first().copied().unwrap_or_default(),
            file: *file,
            bytes: *bytes,
            live_bytes: 0,
            free: false,
            sealed: true,
            moved: false,
            first_index: None,
            last_index: None,
        };
        let gc = Some("given up: goes when nobody reads it any more".into());
        Self { segment, garbage_bytes: *bytes, state: "given up", age_ms: None, gc, pins: Some(pins.clone()) }
    }
}

/// Runs the command.
///
/// # Errors
/// No node answers, or the data directory cannot be read.
pub async fn run(command: &Vlog, context: &mut Context) -> Result<Exit, Failure> {
    match command {
        Vlog::List { data_dir } => {
            let segments = match data_dir {
                Some(dir) => vlog_offline::segments(dir)?,
                None => connect::client(&context.global)?.admin().segments().await?,
            };
            let gc = vlog_gc::status(data_dir.as_deref(), false, context).await?;
            let live = data_dir.is_none();
            let mut lines: Vec<Line> =
                segments.into_iter().map(|segment| Line::of(segment, &gc, live)).collect();
            lines.extend(gc.held.iter().map(Line::held));
            list(lines, context)
        }
        Vlog::Verify { data_dir } => {
            let report = match data_dir {
                Some(dir) => vlog_offline::verify(dir, context)?,
                None => connect::long_client(&context.global)?.admin().verify().await?,
            };
            verified(&report, context)
        }
        Vlog::Gc(command) => vlog_gc::run(command, context).await,
        Vlog::Inspect { segment, at, shown } => vlog_inspect::run(*segment, &at.data_dir, shown, context),
    }
}

fn list(segments: Vec<Line>, context: &mut Context) -> Result<Exit, Failure> {
    if context.out.is_json() {
        context.out.json(&Segments { segments })?;
        return Ok(Exit::Ok);
    }
    let right = |name| (name, Align::Right);
    let mut columns =
        ["SEGMENT", "FILE", "BYTES", "LIVE", "GARBAGE", "GARBAGE %", "AGE S"].map(right).to_vec();
    columns.push(("STATE", Align::Left));
    columns.extend(["FIRST", "LAST"].map(right));
    columns.extend(["PINS", "GC"].map(|name| (name, Align::Left)));
    let mut table = Table::new(&columns);
    for line in &segments {
        table.row(&mut context.out, row(line))?;
    }
    table.end(&mut context.out)?;
    Ok(Exit::Ok)
}

fn row(line: &Line) -> Vec<String> {
    let Line { segment, garbage_bytes, state, age_ms, gc, pins } = line;
    let SegmentStatus { segment, file, bytes, live_bytes, free, moved, first_index, last_index, .. } =
        segment;
    let mut cells = vec![if *free { "-".to_owned() } else { segment.to_string() }];
    cells.extend([file, bytes, live_bytes].map(u64::to_string));
    let percent = u128::from(*garbage_bytes) * 100 / u128::from(*bytes).max(1);
    cells.extend(match moved {
        true => ["-".to_owned(), "-".to_owned()],
        false => [garbage_bytes.to_string(), percent.to_string()],
    });
    cells.extend([views::or_dash(age_ms.map(|age| age / 1000)), (*state).to_owned()]);
    cells.extend([views::or_dash(*first_index), views::or_dash(*last_index)]);
    cells.push(match pins.as_deref() {
        None => "-".into(),
        Some([]) => "none".into(),
        Some(pins) => vlog_gc::pins_text(pins),
    });
    cells.push(gc.clone().unwrap_or_default());
    cells
}

fn verified(report: &VerifyReport, context: &mut Context) -> Result<Exit, Failure> {
    if context.out.is_json() {
        context.out.json(report)?;
    } else {
        let VerifyReport { segments, records, bytes, damages } = report;
        for damage in damages {
            context.out.line(&format!("damaged: {damage}"))?;
        }
        let damaged = damages.len();
        context.out.line(&format!(
            "{segments} segments, {bytes} bytes: {records} records intact, {damaged} damaged"
        ))?;
    }
    if report.damages.is_empty() {
        return Ok(Exit::Ok);
    }
    message("stored data is damaged: compare with another node before anything else");
    Ok(Exit::Corruption)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_api::admin::GcFile;

    #[test]
    fn a_segment_is_a_row() {
        let segment = SegmentStatus {
            segment: 17,
            file: 93,
            bytes: 8 << 20,
            live_bytes: 1 << 20,
            free: false,
            sealed: true,
            moved: false,
            first_index: Some(5),
            last_index: None,
        };
        // In the file are values of other segments as well.
        let file = GcFile {
            file: 93,
            owner: 17,
            segments: vec![17, 4],
            bytes: 8 << 20,
            live_bytes: 2 << 20,
            live_values: 9,
            age_ms: Some(61_500),
            chosen: false,
            why: "too young".into(),
        };
        let pins = vec![GcPin { by: "checkpoints".into(), count: 1 }];
        let gc = GcStatus { files: vec![file], pins, ..GcStatus::default() };
        let cells = row(&Line::of(segment.clone(), &gc, true));
        let expected = [
            "17",
            "93",
            "8388608",
            "1048576",
            "6291456",
            "75",
            "61",
            "sealed",
            "5",
            "-",
            "checkpoints (1)",
            "too young",
        ];
        assert_eq!(cells, expected);
        let nobody = GcStatus { pins: Vec::new(), ..gc.clone() };
        assert_eq!(row(&Line::of(segment.clone(), &nobody, true))[10], "none");
        assert_eq!(row(&Line::of(segment.clone(), &gc, false))[10], "-");
        let held = GcHeld { file: 90, segments: vec![3, 4], bytes: 4096, pins: gc.pins.clone() };
        let held = row(&Line::held(&held));
        assert_eq!((&held[0][..], &held[1][..], &held[7][..]), ("3", "90", "given up"));
        assert_eq!(held[10], "checkpoints (1)");
        let moved = row(&Line::of(SegmentStatus { moved: true, bytes: 0, ..segment.clone() }, &gc, true));
        assert_eq!(moved[4..8], ["-", "-", "-", "moved"]);
        let free = SegmentStatus { segment: 0, live_bytes: 0, free: true, sealed: false, ..segment.clone() };
        let free = row(&Line::of(SegmentStatus { bytes: 4096, ..free }, &GcStatus::default(), true));
        assert_eq!((&free[0][..], &free[2][..], &free[7][..]), ("-", "4096", "free"));
        let active = SegmentStatus { sealed: false, bytes: 0, ..segment };
        let active = row(&Line::of(active, &GcStatus::default(), true));
        assert_eq!((&active[7][..], &active[5][..], &active[11][..]), ("active", "0", ""));
    }
}

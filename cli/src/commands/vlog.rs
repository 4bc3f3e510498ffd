//! `vlog`: the segments of a running node, or of a data directory.

use kv_api::admin::{SegmentStatus, VerifyReport};
use serde::Serialize;

use super::{Context, vlog_gc, vlog_inspect, vlog_offline};
use crate::args::Vlog;
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::progress::message;
use crate::table::{Align, Table};

#[derive(Serialize)]
struct Segments {
    segments: Vec<SegmentStatus>,
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
            list(segments, context)
        }
        Vlog::Verify { data_dir } => {
            let report = match data_dir {
                Some(dir) => vlog_offline::verify(dir, context)?,
                None => connect::long_client(&context.global)?.admin().verify().await?,
            };
            verified(&report, context)
        }
        Vlog::Gc(command) => vlog_gc::run(command, context).await,
        Vlog::Inspect { segment, at, limit } => vlog_inspect::run(*segment, &at.data_dir, *limit, context),
    }
}

fn list(segments: Vec<SegmentStatus>, context: &mut Context) -> Result<Exit, Failure> {
    if context.out.is_json() {
        context.out.json(&Segments { segments })?;
        return Ok(Exit::Ok);
    }
    let right = |name| (name, Align::Right);
    let mut columns = ["SEGMENT", "FILE", "BYTES", "LIVE", "LIVE %"].map(right).to_vec();
    columns.push(("STATE", Align::Left));
    columns.extend(["FIRST", "LAST"].map(right));
    let mut table = Table::new(&columns);
    for segment in &segments {
        table.row(&mut context.out, row(segment))?;
    }
    table.end(&mut context.out)?;
    Ok(Exit::Ok)
}

fn row(segment: &SegmentStatus) -> Vec<String> {
    let SegmentStatus { segment, file, bytes, live_bytes, free, sealed, moved, first_index, last_index } =
        segment;
    let live_percent = u128::from(*live_bytes) * 100 / u128::from(*bytes).max(1);
    let index = |index: &Option<u64>| index.map_or_else(|| "-".to_owned(), |index| index.to_string());
    let mut cells = vec![if *free { "-".to_owned() } else { segment.to_string() }];
    cells.extend([file, bytes, live_bytes].map(u64::to_string));
    // Of one whose values were moved, the file is accounted for with its owner.
    cells.push(if *moved { "-".to_owned() } else { live_percent.to_string() });
    let state = match (free, sealed, moved) {
        (true, ..) => "free",
        (_, _, true) => "moved",
        (_, true, _) => "sealed",
        _ => "active",
    };
    cells.push(state.to_owned());
    cells.extend([index(first_index), index(last_index)]);
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

    #[test]
    fn a_segment_is_a_row() {
        let mut segment = SegmentStatus {
            segment: 17,
            file: 93,
            bytes: 8 << 20,
            live_bytes: 2 << 20,
            free: false,
            sealed: true,
            moved: false,
            first_index: Some(5),
            last_index: None,
        };
        assert_eq!(row(&segment), ["17", "93", "8388608", "2097152", "25", "sealed", "5", "-"]);
        segment.bytes = 0;
        segment.live_bytes = u64::MAX;
        segment.sealed = false;
        assert_eq!(row(&segment)[5], "active");
        segment.moved = true;
        assert_eq!(row(&segment)[4..6], ["-", "moved"]);
        segment = SegmentStatus { segment: 0, live_bytes: 0, free: true, moved: false, ..segment };
        segment.bytes = 4096;
        assert_eq!(row(&segment)[..6], ["-", "93", "4096", "0", "0", "free"]);
    }
}

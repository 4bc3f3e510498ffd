//! `vlog gc`: what value GC would do, why not more, and having it do so.

use std::path::Path;

use kv_api::admin::{GcFile, GcHeld, GcPin, GcPlan, GcRun, GcStatus, GcTotals};
use kv_lsm::Options;
use kv_lsm::gc::{Candidate, Plan, Priority, Verdict};
use kv_lsm::offline::gc_report;
use serde::Serialize;
use serde_json::json;

use super::Context;
use crate::args::Gc;
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::offline::{Directory, failure};
use crate::table::{Align, Table};
use crate::views;

/// Runs the command.
///
/// # Errors
/// No node answers, or the data directory cannot be read.
pub async fn run(command: &Gc, context: &mut Context) -> Result<Exit, Failure> {
    match command {
        Gc::Plan { data_dir, any_garbage } => {
            let status = status(data_dir.as_deref(), *any_garbage, context).await?;
            show_plan(&status, context)
        }
        Gc::Explain { segment, data_dir } => {
            let status = status(data_dir.as_deref(), false, context).await?;
            explain(*segment, &status, context)
        }
        Gc::Run => {
            let runs = connect::long_client(&context.global)?.admin().gc_run().await?;
            show_runs(&runs, context)
        }
        Gc::Pause => pause(true, context).await,
        Gc::Resume => pause(false, context).await,
    }
}

/// What value GC would do: of a node, or in a data directory.
///
/// # Errors
/// No node answers, or the data directory cannot be read.
pub async fn status(dir: Option<&Path>, any_garbage: bool, context: &Context) -> Result<GcStatus, Failure> {
    match dir {
        Some(dir) => offline(dir, any_garbage),
        None => Ok(connect::client(&context.global)?.admin().gc_status(any_garbage).await?),
    }
}

/// What a node with the default settings would say of the directory.
fn offline(dir: &Path, any_garbage: bool) -> Result<GcStatus, Failure> {
    let directory = Directory::open(dir)?;
    let at_least = if any_garbage { Priority::Emergency } else { Priority::Normal };
    let report = gc_report(&directory.vfs, dir, directory.state(), &Options::default(), at_least);
    let report = report.map_err(failure)?;
    let judged = report.candidates.into_iter().zip(report.decision.verdicts);
    Ok(GcStatus {
        emergency: report.decision.priority == Priority::Emergency,
        plan: report.decision.plan.map(plan),
        files: judged.map(|(candidate, (_, verdict))| file(candidate, &verdict)).collect(),
        ..GcStatus::default()
    })
}

fn file(candidate: Candidate, verdict: &Verdict) -> GcFile {
    let usage = candidate.usage;
    GcFile {
        file: usage.file,
        owner: usage.owner,
        segments: usage.segments,
        bytes: usage.file_bytes,
        live_bytes: usage.live_bytes,
        live_values: usage.live_values,
        age_ms: None,
        chosen: *verdict == Verdict::Chosen,
        why: verdict.to_string(),
    }
}

fn plan(plan: Plan) -> GcPlan {
    let (reclaimed_bytes, peak_bytes) = (plan.reclaimed_bytes(), plan.peak_bytes());
    let Plan { files, values, read_bytes, written_bytes, freed_bytes } = plan;
    GcPlan { files, values, read_bytes, written_bytes, freed_bytes, reclaimed_bytes, peak_bytes }
}

fn show_plan(status: &GcStatus, context: &mut Context) -> Result<Exit, Failure> {
    if context.out.is_json() {
        context.out.json(status)?;
        return Ok(Exit::Ok);
    }
    for line in head(status) {
        context.out.line(&line)?;
    }
    context.out.line("")?;
    let right = |name| (name, Align::Right);
    let mut columns = ["FILE", "BYTES", "LIVE", "GARBAGE %", "VALUES", "AGE S"].map(right).to_vec();
    columns.extend([("SEGMENTS", Align::Left), ("WHY", Align::Left)]);
    let mut table = Table::new(&columns);
    for file in &status.files {
        table.row(&mut context.out, row(file))?;
    }
    table.end(&mut context.out)?;
    Ok(Exit::Ok)
}

fn head(status: &GcStatus) -> Vec<String> {
    let mut lines = vec![match &status.plan {
        Some(plan) => plan_text(plan),
        None => "nothing to collect".to_owned(),
    }];
    if status.emergency {
        lines.push("any garbage goes: room is short, or --any-garbage was given".into());
    }
    if status.paused {
        lines.push("paused".into());
    }
    lines.extend(status.held.iter().map(held_text));
    if status.snapshots > 0 {
        lines.push(snapshots_text(status.snapshots));
    }
    if let Some(why) = &status.last_error {
        lines.push(format!("it had to wait: {why}"));
    }
    if status.totals.runs > 0 {
        lines.push(format!("done so far: {}", done_text(&status.totals)));
    }
    lines
}

fn held_text(GcHeld { file, bytes, pins, .. }: &GcHeld) -> String {
    let by = if pins.is_empty() { "a read".into() } else { pins_text(pins) };
    format!("file {file} ({bytes} bytes) is given up, but kept by {by}")
}

/// Who reads, and how many of each.
pub fn pins_text(pins: &[GcPin]) -> String {
    let pin = |GcPin { by, count }: &GcPin| format!("{by} ({count})");
    pins.iter().map(pin).collect::<Vec<_>>().join(", ")
}

fn snapshots_text(count: u64) -> String {
    format!("{count} open snapshots: what they see is live, though it was overwritten or deleted")
}

fn plan_text(plan: &GcPlan) -> String {
    let GcPlan { files, values, read_bytes, written_bytes, reclaimed_bytes, peak_bytes, .. } = plan;
    format!(
        "collect {} files: read {read_bytes} bytes of {values} values, write {written_bytes}, reclaim \
         {reclaimed_bytes}, {peak_bytes} more on the disk meanwhile",
        files.len()
    )
}

fn done_text(done: &GcTotals) -> String {
    let GcTotals { runs, files, values, read_bytes, written_bytes, freed_bytes } = done;
    format!(
        "{runs} collections of {files} files: {read_bytes} bytes of {values} values read, {written_bytes} written, \
         {freed_bytes} freed, {} reclaimed",
        reclaimed_bytes(done)
    )
}

/// What the disk holds less; negative: more.
fn reclaimed_bytes(done: &GcTotals) -> i64 {
    i64::try_from(done.freed_bytes).unwrap_or(i64::MAX)
        - i64::try_from(done.written_bytes).unwrap_or(i64::MAX)
}

fn row(file: &GcFile) -> Vec<String> {
    let garbage = file.bytes.saturating_sub(file.live_bytes);
    let percent = u128::from(garbage) * 100 / u128::from(file.bytes).max(1);
    let segments: Vec<String> = file.segments.iter().map(u64::to_string).collect();
    vec![
        file.file.to_string(),
        file.bytes.to_string(),
        file.live_bytes.to_string(),
        percent.to_string(),
        file.live_values.to_string(),
        views::or_dash(file.age_ms.map(|age| age / 1000)),
        segments.join(","),
        file.why.clone(),
    ]
}

fn explain(segment: u64, status: &GcStatus, context: &mut Context) -> Result<Exit, Failure> {
    let file = status.files.iter().find(|file| file.segments.contains(&segment));
    let held: Vec<&GcHeld> = status.held.iter().filter(|held| held.segments.contains(&segment)).collect();
    if file.is_none() && held.is_empty() {
        return Err(Failure::new(
            Exit::NotFound,
            format!("there is no segment {segment}: it was given up, or never was"),
        ));
    }
    if context.out.is_json() {
        let moved = file.is_some_and(|file| file.owner != segment);
        let GcStatus { paused, emergency, snapshots, last_error, .. } = status;
        context.out.json(&json!({
            "segment": segment, "moved": moved, "file": file, "held": held, "paused": paused,
            "emergency": emergency, "snapshots": snapshots, "last_error": last_error,
        }))?;
        return Ok(Exit::Ok);
    }
    explain_lines(segment, file, &held, status).iter().try_for_each(|line| context.out.line(line))?;
    Ok(Exit::Ok)
}

fn explain_lines(segment: u64, file: Option<&GcFile>, held: &[&GcHeld], status: &GcStatus) -> Vec<String> {
    let mut lines = Vec::new();
    match file {
        Some(GcFile { file, owner, bytes, live_bytes, why, .. }) => {
            lines.push(format!("segment {segment}, file {file}: {live_bytes} of {bytes} bytes are live"));
            if *owner != segment {
                lines.push(format!("moved: value GC has put its values into the file of segment {owner}"));
            }
            lines.push(why.clone());
        }
        None => lines.push(format!("segment {segment} is given up: nothing points into it any more")),
    }
    lines.extend(held.iter().map(|held| held_text(held)));
    if file.is_none() {
        return lines;
    }
    if status.snapshots > 0 {
        lines.push(snapshots_text(status.snapshots));
    }
    if status.paused {
        lines.push("value GC is paused".into());
    }
    if let Some(why) = &status.last_error {
        lines.push(format!("it had to wait: {why}"));
    }
    lines
}

fn show_runs(runs: &[GcRun], context: &mut Context) -> Result<Exit, Failure> {
    if context.out.is_json() {
        context.out.json(&json!({ "runs": runs.iter().map(ran).collect::<Vec<_>>() }))?;
        return Ok(Exit::Ok);
    }
    if runs.is_empty() {
        context.out.line("nothing to collect")?;
    }
    for run in runs {
        context.out.line(&format!("foreseen: {}", plan_text(&run.plan)))?;
        context.out.line(&format!("done:     {}", done_text(&run.done)))?;
    }
    Ok(Exit::Ok)
}

/// A run, with what it reclaimed beside what it was to reclaim.
#[derive(Serialize)]
struct Ran<'a> {
    plan: &'a GcPlan,
    done: Done<'a>,
}

#[derive(Serialize)]
struct Done<'a> {
    #[serde(flatten)]
    totals: &'a GcTotals,
    reclaimed_bytes: i64,
}

fn ran(run: &GcRun) -> Ran<'_> {
    Ran { plan: &run.plan, done: Done { totals: &run.done, reclaimed_bytes: reclaimed_bytes(&run.done) } }
}

async fn pause(paused: bool, context: &mut Context) -> Result<Exit, Failure> {
    connect::client(&context.global)?.admin().gc_pause(paused).await?;
    if context.out.is_json() {
        context.out.json(&json!({ "paused": paused }))?;
    } else {
        context.out.line(if paused { "paused until it is resumed or the node ends" } else { "resumed" })?;
    }
    Ok(Exit::Ok)
}

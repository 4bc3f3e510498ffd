//! Value GC, as operators are shown it.

use kv_api::admin::{GcFile, GcHeld, GcPin, GcPlan, GcRun, GcStatus, GcTotals};
use kv_lsm::gc::{Candidate, Plan, Priority, Verdict};
use kv_lsm::{Collected, HeldFile, Holder, Store, StoreError};

/// What value GC would do.
pub fn status(store: &Store, any_garbage: bool) -> Result<GcStatus, StoreError> {
    let at_least = if any_garbage { Priority::Emergency } else { Priority::Normal };
    let report = store.gc_report(at_least)?;
    let judged = report.candidates.into_iter().zip(report.decision.verdicts);
    Ok(GcStatus {
        paused: store.gc_is_paused(),
        emergency: report.decision.priority == Priority::Emergency,
        plan: report.decision.plan.map(plan),
        files: judged.map(|(candidate, (_, verdict))| file(candidate, &verdict)).collect(),
        held: report.held.into_iter().map(held).collect(),
        pins: report.pins.into_iter().map(pin).collect(),
        snapshots: report.snapshots,
        totals: totals(store.collected()),
        last_error: store.gc_last_error(),
    })
}

/// A collection that was asked for.
pub fn run(run: kv_lsm::GcRun) -> GcRun {
    GcRun { plan: plan(run.plan), done: totals(run.done) }
}

fn file(candidate: Candidate, verdict: &Verdict) -> GcFile {
    let Candidate { usage, age, .. } = candidate;
    GcFile {
        file: usage.file,
        owner: usage.owner,
        segments: usage.segments,
        bytes: usage.file_bytes,
        live_bytes: usage.live_bytes,
        live_values: usage.live_values,
        age_ms: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        chosen: *verdict == Verdict::Chosen,
        why: verdict.to_string(),
    }
}

fn held(held: HeldFile) -> GcHeld {
    let HeldFile { file, segments, bytes, by } = held;
    GcHeld { file, segments, bytes, pins: by.into_iter().map(pin).collect() }
}

fn pin((holder, count): (Holder, usize)) -> GcPin {
    GcPin { by: holder.name().into(), count: count as u64 }
}

fn plan(plan: Plan) -> GcPlan {
    let (reclaimed_bytes, peak_bytes) = (plan.reclaimed_bytes(), plan.peak_bytes());
    let Plan { files, values, read_bytes, written_bytes, freed_bytes } = plan;
    GcPlan { files, values, read_bytes, written_bytes, freed_bytes, reclaimed_bytes, peak_bytes }
}

/// What value GC has done.
pub fn totals(done: Collected) -> GcTotals {
    let Collected { runs, files, values, read_bytes, written_bytes, freed_bytes } = done;
    GcTotals { runs, files, values, read_bytes, written_bytes, freed_bytes }
}

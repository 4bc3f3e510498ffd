//! `check`: everything in a data directory.

use std::path::Path;
use std::sync::Arc;

use kv_lsm::offline::{self, CheckReport, Problem};
use kv_manifest::names;
use kv_vfs::{DirLock, LockError, RealVfs, Vfs};
use serde_json::{Value, json};

use super::Context;
use crate::args::DataDir;
use crate::exit::{Exit, Failure};
use crate::offline::failure;
use crate::progress::{Progress, Unit, message};

/// Runs the command.
///
/// # Errors
/// The directory holds no data, is in use, or was written by a newer program.
pub fn run(args: &DataDir, context: &mut Context) -> Result<Exit, Failure> {
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let dir = &args.data_dir;
    let _lock = lock(&*vfs, dir, "kvadmin check")?;
    let report = {
        let progress = Progress::start(context.progress(), "check", Unit::Bytes, Some(0));
        offline::check(&vfs, dir, &|at| progress.set_of(at.done_bytes, at.total_bytes)).map_err(failure)?
    };
    if context.out.is_json() {
        context.out.json(&report_json(&report))?;
    } else {
        for line in report_lines(&report) {
            context.out.line(&line)?;
        }
    }
    if report.problems.is_empty() {
        return Ok(Exit::Ok);
    }
    message(
        "the directory is damaged: leave it as it is until the data is safe on another node or in a backup",
    );
    Ok(Exit::Corruption)
}

/// Takes the lock of a data directory. In one that is none, no lock file is made.
///
/// # Errors
/// Somebody has it, or the lock file cannot be written.
pub fn lock(vfs: &dyn Vfs, dir: &Path, who: &str) -> Result<Option<Box<dyn DirLock>>, Failure> {
    let in_dir = |error: std::io::Error| Failure::from(error).of(dir.display());
    if !vfs.exists(&dir.join(names::CURRENT)).map_err(in_dir)? {
        return Ok(None);
    }
    let holder = format!("{who}, pid {}", std::process::id());
    match vfs.lock(&dir.join(names::LOCK), &holder) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Held { holder }) => Err(Failure::error(format!(
            "{} is in use by {holder}: stop that process first, or use `manifest check` and `vlog verify`",
            dir.display()
        ))),
        Err(LockError::Io(error)) => Err(error.into()),
    }
}

fn report_json(report: &CheckReport) -> Value {
    let problem = |problem: &Problem| {
        let Problem { file, offset, why } = problem;
        json!({ "file": file, "offset": offset, "why": why })
    };
    json!({
        "applied": report.applied.map(|at| at.index),
        "applied_term": report.applied.map(|at| at.term),
        "uncommitted": report.uncommitted,
        "content_hash": report.content_hash,
        "keys": report.keys,
        "value_bytes": report.value_bytes,
        "tables": report.tables,
        "segments": report.segments,
        "records": report.records,
        "unlisted_problems": report.unlisted,
        "problems": report.problems.iter().map(problem).collect::<Vec<_>>(),
        "notes": report.notes,
    })
}

fn report_lines(report: &CheckReport) -> Vec<String> {
    let CheckReport { tables, segments, records, keys, value_bytes, .. } = report;
    let mut lines: Vec<String> =
        report.problems.iter().map(|problem| format!("damaged: {problem}")).collect();
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    let applied = report.applied.map_or_else(
        || "nothing applied".into(),
        |at| format!("applied up to entry {} of term {}", at.index, at.term),
    );
    let hash = report.content_hash.as_deref().unwrap_or("unknown");
    lines.push(format!("{tables} tables, {segments} segments with {records} records; {applied}"));
    lines.push(format!("{keys} keys with {value_bytes} bytes of values, content hash {hash}"));
    let problems = report.problems.len();
    lines.push(if problems == 0 { "no damage".into() } else { format!("{problems} problems") });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_vlog::Position;

    #[test]
    fn a_report_has_two_forms() {
        let problem = Problem { file: "00000003.seg".into(), offset: Some(4096), why: "checksum".into() };
        let report = CheckReport {
            applied: Some(Position { term: 2, index: 9 }),
            content_hash: Some("ab".into()),
            keys: 3,
            problems: vec![problem, Problem { file: "CURRENT".into(), offset: None, why: "missing".into() }],
            notes: vec!["a torn tail".into()],
            ..CheckReport::default()
        };
        let json = report_json(&report);
        assert_eq!((&json["applied"], &json["applied_term"]), (&json!(9), &json!(2)));
        assert_eq!((&json["content_hash"], &json["keys"]), (&json!("ab"), &json!(3)));
        assert_eq!(json["problems"][0], json!({ "file": "00000003.seg", "offset": 4096, "why": "checksum" }));
        assert!(json["problems"][1]["offset"].is_null());
        let text = report_lines(&report).join("\n");
        assert!(text.starts_with("damaged: 00000003.seg, offset 4096: checksum\ndamaged: CURRENT: missing"));
        assert!(text.contains("entry 9 of term 2") && text.ends_with("2 problems"), "{text}");
        let empty = report_json(&CheckReport::default());
        assert!(empty["applied"].is_null() && empty["content_hash"].is_null());
    }
}

//! `repair`: a new directory of what is left of a damaged one.

use std::sync::Arc;

use kv_lsm::Environment;
use kv_lsm::repair::{LostRange, RepairOptions, RepairReport, RepairedKey, RepairedKeys, repair};
use kv_vfs::{RealVfs, SystemClock, ThreadExecutor};
use serde_json::{Value, json};

use super::{Context, check};
use crate::args::Repair;
use crate::bytes_text;
use crate::exit::{Exit, Failure};
use crate::offline::failure;
use crate::output::Base64;
use crate::progress::{Progress, Unit, message};

/// Runs the command.
///
/// # Errors
/// The directory holds no data, is in use, or was written by a newer program; the new one exists, or cannot be
/// written.
pub fn run(args: &Repair, context: &mut Context) -> Result<Exit, Failure> {
    let environment = Environment {
        vfs: Arc::new(RealVfs),
        clock: Arc::new(SystemClock::default()),
        executor: Arc::new(ThreadExecutor),
    };
    let _lock = check::lock(&RealVfs, &args.directory, "kvadmin repair")?;
    let options = RepairOptions {
        node_id: args.node_id,
        whole_log: args.whole_log.then_some(true),
        ..RepairOptions::default()
    };
    let report = {
        let progress = Progress::start(context.progress(), "repair", Unit::Bytes, Some(0));
        let advance = |at: kv_lsm::offline::Progress| progress.set_of(at.done_bytes, at.total_bytes);
        repair(&environment, &args.directory, &args.into, options, &advance).map_err(failure)?
    };
    if context.out.is_json() {
        context.out.json(&report_json(&report))?;
    } else {
        report_lines(&report).iter().try_for_each(|line| context.out.line(line))?;
    }
    if report.is_complete() {
        return Ok(Exit::Ok);
    }
    message(
        "something is lost or doubtful: keep the damaged directory until the missing data was found elsewhere",
    );
    Ok(Exit::Corruption)
}

fn report_json(report: &RepairReport) -> Value {
    let problem = |problem: &kv_lsm::offline::Problem| json!({ "file": problem.file, "offset": problem.offset, "why": problem.why });
    let entries =
        |(from, to): &(u64, u64)| json!({ "from": from, "to": Some(to).filter(|to| **to < u64::MAX) });
    json!({
        "complete": report.is_complete(),
        "by_manifest": report.by_manifest,
        "applied": report.applied.map(|at| at.index),
        "applied_term": report.applied.map(|at| at.term),
        "uncommitted": report.uncommitted,
        "keys": report.keys,
        "value_bytes": report.value_bytes,
        "content_hash": report.content_hash,
        "files": report.files,
        "problems": report.problems.iter().map(problem).collect::<Vec<_>>(),
        "lost_keys": keys_json(&report.lost_keys),
        "lost_ranges": report.lost_ranges.iter().map(range_json).collect::<Vec<_>>(),
        "lost_entries": report.lost_entries.iter().map(entries).collect::<Vec<_>>(),
        "doubtful_keys": keys_json(&report.doubtful_keys),
        "notes": report.notes,
    })
}

fn keys_json(keys: &RepairedKeys) -> Value {
    let key = |RepairedKey { key, revision, why }: &RepairedKey| json!({ "key": Base64(key), "revision": revision, "why": why });
    json!({ "count": keys.count, "listed": keys.listed.iter().map(key).collect::<Vec<_>>() })
}

fn range_json(range: &LostRange) -> Value {
    json!({
        "file": range.file,
        "from": range.from.as_ref().map(|key| Base64(key)),
        "to": range.to.as_ref().map(|key| Base64(key)),
        "versions": range.versions.map(|versions| versions.0),
        "tombstones": range.versions.map(|versions| versions.1),
    })
}

fn report_lines(report: &RepairReport) -> Vec<String> {
    let mut lines: Vec<String> =
        report.problems.iter().map(|problem| format!("damaged: {problem}")).collect();
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    if !report.by_manifest {
        lines.push(
            "note: no manifest says which files count: all tables did, and keys that were deleted may be back".into(),
        );
    }
    if report.uncommitted > 0 {
        lines.push(format!(
            "note: the last {} entries of the log are not known to be committed and were left out (--whole-log)",
            report.uncommitted
        ));
    }
    lines.extend(report.lost_ranges.iter().map(range_text));
    lines.extend(report.lost_entries.iter().map(|(from, to)| match to {
        &u64::MAX => format!("lost: entries from {from} on: the end of the log cannot be read"),
        to => format!("lost: entries {from} to {to} of the log"),
    }));
    lines.extend(keys_text("lost", &report.lost_keys));
    lines.extend(keys_text("doubtful", &report.doubtful_keys));
    let applied = report
        .applied
        .map_or_else(|| "nothing".into(), |at| format!("entry {} of term {}", at.index, at.term));
    lines.push(format!("{} files read; restored up to {applied}", report.files));
    let RepairReport { keys, value_bytes, content_hash, lost_keys, doubtful_keys, .. } = report;
    lines.push(format!("{keys} keys with {value_bytes} bytes of values, content hash {content_hash}"));
    lines.push(if report.is_complete() {
        "nothing is lost".into()
    } else {
        format!("{} keys known to be lost, {} that may be outdated", lost_keys.count, doubtful_keys.count)
    });
    lines
}

fn range_text(range: &LostRange) -> String {
    let key =
        |key: &Option<bytes::Bytes>| key.as_ref().map_or_else(|| "?".into(), |key| bytes_text::format(key));
    let versions = range.versions.map_or_else(String::new, |(versions, tombstones)| {
        format!(": {versions} versions, {tombstones} of them deletions")
    });
    format!("lost: {}, keys {} to {}{versions}", range.file, key(&range.from), key(&range.to))
}

fn keys_text(what: &str, keys: &RepairedKeys) -> Vec<String> {
    let line = |RepairedKey { key, revision, why }: &RepairedKey| {
        format!("{what}: key {}, version {revision}: {why}", bytes_text::format(key))
    };
    let unlisted = keys.count.saturating_sub(keys.listed.len() as u64);
    let more = (unlisted > 0).then(|| format!("{what}: {unlisted} more keys"));
    keys.listed.iter().map(line).chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_vlog::Position;

    #[test]
    fn a_report_has_two_forms() {
        let key = RepairedKey { key: "k\0".into(), revision: 7, why: "gone".into() };
        let keys = RepairedKeys { listed: vec![key], count: 3 };
        let report = RepairReport {
            applied: Some(Position { term: 2, index: 9 }),
            keys: 5,
            lost_keys: keys,
            lost_entries: vec![(4, 6)],
            lost_ranges: vec![LostRange {
                file: "00000007.sst".into(),
                from: Some("a".into()),
                to: None,
                versions: Some((10, 2)),
            }],
            ..RepairReport::default()
        };
        let json = report_json(&report);
        assert_eq!(
            (&json["complete"], &json["applied"], &json["keys"]),
            (&json!(false), &json!(9), &json!(5))
        );
        assert_eq!(json["lost_keys"]["listed"][0], json!({ "key": "awA=", "revision": 7, "why": "gone" }));
        assert_eq!(
            (&json["lost_ranges"][0]["from"], &json["lost_ranges"][0]["to"]),
            (&json!("YQ=="), &Value::Null)
        );
        let text = report_lines(&report).join("\n");
        for line in [
            r"lost: key k\x00, version 7: gone",
            "lost: 2 more keys",
            "lost: entries 4 to 6 of the log",
            "lost: 00000007.sst, keys a to ?: 10 versions, 2 of them deletions",
            "may be back",
            "3 keys known to be lost, 0 that may be outdated",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(report_lines(&RepairReport::default()).join("\n").ends_with("nothing is lost"));
    }
}

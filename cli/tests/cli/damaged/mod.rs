//! Directories damaged in every way that is thought of, each a row: what `check` names, what `repair` brings back, and
//! what it lists as lost. With the real program, against all that was ever written.

mod fixture;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use bytes::Bytes;
use kv_manifest::{SegmentKind, names};
use serde_json::Value;

use self::fixture::{Old, contents, cut, flip, make, open, replace, swap};
use crate::run::alone;

/// A kind of damage, and what comes of it.
struct Row {
    name: &'static str,
    damage: Box<dyn Fn(&Path)>,
    /// What the check must name: files, and a part of the reason.
    named: Vec<(String, &'static str)>,
    lost: Lost,
}

/// What cannot be brought back.
enum Lost {
    Nothing,
    /// The newest values of these keys, and nothing else.
    Keys(BTreeSet<Bytes>),
    /// What this table alone held.
    Table(String),
}

#[test]
fn damage_is_named_and_what_is_left_comes_back() {
    let (old, stranger) = (make(), make());
    let clean = check(old.dir.path(), 0);
    assert_eq!(
        (&clean["problems"], &clean["notes"]),
        (&Value::from([(); 0].map(|()| 0)), &clean["problems"])
    );
    let rows = tables(&old, &stranger)
        .into_iter()
        .chain(segments(&old, &stranger))
        .chain(inside_segments(&old))
        .chain(manifests(&old, &stranger));
    for row in rows {
        tried(&old, &row, &clean);
    }
}

fn tables(old: &Old, stranger: &Old) -> Vec<Row> {
    let mut ids: Vec<_> = old.state().tables.into_values().collect();
    ids.sort_by_key(|table| std::cmp::Reverse(table.bytes));
    assert!(ids.len() > 3, "{ids:?}");
    // Of different lengths, so that the lengths tell; what is inside would, too.
    let [a, b] = [0, ids.len() - 1].map(|n| names::table_name(ids[n].id));
    let theirs = stranger.state().tables.into_keys().next().unwrap();
    let theirs = fs::read(stranger.dir.path().join(names::table_name(theirs))).unwrap();
    let of = |name: &str| {
        let name = name.to_owned();
        move |dir: &Path| dir.join(&name)
    };
    let (first, second, third) = (of(&a), of(&a), of(&a));
    let (from, to) = (a.clone(), b.clone());
    vec![
        Row {
            name: "missing table",
            damage: Box::new(move |dir| fs::remove_file(first(dir)).unwrap()),
            named: vec![(a.clone(), "the table is missing")],
            lost: Lost::Table(a.clone()),
        },
        Row {
            name: "two tables swapped",
            damage: Box::new(move |dir| swap(dir, &from, &to)),
            named: vec![(a.clone(), "bytes long instead of"), (b, "bytes long instead of")],
            lost: Lost::Nothing,
        },
        Row {
            name: "table of another node",
            damage: Box::new(move |dir| replace(&second(dir), &theirs)),
            named: vec![(a.clone(), "bytes long instead of")],
            lost: Lost::Table(a.clone()),
        },
        Row {
            name: "flipped block of a table",
            damage: Box::new(move |dir| flip(&third(dir), 100)),
            named: vec![(a.clone(), "checksum")],
            lost: Lost::Table(a),
        },
        Row {
            name: "file that nobody knows",
            damage: Box::new(|dir| fs::write(dir.join("notes.txt"), "mine").unwrap()),
            named: Vec::new(),
            lost: Lost::Nothing,
        },
    ]
}

fn segments(old: &Old, stranger: &Old) -> Vec<Row> {
    let (log, collected) = (old.segment(SegmentKind::Log), old.segment(SegmentKind::Values));
    let theirs = stranger.segment(SegmentKind::Log).file;
    let theirs = fs::read(stranger.dir.path().join(names::segment_name(theirs))).unwrap();
    let remove = |name: String| move |dir: &Path| fs::remove_file(dir.join(&name)).unwrap();
    let mut rows: Vec<Row> = [("missing segment", &log), ("missing file of value GC", &collected)]
        .into_iter()
        .map(|(name, segment)| Row {
            name,
            damage: Box::new(remove(names::segment_name(segment.file))),
            named: vec![(names::segment_name(segment.file), "is missing")],
            lost: Lost::Keys(old.keys_in(segment.file)),
        })
        .collect();
    let (file, other) = (names::segment_name(log.file), names::segment_name(collected.file));
    let (foreign, a, b) = (file.clone(), file.clone(), other.clone());
    rows.push(Row {
        name: "two segments swapped",
        damage: Box::new(move |dir| swap(dir, &a, &b)),
        named: vec![(file.clone(), "another segment"), (other, "another segment")],
        lost: Lost::Nothing,
    });
    rows.push(Row {
        name: "segment of another node",
        damage: Box::new(move |dir| replace(&dir.join(&foreign), &theirs)),
        named: vec![(file, "belongs to another data directory")],
        lost: Lost::Keys(old.keys_in(log.file)),
    });
    rows
}

fn inside_segments(old: &Old) -> Vec<Row> {
    let mut rows = Vec::new();
    let kinds = [
        (SegmentKind::Log, "flipped footer of a segment", "flipped value in the log"),
        (SegmentKind::Values, "flipped remap of a collected file", "flipped value that GC has moved"),
    ];
    for (kind, footer, value) in kinds {
        let segment = old.segment(kind);
        let (file, end) = (names::segment_name(segment.file), segment.sealed.unwrap().end);
        let (key, at) = old.value_in(segment.file);
        let (first, second) = (file.clone(), file.clone());
        rows.push(Row {
            name: footer,
            damage: Box::new(move |dir| flip(&dir.join(&first), end + 140)),
            named: vec![(file.clone(), "checksum")],
            lost: Lost::Nothing,
        });
        rows.push(Row {
            name: value,
            damage: Box::new(move |dir| flip(&dir.join(&second), at)),
            named: vec![(file, "checksum")],
            lost: Lost::Keys(BTreeSet::from([key])),
        });
    }
    rows
}

fn manifests(old: &Old, stranger: &Old) -> Vec<Row> {
    let name = old.manifest();
    let theirs = fs::read(stranger.dir.path().join(stranger.manifest())).unwrap();
    let length = fs::metadata(old.dir.path().join(&name)).unwrap().len();
    let foreign = name.clone();
    let cuts = (1..8).map(|part| {
        let short = name.clone();
        Row {
            name: "truncated manifest",
            damage: Box::new(move |dir: &Path| cut(&dir.join(&short), length * part / 8)),
            named: vec![(name.clone(), "change-sets are missing")],
            lost: Lost::Nothing,
        }
    });
    let mut rows: Vec<Row> = cuts.collect();
    rows.extend([
        Row {
            name: "lost CURRENT",
            damage: Box::new(|dir| fs::remove_file(dir.join("CURRENT")).unwrap()),
            named: vec![("CURRENT".into(), "missing, although there is")],
            lost: Lost::Nothing,
        },
        Row {
            name: "manifest of another node",
            damage: Box::new(move |dir| replace(&dir.join(&foreign), &theirs)),
            named: vec![(name, "another data directory")],
            lost: Lost::Nothing,
        },
    ]);
    rows
}

/// Damages a copy, checks it, repairs it, and holds what comes back against what was there.
fn tried(old: &Old, row: &Row, clean: &Value) {
    let (dir, name) = (old.copy(), row.name);
    (row.damage)(dir.path());
    let code = if row.named.is_empty() { 0 } else { 6 };
    let checked = check(dir.path(), code);
    for (file, why) in &row.named {
        assert!(is_named(&checked, file, why), "{name}: {file} ({why}) is not named: {checked}");
    }
    if row.named.is_empty() {
        assert_eq!(checked["content_hash"], clean["content_hash"], "{name}");
        assert!(checked["notes"].to_string().contains("no file of this program"), "{name}: {checked}");
    }
    let home = tempfile::tempdir().unwrap();
    let into = home.path().join("new");
    let args = ["-o", "json", "repair", dir.path().to_str().unwrap(), "--into", into.to_str().unwrap()];
    let run = alone(args);
    assert!(run.code == 0 || run.code == 6, "{name}: {run:?}");
    let is_complete = run.code == 0;
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(report["complete"], is_complete, "{name}");
    let sound = check(&into, 0);
    assert_eq!(sound["notes"].as_array().unwrap().len(), 0, "{name}: {sound}");
    nothing_is_invented(old, &into, &report, name);
    match &row.lost {
        Lost::Nothing => {
            assert!(is_complete, "{name}: {report}");
            assert_eq!(report["content_hash"], clean["content_hash"], "{name}");
        }
        Lost::Keys(expected) => {
            assert!(!expected.is_empty() && listed(&report["lost_keys"]) == *expected, "{name}: {report}");
            let others = [&report["doubtful_keys"]["count"], &report["lost_ranges"], &report["lost_entries"]];
            assert_eq!(others.map(Value::to_string), ["0", "[]", "[]"], "{name}");
        }
        Lost::Table(file) => {
            let restored = report["notes"].to_string().contains(&format!("{file}: all that was lost of it"));
            let ranges = report["lost_ranges"].as_array().unwrap();
            let is_listed = !ranges.is_empty() && ranges.iter().all(|range| range["file"] == **file);
            assert!(is_listed != restored && listed(&report["lost_keys"]).is_empty(), "{name}: {report}");
        }
    }
}

/// What is there was written as that version, and is the newest one or said to be doubtful; what is not there is said to
/// be lost.
fn nothing_is_invented(old: &Old, new: &Path, report: &Value, name: &str) {
    let (lost, doubtful) = (listed(&report["lost_keys"]), listed(&report["doubtful_keys"]));
    let db = open(new);
    let found = contents(&db);
    db.close().unwrap();
    for (key, (revision, value, _)) in &found {
        assert!(old.versions.get(&(key.clone(), *revision)) == Some(value), "{name}: {key:?} is invented");
        let is_newest = old.newest.get(key).is_some_and(|(newest, _)| newest == revision);
        assert!(is_newest || doubtful.contains(key), "{name}: {key:?} is not the newest version");
    }
    for key in old.newest.keys().filter(|key| !found.contains_key(*key)) {
        assert!(lost.contains(key) || in_lost_range(report, key), "{name}: {key:?} is lost unsaid");
    }
}

fn check(dir: &Path, code: i32) -> Value {
    alone(["-o", "json", "check", "--data-dir", dir.to_str().unwrap()]).json(code)
}

fn is_named(report: &Value, file: &str, why: &str) -> bool {
    let problems = report["problems"].as_array().unwrap();
    problems.iter().any(|problem| problem["file"] == *file && problem["why"].as_str().unwrap().contains(why))
}

fn key_of(json: &Value) -> Option<Bytes> {
    Some(base64::engine::general_purpose::STANDARD.decode(json.as_str()?).unwrap().into())
}

fn listed(keys: &Value) -> BTreeSet<Bytes> {
    let listed = keys["listed"].as_array().unwrap();
    assert_eq!(keys["count"], listed.len());
    listed.iter().map(|key| key_of(&key["key"]).unwrap()).collect()
}

fn in_lost_range(report: &Value, key: &Bytes) -> bool {
    let ranges = report["lost_ranges"].as_array().unwrap();
    ranges.iter().any(|range| {
        key_of(&range["from"]).is_none_or(|from| from <= *key)
            && key_of(&range["to"]).is_none_or(|to| *key <= to)
    })
}

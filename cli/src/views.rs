//! What a manifest speaks of, as JSON and as text. Keys and other bytes are base64 in JSON.

use std::time::{Duration, UNIX_EPOCH};

use kv_manifest::{Edit, Identity, LogPosition, SealedInfo, SegmentKind, SegmentState, TableMeta};
use kv_vlog::Expiry;
use serde_json::{Value, json};

use crate::bytes_text;
use crate::output::Base64;

/// Keys are cut at so many characters in tables.
pub const KEY_WIDTH: usize = 40;

/// A time in milliseconds since 1970, for people.
pub fn time(unix_ms: u64) -> String {
    match UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms)) {
        // From the year 10000 on there is no text form.
        Some(time) if unix_ms < 253_402_300_800_000 => humantime::format_rfc3339_millis(time).to_string(),
        _ => format!("{unix_ms} ms"),
    }
}

/// A time in seconds since 1970, for people.
pub fn seconds(unix_seconds: u64) -> String {
    match UNIX_EPOCH.checked_add(Duration::from_secs(unix_seconds)) {
        Some(time) if unix_seconds < 253_402_300_800 => humantime::format_rfc3339_seconds(time).to_string(),
        _ => format!("{unix_seconds} s"),
    }
}

/// When a version goes away; nothing where it stays.
pub fn expiry(expires: Expiry) -> String {
    expires.time().map(|time| seconds(time.into())).unwrap_or_default()
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number, or a dash where there is none.
pub fn or_dash(number: Option<u64>) -> String {
    number.map_or_else(|| "-".into(), |number| number.to_string())
}

/// A place in the log.
pub fn position_json(at: &LogPosition) -> Value {
    json!({ "term": at.term, "index": at.index })
}

/// A place in the log.
pub fn position_text(at: &LogPosition) -> String {
    format!("entry {} of term {}", at.index, at.term)
}

/// Whose data it is.
pub fn identity_json(identity: &Identity) -> Value {
    json!({
        "cluster_id": hex(&identity.cluster_id),
        "node_id": identity.node_id,
        "incarnation": identity.incarnation,
        "group_id": identity.group_id,
        "created_unix_ms": identity.created_unix_ms,
        "options": identity.options,
    })
}

/// A table, as the manifest knows it.
pub fn table_json(table: &TableMeta) -> Value {
    let refs: Vec<Value> = table
        .refs
        .iter()
        .map(|refs| json!({ "segment": refs.segment, "count": refs.count, "bytes": refs.bytes }))
        .collect();
    json!({
        "id": table.id,
        "level": table.level,
        "bytes": table.bytes,
        "smallest": Base64(&table.smallest),
        "largest": Base64(&table.largest),
        "seq_min": table.seq_min,
        "seq_max": table.seq_max,
        "entries": table.entries,
        "tombstones": table.tombstones,
        "refs": refs,
    })
}

/// A segment, as the manifest knows it.
pub fn segment_json(segment: &SegmentState) -> Value {
    json!({
        "segment": segment.segment,
        "file": segment.file,
        "generation": segment.generation,
        "epoch": segment.epoch,
        "kind": match segment.kind {
            SegmentKind::Log => "log",
            SegmentKind::Values => "values",
        },
        "remapped": segment.remapped,
        "sealed": segment.sealed.as_ref().map(sealed_json),
    })
}

fn sealed_json(info: &SealedInfo) -> Value {
    json!({
        "end": info.end,
        "first_index": info.first_index,
        "last_index": info.last_index,
        "terms": info.terms.iter().map(position_json).collect::<Vec<_>>(),
        "values": info.values,
        "value_bytes": info.value_bytes,
        "cut": info.cut,
    })
}

/// An edit: its name under `edit`, and its fields.
pub fn edit_json(edit: &Edit) -> Value {
    let (name, mut fields) = match edit {
        Edit::Identity(identity) => ("Identity", identity_json(identity)),
        Edit::AddTable(table) => ("AddTable", table_json(table)),
        Edit::RemoveTable { id } => ("RemoveTable", json!({ "id": id })),
        Edit::MoveTable { id, level } => ("MoveTable", json!({ "id": id, "level": level })),
        Edit::OpenSegment { segment, file, generation, epoch } => (
            "OpenSegment",
            json!({ "segment": segment, "file": file, "generation": generation, "epoch": epoch }),
        ),
        Edit::SealSegment { segment, info } => {
            ("SealSegment", json!({ "segment": segment, "sealed": sealed_json(info) }))
        }
        Edit::RemapSegment { segment, file } => ("RemapSegment", json!({ "segment": segment, "file": file })),
        Edit::AddValueSegment { segment, file, generation, epoch, end, values, value_bytes } => (
            "AddValueSegment",
            json!({
                "segment": segment, "file": file, "generation": generation, "epoch": epoch,
                "end": end, "values": values, "value_bytes": value_bytes,
            }),
        ),
        Edit::DropSegment { segment } => ("DropSegment", json!({ "segment": segment })),
        Edit::Flushed { position, membership } => {
            let membership = Base64(membership);
            ("Flushed", json!({ "position": position_json(position), "membership": membership }))
        }
        Edit::ReplayFrom { segment } => ("ReplayFrom", json!({ "segment": segment })),
        Edit::PurgeFloor(at) => ("PurgeFloor", json!({ "position": position_json(at) })),
        Edit::NextFile(number) => ("NextFile", json!({ "number": number })),
        Edit::Epoch(number) => ("Epoch", json!({ "number": number })),
        Edit::LogTime(step) => ("LogTime", json!({ "index": step.index, "unix_s": step.time })),
        Edit::HistoryFloor(floor) => ("HistoryFloor", json!({ "index": floor })),
    };
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("edit".into(), name.into());
    }
    fields
}

/// An edit on one line.
pub fn edit_text(edit: &Edit) -> String {
    match edit {
        Edit::Identity(identity) => {
            let Identity { node_id, incarnation, .. } = identity;
            format!("cluster {}, node {node_id}, incarnation {incarnation}", hex(&identity.cluster_id))
        }
        Edit::AddTable(table) => {
            let TableMeta { id, level, bytes, entries, .. } = table;
            let [smallest, largest] = [&table.smallest, &table.largest].map(|key| preview(key));
            format!(
                "add table {id} to level {level}: {bytes} bytes, {entries} entries, {smallest} to {largest}"
            )
        }
        Edit::RemoveTable { id } => format!("remove table {id}"),
        Edit::MoveTable { id, level } => format!("move table {id} to level {level}"),
        Edit::OpenSegment { segment, file, epoch, .. } => {
            format!("open segment {segment} in file {file}, epoch {epoch}")
        }
        Edit::SealSegment { segment, info } => {
            let (first, last) = (or_dash(info.first_index), or_dash(info.last_index));
            let cut = if info.cut { ", cut at a torn tail" } else { "" };
            format!("seal segment {segment} at {}: entries {first} to {last}{cut}", info.end)
        }
        Edit::RemapSegment { segment, file } => format!("segment {segment} is in file {file}"),
        Edit::AddValueSegment { segment, file, values, value_bytes, .. } => {
            format!("add segment {segment} in file {file}: {values} values of {value_bytes} bytes")
        }
        Edit::DropSegment { segment } => format!("drop segment {segment}"),
        Edit::Flushed { position, .. } => format!("in tables up to {}", position_text(position)),
        Edit::ReplayFrom { segment } => format!("replay from segment {segment}"),
        Edit::PurgeFloor(at) => format!("log purged up to {}", position_text(at)),
        Edit::NextFile(number) => format!("next file number {number}"),
        Edit::Epoch(number) => format!("epoch {number}"),
        Edit::LogTime(step) => format!("log time {} from entry {} on", seconds(step.time.into()), step.index),
        Edit::HistoryFloor(Some(floor)) => format!("states from entry {floor} on can be read"),
        Edit::HistoryFloor(None) => "only the newest state can be read".to_string(),
    }
}

/// A key, cut where it is long.
pub fn preview(key: &[u8]) -> String {
    bytes_text::preview(key, KEY_WIDTH)
}

#[cfg(test)]
mod tests {
    use kv_manifest::TimeStep;

    use super::*;

    #[test]
    fn every_edit_has_a_name_and_a_line() {
        let at = LogPosition { term: 1, index: 2 };
        let edits = [
            Edit::Identity(Identity::default()),
            Edit::AddTable(TableMeta { smallest: b"\xff".to_vec(), ..TableMeta::default() }),
            Edit::RemoveTable { id: 1 },
            Edit::MoveTable { id: 1, level: 2 },
            Edit::OpenSegment { segment: 1, file: 2, generation: 3, epoch: 4 },
            Edit::SealSegment { segment: 1, info: SealedInfo::default() },
            Edit::RemapSegment { segment: 1, file: 2 },
            Edit::DropSegment { segment: 1 },
            Edit::Flushed { position: at, membership: b"\x01".to_vec() },
            Edit::ReplayFrom { segment: 1 },
            Edit::PurgeFloor(at),
            Edit::NextFile(9),
            Edit::Epoch(9),
            Edit::LogTime(TimeStep { index: 1, time: 2 }),
            Edit::HistoryFloor(Some(3)),
            Edit::AddValueSegment {
                segment: 1,
                file: 2,
                generation: 3,
                epoch: 4,
                end: 5,
                values: 6,
                value_bytes: 7,
            },
        ];
        for edit in &edits {
            assert!(edit_json(edit)["edit"].is_string(), "{edit:?}");
            assert!(!edit_text(edit).is_empty() && edit_text(edit).is_ascii());
        }
        assert_eq!(edit_json(&edits[1])["smallest"], "/w==");
        assert_eq!(edit_json(&edits[8])["membership"], "AQ==");
        assert!(edit_text(&edits[1]).contains(r"\xff"));
    }

    #[test]
    fn any_time_has_a_text() {
        assert_eq!(time(1_700_000_060_005), "2023-11-14T22:14:20.005Z");
        assert_eq!(time(u64::MAX), format!("{} ms", u64::MAX));
        assert_eq!(seconds(1_700_000_060), "2023-11-14T22:14:20Z");
        assert_eq!(seconds(u64::MAX), format!("{} s", u64::MAX));
        assert_eq!(
            (expiry(Expiry::NEVER), expiry(Expiry::at(60))),
            ("".into(), "1970-01-01T00:01:00Z".into())
        );
    }
}

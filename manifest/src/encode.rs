//! Change-sets to bytes: the payload of a frame, and the frame around it.

use kv_vfs::varint::{put, put_bytes};

use crate::edit::{ChangeSet, Edit, Identity, LogPosition, SealedInfo, TableMeta, TimeStep};
use crate::format::{self, Kind};
use crate::state::{SegmentKind, SegmentState, State};

/// The change-set as the payload of a frame.
#[must_use]
pub fn encode_change_set(set: &ChangeSet) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, set.number);
    put(&mut out, set.unix_ms);
    put_bytes(&mut out, set.cause.as_bytes());
    put(&mut out, set.edits.len() as u64);
    for edit in &set.edits {
        put_edit(&mut out, edit);
    }
    out
}

fn put_edit(out: &mut Vec<u8>, edit: &Edit) {
    match edit {
        Edit::Identity(identity) => put_identity(out, identity),
        Edit::AddTable(table) => put_table(out, table),
        Edit::RemoveTable { id } => put_kind(out, Kind::RemoveTable, &[*id]),
        Edit::MoveTable { id, level } => {
            put_kind(out, Kind::MoveTable, &[*id]);
            out.push(*level);
        }
        Edit::OpenSegment { segment, file, generation, epoch } => {
            put_kind(out, Kind::OpenSegment, &[*segment, *file, u64::from(*generation), *epoch]);
        }
        Edit::SealSegment { segment, info } => put_sealed(out, *segment, info),
        Edit::RemapSegment { segment, file } => put_kind(out, Kind::RemapSegment, &[*segment, *file]),
        Edit::DropSegment { segment } => put_kind(out, Kind::DropSegment, &[*segment]),
        Edit::AddValueSegment { segment, file, generation, epoch, end, values, value_bytes } => {
            let generation = u64::from(*generation);
            let numbers = [*segment, *file, generation, *epoch, *end, *values, *value_bytes];
            put_kind(out, Kind::AddValueSegment, &numbers);
        }
        Edit::Flushed { position, membership } => {
            put_kind(out, Kind::Flushed, &[position.term, position.index]);
            put_bytes(out, membership);
        }
        Edit::ReplayFrom { segment } => put_kind(out, Kind::ReplayFrom, &[*segment]),
        Edit::PurgeFloor(position) => put_kind(out, Kind::PurgeFloor, &[position.term, position.index]),
        Edit::NextFile(number) => put_kind(out, Kind::NextFile, &[*number]),
        Edit::Epoch(epoch) => put_kind(out, Kind::Epoch, &[*epoch]),
        Edit::LogTime(TimeStep { index, time }) => put_kind(out, Kind::LogTime, &[*index, u64::from(*time)]),
        Edit::HistoryFloor(floor) => {
            out.push(Kind::HistoryFloor as u8);
            put_optional(out, *floor);
        }
    }
}

/// The kind and the numbers behind it.
fn put_kind(out: &mut Vec<u8>, kind: Kind, numbers: &[u64]) {
    out.push(kind as u8);
    for number in numbers {
        put(out, *number);
    }
}

fn put_identity(out: &mut Vec<u8>, identity: &Identity) {
    out.push(Kind::Identity as u8);
    out.extend_from_slice(&identity.cluster_id);
    put(out, identity.node_id);
    put(out, identity.incarnation);
    put(out, identity.group_id);
    put(out, identity.created_unix_ms);
    put(out, identity.options.len() as u64);
    for (name, value) in &identity.options {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

fn put_table(out: &mut Vec<u8>, table: &TableMeta) {
    put_kind(out, Kind::AddTable, &[table.id]);
    out.push(table.level);
    put(out, table.bytes);
    put_bytes(out, &table.smallest);
    put_bytes(out, &table.largest);
    put(out, table.seq_min);
    put(out, table.seq_max);
    put(out, table.entries);
    put(out, table.tombstones);
    put(out, table.refs.len() as u64);
    for reference in &table.refs {
        put(out, reference.segment);
        put(out, reference.count);
        put(out, reference.bytes);
    }
}

fn put_sealed(out: &mut Vec<u8>, segment: u64, info: &SealedInfo) {
    put_kind(out, Kind::SealSegment, &[segment, info.end]);
    put_optional(out, info.first_index);
    put_optional(out, info.last_index);
    put(out, info.terms.len() as u64);
    for LogPosition { term, index } in &info.terms {
        put(out, *term);
        put(out, *index);
    }
    put(out, info.values);
    put(out, info.value_bytes);
    out.push(u8::from(info.cut));
}

fn put_optional(out: &mut Vec<u8>, number: Option<u64>) {
    out.push(u8::from(number.is_some()));
    if let Some(number) = number {
        put(out, number);
    }
}

/// The whole state as one change-set under the number it is at: what a rewritten manifest begins with.
pub(crate) fn whole_state(state: &State, unix_ms: u64) -> ChangeSet {
    let mut edits = vec![Edit::Identity(state.identity.clone()), Edit::NextFile(state.next_file)];
    if state.epoch > 0 {
        edits.push(Edit::Epoch(state.epoch));
    }
    state.segments.values().for_each(|segment| put_segment(&mut edits, segment));
    edits.extend(state.tables.values().cloned().map(Edit::AddTable));
    if let Some(position) = state.flushed {
        edits.push(Edit::Flushed { position, membership: state.membership.clone() });
    }
    edits.extend(state.times.iter().copied().map(Edit::LogTime));
    edits.extend(state.history_floor.map(|floor| Edit::HistoryFloor(Some(floor))));
    edits.extend(state.replay_from.map(|segment| Edit::ReplayFrom { segment }));
    edits.extend(state.purge_floor.map(Edit::PurgeFloor));
    ChangeSet { number: state.number, unix_ms, cause: "rewrite".to_string(), edits }
}

/// What makes the segment from nothing.
fn put_segment(edits: &mut Vec<Edit>, from: &SegmentState) {
    let SegmentState { segment, file, generation, epoch, .. } = *from;
    match (from.kind, &from.sealed) {
        (SegmentKind::Log, sealed) => {
            edits.push(Edit::OpenSegment { segment, file, generation, epoch });
            edits.extend(sealed.clone().map(|info| Edit::SealSegment { segment, info }));
        }
        (SegmentKind::Values, sealed) => {
            let SealedInfo { end, values, value_bytes, .. } = sealed.clone().unwrap_or_default();
            edits.push(Edit::AddValueSegment { segment, file, generation, epoch, end, values, value_bytes });
        }
    }
    if from.remapped {
        edits.push(Edit::RemapSegment { segment, file });
    }
}

/// A frame around the payload, with zeros up to where the next one starts; `None` where the payload is
/// too long for one.
pub(crate) fn frame(payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() > format::PAYLOAD_BYTES_MAX as usize {
        return None;
    }
    let mut out = Vec::with_capacity(format::FRAME_HEADER_BYTES + payload.len() + kv_vfs::BLOCK);
    out.extend_from_slice(&format::FRAME_MAGIC);
    kv_vfs::frame::encode(payload, &mut out);
    out.resize(out.len().next_multiple_of(kv_vfs::BLOCK), 0);
    Some(out)
}

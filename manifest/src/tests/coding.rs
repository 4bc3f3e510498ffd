//! Change-sets to bytes and back.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::make::*;
use crate::decode::peek_number;
use crate::encode::whole_state;
use crate::format::Kind;
use crate::{
    ChangeSet, DecodeError, Edit, Identity, LogPosition, SealedInfo, SegmentRef, TableMeta, TimeStep,
    decode_change_set, encode_change_set,
};

fn any_position() -> impl Strategy<Value = LogPosition> {
    (any::<u64>(), any::<u64>()).prop_map(|(term, index)| LogPosition { term, index })
}

fn any_identity() -> impl Strategy<Value = Identity> {
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    (any::<[u8; 16]>(), numbers, btree_map(".*", ".*", 0..4)).prop_map(
        |(cluster_id, (node_id, incarnation, group_id, created_unix_ms), options)| Identity {
            cluster_id,
            node_id,
            incarnation,
            group_id,
            created_unix_ms,
            options,
        },
    )
}

fn any_table() -> impl Strategy<Value = TableMeta> {
    let refs = vec(
        any::<(u64, u64, u64)>().prop_map(|(segment, count, bytes)| SegmentRef { segment, count, bytes }),
        0..5,
    );
    let keys = (vec(any::<u8>(), 0..20), vec(any::<u8>(), 0..20));
    (any::<(u64, u8, u64)>(), keys, any::<(u64, u64, u64, u64)>(), refs).prop_map(
        |((id, level, bytes), (smallest, largest), (seq_min, seq_max, entries, tombstones), refs)| {
            TableMeta { id, level, bytes, smallest, largest, seq_min, seq_max, entries, tombstones, refs }
        },
    )
}

fn any_sealed() -> impl Strategy<Value = SealedInfo> {
    let indexes = any::<(Option<u64>, Option<u64>)>();
    (indexes, vec(any_position(), 0..4), any::<(u64, u64, u64, bool)>()).prop_map(
        |((first_index, last_index), terms, (end, values, value_bytes, cut))| SealedInfo {
            end,
            first_index,
            last_index,
            terms,
            values,
            value_bytes,
            cut,
        },
    )
}

fn any_edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        any_identity().prop_map(Edit::Identity),
        any_table().prop_map(Edit::AddTable),
        any::<u64>().prop_map(|id| Edit::RemoveTable { id }),
        any::<(u64, u8)>().prop_map(|(id, level)| Edit::MoveTable { id, level }),
        any::<(u64, u64, u32, u64)>().prop_map(|(segment, file, generation, epoch)| {
            Edit::OpenSegment { segment, file, generation, epoch }
        }),
        (any::<u64>(), any_sealed()).prop_map(|(segment, info)| Edit::SealSegment { segment, info }),
        any::<(u64, u64)>().prop_map(|(segment, file)| Edit::RemapSegment { segment, file }),
        any::<u64>().prop_map(|segment| Edit::DropSegment { segment }),
        (any_position(), vec(any::<u8>(), 0..20))
            .prop_map(|(position, membership)| Edit::Flushed { position, membership }),
        any::<u64>().prop_map(|segment| Edit::ReplayFrom { segment }),
        any_position().prop_map(Edit::PurgeFloor),
        any::<u64>().prop_map(Edit::NextFile),
        any::<u64>().prop_map(Edit::Epoch),
        any::<(u64, u32)>().prop_map(|(index, time)| Edit::LogTime(TimeStep { index, time })),
        any::<Option<u64>>().prop_map(Edit::HistoryFloor),
        any::<(u64, u64, u32, u64, u64, u64, u64)>().prop_map(
            |(segment, file, generation, epoch, end, values, value_bytes)| {
                Edit::AddValueSegment { segment, file, generation, epoch, end, values, value_bytes }
            }
        ),
    ]
}

fn any_change_set() -> impl Strategy<Value = ChangeSet> {
    (any::<(u64, u64)>(), ".*", vec(any_edit(), 0..6))
        .prop_map(|((number, unix_ms), cause, edits)| ChangeSet { number, unix_ms, cause, edits })
}

proptest! {
    #[test]
    fn change_sets_come_back(set in any_change_set()) {
        let bytes = encode_change_set(&set);
        prop_assert_eq!(peek_number(&bytes), Some(set.number));
        prop_assert_eq!(decode_change_set(&bytes).unwrap(), set);
    }

    #[test]
    fn a_cut_or_lengthened_one_is_refused(set in any_change_set(), tail in vec(any::<u8>(), 1..9)) {
        let mut bytes = encode_change_set(&set);
        for len in 0..bytes.len() {
            prop_assert!(decode_change_set(&bytes[..len]).is_err());
        }
        let extra = tail.len();
        bytes.extend(tail);
        prop_assert_eq!(decode_change_set(&bytes), Err(DecodeError::Trailing { bytes: extra }));
    }

    /// Nothing panics, and what is accepted is exactly what would be written.
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        if let Ok(set) = decode_change_set(&bytes) {
            prop_assert_eq!(encode_change_set(&set), bytes);
        }
    }

    /// The same, with bytes that get past the first fields.
    #[test]
    fn altered_bytes_are_decoded_or_refused(set in any_change_set(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = encode_change_set(&set);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(set) = decode_change_set(&bytes) {
            prop_assert_eq!(encode_change_set(&set), bytes);
        }
    }
}

#[test]
fn a_count_beyond_the_bytes_is_refused_before_allocating() {
    // Number 1, time 0, no cause, and a claim of 2^62 edits.
    let mut bytes = vec![1, 0, 0];
    kv_vfs::varint::put(&mut bytes, 1 << 62);
    bytes.extend([0; 64]);
    assert_eq!(decode_change_set(&bytes), Err(DecodeError::Malformed { what: "the number of edits" }));
}

#[test]
fn kinds_keep_their_bytes() {
    for byte in 0..=u8::MAX {
        match Kind::from_byte(byte) {
            Some(kind) => assert_eq!(kind as u8, byte),
            None => assert!(byte == 0 || byte > Kind::LAST),
        }
    }
    let unknown = [1, 0, 0, 1, Kind::LAST + 1, 0];
    let why = DecodeError::UnknownKind { kind: Kind::LAST + 1, number: 1 };
    assert_eq!(decode_change_set(&unknown), Err(why));
}

#[test]
fn equal_states_are_written_alike() {
    let state = blank();
    let set = whole_state(&state, 5);
    assert_eq!((set.number, set.unix_ms, set.cause.as_str()), (1, 5, "rewrite"));
    assert_eq!(decode_change_set(&encode_change_set(&set)).unwrap(), set);
}

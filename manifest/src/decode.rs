//! Bytes to change-sets. The bytes come from a disk: every length is checked against what is there
//! before anything is allocated for it, and nothing here panics.

use kv_vfs::varint;

use crate::edit::{ChangeSet, Edit, Identity, LogPosition, SealedInfo, SegmentRef, TableMeta, TimeStep};
use crate::format::Kind;

/// Why a payload is not a change-set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It holds an edit that this program does not know; the rest cannot be read.
    #[error("edit kind {kind} in change-set {number} is unknown (the newest known one is {})", Kind::LAST)]
    UnknownKind {
        /// The kind's byte.
        kind: u8,
        /// The change-set it stands in.
        number: u64,
    },
    /// It is not what an encoder writes.
    #[error("{what} cannot be decoded")]
    Malformed {
        /// The field that could not be read.
        what: &'static str,
    },
    /// Something stands behind the last edit.
    #[error("{bytes} bytes behind the last edit")]
    Trailing {
        /// How many bytes.
        bytes: usize,
    },
}

fn malformed(what: &'static str) -> DecodeError {
    DecodeError::Malformed { what }
}

/// Decodes the payload of a frame. The only bytes it takes are those that
/// [`crate::encode_change_set`] writes for the result.
///
/// # Errors
/// [`DecodeError`], for any other bytes.
pub fn decode_change_set(payload: &[u8]) -> Result<ChangeSet, DecodeError> {
    let mut input = Input { rest: payload };
    let number = input.number("the change-set's number")?;
    let unix_ms = input.number("the change-set's time")?;
    let cause = input.text("the change-set's cause")?;
    // An edit takes two bytes at least (its kind and one field).
    let count = input.count("the number of edits", 2)?;
    // Decoded, an edit is up to a hundred times as large: the vector grows with what really is there.
    let mut edits = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        edits.push(input.edit(number)?);
    }
    match input.rest.len() {
        0 => Ok(ChangeSet { number, unix_ms, cause, edits }),
        bytes => Err(DecodeError::Trailing { bytes }),
    }
}

/// The number of the change-set in this payload, whatever comes behind it.
pub(crate) fn peek_number(payload: &[u8]) -> Option<u64> {
    Input { rest: payload }.number("the change-set's number").ok()
}

/// What is not decoded yet.
struct Input<'a> {
    rest: &'a [u8],
}

impl Input<'_> {
    fn byte(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        let (first, rest) = self.rest.split_first().ok_or(malformed(what))?;
        self.rest = rest;
        Ok(*first)
    }

    fn flag(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.byte(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(malformed(what)),
        }
    }

    fn number(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let (number, rest) = varint::get(self.rest).ok_or(malformed(what))?;
        self.rest = rest;
        Ok(number)
    }

    fn bytes(&mut self, what: &'static str) -> Result<Vec<u8>, DecodeError> {
        let (bytes, rest) = varint::get_bytes(self.rest).ok_or(malformed(what))?;
        self.rest = rest;
        Ok(bytes.to_vec())
    }

    fn text(&mut self, what: &'static str) -> Result<String, DecodeError> {
        String::from_utf8(self.bytes(what)?).map_err(|_| malformed(what))
    }

    /// How many items of at least `item_bytes` follow. More than there is room for are refused here, so
    /// that memory for the items is bounded by the bytes that are there.
    fn count(&mut self, what: &'static str, item_bytes: usize) -> Result<usize, DecodeError> {
        let count = self.number(what)?;
        let room = self.rest.len() / item_bytes;
        usize::try_from(count).ok().filter(|count| *count <= room).ok_or(malformed(what))
    }

    fn optional(&mut self, what: &'static str) -> Result<Option<u64>, DecodeError> {
        if self.flag(what)? { self.number(what).map(Some) } else { Ok(None) }
    }

    fn position(&mut self, what: &'static str) -> Result<LogPosition, DecodeError> {
        Ok(LogPosition { term: self.number(what)?, index: self.number(what)? })
    }

    fn edit(&mut self, change_set: u64) -> Result<Edit, DecodeError> {
        let byte = self.byte("an edit's kind")?;
        let kind =
            Kind::from_byte(byte).ok_or(DecodeError::UnknownKind { kind: byte, number: change_set })?;
        Ok(match kind {
            Kind::Identity => Edit::Identity(self.identity()?),
            Kind::AddTable => Edit::AddTable(self.table()?),
            Kind::RemoveTable => Edit::RemoveTable { id: self.number("a removed table")? },
            Kind::MoveTable => {
                Edit::MoveTable { id: self.number("a moved table")?, level: self.byte("a table's level")? }
            }
            Kind::OpenSegment => self.opened()?,
            Kind::SealSegment => {
                Edit::SealSegment { segment: self.number("a sealed segment")?, info: self.sealed()? }
            }
            Kind::RemapSegment => Edit::RemapSegment {
                segment: self.number("a remapped segment")?,
                file: self.number("a remapped segment's file")?,
            },
            Kind::DropSegment => Edit::DropSegment { segment: self.number("a dropped segment")? },
            Kind::Flushed => Edit::Flushed {
                position: self.position("the flushed position")?,
                membership: self.bytes("the flushed membership")?,
            },
            Kind::ReplayFrom => Edit::ReplayFrom { segment: self.number("the replay segment")? },
            Kind::PurgeFloor => Edit::PurgeFloor(self.position("the purge floor")?),
            Kind::NextFile => Edit::NextFile(self.number("the next file number")?),
            Kind::Epoch => Edit::Epoch(self.number("the epoch")?),
            Kind::AddValueSegment => self.added_values()?,
            Kind::LogTime => Edit::LogTime(self.time_step()?),
            Kind::HistoryFloor => Edit::HistoryFloor(self.optional("the history floor")?),
        })
    }

    fn time_step(&mut self) -> Result<TimeStep, DecodeError> {
        let (index, time) = (self.number("the entry of a log time")?, self.number("a log time")?);
        Ok(TimeStep { index, time: u32::try_from(time).map_err(|_| malformed("a log time"))? })
    }

    fn identity(&mut self) -> Result<Identity, DecodeError> {
        let (cluster_id, rest) = self.rest.split_first_chunk::<16>().ok_or(malformed("the cluster id"))?;
        self.rest = rest;
        let mut identity = Identity {
            cluster_id: *cluster_id,
            node_id: self.number("the node id")?,
            incarnation: self.number("the incarnation")?,
            group_id: self.number("the group id")?,
            created_unix_ms: self.number("the time of creation")?,
            options: Default::default(),
        };
        for _ in 0..self.count("the number of options", 2)? {
            let name = self.text("an option's name")?;
            let value = self.text("an option's value")?;
            // Ascending, so that one state has one encoding.
            if identity.options.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return Err(malformed("the order of the options"));
            }
            identity.options.insert(name, value);
        }
        Ok(identity)
    }

    fn table(&mut self) -> Result<TableMeta, DecodeError> {
        let mut table = TableMeta {
            id: self.number("a table's id")?,
            level: self.byte("a table's level")?,
            bytes: self.number("a table's length")?,
            smallest: self.bytes("a table's smallest key")?,
            largest: self.bytes("a table's largest key")?,
            seq_min: self.number("a table's lowest seq")?,
            seq_max: self.number("a table's highest seq")?,
            entries: self.number("a table's entries")?,
            tombstones: self.number("a table's tombstones")?,
            refs: Vec::new(),
        };
        let count = self.count("the number of a table's references", 3)?;
        table.refs.reserve_exact(count);
        for _ in 0..count {
            table.refs.push(SegmentRef {
                segment: self.number("a referenced segment")?,
                count: self.number("a reference's count")?,
                bytes: self.number("a reference's bytes")?,
            });
        }
        Ok(table)
    }

    fn opened(&mut self) -> Result<Edit, DecodeError> {
        Ok(Edit::OpenSegment {
            segment: self.number("an opened segment")?,
            file: self.number("an opened segment's file")?,
            generation: self.generation()?,
            epoch: self.number("a segment's epoch")?,
        })
    }

    fn added_values(&mut self) -> Result<Edit, DecodeError> {
        Ok(Edit::AddValueSegment {
            segment: self.number("an added segment")?,
            file: self.number("an added segment's file")?,
            generation: self.generation()?,
            epoch: self.number("a segment's epoch")?,
            end: self.number("a segment's end")?,
            values: self.number("a segment's values")?,
            value_bytes: self.number("a segment's value bytes")?,
        })
    }

    fn generation(&mut self) -> Result<u32, DecodeError> {
        let generation = self.number("a segment's generation")?;
        u32::try_from(generation).map_err(|_| malformed("a segment's generation"))
    }

    fn sealed(&mut self) -> Result<SealedInfo, DecodeError> {
        let mut info = SealedInfo {
            end: self.number("a segment's end")?,
            first_index: self.optional("a segment's first index")?,
            last_index: self.optional("a segment's last index")?,
            ..SealedInfo::default()
        };
        let count = self.count("the number of a segment's terms", 2)?;
        info.terms.reserve_exact(count);
        for _ in 0..count {
            info.terms.push(self.position("a segment's term")?);
        }
        info.values = self.number("a segment's values")?;
        info.value_bytes = self.number("a segment's value bytes")?;
        info.cut = self.flag("whether a segment was cut")?;
        Ok(info)
    }
}

//! From front to back, over whatever cannot be read.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use kv_vfs::BLOCK;

use super::{SalvageFile, Salvaged, ValuePlace, entry};
use crate::format::{GROUP_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use crate::group::GroupHeader;
use crate::record::{self, Parsed};
use crate::tail::pointer_view;
use crate::types::{Entry, Payload};

impl SalvageFile {
    /// Gives all that the segment says up to `end`, values of `inline_below` bytes and more as pointers.
    ///
    /// What is broken is damage where something behind it proves that it was durable once, or where `durable` says
    /// so of all before `end`; else it is torn, and of a torn group nothing is given.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn salvage<E>(
        &self,
        end: u64,
        durable: bool,
        inline_below: u64,
        each: &mut dyn FnMut(Salvaged) -> Result<(), E>,
    ) -> Result<(), E> {
        let end = end.min(self.bytes);
        let (mut at, mut number) = (u64::from(SEGMENT_HEADER_BYTES), 0);
        // What cannot be read, and the whole records of the group that it begins with.
        let mut broken: Option<(u64, String, Vec<Salvaged>)> = None;
        while at < end {
            let group = match self.group(at, end, number) {
                Ok(group) => group,
                Err(why) => {
                    broken.get_or_insert((at, why, Vec::new()));
                    at += BLOCK as u64;
                    continue;
                }
            };
            if let Some((from, why, records)) = broken.take() {
                records.into_iter().try_for_each(&mut *each)?;
                each(Salvaged::Damage { from, to: at, why })?;
            }
            let (records, damage) = self.records(&group, at, inline_below);
            match damage {
                Some((from, why)) => broken = Some((from, why, records)),
                None => records.into_iter().try_for_each(&mut *each)?,
            }
            number = group.number + 1;
            at += u64::from(group.length);
        }
        match broken {
            // What cannot be read at all is no torn write: nobody knows what stands there.
            Some((from, why, records)) if durable || self.is_unreadable.load(Ordering::Relaxed) => {
                records.into_iter().try_for_each(&mut *each)?;
                each(Salvaged::Damage { from, to: end, why })
            }
            Some((from, why, _)) => each(Salvaged::Torn { from, why }),
            None => Ok(()),
        }
    }

    /// The newest count of the owner that a group of the segment names (see [`crate::Ledger`]).
    #[must_use]
    pub fn ledger_number(&self) -> u64 {
        let mut newest = self.header().map_or(0, |header| header.end.ledger_number);
        let mut at = u64::from(SEGMENT_HEADER_BYTES);
        while at < self.bytes {
            at += self.group(at, self.bytes, 0).map_or(BLOCK as u64, |group| {
                newest = newest.max(group.ledger_number);
                u64::from(group.length)
            });
        }
        newest
    }

    /// The header of a group of this segment, which has this number or a higher one.
    pub(super) fn group(&self, at: u64, end: u64, number: u32) -> Result<GroupHeader, String> {
        let group = self.group_header(at)?;
        let is_ours = self.written_as.is_some_and(|ours| {
            (group.segment, group.generation, group.epoch) == (ours.segment, ours.generation, ours.epoch)
        });
        if !is_ours {
            return Err("group belongs to an earlier use of the file".into());
        }
        if group.number < number {
            return Err("group stands behind a later one".into());
        }
        if at + u64::from(group.length) > end {
            return Err("group is cut short".into());
        }
        Ok(group)
    }

    /// The records of a group, and what in it cannot be read.
    fn records(
        &self,
        group: &GroupHeader,
        offset: u64,
        inline_below: u64,
    ) -> (Vec<Salvaged>, Option<(u64, String)>) {
        let bytes = match self.read(offset, group.used as usize) {
            Ok(bytes) => bytes,
            Err(why) => return (Vec::new(), Some((offset, why))),
        };
        let (mut found, mut damage) = (Vec::new(), None);
        let mut at = GROUP_HEADER_BYTES;
        for _ in 0..group.records {
            let mut damaged = |why: &str| {
                damage.get_or_insert((offset + u64::from(at), why.to_owned()));
            };
            let rest = bytes.slice((at as usize).min(bytes.len())..);
            let start = offset as u32 + at;
            match record::parse(&rest) {
                Ok((parsed, _)) => found.extend(self.whole(parsed, start, inline_below)),
                Err(why) => {
                    damaged(&why);
                    found.extend(self.part(&rest, start));
                }
            }
            let length = record::peek(&rest).map_or(0, |(length, _)| length);
            if length == 0 || u64::from(at) + u64::from(length) > bytes.len() as u64 {
                damaged("record is cut short");
                break;
            }
            at += length;
        }
        found.push(Salvaged::Committed(group.committed_next));
        (found, damage)
    }

    fn whole(&self, parsed: Parsed, start: u32, inline_below: u64) -> Option<Salvaged> {
        Some(match parsed {
            Parsed::Entry(entry, offsets) => {
                let segment = self.written_as?.segment;
                let payload = match &entry.payload {
                    Payload::Ops(ops) => {
                        let view = |(op, at): (_, &u32)| pointer_view(op, segment, start + *at, inline_below);
                        Payload::Ops(ops.iter().zip(&offsets).map(view).collect())
                    }
                    other => other.clone(),
                };
                Salvaged::Entry(Entry { payload, ..entry })
            }
            Parsed::Vote(vote) => Salvaged::Vote(vote),
            Parsed::Truncate(next) => Salvaged::Truncate(next),
            Parsed::Footer(_) => return None,
            Parsed::Values(values) => {
                let place = |value: crate::ValueRecord| ValuePlace {
                    offset: value.offset + start,
                    length: value.length,
                    key: value.key,
                    seq: value.seq,
                    value_bytes: value.value.value_bytes,
                    expires: value.value.expires,
                };
                Salvaged::Values(values.into_iter().map(place).collect())
            }
        })
    }

    fn part(&self, rest: &Bytes, start: u32) -> Option<Salvaged> {
        if let Some(entry) = entry::entry_without_values(rest, self.written_as?.segment, start) {
            return Some(Salvaged::Entry(entry));
        }
        Some(entry::values(rest, start)).filter(|values| !values.is_empty()).map(Salvaged::Values)
    }
}

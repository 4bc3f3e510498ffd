//! The rules by which a change-set changes the state, and the way back when one is broken.
//!
//! Edits are applied in place, remembering what was there; what can only be judged at the end (overlap,
//! references, sharing of files) is then checked for what was touched. A broken rule puts everything back.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::edit::{ChangeSet, Edit, LogPosition, SealedInfo, TableMeta, TimeStep};
use crate::state::{InvalidEdit, SegmentKind, SegmentState, State};
use crate::undo::{Undo, Was};

/// A change-set on its way into the state.
pub(crate) struct Fold<'a> {
    state: &'a mut State,
    undo: Undo,
    /// The change-set builds a state from nothing, as the first of every file does: it may open a
    /// segment in the file that it is remapped to, and share that file while at it.
    whole: bool,
    /// What `next_file` will be: where the edit stands in the change-set does not matter.
    next_file: u64,
    tables: BTreeSet<u64>,
    segments: BTreeSet<u64>,
    /// File numbers that came into use here.
    used: BTreeSet<u64>,
    /// File numbers that a table or segment left here.
    left: BTreeSet<u64>,
}

impl<'a> Fold<'a> {
    /// Applies the change-set and returns the way back, or leaves the state as it was.
    pub(crate) fn run(state: &'a mut State, set: &ChangeSet) -> Result<Undo, InvalidEdit> {
        let whole = state.number == 0;
        let expected = state.number.saturating_add(1);
        // A rewritten manifest begins with the state under the number it had.
        if if whole { set.number == 0 } else { set.number != expected } {
            return Err(InvalidEdit::Number { expected, got: set.number });
        }
        if whole && !matches!(set.edits.first(), Some(Edit::Identity(_))) {
            return Err(InvalidEdit::NoIdentity);
        }
        let next_files = set.edits.iter().filter_map(|edit| match edit {
            Edit::NextFile(number) => Some(*number),
            _ => None,
        });
        let mut fold = Fold {
            undo: Undo::of(state),
            whole,
            next_file: next_files.fold(state.next_file, u64::max),
            state,
            tables: BTreeSet::new(),
            segments: BTreeSet::new(),
            used: BTreeSet::new(),
            left: BTreeSet::new(),
        };
        match fold.edits(set) {
            Ok(()) => {
                fold.state.number = set.number;
                Ok(fold.undo)
            }
            Err(why) => {
                let Fold { undo, state, .. } = fold;
                undo.run(state);
                Err(why)
            }
        }
    }

    fn edits(&mut self, set: &ChangeSet) -> Result<(), InvalidEdit> {
        for (at, edit) in set.edits.iter().enumerate() {
            match edit {
                Edit::Identity(identity) if self.whole && at == 0 => self.state.identity = identity.clone(),
                Edit::Identity(_) => return Err(InvalidEdit::SecondIdentity),
                Edit::AddTable(table) => self.add_table(table)?,
                Edit::RemoveTable { id } => drop(self.take_table(*id)?),
                Edit::MoveTable { id, level } => self.move_table(*id, *level)?,
                Edit::OpenSegment { segment, file, generation, epoch } => {
                    self.open_segment(*segment, *file, *generation, *epoch)?;
                }
                Edit::SealSegment { segment, info } => self.seal_segment(*segment, info)?,
                Edit::RemapSegment { segment, file } => self.remap_segment(*segment, *file)?,
                Edit::AddValueSegment { .. } => self.add_value_segment(edit)?,
                Edit::DropSegment { segment } => self.drop_segment(*segment)?,
                Edit::Flushed { position, membership } => {
                    forward("the flushed position", self.state.flushed, *position)?;
                    self.state.flushed = Some(*position);
                    self.state.membership.clone_from(membership);
                }
                Edit::ReplayFrom { segment } => {
                    not_below("the replay segment", self.state.replay_from.unwrap_or(0), *segment)?;
                    self.state.replay_from = Some(*segment);
                }
                Edit::PurgeFloor(position) => {
                    forward("the purge floor", self.state.purge_floor, *position)?;
                    self.state.purge_floor = Some(*position);
                }
                // Counted in already, wherever it stands; a lower number than known says nothing new.
                Edit::NextFile(_) => self.state.next_file = self.next_file,
                Edit::Epoch(epoch) => {
                    not_below("the epoch", self.state.epoch.saturating_add(1), *epoch)?;
                    self.state.epoch = *epoch;
                }
                Edit::LogTime(step) => self.add_time(*step)?,
                Edit::HistoryFloor(floor) => {
                    if let (Some(from), Some(to)) = (self.state.history_floor, *floor) {
                        not_below("the history floor", from, to)?;
                    }
                    self.state.history_floor = *floor;
                }
            }
        }
        self.forget_times();
        self.at_the_end()
    }

    fn add_time(&mut self, step: TimeStep) -> Result<(), InvalidEdit> {
        if let Some(last) = self.state.times.last() {
            not_below("the log time", u64::from(last.time) + 1, u64::from(step.time))?;
            not_below("the entry of a log time", last.index.saturating_add(1), step.index)?;
        }
        Arc::make_mut(&mut self.state.times).push(step);
        Ok(())
    }

    /// Of what is not newer than the oldest state that can be read, only the last step matters.
    fn forget_times(&mut self) {
        let Some(flushed) = self.state.flushed else { return };
        let oldest = self.state.history_floor.map_or(flushed.index, |floor| floor.min(flushed.index));
        let known = self.state.times.partition_point(|step| step.index <= oldest);
        if known > 1 {
            Arc::make_mut(&mut self.state.times).drain(..known - 1);
        }
    }

    fn add_table(&mut self, table: &TableMeta) -> Result<(), InvalidEdit> {
        if self.state.tables.contains_key(&table.id) {
            return Err(InvalidEdit::KnownTable { id: table.id });
        }
        plausible_table(table).map_err(|why| InvalidEdit::Table { id: table.id, why })?;
        self.use_file(table.id, false)?;
        self.put_table(table.id, Some(table.clone()));
        Ok(())
    }

    fn take_table(&mut self, id: u64) -> Result<TableMeta, InvalidEdit> {
        let table = self.state.tables.get(&id).cloned().ok_or(InvalidEdit::UnknownTable { id })?;
        self.put_table(id, None);
        self.left.insert(id);
        Ok(table)
    }

    fn move_table(&mut self, id: u64, level: u8) -> Result<(), InvalidEdit> {
        let mut table = self.state.tables.get(&id).cloned().ok_or(InvalidEdit::UnknownTable { id })?;
        table.level = level;
        self.put_table(id, Some(table));
        Ok(())
    }

    fn open_segment(
        &mut self,
        segment: u64,
        file: u64,
        generation: u32,
        epoch: u64,
    ) -> Result<(), InvalidEdit> {
        self.new_segment(SegmentState { segment, file, generation, epoch, ..SegmentState::default() })
    }

    fn add_value_segment(&mut self, edit: &Edit) -> Result<(), InvalidEdit> {
        let Edit::AddValueSegment { segment, file, generation, epoch, end, values, value_bytes } = *edit
        else {
            return Ok(());
        };
        let held = SealedInfo { end, values, value_bytes, ..SealedInfo::default() };
        let (kind, sealed) = (SegmentKind::Values, Some(held));
        self.new_segment(SegmentState { segment, kind, file, generation, epoch, sealed, remapped: false })
    }

    fn new_segment(&mut self, new: SegmentState) -> Result<(), InvalidEdit> {
        if self.state.segments.contains_key(&new.segment) {
            return Err(InvalidEdit::KnownSegment { segment: new.segment });
        }
        self.use_file(new.file, self.whole)?;
        self.put_segment(new.segment, Some(new));
        Ok(())
    }

    fn seal_segment(&mut self, segment: u64, info: &SealedInfo) -> Result<(), InvalidEdit> {
        let mut sealed = self.segment(segment)?;
        if sealed.sealed.is_some() {
            return Err(InvalidEdit::SealedSegment { segment });
        }
        plausible_sealed(info).map_err(|why| InvalidEdit::Segment { segment, why })?;
        sealed.sealed = Some(info.clone());
        self.put_segment(segment, Some(sealed));
        Ok(())
    }

    fn remap_segment(&mut self, segment: u64, file: u64) -> Result<(), InvalidEdit> {
        let mut remapped = self.sealed_segment(segment)?;
        if !(self.whole && file == remapped.file) {
            self.use_file(file, true)?;
            self.left.insert(remapped.file);
        }
        remapped.file = file;
        remapped.remapped = true;
        self.put_segment(segment, Some(remapped));
        Ok(())
    }

    fn drop_segment(&mut self, segment: u64) -> Result<(), InvalidEdit> {
        let dropped = self.sealed_segment(segment)?;
        self.left.insert(dropped.file);
        self.put_segment(segment, None);
        Ok(())
    }

    fn segment(&self, segment: u64) -> Result<SegmentState, InvalidEdit> {
        self.state.segments.get(&segment).cloned().ok_or(InvalidEdit::UnknownSegment { segment })
    }

    fn sealed_segment(&self, segment: u64) -> Result<SegmentState, InvalidEdit> {
        let state = self.segment(segment)?;
        if state.sealed.is_none() {
            return Err(InvalidEdit::OpenSegment { segment });
        }
        Ok(state)
    }

    /// Brings a file number into use: taken from the counter before, and used by nobody else, except that
    /// several segments may share a file that this change-set brought into use.
    fn use_file(&mut self, file: u64, shared: bool) -> Result<(), InvalidEdit> {
        if file >= self.next_file {
            return Err(InvalidEdit::FileNotTaken { file, next_file: self.next_file });
        }
        let together = shared && self.used.contains(&file);
        if self.left.contains(&file) || (self.state.index.users(file) > 0 && !together) {
            return Err(InvalidEdit::FileInUse { file });
        }
        self.used.insert(file);
        Ok(())
    }

    fn put_table(&mut self, id: u64, table: Option<TableMeta>) {
        let was = self.state.put_table(id, table);
        self.undo.entries.push(Was::Table(id, was.map(Box::new)));
        self.tables.insert(id);
    }

    fn put_segment(&mut self, id: u64, segment: Option<SegmentState>) {
        let was = self.state.put_segment(id, segment);
        self.undo.entries.push(Was::Segment(id, was.map(Box::new)));
        self.segments.insert(id);
    }

    fn at_the_end(&self) -> Result<(), InvalidEdit> {
        self.tables.iter().filter_map(|id| self.state.tables.get(id)).try_for_each(|t| self.fits(t))?;
        self.segments.iter().try_for_each(|segment| self.stands(*segment))?;
        // Who is in a file changes only where somebody came or left.
        self.used.union(&self.left).try_for_each(|file| self.shared_rightly(*file))?;
        self.replays()?;
        let floor = self.state.purge_floor.map_or(0, |position| position.index);
        let flushed = self.state.flushed.map_or(0, |position| position.index);
        if floor > flushed {
            return Err(InvalidEdit::PurgeAboveFlushed { floor, flushed });
        }
        Ok(())
    }

    fn replays(&self) -> Result<(), InvalidEdit> {
        let Some(segment) = self.state.replay_from else { return Ok(()) };
        match self.state.segments.get(&segment) {
            Some(found) if found.kind == SegmentKind::Values => Err(InvalidEdit::ReplayOfValues { segment }),
            Some(found) if found.remapped => Err(InvalidEdit::ReplayOfRemapped { segment, file: found.file }),
            Some(_) => Ok(()),
            None => Err(InvalidEdit::UnknownSegment { segment }),
        }
    }

    /// The table overlaps no other of its level and points to known segments.
    fn fits(&self, table: &TableMeta) -> Result<(), InvalidEdit> {
        let level = table.level;
        let overlap = |left: u64, right: u64| InvalidEdit::Overlap { level, left, right };
        let (before, behind) = self.state.index.neighbours(table);
        if let Some(before) = before.and_then(|id| self.state.tables.get(&id))
            && before.largest >= table.smallest
        {
            return Err(overlap(before.id, table.id));
        }
        if let Some(behind) = behind.and_then(|id| self.state.tables.get(&id))
            && table.largest >= behind.smallest
        {
            return Err(overlap(table.id, behind.id));
        }
        match table.refs.iter().find(|r| !self.state.segments.contains_key(&r.segment)) {
            Some(nowhere) => Err(InvalidEdit::PointsNowhere { table: table.id, segment: nowhere.segment }),
            None => Ok(()),
        }
    }

    /// The file belongs to one segment at most; others are in it only if that is one of values.
    fn shared_rightly(&self, file: u64) -> Result<(), InvalidEdit> {
        let mut owners = self.state.segments_in(file).filter(|segment| !segment.remapped);
        let owner = owners.next();
        if owners.next().is_some() {
            return Err(InvalidEdit::FileInUse { file });
        }
        match self.state.segments_in(file).find(|segment| segment.remapped) {
            Some(moved) if owner.is_none_or(|owner| owner.kind != SegmentKind::Values) => {
                Err(InvalidEdit::NoOwner { segment: moved.segment, file })
            }
            _ => Ok(()),
        }
    }

    /// The segment is gone and missed by no table, or not ahead of its time.
    fn stands(&self, id: u64) -> Result<(), InvalidEdit> {
        let Some(segment) = self.state.segments.get(&id) else {
            return match self.state.index.pointing(id) {
                0 => Ok(()),
                tables => Err(InvalidEdit::PointedTo { segment: id, tables }),
            };
        };
        if segment.epoch > self.state.epoch {
            let (epoch, last) = (segment.epoch, self.state.epoch);
            return Err(InvalidEdit::EpochAhead { segment: id, epoch, last });
        }
        Ok(())
    }
}

fn plausible_table(table: &TableMeta) -> Result<(), &'static str> {
    let ascending = table.refs.is_sorted_by(|a, b| a.segment < b.segment);
    let rules = [
        (table.smallest <= table.largest, "its smallest key is above its largest"),
        (table.seq_min <= table.seq_max, "its lowest seq is above its highest"),
        (table.tombstones <= table.entries, "it has more tombstones than entries"),
        (ascending, "its references do not ascend by segment"),
    ];
    rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err(*why))
}

fn plausible_sealed(info: &SealedInfo) -> Result<(), &'static str> {
    let indexes = match (info.first_index, info.last_index) {
        (Some(first), Some(last)) => first <= last,
        (None, None) => true,
        _ => false,
    };
    let rules = [
        (indexes, "its first index does not go with its last"),
        (info.terms.is_sorted_by(|a, b| a.term < b.term), "its terms do not ascend"),
    ];
    rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err(*why))
}

fn forward(what: &'static str, from: Option<LogPosition>, to: LogPosition) -> Result<(), InvalidEdit> {
    let from = from.unwrap_or_default();
    not_below(what, from.index, to.index)?;
    not_below(what, from.term, to.term)
}

fn not_below(what: &'static str, from: u64, to: u64) -> Result<(), InvalidEdit> {
    if to < from { Err(InvalidEdit::Backwards { what, from, to }) } else { Ok(()) }
}

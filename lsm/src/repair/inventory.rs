//! What there is: the manifest, the tables and the segments, each by what it says of itself, not by its name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_manifest::names::{self, FileName};
use kv_manifest::{SegmentKind, SegmentState, State, TableMeta, remains};
use kv_vfs::Vfs;
use kv_vlog::SalvageFile;

use super::report::RepairReport;
use crate::error::StoreError;
use crate::offline::problem_of;
use crate::table::{TableError, TableReader};

/// Whose files count.
type Owner = ([u8; 16], u64);

/// A table that cannot be read as a whole.
#[derive(Debug)]
pub(super) struct DamagedTable {
    pub path: PathBuf,
    /// Its number, by its name.
    pub id: u64,
    /// What the manifest says of it, if anything does.
    pub meta: Option<TableMeta>,
}

/// A segment that is there.
#[derive(Debug)]
pub(super) struct FoundSegment {
    pub file: SalvageFile,
    /// What the manifest says of it.
    pub known: Option<SegmentState>,
    /// Whether it holds a part of the log that counts.
    pub is_log: bool,
    /// Where its values end and a remap begins, if it has one.
    pub remap_at: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// What the manifest says, if it can be relied on.
    pub state: Option<State>,
    /// What the best manifest says, up to where it can be read.
    pub hint: State,
    /// Tables that count and are whole.
    pub tables: Vec<Arc<TableReader>>,
    /// Those that count and are damaged.
    pub damaged: Vec<DamagedTable>,
    /// Those that count and are not there.
    pub missing: Vec<TableMeta>,
    /// Segments; those of the log that counts in its order.
    pub segments: Vec<FoundSegment>,
}

/// A file that may be a table.
struct TableFile {
    name: String,
    id: u64,
    opened: Result<Arc<TableReader>, TableError>,
}

impl Inventory {
    /// Looks at all files of a directory; names in the report what is wrong with them.
    pub(super) fn take(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        report: &mut RepairReport,
    ) -> Result<Self, StoreError> {
        let manifest = remains(&**vfs, dir)?;
        for problem in &manifest.problems {
            report.problem(&problem.file, None, &problem.why);
        }
        let (mut tables, mut segments) = (Vec::new(), Vec::new());
        for entry in vfs.list(dir)?.into_iter().filter(|entry| !entry.is_dir) {
            match names::parse(&entry.name) {
                Some(FileName::Table(id)) => {
                    let opened = TableReader::open_any(vfs, &dir.join(&entry.name));
                    if let Err(error @ TableError::Newer { .. }) = opened {
                        return Err(error.into());
                    }
                    tables.push(TableFile { name: entry.name, id, opened });
                }
                Some(FileName::Segment(number)) => match SalvageFile::open(&**vfs, &dir.join(&entry.name)) {
                    Ok(file) => segments.push((number, file)),
                    Err(error) => {
                        let problem = problem_of(&entry.name, error.into())?;
                        report.problem(problem.file, problem.offset, problem.why);
                    }
                },
                _ => {}
            }
        }
        let owner = owner(&manifest.state, &tables, &segments);
        let newest = newest_change_set(&segments, owner);
        let is_whole = manifest.is_whole && manifest.state.number >= newest;
        if manifest.is_whole
            && !is_whole
            && let Some(file) = &manifest.file
        {
            let last = manifest.state.number;
            report.problem(
                file,
                None,
                format!("change-sets are missing: {last} is the last one here, but {newest} was durable"),
            );
        }
        report.by_manifest = is_whole;
        let mut inventory = Self { hint: manifest.state, ..Self::default() };
        inventory.state = is_whole.then(|| inventory.hint.clone());
        inventory.sort_tables(dir, tables, owner, report)?;
        inventory.sort_segments(segments, owner, report);
        Ok(inventory)
    }

    fn sort_tables(
        &mut self,
        dir: &Path,
        files: Vec<TableFile>,
        (cluster_id, incarnation): Owner,
        report: &mut RepairReport,
    ) -> Result<(), StoreError> {
        let mut wanted = self.state.as_ref().map(|state| state.tables.clone());
        let mut broken = Vec::new();
        for TableFile { name, id, opened } in files {
            let reader = match opened {
                Ok(reader) => reader,
                Err(error) => {
                    broken.push((name, id, error));
                    continue;
                }
            };
            let said = *reader.identity();
            if (said.cluster_id, said.incarnation) != (cluster_id, incarnation) {
                report.problem(name, None, "belongs to another data directory; left out");
                continue;
            }
            let meta = wanted.as_mut().map(|tables| tables.remove(&said.table_id));
            if meta == Some(None) {
                continue; // given up before: no part of the data
            }
            if said.table_id != id {
                let why = format!("is misnamed: it is table {}; taken as that", said.table_id);
                report.problem(&name, None, why);
            }
            match reader.verify() {
                Ok(()) => self.tables.push(reader),
                Err(error) => {
                    let problem = problem_of(&name, error.into())?;
                    report.problem(problem.file, problem.offset, problem.why);
                    let (path, id) = (dir.join(&name), said.table_id);
                    self.damaged.push(DamagedTable { path, id, meta: meta.flatten() });
                }
            }
        }
        for (name, id, error) in broken {
            let meta = wanted.as_mut().map(|tables| tables.remove(&id));
            if meta == Some(None) {
                continue;
            }
            let problem = problem_of(&name, error.into())?;
            report.problem(problem.file, problem.offset, problem.why);
            self.damaged.push(DamagedTable { path: dir.join(&name), id, meta: meta.flatten() });
        }
        for (id, meta) in wanted.unwrap_or_default() {
            report.problem(names::table_name(id), None, "the table is missing");
            self.missing.push(meta);
        }
        Ok(())
    }

    fn sort_segments(&mut self, files: Vec<(u64, SalvageFile)>, owner: Owner, report: &mut RepairReport) {
        let owners = |state: &State| {
            let owners = state.segments.values().filter(|segment| !segment.remapped);
            owners.map(|segment| (segment.segment, segment.clone())).collect::<BTreeMap<_, _>>()
        };
        let mut wanted = self.state.as_ref().map(owners);
        for (number, file) in files {
            let name = file.name();
            match file.header() {
                Ok(_) if !is_ours(&file, owner) => {
                    report.problem(name, None, "belongs to another data directory; left out");
                    continue;
                }
                Ok(header) if header.identity.file != number => {
                    let why = format!("is misnamed: it is file {}; taken as that", header.identity.file);
                    report.problem(&name, None, why);
                }
                Ok(_) => {}
                Err(why) => report.problem(&name, Some(0), why),
            }
            let known = wanted.as_mut().map(|segments| {
                let written = file.written_as()?;
                let same = |known: &mut SegmentState| {
                    (known.generation, known.epoch) == (written.generation, written.epoch)
                };
                let found = segments.get_mut(&written.segment).is_some_and(same);
                found.then(|| segments.remove(&written.segment)).flatten()
            });
            self.segments.push(self.segment(file, known));
        }
        for segment in wanted.unwrap_or_default().into_values() {
            let why = format!("the file of segment {} is missing", segment.segment);
            report.problem(names::segment_name(segment.file), None, why);
        }
        self.segments.sort_by_key(|found| found.file.written_as().map(|written| written.segment));
    }

    /// `known`: outer `None` where no manifest says what there should be.
    fn segment(&self, file: SalvageFile, known: Option<Option<SegmentState>>) -> FoundSegment {
        match (known, &self.state) {
            (Some(known), Some(state)) => {
                let is_log = known.as_ref().is_some_and(|known| known.kind == SegmentKind::Log);
                let remap_at = known.as_ref().and_then(|known| {
                    let is_shared = state.segments_in(known.file).any(|other| other.remapped);
                    known.sealed.as_ref().filter(|_| is_shared).map(|sealed| sealed.end)
                });
                FoundSegment { file, known, is_log, remap_at }
            }
            _ => {
                let values_end = file.values_end();
                let is_log = values_end.is_none() && file.written_as().is_some();
                let remap_at = values_end.filter(|(end, footer)| *footer || file.bytes() > *end);
                FoundSegment { remap_at: remap_at.map(|(end, _)| end), known: None, is_log, file }
            }
        }
    }
}

/// The newest change-set that segments name as durable: each in its header, the newest one in its groups, too.
fn newest_change_set(segments: &[(u64, SalvageFile)], owner: Owner) -> u64 {
    let ours = || segments.iter().map(|(_, file)| file).filter(|file| is_ours(file, owner));
    let headers = ours().filter_map(|file| file.header().ok()).map(|header| header.end.ledger_number);
    let newest = ours().max_by_key(|file| file.written_as().map(|written| (written.epoch, written.segment)));
    headers.chain(newest.map(SalvageFile::ledger_number)).max().unwrap_or_default()
}

fn is_ours(file: &SalvageFile, owner: Owner) -> bool {
    // One without a header is believed to be what its name says; its values prove themselves.
    file.header().map_or(true, |header| (header.identity.cluster_id, header.identity.incarnation) == owner)
}

/// Whose directory it is: by the manifest, or else as most files say.
fn owner(state: &State, tables: &[TableFile], segments: &[(u64, SalvageFile)]) -> Owner {
    if state.number > 0 {
        return (state.identity.cluster_id, state.identity.incarnation);
    }
    let tables = tables.iter().filter_map(|file| file.opened.as_ref().ok());
    let tables = tables.map(|table| (table.identity().cluster_id, table.identity().incarnation));
    let headers = segments.iter().filter_map(|(_, file)| file.header().ok());
    let headers = headers.map(|header| (header.identity.cluster_id, header.identity.incarnation));
    let mut votes: BTreeMap<Owner, u64> = BTreeMap::new();
    tables.chain(headers).for_each(|owner| *votes.entry(owner).or_default() += 1);
    votes.into_iter().max_by_key(|(_, count)| *count).map(|(owner, _)| owner).unwrap_or_default()
}

//! What there is: the manifest, the tables and the segments, each by what it says of itself, not by its name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_manifest::names::{self, FileName};
use kv_manifest::{Remains, SegmentKind, SegmentState, State, TableMeta, remains};
use kv_vfs::Vfs;
use kv_vlog::SalvageFile;

use super::report::RepairReport;
use crate::error::StoreError;
use crate::offline::manifest::{
    Owner, STRANGER, missing_change_sets, newest_change_set, owner, owner_of_segment, owner_of_table, said,
};
use crate::offline::problem_of;
use crate::table::{TableError, TableReader};

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
        let owner = whose(&manifest.state, &tables, &segments);
        let mut inventory = Self::by(manifest, owner, &segments, report);
        inventory.sort_tables(dir, tables, owner, report)?;
        inventory.sort_segments(segments, owner, report);
        Ok(inventory)
    }

    /// What the manifest, if it is the owner's, is good for.
    fn by(
        manifest: Remains,
        owner: Owner,
        segments: &[(u64, SalvageFile)],
        report: &mut RepairReport,
    ) -> Self {
        let Remains { file, state, is_whole, .. } = manifest;
        let file = file.unwrap_or_default();
        if state.number > 0 && owner != said(&state) {
            report.problem(file, None, format!("{STRANGER}; left out"));
            return Self::default();
        }
        let newest = newest_change_set(segments.iter().map(|(_, file)| file), owner);
        report.by_manifest = is_whole && state.number >= newest;
        if is_whole && !report.by_manifest {
            report.problem(file, None, missing_change_sets(state.number, newest));
        }
        Self { state: report.by_manifest.then(|| state.clone()), hint: state, ..Self::default() }
    }

    fn sort_tables(
        &mut self,
        dir: &Path,
        files: Vec<TableFile>,
        owner: Owner,
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
            if owner_of_table(&reader) != owner {
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

fn is_ours(file: &SalvageFile, owner: Owner) -> bool {
    // One without a header is believed to be what its name says; its values prove themselves.
    owner_of_segment(file).is_none_or(|found| found == owner)
}

fn whose(state: &State, tables: &[TableFile], segments: &[(u64, SalvageFile)]) -> Owner {
    let tables = tables.iter().filter_map(|file| file.opened.as_ref().ok());
    let tables = tables.map(|table| owner_of_table(table));
    owner(state, tables.chain(segments.iter().filter_map(|(_, file)| owner_of_segment(file))))
}

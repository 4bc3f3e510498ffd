//! Whether the manifest is the one of these files, and whether it is all of it: the files tell.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kv_manifest::names::{self, FileName};
use kv_manifest::{Manifest, State};
use kv_vfs::Vfs;
use kv_vlog::SalvageFile;

use super::Check;
use super::report::Problem;
use crate::error::StoreError;
use crate::table::TableReader;

/// A data directory: cluster and incarnation.
pub(crate) type Owner = ([u8; 16], u64);

/// What is said of a manifest that none of the files belongs to.
pub(crate) const STRANGER: &str =
    "belongs to another data directory than the tables and segments beside it: all of them name one other";

/// Whose directory it is: that of the manifest, unless no file agrees with it; else of most files.
pub(crate) fn owner(state: &State, files: impl Iterator<Item = Owner>) -> Owner {
    let mut votes: BTreeMap<Owner, u64> = BTreeMap::new();
    files.for_each(|owner| *votes.entry(owner).or_default() += 1);
    let said = said(state);
    if state.number > 0 && (votes.is_empty() || votes.contains_key(&said)) {
        return said;
    }
    votes.into_iter().max_by_key(|(_, count)| *count).map(|(owner, _)| owner).unwrap_or_default()
}

/// Whose the manifest says that it is.
pub(crate) fn said(state: &State) -> Owner {
    (state.identity.cluster_id, state.identity.incarnation)
}

/// Whose a table is.
pub(crate) fn owner_of_table(table: &TableReader) -> Owner {
    (table.identity().cluster_id, table.identity().incarnation)
}

/// Whose a segment is, if it has a header.
pub(crate) fn owner_of_segment(file: &SalvageFile) -> Option<Owner> {
    file.header().ok().map(|header| (header.identity.cluster_id, header.identity.incarnation))
}

/// The newest change-set that the owner's segments name as durable: each in its header, the newest one in its groups,
/// too. One without a header is believed to be the owner's.
pub(crate) fn newest_change_set<'a>(
    segments: impl Iterator<Item = &'a SalvageFile> + Clone,
    owner: Owner,
) -> u64 {
    let ours = || segments.clone().filter(|file| owner_of_segment(file).is_none_or(|found| found == owner));
    let headers = ours().filter_map(|file| file.header().ok()).map(|header| header.end.ledger_number);
    let newest = ours().max_by_key(|file| file.written_as().map(|written| (written.epoch, written.segment)));
    headers.chain(newest.map(SalvageFile::ledger_number)).max().unwrap_or_default()
}

impl Check<'_> {
    /// Where something is wrong, it may be the manifest, and nothing else.
    pub(super) fn manifest_against_files(&mut self, manifest: &Manifest) -> Result<(), StoreError> {
        let state = manifest.state();
        let (owners, segments) = owners(&self.vfs, &self.dir)?;
        let owner = owner(state, owners.into_iter());
        if owner != said(state) {
            self.of_manifest(manifest, STRANGER.into());
            return Ok(());
        }
        let newest = newest_change_set(segments.iter(), owner);
        if newest > state.number && !self.report.problems.iter().any(|at| at.file == manifest.file_name()) {
            self.of_manifest(manifest, missing_change_sets(state.number, newest));
        }
        Ok(())
    }

    pub(super) fn of_manifest(&mut self, manifest: &Manifest, why: String) {
        self.report.problem(Problem { file: manifest.file_name(), offset: None, why });
    }
}

/// What is said of a manifest that has lost its end.
pub(crate) fn missing_change_sets(last: u64, durable: u64) -> String {
    format!("change-sets are missing: {last} is the last one here, but {durable} was durable")
}

/// Whose the tables and segments of a directory are, as far as they can be read, and the segments.
fn owners(vfs: &Arc<dyn Vfs>, dir: &Path) -> Result<(Vec<Owner>, Vec<SalvageFile>), StoreError> {
    let (mut owners, mut segments) = (Vec::new(), Vec::new());
    for entry in vfs.list(dir)?.into_iter().filter(|entry| !entry.is_dir) {
        let path = dir.join(&entry.name);
        match names::parse(&entry.name) {
            // What is damaged has been named already.
            Some(FileName::Table(_)) => {
                owners.extend(TableReader::open_any(vfs, &path).iter().map(|table| owner_of_table(table)));
            }
            Some(FileName::Segment(_)) => segments.extend(SalvageFile::open(&**vfs, &path)),
            _ => {}
        }
    }
    owners.extend(segments.iter().filter_map(owner_of_segment));
    Ok((owners, segments))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cluster: u8) -> Owner {
        ([cluster; 16], 1)
    }

    #[test]
    fn a_manifest_is_believed_unless_all_files_say_otherwise() {
        let mut state = State::default();
        assert_eq!(owner(&state, [of(1), of(2), of(2)].into_iter()), of(2), "there is no manifest");
        state.number = 7;
        (state.identity.cluster_id, state.identity.incarnation) = of(1);
        assert_eq!(owner(&state, [of(2), of(2), of(1)].into_iter()), of(1), "one file agrees");
        assert_eq!(owner(&state, [].into_iter()), of(1));
        assert_eq!(owner(&state, [of(2), of(3), of(2)].into_iter()), of(2));
    }
}

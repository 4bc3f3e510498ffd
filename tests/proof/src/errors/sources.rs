//! The places in the engine that do file operations, found by reading it: those that no run has reached.

use std::collections::BTreeSet;
use std::path::Path;

use kv_vfs::{RealVfs, Vfs};

use super::Site;
use super::sites::SOURCES;

/// Calls that are file operations wherever they stand in the engine.
const CALLS: [&str; 19] = [
    ".sync_data()",
    ".sync_dir(",
    ".write_at(",
    ".set_len(",
    ".preallocate(",
    ".rename(",
    ".create_dir_all(",
    ".hard_link(",
    ".read_at(",
    ".read_exact_at(",
    ".read_all(",
    ".open_read(",
    "vfs.create(",
    "vfs.open(",
    "vfs.remove(",
    "vfs.exists(",
    "vfs.list(",
    "vfs.lock(",
    "file.len()",
];

/// Files that only tools use, which write nothing, or into a new directory alone (`lsm/tests/repair` has repair meet
/// failures); and tests.
const NOT_OURS: [&str; 11] = [
    "/tests/",
    "tests.rs",
    "/testing.rs",
    "lsm/src/offline",
    "lsm/src/store/status.rs",
    "manifest/src/inspect.rs",
    "manifest/src/remains.rs",
    "lsm/src/repair",
    "lsm/src/table/salvage.rs",
    "vlog/src/salvage",
    "vlog/src/example.rs",
];

/// Lines that no workload reaches, and why that is so.
const EXPLAINED: [(&str, &str); 23] = [
    // `TableWriter::abandon`, which nothing calls but repair.
    ("lsm/src/table/writer.rs", "self.vfs.remove(&self.path)?"),
    // `TableReader::open_any`, which nothing calls but repair. The second line is the same in `open`, which is
    // reached by all.
    ("lsm/src/table/reader.rs", "vfs.open_read(path, IoMode::Buffered)?"),
    ("lsm/src/table/reader.rs", "let bytes = file.len()?"),
    // Opens a table without caches: tools again.
    ("lsm/src/table/reader.rs", "TableFile::Alone(vfs.open_read(&path, IoMode::Buffered)?)"),
    // Copies what cannot be linked: only after a link has failed.
    ("lsm/src/store/checkpoint.rs", "vfs.open_read(&from, IoMode::Buffered)?.len()?"),
    // Takes away the new file of a collection that is given up after it was made; an error is logged, the file is an
    // orphan.
    ("lsm/src/store/gc/collection.rs", "self.shared.core.vfs.remove(&path)"),
    // The copy that recovery makes where there is no direct I/O: `vlog/src/settle_tests.rs`.
    ("vlog/src/settle.rs", "if vfs.exists(&copy)?"),
    ("vlog/src/settle.rs", "vfs.remove(&copy)?"),
    ("vlog/src/settle.rs", "vfs.create(&copy"),
    ("vlog/src/settle.rs", "vfs.rename(&copy, path)?"),
    ("vlog/src/settle.rs", "vfs.sync_dir(dir)?"),
    ("vlog/src/settle.rs", "vfs.open_read(from"),
    ("vlog/src/settle.rs", "from.read_exact_at("),
    ("vlog/src/settle.rs", "to.write_at("),
    ("vlog/src/settle.rs", "to.sync_data()?"),
    // Takes away a table that could not be written to its end, for want of room: `lsm/tests/gc/full.rs`.
    ("lsm/src/store/flush.rs", "core.vfs.remove(&path)"),
    // Only where damage was found in a segment: the corruption sweep.
    ("vlog/src/verify.rs", "vfs.exists(&segment.path)?"),
    // Planted bugs.
    ("lsm/src/store/gc/output.rs", "core.vfs.remove(&self.path_of(victim.file))"),
    ("lsm/src/store/compact/record.rs", "vfs.remove(table.reader.path())"),
    ("lsm/src/store/purge.rs", "core.vfs.remove("),
    ("manifest/src/log.rs", "self.vfs.open("),
    ("vlog/src/writer.rs", "self.active.file.sync_data()?"),
    // Reached, but the optimiser leaves no frame of its own: the lines of the callers stand for these.
    ("vlog/vfs/src/dirs.rs", "vfs.sync_dir("),
];

/// Lines of the engine that do a file operation, are none of these and are not explained.
///
/// # Errors
/// Those of reading the sources.
pub fn unseen<'a>(sites: impl Iterator<Item = &'a Site>) -> std::io::Result<Vec<String>> {
    let seen: BTreeSet<_> = sites.map(|site| (site.file.clone(), site.line)).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut unseen = Vec::new();
    for file in files(&root)?.into_iter().filter(|file| !NOT_OURS.iter().any(|part| file.contains(part))) {
        let text = String::from_utf8_lossy(&RealVfs.read_all(&root.join(&file), 1 << 20)?).into_owned();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in (1..).zip(code.lines()) {
            let is_comment = line.trim_start().starts_with("//");
            let does = CALLS.iter().any(|call| line.contains(call));
            let explained = EXPLAINED.iter().any(|(of, code)| *of == file && line.contains(code));
            if does && !is_comment && !explained && !seen.contains(&(file.clone(), number)) {
                unseen.push(format!("{file}:{number}: {}", line.trim()));
            }
        }
    }
    Ok(unseen)
}

/// All source files, from the root of the repository.
fn files(root: &Path) -> std::io::Result<Vec<String>> {
    let mut files = Vec::new();
    let mut left: Vec<String> =
        SOURCES.iter().map(|source| source.trim_end_matches('/').to_owned()).collect();
    while let Some(path) = left.pop() {
        if path.ends_with(".rs") {
            files.push(path);
            continue;
        }
        let entries = RealVfs.list(&root.join(&path))?;
        let ours = entries.into_iter().filter(|entry| entry.is_dir || entry.name.ends_with(".rs"));
        left.extend(ours.map(|entry| format!("{path}/{}", entry.name)));
    }
    files.sort();
    Ok(files)
}

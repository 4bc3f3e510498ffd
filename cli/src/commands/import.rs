//! `import`: store the files of a directory tree, each under its path.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use tokio::sync::mpsc;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::progress::{Progress, Style, Unit, mb_per_second, message};
use crate::tree::budget::{BYTES_MAX, Budget};
use crate::tree::path;
use crate::tree::upload::{Stored, Uploader};
use crate::tree::walk::{Found, Skip, Walk};
use crate::{args, bytes_text, connect, keys, local};

/// How far the walk may be ahead, in files.
const WALK_AHEAD: usize = 256;

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Summary {
    files: u64,
    bytes: u64,
    files_in_parts: u64,
    seconds: f64,
    mb_per_second: f64,
    skipped: Skipped,
    failed: u64,
}

#[derive(Debug, Default, Serialize)]
struct Skipped {
    symbolic_links: u64,
    empty_directories: u64,
    special_files: u64,
}

/// Runs the command.
///
/// # Errors
/// There is no such directory, or the cluster cannot be reached (any more).
pub async fn run(args: args::Import, context: &mut Context) -> Result<Exit, Failure> {
    let root = args.directory;
    check_directory(&root).await?;
    let prefix = Bytes::from(args.prefix.0);
    // Whoever mistypes an address need not wait for as long as a node may take to restart.
    let limits = connect::client(&context.global)?.limits().await?;
    let client = connect::patient_client(&context.global)?;
    let fresh = keys::none_with_prefix(&client, &prefix).await?;
    let style = context.progress();
    let progress = Arc::new(Progress::start(style, "import", Unit::Bytes, Some(0)));
    if style == Style::Bar {
        count_ahead(root.clone(), &progress);
    }
    let budget = Budget::new(usize::from(args.concurrency), BYTES_MAX);
    let uploader = Uploader { client, limits, budget, fresh, progress: Arc::clone(&progress) };

    let started = Instant::now();
    let mut summary = Summary::default();
    let done = Import { root, prefix, uploader, progress }.run(&mut summary).await;
    summary.seconds = started.elapsed().as_secs_f64();
    summary.mb_per_second = mb_per_second(summary.bytes, summary.seconds);
    if let Err(failure) = done {
        message(&format!("stopped after {} files; run it again to go on", summary.files));
        return Err(failure);
    }
    print(&summary, context)?;
    Ok(if summary.failed == 0 { Exit::Ok } else { Exit::Error })
}

async fn check_directory(root: &Path) -> Result<(), Failure> {
    let path = root.to_owned();
    match local::blocking(move || local::is_directory(&path)).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::error(format!("{}: not a directory", root.display()))),
        Err(error) => Err(Failure::from(error).of(root.display())),
    }
}

/// Walks the tree once more, ahead of the import, to tell the bar how long it is. Ends with the import.
fn count_ahead(root: PathBuf, progress: &Arc<Progress>) {
    let progress = Arc::downgrade(progress);
    tokio::task::spawn_blocking(move || {
        for found in Walk::new(&root) {
            let Some(progress) = progress.upgrade() else { return };
            if let Found::File(path) = found {
                progress.more(local::length_or_zero(&root.join(path)));
            }
        }
    });
}

/// What became of one thing that the walk met.
enum Done {
    Stored(Stored),
    Skipped(Skip),
    Failed,
}

struct Import {
    root: PathBuf,
    prefix: Bytes,
    uploader: Uploader,
    progress: Arc<Progress>,
}

impl Import {
    /// Imports everything; stops early only where nothing further can succeed.
    async fn run(&self, summary: &mut Summary) -> Result<(), Failure> {
        let at_once = self.uploader.budget.requests_max();
        let done = walk(self.root.clone()).map(|found| self.take(found)).buffer_unordered(at_once);
        let mut done = std::pin::pin!(done);
        while let Some(done) = done.try_next().await? {
            summary.add(&done);
        }
        Ok(())
    }

    async fn take(&self, found: Found) -> Result<Done, Failure> {
        match found {
            Found::File(path) => self.store(path).await,
            Found::Skipped(path, why) => {
                self.progress.note(&format!("{}: skipped: {why}", name(&path)));
                Ok(Done::Skipped(why))
            }
            Found::Failed(path, error) => {
                self.progress.note(&format!("{}: {error}", name(&path)));
                Ok(Done::Failed)
            }
        }
    }

    async fn store(&self, path: PathBuf) -> Result<Done, Failure> {
        let key = path::key(&self.prefix, &path);
        match self.uploader.store(self.root.join(&path), key.into()).await {
            Ok(stored) => {
                self.progress.item();
                Ok(Done::Stored(stored))
            }
            Err(failure) if failure.exit == Exit::Unreachable => Err(failure.of(name(&path))),
            Err(failure) => {
                self.progress.note(&failure.of(name(&path)).to_string());
                Ok(Done::Failed)
            }
        }
    }
}

/// Walks in a thread of its own. Dropped, the walk ends.
fn walk(root: PathBuf) -> impl Stream<Item = Found> {
    let (sender, mut receiver) = mpsc::channel(WALK_AHEAD);
    tokio::task::spawn_blocking(move || {
        for found in Walk::new(&root) {
            if sender.blocking_send(found).is_err() {
                return;
            }
        }
    });
    stream::poll_fn(move |context| receiver.poll_recv(context))
}

/// A path for a message; the root itself is `.`.
fn name(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() { ".".to_owned() } else { bytes_text::format(bytes) }
}

impl Summary {
    fn add(&mut self, done: &Done) {
        match done {
            Done::Stored(stored) => {
                self.files += 1;
                self.bytes += stored.bytes;
                self.files_in_parts += u64::from(stored.in_parts);
            }
            Done::Skipped(Skip::SymbolicLink) => self.skipped.symbolic_links += 1,
            Done::Skipped(Skip::EmptyDirectory) => self.skipped.empty_directories += 1,
            Done::Skipped(Skip::Special) => self.skipped.special_files += 1,
            Done::Failed => self.failed += 1,
        }
    }
}

fn print(summary: &Summary, context: &mut Context) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.json(summary);
    }
    let Summary { files, bytes, files_in_parts, seconds, mb_per_second, skipped, failed } = summary;
    let Skipped { symbolic_links, empty_directories, special_files } = skipped;
    context.out.line(&format!(
        "imported {files} files ({files_in_parts} in parts), {bytes} bytes in {seconds:.2} s, {mb_per_second:.2} MB/s"
    ))?;
    context.out.line(&format!(
        "skipped {symbolic_links} symbolic links, {empty_directories} empty directories, \
         {special_files} special files; {failed} failed"
    ))
}

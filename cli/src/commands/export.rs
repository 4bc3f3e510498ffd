//! `export`: write keys as files of a directory tree.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{StreamExt as _, TryStreamExt as _};
use kv_client::Item;
use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::keys::{self, Range};
use crate::local::{Sink, Target};
use crate::progress::{Progress, Unit, mb_per_second, message};
use crate::tree::budget::{BYTES_MAX, Budget};
use crate::tree::download::Downloader;
use crate::tree::parts;
use crate::tree::path::{self, Ancestors};
use crate::{args, bytes_text, connect, local};

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Summary {
    files: u64,
    bytes: u64,
    seconds: f64,
    mb_per_second: f64,
    skipped: Skipped,
    damaged: u64,
    failed: u64,
}

#[derive(Debug, Default, Serialize)]
struct Skipped {
    /// Keys that are no safe path.
    unsafe_keys: u64,
    /// Keys below a key that is a file.
    below_files: u64,
}

/// Runs the command.
///
/// # Errors
/// The target is refused, or the cluster cannot be reached (any more).
pub async fn run(args: args::Export, context: &mut Context) -> Result<Exit, Failure> {
    let root = args.directory;
    // Whoever mistypes an address need not wait for as long as a node may take to restart.
    connect::client(&context.global)?.limits().await?;
    prepare(&root, args.yes).await?;
    let client = connect::patient_client(&context.global)?;
    let progress = Arc::new(Progress::start(context.progress(), "export", Unit::Bytes, None));
    let budget = Budget::new(usize::from(args.concurrency), BYTES_MAX);
    let downloader = Downloader { client, budget, progress: Arc::clone(&progress) };

    let started = Instant::now();
    let mut summary = Summary::default();
    let export = Export { root: root.clone(), prefix: args.prefix.0.into(), downloader, progress };
    let done = export.run(&mut summary).await;
    drop(export);
    if let Err(failure) = done {
        message(&format!("stopped after {} files; run it again with --yes", summary.files));
        return Err(failure);
    }
    let path = root.clone();
    let synced = local::blocking(move || local::sync_file_system(&path)).await;
    synced.map_err(|error| Failure::from(error).of(root.display()))?;
    summary.seconds = started.elapsed().as_secs_f64();
    summary.mb_per_second = mb_per_second(summary.bytes, summary.seconds);
    print(&summary, context)?;
    Ok(summary.exit())
}

/// Makes sure that the export may write there.
async fn prepare(root: &Path, yes: bool) -> Result<(), Failure> {
    let path = root.to_owned();
    let target = local::blocking(move || local::prepare_target(&path)).await;
    match target.map_err(|error| Failure::from(error).of(root.display()))? {
        Target::Empty => Ok(()),
        Target::Filled if yes => Ok(()),
        Target::Filled => Err(Failure::new(
            Exit::Refused,
            format!("{}: not empty; add --yes to replace files of the same name", root.display()),
        )),
        Target::DataDirectory => Err(Failure::error(format!(
            "{}: looks like the data directory of a node; choose another directory",
            root.display()
        ))),
    }
}

/// What became of one key.
enum Done {
    Written(u64),
    Gone,
    Damaged,
    Failed,
}

struct Export {
    root: PathBuf,
    prefix: Bytes,
    downloader: Downloader,
    progress: Arc<Progress>,
}

impl Export {
    /// Exports everything; stops early only where nothing further can succeed.
    async fn run(&self, summary: &mut Summary) -> Result<(), Failure> {
        let at_once = self.downloader.budget.requests_max();
        let mut keys = std::pin::pin!(keys::walk(&self.downloader.client, Range::prefix(&self.prefix)));
        let mut more = true;
        let mut under_way = FuturesUnordered::new();
        let mut layout = Layout::default();
        loop {
            tokio::select! {
                Some(done) = under_way.next() => summary.add(&done?),
                item = keys.try_next(), if more && under_way.len() < at_once => match item? {
                    Some(item) => {
                        if let Some(file) = self.place(&item, &mut layout, summary).await {
                            under_way.push(self.write(item, file));
                        }
                    }
                    None => more = false,
                },
                else => return Ok(()),
            }
        }
    }

    /// Where the file of a key goes; `None`: nowhere.
    async fn place(&self, item: &Item, layout: &mut Layout, summary: &mut Summary) -> Option<PathBuf> {
        let name = item.key.strip_prefix(&self.prefix[..])?;
        if parts::upload_of_part(name).is_some() {
            return None;
        }
        let relative = match path::relative(name) {
            Ok(relative) => relative,
            Err(why) => {
                self.note(&item.key, &format!("skipped: {why}"));
                summary.skipped.unsafe_keys += 1;
                return None;
            }
        };
        if let Some(file) = layout.ancestors.add(name) {
            let file = bytes_text::format(&path::key(&self.prefix, &file));
            self.note(
                &item.key,
                &format!("skipped: its directory would have to be the file of the key {file}"),
            );
            summary.skipped.below_files += 1;
            return None;
        }
        if let Err(error) = self.make_parent(relative, layout).await {
            self.note(&item.key, &error.to_string());
            summary.failed += 1;
            return None;
        }
        Some(self.root.join(relative))
    }

    /// Keys come in order, so the directory of a file is mostly that of the file before.
    async fn make_parent(&self, relative: &Path, layout: &mut Layout) -> std::io::Result<()> {
        let Some(parent) = relative.parent().filter(|parent| *parent != layout.last_parent) else {
            return Ok(());
        };
        let (root, directory) = (self.root.clone(), parent.to_owned());
        local::blocking(move || local::make_directories(&root, &directory)).await?;
        layout.last_parent = parent.to_owned();
        Ok(())
    }

    async fn write(&self, item: Item, file: PathBuf) -> Result<Done, Failure> {
        let written = self.try_write(&item, file).await;
        match written {
            Ok(Some(bytes)) => {
                self.progress.item();
                Ok(Done::Written(bytes))
            }
            Ok(None) => Ok(Done::Gone),
            Err(failure) if failure.exit == Exit::Unreachable => {
                Err(failure.of(bytes_text::format(&item.key)))
            }
            Err(failure) => {
                self.note(&item.key, &failure.to_string());
                Ok(if failure.exit == Exit::Corruption { Done::Damaged } else { Done::Failed })
            }
        }
    }

    async fn try_write(&self, item: &Item, file: PathBuf) -> Result<Option<u64>, Failure> {
        let sink = local::blocking(move || Sink::within(file)).await?;
        self.downloader.fetch(item.key.clone(), item.value_bytes, sink).await
    }

    fn note(&self, key: &[u8], what: &str) {
        self.progress.note(&format!("{}: {what}", bytes_text::format(key)));
    }
}

/// What the keys so far have made of the target.
#[derive(Default)]
struct Layout {
    ancestors: Ancestors,
    /// Directory of the last file; it exists.
    last_parent: PathBuf,
}

impl Summary {
    fn add(&mut self, done: &Done) {
        match done {
            Done::Written(bytes) => {
                self.files += 1;
                self.bytes += bytes;
            }
            Done::Gone => {}
            Done::Damaged => self.damaged += 1,
            Done::Failed => self.failed += 1,
        }
    }

    fn exit(&self) -> Exit {
        let Skipped { unsafe_keys, below_files } = self.skipped;
        match (self.damaged, self.failed + unsafe_keys + below_files) {
            (1.., _) => Exit::Corruption,
            (0, 1..) => Exit::Error,
            (0, 0) => Exit::Ok,
        }
    }
}

fn print(summary: &Summary, context: &mut Context) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.json(summary);
    }
    let Summary { files, bytes, seconds, mb_per_second, skipped, damaged, failed } = summary;
    let Skipped { unsafe_keys, below_files } = skipped;
    context
        .out
        .line(&format!("exported {files} files, {bytes} bytes in {seconds:.2} s, {mb_per_second:.2} MB/s"))?;
    context.out.line(&format!(
        "skipped {unsafe_keys} keys that are no safe path, {below_files} keys below the file of another key; \
         {damaged} damaged, {failed} failed"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_decides_the_exit_code() {
        let mut summary = Summary::default();
        summary.add(&Done::Written(5));
        summary.add(&Done::Gone);
        assert_eq!(summary.exit(), Exit::Ok);
        summary.skipped.below_files = 1;
        assert_eq!(summary.exit(), Exit::Error);
        summary.add(&Done::Damaged);
        summary.add(&Done::Failed);
        assert_eq!(summary.exit(), Exit::Corruption);
        assert_eq!((summary.files, summary.bytes), (1, 5));
    }
}

//! Puts one file into the store.
//!
//! Invariant: where a header is, its parts are. A header is written on condition that all its parts are
//! there, and the write that replaces a header is the one that deletes its parts (where they are too many
//! for one batch, the rest goes afterwards). So two imports of the same file, or a write that arrives late,
//! leave at worst parts without a header, which nobody reads and the next import of the file deletes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kv_client::{Batch, Client, Error, Expect, Limits, WriteOutcome};

use super::budget::Budget;
use super::parts::{self, ContentCrc, Header, PART_KEY_EXTRA_BYTES, Plan};
use crate::exit::{Exit, Failure};
use crate::keys::{self, Range};
use crate::local::{self, Source};
use crate::progress::Progress;

/// How often the parts of a file are sent before it is given up, because someone else imports the same
/// file at the same time.
const ATTEMPTS: u32 = 3;

/// How often a write with conditions is repeated when its outcome is unknown, and the pause between.
const REPEATS: u32 = 10;
const REPEAT_PAUSE: Duration = Duration::from_millis(200);

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its length.
    pub bytes: u64,
    /// Whether it is stored in parts.
    pub in_parts: bool,
}

/// Puts files into the store, several at a time.
pub struct Uploader {
    /// Where to. It repeats writes whose outcome it does not know.
    pub client: Client,
    /// Of the cluster.
    pub limits: Limits,
    /// What may be under way at once.
    pub budget: Budget,
    /// No key had the prefix when the import began, so no old parts need to be looked for.
    pub fresh: bool,
    /// Told of bytes as they are stored.
    pub progress: Arc<Progress>,
}

/// A part that is stored: what the header and its conditions need to know of it.
struct Part {
    key: Bytes,
    revision: u64,
    crc: u32,
    bytes: u64,
}

impl Uploader {
    /// Stores a file under a key, and removes the parts of what was there before.
    ///
    /// # Errors
    /// The file cannot be read, changes meanwhile, or is too long; or the cluster refuses.
    pub async fn store(&self, path: PathBuf, key: Bytes) -> Result<Stored, Failure> {
        let source = Arc::new(local::blocking(move || Source::open(&path)).await?);
        let bytes = source.length();
        let fits = bytes <= u64::from(self.limits.value_bytes_max);
        let in_parts = !(fits && self.store_plain(&source, &key).await?);
        if in_parts {
            self.store_in_parts(&source, &key).await?;
        }
        Ok(Stored { bytes, in_parts })
    }

    /// Stores a file as one value. `false`: it must be in parts, as it could be taken for a header.
    async fn store_plain(&self, source: &Arc<Source>, key: &Bytes) -> Result<bool, Failure> {
        let bytes = source.length();
        let share = self.budget.take(bytes).await;
        let value = read(source, 0, bytes, true).await?;
        if parts::needs_parts(&value) {
            return Ok(false);
        }
        let old = if self.fresh { Vec::new() } else { self.parts_of(key, |_| true).await? };
        self.replace(Batch::new().put(key.clone(), value), old).await?;
        drop(share);
        self.progress.advance(bytes);
        Ok(true)
    }

    /// Stores the parts, then the header. A reader sees the old file until the header is in.
    async fn store_in_parts(&self, source: &Arc<Source>, key: &Bytes) -> Result<(), Failure> {
        let plan = self.plan(source.length(), key)?;
        for _ in 0..ATTEMPTS {
            let upload = rand::random();
            match self.store_upload(source, key, plan, upload).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(failure) => {
                    if failure.exit != Exit::Unreachable {
                        // Its parts are of no use. Where this fails too, the next import deletes them.
                        let _ = self.abandon(key, upload).await;
                    }
                    return Err(failure);
                }
            }
        }
        Err(Failure::error("someone else imports the same file at the same time; try again later"))
    }

    /// How to cut a file. One batch must hold the header and a condition for each part.
    fn plan(&self, total_bytes: u64, key: &[u8]) -> Result<Plan, Failure> {
        let Limits { value_bytes_max, batch_bytes_max, batch_ops_max, .. } = self.limits;
        let header_bytes = key.len() + parts::HEADER_BYTES;
        let check_bytes = key.len() + PART_KEY_EXTRA_BYTES;
        let by_bytes = (batch_bytes_max as usize).saturating_sub(header_bytes) / check_bytes;
        let parts_max = batch_ops_max.saturating_sub(1).min(u32::try_from(by_bytes).unwrap_or(u32::MAX));
        Plan::new(total_bytes, value_bytes_max, parts_max).ok_or_else(|| {
            Failure::error(format!(
                "{total_bytes} bytes are too many: more than {parts_max} parts of {value_bytes_max} bytes; \
                 raise the limit for values in the configuration of the nodes"
            ))
        })
    }

    /// Stores parts and header. `false`: a part was gone before the header was in.
    async fn store_upload(
        &self,
        source: &Arc<Source>,
        key: &Bytes,
        plan: Plan,
        upload: u64,
    ) -> Result<bool, Failure> {
        let stored: Vec<Part> = stream::iter(0..plan.parts)
            .map(|number| self.store_part(source, plan.part(number), parts::part_key(key, upload, number)))
            .buffered(self.budget.requests_max())
            .try_collect()
            .await?;
        let read = Arc::clone(source);
        local::blocking(move || read.check_unchanged()).await?;

        let mut crc = ContentCrc::default();
        let mut batch = Batch::new();
        for part in stored {
            crc.add(part.crc, part.bytes);
            batch = batch.check(part.key, Expect::Revision(part.revision));
        }
        let header = Header { upload, plan, content_crc: crc.finish() };
        batch.push_put(key.clone(), header.encode());
        let old = self.parts_of(key, |other| other != upload).await?;
        self.replace(batch, old).await
    }

    async fn store_part(
        &self,
        source: &Arc<Source>,
        (offset, length): (u64, u32),
        key: Vec<u8>,
    ) -> Result<Part, Failure> {
        let (key, bytes) = (Bytes::from(key), u64::from(length));
        let share = self.budget.take(bytes).await;
        let value = read(source, offset, bytes, false).await?;
        let crc = crc32fast::hash(&value);
        let revision = self.client.put(key.clone(), value).await?;
        drop(share);
        self.progress.advance(bytes);
        Ok(Part { key, revision, crc, bytes })
    }

    /// Writes a batch that also deletes old parts, as many as it has room for; deletes the others after it.
    /// `false`: a condition did not hold.
    async fn replace(&self, mut batch: Batch, old: Vec<Bytes>) -> Result<bool, Failure> {
        let mut old = old.into_iter().peekable();
        while let Some(key) = old.next_if(|key| keys::has_room(&batch, key, &self.limits)) {
            batch.push_delete(key);
        }
        if matches!(self.write(batch).await?, WriteOutcome::Refused { .. }) {
            return Ok(false);
        }
        keys::delete(&self.client, &self.limits, stream::iter(old.map(Ok))).await?;
        Ok(true)
    }

    /// Writes a batch, and repeats it when its outcome is unknown. The client does not do that by itself for
    /// conditions; those of a header are still true when it has been written.
    async fn write(&self, batch: Batch) -> Result<WriteOutcome, Error> {
        for _ in 0..REPEATS {
            match self.client.write(batch.clone()).await {
                Err(Error::Unknown(_)) => tokio::time::sleep(REPEAT_PAUSE).await,
                other => return other,
            }
        }
        self.client.write(batch).await
    }

    /// Keys of the parts of a file: those of the uploads that `of` says.
    async fn parts_of(&self, key: &[u8], of: impl Fn(u64) -> bool) -> Result<Vec<Bytes>, Error> {
        keys::walk(&self.client, Range::prefix(&parts::part_prefix(key)))
            .try_filter_map(|item| {
                let wanted = parts::upload_of_part(&item.key).is_some_and(&of);
                std::future::ready(Ok(wanted.then_some(item.key)))
            })
            .try_collect()
            .await
    }

    /// Deletes the parts of an upload that will have no header.
    async fn abandon(&self, key: &[u8], upload: u64) -> Result<(), Error> {
        let parts = self.parts_of(key, |other| other == upload).await?;
        keys::delete(&self.client, &self.limits, stream::iter(parts.into_iter().map(Ok))).await?;
        Ok(())
    }
}

/// Reads a piece of a file; `whole`: it is all of it, so the file must not have changed since it was opened.
async fn read(source: &Arc<Source>, offset: u64, bytes: u64, whole: bool) -> Result<Bytes, Failure> {
    let source = Arc::clone(source);
    let length = usize::try_from(bytes).map_err(|_| Failure::error("too long for this machine"))?;
    let content = local::blocking(move || {
        let content = source.read(offset, length)?;
        if whole {
            source.check_unchanged()?;
        }
        Ok(content)
    });
    Ok(content.await?.into())
}

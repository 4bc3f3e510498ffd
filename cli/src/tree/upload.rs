//! Puts one file into the store.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use kv_api::Limits;
use kv_client::{Batch, Client, Outcome, Scan};

use super::budget::Budget;
use super::parts::{self, ContentCrc, Header, PART_KEY_EXTRA_BYTES, Plan};
use crate::exit::{Exit, Failure};
use crate::local::{self, Source};
use crate::progress::Progress;

/// How often the parts of a file are written before it is given up, because someone else imports the
/// same file at the same time.
const ATTEMPTS: u32 = 3;

/// Most keys in a batch that deletes old parts.
const DELETES_MAX: usize = 256;

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

/// A part that is stored: what the header and its checks need to know of it.
struct Part {
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
        let plain_max = u64::from(self.limits.value_bytes_max);
        let in_parts = bytes > plain_max || !self.store_plain(&source, &key).await?;
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
        self.client.put(key.clone(), value).await?;
        drop(share);
        self.progress.advance(bytes);
        if !self.fresh {
            self.delete_parts(key, |_| true).await?;
        }
        Ok(true)
    }

    /// Stores the parts, then the header, then removes other parts. A reader sees the old file until the
    /// header is in.
    async fn store_in_parts(&self, source: &Arc<Source>, key: &Bytes) -> Result<(), Failure> {
        let plan = self.plan(source.length(), key)?;
        for _ in 0..ATTEMPTS {
            let upload = rand::random();
            let stored = self.store_upload(source, key, plan, upload).await;
            match stored {
                Ok(true) => return self.delete_parts(key, |other| other != upload).await,
                Ok(false) => {}
                Err(failure) => {
                    if failure.exit != Exit::Unreachable {
                        // They are of no use; where this fails too, the next import removes them.
                        let _ = self.delete_parts(key, |other| other == upload).await;
                    }
                    return Err(failure);
                }
            }
        }
        Err(Failure::error("someone else imports the same file at the same time"))
    }

    /// How to cut a file. A batch must hold the header and one check for each part.
    fn plan(&self, total_bytes: u64, key: &[u8]) -> Result<Plan, Failure> {
        let Limits { value_bytes_max, batch_bytes_max, batch_ops_max, .. } = self.limits;
        let header_bytes = key.len() + parts::HEADER_BYTES;
        let check_bytes = key.len() + PART_KEY_EXTRA_BYTES;
        let by_bytes = (batch_bytes_max as usize).saturating_sub(header_bytes) / check_bytes;
        let parts_max = batch_ops_max.saturating_sub(1).min(u32::try_from(by_bytes).unwrap_or(u32::MAX));
        Plan::new(total_bytes, value_bytes_max, parts_max).ok_or_else(|| {
            Failure::error(format!(
                "{total_bytes} bytes are too many: more than {parts_max} parts of {value_bytes_max} bytes; \
                 raise the limit for values"
            ))
        })
    }

    /// `false`: a part was gone before the header was in.
    async fn store_upload(
        &self,
        source: &Arc<Source>,
        key: &Bytes,
        plan: Plan,
        upload: u64,
    ) -> Result<bool, Failure> {
        let at_once = self.budget.requests_max();
        let parts: Vec<Part> = futures::stream::iter(0..plan.parts)
            .map(|number| self.store_part(source, key, plan, upload, number))
            .buffered(at_once)
            .try_collect()
            .await?;
        let unchanged = Arc::clone(source);
        local::blocking(move || unchanged.check_unchanged()).await?;
        self.store_header(key, plan, upload, &parts).await
    }

    async fn store_part(
        &self,
        source: &Arc<Source>,
        key: &[u8],
        plan: Plan,
        upload: u64,
        number: u32,
    ) -> Result<Part, Failure> {
        let (offset, length) = plan.part(number);
        let bytes = u64::from(length);
        let share = self.budget.take(bytes).await;
        let value = read(source, offset, bytes, false).await?;
        let crc = crc32fast::hash(&value);
        let revision = self.client.put(parts::part_key(key, upload, number), value).await?;
        drop(share);
        self.progress.advance(bytes);
        Ok(Part { revision, crc, bytes })
    }

    /// Writes the header on condition that every part is still the one written: another import of the same
    /// file may have removed some.
    async fn store_header(
        &self,
        key: &Bytes,
        plan: Plan,
        upload: u64,
        stored: &[Part],
    ) -> Result<bool, Failure> {
        let mut crc = ContentCrc::default();
        let mut batch = Batch::new();
        for (number, part) in (0..).zip(stored) {
            crc.add(part.crc, part.bytes);
            batch = batch.check_revision(parts::part_key(key, upload, number), part.revision);
        }
        let header = Header { upload, plan, content_crc: crc.finish() };
        batch = batch.put(key.clone(), header.encode());
        Ok(matches!(self.client.write(batch).await?, Outcome::Done { .. }))
    }

    /// Deletes parts of a file: those of the uploads that `doomed` says.
    async fn delete_parts(&self, key: &[u8], doomed: impl Fn(u64) -> bool) -> Result<(), Failure> {
        let scan = Scan::prefix(parts::part_prefix(key)).keys_only(true);
        let items = self.client.scan(scan).try_filter_map(|item| {
            let delete = parts::upload_of_part(&item.key).is_some_and(&doomed);
            std::future::ready(Ok(delete.then_some(item.key)))
        });
        let mut batches = std::pin::pin!(items.try_chunks(DELETES_MAX));
        while let Some(keys) = batches.next().await {
            let keys = keys.map_err(|error| error.1)?;
            let batch = keys.into_iter().fold(Batch::new(), Batch::delete);
            self.client.write(batch).await?;
        }
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

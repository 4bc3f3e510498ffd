//! Gets one file out of the store.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kv_client::{Client, Value};

use super::budget::Budget;
use super::parts::{self, ContentCrc, Header};
use crate::exit::{Exit, Failure};
use crate::local::{self, Sink};
use crate::progress::Progress;

/// Values are read in pieces of so many bytes.
const PIECE_BYTES: u64 = 8 << 20;

/// How often a file is begun anew because someone writes it while it is read.
const ATTEMPTS: u32 = 5;

/// Gets files out of the store, several at a time.
pub struct Downloader {
    /// Where from.
    pub client: Client,
    /// What may be under way at once.
    pub budget: Budget,
    /// Told of bytes as they are written.
    pub progress: Arc<Progress>,
}

/// Why an attempt to read a file ended early.
enum Stop {
    /// It cannot be read.
    Failed(Failure),
    /// It was written meanwhile.
    Changed,
    /// The header names a part that is not there, or has another length.
    Missing { upload: u64, number: u32 },
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<kv_client::Error> for Stop {
    fn from(error: kv_client::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// A piece of a value, and its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    offset: u64,
    bytes: u64,
    file_offset: u64,
}

/// Cuts a value, whose place in the file is `file_offset`, from `offset` on.
fn pieces(offset: u64, value_bytes: u64, file_offset: u64) -> impl Iterator<Item = Piece> {
    let count = value_bytes.saturating_sub(offset).div_ceil(PIECE_BYTES);
    (0..count).map(move |number| {
        let offset = offset + number * PIECE_BYTES;
        let bytes = PIECE_BYTES.min(value_bytes - offset);
        Piece { offset, bytes, file_offset: file_offset + offset }
    })
}

impl Downloader {
    /// Writes the file of a key, and gives it its name when it is complete. Returns its length; `None`:
    /// there is no such key any more.
    ///
    /// # Errors
    /// The file cannot be written; the cluster refuses; a part is missing or damaged.
    pub async fn fetch(&self, key: Bytes, value_bytes: u64, sink: Sink) -> Result<Option<u64>, Failure> {
        let sink = Arc::new(sink);
        let mut missing_before = None;
        for _ in 0..ATTEMPTS {
            match self.attempt(&key, value_bytes, &sink).await {
                Ok(None) => return Ok(None),
                Ok(Some(bytes)) => {
                    local::blocking(move || sink.commit()).await?;
                    return Ok(Some(bytes));
                }
                Err(Stop::Failed(failure)) => return Err(failure),
                // Seen again under the same header, a hole is no work of a concurrent import.
                Err(Stop::Missing { upload, number }) if missing_before == Some(upload) => {
                    return Err(corruption(format!(
                        "part {number} of the file is missing or has a wrong length; import the file again"
                    )));
                }
                Err(Stop::Missing { upload, .. }) => missing_before = Some(upload),
                Err(Stop::Changed) => {}
            }
            let sink = Arc::clone(&sink);
            local::blocking(move || sink.clear()).await?;
        }
        Err(Failure::error("someone keeps writing it; export it again when nobody does"))
    }

    async fn attempt(&self, key: &Bytes, value_bytes: u64, sink: &Arc<Sink>) -> Result<Option<u64>, Stop> {
        // As long as it was when it was listed, and at least a header.
        let head_bytes = value_bytes.clamp(parts::HEADER_BYTES as u64, PIECE_BYTES);
        let share = self.budget.take(head_bytes).await;
        let Some(head) = self.client.get_range(key.clone(), 0, head_bytes).await? else {
            return Ok(None);
        };
        if let Some(header) = Header::decode(&head.bytes).map_err(|bad| corruption(bad.to_string()))? {
            drop((head, share));
            self.join_parts(key, header, sink).await?;
            return Ok(Some(header.plan.total_bytes));
        }
        let Value { bytes, revision, value_bytes, .. } = head;
        let head_bytes = bytes.len() as u64;
        self.write(sink, bytes, 0).await?;
        drop(share);
        let rest = stream::iter(pieces(head_bytes, value_bytes, 0));
        let rest = rest.map(|piece| self.copy_piece(key, revision, piece, sink));
        rest.buffer_unordered(self.budget.requests_max()).try_collect::<()>().await?;
        Ok(Some(value_bytes))
    }

    /// Copies a piece of a value that must still be the one of this revision.
    async fn copy_piece(
        &self,
        key: &Bytes,
        revision: u64,
        piece: Piece,
        sink: &Arc<Sink>,
    ) -> Result<(), Stop> {
        let _share = self.budget.take(piece.bytes).await;
        match self.client.get_range(key.clone(), piece.offset, piece.bytes).await? {
            Some(value) if value.revision == revision => {
                Ok(self.write(sink, value.bytes, piece.file_offset).await?)
            }
            _ => Err(Stop::Changed),
        }
    }

    async fn join_parts(&self, key: &Bytes, header: Header, sink: &Arc<Sink>) -> Result<(), Stop> {
        let plan = header.plan;
        let all = (0..plan.parts).flat_map(|number| {
            let (file_offset, bytes) = plan.part(number);
            pieces(0, u64::from(bytes), file_offset).map(move |piece| (number, piece))
        });
        // In the order of the file, so that the checksums can be put together.
        let mut copied = std::pin::pin!(
            stream::iter(all)
                .map(|(number, piece)| self.copy_part(key, header, number, piece, sink))
                .buffered(self.budget.requests_max())
        );
        let mut crc = ContentCrc::default();
        while let Some((piece_crc, bytes)) = copied.try_next().await? {
            crc.add(piece_crc, bytes);
        }
        if crc.finish() == header.content_crc {
            return Ok(());
        }
        Err(corruption("its parts do not have the checksum in its header; import the file again".into())
            .into())
    }

    /// Copies a piece of a part; returns its checksum and length.
    async fn copy_part(
        &self,
        key: &[u8],
        header: Header,
        number: u32,
        piece: Piece,
        sink: &Arc<Sink>,
    ) -> Result<(u32, u64), Stop> {
        let _share = self.budget.take(piece.bytes).await;
        let Header { upload, plan, .. } = header;
        let part_key = parts::part_key(key, upload, number);
        let value = self.client.get_range(part_key, piece.offset, piece.bytes).await?;
        let (_, part_bytes) = plan.part(number);
        let whole = |value: &Value| {
            value.value_bytes == u64::from(part_bytes) && value.bytes.len() as u64 == piece.bytes
        };
        let value = value.filter(whole).ok_or(Stop::Missing { upload, number })?;
        let crc = crc32fast::hash(&value.bytes);
        self.write(sink, value.bytes, piece.file_offset).await?;
        Ok((crc, piece.bytes))
    }

    async fn write(&self, sink: &Arc<Sink>, bytes: Bytes, offset: u64) -> Result<(), Failure> {
        let (sink, length) = (Arc::clone(sink), bytes.len() as u64);
        local::blocking(move || sink.write(&bytes, offset)).await?;
        self.progress.advance(length);
        Ok(())
    }
}

fn corruption(message: String) -> Failure {
    Failure::new(Exit::Corruption, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_value_from_an_offset_on() {
        for (offset, value_bytes) in
            [(0, 0), (0, 1), (0, PIECE_BYTES), (0, PIECE_BYTES + 1), (5, 3 * PIECE_BYTES), (9, 9), (9, 5)]
        {
            let mut end = offset;
            for piece in pieces(offset, value_bytes, 1000) {
                assert_eq!((piece.offset, piece.file_offset), (end, end + 1000));
                assert!(piece.bytes > 0 && piece.bytes <= PIECE_BYTES);
                end += piece.bytes;
            }
            assert_eq!(end, value_bytes.max(offset));
        }
    }
}

//! The header of a manifest file.

use std::path::Path;

use crate::edit::Identity;
use crate::error::ManifestError;
use crate::format;

/// What stands at the start of a manifest file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) cluster_id: [u8; 16],
    pub(crate) incarnation: u64,
    /// Length of the file that was durable before `CURRENT` named it: what is unreadable below it was
    /// readable once, and is damaged, not torn.
    pub(crate) settled: u64,
}

impl Header {
    pub(crate) fn new(identity: &Identity, settled: u64) -> Self {
        Self { cluster_id: identity.cluster_id, incarnation: identity.incarnation, settled }
    }

    /// The header with zeros behind it, up to the first frame.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(kv_vfs::BLOCK);
        out.extend_from_slice(&format::FILE_MAGIC);
        out.extend_from_slice(&format::FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.cluster_id);
        out.extend_from_slice(&self.incarnation.to_le_bytes());
        out.extend_from_slice(&self.settled.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out.resize(kv_vfs::BLOCK, 0);
        out
    }

    /// Decodes the first block of `file`, which is `len` bytes long.
    pub(crate) fn decode(file: &Path, block: &[u8], len: u64) -> Result<Self, ManifestError> {
        let damaged = |at: usize, why: &str| ManifestError::corruption(file, at as u64, why);
        let Some((meant, padding)) = block.split_at_checked(format::HEADER_BYTES) else {
            return Err(damaged(0, "the file is shorter than its header"));
        };
        if !meant.starts_with(&format::FILE_MAGIC) {
            return Err(damaged(0, "this is not a manifest: the file's first bytes are not its magic"));
        }
        // The CRC before the version: a version with a flipped bit is damage, not a reason to upgrade.
        let crc = u32_at(meant, format::HEADER_CRC_AT);
        if meant.get(..format::HEADER_CRC_AT).map(crc32fast::hash) != crc {
            return Err(damaged(format::HEADER_CRC_AT, "the header's CRC does not match"));
        }
        match u32_at(meant, format::VERSION_AT) {
            Some(format::FORMAT_VERSION) => {}
            Some(version) if version > format::FORMAT_VERSION => {
                return Err(ManifestError::Newer {
                    what: format!("format version {version}"),
                    file: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                    known: format::FORMAT_VERSION,
                });
            }
            _ => return Err(damaged(format::VERSION_AT, "no program ever wrote this format version")),
        }
        if padding.iter().any(|byte| *byte != 0) {
            return Err(damaged(format::HEADER_BYTES, "the header is not followed by zeros"));
        }
        let cluster_id = chunk_at(meant, format::CLUSTER_AT).unwrap_or_default();
        let incarnation = u64::from_le_bytes(chunk_at(meant, format::INCARNATION_AT).unwrap_or_default());
        let settled = u64::from_le_bytes(chunk_at(meant, format::SETTLED_AT).unwrap_or_default());
        if settled <= format::FIRST_FRAME_AT || !settled.is_multiple_of(format::ALIGNMENT) {
            return Err(damaged(format::SETTLED_AT, "the settled length is no end of a frame"));
        }
        if len < settled {
            let why = format!("the file ends here, but was {settled} bytes long when it came into use");
            return Err(ManifestError::corruption(file, len, why));
        }
        Ok(Self { cluster_id, incarnation, settled })
    }
}

fn chunk_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    chunk_at(bytes, at).map(u32::from_le_bytes)
}

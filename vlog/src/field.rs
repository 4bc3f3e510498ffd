//! Reading and writing little-endian fields at fixed offsets, without panics on short input.

/// Fields of a byte slice; anything beyond its end reads as an error of the caller: `None`.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    pub(crate) fn u16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    pub(crate) fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.slice(at, N)?.try_into().ok()
    }

    pub(crate) fn slice(self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.0.get(at..at.checked_add(len)?)
    }
}

/// Builds a structure field by field, in order; [`FieldsMut::at`] asserts the offset of a field, so that
/// the code reads like the byte table.
#[derive(Default)]
pub(crate) struct FieldsMut(pub Vec<u8>);

impl FieldsMut {
    pub(crate) fn at(&mut self, offset: usize, bytes: &[u8]) -> &mut Self {
        assert_eq!(self.0.len(), offset, "field out of its place");
        self.0.extend_from_slice(bytes);
        self
    }

    /// Puts the checksum of everything from `from` on into the four bytes at `at`.
    pub(crate) fn seal(mut self, at: usize, from: usize) -> Vec<u8> {
        let crc = crc32fast::hash(self.0.get(from..).unwrap_or_default());
        if let Some(place) = self.0.get_mut(at..at + 4) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        self.0
    }
}

/// As [`FieldsMut`], of a length that is known: it takes no memory of its own.
pub(crate) struct FixedFields<const N: usize> {
    bytes: [u8; N],
    end: usize,
}

impl<const N: usize> FixedFields<N> {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; N], end: 0 }
    }

    pub(crate) fn at(&mut self, offset: usize, bytes: &[u8]) -> &mut Self {
        assert_eq!(self.end, offset, "field out of its place");
        self.end += bytes.len();
        let place = self.bytes.get_mut(offset..self.end);
        assert!(place.map(|place| place.copy_from_slice(bytes)).is_some(), "field beyond the end");
        self
    }

    /// The structure, all fields of which are there.
    pub(crate) fn finish(&self) -> [u8; N] {
        assert_eq!(self.end, N, "fields are missing");
        self.bytes
    }
}

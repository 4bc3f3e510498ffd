//! The bytes of a file, in pages shared between what is there now, what is synced and every crash clone.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

const PAGE: usize = 4096;

/// A page that is missing is all zeroes. Invariant: bytes of a page at or beyond `len` are zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    len: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
}

/// A part of a page, and where its bytes are in the caller's buffer.
struct Part {
    page: u64,
    within: Range<usize>,
    in_buf: Range<usize>,
}

/// Cuts `[offset, offset + len)` at the borders of pages.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = Part> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let start = (at % PAGE as u64) as usize;
        let n = (PAGE - start).min(len - done);
        let part = Part { page: at / PAGE as u64, within: start..start + n, in_buf: done..done + n };
        done += n;
        (n > 0).then_some(part)
    })
}

impl Content {
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(0, bytes);
        content
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Reads what there is; returns how many bytes that is.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let there = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
        for Part { page, within, in_buf } in parts(offset, there) {
            let Some(to) = buf.get_mut(in_buf) else { break };
            match self.pages.get(&page).and_then(|page| page.get(within)) {
                Some(from) => to.copy_from_slice(from),
                None => to.fill(0),
            }
        }
        there
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(0, &mut bytes);
        bytes
    }

    /// Writes, growing where needed; `offset + bytes.len()` fits a `u64`.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        for Part { page, within, in_buf } in parts(offset, bytes.len()) {
            let page = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE]));
            if let (Some(to), Some(from)) = (Arc::make_mut(page).get_mut(within), bytes.get(in_buf)) {
                to.copy_from_slice(from);
            }
        }
        if !bytes.is_empty() {
            self.len = self.len.max(offset + bytes.len() as u64);
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE as u64));
            let rest = (len % PAGE as u64) as usize..PAGE;
            let last = self.pages.get_mut(&(len / PAGE as u64));
            if let Some(cut) = last.and_then(|page| Arc::make_mut(page).get_mut(rest)) {
                cut.fill(0);
            }
        }
        self.len = len;
    }

    /// Takes over from `other` the pages that `[offset, offset + len)` touches, not the length.
    pub(super) fn adopt(&mut self, other: &Self, offset: u64, len: usize) {
        for Part { page, .. } in parts(offset, len) {
            match other.pages.get(&page) {
                Some(bytes) => self.pages.insert(page, bytes.clone()),
                None => self.pages.remove(&page),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Change {
        Write(u64, Vec<u8>),
        SetLen(u64),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (0..12_000u64, prop::collection::vec(any::<u8>(), 0..9000))
                .prop_map(|(at, b)| Change::Write(at, b)),
            (0..20_000u64).prop_map(Change::SetLen),
        ]
    }

    fn apply(change: &Change, content: &mut Content, model: &mut Vec<u8>) {
        match change {
            Change::Write(at, bytes) => {
                content.write(*at, bytes);
                let end = *at as usize + bytes.len();
                if !bytes.is_empty() {
                    model.resize(model.len().max(end), 0);
                    model[*at as usize..end].copy_from_slice(bytes);
                }
            }
            Change::SetLen(len) => {
                content.set_len(*len);
                model.resize(*len as usize, 0);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn behaves_as_a_vector_of_bytes(
            changes in prop::collection::vec(change(), 0..12),
            from in 0..20_000u64,
            want in 0..9000usize,
        ) {
            let (mut content, mut model) = (Content::default(), Vec::new());
            for change in &changes {
                apply(change, &mut content, &mut model);
                prop_assert_eq!(&content.to_bytes(), &model);
            }
            let mut buf = vec![1; want];
            let got = content.read(from, &mut buf);
            let start = (from as usize).min(model.len());
            prop_assert_eq!(&buf[..got], &model[start..(start + want).min(model.len())]);
        }
    }
}

//! The bytes of a simulated file, in pages that copies of it share.
//!
//! Owns pages alone: a clone costs a pointer for each of them, so that thousands of states of one
//! disk can be kept. It knows nothing of what is durable. Its neighbour:
//! [`Content`](super::content::Content), which has two of them for each file.

use std::sync::Arc;

/// The unit in which a write dirties the cache and takes space.
pub(super) const PAGE: usize = 4096;

/// One page; it is copied when it is shared and written.
pub(super) type Page = Arc<[u8; PAGE]>;

/// A length, and the pages that were ever written; the others are holes, and read as zeros.
///
/// Behind the length the last page holds zeros.
#[derive(Debug, Clone, Default)]
pub(super) struct Medium {
    len: usize,
    pages: Vec<Option<Page>>,
}

impl Medium {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many pages are no holes.
    pub(super) fn written(&self) -> usize {
        self.pages.iter().flatten().count()
    }

    /// Whether a page is a hole, or beyond the end.
    pub(super) fn is_hole(&self, page: usize) -> bool {
        !matches!(self.pages.get(page), Some(Some(_)))
    }

    /// Fills `out`; `false` if that goes beyond the end.
    pub(super) fn read(&self, offset: usize, out: &mut [u8]) -> bool {
        let end = offset.checked_add(out.len());
        if end.is_none_or(|end| end > self.len) {
            return false;
        }
        let mut at = offset;
        let mut rest = out;
        while !rest.is_empty() {
            let within = at % PAGE;
            let count = rest.len().min(PAGE - within);
            let (part, left) = rest.split_at_mut(count);
            match self.pages.get(at / PAGE) {
                Some(Some(page)) => part.copy_from_slice(&page[within..within + count]),
                _ => part.fill(0),
            }
            (at, rest) = (at + count, left);
        }
        true
    }

    /// Writes all of `bytes`, growing where needed.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if end > self.len {
            self.resize(end);
        }
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = at % PAGE;
            let (part, left) = rest.split_at(rest.len().min(PAGE - within));
            let page = self.pages[at / PAGE].get_or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[within..within + part.len()].copy_from_slice(part);
            (at, rest) = (at + part.len(), left);
        }
    }

    /// Cuts or extends, with holes.
    pub(super) fn resize(&mut self, len: usize) {
        self.pages.resize(len.div_ceil(PAGE), None);
        if len < self.len
            && !len.is_multiple_of(PAGE)
            && let Some(Some(page)) = self.pages.last_mut()
        {
            Arc::make_mut(page)[len % PAGE..].fill(0);
        }
        self.len = len;
    }

    /// The pages from `first` up to the one before `end`; all of them were written.
    pub(super) fn share(&self, first: usize, end: usize) -> Vec<Page> {
        self.pages[first..end].iter().flatten().cloned().collect()
    }

    /// Takes pages over from `first` on, as far as byte `end`.
    pub(super) fn take(&mut self, first: usize, pages: &[Page], end: usize) {
        for (number, page) in (first..).zip(pages) {
            let start = number * PAGE;
            if start + PAGE > end {
                self.write(start, &page[..end - start]);
                return;
            }
            if start + PAGE > self.len {
                self.resize(start + PAGE);
            }
            self.pages[number] = Some(page.clone());
        }
    }
}

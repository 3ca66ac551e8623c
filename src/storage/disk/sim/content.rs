//! One simulated file: what reads see, and what a power cut would leave.
//!
//! Owns the rules by which content becomes durable. It knows no names and no open handles. Its
//! neighbours: [`SimDisk`](super::SimDisk), which asks, and [`Names`](super::names::Names), which
//! does the same for the directory.

use std::collections::BTreeSet;
use std::io;

use super::Weather;

/// The unit in which a write dirties the cache and takes space.
pub(super) const PAGE: usize = 4096;

/// A file as a page cache over a medium:
///
/// ```text
///     write, set_len --> seen ............ every read
///                          |
///                        pending ......... a power cut keeps, loses or tears each
///                          |  sync
///                          v
///                        durable ......... a power cut leaves it alone
///
///     a failed sync drops the pending writes: seen still shows them, nothing ever writes them,
///     unless a later write dirties the same page
/// ```
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// Pages that take space: those ever written, as far as the file reaches.
    pages: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
enum Change {
    /// Whole pages as they were right after a write, cut off at the file's end.
    Pages {
        offset: usize,
        bytes: Vec<u8>,
    },
    Length(usize),
}

impl Content {
    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Bytes of space taken; holes take none.
    pub(super) fn space(&self) -> u64 {
        (self.pages.len() * PAGE) as u64
    }

    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let found = usize::try_from(offset)
            .ok()
            .and_then(|from| self.seen.get(from..from.checked_add(out.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    /// Writes as much as `room` bytes of new space allow; returns how much that was.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8], room: u64) -> io::Result<usize> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let end = offset
            .checked_add(bytes.len())
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mut room = usize::try_from(room / PAGE as u64).unwrap_or(usize::MAX);
        let mut fits = offset;
        while fits < end {
            let page = fits / PAGE;
            if !self.pages.contains(&page) {
                if room == 0 {
                    break;
                }
                room -= 1;
                self.pages.insert(page);
            }
            fits = end.min((page + 1) * PAGE);
        }
        let written = fits - offset;
        if written > 0 {
            if self.seen.len() < fits {
                self.seen.resize(fits, 0);
            }
            self.seen[offset..fits].copy_from_slice(&bytes[..written]);
            let first = offset / PAGE * PAGE;
            let last = self.seen.len().min(fits.next_multiple_of(PAGE));
            self.pending.push(Change::Pages {
                offset: first,
                bytes: self.seen[first..last].to_vec(),
            });
        }
        Ok(written)
    }

    pub(super) fn set_len(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.seen.resize(len, 0);
        self.pages.split_off(&len.div_ceil(PAGE));
        self.pending.push(Change::Length(len));
        Ok(())
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
        // The length is the file's own, whatever became of the writes that made it.
        self.durable.resize(self.seen.len(), 0);
    }

    /// A sync that failed: the pages count as clean now. Lengths stay with the journal.
    pub(super) fn fail_sync(&mut self) {
        self.pending
            .retain(|change| matches!(change, Change::Length(_)));
    }

    /// What is there after a power cut.
    pub(super) fn after_power_cut(&self, weather: &mut Weather) -> Self {
        let mut left = self.durable.clone();
        for change in &self.pending {
            if weather.keeps() {
                change.apply(&mut left);
            } else if weather.tears() {
                change.tear(&mut left, weather);
            }
        }
        let pages = (0..left.len().div_ceil(PAGE)).collect();
        Self {
            seen: left.clone(),
            durable: left,
            pending: Vec::new(),
            pages,
        }
    }
}

impl Change {
    fn apply(&self, medium: &mut Vec<u8>) {
        match self {
            Self::Pages { offset, bytes } => put(medium, *offset, bytes),
            Self::Length(len) => medium.resize(*len, 0),
        }
    }

    /// Applies some of a write's sectors; a length is one field, and is lost whole.
    fn tear(&self, medium: &mut Vec<u8>, weather: &mut Weather) {
        let Self::Pages { offset, bytes } = self else {
            return;
        };
        for (number, sector) in bytes.chunks(weather.sector).enumerate() {
            if weather.random.bool() {
                put(medium, offset + number * weather.sector, sector);
            }
        }
    }
}

fn put(medium: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if medium.len() < end {
        medium.resize(end, 0);
    }
    medium[offset..end].copy_from_slice(bytes);
}

//! One simulated file: what reads see, and what a power cut would leave.
//!
//! Owns the rules by which content becomes durable. It knows no names and no open handles. Its
//! neighbours: [`SimDisk`](super::SimDisk), which asks, and [`Names`](super::names::Names), which
//! does the same for the directory.

use std::io;

use super::medium::{Medium, PAGE, Page};
use super::weather::Weather;

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
    seen: Medium,
    durable: Medium,
    /// With their places in the order of all changes of the disk.
    pending: Vec<(u64, Change)>,
}

#[derive(Debug, Clone)]
enum Change {
    /// Whole pages as they were right after a write, cut off at the file's end.
    Pages {
        first: usize,
        pages: Vec<Page>,
        end: usize,
    },
    Length(usize),
}

impl Content {
    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Bytes of space taken; holes take none.
    pub(super) fn space(&self) -> u64 {
        (self.seen.written() * PAGE) as u64
    }

    /// The first change that is not durable.
    pub(super) fn first_pending(&self) -> Option<u64> {
        self.pending.first().map(|(at, _)| *at)
    }

    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        if self.seen.read(offset, out) {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Writes as much as `room` bytes of new space allow, as change `at`; returns how much that was.
    pub(super) fn write(
        &mut self,
        at: u64,
        offset: u64,
        bytes: &[u8],
        room: u64,
    ) -> io::Result<usize> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let end = offset
            .checked_add(bytes.len())
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mut room = usize::try_from(room / PAGE as u64).unwrap_or(usize::MAX);
        let mut fits = offset;
        while fits < end {
            let page = fits / PAGE;
            if self.seen.is_hole(page) {
                if room == 0 {
                    break;
                }
                room -= 1;
            }
            fits = end.min((page + 1) * PAGE);
        }
        let written = fits - offset;
        if written > 0 {
            self.seen.write(offset, &bytes[..written]);
            let first = offset / PAGE;
            let last = fits.div_ceil(PAGE);
            let change = Change::Pages {
                first,
                pages: self.seen.share(first, last),
                end: self.seen.len().min(last * PAGE),
            };
            self.pending.push((at, change));
        }
        Ok(written)
    }

    pub(super) fn set_len(&mut self, at: u64, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.seen.resize(len);
        self.pending.push((at, Change::Length(len)));
        Ok(())
    }

    pub(super) fn sync(&mut self) {
        for (_, change) in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
        // The length is the file's own, whatever became of the writes that made it.
        self.durable.resize(self.seen.len());
    }

    /// A sync that failed: the pages count as clean now. Lengths stay with the journal.
    pub(super) fn fail_sync(&mut self) {
        self.pending
            .retain(|(_, change)| matches!(change, Change::Length(_)));
    }

    /// What is there after a power cut.
    pub(super) fn after_power_cut(&self, weather: &mut Weather) -> Self {
        let mut left = self.durable.clone();
        for (at, change) in &self.pending {
            if weather.keeps(*at) {
                change.apply(&mut left);
            } else if weather.tears(*at) {
                change.tear(&mut left, weather);
            }
        }
        Self {
            seen: left.clone(),
            durable: left,
            pending: Vec::new(),
        }
    }
}

impl Change {
    fn apply(&self, medium: &mut Medium) {
        match self {
            Self::Pages { first, pages, end } => medium.take(*first, pages, *end),
            Self::Length(len) => medium.resize(*len),
        }
    }

    /// Applies some of a write's sectors; a length is one field, and is lost whole.
    fn tear(&self, medium: &mut Medium, weather: &mut Weather) {
        let Self::Pages { first, pages, end } = self else {
            return;
        };
        for (number, page) in (*first..).zip(pages) {
            let start = number * PAGE;
            let sectors = page[..PAGE.min(end - start)].chunks(weather.sector);
            for (place, sector) in sectors.enumerate() {
                if weather.random.bool() {
                    medium.write(start + place * weather.sector, sector);
                }
            }
        }
    }
}

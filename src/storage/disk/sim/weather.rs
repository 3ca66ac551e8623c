//! What one power cut does: how much it loses, and in which unit.
//!
//! Owns the dice of one cut. It knows neither files nor names. Its neighbours:
//! [`Content`](super::content::Content) and [`Names`](super::names::Names), which ask it about each
//! of their changes.

use std::ops::Range;

use fastrand::Rng;

use super::medium::PAGE;

/// Sectors that a disk writes whole.
const SECTOR: usize = 512;

/// The dice of one power cut.
pub(super) struct Weather {
    pub(super) random: Rng,
    keeps: Keeps,
    pub(super) sector: usize,
}

/// Which changes a cut keeps of those that were not synced.
#[derive(Clone, Copy, Debug)]
enum Keeps {
    /// So many of a hundred.
    ///
    /// The rate is drawn once for each cut. With one rate for all, the cuts that lose all but one of
    /// fifty writes, or only one of them, would never come.
    Some(u8),
    /// What came before this one, which may be torn.
    Before(u64),
    /// This one and what came after it.
    From(u64),
}

impl Weather {
    /// For a cut when these changes, and others between them, were not durable.
    pub(super) fn new(mut random: Rng, changes: Range<u64>) -> Self {
        let at = random.u64(changes.start..=changes.end);
        let rate = random.choice([0, 10, 50, 90, 100]).unwrap_or_default();
        let keeps = match random.u8(..4) {
            0 => Keeps::Before(at),
            1 => Keeps::From(at),
            _ => Keeps::Some(rate),
        };
        let sector = if random.bool() { SECTOR } else { PAGE };
        Self {
            random,
            keeps,
            sector,
        }
    }

    /// Whether the change at this place in the order of all is kept.
    pub(super) fn keeps(&mut self, at: u64) -> bool {
        match self.keeps {
            Keeps::Some(percent) => self.random.u8(0..100) < percent,
            Keeps::Before(end) => at < end,
            Keeps::From(first) => at >= first,
        }
    }

    /// Whether a change that is not kept is torn.
    pub(super) fn tears(&mut self, at: u64) -> bool {
        match self.keeps {
            Keeps::Some(_) => self.random.bool(),
            Keeps::Before(end) => at == end,
            Keeps::From(first) => at + 1 == first,
        }
    }
}

//! How the storage is, for anybody to read: whether it can take changes, and how much it does.
//!
//! Owns two flags, their mark and two counts: the storage thread sets *failed* and counts what it writes, the
//! keeper of the directory sets *low space*, as the storage thread may, and counts what is written
//! ahead. It never decides what
//! a topic refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

const LOW_SPACE: u8 = 1;
const FAILED: u8 = 2;

/// The state of the storage in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Changes are taken.
    Ok,
    /// Free space is below the low mark: only what frees space or moves cursors should be staged.
    LowSpace,
    /// A commit failed and recovery has not succeeded yet: nothing can be staged.
    Failed,
}

/// A view of the storage's condition; cheap to clone and to ask.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Vitals>);

#[derive(Debug, Default)]
struct Vitals {
    flags: AtomicU8,
    /// Bytes of flushes so far.
    flushed: AtomicU64,
    /// Flushes so far.
    flushes: AtomicU64,
    /// Bytes of files written ahead.
    ahead: AtomicU64,
    /// Free space, in bytes, below which it is low.
    low_mark: AtomicU64,
}

impl Health {
    /// The condition now; `Failed` hides `LowSpace`.
    pub fn condition(&self) -> Condition {
        match self.0.flags.load(Ordering::Acquire) {
            flags if flags & FAILED != 0 => Condition::Failed,
            flags if flags & LOW_SPACE != 0 => Condition::LowSpace,
            _ => Condition::Ok,
        }
    }

    pub(super) fn set_failed(&self, on: bool) {
        self.set(FAILED, on);
    }

    /// Whether that is new.
    pub(super) fn set_low_space(&self, on: bool) -> bool {
        self.set(LOW_SPACE, on)
    }

    /// Free space, in bytes, below which [`Condition::LowSpace`] is declared; it ends at twice as
    /// much.
    pub fn low_mark(&self) -> u64 {
        self.0.low_mark.load(Ordering::Relaxed)
    }

    pub(super) fn set_low_mark(&self, bytes: u64) {
        self.0.low_mark.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn is_low_space(&self) -> bool {
        self.0.flags.load(Ordering::Acquire) & LOW_SPACE != 0
    }

    /// Bytes of files that are written ahead and wait for a segment.
    pub fn ahead_bytes(&self) -> u64 {
        self.0.ahead.load(Ordering::Relaxed)
    }

    pub(super) fn set_ahead_bytes(&self, bytes: u64) {
        self.0.ahead.store(bytes, Ordering::Relaxed);
    }

    /// Counts a flush of so many bytes that is about to be written.
    pub(super) fn note_flushed(&self, bytes: u64) {
        self.0.flushed.fetch_add(bytes, Ordering::Relaxed);
        self.0.flushes.fetch_add(1, Ordering::Relaxed);
    }

    /// Flushes so far, each with a sync of its own.
    pub fn flushes(&self) -> u64 {
        self.0.flushes.load(Ordering::Relaxed)
    }

    /// Bytes of all flushes so far.
    pub(super) fn flushed_bytes(&self) -> u64 {
        self.0.flushed.load(Ordering::Relaxed)
    }

    /// Whether it was not so before.
    fn set(&self, flag: u8, on: bool) -> bool {
        let before = if on {
            self.0.flags.fetch_or(flag, Ordering::AcqRel)
        } else {
            self.0.flags.fetch_and(!flag, Ordering::AcqRel)
        };
        (before & flag != 0) != on
    }
}

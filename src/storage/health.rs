//! Whether the storage can take changes, as one word that anybody may read.
//!
//! Owns two flags: the storage thread sets *failed*, the keeper of the directory sets *low space*.
//! It never decides what a topic refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

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
pub struct Health(Arc<AtomicU8>);

impl Health {
    /// The condition now; `Failed` hides `LowSpace`.
    pub fn condition(&self) -> Condition {
        match self.0.load(Ordering::Acquire) {
            flags if flags & FAILED != 0 => Condition::Failed,
            flags if flags & LOW_SPACE != 0 => Condition::LowSpace,
            _ => Condition::Ok,
        }
    }

    pub(super) fn set_failed(&self, on: bool) {
        self.set(FAILED, on);
    }

    pub(super) fn set_low_space(&self, on: bool) {
        self.set(LOW_SPACE, on);
    }

    pub(super) fn is_low_space(&self) -> bool {
        self.0.load(Ordering::Acquire) & LOW_SPACE != 0
    }

    fn set(&self, flag: u8, on: bool) {
        if on {
            self.0.fetch_or(flag, Ordering::AcqRel);
        } else {
            self.0.fetch_and(!flag, Ordering::AcqRel);
        }
    }
}

//! Every limit and size of the storage, in one place.
//!
//! Owns numbers alone. Whoever opens a [`Storage`](super::Storage) passes them in; nobody changes
//! them afterwards.

use std::time::Duration;

use crate::limits::{BALLAST_BYTES, LOW_SPACE_BYTES};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// What a storage is opened with; [`Options::default`] suits a broker.
#[derive(Clone, Debug)]
pub struct Options {
    /// What tells the segments that this process makes from those of any other: drawn at random, but
    /// in a simulation, which must run the same way twice.
    pub salt: u64,
    /// Payload bytes after which a segment is followed by the next one.
    pub segment_bytes: u64,
    /// Bytes of batches in one chunk at most; the default, with row head and redb's own, is 1 MiB.
    pub chunk_bytes: usize,
    /// Bytes of batches and rows after which a flush takes no further job.
    pub flush_bytes: usize,
    /// Bytes of the journal, for small flushes; 0 for none. An existing one keeps its size.
    pub journal_bytes: u64,
    /// Bytes of batches and rows in a flush that goes through the journal, at most.
    ///
    /// It is written twice, and a larger one loses more by that than redb's own commit costs.
    pub journal_flush_bytes: usize,
    /// redb's cache for the active segment, in bytes; half of it buffers writes.
    pub active_cache_bytes: usize,
    /// redb's cache for each sealed segment that is open, in bytes.
    pub sealed_cache_bytes: usize,
    /// Sealed segments open at a time.
    pub sealed_handles: usize,
    /// A segment found at start with at most this much payload is carried over whole, so that
    /// restarts do not pile up small files.
    pub carry_bytes: u64,
    /// Free space in bytes below which [`Condition::LowSpace`](super::Condition) is declared; it ends
    /// at twice as much. 0 for never.
    pub low_space_bytes: u64,
    /// Bytes held back in a file that is given up when space is low; 0 for none.
    pub ballast_bytes: u64,
    /// Files of a segment's size that are written ahead while there is little else to write.
    ///
    /// None before the first segment is half full, nor while space is short.
    pub ahead_segments: usize,
    /// How long to wait before the next piece of these files.
    pub ahead_pause: Duration,
    /// Bytes of flushes in such a pause from which on there is much to write.
    pub ahead_quiet_bytes: u64,
    /// Bytes that sealed segments must give back to be merged, and an active one to be sealed early.
    pub dead_bytes: u64,
    /// How long the active segment holds so much that was removed from it before it is sealed, if that
    /// is more than half of it.
    pub expired_wait: Duration,
    /// Bytes of a merge that are copied and synced at a time.
    pub merge_step_bytes: u64,
    /// How long to wait before the next piece of a merge.
    pub merge_pause: Duration,
    /// How long to wait between two files of dead segments that go.
    pub release_pause: Duration,
    /// So many may wait for that; while there are more, nothing waits.
    pub releasing_files: usize,
    /// How long the free space that was seen last counts as known.
    pub space_check_interval: Duration,
    /// Wait before the second attempt to recover from a failed commit; it doubles from there.
    pub retry_first: Duration,
    /// The longest wait between two attempts to recover.
    pub retry_longest: Duration,
}

impl Options {
    /// The same with another mark of low space, and a ballast that fits.
    #[must_use]
    pub fn with_low_space(self, bytes: u64) -> Self {
        Self {
            low_space_bytes: bytes,
            ballast_bytes: BALLAST_BYTES.min(bytes / 2),
            ..self
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            salt: fastrand::u64(..),
            segment_bytes: 256 * MIB,
            chunk_bytes: super::layout::FULL_CHUNK_BYTES,
            flush_bytes: 16 << 20,
            journal_bytes: 8 * MIB,
            journal_flush_bytes: 64 << 10,
            active_cache_bytes: 32 << 20,
            sealed_cache_bytes: 2 << 20,
            sealed_handles: 64,
            carry_bytes: 16 * MIB,
            low_space_bytes: LOW_SPACE_BYTES,
            ballast_bytes: BALLAST_BYTES,
            ahead_segments: 2,
            ahead_pause: Duration::from_millis(20),
            ahead_quiet_bytes: MIB,
            dead_bytes: 16 * MIB,
            expired_wait: Duration::from_mins(1),
            merge_step_bytes: MIB,
            merge_pause: Duration::from_millis(20),
            release_pause: Duration::from_secs(1),
            releasing_files: 32,
            space_check_interval: Duration::from_secs(1),
            retry_first: Duration::from_millis(50),
            retry_longest: Duration::from_secs(2),
        }
    }
}

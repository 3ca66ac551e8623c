//! The back end through which redb reads and writes a file of the [`Disk`](super::disk::Disk).
//!
//! Owns nothing but the way there, and a [`Witness`] of what went wrong on it. It never retries and
//! never hides an error. Its neighbours: redb above, a [`DiskFile`] below;
//! [`Overlay`](super::overlay::Overlay) is its counterpart for files that must not be written.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redb::StorageBackend;

use super::disk::DiskFile;

/// What became of the writes of one [`Backend`]; readable when redb has dropped it.
///
/// A segment counts as cleanly closed only if redb's close succeeded *and* the witness saw no
/// failure: dropping a database swallows errors, and after a failed sync a later one proves nothing
/// about the pages of the first.
#[derive(Debug, Default)]
pub struct Witness {
    failed: AtomicBool,
    syncs: AtomicU64,
    written: AtomicU64,
}

impl Witness {
    /// Whether any write, change of length or sync has ever failed.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Syncs asked for so far.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Bytes handed to the file so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn note(&self, outcome: io::Result<()>) -> io::Result<()> {
        if outcome.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        outcome
    }
}

/// A file as redb's storage; every write goes straight to it.
#[derive(Debug)]
pub struct Backend {
    file: Arc<dyn DiskFile>,
    witness: Arc<Witness>,
}

impl Backend {
    /// A back end over an open file.
    ///
    /// redb creates a database in an empty file, so whoever opens an existing segment looks at its
    /// length first.
    pub fn new(file: Arc<dyn DiskFile>) -> Self {
        Self {
            file,
            witness: Arc::default(),
        }
    }

    /// The witness of this back end's writes: taken before redb takes the back end.
    pub fn witness(&self) -> Arc<Witness> {
        Arc::clone(&self.witness)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.witness.note(self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.witness.syncs.fetch_add(1, Ordering::Relaxed);
        self.witness.note(self.file.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.witness
            .written
            .fetch_add(data.len() as u64, Ordering::Relaxed);
        self.witness.note(self.file.write_at(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.finish()
    }
}

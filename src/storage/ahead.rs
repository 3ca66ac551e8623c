//! Files written ahead: blocks that the disk has given out before a segment needs them.
//!
//! A write into blocks that were written before needs no block to be found and no change of the
//! file system's own records: syncs take half the time, and several times as much goes through
//! where the disk is slow to give out new ones. So files of zeros are made while the storage has
//! little to write, and a segment is born in one of them. A sealed segment that nothing refers to
//! becomes one again.
//!
//! Owns the files `K.ahead`, and `K.ahead.part` while they are written. It never knows what a
//! segment holds, and nothing depends on it: without a file written ahead a segment's own grows.
//! Its neighbour: the [keeper](super::keeper), on whose thread everything here runs.
//!
//! ```text
//!   create, or a dead N.redb --rename--> K.ahead.part --zeros, step by step--> K.ahead
//!                                                                                 | rename
//!   N.redb, as long as its content <--close: cut-- N.redb <--birth-- N.new <------+
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::disk::{Disk, DiskFile};
use super::options::Options;

const FINISHED: &str = ".ahead";
const UNFINISHED: &str = ".ahead.part";
/// Bytes written and synced at a time: what a flush may have to wait for.
const STEP: usize = 4 << 20;
/// redb's page: a file's length is a multiple of it.
const PAGE: u64 = 4096;
/// A file holds at least this much: redb's first pages and its first growth.
const SMALLEST: u64 = 128 << 10;

/// The files written ahead, and the one that is being written.
#[derive(Debug)]
pub(super) struct Ahead {
    disk: Arc<dyn Disk>,
    /// Bytes of a file.
    bytes: u64,
    /// Files wanted.
    wanted: usize,
    /// Finished ones.
    ready: Vec<u64>,
    /// Begun ones, the last one with how far it is written.
    begun: Vec<u64>,
    current: Option<(Arc<dyn DiskFile>, u64)>,
    /// The number of the next new file.
    next: u64,
}

impl Ahead {
    /// Finds what an earlier run has left.
    pub(super) fn new(disk: Arc<dyn Disk>, options: &Options) -> Self {
        // A segment's payload, and what redb and its rows add to that.
        let bytes = options.segment_bytes / 16 * 17;
        let mut found = Self {
            bytes: bytes.max(SMALLEST).next_multiple_of(PAGE),
            wanted: options.ahead_segments,
            ready: Vec::new(),
            begun: Vec::new(),
            current: None,
            next: 0,
            disk,
        };
        for name in found.disk.list().unwrap_or_default() {
            let number = |suffix| name.strip_suffix(suffix)?.parse::<u64>().ok();
            if let Some(number) = number(FINISHED) {
                found.ready.push(number);
                found.next = found.next.max(number + 1);
            } else if let Some(number) = number(UNFINISHED) {
                found.begun.push(number);
                found.next = found.next.max(number + 1);
            }
        }
        found
    }

    /// Whether there are fewer files than there shall be.
    pub(super) fn is_wanting(&self) -> bool {
        self.ready.len() < self.wanted
    }

    /// Bytes of the files that are ready.
    pub(super) fn ready_bytes(&self) -> u64 {
        self.ready.len() as u64 * self.bytes
    }

    /// Bytes that one file more takes.
    pub(super) fn room(&self) -> u64 {
        self.bytes
    }

    /// Writes the next piece; files are finished and further ones begun as needed.
    pub(super) fn step(&mut self) -> io::Result<()> {
        let (file, at) = match self.current.take() {
            Some(current) => current,
            None => (self.begin()?, 0),
        };
        let left = self.bytes - at;
        let count = usize::try_from(left).map_or(STEP, |left| left.min(STEP));
        file.write_at(at, &vec![0; count])?;
        file.sync()?;
        let at = at + count as u64;
        if at < self.bytes {
            self.current = Some((file, at));
            return Ok(());
        }
        file.set_len(self.bytes)?;
        file.sync()?;
        if let Some(number) = self.begun.pop() {
            self.disk.rename(&unfinished(number), &finished(number))?;
            self.disk.sync_dir()?;
            self.ready.push(number);
        }
        Ok(())
    }

    /// The file to write next: one that was begun or recycled, or a new one.
    fn begin(&mut self) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(number) = self.begun.last() {
            return self.disk.open(&unfinished(*number));
        }
        let file = self.disk.create(&unfinished(self.next))?;
        self.begun.push(self.next);
        self.next += 1;
        Ok(file)
    }

    /// Gives a file another name, to be written as if it were empty; `None` if none is ready.
    pub(super) fn take(&mut self, name: &str) -> Option<io::Result<Provisioned>> {
        let number = self.ready.pop()?;
        let provisioned = || {
            self.disk.rename(&finished(number), name)?;
            let file = self.disk.open(name)?;
            let written = AtomicU64::new(file.len()?);
            Ok(Provisioned {
                file,
                written,
                len: AtomicU64::new(0),
            })
        };
        Some(provisioned())
    }

    /// Takes a dead segment's file instead of letting it be removed; `false` if it has no use for
    /// it. Nobody may have it open.
    pub(super) fn recycle(&mut self, name: &str) -> io::Result<bool> {
        if self.ready.len() + self.begun.len() >= self.wanted {
            return Ok(false);
        }
        self.disk.rename(name, &unfinished(self.next))?;
        // Behind the one that is being written.
        self.begun.insert(0, self.next);
        self.next += 1;
        Ok(true)
    }

    /// Gives all room back.
    pub(super) fn give_up(&mut self) -> io::Result<()> {
        self.current = None;
        let ready = self.ready.drain(..).map(finished);
        let names: Vec<_> = ready.chain(self.begun.drain(..).map(unfinished)).collect();
        names.iter().try_for_each(|name| self.disk.unlink(name))
    }
}

fn finished(number: u64) -> String {
    format!("{number}{FINISHED}")
}

fn unfinished(number: u64) -> String {
    format!("{number}{UNFINISHED}")
}

/// A file with blocks that were written before it has content; to its user it begins empty.
///
/// A crash leaves it at its full length: redb then takes the rest for free pages.
#[derive(Debug)]
pub(super) struct Provisioned {
    file: Arc<dyn DiskFile>,
    /// Bytes of the file itself.
    written: AtomicU64,
    /// Bytes that it seems to have.
    len: AtomicU64,
}

impl DiskFile for Provisioned {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len.load(Ordering::Acquire))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset.saturating_add(out.len() as u64) > self.len.load(Ordering::Acquire) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)?;
        self.len
            .fetch_max(offset + bytes.len() as u64, Ordering::AcqRel);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // What is cut off must read as zeros when the file grows again.
        let cut = len < self.len.swap(len, Ordering::AcqRel);
        if cut || len > self.written.load(Ordering::Acquire) {
            self.file.set_len(len)?;
            self.written.store(len, Ordering::Release);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn finish(&self) -> io::Result<()> {
        self.file.set_len(self.len()?)
    }
}

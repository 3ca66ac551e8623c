//! The journal: where a small flush is durable before redb has it on disk.
//!
//! A transaction of redb writes some 30 KiB in several places, however little it holds. So a small
//! flush is written here in one piece, over blocks that the file system has given out long before,
//! and synced: half the time of an append. Then it is announced. The flush that finds no room here,
//! or is too large, takes all that have gathered along into the segment, as if they had met in one,
//! and the journal begins anew.
//!
//! Owns the file `journal` and its bytes. It never decides which way a flush takes and never
//! writes a segment. Its neighbours: the [writer](super::writer) appends, [recovery] stores what a
//! crash has left here into its view of the newest segment.
//!
//! ```text
//!   file    | entry     | entry | entry       | older entries, or zeros |
//!             each begins at a multiple of 4 KiB, so that no acknowledged block is written again
//!
//!       0         4         8           16            24
//!     0 +---------+---------+-----------+-------------+
//!       | CRC-32C | length  | segment   | flush       |   the CRC covers all after itself;
//!    24 +---------+---------+-----------+-------------+   length is the body's. It begins with
//!       |                                                 the segment's birth, if it has one
//!       | body: topics u32, each
//!       |         topic u64, batches u32, each
//!       |           records before u64, bytes before u64, digest u64, length u32, batch
//!       |       rows u32, each
//!       |         length u32, key, 0 (deleted) or 1, of the latter: length u32, value
//!       +--------------------------------------------------------------------------------
//! ```
//!
//! The last block is a mark, so that a file that was wiped, or is of another store, is not taken for
//! a journal without entries; one that was made by an older version has none.
//!
//! ```text
//!       0                  16          24        28
//!       +------------------+-----------+---------+
//!       | logdrive journal | id u64    | CRC-32C |   the CRC covers what is before it
//!       +------------------+-----------+---------+
//! ```
//!
//! Entries count from the segment's last durable flush on: the first one in the file carries the
//! number after it, each further one the next. Whatever breaks that chain (an older entry, one of
//! another segment, a torn one) is its end. All numbers are big-endian.
//!
//! [recovery]: super::recovery

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use logdrive_protocol::TopicId;

use super::disk::{Disk, DiskFile};
use super::flush::Flush;
use super::job::{Announce, Appended, Job, JobKind, Row, Totals};
use super::segment::Segment;

/// The file's name.
pub(super) const NAME: &str = "journal";
/// The file's name until it is written ahead.
const UNFINISHED: &str = "journal.part";

/// Entries begin at multiples of this: the unit in which file systems write.
const BLOCK: usize = 4096;
const HEAD_BYTES: usize = 24;
const CRC_BYTES: usize = 4;
const MARK: &[u8; 16] = b"logdrive journal";
/// Bytes written at a time to a new file.
const STEP: usize = 1 << 20;

/// The open journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: Arc<dyn DiskFile>,
    /// Bytes of the file, all of them written before.
    len: u64,
    /// What it is marked with; 0 if it is not.
    id: u64,
    /// Bytes that entries may take.
    capacity: u64,
    /// Where the next entry goes.
    at: u64,
    /// The next entry, kept for its memory.
    entry: Vec<u8>,
    syncs: u64,
}

impl Journal {
    /// Opens the journal; one of `len` bytes with the mark `id` is made where there is none, or an
    /// empty file.
    ///
    /// What it holds stays until the first [`append`](Self::append).
    pub(super) fn open(disk: &dyn Disk, len: u64, id: u64) -> io::Result<Self> {
        let file = match disk.open(NAME) {
            Ok(file) if !file.is_empty()? => file,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => create(disk, len, id)?,
        };
        let len = file.len()?;
        let mut last = [0; BLOCK];
        let id = match len.checked_sub(BLOCK as u64) {
            Some(at) => {
                file.read_at(at, &mut last)?;
                marked(&last)
            }
            None => None,
        };
        Ok(Self {
            len,
            capacity: len - id.map_or(0, |_| BLOCK as u64),
            id: id.unwrap_or_default(),
            file,
            at: 0,
            entry: Vec::new(),
            syncs: 0,
        })
    }

    /// Makes the flush with this number durable; `false` if there is no room for it.
    ///
    /// After an error nobody knows whether it is.
    pub(super) fn append(&mut self, of: Of, number: u64, flush: &Flush) -> io::Result<bool> {
        self.entry.clear();
        self.entry.resize(HEAD_BYTES, 0);
        flush.encode(&mut self.entry);
        let (head, body) = self.entry.split_at_mut(HEAD_BYTES);
        let length = count(body.len());
        head[CRC_BYTES..8].copy_from_slice(&length);
        head[8..16].copy_from_slice(&of.segment.to_be_bytes());
        head[16..].copy_from_slice(&number.to_be_bytes());
        let crc = of.crc(&self.entry[CRC_BYTES..]);
        self.entry[..CRC_BYTES].copy_from_slice(&crc.to_be_bytes());
        // Whole blocks: the rest of one would have to be read first.
        self.entry
            .resize(self.entry.len().next_multiple_of(BLOCK), 0);
        let end = self.at + self.entry.len() as u64;
        if end > self.capacity {
            return Ok(false);
        }
        self.file.write_at(self.at, &self.entry)?;
        self.syncs += 1;
        self.file.sync()?;
        self.at = end;
        Ok(true)
    }

    /// Bytes of the file, and its mark.
    pub(super) fn shape(&self) -> (u64, u64) {
        (self.len, self.id)
    }

    /// Begins anew: the segment holds all entries durably.
    pub(super) fn restart(&mut self) {
        self.at = 0;
    }

    /// Syncs so far.
    pub(super) fn syncs(&self) -> u64 {
        self.syncs
    }
}

/// A journal of zeros: their writing is what makes later writes fast.
fn create(disk: &dyn Disk, len: u64, id: u64) -> io::Result<Arc<dyn DiskFile>> {
    let written = write_zeros(disk, len, id).and_then(|file| {
        disk.rename(UNFINISHED, NAME)?;
        disk.sync_dir()?;
        Ok(file)
    });
    if written.is_err() {
        // A full disk needs its room.
        let _ = disk.unlink(UNFINISHED);
    }
    written
}

fn write_zeros(disk: &dyn Disk, len: u64, id: u64) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.create(UNFINISHED)?;
    let zeros = vec![0; STEP];
    let mut at = 0;
    while at < len {
        let count = usize::try_from(len - at).map_or(STEP, |left| left.min(STEP));
        file.write_at(at, &zeros[..count])?;
        at += count as u64;
    }
    if let Some(last) = len.checked_sub(BLOCK as u64) {
        file.write_at(last, &mark(id))?;
    }
    file.sync()?;
    Ok(file)
}

fn mark(id: u64) -> Vec<u8> {
    let mut mark = [&MARK[..], &id.to_be_bytes()].concat();
    mark.extend(crc32c::crc32c(&mark).to_be_bytes());
    mark
}

/// The id in a last block; `None` if there is no mark, or none that is whole.
fn marked(block: &[u8]) -> Option<u64> {
    let mut fields = Fields(block.strip_prefix(MARK)?);
    let id = fields.u64()?;
    block.starts_with(&mark(id)).then_some(id)
}

/// Why the journal cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("is missing")]
    Missing,
    #[error("is damaged at byte {0}: what comes after it is of a later flush")]
    Damaged(u64),
    #[error("has {is} bytes and must have {must}: its end is lost")]
    Short { is: u64, must: u64 },
    #[error("is not the one that was written here, or was wiped: its mark is not there")]
    Foreign,
    #[error("has an entry at byte {0} that this version cannot read")]
    Unknown(u64),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The flushes that the journal holds of a segment, after the one with number `after`, in order,
/// with their numbers; it is known to be so many bytes long, and to have this mark, unless that is 0.
///
/// An entry that is not whole is the end, as a crash leaves it: it was never acknowledged. But the
/// next one is only written when it is whole, so one that is followed by another was changed since.
pub(super) fn entries(
    disk: &dyn Disk,
    of: Of,
    after: u64,
    (must, id): (u64, u64),
) -> Result<Vec<(u64, Flush)>, Unreadable> {
    let file = disk.open(NAME).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unreadable::Missing,
        _ => Unreadable::Io(error),
    })?;
    // An empty one stands for what an operator has given up.
    let is = file.len()?;
    if is != 0 && is < must {
        return Err(Unreadable::Short { is, must });
    }
    // As long as our own options allow.
    let mut content = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
    file.read_at(0, &mut content)?;
    let last = content.len().checked_sub(BLOCK);
    let found_id = last.and_then(|at| marked(&content[at..]));
    if is != 0 && id != 0 && found_id != Some(id) {
        return Err(Unreadable::Foreign);
    }
    let mut found = Vec::new();
    let (mut at, mut next) = (0, after + 1);
    while let Some(entry) = Entry::at(&content, at, of).filter(|it| it.number == next) {
        // Its CRC fits, so this is no damage, and must not be passed over in silence.
        let flush = Flush::decode(entry.body).ok_or(Unreadable::Unknown(at as u64))?;
        found.push((next, flush));
        (at, next) = (entry.end, next + 1);
    }
    // One that could follow right here would be in the chain, so this place is looked at too.
    let mut later = (at..content.len()).step_by(BLOCK);
    if later.any(|at| Entry::at(&content, at, of).is_some_and(|it| it.number >= next)) {
        return Err(Unreadable::Damaged(at as u64));
    }
    if is_begun(&content, at, of, next) {
        tracing::warn!(
            at,
            "the last entry of the journal is not whole: taken for one that a power cut has torn \
             before it was acknowledged"
        );
    }
    Ok(found)
}

/// Looks for an entry in any bytes.
#[cfg(any(test, fuzzing))]
pub(super) fn look_at(content: &[u8]) {
    let of = Of {
        segment: Fields(content.get(8..).unwrap_or_default())
            .u64()
            .unwrap_or_default(),
        birth: 0,
    };
    let _ = Entry::at(content, 0, of).map(|entry| entry.end);
}

/// Where an entry begins that was to follow those of a segment, and is not whole; `None` if there
/// is no sign of one.
///
/// A head that is wrong in one bit counts, since older entries stand there otherwise.
pub(super) fn unfinished(disk: &dyn Disk, of: Of, after: u64) -> io::Result<Option<u64>> {
    let file = disk.open(NAME)?;
    let mut content = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
    file.read_at(0, &mut content)?;
    let (mut at, mut next) = (0, after + 1);
    while let Some(entry) = Entry::at(&content, at, of).filter(|it| it.number == next) {
        (at, next) = (entry.end, next + 1);
    }
    Ok(is_begun(&content, at, of, next).then_some(at as u64))
}

/// Whether the entry with this number was begun at a place, and is not whole.
fn is_begun(content: &[u8], at: usize, of: Of, number: u64) -> bool {
    let wrong_bits = || {
        let mut fields = Fields(content.get(at..)?);
        fields.take(8)?;
        let (segment, found) = (fields.u64()?, fields.u64()?);
        Some((segment ^ of.segment).count_ones() + (found ^ number).count_ones())
    };
    Entry::at(content, at, of).is_none() && wrong_bits().is_some_and(|wrong| wrong <= 1)
}

/// Whose entries they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of {
    segment: u64,
    birth: u64,
}

impl Of {
    pub(super) fn new(segment: &Segment) -> Self {
        Self {
            segment: segment.number,
            birth: segment.birth,
        }
    }

    /// The CRC of what comes after it in an entry.
    fn crc(self, covered: &[u8]) -> u32 {
        if self.birth == 0 {
            return crc32c::crc32c(covered);
        }
        crc32c::crc32c_append(crc32c::crc32c(&self.birth.to_be_bytes()), covered)
    }
}

/// A whole entry of a segment.
struct Entry<'a> {
    number: u64,
    body: &'a [u8],
    /// Where the next one begins.
    end: usize,
}

impl<'a> Entry<'a> {
    /// The entry at a place, if there is one of this segment.
    fn at(content: &'a [u8], at: usize, of: Of) -> Option<Self> {
        let mut fields = Fields(content.get(at..)?);
        let crc = fields.u32()?;
        let covered = fields.0;
        let length = fields.u32()? as usize;
        let (segment, number) = (fields.u64()?, fields.u64()?);
        let body = fields.take(length)?;
        let covered = &covered[..HEAD_BYTES - CRC_BYTES + length];
        let is_whole = segment == of.segment && of.crc(covered) == crc;
        is_whole.then_some(Self {
            number,
            body,
            end: (at + HEAD_BYTES + length).next_multiple_of(BLOCK),
        })
    }
}

/// A count or a length of what is far below 4 GiB: the flush was small enough for the journal.
fn count(count: usize) -> [u8; 4] {
    u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes()
}

impl Flush {
    /// Appends the body of an entry.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&count(self.topics.len()));
        for (topic, share) in &self.topics {
            out.extend_from_slice(&topic.0.to_be_bytes());
            out.extend_from_slice(&count(share.batches.len()));
            for batch in &share.batches {
                for word in [batch.totals.records, batch.totals.bytes, batch.digest] {
                    out.extend_from_slice(&word.to_be_bytes());
                }
                out.extend_from_slice(&count(batch.bytes.len()));
                out.extend_from_slice(&batch.bytes);
            }
        }
        out.extend_from_slice(&count(self.rows.len()));
        for (key, value) in &self.rows {
            out.extend_from_slice(&count(key.len()));
            out.extend_from_slice(key);
            out.push(u8::from(value.is_some()));
            if let Some(value) = value {
                out.extend_from_slice(&count(value.len()));
                out.extend_from_slice(value);
            }
        }
    }

    /// Reads the body of an entry; nobody waits for it to be announced.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let mut flush = Self::default();
        for _ in 0..fields.u32()? {
            let topic = TopicId(fields.u64()?);
            let mut batches = Vec::new();
            for _ in 0..fields.u32()? {
                batches.push(Appended {
                    totals: Totals {
                        records: fields.u64()?,
                        bytes: fields.u64()?,
                    },
                    digest: fields.u64()?,
                    bytes: Bytes::copy_from_slice(fields.sized()?),
                });
            }
            flush.add(Job {
                topic,
                generation: 0,
                ticket: 0,
                batches,
                rows: Vec::new(),
                announce: Announce::new(drop),
                kind: JobKind::Change,
            });
        }
        for _ in 0..fields.u32()? {
            let key = fields.sized()?.to_vec();
            let value = match fields.take(1)? {
                [0] => None,
                _ => Some(fields.sized()?.to_vec()),
            };
            flush.set(Row { key, value });
        }
        fields.0.is_empty().then_some(flush)
    }
}

/// The fields of an entry, from the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let bytes = self.u32()? as usize;
        self.take(bytes)
    }
}

//! Cold reads: batches that are no longer in a topic's memory.
//!
//! Owns the way from an offset to stored bytes, and the checking of every byte on it. It never
//! writes, and never waits for the writer: it works on snapshots. Its neighbours: the
//! [writer](super::writer) publishes the active segment, the [keeper](super::keeper) opens sealed
//! ones; [scan] walks the chunks of one segment.
//!
//! ```text
//!   offset --extents in the active segment's snapshot--> segment --index--> chunk --log--> batches
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};

use bytes::Bytes;
use logdrive_protocol::TopicId;
use redb::ReadTransaction;
use tokio::sync::watch;

use super::disk::Disk;
use super::job::Totals;
use super::keeper::{Chore, Shelf};
use super::layout::{Extent, STATE};
use super::merge;
use super::options::Options;
use super::scan::{self, Located, Scan};
use super::segment::{Segment, SegmentError, guarded};
use super::unsaved::Unsaved;

/// Reads committed records from whichever segment holds them; cheap to clone.
///
/// All calls block on the disk, and none ever waits for the writer: call them on a pool for
/// blocking work.
#[derive(Clone, Debug)]
pub struct Reader {
    active: watch::Receiver<Option<Arc<Segment>>>,
    pub(super) unsaved: Unsaved,
    sealed: Sealed,
    /// Counts uses, so that the least recently used handle is known.
    clock: Arc<AtomicU64>,
}

/// Where handles of sealed segments come from.
#[derive(Clone, Debug)]
enum Sealed {
    Kept {
        shelf: watch::Receiver<Shelf>,
        keeper: Sender<Chore>,
    },
    /// Without a keeper on its own thread each read opens its own.
    Inline {
        disk: Arc<dyn Disk>,
        cache_bytes: usize,
    },
}

/// Whole batches, abutting, as they are stored.
#[derive(Clone, Debug, Default)]
pub struct ReadBatches {
    /// Each a complete batch with its head; the first one holds the offset asked for.
    ///
    /// Batches of a sealed segment may share the memory of a whole chunk (up to 1 MiB).
    pub batches: Vec<Bytes>,
    /// Bytes of them, packed ones as they unpack.
    taken: usize,
    /// Bytes of the ones that may follow, counted so.
    room: usize,
}

impl ReadBatches {
    fn of_at_most(room: usize) -> Self {
        Self {
            room,
            ..Self::default()
        }
    }

    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        bytes <= self.room
    }

    /// Whether a batch may follow; the first one always.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        self.batches.is_empty() || self.has_room_for(bytes)
    }

    /// Whether to read a chunk of so many bytes: one that does not fit whole has to be read once
    /// more for its rest, so an answer that is half full already ends before it.
    pub(super) fn takes_of(&self, chunk_bytes: usize) -> bool {
        self.takes(chunk_bytes) || self.taken < self.room
    }

    /// Takes a batch that counts so many bytes.
    pub(super) fn push(&mut self, batch: Bytes, counted: usize) {
        self.taken += counted;
        self.room = self.room.saturating_sub(counted);
        self.batches.push(batch);
    }

    /// The next batch does not fit, so none after it may follow either.
    pub(super) fn fill(&mut self) {
        self.room = 0;
    }

    fn is_full(&self) -> bool {
        self.room == 0 && !self.batches.is_empty()
    }
}

/// A place in a topic, by offset or by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The record with this offset.
    Offset(u64),
    /// The first record appended at or after this time, in microseconds since the epoch.
    Time(u64),
    /// The first record of the batch in which a sum of the topic passes a number.
    Batch(Sum),
}

/// A number that one of a topic's sums passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// Of records.
    Records(u64),
    /// Of their bytes.
    Bytes(u64),
}

impl Sum {
    /// Whether sums are not beyond the number.
    pub(super) fn reaches(self, sums: Totals) -> bool {
        match self {
            Self::Records(number) => sums.records <= number,
            Self::Bytes(number) => sums.bytes <= number,
        }
    }
}

/// Where a place lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The offset; `end` of the call where nothing lies at or after the place.
    pub offset: u64,
    /// Records and bytes of the topic before the offset.
    pub totals: Totals,
    /// When the record was appended, in microseconds since the epoch; `None` at the end.
    pub append_time: Option<u64>,
}

impl Point {
    /// Behind everything.
    pub(super) fn at_end(offset: u64, totals: Totals) -> Self {
        Self {
            offset,
            totals,
            append_time: None,
        }
    }
}

/// Why a read gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Stored bytes are missing or wrong: trying again will not help.
    #[error("records {from} to {to} (exclusive) are damaged: {what}")]
    Damaged {
        /// The first offset that cannot be read.
        from: u64,
        /// The offset at which reading can go on.
        to: u64,
        /// What was found, and where.
        what: String,
    },
    /// The disk or the storage refused; trying again may help.
    #[error("records cannot be read now")]
    Unavailable(#[source] anyhow::Error),
}

impl Reader {
    pub(super) fn new(
        active: watch::Receiver<Option<Arc<Segment>>>,
        shelf: watch::Receiver<Shelf>,
        keeper: Sender<Chore>,
    ) -> Self {
        Self {
            active,
            unsaved: Unsaved::default(),
            sealed: Sealed::Kept { shelf, keeper },
            clock: Arc::default(),
        }
    }

    pub(super) fn inline(
        active: watch::Receiver<Option<Arc<Segment>>>,
        disk: Arc<dyn Disk>,
        options: &Options,
    ) -> Self {
        let sealed = Sealed::Inline {
            disk,
            cache_bytes: options.sealed_cache_bytes,
        };
        Self {
            active,
            unsaved: Unsaved::default(),
            sealed,
            clock: Arc::default(),
        }
    }

    /// The stored batches from the one that holds `from`, up to `end` (exclusive; the topic's high
    /// watermark).
    ///
    /// At most `max_bytes`, but always at least one batch where `from < end`; an answer that is half
    /// full ends before a chunk that does not fit. Checksums, topic and abutting offsets are
    /// checked.
    ///
    /// # Errors
    ///
    /// [`ReadError::Damaged`] when the batch that holds `from` is not intact; damage further on
    /// only ends the answer.
    pub fn read(
        &self,
        topic: TopicId,
        from: u64,
        end: u64,
        max_bytes: usize,
    ) -> Result<ReadBatches, ReadError> {
        // First: what leaves it meanwhile is in the snapshot.
        let unsaved = self.unsaved.of(topic);
        let saved = unsaved.first_or(end);
        let mut snapshot = self.snapshot()?;
        let mut read = ReadBatches::of_at_most(max_bytes);
        let mut next = from;
        while next < saved && !read.is_full() {
            match self.read_extent(&snapshot, topic, next, saved, &mut read) {
                Ok(after) if after > next => next = after,
                Err(error) if read.batches.is_empty() => {
                    snapshot = self.changed_since(&snapshot, topic, saved, error)?;
                }
                _ => break,
            }
        }
        if next >= saved {
            unsaved.collect(next, end, &mut read);
        }
        Ok(read)
    }

    /// Appends what one segment has of the range; answers the offset after it.
    fn read_extent(
        &self,
        snapshot: &Snapshot,
        topic: TopicId,
        from: u64,
        end: u64,
        read: &mut ReadBatches,
    ) -> Result<u64, ReadError> {
        let (extent, end) = snapshot.covering(topic, from, end)?;
        self.within(snapshot, &extent, (from, end), |segment, txn| {
            let scan = Scan {
                topic,
                extent,
                end,
                owned: !segment.is_writable(),
            };
            scan.collect(txn, from, read)
        })
    }

    /// Where in the topic a place lies, between its first stored record and `end` (exclusive).
    ///
    /// The totals are exact also inside a batch. For a topic without stored records the answer is
    /// `end` with zero totals: the topic's own state knows better.
    ///
    /// # Errors
    ///
    /// [`ReadError::Damaged`] when the records needed to say so are not intact.
    pub fn locate(&self, topic: TopicId, at: At, end: u64) -> Result<Point, ReadError> {
        // First: what leaves it meanwhile is in the snapshot.
        let unsaved = self.unsaved.of(topic);
        let saved = unsaved.first_or(end);
        let is_unsaved = matches!(at, At::Offset(offset) if offset >= saved && saved < end);
        if !is_unsaved {
            let point = self.locate_saved(topic, at, saved)?;
            if point.append_time.is_some() || saved == end {
                return Ok(point);
            }
        }
        match unsaved.locate(at, end) {
            Ok(found) => Ok(found.unwrap_or(Point::at_end(end, Totals::default()))),
            Err(scan::ScanError::Damaged { from, to, what }) => {
                Err(ReadError::Damaged { from, to, what })
            }
            Err(scan::ScanError::Segment(error)) => Err(unavailable(error.into())),
        }
    }

    /// The same as far as segments know, before `end`.
    fn locate_saved(&self, topic: TopicId, at: At, end: u64) -> Result<Point, ReadError> {
        let mut snapshot = self.snapshot()?;
        loop {
            match self.locate_in(&snapshot, topic, at, end) {
                Err(error) => snapshot = self.changed_since(&snapshot, topic, end, error)?,
                located => return located,
            }
        }
    }

    /// A newer snapshot, if the topic's records are elsewhere in it: a segment that an older one
    /// names may be gone since, trimmed or merged. Otherwise the error stands.
    fn changed_since(
        &self,
        older: &Snapshot,
        topic: TopicId,
        end: u64,
        error: ReadError,
    ) -> Result<Snapshot, ReadError> {
        let newer = self.snapshot()?;
        if newer.all(topic, end)? == older.all(topic, end)? {
            return Err(error);
        }
        Ok(newer)
    }

    fn locate_in(
        &self,
        snapshot: &Snapshot,
        topic: TopicId,
        at: At,
        end: u64,
    ) -> Result<Point, ReadError> {
        let extents = snapshot.all(topic, end)?;
        if extents.is_empty() {
            return Ok(Point::at_end(end, Totals::default()));
        }
        let index = match at {
            At::Offset(offset) => extents.partition_point(|extent| extent.first <= offset),
            // The record may be the first one of the extent that follows.
            At::Time(time) => extents.partition_point(|extent| extent.first_time < time),
            At::Batch(sum) => extents.partition_point(|extent| sum.reaches(extent.before)),
        };
        let index = index.saturating_sub(1);
        let extent = extents[index];
        if let At::Offset(offset) = at
            && offset < extent.first
        {
            let what = "nothing is stored before this topic's first chunk".into();
            return Err(ReadError::Damaged {
                from: offset,
                to: extent.first,
                what,
            });
        }
        let next = extents.get(index + 1);
        let bound = next.map_or(end, |next| next.first);
        let located = self.within(snapshot, &extent, (extent.first, bound), |segment, txn| {
            let scan = Scan {
                topic,
                extent,
                end: bound,
                owned: !segment.is_writable(),
            };
            scan.locate(txn, at)
        })?;
        Ok(match (located, next) {
            (Located::Here(point), _) => point,
            (Located::After(totals), Some(next)) if totals != next.before => {
                let what = "it does not end with the sums with which the next one begins";
                return Err(ReadError::Damaged {
                    from: extent.first,
                    to: bound,
                    what: format!("segment {}: {what}", extent.segment),
                });
            }
            (Located::After(_), Some(next)) => Point {
                offset: next.first,
                totals: next.before,
                append_time: Some(next.first_time),
            },
            (Located::After(totals), None) => Point::at_end(end, totals),
        })
    }

    fn snapshot(&self) -> Result<Snapshot, ReadError> {
        let active = self.active.borrow().clone();
        let active = active.ok_or_else(|| unavailable(anyhow::anyhow!("the storage is closed")))?;
        let txn = guarded(|| active.begin_read()).map_err(|error| unavailable(error.into()))?;
        Ok(Snapshot { active, txn })
    }

    /// Runs `body` on a snapshot of the segment that an extent names.
    fn within<T>(
        &self,
        snapshot: &Snapshot,
        extent: &Extent,
        (from, to): (u64, u64),
        body: impl FnOnce(&Segment, &ReadTransaction) -> Result<T, scan::ScanError>,
    ) -> Result<T, ReadError> {
        let number = extent.segment;
        let damaged = |what: String| {
            let what = format!("segment {number}: {what}");
            ReadError::Damaged { from, to, what }
        };
        let mut outcome = None;
        let ran = if number == snapshot.active.number {
            guarded(|| {
                outcome = Some(body(&snapshot.active, &snapshot.txn));
                Ok(())
            })
        } else {
            self.sealed(number).and_then(|segment| {
                if !segment.is_vouched() {
                    segment.vouch(guarded(|| merge::born(&snapshot.active, number))?)?;
                }
                segment.touch(self.clock.fetch_add(1, Ordering::Relaxed));
                guarded(|| {
                    outcome = Some(body(&segment, &segment.begin_read()?));
                    Ok(())
                })
            })
        };
        let error = match (ran, outcome) {
            (Ok(()), Some(Ok(value))) => return Ok(value),
            (Ok(()), Some(Err(scan::ScanError::Damaged { from, to, what }))) => {
                let what = format!("segment {number}: {what}");
                return Err(ReadError::Damaged { from, to, what });
            }
            (Ok(()), Some(Err(scan::ScanError::Segment(error)))) | (Err(error), _) => error,
            (Ok(()), None) => SegmentError::Unreadable("it was not read".into()),
        };
        self.discard(number);
        match error {
            SegmentError::Io(error) => Err(unavailable(error.into())),
            other => Err(damaged(other.to_string())),
        }
    }

    /// A handle of a sealed segment.
    fn sealed(&self, number: u64) -> Result<Arc<Segment>, SegmentError> {
        match &self.sealed {
            Sealed::Inline { disk, cache_bytes } => {
                Segment::open_sealed(&**disk, number, *cache_bytes).map(Arc::new)
            }
            Sealed::Kept { shelf, keeper } => {
                let open = shelf.borrow().get(&number).cloned();
                if let Some(open) = open {
                    return Ok(open);
                }
                let (reply, answer) = mpsc::channel();
                let closed = || SegmentError::Io(std::io::Error::other("the storage is closed"));
                keeper
                    .send(Chore::Open { number, reply })
                    .map_err(|_| closed())?;
                answer.recv().map_err(|_| closed())?
            }
        }
    }

    /// Has the next read of a sealed segment open it anew.
    pub(super) fn discard(&self, number: u64) {
        if let Sealed::Kept { keeper, .. } = &self.sealed {
            // A closed storage has no handles.
            let _ = keeper.send(Chore::Discard(number));
        }
    }
}

fn unavailable(error: anyhow::Error) -> ReadError {
    ReadError::Unavailable(error)
}

/// The active segment at one moment; its extents say where everything is.
struct Snapshot {
    active: Arc<Segment>,
    txn: ReadTransaction,
}

impl Snapshot {
    /// The extent that holds `from`, and where it ends.
    fn covering(&self, topic: TopicId, from: u64, end: u64) -> Result<(Extent, u64), ReadError> {
        let extents = self.around(topic, from, end)?;
        match extents {
            (Some(extent), next) => Ok((extent, next.map_or(end, |next| next.min(end)))),
            (None, next) => Err(ReadError::Damaged {
                from,
                to: next.map_or(end, |next| next.min(end)),
                what: "nothing is stored here".into(),
            }),
        }
    }

    /// The last extent that begins at or before `from`, and where the one after it begins.
    fn around(
        &self,
        topic: TopicId,
        from: u64,
        end: u64,
    ) -> Result<(Option<Extent>, Option<u64>), ReadError> {
        self.extents(from, end, |state| {
            let low = Extent::key(topic, 0);
            let at = Extent::key(topic, from);
            let mut before = state.range::<&[u8]>(&low[..]..=&at[..])?;
            let extent = match before.next_back().transpose()? {
                Some((key, value)) => Some(Extent::decode(key.value(), value.value())?),
                None => None,
            };
            let Some(after) = from.checked_add(1) else {
                return Ok((extent, None));
            };
            let (after, high) = (Extent::key(topic, after), Extent::key(topic, u64::MAX));
            let mut beyond = state.range::<&[u8]>(&after[..]..=&high[..])?;
            let next = match beyond.next().transpose()? {
                Some((key, value)) => Some(Extent::decode(key.value(), value.value())?.first),
                None => None,
            };
            Ok((extent, next))
        })
    }

    /// All extents of a topic that begin before `end`, in order.
    fn all(&self, topic: TopicId, end: u64) -> Result<Vec<Extent>, ReadError> {
        self.extents(0, end, |state| {
            let (low, high) = (Extent::key(topic, 0), Extent::key(topic, end));
            let rows = state.range::<&[u8]>(&low[..]..&high[..])?;
            rows.map(|row| {
                let (key, value) = row?;
                Ok(Extent::decode(key.value(), value.value())?)
            })
            .collect()
        })
    }

    fn extents<T>(
        &self,
        from: u64,
        to: u64,
        body: impl FnOnce(&redb::ReadOnlyTable<&'static [u8], &'static [u8]>) -> Result<T, SegmentError>,
    ) -> Result<T, ReadError> {
        guarded(|| body(&self.txn.open_table(STATE)?)).map_err(|error| match error {
            SegmentError::Unreadable(what) => ReadError::Damaged { from, to, what },
            other => unavailable(other.into()),
        })
    }
}

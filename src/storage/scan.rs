//! Walking a topic's chunks within one segment.
//!
//! Owns the checks that stand between a stored byte and a reader: row heads, both checksums of each
//! batch, topic, abutting offsets. It never opens anything. Its neighbour: the
//! [reader](super::reader), which knows the segment and the bounds.

use std::ops::Range;

use bytes::Bytes;
use logdrive_protocol::TopicId;
use logdrive_protocol::batch::{BROKER_HEAD_BYTES, Head, check_stored, open};
use redb::{AccessGuard, ReadOnlyTable, ReadTransaction};

use super::job::Totals;
use super::layout::{self, Damage, Extent, INDEX, IndexKey, IndexValue, LOG, RowHead};
use super::reader::{At, Point, ReadBatches};
use super::segment::SegmentError;

/// A smaller share of a chunk than one in so many is copied, rather than pinning all of it.
const PINNED_SHARE: usize = 4;
/// Bytes that are read before other threads have their turn.
const TURN_BYTES: u32 = 512 << 10;

/// Why a walk ended early.
#[derive(Debug)]
pub(super) enum ScanError {
    Damaged { from: u64, to: u64, what: String },
    Segment(SegmentError),
}

impl<E: Into<SegmentError>> From<E> for ScanError {
    fn from(error: E) -> Self {
        Self::Segment(error.into())
    }
}

/// What of a segment is to be walked.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) topic: TopicId,
    pub(super) extent: Extent,
    /// Exclusive.
    pub(super) end: u64,
    /// Whether answers may share redb's pages: only where none is ever written again.
    pub(super) owned: bool,
}

/// Where a place lies, as far as one segment knows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Located {
    Here(Point),
    /// Beyond the end; the sums there.
    After(Totals),
}

type Value = AccessGuard<'static, &'static [u8]>;

/// Where a chunk begins, and its row head.
pub(super) type IndexRow = (u64, RowHead);
/// The same before it is known to be intact.
type StoredRow = (u64, Result<RowHead, Damage>);

/// Both tables of a segment.
pub(super) struct Chunks {
    pub(super) index: ReadOnlyTable<&'static IndexKey, &'static IndexValue>,
    log: ReadOnlyTable<u64, &'static [u8]>,
}

impl Chunks {
    pub(super) fn open(txn: &ReadTransaction) -> Result<Self, SegmentError> {
        Ok(Self {
            index: txn.open_table(INDEX)?,
            log: txn.open_table(LOG)?,
        })
    }
}

/// A chunk's batches, wherever their bytes are.
pub(super) struct Chunk {
    first: u64,
    head: RowHead,
    body: Body,
}

/// The offset after a chunk's last record.
pub(super) fn chunk_end(first: u64, head: &RowHead) -> u64 {
    first.saturating_add(u64::from(head.records))
}

enum Body {
    Page(Value),
    /// Joined from several parts.
    Parts(Vec<u8>),
}

impl Chunk {
    fn end(&self) -> u64 {
        chunk_end(self.first, &self.head)
    }

    pub(super) fn batches(&self) -> &[u8] {
        match &self.body {
            Body::Page(guard) => guard.value(),
            Body::Parts(bytes) => bytes,
        }
    }

    /// A range of the batches as shared bytes.
    fn share(self, range: Range<usize>, owned: bool) -> Bytes {
        let small = range.len() < self.batches().len() / PINNED_SHARE;
        match self.body {
            Body::Parts(bytes) => Bytes::from(bytes).slice(range),
            Body::Page(guard) if owned && !small => Bytes::from_owner(Page(guard)).slice(range),
            Body::Page(guard) => {
                Bytes::copy_from_slice(guard.value().get(range).unwrap_or_default())
            }
        }
    }
}

struct Page(Value);

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        self.0.value()
    }
}

/// The batch that begins at `at`, its head checked; where it ends in the chunk.
pub(super) fn batch_at(
    batches: &[u8],
    at: usize,
    topic: TopicId,
    offset: u64,
) -> Result<Head, &'static str> {
    let rest = batches.get(at..).unwrap_or_default();
    let head = Head::parse(rest).ok_or("the chunk ends within a batch's head")?;
    if crc32c::crc32c(&rest[4..BROKER_HEAD_BYTES]) != head.broker_crc {
        return Err("the CRC-32C of the broker's part of a batch does not match");
    }
    if head.topic != topic {
        return Err("a batch belongs to another topic");
    }
    if head.base_offset != offset || head.count == 0 {
        return Err("a batch does not abut the one before it");
    }
    if head.length as usize > rest.len() {
        return Err("the chunk ends within a batch");
    }
    Ok(head)
}

impl Scan {
    /// Appends whole batches from the one that holds `from`; answers the offset after the last.
    pub(super) fn collect(
        &self,
        txn: &ReadTransaction,
        from: u64,
        out: &mut ReadBatches,
    ) -> Result<u64, ScanError> {
        let chunks = Chunks::open(txn)?;
        let (mut next, mut turn) = (from, 0);
        while next < self.end {
            let row = match self.row_holding(&chunks, next) {
                Err(ScanError::Damaged { .. }) if !out.batches.is_empty() => return Ok(next),
                other => other?,
            };
            if !out.takes_of(row.1.payload as usize) {
                out.fill();
                break;
            }
            // Who reads much is in no hurry: threads that answer or write would wait until the
            // system takes the processor away from this one.
            if turn >= TURN_BYTES {
                std::thread::yield_now();
                turn = 0;
            }
            turn += row.1.payload;
            let bound = chunk_end(row.0, &row.1);
            let taken = self.load(&chunks, next, row);
            next = match taken.and_then(|chunk| self.take(chunk, next, out)) {
                Err(ScanError::Damaged { .. }) if !out.batches.is_empty() => return Ok(next),
                other => other?,
            };
            if next < bound {
                break;
            }
        }
        Ok(next)
    }

    /// Takes what is wanted out of a chunk; answers the offset after it.
    fn take(&self, chunk: Chunk, from: u64, out: &mut ReadBatches) -> Result<u64, ScanError> {
        let batches = chunk.batches();
        let (mut at, mut offset) = (0, chunk.first);
        // With what each counts.
        let mut wanted: Vec<(Range<usize>, usize)> = Vec::new();
        let (mut counted, mut broken, mut full) = (0, None, false);
        while offset < chunk.end().min(self.end) {
            let damage = |to, what: &str| {
                let what = format!("{what} (offset {offset})");
                ScanError::Damaged {
                    from: offset.max(from),
                    to,
                    what,
                }
            };
            let head = match batch_at(batches, at, self.topic, offset) {
                Ok(head) => head,
                Err(what) => {
                    broken = Some(damage(chunk.end(), what));
                    break;
                }
            };
            let range = at..at + head.length as usize;
            if head.end_offset() > from {
                let is_first = wanted.is_empty() && out.batches.is_empty();
                full = !is_first && !out.has_room_for(counted + head.counted_len());
                if full {
                    break;
                }
                if let Err(error) = check_stored(&batches[range.clone()], self.topic) {
                    // The count of what is damaged may lead beyond the chunk.
                    let to = head.end_offset().min(chunk.end());
                    broken = Some(damage(to, &error.to_string()));
                    break;
                }
                counted += head.counted_len();
                wanted.push((range.clone(), head.counted_len()));
            }
            at = range.end;
            offset = head.end_offset();
        }
        match (broken, wanted.first(), wanted.last()) {
            (Some(broken), None, _) => return Err(broken),
            (_, Some((first, _)), Some((last, _))) => {
                let start = first.start;
                let shared = chunk.share(start..last.end, self.owned);
                for (range, counted) in &wanted {
                    let batch = shared.slice(range.start - start..range.end - start);
                    out.push(batch, *counted);
                }
            }
            _ => {}
        }
        if full {
            out.fill();
        }
        Ok(offset)
    }

    /// The chunk with the record at `offset`.
    fn chunk_holding(&self, chunks: &Chunks, offset: u64) -> Result<Chunk, ScanError> {
        let row = self.row_holding(chunks, offset)?;
        self.load(chunks, offset, row)
    }

    /// What the index says about it.
    fn row_holding(&self, chunks: &Chunks, offset: u64) -> Result<IndexRow, ScanError> {
        let what = match self.row_at_or_before(chunks, offset)? {
            None => "no chunk begins at or before this offset".to_owned(),
            Some((first, Err(damage))) => format!("{damage} (chunk {first})"),
            Some((first, Ok(head))) if chunk_end(first, &head) > offset => {
                return Ok((first, head));
            }
            Some(_) => "the chunk that should follow is missing".to_owned(),
        };
        Err(self.gap_at(chunks, offset, what)?)
    }

    fn load(&self, chunks: &Chunks, offset: u64, row: IndexRow) -> Result<Chunk, ScanError> {
        match load(chunks, row) {
            Ok(chunk) => Ok(chunk),
            Err(LoadError::Damage(what)) => Err(self.gap_at(chunks, offset, what)?),
            Err(LoadError::Segment(error)) => Err(error.into()),
        }
    }

    /// Nothing can be read from `offset` to the next chunk.
    fn gap_at(
        &self,
        chunks: &Chunks,
        offset: u64,
        what: String,
    ) -> Result<ScanError, SegmentError> {
        let to = self.first_after(chunks, offset)?;
        Ok(ScanError::Damaged {
            from: offset,
            to: to.unwrap_or(self.end).min(self.end),
            what,
        })
    }

    /// The last chunk that begins at or before `offset`.
    fn row_at_or_before(
        &self,
        chunks: &Chunks,
        offset: u64,
    ) -> Result<Option<StoredRow>, SegmentError> {
        let low = layout::index_key(self.topic, self.extent.first);
        let high = layout::index_key(self.topic, offset);
        let mut rows = chunks.index.range::<&IndexKey>(&low..=&high)?;
        Ok(rows.next_back().transpose()?.map(|(key, value)| {
            let head = RowHead::decode(key.value(), value.value());
            (layout::first_offset(key.value()), head)
        }))
    }

    /// Where the first chunk beyond `offset` begins.
    fn first_after(&self, chunks: &Chunks, offset: u64) -> Result<Option<u64>, SegmentError> {
        let low = layout::index_key(self.topic, offset.saturating_add(1));
        let high = layout::index_key(self.topic, self.end);
        if low >= high {
            return Ok(None);
        }
        let mut rows = chunks.index.range::<&IndexKey>(&low..&high)?;
        let row = rows.next().transpose()?;
        Ok(row.map(|(key, _)| layout::first_offset(key.value())))
    }

    /// Where a place lies in this segment.
    pub(super) fn locate(&self, txn: &ReadTransaction, at: At) -> Result<Located, ScanError> {
        let chunks = Chunks::open(txn)?;
        if self.end <= self.extent.first {
            return Ok(Located::After(self.extent.before));
        }
        match at {
            At::Offset(offset) => {
                let chunk = self.chunk_holding(&chunks, offset.min(self.end - 1))?;
                self.walk_to(&chunk, |head, _| head.end_offset() > offset, offset)
            }
            At::Time(time) => {
                let first = self.last_before(&chunks, |head| head.first_time < time)?;
                let wanted = |head: &Head, _: Totals| head.append_time >= time;
                self.walk_from(&chunks, first, wanted)
            }
            At::Batch(sum) => {
                let first = self.last_before(&chunks, |head| sum.reaches(head.before))?;
                let wanted = |_: &Head, after: Totals| !sum.reaches(after);
                self.walk_from(&chunks, first, wanted)
            }
        }
    }

    /// The first batch that is `wanted`, in the chunk that begins at `first` or the one after it.
    fn walk_from(
        &self,
        chunks: &Chunks,
        first: u64,
        wanted: impl Fn(&Head, Totals) -> bool,
    ) -> Result<Located, ScanError> {
        let chunk = self.chunk_holding(chunks, first)?;
        let bound = chunk.end();
        let located = self.walk_to(&chunk, &wanted, 0)?;
        if matches!(located, Located::After(_)) && bound < self.end {
            let chunk = self.chunk_holding(chunks, bound)?;
            return self.walk_to(&chunk, wanted, 0);
        }
        Ok(located)
    }

    /// The first offset of the last chunk that begins before a place; of the first chunk if none.
    fn last_before(
        &self,
        chunks: &Chunks,
        is_before: impl Fn(&RowHead) -> bool,
    ) -> Result<u64, ScanError> {
        let mut before = self.extent.first;
        // Chunks that begin at or after `high` are not before the place.
        let (mut low, mut high) = (before.saturating_add(1), self.end);
        while low < high {
            let middle = low + (high - low) / 2;
            let row = self.row_at_or_before(chunks, middle)?;
            let Some((first, head)) = row.filter(|(first, _)| *first >= low) else {
                low = middle + 1;
                continue;
            };
            let head = head.map_err(|damage| ScanError::Damaged {
                from: first,
                to: self.end,
                what: damage.0,
            })?;
            if is_before(&head) {
                before = first;
                low = middle + 1;
            } else {
                high = first;
            }
        }
        Ok(before)
    }

    /// The first batch of a chunk that is `wanted`, by its head and the sums after it, and in it the
    /// record at `offset`, if later.
    fn walk_to(
        &self,
        chunk: &Chunk,
        wanted: impl Fn(&Head, Totals) -> bool,
        offset: u64,
    ) -> Result<Located, ScanError> {
        let batches = chunk.batches();
        let (mut at, mut next, mut totals) = (0, chunk.first, chunk.head.before);
        while next < chunk.end().min(self.end) {
            let head =
                batch_at(batches, at, self.topic, next).map_err(|what| ScanError::Damaged {
                    from: next,
                    to: chunk.end(),
                    what: what.to_owned(),
                })?;
            let end = at + head.length as usize;
            let after = Totals {
                records: totals.records + u64::from(head.count),
                bytes: totals.bytes + u64::from(head.content_bytes),
            };
            if wanted(&head, after) {
                let skip = offset.saturating_sub(head.base_offset);
                totals.bytes += content_before(&batches[at..end], &head, self.topic, skip)?;
                totals.records += skip;
                let offset = head.base_offset + skip;
                let append_time = Some(head.append_time);
                return Ok(Located::Here(Point {
                    offset,
                    totals,
                    append_time,
                }));
            }
            totals = after;
            at = end;
            next = head.end_offset();
        }
        Ok(Located::After(totals))
    }
}

/// Content bytes of the first `count` records of a batch.
pub(super) fn content_before(
    batch: &[u8],
    head: &Head,
    topic: TopicId,
    count: u64,
) -> Result<u64, ScanError> {
    if count == 0 {
        return Ok(0);
    }
    let damage = |what: String| ScanError::Damaged {
        from: head.base_offset,
        to: head.end_offset(),
        what,
    };
    check_stored(batch, topic).map_err(|error| damage(error.to_string()))?;
    let opened = open(batch).map_err(|error| damage(error.to_string()))?;
    let records = opened.records().take_while(|record| {
        record
            .as_ref()
            .is_none_or(|record| record.offset_delta < count)
    });
    records
        .map(|record| record.map(|record| record.content_len() as u64))
        .sum::<Option<u64>>()
        .ok_or_else(|| damage("a record's boundaries are broken".to_owned()))
}

/// Why a chunk's batches are not there.
pub(super) enum LoadError {
    Damage(String),
    Segment(SegmentError),
}

/// Gets a chunk's batches from the log.
pub(super) fn load(chunks: &Chunks, (first, head): IndexRow) -> Result<Chunk, LoadError> {
    let damage = |what: &str| LoadError::Damage(format!("{what} (chunk {first})"));
    let part = |number| match chunks.log.get(number) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(damage(&format!("row {number} of the log is missing"))),
        Err(error) => Err(LoadError::Segment(error.into())),
    };
    let page = part(head.log)?;
    let mut body = Body::Page(page);
    if let (Body::Page(page), 2..) = (&body, head.parts) {
        let mut bytes = page.value().to_vec();
        for number in head.log_numbers().skip(1) {
            bytes.extend_from_slice(part(number)?.value());
        }
        body = Body::Parts(bytes);
    }
    let chunk = Chunk { first, head, body };
    if chunk.batches().len() != head.payload as usize {
        return Err(damage(
            "a chunk does not have the length that its row head says",
        ));
    }
    Ok(chunk)
}

//! Walking a topic's chunks within one segment.
//!
//! Owns the checks that stand between a stored byte and a reader: row heads, both checksums of each
//! batch, topic, abutting offsets. It never opens anything. Its neighbour: the
//! [reader](super::reader), which knows the segment and the bounds.

use std::ops::Range;

use bytes::Bytes;
use logdrive_protocol::TopicId;
use logdrive_protocol::batch::{BROKER_HEAD_BYTES, Head, Records, check_stored};
use redb::{AccessGuard, ReadOnlyTable, ReadTransaction};

use super::job::Totals;
use super::layout::{self, CHUNKS, ChunkKey, Extent, ROW_HEAD_BYTES, RowHead};
use super::reader::{At, Point};
use super::segment::SegmentError;

/// A smaller share of a chunk than one in so many is copied, rather than pinning all of it.
const PINNED_SHARE: usize = 4;

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
type Chunks = ReadOnlyTable<&'static ChunkKey, &'static [u8]>;

/// A chunk's batches, wherever their bytes are.
struct Chunk {
    first: u64,
    head: RowHead,
    body: Body,
}

enum Body {
    Page(Value),
    /// Joined from several parts.
    Parts(Vec<u8>),
}

impl Chunk {
    fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.head.records))
    }

    fn batches(&self) -> &[u8] {
        match &self.body {
            Body::Page(guard) => guard.value().get(ROW_HEAD_BYTES..).unwrap_or_default(),
            Body::Parts(bytes) => bytes,
        }
    }

    /// A range of the batches as shared bytes.
    fn share(self, range: Range<usize>, owned: bool) -> Bytes {
        let small = range.len() < self.batches().len() / PINNED_SHARE;
        match self.body {
            Body::Parts(bytes) => Bytes::from(bytes).slice(range),
            Body::Page(guard) if owned && !small => {
                let range = range.start + ROW_HEAD_BYTES..range.end + ROW_HEAD_BYTES;
                Bytes::from_owner(Page(guard)).slice(range)
            }
            Body::Page(guard) => {
                let batches = guard.value().get(ROW_HEAD_BYTES..).unwrap_or_default();
                Bytes::copy_from_slice(batches.get(range).unwrap_or_default())
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
fn batch_at(batches: &[u8], at: usize, topic: TopicId, offset: u64) -> Result<Head, &'static str> {
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
        room: usize,
        out: &mut Vec<Bytes>,
    ) -> Result<u64, ScanError> {
        let chunks = txn.open_table(CHUNKS)?;
        let (mut next, mut room) = (from, room);
        while next < self.end {
            let chunk = match self.chunk_holding(&chunks, next) {
                Err(ScanError::Damaged { .. }) if !out.is_empty() => return Ok(next),
                other => other?,
            };
            let bound = chunk.end();
            let (after, used) = match self.take(chunk, next, room, out) {
                Err(ScanError::Damaged { .. }) if !out.is_empty() => return Ok(next),
                other => other?,
            };
            next = after;
            room = room.saturating_sub(used);
            if next < bound || room == 0 {
                break;
            }
        }
        Ok(next)
    }

    /// Takes what is wanted out of a chunk: the offset after it, and its bytes.
    fn take(
        &self,
        chunk: Chunk,
        from: u64,
        room: usize,
        out: &mut Vec<Bytes>,
    ) -> Result<(u64, usize), ScanError> {
        let batches = chunk.batches();
        let (mut at, mut offset) = (0, chunk.first);
        let mut wanted: Vec<Range<usize>> = Vec::new();
        let (mut used, mut broken) = (0, None);
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
                let first = wanted.is_empty() && out.is_empty();
                if !first && used + range.len() > room {
                    break;
                }
                if let Err(error) = check_stored(&batches[range.clone()], self.topic) {
                    broken = Some(damage(head.end_offset(), &error.to_string()));
                    break;
                }
                used += range.len();
                wanted.push(range.clone());
            }
            at = range.end;
            offset = head.end_offset();
        }
        match (broken, wanted.first(), wanted.last()) {
            (Some(broken), None, _) => return Err(broken),
            (_, Some(first), Some(last)) => {
                let start = first.start;
                let shared = chunk.share(start..last.end, self.owned);
                out.extend(
                    wanted
                        .iter()
                        .map(|r| shared.slice(r.start - start..r.end - start)),
                );
            }
            _ => {}
        }
        Ok((offset, used))
    }

    /// The chunk with the record at `offset`.
    fn chunk_holding(&self, chunks: &Chunks, offset: u64) -> Result<Chunk, ScanError> {
        let gap = |what: &str| -> Result<ScanError, ScanError> {
            let to = self
                .first_after(chunks, offset)?
                .unwrap_or(self.end)
                .min(self.end);
            Ok(ScanError::Damaged {
                from: offset,
                to,
                what: what.to_owned(),
            })
        };
        let Some((first, value)) = self.row_at_or_before(chunks, offset)? else {
            return Err(gap("no chunk begins at or before this offset")?);
        };
        let chunk = match self.load(chunks, first, value) {
            Ok(chunk) => chunk,
            Err(LoadError::Damage(what)) => return Err(gap(&what)?),
            Err(LoadError::Segment(error)) => return Err(error.into()),
        };
        if chunk.end() <= offset {
            return Err(gap("the chunk that should follow is missing")?);
        }
        Ok(chunk)
    }

    /// The row with part 0 of the last chunk that begins at or before `offset`.
    fn row_at_or_before(
        &self,
        chunks: &Chunks,
        offset: u64,
    ) -> Result<Option<(u64, Value)>, SegmentError> {
        let low = layout::chunk_key(self.topic, self.extent.first, 0);
        let high = layout::chunk_key(self.topic, offset, u16::MAX);
        let Some((key, value)) = chunks
            .range::<&ChunkKey>(&low..=&high)?
            .next_back()
            .transpose()?
        else {
            return Ok(None);
        };
        let (_, first, part) = layout::parse_chunk_key(key.value());
        if part == 0 {
            return Ok(Some((first, value)));
        }
        let value = chunks.get(&layout::chunk_key(self.topic, first, 0))?;
        Ok(value.map(|value| (first, value)))
    }

    /// Where the first chunk beyond `offset` begins.
    fn first_after(&self, chunks: &Chunks, offset: u64) -> Result<Option<u64>, SegmentError> {
        let low = layout::chunk_key(self.topic, offset.saturating_add(1), 0);
        let high = layout::chunk_key(self.topic, self.end, 0);
        if low >= high {
            return Ok(None);
        }
        let row = chunks.range::<&ChunkKey>(&low..&high)?.next().transpose()?;
        Ok(row.map(|(key, _)| layout::parse_chunk_key(key.value()).1))
    }

    fn load(&self, chunks: &Chunks, first: u64, value: Value) -> Result<Chunk, LoadError> {
        let key = layout::chunk_key(self.topic, first, 0);
        let head =
            RowHead::decode(&key, value.value()).map_err(|error| LoadError::Damage(error.0))?;
        let damage = |what: &str| LoadError::Damage(format!("{what} (chunk {first})"));
        let mut body = Body::Page(value);
        if head.parts > 1 {
            let Body::Page(value) = &body else {
                return Err(damage("a chunk without a page"));
            };
            let mut bytes = value.value()[ROW_HEAD_BYTES..].to_vec();
            for part in 1..head.parts {
                let key = layout::chunk_key(self.topic, first, part);
                let value = chunks
                    .get(&key)
                    .map_err(|error| LoadError::Segment(error.into()))?;
                let value = value.ok_or_else(|| damage("a part of a batch is missing"))?;
                bytes.extend_from_slice(value.value());
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

    /// Where a place lies in this segment.
    pub(super) fn locate(&self, txn: &ReadTransaction, at: At) -> Result<Located, ScanError> {
        let chunks = txn.open_table(CHUNKS)?;
        if self.end <= self.extent.first {
            return Ok(Located::After(self.extent.before));
        }
        match at {
            At::Offset(offset) => {
                let chunk = self.chunk_holding(&chunks, offset.min(self.end - 1))?;
                self.walk_to(&chunk, |head| head.end_offset() > offset, offset)
            }
            At::Time(time) => {
                let first = self.last_before(&chunks, time)?;
                let chunk = self.chunk_holding(&chunks, first)?;
                let bound = chunk.end();
                let located = self.walk_to(&chunk, |head| head.append_time >= time, 0)?;
                if matches!(located, Located::After(_)) && bound < self.end {
                    let chunk = self.chunk_holding(&chunks, bound)?;
                    return self.walk_to(&chunk, |head| head.append_time >= time, 0);
                }
                Ok(located)
            }
        }
    }

    /// The first offset of the last chunk that begins before `time`; of the first chunk if none.
    fn last_before(&self, chunks: &Chunks, time: u64) -> Result<u64, ScanError> {
        let mut before = self.extent.first;
        // Chunks that begin at or after `high` are not before `time`.
        let (mut low, mut high) = (before.saturating_add(1), self.end);
        while low < high {
            let middle = low + (high - low) / 2;
            let row = self.row_at_or_before(chunks, middle)?;
            let Some((first, value)) = row.filter(|(first, _)| *first >= low) else {
                low = middle + 1;
                continue;
            };
            let key = layout::chunk_key(self.topic, first, 0);
            let head = RowHead::decode(&key, value.value()).map_err(|damage| {
                let to = self.end;
                ScanError::Damaged {
                    from: first,
                    to,
                    what: damage.0,
                }
            })?;
            if head.first_time < time {
                before = first;
                low = middle + 1;
            } else {
                high = first;
            }
        }
        Ok(before)
    }

    /// The first batch of a chunk that is `wanted`, and in it the record at `offset`, if later.
    fn walk_to(
        &self,
        chunk: &Chunk,
        wanted: impl Fn(&Head) -> bool,
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
            if wanted(&head) {
                let skip = offset.saturating_sub(head.base_offset);
                if skip > 0 {
                    totals.bytes += self.content_before(&batches[at..end], &head, skip)?;
                    totals.records += skip;
                }
                let offset = head.base_offset + skip;
                let append_time = Some(head.append_time);
                return Ok(Located::Here(Point {
                    offset,
                    totals,
                    append_time,
                }));
            }
            totals.records += u64::from(head.count);
            totals.bytes += u64::from(head.content_bytes);
            at = end;
            next = head.end_offset();
        }
        Ok(Located::After(totals))
    }

    /// Content bytes of the first `count` records of a batch.
    fn content_before(&self, batch: &[u8], head: &Head, count: u64) -> Result<u64, ScanError> {
        let damage = |what: String| ScanError::Damaged {
            from: head.base_offset,
            to: head.end_offset(),
            what,
        };
        check_stored(batch, self.topic).map_err(|error| damage(error.to_string()))?;
        let records = Records::of(batch).take_while(|record| {
            record
                .as_ref()
                .is_none_or(|record| record.offset_delta < count)
        });
        records
            .map(|record| record.map(|record| record.content_len() as u64))
            .sum::<Option<u64>>()
            .ok_or_else(|| damage("a record's boundaries are broken".to_owned()))
    }
}

enum LoadError {
    Damage(String),
    Segment(SegmentError),
}

//! One flush: what queued up, sorted by topic, and how it becomes rows of one transaction.
//!
//! Owns the order within a flush and the cutting of batches into chunks. It never commits and
//! never announces. Its neighbour: the [writer](super::writer), which does both.

use std::collections::BTreeMap;
use std::sync::Arc;

use logdrive_protocol::TopicId;
use logdrive_protocol::batch::Head;
use redb::{ReadableTable, Table, WriteTransaction};

use super::job::{Announce, Appended, Job, JobKind, Row};
use super::layout::{self, Contents, Extent, FlushRow, INDEX, LOG, OwnRow, RowHead, STATE};
use super::merge::Merged;
use super::segment::SegmentError;
use super::tally::{Stored, Tally};
use super::trim::{self, Trim, Trimmer};

/// What one transaction will hold.
#[derive(Debug, Default)]
pub(super) struct Flush {
    pub(super) topics: BTreeMap<TopicId, TopicFlush>,
    /// The last word on each key; `None` deletes.
    pub(super) rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Bytes of batches, and of rows as they were submitted.
    pub(super) bytes: usize,
    /// Bytes of batches alone.
    pub(super) payload: u64,
    /// A merged segment whose turn it is.
    pub(super) merged: Option<Arc<Merged>>,
}

/// A topic's share of a flush.
#[derive(Debug)]
pub(super) struct TopicFlush {
    /// The highest.
    pub(super) ticket: u64,
    pub(super) announce: Announce,
    pub(super) batches: Vec<Appended>,
    pub(super) deleted: bool,
    pub(super) trim: Option<Trim>,
}

impl Flush {
    /// Whether it removes something, which the journal does not know of.
    pub(super) fn removes(&self) -> bool {
        let removes = |share: &TopicFlush| share.deleted || share.trim.is_some();
        self.merged.is_some() || self.topics.values().any(removes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.merged.is_none()
    }

    pub(super) fn add(&mut self, job: Job) {
        let Job {
            topic,
            ticket,
            batches,
            rows,
            announce,
            kind,
            generation: _,
        } = job;
        let batch_bytes: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
        let row_bytes = |row: &Row| row.key.len() + row.value.as_ref().map_or(0, Vec::len);
        self.bytes += batch_bytes + rows.iter().map(row_bytes).sum::<usize>();
        self.payload += batch_bytes as u64;
        let entry = self.share(topic, ticket, announce, kind == JobKind::Delete);
        entry.batches.extend(batches);
        if let JobKind::Trim { before, end } = kind {
            entry.trim(Trim { before, end });
            self.bytes += trim::COST_BYTES;
        }
        for row in rows {
            self.set(row);
        }
    }

    /// A topic's share, begun anew where the topic is deleted.
    fn share(
        &mut self,
        topic: TopicId,
        ticket: u64,
        announce: Announce,
        deleted: bool,
    ) -> &mut TopicFlush {
        let entry = self.topics.entry(topic).or_insert_with(|| TopicFlush {
            ticket,
            announce: announce.clone(),
            batches: Vec::new(),
            deleted: false,
            trim: None,
        });
        entry.ticket = ticket;
        entry.announce = announce;
        if deleted {
            entry.deleted = true;
            entry.batches.clear();
            entry.trim = None;
            let range = layout::state_range(topic);
            self.rows
                .retain(|key, _| !(key[..] >= range.start[..] && key[..] < range.end[..]));
        }
        entry
    }

    /// Lets another flush follow, as if the jobs of both had met in one.
    pub(super) fn append(&mut self, later: &Self) {
        for (&topic, share) in &later.topics {
            let announce = share.announce.clone();
            let entry = self.share(topic, share.ticket, announce, share.deleted);
            entry.batches.extend_from_slice(&share.batches);
            if let Some(trim) = share.trim {
                entry.trim(trim);
            }
        }
        if let Some(merged) = &later.merged {
            self.merged = Some(merged.clone());
        }
        let rows = later.rows.iter();
        self.rows
            .extend(rows.map(|(key, value)| (key.clone(), value.clone())));
        self.bytes += later.bytes;
        self.payload += later.payload;
    }

    /// Has the last word on a row.
    pub(super) fn set(&mut self, row: Row) {
        self.rows.insert(row.key, row.value);
    }

    /// Writes everything into `txn`, behind what the segment holds already.
    pub(super) fn store(
        &self,
        txn: &WriteTransaction,
        before: &Tally,
        chunk_bytes: usize,
    ) -> Result<Stored, SegmentError> {
        let (mut index, mut log) = (txn.open_table(INDEX)?, txn.open_table(LOG)?);
        let mut state = txn.open_table(STATE)?;
        let mut stored = Stored::after(before);
        let mut joined = Vec::new();
        let mut trimmer = Trimmer {
            index: &mut index,
            log: &mut log,
            state: &mut state,
            active: before.segment,
            chunks_left: trim::MAX_CHUNKS,
        };
        for (&topic, share) in &self.topics {
            let mut payload = before.present.get(&topic).copied();
            if share.deleted {
                stored.expired += payload.take().unwrap_or_default();
                remove_topic(&mut trimmer, topic, &mut stored)?;
            }
            payload = share.append(
                &mut trimmer,
                topic,
                payload,
                (chunk_bytes, &mut joined),
                &mut stored,
            )?;
            if let Some(trim) = share.trim {
                payload = trimmer.trim(topic, trim, payload, &mut stored)?;
            }
            stored.present.push((topic, payload));
        }
        if let Some(merged) = &self.merged {
            merged.swap(&mut state, &mut stored)?;
        }
        for segment in stored.dead(before) {
            state.remove(&Contents::key(segment)[..])?;
        }
        for (key, value) in &self.rows {
            match value {
                Some(value) => put(&mut state, key, value)?,
                None => drop(state.remove(&key[..])?),
            }
        }
        put(&mut state, &FlushRow::key(), &stored.row.encode())?;
        Ok(stored)
    }
}

impl TopicFlush {
    /// Removes that as well.
    fn trim(&mut self, trim: Trim) {
        self.trim = Some(self.trim.map_or(trim, |other| other.and(trim)));
    }

    /// Stores the batches as chunks, behind the `payload` bytes that the segment has of the topic;
    /// answers what it has then.
    fn append(
        &self,
        tables: &mut Trimmer<'_, '_>,
        topic: TopicId,
        payload: Option<u64>,
        (chunk_bytes, joined): (usize, &mut Vec<u8>),
        stored: &mut Stored,
    ) -> Result<Option<u64>, SegmentError> {
        let mut first_of_topic = None;
        let mut appended = 0;
        for batches in cut(&self.batches, chunk_bytes) {
            let chunk = Chunk::new(topic, batches)?;
            stored.next_log = chunk.store(
                tables.index,
                tables.log,
                stored.next_log,
                chunk_bytes,
                joined,
            )?;
            (stored.row.contents).add(chunk.payload, chunk.head.first_time, chunk.head.last_time);
            appended += chunk.payload as u64;
            first_of_topic.get_or_insert((chunk.first, chunk.head));
        }
        let Some((first, head)) = first_of_topic else {
            return Ok(payload);
        };
        stored.row.appended.push((topic, first));
        if payload.is_none() {
            let extent = Extent {
                first,
                segment: tables.active,
                first_time: head.first_time,
                before: head.before,
                payload: None,
            };
            put(tables.state, &Extent::key(topic, first), &extent.encode())?;
        }
        Ok(Some(payload.unwrap_or_default() + appended))
    }
}

pub(super) type IndexTable<'txn> =
    Table<'txn, &'static layout::IndexKey, &'static layout::IndexValue>;
pub(super) type LogTable<'txn> = Table<'txn, u64, &'static [u8]>;
pub(super) type StateTable<'txn> = Table<'txn, &'static [u8], &'static [u8]>;

/// Removes all state and chunks of a topic.
fn remove_topic(
    tables: &mut Trimmer<'_, '_>,
    topic: TopicId,
    stored: &mut Stored,
) -> Result<(), SegmentError> {
    let range = layout::state_range(topic);
    let active = tables.active;
    tables
        .state
        .retain_in(&range.start[..]..&range.end[..], |key, value| {
            if layout::own_row(key) == Some(OwnRow::Extent) {
                let extent = Extent::decode(key, value).ok();
                stored.gone.extend(extent.filter(|it| it.segment != active));
            }
            false
        })?;
    remove_chunks(tables.index, tables.log, topic)
}

/// Removes what the segment holds of a topic's chunks, so that their pages are used again.
fn remove_chunks(
    index: &mut IndexTable<'_>,
    log: &mut LogTable<'_>,
    topic: TopicId,
) -> Result<(), SegmentError> {
    let range = layout::index_range(topic, 0);
    let range = range.start()..=range.end();
    for row in index.range::<&layout::IndexKey>(range.clone())? {
        let (key, value) = row?;
        // Nobody knows which rows belong to a damaged head: they stay as long as the segment.
        let numbers = RowHead::decode(key.value(), value.value()).map(|head| head.log_numbers());
        for number in numbers.into_iter().flatten() {
            log.remove(number)?;
        }
    }
    Ok(index.retain_in::<&layout::IndexKey, _>(range, |_, _| false)?)
}

/// Writes a state row.
pub(super) fn put(
    state: &mut StateTable<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<(), SegmentError> {
    let mut slot = state.insert_reserve(key, value.len() + layout::SEAL_BYTES)?;
    layout::seal(key, value, slot.as_mut());
    Ok(())
}

/// Cuts a topic's batches into runs of at most `chunk_bytes`; a batch larger than that stands
/// alone.
///
/// redb gives a value a power of two of pages. So where the longest possible run would leave more
/// than an eighth of its pages empty, and a shorter one fills half as many pages better, it is cut
/// there.
fn cut(batches: &[Appended], chunk_bytes: usize) -> impl Iterator<Item = &[Appended]> {
    let mut rest = batches;
    std::iter::from_fn(move || {
        let (first, _) = rest.split_first()?;
        let longest = run(rest, chunk_bytes).max(1);
        let mut count = longest;
        let bytes = |count: usize| rest[..count].iter().map(|b| b.bytes.len()).sum::<usize>();
        let pages = (bytes(longest) + OVERHEAD).next_power_of_two();
        if longest > 1 && pages > SMALLEST_CUT && bytes(longest) < pages / 8 * 7 {
            let shorter = run(rest, pages / 2 - OVERHEAD);
            if shorter > 0 && bytes(shorter) >= pages / 16 * 7 {
                count = shorter;
            }
        }
        debug_assert!(count == 1 || first.bytes.len() <= chunk_bytes);
        let (cut, left) = rest.split_at(count);
        rest = left;
        Some(cut)
    })
}

/// The lengths of the rows that a chunk's bytes take.
///
/// One, where they fill the power of two of pages that redb gives them to seven eighths; else what
/// fills half as many pages comes first, and so on.
fn parts(payload: usize, chunk_bytes: usize) -> impl Iterator<Item = usize> {
    let mut left = payload;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let most = left.min(chunk_bytes);
        let pages = (most + OVERHEAD).next_power_of_two();
        let wastes = pages > SMALLEST_PART && most < pages / 8 * 7;
        let part = if wastes { pages / 2 - OVERHEAD } else { most };
        left -= part;
        Some(part)
    })
}

/// A part that takes fewer pages than this is not cut again.
const SMALLEST_PART: usize = 16 * 1024;
/// Below this, a second row costs as much as it saves.
const SMALLEST_CUT: usize = 64 * 1024;

/// Bytes of a full page that are not batches.
const OVERHEAD: usize = (1 << 20) - layout::FULL_CHUNK_BYTES;

/// How many batches from the first on fit into `bytes`.
fn run(batches: &[Appended], bytes: usize) -> usize {
    let mut sum = 0;
    batches
        .iter()
        .take_while(|batch| {
            sum += batch.bytes.len();
            sum <= bytes
        })
        .count()
}

/// A run of batches as a row.
struct Chunk<'a> {
    topic: TopicId,
    first: u64,
    payload: usize,
    head: RowHead,
    batches: &'a [Appended],
}

impl<'a> Chunk<'a> {
    fn new(topic: TopicId, batches: &'a [Appended]) -> Result<Self, SegmentError> {
        let head = |batch: &Appended| {
            Head::parse(&batch.bytes)
                .ok_or_else(|| SegmentError::Unreadable("a batch without a head".into()))
        };
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else {
            return Err(SegmentError::Unreadable("a chunk without a batch".into()));
        };
        let (first_head, last_head) = (head(first)?, head(last)?);
        let payload = batches.iter().map(|batch| batch.bytes.len()).sum();
        let too_large = |_| SegmentError::Unreadable("a chunk over 4 GiB".into());
        let head = RowHead {
            records: u32::try_from(last_head.end_offset() - first_head.base_offset)
                .map_err(too_large)?,
            payload: u32::try_from(payload).map_err(too_large)?,
            first_time: first_head.append_time,
            last_time: last_head.append_time,
            before: first.totals,
            digest: last.digest,
            // Known when it is stored.
            ..RowHead::default()
        };
        Ok(Self {
            topic,
            first: first_head.base_offset,
            payload,
            head,
            batches,
        })
    }

    /// Answers the log number after its own; `joined` is room for batches that share a row.
    fn store(
        &self,
        index: &mut IndexTable<'_>,
        log: &mut LogTable<'_>,
        number: u64,
        chunk_bytes: usize,
        joined: &mut Vec<u8>,
    ) -> Result<u64, SegmentError> {
        let too_many = |_| SegmentError::Unreadable("a batch of more than 65,535 parts".into());
        let parts: Vec<usize> = parts(self.payload, chunk_bytes).collect();
        let head = RowHead {
            log: number,
            parts: u16::try_from(parts.len()).map_err(too_many)?,
            ..self.head
        };
        let key = layout::index_key(self.topic, self.first);
        index.insert(&key, &head.encode(&key))?;
        let mut rest = if let [batch] = self.batches {
            &batch.bytes[..]
        } else {
            // Not `insert_reserve`: it begins with as many zeros, and copies those as well.
            joined.clear();
            for batch in self.batches {
                joined.extend_from_slice(&batch.bytes);
            }
            &joined[..]
        };
        for (number, part) in (number..).zip(parts) {
            let (part, left) = rest.split_at(part);
            log.insert(number, part)?;
            rest = left;
        }
        Ok(head.log_numbers().end)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::job::Totals;
    use super::*;

    /// Batches of these lengths, and the lengths of the runs that they are cut into.
    fn check(lengths: &[usize], expected: &[&[usize]]) {
        let appended = |length: &usize| Appended {
            bytes: Bytes::from(vec![0; *length]),
            totals: Totals::default(),
            digest: 0,
        };
        let batches: Vec<Appended> = lengths.iter().map(appended).collect();
        let runs: Vec<Vec<usize>> = cut(&batches, layout::FULL_CHUNK_BYTES)
            .map(|run| run.iter().map(|batch| batch.bytes.len()).collect())
            .collect();
        assert_eq!(runs, expected);
    }

    const KIB: usize = 1024;

    /// The rows that so many bytes take, and the pages that redb gives them.
    fn check_parts(payload: usize, expected: &[usize], expected_pages: usize) {
        let parts: Vec<usize> = parts(payload, layout::FULL_CHUNK_BYTES).collect();
        assert_eq!(parts.iter().sum::<usize>(), payload);
        assert_eq!(parts, expected);
        let pages = |part: &usize| (part + OVERHEAD).next_power_of_two();
        assert_eq!(parts.iter().map(pages).sum::<usize>(), expected_pages);
    }

    #[test]
    fn a_chunk_takes_as_many_rows_as_fill_their_pages() {
        let full = |kib: usize| kib * KIB - OVERHEAD;
        check_parts(0, &[], 0);
        check_parts(100, &[100], 256);
        check_parts(9 * KIB, &[9 * KIB], 16 * KIB);
        check_parts(full(128), &[full(128)], 128 * KIB);
        check_parts(113 * KIB, &[113 * KIB], 128 * KIB);
        let (a, b) = (full(64), full(32));
        check_parts(108 * KIB, &[a, b, 108 * KIB - a - b], 112 * KIB);
        let full = layout::FULL_CHUNK_BYTES;
        check_parts(2 * full + 10, &[full, full, 10], (2 << 20) + 128);
    }

    #[test]
    fn batches_that_fit_share_a_chunk() {
        check(&[], &[]);
        check(&[100, 200, 300], &[&[100, 200, 300]]);
        check(&[30 * KIB, 4 * KIB], &[&[30 * KIB, 4 * KIB]]);
    }

    #[test]
    fn a_full_chunk_is_one_mebibyte_with_its_heads() {
        let full = layout::FULL_CHUNK_BYTES;
        assert!(full + 16 <= 1 << 20);
        check(&[full - 10, 10, 5], &[&[full - 10, 10], &[5]]);
        check(&[full + 1, 5], &[&[full + 1], &[5]]);
    }

    #[test]
    fn a_run_is_cut_where_half_as_many_pages_are_fuller() {
        // Together 600 KiB in 1 MiB of pages; the first two fill 512 KiB to 98 percent.
        let (a, b, c) = (250 * KIB, 250 * KIB, 100 * KIB);
        check(&[a, b, c], &[&[a, b], &[c]]);
        // No shorter run fills its pages: one row is cheaper than two.
        let (a, b) = (300 * KIB, 300 * KIB);
        check(&[a, b], &[&[a, b]]);
    }
}

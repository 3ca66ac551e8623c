//! Picking the records that match a filter out of batches, within the limits of an answer.
//!
//! Pure, and the one place where records are walked for a filter; batches come in checked, in the
//! order of their offsets. What is taken keeps its offsets: as the batch that is stored, or rebuilt
//! of the few records that match.

use std::ops;

use bytes::Bytes;
use logdrive_protocol::batch::{self, Head, Records};
use logdrive_protocol::operations::Range;
use logdrive_protocol::varint;

use super::super::content::between as content_between;
use super::Filter;
use crate::limits::{MAX_RANGES, REBUILD_BYTES, REBUILD_SHARE};

/// Bytes of records after which it is asked whether time is up.
pub(super) const ASK_BYTES: usize = 64 << 10;

/// What a filter took out of batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// The records that match, ascending.
    pub ranges: Vec<Range>,
    /// The batches that hold them: as stored, or rebuilt.
    pub batches: Vec<Bytes>,
    /// Where the search goes on: everything before it was looked through.
    pub next: u64,
    /// Key, headers and values of the records that match, in bytes.
    pub content: u64,
    /// Key, headers and values of all records that were looked through, in bytes.
    pub passed: u64,
}

impl Selected {
    /// How many records match.
    pub fn record_count(&self) -> u64 {
        self.ranges.iter().map(|range| range.to - range.from).sum()
    }
}

/// Picks the records `from..end` that match out of batches, which were checked and ascend.
///
/// At most `max_records` of them (0 = no limit), at most `max_bytes` of batches with what names
/// their records, but always one batch.
pub fn select(
    filter: &Filter,
    from: u64,
    end: u64,
    max_records: u32,
    max_bytes: usize,
    batches: impl Iterator<Item = Bytes>,
) -> Selected {
    let mut selection = Selection::new(from, end, max_records, max_bytes);
    for batch in batches {
        if !selection.look(filter, &batch, &|| false) {
            break;
        }
    }
    selection.selected
}

/// A selection that goes on as batches come.
#[derive(Debug)]
pub struct Selection {
    /// What was taken so far.
    pub selected: Selected,
    end: u64,
    /// Records that may still be taken.
    records: u64,
    /// Bytes that may still be taken.
    room: usize,
    /// Bytes of records since it was last asked whether time is up.
    unasked: usize,
}

/// What of one batch matches.
#[derive(Default)]
struct Matched {
    ranges: Vec<Range>,
    content: u64,
    /// Where a limit cut it, if one did.
    cut: Option<u64>,
}

impl Matched {
    /// Adds an offset beyond all others.
    fn add(&mut self, offset: u64, content: usize) {
        self.content += content as u64;
        match self.ranges.last_mut() {
            Some(last) if last.to == offset => last.to += 1,
            _ => self.ranges.push(range(offset)),
        }
    }

    fn holds(&self, offset: u64) -> bool {
        let index = self.ranges.partition_point(|range| range.to <= offset);
        let range = self.ranges.get(index);
        range.is_some_and(|range| range.from <= offset)
    }
}

fn range(offset: u64) -> Range {
    Range {
        from: offset,
        to: offset + 1,
        ..Range::default()
    }
}

/// Bytes of a range in an answer, with its length.
fn range_len(range: &Range) -> usize {
    3 + varint::len(range.from) + varint::len(range.to)
}

impl Selection {
    /// Nothing is taken yet; limits as in [`select`].
    pub fn new(from: u64, end: u64, max_records: u32, max_bytes: usize) -> Self {
        let selected = Selected {
            next: from,
            ..Selected::default()
        };
        let records = match max_records {
            0 => u64::MAX,
            count => count.into(),
        };
        Self {
            selected,
            end,
            records,
            room: max_bytes,
            unasked: 0,
        }
    }

    /// Looks through one more batch; false if that was not all of it, because a limit is reached
    /// or `is_over` says so, which is asked now and then.
    pub fn look(&mut self, filter: &Filter, batch: &Bytes, is_over: &dyn Fn() -> bool) -> bool {
        let Some(head) = Head::parse(batch) else {
            return false;
        };
        let from = self.selected.next.max(head.base_offset);
        let to = head.end_offset().min(self.end);
        if from >= to {
            return to < self.end;
        }
        if self.records == 0 {
            return false;
        }
        // Unpacked once, where it must be; it was checked when it was read.
        let plain = if filter.may_match(&head) {
            batch::unpacked(batch).unwrap_or_else(|_| batch.clone())
        } else {
            batch.clone()
        };
        let matched = if filter.may_match(&head) {
            self.walk(filter, &plain, &head, from..to, is_over)
        } else {
            Matched::default()
        };
        if !matched.ranges.is_empty() && !self.take((batch, &plain), &head, &matched) {
            return false;
        }
        let next = matched.cut.unwrap_or(to);
        self.selected.passed += content_between(&plain, &head, from, next);
        self.selected.next = next;
        matched.cut.is_none()
    }

    /// The records of a batch that match, among the offsets that are asked for.
    fn walk(
        &mut self,
        filter: &Filter,
        batch: &[u8],
        head: &Head,
        asked: ops::Range<u64>,
        is_over: &dyn Fn() -> bool,
    ) -> Matched {
        let mut matched = Matched::default();
        let mut left = self.records;
        let room = MAX_RANGES.saturating_sub(self.selected.ranges.len());
        for record in Records::of(batch).flatten() {
            let offset = head.base_offset.saturating_add(record.offset_delta);
            let timestamp = head.lowest_timestamp.saturating_add(record.timestamp_delta);
            if offset >= asked.end {
                break;
            }
            if offset < asked.start {
                continue;
            }
            if self.unasked >= ASK_BYTES && offset > asked.start {
                self.unasked = 0;
                if is_over() {
                    matched.cut = Some(offset);
                    break;
                }
            }
            self.unasked += record.content_len();
            if !filter.matches(&record, timestamp) {
                continue;
            }
            if left == 0 || matched.ranges.len() >= room {
                matched.cut = Some(offset);
                break;
            }
            matched.add(offset, record.content_len());
            left -= 1;
        }
        matched
    }

    /// Takes what matches of a batch; false if there is no room for it.
    fn take(&mut self, (batch, plain): (&Bytes, &Bytes), head: &Head, matched: &Matched) -> bool {
        let few = matched.content.saturating_mul(REBUILD_SHARE) <= head.content_bytes.into();
        let rebuilt = if few && batch.len() >= REBUILD_BYTES {
            batch::rebuild(plain, |delta| matched.holds(head.base_offset + delta))
        } else {
            None
        };
        let batch = rebuilt.map_or_else(|| batch.clone(), Into::into);
        let ranges: usize = matched.ranges.iter().map(range_len).sum();
        let len = varint::len(batch.len() as u64) + batch.len() + ranges;
        if len > self.room && !self.selected.batches.is_empty() {
            return false;
        }
        self.room = self.room.saturating_sub(len);
        for range in &matched.ranges {
            self.records -= range.to - range.from;
            match self.selected.ranges.last_mut() {
                Some(last) if last.to == range.from => last.to = range.to,
                _ => self.selected.ranges.push(range.clone()),
            }
        }
        self.selected.content += matched.content;
        self.selected.batches.push(batch);
        true
    }
}

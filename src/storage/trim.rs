//! Removing what lies before an offset, in the transaction of the flush that says so.
//!
//! Owns which extents and chunks go. It never removes a file: the [writer](super::writer) lets
//! segments go that no extent names, once this is committed. Its neighbour: a
//! [flush](super::flush), which stores what it brings first.
//!
//! ```text
//!              before
//!   extents    v
//!   |-- 3 --|-- 5 --|-- active --|      3 goes; 5 holds both sides and stays, as it is sealed
//!
//!                      before
//!                         v
//!   |-- 3 --|-- 5 --|-- active --|      3 and 5 go; the chunks of the active one that end at or
//!                   [  ][  ][  ]        before it go too, and its extent begins with the next
//! ```

use redb::ReadableTable;

use logdrive_protocol::TopicId;

use super::flush::{IndexTable, LogTable, StateTable, put};
use super::layout::{self, Extent, IndexKey, RowHead};
use super::segment::SegmentError;
use super::tally::Stored;
use crate::planted::{self, Bug};

/// Chunks that one flush removes at most; what is left lies before its topic's extent, and goes
/// with the next trim or with the segment.
pub(super) const MAX_CHUNKS: usize = 4096;

/// What a trim counts in a flush's bytes: the pages that it changes.
pub(super) const COST_BYTES: usize = 4096;

/// What a topic has removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trim {
    pub(super) before: u64,
    pub(super) end: u64,
}

impl Trim {
    /// What both together remove.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            before: self.before.max(other.before),
            end: self.end.max(other.end),
        }
    }
}

/// The tables of the active segment in a transaction, and how much may still be removed in it.
pub(super) struct Trimmer<'a, 'txn> {
    pub(super) index: &'a mut IndexTable<'txn>,
    pub(super) log: &'a mut LogTable<'txn>,
    pub(super) state: &'a mut StateTable<'txn>,
    pub(super) active: u64,
    pub(super) chunks_left: usize,
}

impl Trimmer<'_, '_> {
    /// Trims a topic; `payload` is what the active segment has of it, `None` without an extent
    /// there. Answers what it has afterwards.
    pub(super) fn trim(
        &mut self,
        topic: TopicId,
        trim: Trim,
        payload: Option<u64>,
        stored: &mut Stored,
    ) -> Result<Option<u64>, SegmentError> {
        let extents = self.extents(topic, trim.before)?;
        let Some((last, earlier)) = extents.split_last() else {
            return Ok(payload);
        };
        for extent in earlier {
            self.state.remove(&Extent::key(topic, extent.first)[..])?;
            if extent.segment != self.active {
                stored.gone.push(*extent);
            }
        }
        if last.segment == self.active {
            return self.trim_active(topic, trim, last, payload.unwrap_or_default(), stored);
        }
        if trim.before >= trim.end && !self.has_after(topic, last.first)? {
            self.state.remove(&Extent::key(topic, last.first)[..])?;
            stored.gone.push(*last);
        }
        Ok(payload)
    }

    /// The extents that begin at or before an offset.
    fn extents(&self, topic: TopicId, before: u64) -> Result<Vec<Extent>, SegmentError> {
        let (low, high) = (Extent::key(topic, 0), Extent::key(topic, before));
        let rows = self.state.range::<&[u8]>(&low[..]..=&high[..])?;
        rows.map(|row| {
            let (key, stored) = row?;
            Ok(Extent::decode(key.value(), stored.value())?)
        })
        .collect()
    }

    fn has_after(&self, topic: TopicId, first: u64) -> Result<bool, SegmentError> {
        let Some(after) = first.checked_add(1) else {
            return Ok(false);
        };
        let (low, high) = (Extent::key(topic, after), Extent::key(topic, u64::MAX));
        let mut rows = self.state.range::<&[u8]>(&low[..]..=&high[..])?;
        Ok(rows.next().transpose()?.is_some())
    }

    /// Lets the topic's extent in the active segment begin with the first chunk that stays.
    fn trim_active(
        &mut self,
        topic: TopicId,
        trim: Trim,
        extent: &Extent,
        payload: u64,
        stored: &mut Stored,
    ) -> Result<Option<u64>, SegmentError> {
        let old_key = Extent::key(topic, extent.first);
        let before = trim.before + u64::from(planted::is(Bug::TrimTakesOneMore));
        let bound = match self.first_kept(topic, before)? {
            None => {
                self.state.remove(&old_key[..])?;
                None
            }
            Some((first, Some(head))) if first > extent.first => {
                self.state.remove(&old_key[..])?;
                let moved = Extent {
                    first,
                    first_time: head.first_time,
                    before: head.before,
                    ..*extent
                };
                put(self.state, &Extent::key(topic, first), &moved.encode())?;
                Some(first)
            }
            // Nobody knows what a damaged head stands for: it stays within its extent.
            Some(_) => Some(extent.first),
        };
        let removed = self.remove_chunks(topic, bound)?;
        stored.expired += removed;
        Ok(bound.map(|_| payload.saturating_sub(removed)))
    }

    /// The first chunk that holds something at or after an offset; its head, if it is intact.
    fn first_kept(
        &self,
        topic: TopicId,
        before: u64,
    ) -> Result<Option<(u64, Option<RowHead>)>, SegmentError> {
        let (low, at) = (
            layout::index_key(topic, 0),
            layout::index_key(topic, before),
        );
        let row = self.index.range::<&IndexKey>(&low..=&at)?.next_back();
        if let Some((key, value)) = row.transpose()? {
            let first = layout::first_offset(key.value());
            let head = RowHead::decode(key.value(), value.value()).ok();
            let ends = head.is_some_and(|head| first + u64::from(head.records) <= before);
            if !ends {
                return Ok(Some((first, head)));
            }
        }
        let high = layout::index_key(topic, u64::MAX);
        let row = self.index.range::<&IndexKey>(&at..=&high)?.next();
        Ok(row.transpose()?.map(|(key, value)| {
            let head = RowHead::decode(key.value(), value.value()).ok();
            (layout::first_offset(key.value()), head)
        }))
    }

    /// Removes the topic's chunks that begin before `bound`, as many as this flush may; answers
    /// their bytes.
    fn remove_chunks(&mut self, topic: TopicId, bound: Option<u64>) -> Result<u64, SegmentError> {
        let low = layout::index_key(topic, 0);
        let high = layout::index_key(topic, bound.unwrap_or(u64::MAX));
        let mut doomed = Vec::new();
        for row in self
            .index
            .range::<&IndexKey>(&low..&high)?
            .take(self.chunks_left)
        {
            let (key, value) = row?;
            doomed.push((
                *key.value(),
                RowHead::decode(key.value(), value.value()).ok(),
            ));
        }
        self.chunks_left -= doomed.len();
        let mut bytes = 0;
        for (key, head) in doomed {
            self.index.remove(&key)?;
            // Nobody knows which rows belong to a damaged head: they stay as long as the segment.
            let Some(head) = head else { continue };
            for number in head.log_numbers() {
                self.log.remove(number)?;
            }
            bytes += u64::from(head.payload);
        }
        Ok(bytes)
    }
}

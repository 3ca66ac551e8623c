//! What a consumer misses: records that were removed before it read them, or cannot be read.
//!
//! Pure. What is leased is not missed while a worker has it: it may still be acked. Its neighbours:
//! the [consumer](super), [`Gaps`](super::gaps::Gaps) keeps what is to be told.

use std::ops::Range;
use std::sync::Arc;

use logdrive_protocol::operations::Gap;

use super::super::log::Mark;
use super::super::removed::Removed;
use super::Consumer;
use super::parcel::Entry;
use crate::storage::Row;

impl Consumer {
    /// Everything of the topic before `start` is removed; `gap` says when and why, and is the last
    /// of `removed`.
    pub fn trim(&mut self, start: Mark, gap: &Gap, removed: &Arc<Removed>) -> Vec<Row> {
        let mut changed = Vec::new();
        self.log_start = start.offset;
        self.removed = Arc::clone(removed);
        let next = self.next();
        if next.offset < start.offset {
            let unread = Gap {
                from: next.offset,
                to: start.offset,
                records: start.totals.records - next.totals.records,
                bytes: start.totals.bytes - next.totals.bytes,
                ..gap.clone()
            };
            self.gaps.add(self.topic, self.id, unread, &mut changed);
            self.row.next = start.offset;
            self.row.records = start.totals.records;
            self.row.bytes = start.totals.bytes;
        }
        self.lose_removed(&mut changed);
        changed
    }

    /// What was given back meanwhile and is removed cannot be delivered again.
    pub(super) fn lose_removed(&mut self, changed: &mut Vec<Row>) {
        if self
            .outstanding
            .first()
            .is_none_or(|it| it >= self.log_start)
        {
            return;
        }
        let mut entries = Vec::new();
        for removed in self.copies.others_before(self.log_start) {
            entries.extend(self.outstanding.drop_unleased(&removed, changed));
        }
        // Each for the reason for which it went, which may be another than that of the last trim.
        let (removed, mut entries) = (Arc::clone(&self.removed), &entries[..]);
        let all = removed.gaps(0, self.log_start);
        for (at, gap) in all.iter().enumerate() {
            let is_last = at + 1 == all.len();
            let its = entries.partition_point(|it| is_last || it.offset < gap.to);
            self.tell_of(&entries[..its], gap, changed);
            entries = &entries[its..];
        }
        self.tell_of(entries, &Gap::default(), changed);
    }

    /// Gives up those records of a damaged range that wait to be delivered again.
    pub fn skip_damage(&mut self, damaged: &Range<u64>) -> Vec<Row> {
        let mut changed = Vec::new();
        let entries = self.outstanding.drop_unleased(damaged, &mut changed);
        let gap = Gap {
            reason: Gap::DAMAGE,
            ..Gap::default()
        };
        self.tell_of(&entries, &gap, &mut changed);
        changed
    }

    fn tell_of(&mut self, entries: &[Entry], gap: &Gap, changed: &mut Vec<Row>) {
        for run in runs_of(entries) {
            let (Some(first), Some(end)) = (run.first(), run.last()) else {
                continue;
            };
            let lost = Gap {
                from: first.offset,
                to: end.offset + 1,
                records: run.len() as u64,
                bytes: run.iter().map(|it| u64::from(it.bytes)).sum(),
                ..gap.clone()
            };
            self.gaps.add(self.topic, self.id, lost, changed);
        }
    }

    /// The dead letter that stood for a record is not there any more.
    pub fn lose_copy(&mut self, offset: u64, changed: &mut Vec<Row>) {
        changed.extend(self.copies.remove(self.topic, self.id, offset));
        self.lose_removed(changed);
    }

    /// Tells of records that were given up because they cannot be read.
    pub fn note_damage(&mut self, gap: Gap, changed: &mut Vec<Row>) {
        self.gaps.add(self.topic, self.id, gap, changed);
    }
}

/// Ascending records in runs whose offsets follow each other.
fn runs_of(entries: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    entries.chunk_by(|a, b| a.offset + 1 == b.offset)
}

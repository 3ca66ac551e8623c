//! What the writer knows of its segments without asking them.
//!
//! Owns the sums: what the active segment holds, and what of each sealed one is still named by
//! extents, so that one that nothing names any more is known with the commit that ends it, and one
//! that is mostly dead without a scan. It never touches a table. Its neighbours: a
//! [flush](super::flush) says what its transaction changes, the [writer](super::writer) counts that
//! in once it is committed.

use std::collections::{BTreeMap, HashMap};

use logdrive_protocol::TopicId;

use super::layout::{Contents, Extent, FlushRow};

/// What the active segment holds, and what of the sealed ones is named.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) segment: u64,
    /// Flushes of this data directory so far.
    pub(super) flushes: u64,
    pub(super) contents: Contents,
    /// Topics with an extent in the segment, with the bytes of their batches there.
    pub(super) present: HashMap<TopicId, u64>,
    /// Where the log goes on.
    pub(super) next_log: u64,
    /// Bytes of batches that were removed from the segment.
    pub(super) expired: u64,
    /// The sealed segments that extents name.
    pub(super) sealed: BTreeMap<u64, Share>,
}

/// What of a sealed segment is alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// What it was sealed with.
    pub(super) contents: Contents,
    /// Extents that name it.
    pub(super) extents: u64,
    /// Those of them that do not say how many bytes they stand for.
    pub(super) unmeasured: u64,
    /// Bytes of batches that the others stand for; what a trim has cut off within one counts too.
    pub(super) live: u64,
}

impl Share {
    fn add(&mut self, extent: &Extent) {
        self.extents += 1;
        match extent.payload {
            Some(payload) => self.live += payload,
            None => self.unmeasured += 1,
        }
    }

    fn remove(&mut self, extent: &Extent) {
        self.extents = self.extents.saturating_sub(1);
        match extent.payload {
            Some(payload) => self.live = self.live.saturating_sub(payload),
            None => self.unmeasured = self.unmeasured.saturating_sub(1),
        }
    }

    /// Bytes of batches that nothing reads any more; 0 while that is not known.
    pub(super) fn dead(&self) -> u64 {
        if self.unmeasured == 0 {
            self.contents.payload.saturating_sub(self.live)
        } else {
            0
        }
    }
}

/// What a transaction changes.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) row: FlushRow,
    pub(super) next_log: u64,
    /// The bytes that topics have in the active segment now; `None` for no extent there.
    pub(super) present: Vec<(TopicId, Option<u64>)>,
    /// Bytes of batches that were removed from the active segment.
    pub(super) expired: u64,
    /// Extents of sealed segments that were removed.
    pub(super) gone: Vec<Extent>,
    /// Extents of sealed segments that were added.
    pub(super) come: Vec<Extent>,
    /// A merged segment that extents name from now on.
    pub(super) merged: Option<(u64, Contents)>,
}

impl Stored {
    /// Nothing yet, behind what the segment holds.
    pub(super) fn after(before: &Tally) -> Self {
        Self {
            row: FlushRow {
                number: before.flushes + 1,
                contents: before.contents,
                appended: vec![],
            },
            next_log: before.next_log,
            present: vec![],
            expired: 0,
            gone: vec![],
            come: vec![],
            merged: None,
        }
    }

    /// The sealed segments that no extent names any more.
    pub(super) fn dead(&self, before: &Tally) -> Vec<u64> {
        let mut left = BTreeMap::new();
        for extent in &self.gone {
            let Some(share) = before.sealed.get(&extent.segment) else {
                continue;
            };
            let left = left.entry(extent.segment).or_insert(share.extents);
            *left = left.saturating_sub(1);
        }
        for extent in &self.come {
            left.entry(extent.segment).and_modify(|left| *left += 1);
        }
        let dead = left.into_iter().filter(|(_, left)| *left == 0);
        dead.map(|(segment, _)| segment).collect()
    }
}

impl Tally {
    /// Counts an extent of a sealed segment in.
    pub(super) fn name(&mut self, extent: &Extent) {
        self.sealed.entry(extent.segment).or_default().add(extent);
    }

    /// Counts a flush in once it is committed; answers the segments that nothing names any more.
    pub(super) fn add(&mut self, stored: Stored) -> Vec<u64> {
        let dead = stored.dead(self);
        self.flushes = stored.row.number;
        self.contents = stored.row.contents;
        self.next_log = stored.next_log;
        self.expired += stored.expired;
        for (topic, payload) in stored.present {
            match payload {
                Some(payload) => drop(self.present.insert(topic, payload)),
                None => drop(self.present.remove(&topic)),
            }
        }
        if let Some((segment, contents)) = stored.merged {
            self.sealed.entry(segment).or_default().contents = contents;
        }
        for extent in &stored.come {
            self.name(extent);
        }
        for extent in &stored.gone {
            if let Some(share) = self.sealed.get_mut(&extent.segment) {
                share.remove(extent);
            }
        }
        for segment in &dead {
            self.sealed.remove(segment);
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(segment: u64, payload: Option<u64>) -> Extent {
        Extent {
            first: 1,
            segment,
            first_time: 1,
            before: super::super::Totals::default(),
            payload,
        }
    }

    #[test]
    fn a_segment_is_dead_with_its_last_extent_and_only_measured_ones_are_mostly_dead() {
        let mut tally = Tally::default();
        for (segment, payload) in [(1, Some(30)), (1, Some(60)), (2, None), (2, Some(10))] {
            tally.name(&extent(segment, payload));
        }
        for share in tally.sealed.values_mut() {
            share.contents.payload = 100;
        }
        let dead = |tally: &Tally| {
            let dead = tally.sealed.iter().map(|(it, share)| (*it, share.dead()));
            dead.collect::<Vec<_>>()
        };
        assert_eq!(dead(&tally), [(1, 10), (2, 0)]);
        let mut stored = Stored::after(&tally);
        stored.gone = vec![extent(1, Some(60)), extent(2, None)];
        assert_eq!(tally.add(stored), [0; 0]);
        assert_eq!(dead(&tally), [(1, 70), (2, 90)]);
        let mut stored = Stored::after(&tally);
        stored.gone = vec![extent(1, Some(30)), extent(2, Some(10))];
        stored.come = vec![extent(9, Some(10))];
        assert_eq!(tally.add(stored), [1, 2]);
        assert_eq!(tally.sealed.keys().collect::<Vec<_>>(), [&9]);
    }
}

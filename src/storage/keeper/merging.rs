//! Merging as one of the keeper's chores: a step at a time, so that readers wait for one at most.
//!
//! Owns when a merge goes on and what ends it. Its neighbour: [merge](super::super::merge) copies.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};

use super::{Chore, Keeper};
use crate::storage::layout;
use crate::storage::merge::{Broken, Merge, Order};
use crate::storage::segment::{Segment, SegmentError};

/// redb's cache for the segment that a merge writes: each step is synced.
const MERGE_CACHE_BYTES: usize = 8 << 20;

impl Keeper {
    /// Begins a merge; without a thread there is no better time for all of it.
    pub(super) fn merge(&mut self, order: Order) {
        if self.stopping || self.merging.is_some() {
            // Dropping the order answers it.
            return;
        }
        let is_closing =
            |it: &u64| (self.retiring.get(it)).is_some_and(|segment| segment.strong_count() == 0);
        if order.sources.iter().any(is_closing)
            && let Some(inbox) = &self.inbox
        {
            // Behind the close, which is on its way here.
            drop(inbox.send(Chore::Merge(Box::new(order))));
            return;
        }
        if let Err(error) = self.begin_merge(order) {
            tracing::warn!(%error, "segments are not merged");
        }
        while self.inbox.is_none() && self.merging.is_some() {
            self.merge_on();
        }
    }

    fn begin_merge(&mut self, order: Order) -> Result<(), SegmentError> {
        if self.disk.free_space()? < order.live.saturating_mul(2) {
            return Err(io::Error::from(io::ErrorKind::StorageFull).into());
        }
        let mut sources = BTreeMap::new();
        for &number in &order.sources {
            match self.source(number) {
                Ok(segment) => drop(sources.insert(number, segment)),
                Err(error) => {
                    // Who asked may have gone.
                    let _ = order.reply.send(Err(vec![number]));
                    return Err(error);
                }
            }
        }
        let (name, cache) = (layout::unborn_name(order.number), MERGE_CACHE_BYTES);
        let file = self.disk.create(&name)?;
        let identity = order.identity.of_segment(order.number, self.options.salt);
        let target = Segment::create(file, order.number, identity, cache, None);
        match target.and_then(|target| Merge::begin(order, target, sources)) {
            Ok(merge) => {
                self.merging = Some(merge);
                Ok(())
            }
            Err(error) => {
                self.unlink(&name);
                Err(error)
            }
        }
    }

    /// Ends the merge that is under way.
    pub(super) fn give_up_merge(&mut self) {
        if let Some(merge) = self.merging.take() {
            let name = layout::unborn_name(merge.number());
            merge.give_up(Vec::new());
            self.unlink(&name);
        }
    }

    /// A handle of a source: that of whoever reads it, so that it is known to be read.
    fn source(&mut self, number: u64) -> Result<Arc<Segment>, SegmentError> {
        let known = [self.retiring.get(&number), self.opened.get(&number)];
        if let Some(segment) = known.into_iter().flatten().find_map(Weak::upgrade) {
            return Ok(segment);
        }
        let cache = self.options.sealed_cache_bytes;
        let segment = Arc::new(Segment::open_sealed(&*self.disk, number, cache)?);
        self.opened.insert(number, Arc::downgrade(&segment));
        Ok(segment)
    }

    /// Takes the next step of the merge that is under way.
    pub(super) fn merge_on(&mut self) {
        let Some(mut merge) = self.merging.take() else {
            return;
        };
        let number = merge.number();
        let error = match merge.step(self.options.merge_step_bytes) {
            Ok(true) => {
                self.merging = Some(merge);
                return;
            }
            Ok(false) => match merge.finish(&*self.disk) {
                Ok(()) => return,
                // With it goes the sender of the reply: that is the answer.
                Err(error) => Broken::Target(error),
            },
            Err(error) => {
                let unreadable = match &error {
                    Broken::Source(source, SegmentError::Unreadable(_) | SegmentError::Missing) => {
                        vec![*source]
                    }
                    _ => Vec::new(),
                };
                merge.give_up(unreadable);
                error
            }
        };
        // Under whichever name: nothing refers to it.
        self.unlink(&layout::unborn_name(number));
        self.unlink(&layout::segment_name(number));
        tracing::warn!(segment = number, %error, "segments are not merged");
    }
}

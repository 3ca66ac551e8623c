//! Space that comes back: segments that nothing names, merges, and an active segment that is sealed
//! before it is full.
//!
//! Owns when each of them is due. Its neighbours: the [tally](super::super::tally) knows what is
//! alive, [merge](super::super::merge) chooses and copies, the keeper unlinks.

use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Active, Writer};
use crate::storage::flush::Flush;
use crate::storage::keeper::Chore;
use crate::storage::layout;
use crate::storage::merge::{self, Merged, Order};

/// How often to look whether something is due, while there is nothing to write.
const LOOK: Duration = Duration::from_millis(100);

/// How long after a merge that could not be made the next one is tried.
const MERGE_RETRY: Duration = Duration::from_secs(10);

impl Writer {
    /// How long to wait for jobs at most, before [`Writer::write`] has something to do by itself.
    pub(in crate::storage) fn attends_in(&self) -> Option<Duration> {
        let expired = self.expired_since.map(|since| {
            let wait = self.options.expired_wait;
            // The successor may have to be waited for.
            wait.saturating_sub(since.elapsed()).max(LOOK)
        });
        let merging = self.merging.as_ref().map(|_| LOOK);
        let hands = self.hands.attend_in(&self.options, &self.health);
        expired.into_iter().chain(merging).chain(hands).min()
    }

    /// Whether the active segment has held much that was trimmed for long.
    pub(super) fn is_overdue(&self) -> bool {
        let wait = self.options.expired_wait;
        (self.expired_since).is_some_and(|since| since.elapsed() >= wait)
    }

    /// A flush with the merged segment whose turn it is, if there is one.
    pub(super) fn take_merged(&mut self, flush: &Flush) -> Option<Flush> {
        let outcome = match self.merging.as_ref()?.try_recv() {
            Ok(outcome) => outcome,
            Err(TryRecvError::Empty) => return None,
            // It could not be begun; a later flush asks again.
            Err(TryRecvError::Disconnected) => Err(Vec::new()),
        };
        self.merging = None;
        match outcome {
            // The file may have been taken for one that nothing names.
            Ok(merged) if merged.generation != self.generation => {
                self.drop_merged(&merged);
                None
            }
            Ok(merged) => {
                let mut with_merged = Flush::default();
                with_merged.append(flush);
                with_merged.merged = Some(Arc::new(merged));
                Some(with_merged)
            }
            Err(unreadable) => {
                self.merges_from = Some(Instant::now() + MERGE_RETRY);
                self.unreadable.extend(unreadable);
                None
            }
        }
    }

    fn drop_merged(&mut self, merged: &Merged) {
        let name = layout::segment_name(merged.number);
        self.hands.give(Chore::Unlink(vec![name]));
    }

    /// Lets go what nothing names since a flush that is durable, and sees what else is worth it.
    pub(super) fn give_back(&mut self, active: &Active, flush: &Flush) {
        let tally = &active.tally;
        if let Some(merged) = &flush.merged
            && !tally.sealed.contains_key(&merged.number)
        {
            // All that it holds was trimmed meanwhile.
            self.drop_merged(merged);
        }
        if !self.dead.is_empty() {
            let dead = std::mem::take(&mut self.dead);
            self.hands.give(Chore::Release(dead));
            self.space_checked = None;
        }
        let expired =
            tally.expired >= self.options.dead_bytes && tally.expired > tally.contents.payload / 2;
        if expired && self.expired_since.is_none() {
            self.expired_since = Some(Instant::now());
        }
        let may_merge = self.merges_from.is_none_or(|from| from <= Instant::now());
        if self.merging.is_none() && may_merge {
            self.order_merge(active);
        }
    }

    fn order_merge(&mut self, active: &Active) {
        let options = &self.options;
        let (sources, live) = merge::worthwhile(
            &active.tally,
            &self.unreadable,
            options.dead_bytes,
            options.segment_bytes,
        );
        if sources.is_empty() {
            return;
        }
        self.floor += 1;
        let (reply, merging) = mpsc::channel();
        self.merging = Some(merging);
        self.hands.give(Chore::Merge(Box::new(Order {
            number: layout::FIRST_MERGED + self.floor,
            generation: self.generation,
            identity: self.identity,
            sources,
            live,
            active: active.segment.clone(),
            reply,
        })));
    }
}

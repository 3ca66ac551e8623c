//! Searching: fetches with a filter, which look through much to give little.
//!
//! ```text
//!            .--> nothing of what memory has may match, by the heads --.
//! fetch -----+                                                        v
//!   ^        '--> the pool: parse, read, match --> nothing --> is it the end?
//!   |                          |                               yes |  | no, but enough for
//!   |                          v                                   |  v  one answer
//!   |                    answer: SOME                              |  answer: PASSED
//!   '---- a commit wakes it <---------- wait, or answer: EMPTY <---'
//! ```
//!
//! Matching never runs on the topic's thread, not even what is in memory; few searches run at once,
//! so that reads find a place beside them. A batch from the disk is read and its checksums are
//! checked before its head is believed, since severity and timestamps stand under the producer's
//! CRC, which spans the batch; what its head rules out is not decoded. A batch in memory is not
//! touched at all. Its neighbours: [`filter`](super::filter) picks records out,
//! [`serving`](super::serving) hands over fetches and lets them wait.

use std::sync::Arc;

use actix::Context;
use bytes::Bytes;
use logdrive_protocol::operations::{Answer, Delivered, Fetch, Gap, Setting};
use logdrive_protocol::{ErrorCode, Failure, Position, TopicId};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::actor::Topic;
use super::filter::{Filter, Selected, Selection};
use super::log::Slice;
use super::serving::{Waiter, byte_limit, deadline, read_failure};
use super::state::Resolved;
use crate::limits::{
    MAX_WAITING_GREPS, SEARCH_BATCHES, SEARCH_BYTES, SEARCH_READ_BYTES, SEARCH_TIME,
};
use crate::reply::Reply;
use crate::storage::Reader;

/// A fetch with a filter, on its way through the topic.
#[derive(Debug)]
pub struct Search {
    fetch: Fetch,
    /// Where it goes on; everything before it was looked through.
    pub(super) next: u64,
    /// Compiled once for the whole way.
    filter: Option<Arc<Filter>>,
    /// Bytes that it has looked through.
    looked: usize,
    /// What a regular expression that waits holds.
    place: Option<OwnedSemaphorePermit>,
}

impl Search {
    pub(super) fn new(fetch: &Fetch, from: u64) -> Self {
        Self {
            fetch: fetch.clone(),
            next: from,
            filter: None,
            looked: 0,
            place: None,
        }
    }
}

/// What is to be looked through, away from the topic's thread.
#[derive(Debug)]
pub struct Look {
    /// Compiled, or what is to be compiled.
    pub filter: Result<Arc<Filter>, Vec<Setting>>,
    /// Where to begin.
    pub from: u64,
    /// Where to end.
    pub end: u64,
    /// At most so many records; 0 for no limit.
    pub max_records: u32,
    /// At most so many bytes, but always one batch.
    pub max_bytes: usize,
    /// Bytes to look through before it gives up.
    pub budget: usize,
    /// Where the batches come from.
    pub source: Source,
}

/// Where batches come from.
#[derive(Debug)]
pub enum Source {
    /// The topic's memory: batches up to an offset. Those whose heads rule them out may be missing;
    /// [`Selected::passed`] does not count them then.
    Memory(Vec<Bytes>, u64),
    /// The disk.
    Disk(Reader, TopicId),
}

/// What came of it.
#[derive(Debug)]
pub struct Found {
    /// For the next time.
    pub filter: Arc<Filter>,
    /// What matches, and where the search goes on.
    pub selected: Selected,
    /// Bytes that were looked through.
    pub looked: usize,
    /// Whether a limit ended it, or damage that lies at its `next`.
    pub is_cut: bool,
}

impl Look {
    /// Looks; blocks on the disk and keeps a processor busy.
    ///
    /// # Errors
    /// `INVALID_FILTER`; those of a read, if nothing before it was looked through.
    pub fn run(self) -> Result<Found, Failure> {
        let filter = match self.filter {
            Ok(filter) => filter,
            Err(settings) => Arc::new(Filter::parse(&settings)?.unwrap_or_default()),
        };
        let mut selection = Selection::new(self.from, self.end, self.max_records, self.max_bytes);
        let (mut looked, mut is_cut) = (0, false);
        let began = Instant::now();
        let is_over = || began.elapsed() >= SEARCH_TIME;
        match self.source {
            Source::Memory(batches, next) => {
                is_cut = !look_at(&mut selection, &filter, &batches, &mut looked, &is_over);
                if !is_cut {
                    // What stands behind the last of them was ruled out.
                    selection.selected.next = selection.selected.next.max(next);
                }
            }
            Source::Disk(reader, topic) => {
                while selection.selected.next < self.end && !is_cut {
                    let next = selection.selected.next;
                    let read = match reader.read(topic, next, self.end, SEARCH_READ_BYTES) {
                        Ok(read) => read.batches,
                        Err(error) if next == self.from => return Err(read_failure(error)),
                        Err(_) => Vec::new(),
                    };
                    is_cut = !look_at(&mut selection, &filter, &read, &mut looked, &is_over)
                        || selection.selected.next == next
                        || looked >= self.budget
                        || is_over();
                }
            }
        }
        Ok(Found {
            filter,
            selected: selection.selected,
            looked,
            is_cut,
        })
    }
}

/// Looks through batches; false if a limit of the answer, or its time, ended it.
fn look_at(
    selection: &mut Selection,
    filter: &Filter,
    batches: &[Bytes],
    looked: &mut usize,
    is_over: &dyn Fn() -> bool,
) -> bool {
    batches.iter().all(|batch| {
        *looked += batch.len();
        selection.look(filter, batch, is_over)
    })
}

impl Topic {
    /// Goes on with a search that has waited.
    pub(super) fn search_on(
        &mut self,
        search: Search,
        until: Option<Instant>,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        let from = Position::Offset(search.next);
        match self.state.resolve(from, 0) {
            Ok(Resolved::Offset(next, _)) => {
                let gaps = self.gap_before(from);
                self.search(Search { next, ..search }, gaps, until, reply, ctx);
            }
            Ok(Resolved::Time(_)) => {}
            Err(failure) => reply.fail(failure),
        }
    }

    /// Looks on from where a search is; `gaps` lie before that.
    pub(super) fn search(
        &mut self,
        mut search: Search,
        gaps: Vec<Gap>,
        until: Option<Instant>,
        mut reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        if reply.is_gone() {
            return;
        }
        let until = until.or_else(|| deadline(search.fetch.max_wait_ms));
        let (from, end) = (search.next, self.state.log.visible().offset);
        let may_match = |head: &_| match &search.filter {
            Some(filter) => filter.may_match(head),
            None => true,
        };
        let source = match self.state.log.candidates(from, SEARCH_BATCHES, may_match) {
            Some((batches, next)) if batches.is_empty() && search.filter.is_some() => {
                search.next = next;
                return self.found_nothing(search, gaps, false, until, reply, ctx);
            }
            Some((batches, next)) => Source::Memory(batches, next),
            None => {
                self.counts.cold_reads += 1;
                Source::Disk(self.around.storage.reader(), self.state.id)
            }
        };
        let max_bytes = byte_limit(search.fetch.max_bytes);
        let look = Look {
            filter: search
                .filter
                .clone()
                .ok_or_else(|| search.fetch.filter.clone()),
            from,
            end,
            max_records: search.fetch.max_records,
            max_bytes,
            budget: SEARCH_BYTES.saturating_sub(search.looked),
            source,
        };
        let pool = self.around.pool.clone();
        let looked = async move {
            let mut place = pool.place_to_search().await;
            if !reply.try_reserve(max_bytes) {
                // A slow reader keeps no place while it reads what it was sent.
                drop(place);
                if !reply.reserve(max_bytes).await {
                    return None;
                }
                place = pool.place_to_search().await;
            }
            let found = pool.run(move || look.run()).await;
            drop(place);
            Some((
                reply,
                found.unwrap_or_else(|error| Err(unavailable(&error))),
            ))
        };
        Self::spawn_then(ctx, looked, move |topic, looked, ctx| {
            if let Some((reply, found)) = looked {
                topic.found(search, found, gaps, until, reply, ctx);
            }
        });
    }

    fn found(
        &mut self,
        mut search: Search,
        found: Result<Found, Failure>,
        gaps: Vec<Gap>,
        until: Option<Instant>,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        let found = match found {
            Ok(found) => found,
            Err(failure) => {
                let is_trimmed = search.next < self.state.log.start().offset;
                if failure.code == ErrorCode::DataDamaged && is_trimmed {
                    // It was removed while it was read: that is a gap, not damage.
                    return self.search_on(search, until, reply, ctx);
                }
                return reply.fail(failure);
            }
        };
        let has_moved = found.selected.next > search.next;
        search.filter = Some(found.filter);
        search.looked += found.looked;
        search.next = found.selected.next;
        if found.selected.ranges.is_empty() {
            if !has_moved && search.next < self.state.log.visible().offset {
                let what = anyhow::anyhow!("a read gave nothing at offset {}", search.next);
                return reply.fail(unavailable(&what));
            }
            return self.found_nothing(search, gaps, found.is_cut, until, reply, ctx);
        }
        self.counts.fetched += found.selected.record_count();
        let delivered = Delivered {
            next: found.selected.next,
            ranges: found.selected.ranges,
            batches: found.selected.batches,
            ..self.delivered(Slice::default(), gaps)
        };
        reply.answer(Answer::Fetch(delivered));
    }

    /// Nothing before `search.next` matches: answers so, looks on, or waits for more.
    fn found_nothing(
        &mut self,
        mut search: Search,
        gaps: Vec<Gap>,
        is_cut: bool,
        until: Option<Instant>,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        let is_end = search.next >= self.state.log.visible().offset;
        let is_enough = is_cut || search.looked >= SEARCH_BYTES;
        if !gaps.is_empty() || (!is_end && is_enough) {
            let status = if gaps.is_empty() {
                Delivered::PASSED
            } else {
                Delivered::SOME
            };
            let passed = Delivered {
                status,
                next: search.next,
                ..self.delivered(Slice::default(), gaps)
            };
            return reply.answer(Answer::Fetch(passed));
        }
        if !is_end {
            return self.search_on(search, until, reply, ctx);
        }
        if reply.is_gone() {
            return;
        }
        let has_grep = search.filter.as_ref().is_some_and(|it| it.has_grep());
        if has_grep && until.is_some() && search.place.is_none() {
            search.place = self.around.pool.keep_grep();
            if search.place.is_none() {
                let message = format!(
                    "{MAX_WAITING_GREPS} fetches with a regular expression wait for records"
                );
                let failure = Failure::new(ErrorCode::LimitReached, message);
                return reply.fail(failure.hint("fetch without a wait, again and again"));
            }
        }
        self.wait(until, reply, ctx, |at, reply| {
            Waiter::Search(Box::new(search), at, reply)
        });
    }
}

fn unavailable(error: &anyhow::Error) -> Failure {
    tracing::error!(?error, "a search failed");
    let message = format!("the records cannot be looked through now: {error}");
    Failure::new(ErrorCode::Unavailable, message).hint("retry")
}

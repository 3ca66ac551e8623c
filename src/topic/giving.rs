//! Giving records to consumers: what was asked for is planned, read, looked at, given.
//!
//! ```text
//!            .--> memory ---------------.
//!   plan ----+--> disk, on the pool ----+--> filter, on the pool --> stage the move --> commit: answer
//!     ^      '--> a dead letter --------'                              |
//!     '------------- something has changed meanwhile, or all was passed over
//! ```
//!
//! A failed read moves nothing. Its neighbours: [`consuming`](super::consuming) keeps the line and
//! calls it, [`Consumer`](super::consumer::Consumer) chooses what to give.

use std::ops::Range;

use actix::Context;
use bytes::Bytes;
use logdrive_protocol::batch::Head;
use logdrive_protocol::limits::{MAX_FETCH_BYTES, MAX_RECORD_BYTES};
use logdrive_protocol::operations::{self, Answer, Consume, Delivered, Gap};
use logdrive_protocol::{ConsumerId, ErrorCode, Failure};
use tokio::time::Instant;

use super::actor::{Parked, Topic};
use super::consumer::taking::{Enough, Found};
use super::consumer::workers::Taker;
use super::consumer::{Plan, Seen, Turn, Wish, ranges_of};
use super::consuming::InLine;
use super::log::Slice;
use super::requeue::copy_of;
use super::serving::{Waiter, byte_limit, read_failure};
use crate::limits::{
    LOOK_FOR_KEYS_RECORDS, MAX_RANGES, SEARCH_BYTES, SEARCH_FIRST_RECORDS, SEARCH_READ_BYTES,
    SEARCH_TIME,
};
use crate::reply::Reply;
use crate::storage::{JobKind, ReadError};

/// A read that was begun for a consume.
#[derive(Debug)]
struct Begun {
    consume: Consume,
    leased: bool,
    deadline: Option<Instant>,
    searched: Searched,
    turn: Turn,
    generation: u64,
    reply: Reply,
}

/// How much a consume has looked through that its filter does not want.
#[derive(Clone, Copy, Debug, Default)]
pub struct Searched {
    began: Option<Instant>,
    bytes: usize,
}

impl Searched {
    /// One more step begins now.
    fn add(&mut self, now: Instant, bytes: usize) {
        self.began.get_or_insert(now);
        self.bytes += bytes;
    }

    /// Whether that is enough for one answer.
    fn is_over(&self, deadline: Option<Instant>) -> bool {
        let now = Instant::now();
        self.began.is_some_and(|began| {
            let is_late = deadline.is_some_and(|deadline| now >= deadline);
            is_late || now - began >= SEARCH_TIME || self.bytes >= SEARCH_BYTES
        })
    }
}

fn taker(consume: &Consume) -> Taker {
    Taker {
        consumer: consume.consumer,
        worker: consume.worker,
        sequence: consume.sequence,
    }
}

/// How many records and bytes are read at once for a filter to look through. What the request may
/// take says nothing about how much must be looked through for it; the first portion is smaller,
/// because where much matches it is enough.
fn portion_to_search(begun: &Begun) -> (u32, usize) {
    let most = match begun.consume.max_records {
        0 => 0,
        most if begun.searched.bytes == 0 => most.max(SEARCH_FIRST_RECORDS),
        _ => 0,
    };
    (
        most,
        byte_limit(begun.consume.max_bytes).max(SEARCH_READ_BYTES),
    )
}

impl Topic {
    /// Serves one consume at the front of its line.
    pub(super) fn take(
        &mut self,
        consume: Consume,
        until: Option<Instant>,
        searched: Searched,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        if reply.is_gone() {
            return;
        }
        let now = self.clock.now();
        let turn = match self.state.consumers.turn(taker(&consume), now) {
            Ok(turn) => turn,
            Err(failure) => return self.refuse(consume.consumer.0, failure, reply),
        };
        let begun = Begun {
            leased: consume.lease_ms > 0,
            consume,
            deadline: until,
            searched,
            turn,
            generation: self.generation(),
            reply,
        };
        if begun.leased {
            let connection = begun.reply.connection();
            let (id, worker) = (begun.consume.consumer, begun.consume.worker);
            if !worker.is_none() {
                self.state.consumers.heard(id, worker, 0, connection);
            }
        }
        let Turn::Next { next } = turn else {
            return self.read_again(begun, ctx);
        };
        let end = self.state.log.end().offset;
        let id = begun.consume.consumer;
        let Ok(consumer) = self.state.consumers.get(id) else {
            return;
        };
        let closely = consumer.looks_closely(begun.leased);
        let filters = consumer.looks().filter.is_some();
        let keyed = consumer.looks().keyed;
        match consumer.plan(end, begun.leased, now) {
            Plan::Empty | Plan::Held => {
                let Begun { consume, reply, .. } = begun;
                self.wait(until, reply, ctx, |at, reply| {
                    Waiter::Consume(consume, at, reply)
                });
            }
            Plan::Tell => self.give(begun, Slice::at(next), ctx),
            Plan::Copy(offset) => self.read_copy(begun, offset, ctx),
            Plan::Read(from) => {
                let max_bytes = byte_limit(begun.consume.max_bytes);
                let (max_records, max_bytes) = if closely && from < next {
                    // Those in between may be others'.
                    (0, max_bytes)
                } else if filters {
                    portion_to_search(&begun)
                } else if keyed {
                    // Many may be set aside for one that can be had, and all at once.
                    let most = match begun.consume.max_records {
                        0 => 0,
                        most => most.max(LOOK_FOR_KEYS_RECORDS),
                    };
                    (most, max_bytes)
                } else {
                    (begun.consume.max_records, max_bytes)
                };
                let visible = self.state.log.visible().offset;
                let limits = (max_records, max_bytes);
                self.read_for(begun, from..visible, limits, ctx);
            }
        }
    }

    /// Reads the answer that a worker asks for again. The limits of the request are not looked at:
    /// it is the same answer.
    fn read_again(&mut self, begun: Begun, ctx: &mut Context<Self>) {
        let Turn::Again {
            from, to, lease, ..
        } = begun.turn
        else {
            return;
        };
        let left = self.ranges_again(&begun);
        if lease != 0 && left.is_empty() {
            // Others have it, or it is acked; what the answer told of gaps is told again.
            return self.give(begun, Slice::at(to), ctx);
        }
        let (from, to) = match (lease, left.first(), left.last()) {
            (0, ..) | (_, None, _) | (_, _, None) => (from, to),
            (_, Some(first), Some(last)) => (first.from, last.to),
        };
        let copied = |id| self.state.consumers.get(id).ok()?.copy(from);
        if lease != 0 && copied(begun.consume.consumer).is_some() {
            return self.read_copy(begun, from, ctx);
        }
        // What was removed since then cannot be given again: it is told as a gap.
        let from = from.max(self.state.log.start().offset);
        if from >= to {
            return self.give(begun, Slice::at(to), ctx);
        }
        let in_memory = self.state.log.read_staged(from, 0, usize::MAX);
        if in_memory.is_none() && to > self.state.log.visible().offset {
            // Neither memory nor the disk has all of it: a shorter answer would pass over the rest.
            let message = "the answer that is asked for again is on its way to the disk";
            let failure = Failure::new(ErrorCode::Unavailable, message);
            return begun.reply.fail(failure.hint("ask again"));
        }
        let count = u32::try_from(to - from).unwrap_or(u32::MAX);
        self.read_for(begun, from..to, (count, usize::MAX), ctx);
    }

    /// Reads from memory, or from the disk as far as `offsets` say, and gives it.
    fn read_for(
        &mut self,
        mut begun: Begun,
        offsets: Range<u64>,
        (max_records, max_bytes): (u32, usize),
        ctx: &mut Context<Self>,
    ) {
        let from = offsets.start;
        let in_memory = self.state.log.read_staged(from, max_records, max_bytes);
        let share = in_memory.as_ref().map_or_else(
            || max_bytes.min(MAX_FETCH_BYTES as usize),
            Slice::stored_bytes,
        );
        let id = begun.consume.consumer;
        if !begun.reply.try_reserve(share) {
            return Self::pass_over(id, begun, share, ctx);
        }
        if let Some(slice) = in_memory {
            return self.give(begun, slice, ctx);
        }
        self.counts.cold_reads += 1;
        self.set_busy(id, true);
        let end = offsets.end;
        let read = self.read_cold(from, end, max_bytes);
        Self::spawn_then(ctx, read, move |topic, read, ctx| {
            topic.set_busy(id, false);
            match read {
                Ok(batches) => {
                    let batches = batches.into_iter();
                    let slice = Slice::of(from, end, max_records, max_bytes, batches);
                    topic.give(begun, slice, ctx);
                }
                // Not damage: it was removed meanwhile, and the consumer is told so.
                Err(_) if from < topic.state.log.staged_start().0.offset => {
                    topic.back_to_front(begun);
                }
                Err(failure) => {
                    topic.note_damage(id, &failure);
                    begun.reply.fail(failure);
                }
            }
            topic.serve_line(id, ctx);
        });
    }

    /// It lines up again when its connection has read what it was sent.
    fn pass_over(id: ConsumerId, begun: Begun, share: usize, ctx: &mut Context<Self>) {
        let Begun {
            consume,
            deadline,
            searched,
            reply,
            ..
        } = begun;
        Self::reserve_then(ctx, reply, share, move |topic, reply, ctx| {
            topic.line_up(id, InLine::Consume(consume, deadline, searched, reply), ctx);
        });
    }

    /// Reads a record that retention has taken from its dead letter, and gives it.
    fn read_copy(&mut self, mut begun: Begun, offset: u64, ctx: &mut Context<Self>) {
        let id = begun.consume.consumer;
        let copy = self.state.consumers.get(id).ok();
        let Some(at) = copy.and_then(|it| it.copy(offset)).cloned() else {
            return self.lose_copy(begun, offset);
        };
        // A dead letter may be as long as a record.
        let share = MAX_RECORD_BYTES as usize;
        if !begun.reply.try_reserve(share) {
            return Self::pass_over(id, begun, share, ctx);
        }
        self.counts.cold_reads += 1;
        self.set_busy(id, true);
        let (reader, pool) = (self.around.storage.reader(), self.around.pool.clone());
        let topic = self.state.id;
        let read = async move {
            let read = pool.run(move || copy_of(&reader, &at, topic, offset)).await;
            read.map_err(ReadError::Unavailable).flatten()
        };
        Self::spawn_then(ctx, read, move |topic, read, ctx| {
            topic.set_busy(id, false);
            match read {
                Ok(batch) => {
                    let slice = Slice {
                        from: offset,
                        to: offset + 1,
                        batches: vec![batch],
                    };
                    topic.give(begun, slice, ctx);
                }
                Err(ReadError::Damaged { .. }) => topic.lose_copy(begun, offset),
                Err(error) => begun.reply.fail(read_failure(error)),
            }
            topic.serve_line(id, ctx);
        });
    }

    /// The dead letter is gone too: the consumer is told of a gap, with its next answer.
    fn lose_copy(&mut self, begun: Begun, offset: u64) {
        if let Err(failure) = self.check_writable() {
            return begun.reply.fail(failure);
        }
        match self.state.lose_copy(begun.consume.consumer, offset) {
            Ok(change) => {
                self.submit(change, JobKind::Change);
                self.back_to_front(begun);
            }
            Err(failure) => begun.reply.fail(failure),
        }
    }

    /// What is left of the answer that is asked for again, as ranges.
    fn ranges_again(&self, begun: &Begun) -> Vec<operations::Range> {
        match begun.turn {
            Turn::Again {
                from, to, lease: 0, ..
            } => {
                let all = operations::Range {
                    from,
                    to,
                    ..operations::Range::default()
                };
                [all].into_iter().filter(|all| all.to > all.from).collect()
            }
            Turn::Again { lease, .. } => {
                let consumer = self.state.consumers.get(begun.consume.consumer);
                consumer.map_or_else(|_| Vec::new(), |it| it.ranges_of_lease(lease))
            }
            Turn::Next { .. } => Vec::new(),
        }
    }

    /// Gives what was read: stages the move, whose commit answers. What has changed while the read
    /// was under way sends the request back to the front of its line.
    fn give(&mut self, begun: Begun, slice: Slice, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let asked = taker(&begun.consume);
        let id = asked.consumer;
        if begun.generation != self.generation()
            || self.state.consumers.turn(asked, now) != Ok(begun.turn)
        {
            return self.back_to_front(begun);
        }
        // Who has left in the meantime would lose what is taken now.
        if begun.reply.is_gone() {
            return;
        }
        if let Err(failure) = self.check_writable() {
            return begun.reply.fail(failure);
        }
        match begun.turn {
            Turn::Again { lease, ticket, .. } => {
                let mut ranges = self.ranges_again(&begun);
                let consumer = self.state.consumers.get(id);
                let looks = consumer.as_ref().ok().map(|it| it.looks().clone());
                if let Some(looks) = looks.filter(|it| lease == 0 && it.filter.is_some()) {
                    // The filter chooses the same again; this is rare, and one answer long.
                    let found = looks.look(&slice.batches, slice.from..slice.to, Enough::NEVER);
                    let wanted = found.iter().filter(|it| it.wanted);
                    ranges = ranges_of(&wanted.map(|it| it.entry).collect::<Vec<_>>(), 0);
                }
                let mut gaps = consumer.map_or_else(|_| Vec::new(), |it| it.gaps_told(asked, now));
                let start = self.state.log.start();
                let is_given = slice.from < start.offset && slice.to > slice.from;
                let removed = |first: &&operations::Range| first.from < start.offset && !is_given;
                if let Some(first) = ranges.first().filter(removed) {
                    // What a lease holds is told of when the lease is over.
                    if lease == 0 {
                        gaps.extend(self.removed_since(first.from, &ranges));
                    }
                    ranges.retain(|range| range.to > start.offset);
                    if let Some(first) = ranges.first_mut() {
                        first.from = first.from.max(start.offset);
                    }
                }
                let connection = begun.reply.connection();
                self.state
                    .consumers
                    .heard(id, asked.worker, lease, connection);
                let last = ranges.last().map(|range| range.to);
                let next = last.or(gaps.last().map(|gap| gap.to)).unwrap_or_default();
                let answer = self.taken(next, ranges, gaps, slice.batches);
                if ticket <= self.state.committed() {
                    begun.reply.answer(answer);
                } else {
                    self.park(ticket, Parked::Answer(begun.reply, answer));
                }
            }
            Turn::Next { next } => self.give_next(begun, next, slice, ctx),
        }
    }

    fn give_next(&mut self, mut begun: Begun, next: u64, slice: Slice, ctx: &mut Context<Self>) {
        let id = begun.consume.consumer;
        let Ok(consumer) = self.state.consumers.get(id) else {
            return;
        };
        let looks = consumer.looks().clone();
        let is_next = slice.from == next && slice.to > slice.from;
        if !consumer.looks_closely(begun.leased) && is_next {
            return self.give_found(begun, slice, None, ctx);
        }
        if looks.filter.is_none() {
            let found = looks.look(&slice.batches, next..slice.to, Enough::NEVER);
            return self.give_found(begun, slice, Some(found), ctx);
        }
        // Matching keeps a processor busy, which must not be the topic's.
        self.set_busy(id, true);
        let pool = self.around.pool.clone();
        let (batches, to) = (slice.batches.clone(), slice.to);
        let enough = Enough {
            records: begun.consume.max_records,
            bytes: byte_limit(begun.consume.max_bytes),
            ranges: MAX_RANGES,
            time: SEARCH_TIME,
        };
        begun.searched.add(Instant::now(), slice.stored_bytes());
        let looked = async move {
            let place = pool.place_to_search().await;
            let look = move || looks.look(&batches, next..to, enough);
            let found = pool.run(look).await;
            drop(place);
            found
        };
        Self::spawn_then(ctx, looked, move |topic, found, ctx| {
            topic.set_busy(id, false);
            match found {
                Ok(found) => topic.give_found(begun, slice, Some(found), ctx),
                Err(error) => {
                    let failure = read_failure(ReadError::Unavailable(error));
                    begun.reply.fail(failure);
                }
            }
            topic.serve_line(id, ctx);
        });
    }

    /// Gives what was looked at, unless something has changed meanwhile.
    fn give_found(
        &mut self,
        begun: Begun,
        slice: Slice,
        found: Option<Vec<Found>>,
        ctx: &mut Context<Self>,
    ) {
        let now = self.clock.now();
        let asked = taker(&begun.consume);
        let has_changed = begun.generation != self.generation()
            || self.state.consumers.turn(asked, now) != Ok(begun.turn);
        if has_changed {
            return self.back_to_front(begun);
        }
        if begun.reply.is_gone() {
            return;
        }
        if let Err(failure) = self.check_writable() {
            return begun.reply.fail(failure);
        }
        let content = match &found {
            None => self.state.log.content(&slice),
            Some(_) => 0,
        };
        let seen = Seen {
            window: slice.from..slice.to,
            content,
            found,
        };
        let wish = Wish {
            max_records: begun.consume.max_records,
            lease: u64::from(begun.consume.lease_ms) * 1000,
            connection: begun.reply.connection(),
        };
        match self.state.take(asked, wish, &seen, now) {
            Ok((taken, change)) if taken.is_empty() => {
                // All of it was passed over or set aside: on to what follows, as far as one request
                // may go. The answer says how far it came, so it waits for the move to be durable.
                let end = self.state.log.end().offset;
                let consumer = self.state.consumers.get(asked.consumer).ok();
                let plan = consumer.map(|it| (it.next().offset, it.plan(end, begun.leased, now)));
                match plan {
                    Some((next, Plan::Read(from)))
                        if from == next && begun.searched.is_over(begun.deadline) =>
                    {
                        let passed = Delivered {
                            status: Delivered::PASSED,
                            next,
                            ..self.delivered(Slice::default(), Vec::new())
                        };
                        self.commit_then(change, begun.reply, Answer::Consume(passed));
                    }
                    _ => {
                        self.submit(change, JobKind::Change);
                        self.back_to_front(begun);
                    }
                }
            }
            Ok((taken, change)) => {
                let records = taken.ranges.iter().map(|range| range.to - range.from);
                self.counts.consumed += records.sum::<u64>();
                let consumer = self.state.consumers.get(asked.consumer);
                let next = consumer.map_or(0, |it| it.next().offset);
                let answer = self.taken(next, taken.ranges, taken.gaps, slice.batches);
                self.commit_then(change, begun.reply, answer);
                self.watch_leases(ctx);
            }
            Err(failure) => begun.reply.fail(failure),
        }
    }

    fn back_to_front(&mut self, begun: Begun) {
        let Begun {
            consume,
            deadline,
            searched,
            mut reply,
            ..
        } = begun;
        // What is read next may be more.
        reply.release_share();
        let line = self.lines.entry(consume.consumer).or_default();
        line.queue
            .push_front(InLine::Consume(consume, deadline, searched, reply));
    }

    /// The answer with these ranges, and those batches that have something of them.
    fn taken(
        &self,
        next: u64,
        ranges: Vec<operations::Range>,
        gaps: Vec<Gap>,
        mut batches: Vec<Bytes>,
    ) -> Answer {
        let is_meant = |batch: &Bytes| {
            let Some(head) = Head::parse(batch) else {
                return false;
            };
            let at = ranges.partition_point(|range| range.to <= head.base_offset);
            ranges
                .get(at)
                .is_some_and(|range| range.from < head.end_offset())
        };
        batches.retain(is_meant);
        Answer::Consume(Delivered {
            high_watermark: self.state.log.visible().offset,
            log_start: self.state.log.start().offset,
            next,
            gaps,
            ranges,
            batches,
            ..Delivered::default()
        })
    }

    /// What was removed of an answer that is asked for again.
    fn removed_since(&self, from: u64, ranges: &[operations::Range]) -> Vec<Gap> {
        let end = ranges.last().map_or(from, |last| last.to);
        let gaps = self.state.gaps(from).into_iter();
        gaps.filter(|gap| gap.from < end)
            .map(|gap| {
                let to = gap.to.min(end);
                let records = gap.records.min(to - gap.from);
                Gap { to, records, ..gap }
            })
            .collect()
    }

    /// Remembers what a consumer could not read: a seek past it is told as a gap.
    fn note_damage(&mut self, id: ConsumerId, failure: &Failure) {
        if failure.code == ErrorCode::DataDamaged {
            self.damaged.insert(id, failure.first..failure.second);
        }
    }
}

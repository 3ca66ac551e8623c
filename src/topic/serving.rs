//! Giving records: fetches, and the lines in which the requests of each consumer stand.
//!
//! ```text
//!              .--> tail ----------------------------.
//! fetch -------+--> share of the window -> cold read -+--> answer
//!              '--> wait for records, or the deadline
//!
//! consume -> line of its consumer -> turn -> read as above -> stage the move -> commit -> answer
//! seek, unregister --^   one at a time: a cold read holds up its own line, and no other
//! ```
//!
//! Reading comes first, then the move is staged, then its commit answers: a failed read moves
//! nothing. A request whose share of the window is not there is passed over, so that a slow reader
//! stops only itself. Its neighbours: the [actor](super::actor) and the storage's reader.

use std::collections::VecDeque;

use actix::Context;
use bytes::Bytes;
use logdrive_protocol::limits::{DEFAULT_FETCH_BYTES, MAX_FETCH_BYTES, MAX_WAIT_MS};
use logdrive_protocol::operations::{
    Answer, CancelPassed, Consume, ConsumerUnregistered, Delivered, Fetch, Gap, Range, Sought,
};
use logdrive_protocol::{ConsumerId, ErrorCode, Failure, Position, WorkerId};
use tokio::time::{Duration, Instant};

use super::actor::{Parked, Told, Topic};
use super::consumers::{Taker, Turn};
use super::log::{Mark, Slice};
use super::requests::{point_mark, unsupported};
use super::state::Resolved;
use super::waiting;
use crate::limits::MAX_WAITING;
use crate::reply::{ConnectionId, Reply};
use crate::storage::{At, JobKind, ReadError, Totals};

/// Requests of one consumer that change its cursor.
#[derive(Debug, Default)]
pub struct Line {
    queue: VecDeque<InLine>,
    /// A read for the request that is being served is under way.
    busy: bool,
}

/// A request in the line of its consumer.
#[derive(Debug)]
pub enum InLine {
    /// Take records; the instant is its deadline.
    Consume(Consume, Option<Instant>, Reply),
    /// Move the cursor.
    Seek(Position, Reply),
    /// Remove the consumer.
    Unregister(Reply),
}

impl InLine {
    fn into_reply(self) -> Reply {
        match self {
            Self::Consume(_, _, reply) | Self::Seek(_, reply) | Self::Unregister(reply) => reply,
        }
    }
}

impl Line {
    /// Answers all that stand in it with an error.
    pub fn fail_all(self, failure: &Failure) {
        for request in self.queue {
            request.into_reply().fail(failure.clone());
        }
    }
}

/// A request that waits for records.
#[derive(Debug)]
pub enum Waiter {
    /// A fetch, from an offset.
    Fetch(Fetch, Instant, Reply),
    /// A consume.
    Consume(Consume, Instant, Reply),
}

impl Waiter {
    /// What is left when it does not wait any more.
    pub fn into_reply(self) -> Reply {
        match self {
            Self::Fetch(_, _, reply) | Self::Consume(_, _, reply) => reply,
        }
    }

    fn reply(&self) -> &Reply {
        match self {
            Self::Fetch(_, _, reply) | Self::Consume(_, _, reply) => reply,
        }
    }

    /// The connection that waits.
    pub fn connection(&self) -> ConnectionId {
        self.reply().connection()
    }
}

impl waiting::Waiter for Waiter {
    fn worker(&self) -> Option<(ConsumerId, WorkerId)> {
        match self {
            Self::Consume(consume, _, _) if !consume.worker.is_none() => {
                Some((consume.consumer, consume.worker))
            }
            _ => None,
        }
    }
}

/// A read that was begun for a consume.
#[derive(Debug)]
struct Begun {
    consume: Consume,
    deadline: Option<Instant>,
    turn: Turn,
    generation: u64,
    reply: Reply,
}

fn deadline(max_wait_ms: u32) -> Option<Instant> {
    let wait = Duration::from_millis(u64::from(max_wait_ms.min(MAX_WAIT_MS)));
    (max_wait_ms > 0).then(|| Instant::now() + wait)
}

fn byte_limit(asked: u32) -> usize {
    let asked = if asked == 0 {
        DEFAULT_FETCH_BYTES
    } else {
        asked
    };
    asked.min(MAX_FETCH_BYTES) as usize
}

fn taker(consume: &Consume) -> Taker {
    Taker {
        consumer: consume.consumer,
        worker: consume.worker,
        sequence: consume.sequence,
    }
}

impl Topic {
    /// Serves a fetch; `until` is its deadline when it has waited before.
    pub(super) fn fetch(
        &mut self,
        fetch: &Fetch,
        until: Option<Instant>,
        mut reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        if reply.is_gone() {
            return;
        }
        let now = self.clock.now();
        let from = match self.state.resolve(fetch.from, now) {
            Ok(Resolved::Offset(from, _)) => from,
            Ok(Resolved::Time(time)) => return self.fetch_later(fetch, time, reply, ctx),
            Err(failure) => return reply.fail(failure),
        };
        let gaps = self.gap_before(fetch.from);
        let max_bytes = byte_limit(fetch.max_bytes);
        if from >= self.state.log.visible().offset && gaps.is_empty() {
            let fetch = Fetch {
                from: Position::Offset(from),
                ..fetch.clone()
            };
            let until = until.or_else(|| deadline(fetch.max_wait_ms));
            return self.wait(until, reply, ctx, |at, reply| {
                Waiter::Fetch(fetch, at, reply)
            });
        }
        match self.state.log.read(from, fetch.max_records, max_bytes) {
            Some(slice) if reply.try_reserve(slice.stored_bytes()) => {
                self.counts.fetched += slice.to - slice.from;
                reply.answer(Answer::Fetch(self.delivered(slice, gaps)));
            }
            Some(slice) => {
                // The reader is slow: come back when it has room.
                let fetch = Fetch {
                    from: Position::Offset(from),
                    ..fetch.clone()
                };
                let len = slice.stored_bytes();
                self.reserve_then(ctx, reply, len, move |topic, reply, ctx| {
                    topic.fetch(&fetch, until, reply, ctx);
                });
            }
            None => self.fetch_cold(fetch, from, gaps, reply),
        }
    }

    fn fetch_later(&self, fetch: &Fetch, time: u64, reply: Reply, ctx: &mut Context<Self>) {
        let located = self.locate(At::Time(time));
        let fetch = fetch.clone();
        self.spawn_then(ctx, located, move |topic, point, ctx| match point {
            Ok(point) => {
                let fetch = Fetch {
                    from: Position::Offset(point.offset),
                    ..fetch
                };
                topic.fetch(&fetch, None, reply, ctx);
            }
            Err(failure) => reply.fail(failure),
        });
    }

    /// Reads from the disk and answers from there: the topic is not involved any more.
    fn fetch_cold(&mut self, fetch: &Fetch, from: u64, gaps: Vec<Gap>, mut reply: Reply) {
        self.counts.cold_reads += 1;
        let (max_bytes, max_records) = (byte_limit(fetch.max_bytes), fetch.max_records);
        let end = self.state.log.visible().offset;
        let read = self.read_cold(from, end, max_bytes);
        let empty = self.delivered(Slice::default(), gaps);
        actix::spawn(async move {
            if !reply.reserve(max_bytes).await {
                return;
            }
            match read.await {
                Ok(batches) => {
                    let slice = Slice::of(from, end, max_records, max_bytes, batches.into_iter());
                    reply.answer(Answer::Fetch(filled(empty, slice)));
                }
                Err(failure) => reply.fail(failure),
            }
        });
    }

    /// Reads `from..end` from the disk, at most `max_bytes` of it but always one batch.
    fn read_cold(
        &self,
        from: u64,
        end: u64,
        max_bytes: usize,
    ) -> impl Future<Output = Result<Vec<Bytes>, Failure>> + use<> {
        let (reader, pool) = (self.around.storage.reader(), self.around.pool.clone());
        let topic = self.state.id;
        async move {
            let read = pool
                .run(move || reader.read(topic, from, end, max_bytes))
                .await;
            match read.map_err(ReadError::Unavailable).flatten() {
                Ok(read) => Ok(read.batches),
                Err(error) => Err(read_failure(error)),
            }
        }
    }

    /// What a fetch below the log's start is told of.
    fn gap_before(&self, from: Position) -> Vec<Gap> {
        let start = self.state.log.start();
        match from {
            Position::Offset(from) if from < start.offset => {
                vec![Gap {
                    from,
                    to: start.offset,
                    records: start.offset - from,
                    ..Gap::default()
                }]
            }
            _ => Vec::new(),
        }
    }

    fn delivered(&self, slice: Slice, gaps: Vec<Gap>) -> Delivered {
        let delivered = Delivered {
            high_watermark: self.state.log.visible().offset,
            log_start: self.state.log.start().offset,
            gaps,
            ..Delivered::default()
        };
        filled(delivered, slice)
    }

    /// Lets a request wait until `until`, or answers it as empty if it does not want to.
    fn wait(
        &mut self,
        until: Option<Instant>,
        mut reply: Reply,
        ctx: &mut Context<Self>,
        waiter: impl FnOnce(Instant, Reply) -> Waiter,
    ) {
        reply.release_share();
        let now = Instant::now();
        let at = until.unwrap_or(now);
        if self.waiting.count() >= MAX_WAITING {
            let message = format!("{MAX_WAITING} requests wait for records of this topic");
            return reply.fail(Failure::new(ErrorCode::LimitReached, message));
        }
        let waiter = waiter(at, reply);
        if at <= now {
            return self.answer_empty(waiter);
        }
        self.waiting.insert(at, waiter);
        self.watch_deadlines(ctx);
    }

    pub(super) fn answer_empty(&mut self, waiter: Waiter) {
        let empty = |next| Delivered {
            status: Delivered::EMPTY,
            next,
            ..self.delivered(Slice::default(), Vec::new())
        };
        match waiter {
            Waiter::Fetch(fetch, _, reply) => {
                let next = match fetch.from {
                    Position::Offset(from) => from,
                    _ => self.state.log.visible().offset,
                };
                reply.answer(Answer::Fetch(empty(next)));
            }
            Waiter::Consume(consume, _, reply) => {
                match self.state.consumers.get(consume.consumer) {
                    Ok(consumer) => {
                        reply.answer(Answer::Consume(empty(consumer.cursor().offset)));
                    }
                    Err(failure) => reply.fail(failure),
                }
            }
        }
    }

    /// There are new records: all that waited are served again, in the order of their arrival.
    pub(super) fn serve_waiting(&mut self, ctx: &mut Context<Self>) {
        for waiter in self.waiting.take_all() {
            match waiter {
                Waiter::Fetch(fetch, until, reply) => self.fetch(&fetch, Some(until), reply, ctx),
                Waiter::Consume(consume, until, reply) => {
                    let id = consume.consumer;
                    self.line_up(id, InLine::Consume(consume, Some(until), reply), ctx);
                }
            }
        }
        self.watch_deadlines(ctx);
    }

    /// Withdraws a waiting request; one that does not wait any more is answered as usual.
    pub(super) fn cancel(&mut self, correlation: u32, reply: Reply, ctx: &mut Context<Self>) {
        let connection = reply.connection();
        let meant = |waiter: &Waiter| {
            waiter.connection() == connection && waiter.reply().correlation() == correlation
        };
        for waiter in self.waiting.take_if(meant) {
            waiter
                .into_reply()
                .fail(cancelled("the client cancelled it"));
        }
        self.watch_deadlines(ctx);
        reply.answer(Answer::Cancel(CancelPassed {}));
    }

    pub(super) fn consume(&mut self, consume: Consume, reply: Reply, ctx: &mut Context<Self>) {
        if consume.lease_ms != 0 {
            return reply.fail(unsupported("leases are not given in this version"));
        }
        if let Err(failure) = self.state.consumers.get(consume.consumer) {
            return self.refuse(consume.consumer.0, failure, reply);
        }
        if let Some(older) = self.waiting.take_worker(consume.consumer, consume.worker) {
            older
                .into_reply()
                .fail(cancelled("the same worker asked anew"));
        }
        let until = deadline(consume.max_wait_ms);
        self.line_up(
            consume.consumer,
            InLine::Consume(consume, until, reply),
            ctx,
        );
    }

    pub(super) fn line_up(&mut self, id: ConsumerId, request: InLine, ctx: &mut Context<Self>) {
        self.lines.entry(id).or_default().queue.push_back(request);
        self.serve_line(id, ctx);
    }

    pub(super) fn serve_all_lines(&mut self, ctx: &mut Context<Self>) {
        let ids: Vec<_> = self.lines.keys().copied().collect();
        for id in ids {
            self.serve_line(id, ctx);
        }
    }

    fn serve_line(&mut self, id: ConsumerId, ctx: &mut Context<Self>) {
        while let Some(line) = self.lines.get_mut(&id).filter(|line| !line.busy) {
            let Some(request) = line.queue.pop_front() else {
                self.lines.remove(&id);
                return;
            };
            if let Err(failure) = self.check_writable() {
                request.into_reply().fail(failure);
                continue;
            }
            match request {
                InLine::Consume(consume, until, reply) => self.take(consume, until, reply, ctx),
                InLine::Seek(to, reply) => self.seek(id, to, reply, ctx),
                InLine::Unregister(reply) => self.unregister_consumer(id, reply),
            }
        }
    }

    fn set_busy(&mut self, id: ConsumerId, busy: bool) {
        self.lines.entry(id).or_default().busy = busy;
    }

    /// Serves one consume at the front of its line.
    fn take(
        &mut self,
        consume: Consume,
        until: Option<Instant>,
        mut reply: Reply,
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
        let (from, max_records, max_bytes) = match turn {
            Turn::Next { from } => (from, consume.max_records, byte_limit(consume.max_bytes)),
            // The limits of a repeated request are not looked at: it is the same answer again.
            Turn::Again { from, to, .. } => (
                from,
                u32::try_from(to - from).unwrap_or(u32::MAX),
                usize::MAX,
            ),
        };
        if matches!(turn, Turn::Next { .. }) && from >= self.state.log.visible().offset {
            return self.wait(until, reply, ctx, |at, reply| {
                Waiter::Consume(consume, at, reply)
            });
        }
        let generation = self.generation();
        let in_memory = self.state.log.read(from, max_records, max_bytes);
        let share = in_memory.as_ref().map_or_else(
            || max_bytes.min(MAX_FETCH_BYTES as usize),
            Slice::stored_bytes,
        );
        if !reply.try_reserve(share) {
            // Passed over: it lines up again when its connection has read what it was sent.
            return self.reserve_then(ctx, reply, share, move |topic, reply, ctx| {
                let id = consume.consumer;
                topic.line_up(id, InLine::Consume(consume, until, reply), ctx);
            });
        }
        let id = consume.consumer;
        let begun = Begun {
            consume,
            deadline: until,
            turn,
            generation,
            reply,
        };
        if let Some(slice) = in_memory {
            return self.give(begun, slice);
        }
        self.counts.cold_reads += 1;
        self.set_busy(id, true);
        let end = match turn {
            Turn::Next { .. } => self.state.log.visible().offset,
            // Its bytes were bounded when it was given first, so its end alone bounds it now.
            Turn::Again { to, .. } => to,
        };
        let read = self.read_cold(from, end, max_bytes);
        self.spawn_then(ctx, read, move |topic, read, ctx| {
            topic.set_busy(id, false);
            match read {
                Ok(batches) => {
                    let batches = batches.into_iter();
                    topic.give(begun, Slice::of(from, end, max_records, max_bytes, batches));
                }
                Err(failure) => begun.reply.fail(failure),
            }
            topic.serve_line(id, ctx);
        });
    }

    /// Gives what was read: stages the move, whose commit answers. What has changed while the read
    /// was under way sends the request back to the front of its line.
    fn give(&mut self, begun: Begun, slice: Slice) {
        let Begun {
            consume,
            deadline,
            turn,
            generation,
            reply,
        } = begun;
        let now = self.clock.now();
        if generation != self.generation()
            || self.state.consumers.turn(taker(&consume), now) != Ok(turn)
        {
            let line = self.lines.entry(consume.consumer).or_default();
            line.queue
                .push_front(InLine::Consume(consume, deadline, reply));
            return;
        }
        if let Err(failure) = self.check_writable() {
            return reply.fail(failure);
        }
        let mark = Mark {
            offset: slice.to,
            totals: self.totals_after(&consume, &slice),
        };
        let answer = Answer::Consume(self.delivered(slice, Vec::new()));
        match turn {
            Turn::Again { ticket, .. } if ticket <= self.state.committed() => reply.answer(answer),
            Turn::Again { ticket, .. } => self.park(ticket, Parked::Answer(reply, answer)),
            Turn::Next { from } => match self.state.advance(taker(&consume), mark, now) {
                Ok(change) => {
                    self.counts.consumed += mark.offset - from;
                    self.commit_then(change, reply, answer);
                }
                Err(failure) => reply.fail(failure),
            },
        }
    }

    fn totals_after(&self, consume: &Consume, slice: &Slice) -> Totals {
        let before = self
            .state
            .consumers
            .get(consume.consumer)
            .map(|it| it.cursor().totals);
        let before = before.unwrap_or_default();
        Totals {
            records: before.records + (slice.to - slice.from),
            bytes: before.bytes + slice.content,
        }
    }

    fn seek(&mut self, id: ConsumerId, to: Position, reply: Reply, ctx: &mut Context<Self>) {
        if let Err(failure) = self.state.consumers.get(id) {
            return self.refuse(id.0, failure, reply);
        }
        let now = self.clock.now();
        let at = match self.state.resolve(to, now) {
            Ok(Resolved::Offset(_, Some(mark))) => return self.move_to(id, mark, reply, ctx),
            Ok(Resolved::Offset(offset, None)) => At::Offset(offset),
            Ok(Resolved::Time(time)) => At::Time(time),
            Err(failure) => return reply.fail(failure),
        };
        self.set_busy(id, true);
        let (located, generation) = (self.locate(at), self.generation());
        self.spawn_then(ctx, located, move |topic, point, ctx| {
            topic.set_busy(id, false);
            match point {
                Ok(_) if generation != topic.generation() => {
                    let line = topic.lines.entry(id).or_default();
                    line.queue.push_front(InLine::Seek(to, reply));
                }
                Ok(point) => topic.move_to(id, point_mark(&point), reply, ctx),
                Err(failure) => reply.fail(failure),
            }
            topic.serve_line(id, ctx);
        });
    }

    fn move_to(&mut self, id: ConsumerId, to: Mark, reply: Reply, ctx: &mut Context<Self>) {
        if let Err(failure) = self.check_writable() {
            return reply.fail(failure);
        }
        match self.state.seek(id, to) {
            Ok(change) => {
                self.commit_then(change, reply, Answer::Seek(Sought { cursor: to.offset }));
                // Those that wait at the old cursor may have something to take now.
                let waits = |waiter: &Waiter| matches!(waiter, Waiter::Consume(consume, _, _) if consume.consumer == id);
                let line = self.lines.entry(id).or_default();
                for waiter in self.waiting.take_if(waits) {
                    if let Waiter::Consume(consume, until, reply) = waiter {
                        line.queue
                            .push_back(InLine::Consume(consume, Some(until), reply));
                    }
                }
                self.watch_deadlines(ctx);
            }
            Err(failure) => self.refuse(id.0, failure, reply),
        }
    }

    fn unregister_consumer(&mut self, id: ConsumerId, reply: Reply) {
        match self.state.consumers.remove(self.state.id, id) {
            Ok(changed) => {
                let change = self.state.stage(changed);
                self.park(change.ticket, Parked::Told(Told::Unregistered(id.0)));
                self.park(
                    change.ticket,
                    Parked::Answer(reply, Answer::UnregisterConsumer(ConsumerUnregistered {})),
                );
                self.submit(change, JobKind::Change);
                let gone = |waiter: &Waiter| matches!(waiter, Waiter::Consume(consume, _, _) if consume.consumer == id);
                for waiter in self.waiting.take_if(gone) {
                    self.answer_empty(waiter);
                }
            }
            Err(failure) => self.refuse(id.0, failure, reply),
        }
    }

    /// Waits beside the actor for the answer's share of the window, then goes on in the actor.
    fn reserve_then(
        &self,
        ctx: &mut Context<Self>,
        mut reply: Reply,
        bytes: usize,
        then: impl FnOnce(&mut Self, Reply, &mut Context<Self>) + 'static,
    ) {
        let reserved = async move { reply.reserve(bytes).await.then_some(reply) };
        self.spawn_then(ctx, reserved, move |topic, reply, ctx| {
            if let Some(reply) = reply {
                then(topic, reply, ctx);
            }
        });
    }
}

fn filled(delivered: Delivered, slice: Slice) -> Delivered {
    let range = Range {
        from: slice.from,
        to: slice.to,
        deliveries: 0,
        lease: 0,
    };
    let ranges = if slice.to > slice.from {
        vec![range]
    } else {
        Vec::new()
    };
    Delivered {
        next: slice.to,
        ranges,
        batches: slice.batches,
        ..delivered
    }
}

fn cancelled(why: &str) -> Failure {
    Failure::new(
        ErrorCode::Cancelled,
        format!("this request waited and {why}"),
    )
}

/// What a reader is told when the disk does not give what it should.
pub(super) fn read_failure(error: ReadError) -> Failure {
    match error {
        ReadError::Damaged { from, to, what } => Failure::new(
            ErrorCode::DataDamaged,
            format!("records {from} up to {to} cannot be read: {what}"),
        )
        .numbers(from, to)
        .hint("restore the file from a copy, or seek past the damage"),
        ReadError::Unavailable(error) => {
            tracing::error!(?error, "a read failed");
            Failure::new(
                ErrorCode::Unavailable,
                format!("the records cannot be read now: {error}"),
            )
            .hint("retry")
        }
    }
}

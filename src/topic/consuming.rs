//! Consuming: the line in which the requests of each consumer stand.
//!
//! ```text
//! consume -> line of its consumer -> turn -> read -> stage the move -> commit -> answer
//! seek, unregister --^   one at a time: a cold read holds up its own line, and no other
//! ```
//!
//! Reading comes first, then the move is staged, then its commit answers: a failed read moves
//! nothing. So records may be taken while they are staged themselves: the move is durable with them
//! or after them, and one sync answers their producer and their consumer. A request whose share of
//! the window is not there is passed over, so that a slow reader stops only itself. Its neighbours:
//! [`serving`](super::serving) reads and lets requests wait, the [actor](super::actor) stages.

use std::collections::VecDeque;

use actix::Context;
use logdrive_protocol::limits::MAX_FETCH_BYTES;
use logdrive_protocol::operations::{
    Answer, Consume, ConsumerUnregistered, Sought, WorkerUnregistered,
};
use logdrive_protocol::{ConsumerId, ErrorCode, Failure, Position, WorkerId};
use tokio::time::Instant;

use super::actor::{Parked, Told, Topic};
use super::consumers::{Taker, Turn};
use super::log::{Mark, Slice};
use super::requests::{point_mark, unsupported};
use super::serving::{Waiter, byte_limit, cancelled, deadline};
use super::state::Resolved;
use crate::limits::MAX_EAGER_WAITING;
use crate::reply::Reply;
use crate::storage::{At, JobKind, Totals};

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
    /// Forget a worker.
    Dismiss(WorkerId, Reply),
    /// Remove the consumer.
    Unregister(Reply),
}

impl InLine {
    fn into_reply(self) -> Reply {
        match self {
            Self::Consume(_, _, reply)
            | Self::Seek(_, reply)
            | Self::Dismiss(_, reply)
            | Self::Unregister(reply) => reply,
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

/// A read that was begun for a consume.
#[derive(Debug)]
struct Begun {
    consume: Consume,
    deadline: Option<Instant>,
    turn: Turn,
    generation: u64,
    reply: Reply,
}

fn taker(consume: &Consume) -> Taker {
    Taker {
        consumer: consume.consumer,
        worker: consume.worker,
        sequence: consume.sequence,
    }
}

impl Topic {
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

    /// There are staged records: the consumes that wait take them.
    pub(super) fn serve_takers(&mut self, ctx: &mut Context<Self>) {
        if self.waiting.count() > MAX_EAGER_WAITING {
            return;
        }
        let is_taker = |waiter: &Waiter| matches!(waiter, Waiter::Consume(..));
        for waiter in self.waiting.take_if(is_taker) {
            self.serve_waiter(waiter, ctx);
        }
        self.watch_deadlines(ctx);
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
                InLine::Dismiss(worker, reply) => self.dismiss(id, worker, reply),
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
        if matches!(turn, Turn::Next { .. }) && from >= self.state.log.end().offset {
            return self.wait(until, reply, ctx, |at, reply| {
                Waiter::Consume(consume, at, reply)
            });
        }
        let generation = self.generation();
        let in_memory = self.state.log.read_staged(from, max_records, max_bytes);
        if let Turn::Again { to, .. } = turn
            && in_memory.is_none()
            && to > self.state.log.visible().offset
        {
            // Neither memory nor the disk has all of it: a shorter answer would pass over the rest.
            let message = "the answer that is asked for again is on its way to the disk";
            let failure = Failure::new(ErrorCode::Unavailable, message);
            return reply.fail(failure.hint("ask again"));
        }
        let share = in_memory.as_ref().map_or_else(
            || max_bytes.min(MAX_FETCH_BYTES as usize),
            Slice::stored_bytes,
        );
        if !reply.try_reserve(share) {
            // Passed over: it lines up again when its connection has read what it was sent.
            return Self::reserve_then(ctx, reply, share, move |topic, reply, ctx| {
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
        Self::spawn_then(ctx, read, move |topic, read, ctx| {
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
        // Who has left in the meantime would lose what is taken now.
        if reply.is_gone() {
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

    fn totals_after(&mut self, consume: &Consume, slice: &Slice) -> Totals {
        let before = self
            .state
            .consumers
            .get(consume.consumer)
            .map(|it| it.cursor().totals);
        let before = before.unwrap_or_default();
        Totals {
            records: before.records + (slice.to - slice.from),
            bytes: before.bytes + self.state.log.content(slice),
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
        Self::spawn_then(ctx, located, move |topic, point, ctx| {
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

    fn dismiss(&mut self, id: ConsumerId, worker: WorkerId, reply: Reply) {
        if let Some(waiting) = self.waiting.take_worker(id, worker) {
            waiting.into_reply().fail(cancelled("the worker ended"));
        }
        let topic = self.state.id;
        match self.state.consumers.forget_worker(topic, id, worker) {
            Ok(changed) => {
                let change = self.state.stage(changed);
                self.commit_then(
                    change,
                    reply,
                    Answer::UnregisterWorker(WorkerUnregistered {}),
                );
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
}

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
use std::ops::Range;

use actix::Context;
use logdrive_protocol::limits::MAX_LEASE_MS;
use logdrive_protocol::operations::{
    Answer, Consume, ConsumerUnregistered, Gap, Sought, WorkerUnregistered,
};
use logdrive_protocol::{ConsumerId, Failure, Position, WorkerId};
use tokio::time::Instant;

use super::actor::{Parked, Topic};
use super::consumer::{Consumer, Plan};
use super::giving::Searched;
use super::leasing::invalid_lease;
use super::log::Mark;
use super::messages::Told;
use super::requests::point_mark;
use super::serving::{Waiter, cancelled, deadline};
use super::state::Resolved;
use crate::limits::MAX_EAGER_WAITING;
use crate::reply::Reply;
use crate::storage::{At, JobKind};

/// Requests of one consumer that change its cursor.
#[derive(Debug, Default)]
pub struct Line {
    pub(super) queue: VecDeque<InLine>,
    /// A read for the request that is being served is under way.
    busy: bool,
}

/// A request in the line of its consumer.
#[derive(Debug)]
pub enum InLine {
    /// Take records; the instant is its deadline, then comes what it has looked through so far.
    Consume(Consume, Option<Instant>, Searched, Reply),
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
            Self::Consume(_, _, _, reply)
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

impl Topic {
    pub(super) fn consume(&mut self, consume: Consume, reply: Reply, ctx: &mut Context<Self>) {
        if consume.lease_ms > MAX_LEASE_MS {
            return reply.fail(invalid_lease(consume.lease_ms));
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
            InLine::Consume(consume, until, Searched::default(), reply),
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

    /// Serves who waits for this consumer, if there is something to give now.
    pub(super) fn wake(&mut self, id: ConsumerId, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let end = self.state.log.end().offset;
        let has_something = self.state.consumers.get(id).is_ok_and(|consumer| {
            // Who takes for good may have what a lease may not.
            let plan = consumer.plan(end, false, now);
            !matches!(plan, Plan::Held | Plan::Empty)
        });
        if !has_something || self.waiting.count() == 0 {
            return;
        }
        let waits = |waiter: &Waiter| matches!(waiter, Waiter::Consume(consume, _, _) if consume.consumer == id);
        for waiter in self.waiting.take_if(waits) {
            self.serve_waiter(waiter, ctx);
        }
        self.watch_deadlines(ctx);
    }

    /// Records were removed: consumers that wait are told of it.
    pub(super) fn wake_all(&mut self, ctx: &mut Context<Self>) {
        let ids: Vec<_> = self.state.consumers.ids().collect();
        for id in ids {
            self.wake(id, ctx);
        }
    }

    pub(super) fn serve_all_lines(&mut self, ctx: &mut Context<Self>) {
        let ids: Vec<_> = self.lines.keys().copied().collect();
        for id in ids {
            self.serve_line(id, ctx);
        }
    }

    pub(super) fn serve_line(&mut self, id: ConsumerId, ctx: &mut Context<Self>) {
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
                InLine::Consume(consume, until, searched, reply) => {
                    self.take(consume, until, searched, reply, ctx);
                }
                InLine::Seek(to, reply) => self.seek(id, to, reply, ctx),
                InLine::Dismiss(worker, reply) => self.dismiss(id, worker, reply),
                InLine::Unregister(reply) => self.unregister_consumer(id, reply),
            }
        }
    }

    pub(super) fn set_busy(&mut self, id: ConsumerId, busy: bool) {
        self.lines.entry(id).or_default().busy = busy;
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
        if let Some(damaged) = self.damage_behind(id, to) {
            return self.skip_damage(id, &damaged, reply, ctx);
        }
        let damage = self.damage_passed(id, to);
        match self.state.seek(id, to, damage) {
            Ok(change) => {
                self.commit_then(change, reply, Answer::Seek(Sought { cursor: to.offset }));
                // Those that wait at the old cursor may have something to take now.
                let waits = |waiter: &Waiter| matches!(waiter, Waiter::Consume(consume, _, _) if consume.consumer == id);
                let line = self.lines.entry(id).or_default();
                for waiter in self.waiting.take_if(waits) {
                    if let Waiter::Consume(consume, until, reply) = waiter {
                        line.queue.push_back(InLine::Consume(
                            consume,
                            Some(until),
                            Searched::default(),
                            reply,
                        ));
                    }
                }
                self.watch_deadlines(ctx);
            }
            Err(failure) => self.refuse(id.0, failure, reply),
        }
    }

    /// What could not be read of records that were given before, where a seek goes to its end.
    fn damage_behind(&mut self, id: ConsumerId, to: Mark) -> Option<Range<u64>> {
        let next = self.state.consumers.get(id).ok()?.next();
        let damaged = self.damaged.get(&id)?;
        let is_behind = damaged.start < next.offset && damaged.end == to.offset;
        is_behind.then(|| self.damaged.remove(&id)).flatten()
    }

    /// Gives up damaged records that waited to be delivered again; all others stay as they are.
    fn skip_damage(
        &mut self,
        id: ConsumerId,
        damaged: &Range<u64>,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        match self.state.skip_damage(id, damaged) {
            Ok(change) => {
                let cursor = self.state.consumers.get(id).map_or(0, Consumer::cursor);
                self.commit_then(change, reply, Answer::Seek(Sought { cursor }));
                self.wake(id, ctx);
            }
            Err(failure) => self.refuse(id.0, failure, reply),
        }
    }

    /// The gap that a seek leaves where it passes over what could not be read.
    fn damage_passed(&mut self, id: ConsumerId, to: Mark) -> Option<Gap> {
        let next = self.state.consumers.get(id).ok()?.next();
        let damaged = self.damaged.remove(&id)?;
        let passed = next.offset <= damaged.start && damaged.end <= to.offset;
        let whole = next.offset == damaged.start && to.offset == damaged.end;
        let bytes = to.totals.bytes.saturating_sub(next.totals.bytes);
        passed.then(|| Gap {
            from: damaged.start,
            to: damaged.end,
            records: damaged.end - damaged.start,
            bytes: if whole { bytes } else { 0 },
            reason: Gap::DAMAGE,
            ..Gap::default()
        })
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
        match self.state.consumers.remove(id) {
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

//! Giving records: fetches, cold reads, and requests that wait for records.
//!
//! ```text
//!              .--> tail ----------------------------.
//! fetch -------+--> share of the window -> cold read -+--> answer
//!              '--> wait for records, or the deadline
//! ```
//!
//! A fetch with a filter goes on in [`searching`](super::searching) from where it begins.
//!
//! A fetch changes nothing; what takes records is in [`consuming`](super::consuming). Its
//! neighbours: the [actor](super::actor) and the storage's reader.

use actix::{AsyncContext, Context};
use bytes::Bytes;
use logdrive_protocol::limits::{DEFAULT_FETCH_BYTES, MAX_FETCH_BYTES, MAX_WAIT_MS};
use logdrive_protocol::operations::{Answer, CancelPassed, Consume, Delivered, Fetch, Gap, Range};
use logdrive_protocol::{ConsumerId, ErrorCode, Failure, Position, WorkerId};
use tokio::time::{Duration, Instant};

use super::actor::{Parked, Proceed, Topic};
use super::consumer::Plan;
use super::consuming::InLine;
use super::giving::Searched;
use super::log::Slice;
use super::messages::Leaving;
use super::searching::Search;
use super::state::Resolved;
use super::waiting;
use crate::limits::MAX_WAITING;
use crate::planted::{self, Bug};
use crate::reply::{ConnectionId, Reply};
use crate::storage::{At, ReadError};

/// A request that waits for records.
#[derive(Debug)]
pub enum Waiter {
    /// A fetch, from an offset.
    Fetch(Fetch, Instant, Reply),
    /// A fetch with a filter. Boxed: few of those that wait are one.
    Search(Box<Search>, Instant, Reply),
    /// A consume.
    Consume(Consume, Instant, Reply),
}

impl Waiter {
    /// How long it waits.
    fn until(&self) -> Instant {
        match self {
            Self::Fetch(_, until, _) | Self::Search(_, until, _) | Self::Consume(_, until, _) => {
                *until
            }
        }
    }

    /// What is left when it does not wait any more.
    pub fn into_reply(self) -> Reply {
        match self {
            Self::Fetch(_, _, reply) | Self::Search(_, _, reply) | Self::Consume(_, _, reply) => {
                reply
            }
        }
    }

    /// Answers it, for records that come later are not for it.
    pub(super) fn withdraw(self, why: Leaving) {
        let (code, message, hint) = match why {
            Leaving::Ended => (
                ErrorCode::Unavailable,
                "this waited for records, and its connection is ending; nothing was done",
                "keep the connection open for sending while a request waits",
            ),
            Leaving::Denied => (
                ErrorCode::PermissionDenied,
                "this waited for records, and the right consume was taken away; nothing was done",
                "an administrator can grant it",
            ),
        };
        self.into_reply()
            .fail(Failure::new(code, message).hint(hint));
    }

    pub(super) fn reply(&self) -> &Reply {
        match self {
            Self::Fetch(_, _, reply) | Self::Search(_, _, reply) | Self::Consume(_, _, reply) => {
                reply
            }
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

pub(super) fn deadline(max_wait_ms: u32) -> Option<Instant> {
    let wait = Duration::from_millis(u64::from(max_wait_ms.min(MAX_WAIT_MS)));
    (max_wait_ms > 0).then(|| Instant::now() + wait)
}

pub(super) fn byte_limit(asked: u32) -> usize {
    let asked = if asked == 0 {
        DEFAULT_FETCH_BYTES
    } else {
        asked
    };
    asked.min(MAX_FETCH_BYTES) as usize
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
        let mut gaps = self.gap_before(fetch.from);
        if planted::is(Bug::ReadPastTrim) {
            gaps.clear();
        }
        if !fetch.filter.is_empty() {
            return self.search(Search::new(fetch, from), gaps, until, reply, ctx);
        }
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
                Self::reserve_then(ctx, reply, len, move |topic, reply, ctx| {
                    topic.fetch(&fetch, until, reply, ctx);
                });
            }
            None => self.fetch_cold(fetch, from, gaps, reply, ctx),
        }
    }

    fn fetch_later(&self, fetch: &Fetch, time: u64, reply: Reply, ctx: &mut Context<Self>) {
        let located = self.locate(At::Time(time));
        let fetch = fetch.clone();
        Self::spawn_then(ctx, located, move |topic, point, ctx| match point {
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

    /// Reads from the disk and answers from there: the topic is involved again only if what is read
    /// was removed meanwhile.
    fn fetch_cold(
        &mut self,
        fetch: &Fetch,
        from: u64,
        gaps: Vec<Gap>,
        mut reply: Reply,
        ctx: &Context<Self>,
    ) {
        self.counts.cold_reads += 1;
        let (max_bytes, max_records) = (byte_limit(fetch.max_bytes), fetch.max_records);
        let end = self.state.log.visible().offset;
        let read = self.read_cold(from, end, max_bytes);
        let empty = self.delivered(Slice::default(), gaps);
        let (topic, fetch) = (ctx.address(), fetch.clone());
        actix::spawn(async move {
            if !reply.reserve(max_bytes).await {
                return;
            }
            match read.await {
                Ok(batches) => {
                    let slice = Slice::of(from, end, max_records, max_bytes, batches.into_iter());
                    reply.answer(Answer::Fetch(filled(empty, slice)));
                }
                Err(failure) if failure.code == ErrorCode::DataDamaged => {
                    topic.do_send(Proceed(Box::new(move |topic, ctx| {
                        topic.fetch_removed(fetch, from, failure, reply, ctx);
                    })));
                }
                Err(failure) => reply.fail(failure),
            }
        });
    }

    /// A fetch that could not be read: because it was removed, or for good.
    fn fetch_removed(
        &mut self,
        fetch: Fetch,
        from: u64,
        failure: Failure,
        mut reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        let (staged, _) = self.state.log.staged_start();
        reply.release_share();
        if from < self.state.log.start().offset {
            self.fetch(&fetch, None, reply, ctx);
        } else if from < staged.offset {
            self.park_behind(Parked::Fetch(fetch, None, reply));
        } else {
            reply.fail(failure);
        }
    }

    /// Reads `from..end` from the disk, at most `max_bytes` of it but always one batch.
    pub(super) fn read_cold(
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
    pub(super) fn gap_before(&self, from: Position) -> Vec<Gap> {
        match from {
            Position::Offset(from) => self.state.gaps(from),
            _ => Vec::new(),
        }
    }

    pub(super) fn delivered(&self, slice: Slice, gaps: Vec<Gap>) -> Delivered {
        let delivered = Delivered {
            high_watermark: self.state.log.visible().offset,
            log_start: self.state.log.start().offset,
            gaps,
            ..Delivered::default()
        };
        filled(delivered, slice)
    }

    /// Lets a request wait until `until`, or answers it as empty if it does not want to.
    pub(super) fn wait(
        &mut self,
        until: Option<Instant>,
        mut reply: Reply,
        ctx: &mut Context<Self>,
        waiter: impl FnOnce(Instant, Reply) -> Waiter,
    ) {
        reply.release_share();
        let now = Instant::now();
        // Records that come later are not for a peer that may have left by then.
        let at = until.filter(|_| reply.may_wait()).unwrap_or(now);
        if at <= now {
            return self.answer_empty(waiter(at, reply));
        }
        if self.waiting.count() >= MAX_WAITING {
            let message = format!("{MAX_WAITING} requests wait for records of this topic");
            return reply.fail(Failure::new(ErrorCode::LimitReached, message));
        }
        self.waiting.insert(at, waiter(at, reply));
        self.watch_deadlines(ctx);
    }

    pub(super) fn answer_empty(&mut self, waiter: Waiter) {
        let now = self.clock.now();
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
            Waiter::Search(search, _, reply) => {
                reply.answer(Answer::Fetch(empty(search.next)));
            }
            Waiter::Consume(consume, _, reply) => {
                let end = self.state.log.visible().offset;
                match self.state.consumers.get(consume.consumer) {
                    Ok(consumer) => {
                        // A move that is only staged is nobody's to know.
                        let mut answer = empty(consumer.committed().next.offset);
                        if consumer.plan(end, consume.lease_ms > 0, now) != Plan::Empty {
                            answer.status = Delivered::HELD;
                        }
                        reply.answer(Answer::Consume(answer));
                    }
                    Err(failure) => reply.fail(failure),
                }
            }
        }
    }

    /// There are new records: all that waited are served again, in the order of their arrival.
    pub(super) fn serve_waiting(&mut self, ctx: &mut Context<Self>) {
        let mut waiters = self.servable();
        if planted::is(Bug::LostWakeUp)
            && let Some(last) = waiters.pop()
        {
            self.waiting.insert(last.until(), last);
        }
        for waiter in waiters {
            self.serve_waiter(waiter, ctx);
        }
        self.watch_deadlines(ctx);
    }

    pub(super) fn serve_waiter(&mut self, waiter: Waiter, ctx: &mut Context<Self>) {
        match waiter {
            Waiter::Fetch(fetch, until, reply) => self.fetch(&fetch, Some(until), reply, ctx),
            Waiter::Search(search, until, reply) => {
                self.search_on(*search, Some(until), reply, ctx);
            }
            Waiter::Consume(consume, until, reply) => {
                let id = consume.consumer;
                self.line_up(
                    id,
                    InLine::Consume(consume, Some(until), Searched::default(), reply),
                    ctx,
                );
            }
        }
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

    /// Waits beside the actor for the answer's share of the window, then goes on in the actor.
    pub(super) fn reserve_then(
        ctx: &Context<Self>,
        mut reply: Reply,
        bytes: usize,
        then: impl FnOnce(&mut Self, Reply, &mut Context<Self>) + Send + 'static,
    ) {
        let reserved = async move { reply.reserve(bytes).await.then_some(reply) };
        Self::spawn_then(ctx, reserved, move |topic, reply, ctx| {
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

pub(super) fn cancelled(why: &str) -> Failure {
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

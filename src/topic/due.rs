//! Scheduling batches, and having them appended when their time has come.
//!
//! ```text
//! timer --> what is ready --> read from the delay log, beside the actor --> appended, index rows gone
//!   ^                                                                          | one transaction
//!   '--------------------------- the next one -------------------------------- '
//! ```
//!
//! One round at a time, in the order of the times. What cannot be read is set aside and holds back
//! nothing. Its neighbours: [`Delayed`](super::delayed::Delayed) knows what waits, the
//! [actor](super::actor) stages.

use std::time::Duration;

use actix::{AsyncContext, Context, SpawnHandle};
use bytes::{Bytes, BytesMut};
use logdrive_protocol::Failure;
use logdrive_protocol::batch::Head;
use logdrive_protocol::operations::Produce;

use super::actor::{Parked, Topic};
use super::delayed::{Due, delay_log};
use super::requests::produced;
use super::serving::read_failure;
use super::state::{Change, Planned, Schedule, Scheduled};
use crate::clock::micros;
use crate::limits::{CLEAR_DELAY_LOG_IDLE, COPY_BATCH_BYTES, DAMAGED_DUE_RETRY, DUE_RETRY};
use crate::reply::Reply;
use crate::storage::{Announce, Appended, Job, JobKind, ReadError, Reader};

/// The longest time that a timer runs: the clock follows the machine's, timers do not.
const LONGEST_TIMER: Duration = Duration::from_hours(1);

/// When the topic looks for what is due.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The time that the timer waits for, in microseconds.
    timer: Option<(u64, SpawnHandle)>,
    /// A read is under way.
    busy: bool,
}

/// A batch that fell due, or why it cannot be read.
type Read = (Due, Result<Bytes, ReadError>);

impl Topic {
    /// Lets a batch wait for its time; it is answered when that is durable.
    pub(super) fn schedule(&mut self, produce: Produce, reply: Reply) {
        if let Err(failure) = self.check_room() {
            return reply.fail(failure);
        }
        let mut batch = produce.batch.into_mut();
        if batch.len() < COPY_BATCH_BYTES {
            batch = BytesMut::from(&batch[..]);
        }
        let producer = Head::parse(&batch).map_or(0, |it| it.producer.0);
        let now = self.clock.now();
        // Who repeats a batch is told what became of it, however much is stored.
        if let Err(failure) = self.check_quota()
            && let Ok(Planned::New(_)) = self.state.plan(batch.clone(), now)
        {
            return self.refuse(producer, failure, reply);
        }
        match self.state.schedule(batch, produce.not_before, now) {
            Ok(Schedule::New(scheduled)) => {
                self.counts.batches += 1;
                let Scheduled {
                    receipt,
                    change,
                    appended,
                } = *scheduled;
                let ticket = change.ticket;
                let answer = produced(receipt, Produce::SYNCED);
                self.park(ticket, Parked::Answer(reply, answer));
                self.submit_with(
                    change,
                    self.to_delay_log(ticket, vec![appended], JobKind::Change),
                );
            }
            Ok(Schedule::Known(receipt, ticket)) => {
                self.counts.retries += 1;
                let answer = produced(receipt, Produce::SYNCED);
                match ticket {
                    Some(ticket) => self.park(ticket, Parked::Answer(reply, answer)),
                    None => reply.answer(answer),
                }
            }
            Err(failure) => self.refuse(producer, failure, reply),
        }
    }

    /// A job of the delay log: nobody waits for its notice, for the topic's own says the same.
    pub(super) fn to_delay_log(&self, ticket: u64, batches: Vec<Appended>, kind: JobKind) -> Job {
        Job {
            topic: delay_log(self.state.id),
            generation: self.generation(),
            ticket,
            batches,
            rows: Vec::new(),
            announce: Announce::new(|_| {}),
            kind,
        }
    }

    /// Stages a change of the topic and one of the delay log, as one.
    fn submit_with(&mut self, change: Change, of_delay_log: Job) {
        if let Some(job) = self.job(change, JobKind::Change) {
            self.around.storage.submit_together(vec![of_delay_log, job]);
        }
    }

    /// Sets the timer to the next time at which something may be due.
    pub(super) fn watch_due(&mut self, ctx: &mut Context<Self>) {
        if self.due.busy {
            return;
        }
        let idle = self.state.delayed.is_spent(true);
        let next = match self.state.delayed.next(self.state.committed()) {
            None if idle => self
                .clock
                .now()
                .saturating_add(micros(CLEAR_DELAY_LOG_IDLE)),
            None => return self.cancel_due(ctx),
            Some(next) => next,
        };
        if self.due.timer.as_ref().is_some_and(|(at, _)| *at <= next) {
            return;
        }
        self.cancel_due(ctx);
        let after = Duration::from_micros(next.saturating_sub(self.clock.now()));
        self.look_after(after, next, ctx);
    }

    fn cancel_due(&mut self, ctx: &mut Context<Self>) {
        if let Some((_, timer)) = self.due.timer.take() {
            ctx.cancel_future(timer);
        }
    }

    fn look_after(&mut self, after: Duration, at: u64, ctx: &mut Context<Self>) {
        let timer = ctx.run_later(after.min(LONGEST_TIMER), |topic, ctx| {
            topic.due.timer = None;
            topic.when_free(Box::new(Self::look_for_due), ctx);
        });
        self.due.timer = Some((at, timer));
    }

    fn try_again(&mut self, ctx: &mut Context<Self>) {
        self.cancel_due(ctx);
        let at = self.clock.now().saturating_add(micros(DUE_RETRY));
        self.look_after(DUE_RETRY, at, ctx);
    }

    fn look_for_due(&mut self, ctx: &mut Context<Self>) {
        if self.due.busy {
            return;
        }
        let now = self.clock.now();
        let ready = self.state.delayed.ready(now, self.state.committed());
        if ready.is_empty() {
            self.submit_together(|topic| topic.clear_delay_log(true));
            return self.watch_due(ctx);
        }
        if self.check_room().is_err() {
            // Nothing falls due while nothing is taken: it would be lost to a full disk.
            return self.try_again(ctx);
        }
        self.due.busy = true;
        let (reader, pool) = (self.around.storage.reader(), self.around.pool.clone());
        let (topic, generation) = (self.state.id, self.generation());
        let read = async move {
            let batches = move || -> Vec<Read> {
                let one = |(due, records)| (due, read_one(&reader, delay_log(topic), due, records));
                ready.into_iter().map(one).collect()
            };
            pool.run(batches).await
        };
        Self::spawn_then(ctx, read, move |topic, read, ctx| {
            topic.due.busy = false;
            match read {
                Ok(read) if generation == topic.generation() => topic.deliver(read, ctx),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "what is due is read later");
                    return topic.try_again(ctx);
                }
            }
            topic.watch_due(ctx);
        });
    }

    /// Appends what has fallen due.
    fn deliver(&mut self, read: Vec<Read>, ctx: &mut Context<Self>) {
        if self.check_writable().is_err() {
            return;
        }
        let now = self.clock.now();
        let mut batches = Vec::new();
        for (due, read) in read {
            match read {
                Ok(bytes) => batches.push((due, BytesMut::from(&bytes[..]))),
                Err(error) => self.set_aside(due, error, now),
            }
        }
        let before = self.state.log.tail_bytes();
        let count = batches.len() as u64;
        let Some(change) = self.state.deliver(batches, now) else {
            return;
        };
        self.counts.batches += count;
        self.around
            .budget
            .count_tail(before, self.state.log.tail_bytes());
        self.submit_together(|topic| {
            topic.submit(change, JobKind::Change);
            topic.clear_delay_log(false);
            topic.serve_takers(ctx);
        });
    }

    fn set_aside(&mut self, due: Due, error: ReadError, now: u64) {
        let wait = match &error {
            ReadError::Damaged { .. } => DAMAGED_DUE_RETRY,
            ReadError::Unavailable(_) => DUE_RETRY,
        };
        let Failure { message, .. } = read_failure(error);
        tracing::error!(topic = %self.state.id, ?due, message, "what is due cannot be read");
        self.state
            .delayed
            .set_aside(due, now.saturating_add(micros(wait)));
    }

    /// Gives the delay log's space back where nothing waits in it.
    fn clear_delay_log(&mut self, idle: bool) {
        if self.check_writable().is_err() {
            return;
        }
        if !self.state.delayed.is_spent(idle) {
            return self.trim_delay_log();
        }
        let row = self.state.delayed.clear(self.state.id);
        let change = self.state.stage(vec![row]);
        let removal = self.to_delay_log(change.ticket, Vec::new(), JobKind::Delete);
        self.submit_job(removal);
        self.submit(change, JobKind::Change);
    }
}

impl Topic {
    /// Gives back the space of what has fallen due before all that still waits.
    fn trim_delay_log(&mut self) {
        let Some(before) = self.state.delayed.spent_before() else {
            return;
        };
        let (row, end) = self.state.delayed.trim(self.state.id, before);
        let change = self.state.stage(vec![row]);
        let kind = JobKind::Trim { before, end };
        let removal = self.to_delay_log(change.ticket, Vec::new(), kind);
        self.submit_job(removal);
        self.submit(change, JobKind::Change);
    }
}

/// The batch at its place in the delay log.
pub(super) fn read_one(
    reader: &Reader,
    delay_log: logdrive_protocol::TopicId,
    due: Due,
    records: u32,
) -> Result<Bytes, ReadError> {
    let end = due.offset + u64::from(records);
    let read = reader.read(delay_log, due.offset, end, 1)?;
    let batch = read.batches.into_iter().next();
    let is_it = |bytes: &Bytes| Head::parse(bytes).is_some_and(|it| it.base_offset == due.offset);
    batch.filter(is_it).ok_or_else(|| ReadError::Damaged {
        from: due.offset,
        to: end,
        what: "another batch stands in its place in the delay log".to_owned(),
    })
}

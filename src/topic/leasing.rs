//! Leases: acks, records given back, and what ends by itself.
//!
//! ```text
//!   ack, nack, extend --> checked against what is staged --> change --> commit --> answer
//!   timer, connection gone --> leases end --> who waits for the consumer is served
//! ```
//!
//! Its neighbours: [`consuming`](super::consuming) hands records out, the [actor](super::actor)
//! stages; which records a lease holds is [`Consumer`](super::consumer::Consumer)'s.

use actix::{AsyncContext, Context};
use bytes::Bytes;
use logdrive_protocol::batch::{self, Head};
use logdrive_protocol::limits::{DEFAULT_LIST, MAX_LEASE_MS, MAX_LIST, MAX_SETTLED};
use logdrive_protocol::operations::{
    Ack, Acked, AlterConsumer, Answer, ConsumerAltered, ConsumerDescribed, DescribeConsumer,
    Extend, Extended, Nack, Nacked, Settled,
};
use logdrive_protocol::{ConsumerId, ErrorCode, Failure, WorkerId};
use tokio::time::Duration;

use super::actor::Topic;
use super::consumer::config::ConsumerConfig;
use super::settings;
use crate::clock::micros;
use crate::limits::{LEASE_RETRY, RECLAIM_WAIT};
use crate::planted::{self, Bug};
use crate::reply::{ConnectionId, Reply};
use crate::storage::JobKind;

impl Topic {
    pub(super) fn ack(&mut self, ack: &Ack, reply: Reply, ctx: &mut Context<Self>) {
        if let Err(failure) = self.may_settle(ack.consumer, ack.worker, &ack.settled, &reply) {
            return self.refuse(ack.consumer.0, failure, reply);
        }
        match self.state.ack(ack.consumer, ack.worker, &ack.settled) {
            Ok((records, change)) if planted::is(Bug::AckBeforeApplied) => {
                reply.answer(Answer::Ack(Acked { records }));
                self.submit(change, JobKind::Change);
            }
            Ok((records, change)) => {
                self.commit_then(change, reply, Answer::Ack(Acked { records }));
                self.wake(ack.consumer, ctx);
                self.watch_leases(ctx);
            }
            Err(failure) => self.refuse(ack.consumer.0, failure, reply),
        }
    }

    pub(super) fn nack(&mut self, nack: &Nack, reply: Reply, ctx: &mut Context<Self>) {
        if let Err(failure) = self.may_settle(nack.consumer, nack.worker, &nack.settled, &reply) {
            return self.refuse(nack.consumer.0, failure, reply);
        }
        let now = self.clock.now();
        let due = match nack.delay_ms {
            0 => None,
            delay => Some(now + u64::from(delay) * 1000),
        };
        let nacked = self
            .state
            .nack(nack.consumer, nack.worker, &nack.settled, due, now);
        match nacked {
            Ok((records, change)) => {
                self.commit_then(change, reply, Answer::Nack(Nacked { records }));
                self.wake(nack.consumer, ctx);
                self.give_up(nack.consumer, ctx);
                self.watch_leases(ctx);
            }
            Err(failure) => self.refuse(nack.consumer.0, failure, reply),
        }
    }

    fn may_settle(
        &mut self,
        consumer: ConsumerId,
        worker: WorkerId,
        settled: &[Settled],
        reply: &Reply,
    ) -> Result<(), Failure> {
        self.check_writable()?;
        if settled.len() > MAX_SETTLED {
            let what = format!("{} ranges are more than {MAX_SETTLED}", settled.len());
            return Err(Failure::new(ErrorCode::LimitReached, what).hint("send several requests"));
        }
        for Settled { lease, .. } in settled {
            self.state
                .consumers
                .heard(consumer, worker, *lease, reply.connection());
        }
        Ok(())
    }

    pub(super) fn extend(&mut self, extend: &Extend, reply: Reply, ctx: &mut Context<Self>) {
        if extend.lease_ms == 0 || extend.lease_ms > MAX_LEASE_MS {
            return reply.fail(invalid_lease(extend.lease_ms));
        }
        if let Err(failure) = self.check_writable() {
            return reply.fail(failure);
        }
        let now = self.clock.now();
        let duration = u64::from(extend.lease_ms) * 1000;
        let &Extend {
            consumer,
            worker,
            lease,
            ..
        } = extend;
        let extended = self
            .state
            .consumers
            .extend(consumer, worker, lease, duration, now);
        match extended {
            Ok(changed) => {
                self.state
                    .consumers
                    .heard(consumer, worker, lease, reply.connection());
                let change = self.state.stage(changed);
                self.commit_then(change, reply, Answer::Extend(Extended {}));
                self.watch_leases(ctx);
            }
            Err(failure) => self.refuse(consumer.0, failure, reply),
        }
    }

    pub(super) fn alter_consumer(
        &mut self,
        alter: &AlterConsumer,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        let altered = self
            .check_writable()
            .and_then(|()| self.altered(alter))
            .and_then(|(settings, paused)| {
                let config = ConsumerConfig::of(&settings)?;
                let consumers = &mut self.state.consumers;
                let row = consumers.alter(alter.consumer, settings.clone(), config, paused)?;
                Ok((row, ConsumerAltered { settings, paused }))
            });
        match altered {
            Ok((row, altered)) => {
                let change = self.state.stage(vec![row]);
                self.commit_then(change, reply, Answer::AlterConsumer(altered));
                self.wake(alter.consumer, ctx);
                self.give_up(alter.consumer, ctx);
            }
            Err(failure) => self.refuse(alter.consumer.0, failure, reply),
        }
    }

    /// The settings that a consumer would have, and whether it would be paused.
    fn altered(
        &self,
        alter: &AlterConsumer,
    ) -> Result<(Vec<logdrive_protocol::operations::Setting>, bool), Failure> {
        let consumer = self.state.consumers.get(alter.consumer)?;
        let paused = match alter.pause {
            0 => consumer.is_paused(),
            1 => true,
            2 => false,
            other => {
                let what = format!("a consumer cannot be paused in the way {other}");
                return Err(Failure::new(ErrorCode::NotSupported, what));
            }
        };
        let before = consumer.settings();
        let settings = settings::altered_consumer(before, &alter.set, &alter.unset)?;
        // One that was registered so before goes on; it is not made so, nor confirmed.
        settings::check_dead_letters(&alter.set, self.state.name())?;
        Ok((settings, paused))
    }

    pub(super) fn describe_consumer(
        &mut self,
        describe: &DescribeConsumer,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        let id = describe.consumer;
        let measured = self.state.size(id).map(|(measured, _)| measured);
        let (consumer, measured) = match (self.state.consumers.get(id), measured) {
            (Ok(consumer), Ok(measured)) => (consumer, measured),
            (Err(failure), _) | (_, Err(failure)) => return self.refuse(id.0, failure, reply),
        };
        let mut clock = self.clock.clone();
        let now = clock.now();
        let limit = match describe.limit {
            0 => DEFAULT_LIST,
            limit => limit.min(MAX_LIST),
        };
        let (leases, more) = consumer.leases(describe.after, limit as usize, now);
        let (held_by, held) = consumer.in_the_way(self.state.log.visible().offset, now);
        let left = consumer.committed().left.records;
        let described = ConsumerDescribed {
            name: consumer.name().to_owned(),
            settings: consumer.settings().to_vec(),
            paused: consumer.is_paused(),
            cursor: consumer.cursor(),
            next: consumer.committed().next.offset,
            records: measured.records,
            bytes: measured.bytes,
            leased: measured.leased,
            waiting: left.saturating_sub(measured.leased),
            gaps: measured.gaps,
            workers: u32::try_from(consumer.workers.count()).unwrap_or(u32::MAX),
            held_by,
            held_offset: held.unwrap_or_default(),
            held_key: None,
            leases,
            more,
        };
        let keyed = consumer.config().key_order;
        let Some(offset) = held.filter(|_| keyed) else {
            return reply.answer(Answer::DescribeConsumer(described));
        };
        let with_key = move |batches: &[Bytes]| {
            Answer::DescribeConsumer(ConsumerDescribed {
                held_key: key_at(batches, offset),
                ..described
            })
        };
        if let Some(slice) = self.state.log.read(offset, 1, usize::MAX) {
            return reply.answer(with_key(&slice.batches));
        }
        let read = self.read_cold(offset, offset + 1, 1);
        Self::spawn_then(ctx, read, move |_, read, _| {
            // Without the key the rest is good all the same.
            reply.answer(with_key(&read.unwrap_or_default()));
        });
    }

    /// Leases that were found stored run anew.
    pub(super) fn begin_leases(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        self.state.begin_consumers(now);
        self.watch_leases(ctx);
        let ids: Vec<_> = self.state.consumers.ids().collect();
        for id in ids {
            self.give_up(id, ctx);
        }
    }

    /// What was leased on a connection that is gone is given back, unless its worker speaks again.
    pub(super) fn leave_leases(&mut self, connection: ConnectionId, ctx: &mut Context<Self>) {
        let at = self.clock.now() + micros(RECLAIM_WAIT);
        let leave = move |topic: &mut Self, ctx: &mut Context<Self>| {
            topic.state.consumers.leave(connection, at);
            topic.watch_leases(ctx);
        };
        self.when_free(Box::new(leave), ctx);
    }

    /// Sets the timer to the first lease that ends, or record that falls due.
    pub(super) fn watch_leases(&mut self, ctx: &mut Context<Self>) {
        let Some(next) = self.state.consumers.next_at() else {
            return;
        };
        if self.lease_timer.as_ref().is_some_and(|(at, _)| *at <= next) {
            return;
        }
        let after = Duration::from_micros(next.saturating_sub(self.clock.now()));
        self.set_lease_timer(next, after, ctx);
    }

    fn set_lease_timer(&mut self, at: u64, after: Duration, ctx: &mut Context<Self>) {
        if let Some((_, timer)) = self.lease_timer.take() {
            ctx.cancel_future(timer);
        }
        let timer = ctx.run_later(after, |topic, ctx| {
            topic.lease_timer = None;
            topic.when_free(Box::new(Self::end_leases), ctx);
        });
        self.lease_timer = Some((at, timer));
    }

    fn end_leases(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        if self.check_writable().is_err() {
            // Late, never early: what would be given could not be noted.
            return self.set_lease_timer(now + micros(LEASE_RETRY), LEASE_RETRY, ctx);
        }
        for (consumer, change) in self.state.expire(now) {
            if let Some(change) = change {
                self.submit(change, JobKind::Change);
            }
            self.wake(consumer, ctx);
            self.give_up(consumer, ctx);
        }
        self.watch_leases(ctx);
    }
}

/// A lease of no time, or of too much.
pub(super) fn invalid_lease(lease_ms: u32) -> Failure {
    let what = format!("a lease of {lease_ms} ms is not given");
    Failure::new(ErrorCode::InvalidLease, what)
        .numbers(u64::from(MAX_LEASE_MS), 0)
        .hint("ask for 1 ms to 12 h, and extend it while the work goes on")
}

/// The key of a record, as text that is safe to print.
fn key_at(batches: &[Bytes], offset: u64) -> Option<String> {
    batches.iter().find_map(|batch| {
        let head = Head::parse(batch)?;
        let opened = batch::open(batch).ok()?;
        let mut records = opened.records().flatten();
        let record = records.find(|it| head.base_offset + it.offset_delta == offset)?;
        let key = String::from_utf8_lossy(record.key?).into_owned();
        Some(key.chars().flat_map(char::escape_default).collect())
    })
}

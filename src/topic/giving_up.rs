//! Giving records up: into the topic of dead letters, and out of their consumer, in one transaction.
//!
//! ```text
//!   delivered too often --> doomed --read--> dead letters --> broker --> a request to both topics
//!                             ^                                            | acked, or
//!                             '---- the record stays, with back-off -------' refused
//! ```
//!
//! One lot at a time for each consumer. Whatever goes wrong on the way, the record stays where it
//! is. Its neighbours: [`dead_letters`](super::dead_letters) says what they look like, the broker
//! knows the other topic, [`together`](super::together) carries both.

use std::time::Duration;

use actix::{AsyncContext, Context};
use bytes::Bytes;
use logdrive_protocol::batch::{self, BatchBuilder, Head, NewRecord, Origin};
use logdrive_protocol::operations::{Answer, Consumed, Payload, Settled};
use logdrive_protocol::{ConsumerId, ErrorCode, Failure, WorkerId};

use super::actor::Topic;
use super::consumer::parcel::Entry;
use super::dead_letters::Grave;
use super::messages::Told;
use crate::clock::micros;
use crate::limits::{BURY_BYTES, BURY_RECORDS, BURY_RETRY_FIRST, BURY_RETRY_LONGEST};
use crate::reply::Reply;
use crate::storage::JobKind;

/// How it goes with what a consumer gives up.
#[derive(Debug)]
pub(super) struct GivingUp {
    /// A lot is on its way, or waits for the next attempt.
    busy: bool,
    /// How long to wait after the next failure.
    wait: Duration,
    /// Records of the next lot, at most: fewer where one of them is in the way of the others.
    most: usize,
}

/// Records that are given up together.
#[derive(Clone, Debug)]
struct Lot {
    parcel: u64,
    entries: Vec<Entry>,
}

impl Lot {
    fn consumed(&self, topic: &Topic, consumer: ConsumerId) -> Consumed {
        let settled = self.entries.iter().map(|entry| Settled {
            lease: self.parcel,
            from: entry.offset,
            to: entry.offset + 1,
        });
        Consumed {
            topic: topic.state.id,
            consumer,
            worker: WorkerId::NONE,
            settled: settled.collect(),
        }
    }
}

impl Topic {
    /// Gives up what a consumer has delivered too often, if there is any.
    pub(super) fn give_up(&mut self, id: ConsumerId, ctx: &mut Context<Self>) {
        let how = self.giving_up.get(&id);
        if how.is_some_and(|it| it.busy) {
            return;
        }
        let (wait, most) = how.map_or((BURY_RETRY_FIRST, BURY_RECORDS), |it| (it.wait, it.most));
        let now = self.clock.now();
        let Some(lot) = self.doomed(id, most, now) else {
            self.giving_up.remove(&id);
            return;
        };
        let busy = true;
        self.giving_up.insert(id, GivingUp { busy, wait, most });
        let (Some(first), Some(last)) = (lot.entries.first(), lot.entries.last()) else {
            return;
        };
        let (from, to) = (first.offset, last.offset + 1);
        let copied = self.state.consumers.get(id).ok();
        if copied.is_some_and(|it| it.stands_by_copy(from)) {
            return self.bury_here(id, &lot, ctx);
        }
        if let Some(slice) = self.state.log.read(from, 0, BURY_BYTES) {
            return self.bury(id, lot, &slice.batches, ctx);
        }
        let read = self.read_cold(from, to, BURY_BYTES);
        Self::spawn_then(ctx, read, move |topic, read, ctx| match read {
            Ok(batches) => topic.bury(id, lot, &batches, ctx),
            Err(failure) => topic.not_given_up(id, &lot, &failure, ctx),
        });
    }

    /// The first records of a consumer that are to be given up, as many as go together.
    fn doomed(&self, id: ConsumerId, most: usize, now: u64) -> Option<Lot> {
        let consumer = self.state.consumers.get(id).ok()?;
        let (parcel, doomed) = consumer.outstanding.doomed(now).next()?;
        let mut bytes = 0;
        let mut entries: Vec<Entry> = Vec::new();
        for entry in doomed.within(0..u64::MAX).take(most) {
            bytes += entry.bytes as usize;
            // One whose dead letter is there already needs no other, and goes alone.
            let alone = consumer.stands_by_copy(entry.offset);
            if !entries.is_empty() && (bytes > BURY_BYTES || alone) {
                break;
            }
            entries.push(entry);
            if alone {
                break;
            }
        }
        Some(Lot { parcel, entries })
    }

    /// Acks what was requeued from its dead letter and failed again: that letter is still there.
    fn bury_here(&mut self, id: ConsumerId, lot: &Lot, ctx: &mut Context<Self>) {
        let settled = lot.consumed(self, id).settled;
        let buried = self
            .check_writable()
            .and_then(|()| self.state.bury_here(id, &settled));
        match buried {
            Ok(change) => {
                self.submit(change, JobKind::Change);
                self.given_up(id, ctx);
            }
            Err(failure) => self.not_given_up(id, lot, &failure, ctx),
        }
    }

    /// Makes dead letters of what was read, and lets them set out.
    fn bury(&mut self, id: ConsumerId, mut lot: Lot, batches: &[Bytes], ctx: &mut Context<Self>) {
        let Ok(consumer) = self.state.consumers.get(id) else {
            self.giving_up.remove(&id);
            return;
        };
        let Some(dead_letters) = consumer.config().dead_letter_topic.clone() else {
            // The consumer was altered meanwhile.
            return self.try_later(id, ctx);
        };
        let grave = Grave {
            topic: self.state.name().to_owned(),
            consumer: consumer.name().to_owned(),
            ..Grave::default()
        };
        let mut builder = BatchBuilder::default();
        // What was not read this time stays.
        let written = write(batches, &lot.entries, &grave, &mut builder);
        lot.entries.retain(|entry| written.contains(&entry.offset));
        if lot.entries.is_empty() {
            return self.try_later(id, ctx);
        }
        let (reply, answered) = Reply::within();
        self.around.broker.do_send(Told::Bury {
            dead_letters,
            batch: Payload::Shared(builder.finish(Origin::default()).freeze()),
            consumed: lot.consumed(self, id),
            reply,
        });
        Self::spawn_then(ctx, answered, move |topic, answered, ctx| match answered {
            Ok(Ok(Answer::ProduceAll(_))) => topic.given_up(id, ctx),
            Ok(Err(failure)) => topic.not_given_up(id, &lot, &failure, ctx),
            // The broker is stopping, or an answer of another kind.
            Ok(Ok(_)) | Err(_) => topic.try_later(id, ctx),
        });
    }

    /// A lot is given up: on to the next one.
    fn given_up(&mut self, id: ConsumerId, ctx: &mut Context<Self>) {
        self.giving_up.remove(&id);
        self.wake(id, ctx);
        self.give_up(id, ctx);
    }

    /// The records stay. If one of them is in the way, it is found by halves, and put off alone.
    fn not_given_up(
        &mut self,
        id: ConsumerId,
        lot: &Lot,
        failure: &Failure,
        ctx: &mut Context<Self>,
    ) {
        let offset = lot.entries.first().map(|it| it.offset).unwrap_or_default();
        tracing::warn!(topic = %self.state.id, consumer = %id, offset, %failure, "not given up yet");
        let concerns_a_record = matches!(
            failure.code,
            ErrorCode::RecordTooLarge | ErrorCode::BatchTooLarge | ErrorCode::DataDamaged
        );
        if !concerns_a_record {
            return self.try_later(id, ctx);
        }
        let count = lot.entries.len();
        let mut most = count / 2;
        if count <= 1 {
            most = BURY_RECORDS;
            let due = self.clock.now() + micros(BURY_RETRY_LONGEST);
            let put_off = self
                .check_writable()
                .and_then(|()| self.state.put_off(id, lot.parcel, offset, due));
            match put_off {
                Ok(change) => self.submit(change, JobKind::Change),
                Err(_) => return self.try_later(id, ctx),
            }
        }
        if let Some(how) = self.giving_up.get_mut(&id) {
            (how.busy, how.most) = (false, most);
        }
        self.give_up(id, ctx);
        self.watch_leases(ctx);
    }

    /// The next attempt is made later and later.
    fn try_later(&mut self, id: ConsumerId, ctx: &mut Context<Self>) {
        let Some(how) = self.giving_up.get_mut(&id) else {
            return;
        };
        let wait = how.wait;
        how.wait = (wait * 2).min(BURY_RETRY_LONGEST);
        ctx.run_later(wait, move |topic, ctx| {
            let again = move |topic: &mut Self, ctx: &mut Context<Self>| {
                if let Some(how) = topic.giving_up.get_mut(&id) {
                    how.busy = false;
                }
                topic.give_up(id, ctx);
            };
            topic.when_free(Box::new(again), ctx);
        });
    }
}

/// Writes the dead letters of records, ascending, as far as the batches hold them; which.
fn write(
    batches: &[Bytes],
    entries: &[Entry],
    grave: &Grave,
    builder: &mut BatchBuilder,
) -> Vec<u64> {
    let mut written = Vec::new();
    for batch in batches {
        let Some(head) = Head::parse(batch) else {
            continue;
        };
        let offsets = head.base_offset..head.end_offset();
        let mut wanted = entries
            .iter()
            .filter(|entry| offsets.contains(&entry.offset))
            .peekable();
        if wanted.peek().is_none() {
            continue;
        }
        // It was checked when it was read.
        let Ok(opened) = batch::open(batch) else {
            continue;
        };
        for record in opened.records().flatten() {
            let offset = head.base_offset + record.offset_delta;
            let Some(entry) = wanted.next_if(|entry| entry.offset == offset) else {
                continue;
            };
            let grave = Grave {
                offset,
                append_time: head.append_time,
                deliveries: entry.deliveries,
                reason: format!("delivered {} times and not acked", entry.deliveries),
                ..grave.clone()
            };
            builder.push(&NewRecord {
                timestamp: head.lowest_timestamp.saturating_add(record.timestamp_delta),
                severity: record.severity,
                key: record.key,
                headers: &grave.headers(&record),
                value: record.value,
            });
            written.push(offset);
        }
    }
    written
}

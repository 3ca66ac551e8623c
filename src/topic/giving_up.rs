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

use actix::Context;
use bytes::Bytes;
use logdrive_protocol::batch::{self, BatchBuilder, Head, NewRecord, Origin};
use logdrive_protocol::operations::{Answer, Consumed, Payload, Settled};
use logdrive_protocol::{ConsumerId, Failure, WorkerId};

use super::actor::Topic;
use super::consumer::parcel::Entry;
use super::dead_letters::Grave;
use super::messages::Told;
use crate::clock::micros;
use crate::limits::{BURY_BYTES, BURY_RECORDS, BURY_RETRY_FIRST, BURY_RETRY_LONGEST};
use crate::reply::Reply;

/// How it goes with what a consumer gives up.
#[derive(Debug)]
pub(super) struct GivingUp {
    busy: bool,
    /// How long to wait after the next failure.
    wait: Duration,
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
        if self.giving_up.get(&id).is_some_and(|it| it.busy) {
            return;
        }
        let now = self.clock.now();
        let Some(lot) = self.doomed(id, now) else {
            self.giving_up.remove(&id);
            return;
        };
        let wait = self
            .giving_up
            .get(&id)
            .map_or(BURY_RETRY_FIRST, |it| it.wait);
        self.giving_up.insert(id, GivingUp { busy: true, wait });
        let (Some(first), Some(last)) = (lot.entries.first(), lot.entries.last()) else {
            return;
        };
        let (from, to) = (first.offset, last.offset + 1);
        if let Some(slice) = self.state.log.read(from, 0, usize::MAX) {
            return self.bury(id, lot, &slice.batches, ctx);
        }
        let read = self.read_cold(from, to, BURY_BYTES);
        Self::spawn_then(ctx, read, move |topic, read, ctx| match read {
            Ok(batches) => topic.bury(id, lot, &batches, ctx),
            Err(failure) => topic.put_off(id, &lot, &failure, ctx),
        });
    }

    /// The first records of a consumer that are to be given up, as many as go together.
    fn doomed(&self, id: ConsumerId, now: u64) -> Option<Lot> {
        let consumer = self.state.consumers.get(id).ok()?;
        let (parcel, doomed) = consumer.outstanding.doomed(now).next()?;
        let mut bytes = 0;
        let fits = |entry: &Entry| {
            bytes += entry.bytes as usize;
            bytes <= BURY_BYTES
        };
        let mut entries: Vec<Entry> = doomed
            .within(0..u64::MAX)
            .take(BURY_RECORDS)
            .take_while(fits)
            .collect();
        if entries.is_empty() {
            entries.extend(doomed.within(0..u64::MAX).next());
        }
        Some(Lot { parcel, entries })
    }

    /// Makes dead letters of what was read, and lets them set out.
    fn bury(&mut self, id: ConsumerId, mut lot: Lot, batches: &[Bytes], ctx: &mut Context<Self>) {
        let Ok(consumer) = self.state.consumers.get(id) else {
            self.giving_up.remove(&id);
            return;
        };
        let Some(dead_letters) = consumer.config().dead_letter_topic.clone() else {
            // The consumer was altered: there is no place for them any more.
            return self.wait_longer(id, lot.parcel, ctx);
        };
        let grave = Grave {
            topic: self.state.name().to_owned(),
            consumer: consumer.name().to_owned(),
            ..Grave::default()
        };
        let mut builder = BatchBuilder::default();
        // What was not read this time stays.
        lot.entries.retain(|entry| {
            batches
                .iter()
                .any(|it| write(it, entry, &grave, &mut builder))
        });
        if lot.entries.is_empty() {
            return self.wait_longer(id, lot.parcel, ctx);
        }
        let (reply, answered) = Reply::within();
        self.around.broker.do_send(Told::Bury {
            dead_letters,
            batch: Payload::Shared(builder.finish(Origin::default()).freeze()),
            consumed: lot.consumed(self, id),
            reply,
        });
        Self::spawn_then(ctx, answered, move |topic, answered, ctx| match answered {
            Ok(Ok(Answer::ProduceAll(_))) => {
                topic.giving_up.remove(&id);
                topic.give_up(id, ctx);
            }
            Ok(Err(failure)) => topic.put_off(id, &lot, &failure, ctx),
            // The broker is stopping, or an answer of another kind.
            Ok(Ok(_)) | Err(_) => topic.wait_longer(id, lot.parcel, ctx),
        });
    }

    fn put_off(&mut self, id: ConsumerId, lot: &Lot, failure: &Failure, ctx: &mut Context<Self>) {
        let offset = lot.entries.first().map(|it| it.offset);
        tracing::warn!(topic = %self.state.id, consumer = %id, ?offset, %failure, "not given up yet");
        self.wait_longer(id, lot.parcel, ctx);
    }

    /// The records stay; the next attempt is made later and later.
    fn wait_longer(&mut self, id: ConsumerId, parcel: u64, ctx: &mut Context<Self>) {
        let wait = self
            .giving_up
            .get(&id)
            .map_or(BURY_RETRY_FIRST, |it| it.wait);
        let longer = (wait * 2).min(BURY_RETRY_LONGEST);
        let waits = GivingUp {
            busy: false,
            wait: longer,
        };
        self.giving_up.insert(id, waits);
        let due = self.clock.now() + micros(wait);
        self.state.consumers.put_off(id, parcel, due);
        self.watch_leases(ctx);
    }
}

/// Writes the dead letter of a record, if the batch holds it.
fn write(batch: &Bytes, entry: &Entry, grave: &Grave, builder: &mut BatchBuilder) -> bool {
    let Some(head) = Head::parse(batch) else {
        return false;
    };
    if !(head.base_offset..head.end_offset()).contains(&entry.offset) {
        return false;
    }
    // It was checked when it was read.
    let Ok(opened) = batch::open(batch) else {
        return false;
    };
    let mut records = opened.records().flatten();
    let found = records.find(|it| head.base_offset + it.offset_delta == entry.offset);
    let Some(record) = found else { return false };
    let grave = Grave {
        offset: entry.offset,
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
    true
}

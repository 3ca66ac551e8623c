//! What clients do, by dice: one step is what meets in one flush.
//!
//! Owns the dice of a workload. It goes the way that the topics' shell goes: plan, read, stage. Its
//! neighbour: the [`store`](super::store) writes.

mod consuming;
mod producing;

use bytes::BytesMut;
use logdrive_protocol::batch::Origin;
use logdrive_protocol::operations::{Consumed, Gap, Setting};
use logdrive_protocol::{TopicId, WorkerId};

use super::held;
use super::store::Store;
use crate::storage::{At, JobKind};
use crate::topic::retention::Due;
use crate::topic::rows::TopicRow;
use crate::topic::state::{Acks, Plan, Planned, State};
use crate::topic::trimming;

/// Topics that live at a time.
const TOPICS: usize = 3;
/// Records of a topic that retention keeps.
const KEPT_RECORDS: &str = "6";
const WORKERS: [WorkerId; 2] = [WorkerId(1), WorkerId(2)];

impl Store {
    /// Several requests, one flush.
    pub(super) fn step(&mut self) -> Result<(), String> {
        self.now += self.random.u64(1_000..2_000_000);
        for sent in std::mem::take(&mut self.unknown) {
            self.send_again(&sent)?;
        }
        for _ in 0..self.random.u8(1..5) {
            self.act()?;
        }
        self.commit()?;
        if self.random.bool() {
            // What comes next is read from the disk.
            for state in self.topics.values_mut() {
                state.log.shrink_tail(0);
            }
        }
        Ok(())
    }

    fn act(&mut self) -> Result<(), String> {
        let topics: Vec<_> = self.topics.keys().copied().collect();
        let Some(topic) = self.random.choice(topics) else {
            self.create_topic();
            return Ok(());
        };
        match self.random.u8(..36) {
            0..10 => self.produce(topic)?,
            10..12 => self.retry(topic)?,
            32 | 33 => self.schedule(topic)?,
            34 | 35 => self.deliver(topic)?,
            12..18 => self.take(topic)?,
            18..22 => self.ack(topic)?,
            22 => self.nack(topic)?,
            23 => self.expire(topic),
            24 | 25 => self.trim(topic)?,
            26 => self.retain(topic)?,
            27 => self.register_producer(topic)?,
            28 => self.register_consumer(topic)?,
            29 => self.transact(topic)?,
            30 => self.move_or_forget(topic)?,
            _ if self.topics.len() < TOPICS && self.random.bool() => self.create_topic(),
            _ if self.random.bool() => self.delete_topic(topic),
            _ => self.alter_topic(topic)?,
        }
        Ok(())
    }

    fn state(&mut self, topic: TopicId) -> &mut State {
        self.topics.get_mut(&topic).unwrap()
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.reserve_ids();
        self.next_id
    }

    fn create_topic(&mut self) {
        self.count("topic created");
        let id = TopicId(self.fresh_id());
        let retains = self
            .random
            .bool()
            .then(|| setting("retention_records", KEPT_RECORDS));
        let row = TopicRow {
            name: format!("topic-{id}"),
            settings: retains.into_iter().collect(),
            created_at: self.now,
            ..TopicRow::default()
        };
        let mut state = State::newborn(id, row);
        let change = state.stage(Vec::new());
        self.attach(id);
        self.topics.insert(id, state);
        self.submit(id, change, JobKind::Change);
    }

    fn delete_topic(&mut self, topic: TopicId) {
        if let Some(mut state) = self.topics.remove(&topic) {
            self.count("topic deleted");
            let change = state.stage(Vec::new());
            if state.delayed.is_stored() {
                self.submit_delay_log(topic, change.ticket, Vec::new(), JobKind::Delete);
            }
            self.submit(topic, change, JobKind::Delete);
        }
    }

    fn alter_topic(&mut self, topic: TopicId) -> Result<(), String> {
        let set = [setting("description", &format!("at {}", self.now))];
        let change = self.state(topic).alter(&set, &[]).map_err(text)?;
        self.submit(topic, change, JobKind::Change);
        Ok(())
    }

    /// Somebody removes what is before some record.
    fn trim(&mut self, topic: TopicId) -> Result<(), String> {
        let extent = self.topics[&topic].extent();
        let (start, end) = (extent.start.offset, extent.end.offset);
        if start >= end {
            return self.produce(topic);
        }
        // Up to the end now and then.
        let before = self.random.u64(start..end + 2).min(end);
        self.trim_to(topic, &[At::Offset(before)], Gap::PURGE)
    }

    /// The topic's rule removes what it does not keep.
    fn retain(&mut self, topic: TopicId) -> Result<(), String> {
        let state = &self.topics[&topic];
        match state.retention().due(&state.extent(), self.now) {
            Due::Now(places) => self.trim_to(topic, &places, Gap::RETENTION),
            Due::Later(_) | Due::Never => self.produce(topic),
        }
    }

    fn trim_to(&mut self, topic: TopicId, places: &[At], reason: u8) -> Result<(), String> {
        let extent = self.topics[&topic].extent();
        let found = trimming::find(&self.reader(), topic, &extent, places);
        let found = found.map_err(|error| error.to_string())?;
        let gap = Gap {
            first_time: found.first_time,
            last_time: found.last_time,
            reason,
            ..Gap::default()
        };
        if let Some((change, kind)) = self.state(topic).trim(found.to, found.time, &gap) {
            let by_rule = reason == Gap::RETENTION;
            self.count(if by_rule {
                "trimmed by the rule"
            } else {
                "purged"
            });
            self.submit(topic, change, kind);
        }
        Ok(())
    }

    /// A batch here, acks for it, and a batch in another topic: one transaction.
    fn transact(&mut self, topic: TopicId) -> Result<(), String> {
        let batch = self.next_batch(topic);
        let sent = batch.clone().freeze();
        let now = self.now;
        let mut plan = self.plan(topic, batch)?;
        let offset = plan.receipt().base_offset;
        if let Some((consumer, worker, part)) = self.part_of_lease(topic) {
            let consumed = Consumed {
                topic,
                consumer,
                worker,
                settled: vec![part.clone()],
            };
            let state = &self.topics[&topic];
            let acked = state.plan_ack(&mut plan, &consumed, Acks::WithBatches);
            if acked.is_err() {
                return Ok(());
            }
            self.note_settled(topic, consumer, &part);
        }
        let change = self.state(topic).carry_out(*plan);
        self.note_sent(topic, sent, offset);
        self.submit(topic, change, JobKind::Change);
        let other = self.topics.keys().copied().find(|other| *other != topic);
        if let Some(other) = other {
            let batch = held::batch(&self.values(), now, Origin::default());
            let plan = self.plan(other, batch)?;
            self.count("transaction");
            let change = self.state(other).carry_out(*plan);
            self.submit(other, change, JobKind::Change);
        }
        Ok(())
    }

    fn plan(&mut self, topic: TopicId, batch: BytesMut) -> Result<Box<Plan>, String> {
        match self.topics[&topic].plan(batch, self.now).map_err(text)? {
            Planned::New(plan) => Ok(plan),
            other => Err(format!("a new batch is {other:?}")),
        }
    }

    /// A consumer is moved, a worker ends, or a registration does.
    fn move_or_forget(&mut self, topic: TopicId) -> Result<(), String> {
        let Some(consumer) = self.consumer(topic) else {
            return self.register_producer(topic);
        };
        let (dice, worker) = (self.random.u8(..6), self.random.choice(WORKERS).unwrap());
        let producers = self.held.known(topic).producers.clone();
        let producer = self.random.choice(producers);
        let state = self.topics.get_mut(&topic).unwrap();
        let known = self.held.known(topic);
        let (change, what) = match (dice, producer) {
            (0..2, _) => {
                let to = state.log.visible();
                known.settled.remove(&consumer);
                let moved = state.seek(consumer, to, None);
                (moved.map_err(text)?, "consumer moved")
            }
            (2, _) => {
                known.workers.remove(&(consumer, worker));
                let forgotten = state.consumers.forget_worker(topic, consumer, worker);
                let forgotten = forgotten.map_err(text)?;
                (state.stage(forgotten), "worker ended")
            }
            (3 | 4, Some((producer, (epoch, _)))) => {
                known.producers.remove(&producer);
                known.sends.retain(|sent| sent.producer != producer);
                let gone = state.producers.unregister(topic, producer, epoch);
                let gone = gone.map_err(text)?;
                (state.stage(gone), "producer unregistered")
            }
            _ => {
                known.settled.remove(&consumer);
                known.workers.retain(|(of, _), _| *of != consumer);
                let gone = state.consumers.remove(consumer).map_err(text)?;
                (state.stage(gone), "consumer unregistered")
            }
        };
        self.count(what);
        self.submit(topic, change, JobKind::Change);
        Ok(())
    }
}

fn setting(key: &str, value: &str) -> Setting {
    Setting {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn text(failure: logdrive_protocol::Failure) -> String {
    failure.to_string()
}

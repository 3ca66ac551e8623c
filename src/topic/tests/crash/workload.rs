//! What clients do, by dice: one step is what meets in one flush.
//!
//! Owns the dice of a workload. It goes the way that the topics' shell goes: plan, read, stage. Its
//! neighbour: the [`store`](super::store) writes.

use bytes::BytesMut;
use logdrive_protocol::batch::{Head, Origin};
use logdrive_protocol::operations::{Consumed, Gap, RegisterProducer, Setting, Settled};
use logdrive_protocol::{ConsumerId, ProducerId, TopicId, WorkerId};

use super::held::{self, Sent};
use super::store::Store;
use crate::reply::ConnectionId;
use crate::storage::{At, JobKind};
use crate::topic::consumer::taking::Enough;
use crate::topic::consumer::workers::Taker;
use crate::topic::consumer::{Plan as Look, Seen, Turn, Wish};
use crate::topic::delayed::delay_log;
use crate::topic::due;
use crate::topic::log::Slice;
use crate::topic::retention::Due;
use crate::topic::rows::TopicRow;
use crate::topic::state::{Acks, Append, Plan, Planned, Schedule, State};
use crate::topic::trimming;

/// Topics that live at a time.
const TOPICS: usize = 3;
/// Records of a topic that retention keeps.
const KEPT_RECORDS: &str = "6";
/// The longest lease, in microseconds.
const LEASE: u64 = 5_000_000;
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

    /// Values that no other batch has.
    fn values(&mut self) -> Vec<Vec<u8>> {
        let bytes = if self.random.u8(..6) == 0 {
            800..2_500
        } else {
            5..150
        };
        let count = self.random.usize(1..4);
        let value = |at: usize| {
            let key = self.random.choice(["a", "b", "c"]).unwrap();
            let mut value = format!("{key}{at}-{} ", self.random.u128(..)).into_bytes();
            value.resize(value.len() + self.random.usize(bytes.clone()), b'.');
            value
        };
        (0..count).map(value).collect()
    }

    /// A batch of a producer of the topic, or of nobody.
    fn next_batch(&mut self, topic: TopicId) -> BytesMut {
        let known = self.held.known(topic).producers.clone();
        let registered = self.random.u8(..5) > 0;
        let known = self.random.choice(known).filter(|_| registered);
        let origin = known.map_or(Origin::default(), |(producer, (epoch, sequence))| Origin {
            producer,
            epoch,
            sequence,
        });
        let values = self.values();
        held::batch(&values, self.now, origin)
    }

    fn produce(&mut self, topic: TopicId) -> Result<(), String> {
        let batch = self.next_batch(topic);
        let sent = batch.clone().freeze();
        let now = self.now;
        let Append::New(receipt, change) = self.state(topic).produce(batch, now).map_err(text)?
        else {
            return Err("a new batch was taken for a retry".to_owned());
        };
        self.count("produced");
        self.note_sent(topic, sent, receipt.base_offset);
        self.submit(topic, change, JobKind::Change);
        Ok(())
    }

    /// A batch that is to wait for its time.
    fn schedule(&mut self, topic: TopicId) -> Result<(), String> {
        let batch = self.next_batch(topic);
        let sent = batch.clone().freeze();
        let (now, due) = (self.now, self.now + self.random.u64(1..8_000_000));
        let scheduled = self.state(topic).schedule(batch, due, now).map_err(text)?;
        let Schedule::New(scheduled) = scheduled else {
            return Err("a new batch was taken for a retry".to_owned());
        };
        self.count("scheduled");
        self.note_sent(topic, sent, scheduled.receipt.base_offset);
        let (change, batches) = (scheduled.change, vec![scheduled.appended]);
        self.submit_delay_log(topic, change.ticket, batches, JobKind::Change);
        self.submit(topic, change, JobKind::Change);
        Ok(())
    }

    /// What has fallen due gets its place; the delay log is cleared where nothing waits.
    fn deliver(&mut self, topic: TopicId) -> Result<(), String> {
        let (now, reader) = (self.now, self.reader());
        let state = self.state(topic);
        let mut due = Vec::new();
        for (at, records) in state.delayed.ready(now, state.committed()) {
            let read = due::read_one(&reader, delay_log(topic), at, records);
            let batch = read.map_err(|error| error.to_string())?;
            due.push((at, BytesMut::from(&batch[..])));
        }
        if let Some(change) = state.deliver(due, now) {
            self.count("delivered");
            self.submit(topic, change, JobKind::Change);
        }
        let state = self.state(topic);
        if state.delayed.is_spent(true) {
            let row = state.delayed.clear(topic);
            let change = state.stage(vec![row]);
            self.count("delay log cleared");
            self.submit_delay_log(topic, change.ticket, Vec::new(), JobKind::Delete);
            self.submit(topic, change, JobKind::Change);
        } else if let Some(lowest) = state
            .delayed
            .ready(u64::MAX, u64::MAX)
            .iter()
            .map(|(due, _)| due.offset)
            .min()
        {
            // As soon as anything could go, not only when it is worth it.
            let (row, end) = state.delayed.trim(topic, lowest);
            let change = state.stage(vec![row]);
            let kind = JobKind::Trim {
                before: lowest,
                end,
            };
            self.submit_delay_log(topic, change.ticket, Vec::new(), kind);
            self.submit(topic, change, JobKind::Change);
        }
        Ok(())
    }

    fn note_sent(&mut self, topic: TopicId, batch: bytes::Bytes, offset: u64) {
        let head = Head::parse(&batch).unwrap();
        if head.producer.is_none() {
            return;
        }
        let known = self.held.known(topic);
        if let Some((_, next)) = known.producers.get_mut(&head.producer) {
            *next = head.sequence + u64::from(head.count);
        }
        known.sends.push(Sent {
            topic,
            producer: head.producer,
            sequence: head.sequence,
            batch,
            offset,
        });
    }

    /// A batch that is there already is sent again.
    fn retry(&mut self, topic: TopicId) -> Result<(), String> {
        let sends = &self.held.known(topic).sends;
        let newest = sends.len().saturating_sub(20);
        let sends = sends[newest..].to_vec();
        let Some(sent) = self.random.choice(sends) else {
            return Ok(());
        };
        let now = self.now;
        match self.state(topic).produce(sent.again(), now).map_err(text)? {
            Append::Staged(receipt, _) | Append::Durable(receipt)
                if receipt.base_offset == sent.offset =>
            {
                self.count("retried");
                Ok(())
            }
            other => Err(format!("the retry of {sent:?} is {other:?}")),
        }
    }

    /// A producer that was never answered sends again: it is stored unless it is there.
    fn send_again(&mut self, sent: &Sent) -> Result<(), String> {
        let now = self.now;
        let Some(state) = self.topics.get_mut(&sent.topic) else {
            return Ok(());
        };
        match state.produce(sent.again(), now) {
            Ok(Append::New(receipt, change)) => {
                self.note_sent(sent.topic, sent.batch.clone(), receipt.base_offset);
                self.submit(sent.topic, change, JobKind::Change);
                Ok(())
            }
            Ok(_) => Err(format!("{sent:?} was lost, and is taken for a retry")),
            // Its registration, or one batch before it, was lost too.
            Err(_) => Ok(()),
        }
    }

    fn register_producer(&mut self, topic: TopicId) -> Result<(), String> {
        let known = self.held.known(topic).producers.clone();
        let again = self.random.choice(known).filter(|_| self.random.bool());
        let fresh = match again {
            Some(_) => ProducerId::NONE,
            None => ProducerId(self.fresh_id()),
        };
        // A new instance takes over; nobody sends what the old one has sent.
        let request = RegisterProducer {
            producer: again.map_or(ProducerId::NONE, |(id, _)| id),
            instance: self.random.u64(1..),
            ..RegisterProducer::default()
        };
        let now = self.now;
        let registered = self.state(topic).register_producer(&request, fresh, now);
        let (registration, change) = registered.map_err(text)?;
        self.count("producer registered");
        let known = self.held.known(topic);
        known.sends.retain(|sent| sent.producer != registration.id);
        let next = (registration.epoch, registration.next_sequence);
        known.producers.insert(registration.id, next);
        self.submit(topic, change, JobKind::Change);
        Ok(())
    }

    fn register_consumer(&mut self, topic: TopicId) -> Result<(), String> {
        let id = ConsumerId(self.fresh_id());
        self.count("consumer registered");
        let settings = match self.random.u8(..3) {
            0 => vec![setting("max_leased", "40")],
            1 => vec![setting("order", "key")],
            _ => Vec::new(),
        };
        let state = self.topics.get_mut(&topic).unwrap();
        let (from, start) = (state.log.visible(), state.log.staged_start().0);
        let from = if from.offset < start.offset || self.random.u8(..3) > 0 {
            start
        } else {
            from
        };
        let name = format!("consumer-{id}");
        let consumers = &mut state.consumers;
        let rows = consumers.create(topic, id, &name, settings, from, start.offset);
        let change = state.stage(rows.map_err(text)?);
        self.submit(topic, change, JobKind::Change);
        Ok(())
    }

    fn consumer(&mut self, topic: TopicId) -> Option<ConsumerId> {
        let ids: Vec<_> = self.topics[&topic].consumers.ids().collect();
        self.random.choice(ids)
    }

    /// A worker asks for records, on lease or for good.
    fn take(&mut self, topic: TopicId) -> Result<(), String> {
        let Some(consumer) = self.consumer(topic) else {
            return self.register_consumer(topic);
        };
        let worker = self.random.choice(WORKERS).unwrap();
        let leased = self.random.u8(..4) > 0;
        let workers = &self.held.known(topic).workers;
        let sequence = workers.get(&(consumer, worker)).map_or(1, |last| last + 1);
        let taker = Taker {
            consumer,
            worker,
            sequence,
        };
        let (now, reader) = (self.now, self.reader());
        let most = self.random.u32(1..6);
        let state = self.state(topic);
        let (end, visible) = (state.log.end().offset, state.log.visible().offset);
        let its = state.consumers.get(consumer).map_err(text)?;
        let Turn::Next { next } = its.turn(taker, now).map_err(text)? else {
            return Err(format!("{taker:?} is taken for a repetition"));
        };
        let closely = its.looks_closely(leased);
        let looks = its.looks().clone();
        let mut is_cold = false;
        let slice = match its.plan(end, leased, now) {
            Look::Read(from) => {
                let most = if closely && from < next { 0 } else { most };
                match state.log.read_staged(from, most, 4_096) {
                    Some(slice) => slice,
                    None => {
                        is_cold = true;
                        let read = reader.read(topic, from, visible, 4_096);
                        let batches = read.map_err(|error| error.to_string())?.batches;
                        Slice::of(from, visible, most, 4_096, batches.into_iter())
                    }
                }
            }
            Look::Tell => Slice::at(next),
            Look::Copy(_) | Look::Held | Look::Empty => return Ok(()),
        };
        let is_next = slice.from == next && slice.to > slice.from;
        let found = (closely || !is_next)
            .then(|| looks.look(&slice.batches, next..slice.to, Enough::NEVER));
        let content = match &found {
            None => state.log.content(&slice),
            Some(_) => 0,
        };
        let seen = Seen {
            window: slice.from..slice.to,
            content,
            found,
        };
        let wish = Wish {
            max_records: most,
            lease: if leased { LEASE } else { 0 },
            connection: ConnectionId(worker.0),
        };
        let (taken, change) = state.take(taker, wish, &seen, now).map_err(text)?;
        if is_cold {
            self.count("read from the disk");
        }
        self.count(if leased {
            "taken on lease"
        } else {
            "taken for good"
        });
        let known = self.held.known(topic);
        if !taken.is_empty() {
            known.workers.insert((consumer, worker), sequence);
        }
        if !leased {
            let settled = known.settled.entry(consumer).or_default();
            settled.extend(taken.ranges.iter().flat_map(|range| range.from..range.to));
        }
        self.submit(topic, change, JobKind::Change);
        Ok(())
    }

    /// A part of a lease that is held now.
    fn part_of_lease(&mut self, topic: TopicId) -> Option<(ConsumerId, WorkerId, Settled)> {
        let consumer = self.consumer(topic)?;
        let state = &self.topics[&topic];
        let (visible, held) = (state.log.visible().offset, state.consumers.get(consumer));
        let leases = held.ok()?.outstanding.leases();
        let leases: Vec<_> = leases
            .map(|(id, lease, parcel)| (id, lease.worker, parcel.span()))
            .filter(|(_, _, span)| span.end <= visible)
            .collect();
        let (lease, worker, span) = self.random.choice(leases)?;
        let from = self.random.u64(span.clone());
        let settled = Settled {
            lease,
            from,
            to: self.random.u64(from + 1..=span.end),
        };
        Some((consumer, worker, settled))
    }

    /// Records that are in a part of a lease become settled with it.
    fn note_settled(&mut self, topic: TopicId, consumer: ConsumerId, part: &Settled) {
        let state = &self.topics[&topic];
        let its = state.consumers.get(consumer).unwrap();
        let lease = its.outstanding.lease(part.lease);
        let offsets: Vec<_> = lease.map_or_else(Vec::new, |(_, parcel)| {
            let within = parcel.within(part.from..part.to);
            within.map(|entry| entry.offset).collect()
        });
        let known = self.held.known(topic);
        known.settled.entry(consumer).or_default().extend(offsets);
    }

    fn ack(&mut self, topic: TopicId) -> Result<(), String> {
        let Some((consumer, worker, part)) = self.part_of_lease(topic) else {
            return self.take(topic);
        };
        let state = self.state(topic);
        let visible = state.log.visible().offset;
        let part = [part];
        let checked = state
            .consumers
            .check_settled(consumer, worker, &part, visible);
        if checked.is_err() {
            return Ok(());
        }
        self.note_settled(topic, consumer, &part[0]);
        let acked = self.state(topic).ack(consumer, worker, &part);
        let (_, change) = acked.map_err(text)?;
        self.count("acked");
        self.submit(topic, change, JobKind::Change);
        Ok(())
    }

    fn nack(&mut self, topic: TopicId) -> Result<(), String> {
        let Some((consumer, worker, part)) = self.part_of_lease(topic) else {
            return self.produce(topic);
        };
        let (now, due) = (self.now, self.random.bool().then_some(self.now + 100));
        let nacked = self.state(topic).nack(consumer, worker, &[part], due, now);
        if let Ok((_, change)) = nacked {
            self.count("given back");
            self.submit(topic, change, JobKind::Change);
        }
        Ok(())
    }

    /// Leases whose time is over end.
    fn expire(&mut self, topic: TopicId) {
        let now = self.now;
        for (_, change) in self.state(topic).expire(now) {
            self.count("leases ended");
            if let Some(change) = change {
                self.submit(topic, change, JobKind::Change);
            }
        }
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

fn text(failure: logdrive_protocol::Failure) -> String {
    failure.to_string()
}

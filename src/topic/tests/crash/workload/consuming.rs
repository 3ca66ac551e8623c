//! What workers do: take, ack, give back.
//!
//! Its neighbour: [`step`](super::super::store::Store::step) throws the dice.

use logdrive_protocol::operations::Settled;
use logdrive_protocol::{ConsumerId, TopicId, WorkerId};

use super::super::store::Store;
use super::{WORKERS, setting, text};
use crate::reply::ConnectionId;
use crate::storage::JobKind;
use crate::topic::consumer::taking::Enough;
use crate::topic::consumer::workers::Taker;
use crate::topic::consumer::{Plan, Seen, Turn, Wish};
use crate::topic::log::Slice;

/// How long a lease is, in microseconds.
const LEASE: u64 = 5_000_000;
/// What a worker reads at most.
const READ_BYTES: usize = 4_096;

impl Store {
    pub(super) fn register_consumer(&mut self, topic: TopicId) -> Result<(), String> {
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

    pub(super) fn consumer(&mut self, topic: TopicId) -> Option<ConsumerId> {
        let ids: Vec<_> = self.topics[&topic].consumers.ids().collect();
        self.random.choice(ids)
    }

    /// A worker asks for records, on lease or for good.
    pub(super) fn take(&mut self, topic: TopicId) -> Result<(), String> {
        let Some(consumer) = self.consumer(topic) else {
            return self.register_consumer(topic);
        };
        let worker = self.random.choice(WORKERS).unwrap();
        let leased = self.random.u8(..4) > 0;
        let most = self.random.u32(1..6);
        let workers = &self.held.known(topic).workers;
        let sequence = workers.get(&(consumer, worker)).map_or(1, |last| last + 1);
        let asked = Taker {
            consumer,
            worker,
            sequence,
        };
        let Some(seen) = self.see(topic, asked, leased, most)? else {
            return Ok(());
        };
        let wish = Wish {
            max_records: most,
            lease: if leased { LEASE } else { 0 },
            connection: ConnectionId(worker.0),
        };
        let now = self.now;
        let given = self.state(topic).take(asked, wish, &seen, now);
        let (given, change) = given.map_err(text)?;
        self.count(if leased {
            "taken on lease"
        } else {
            "taken for good"
        });
        let known = self.held.known(topic);
        if !given.is_empty() {
            known.workers.insert((consumer, worker), sequence);
        }
        if !leased {
            let settled = known.settled.entry(consumer).or_default();
            settled.extend(given.ranges.iter().flat_map(|range| range.from..range.to));
        }
        self.submit(topic, change, JobKind::Change);
        Ok(())
    }

    /// What there is for a worker: planned, read from memory or from the disk, and looked at.
    fn see(
        &mut self,
        topic: TopicId,
        asked: Taker,
        leased: bool,
        most: u32,
    ) -> Result<Option<Seen>, String> {
        let (now, reader) = (self.now, self.reader());
        let state = self.state(topic);
        let (end, visible) = (state.log.end().offset, state.log.visible().offset);
        let consumer = state.consumers.get(asked.consumer).map_err(text)?;
        let Turn::Next { next } = consumer.turn(asked, now).map_err(text)? else {
            return Err(format!("{asked:?} is taken for a repetition"));
        };
        let closely = consumer.looks_closely(leased);
        let looks = consumer.looks().clone();
        let (slice, is_cold) = match consumer.plan(end, leased, now) {
            Plan::Read(from) => {
                let most = if closely && from < next { 0 } else { most };
                if let Some(slice) = state.log.read_staged(from, most, READ_BYTES) {
                    (slice, false)
                } else {
                    let read = reader.read(topic, from, visible, READ_BYTES);
                    let batches = read.map_err(|error| error.to_string())?.batches;
                    let slice = Slice::of(from, visible, most, READ_BYTES, batches.into_iter());
                    (slice, true)
                }
            }
            Plan::Tell => (Slice::at(next), false),
            Plan::Copy(_) | Plan::Held | Plan::Empty => return Ok(None),
        };
        let is_next = slice.from == next && slice.to > slice.from;
        let found = (closely || !is_next)
            .then(|| looks.look(&slice.batches, next..slice.to, Enough::NEVER));
        let content = match &found {
            None => state.log.content(&slice),
            Some(_) => 0,
        };
        if is_cold {
            self.count("read from the disk");
        }
        Ok(Some(Seen {
            window: slice.from..slice.to,
            content,
            found,
        }))
    }

    /// A part of a lease that is held now.
    pub(super) fn part_of_lease(
        &mut self,
        topic: TopicId,
    ) -> Option<(ConsumerId, WorkerId, Settled)> {
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
    pub(super) fn note_settled(&mut self, topic: TopicId, consumer: ConsumerId, part: &Settled) {
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

    pub(super) fn ack(&mut self, topic: TopicId) -> Result<(), String> {
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

    pub(super) fn nack(&mut self, topic: TopicId) -> Result<(), String> {
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
    pub(super) fn expire(&mut self, topic: TopicId) {
        let now = self.now;
        for (_, change) in self.state(topic).expire(now) {
            self.count("leases ended");
            if let Some(change) = change {
                self.submit(topic, change, JobKind::Change);
            }
        }
    }
}

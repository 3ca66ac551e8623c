//! What a store must hold after a flush: the rows of all topics, their batches, and what clients know.
//!
//! Owns the model. It is filled from what topics hand to the storage, never from what the storage
//! gives back. Its neighbours: [`store`](super::store) fills it, [`judge`](super::judge) compares.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use logdrive_protocol::batch::{BatchBuilder, Head, NewRecord, Origin};
use logdrive_protocol::{ConsumerId, ProducerId, TopicId, WorkerId};

use crate::storage::{Job, JobKind};
use crate::topic::consumer::workers::Taker;
use crate::topic::consumer::{Consumer, Turn};
use crate::topic::delayed::{Due, delay_log};
use crate::topic::rows::ExtentRow;
use crate::topic::state::State;

/// State rows by key.
pub(super) type RowMap = BTreeMap<Vec<u8>, Vec<u8>>;

/// Everything after some flush.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// Which flush.
    pub(super) number: u64,
    pub(super) rows: BTreeMap<TopicId, RowMap>,
    pub(super) topics: BTreeMap<TopicId, Arc<Known>>,
    /// The batches in each topic's delay log.
    pub(super) delay_logs: BTreeMap<TopicId, Vec<Bytes>>,
}

/// What is known of one topic.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) picture: Picture,
    /// Batches that hold something at or after the start, as they are stored.
    pub(super) batches: Vec<Bytes>,
    /// What registered producers have sent, in order.
    pub(super) sends: Vec<Sent>,
    /// The epoch of each producer, and its next sequence.
    pub(super) producers: BTreeMap<ProducerId, (u32, u64)>,
    /// The sequence of each worker's last answer.
    pub(super) workers: BTreeMap<(ConsumerId, WorkerId), u64>,
    /// What consumers have acked or taken for good.
    pub(super) settled: BTreeMap<ConsumerId, BTreeSet<u64>>,
}

/// A batch of a registered producer, and where it went.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) topic: TopicId,
    pub(super) producer: ProducerId,
    pub(super) sequence: u64,
    /// As it was sent, without the broker's part.
    pub(super) batch: Bytes,
    pub(super) offset: u64,
}

/// A topic as its users can see it; the same before and after it was stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Picture {
    extent: ExtentRow,
    producers: Vec<ProducerId>,
    consumers: Vec<Stand>,
    /// What waits for its time: when, where in the delay log, and how many records.
    waiting: Vec<(Due, u32)>,
}

/// Where a consumer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stand {
    id: ConsumerId,
    name: String,
    next: u64,
    records: u64,
    bytes: u64,
    /// Before this, everything is acked.
    cursor: u64,
    /// Given and not acked.
    outstanding: BTreeSet<u64>,
    gaps: u64,
    /// What each worker is given that asks for its last answer again.
    answers: Vec<(WorkerId, Option<Answer>)>,
}

/// The first offset of an answer, the one after its last, and its lease.
type Answer = (u64, u64, u64);

impl Picture {
    pub(super) fn of(state: &State, known: &Known, now: u64) -> Self {
        let consumers = state.consumers.ids();
        let stand = |id| {
            let consumer = state.consumers.get(id).unwrap();
            Stand::of(id, consumer, known, now)
        };
        Self {
            extent: state.log.row(),
            producers: state.producers.ids().collect(),
            consumers: consumers.map(stand).collect(),
            waiting: state.delayed.ready(u64::MAX, u64::MAX),
        }
    }

    /// The first offset that is kept, and the one after the last.
    pub(super) fn span(&self) -> std::ops::Range<u64> {
        self.extent.start..self.extent.end
    }
}

/// The records that a consumer was given and has not acked.
pub(super) fn outstanding(consumer: &Consumer) -> BTreeSet<u64> {
    let of = &consumer.outstanding;
    let leased = of.leases().map(|(_, _, parcel)| parcel);
    let unleased = of.unleased().into_iter().filter_map(|(id, ..)| of.get(id));
    let parcels = leased.chain(unleased);
    let entries = parcels.flat_map(|parcel| parcel.within(0..u64::MAX));
    entries.map(|entry| entry.offset).collect()
}

impl Stand {
    fn of(id: ConsumerId, consumer: &Consumer, known: &Known, now: u64) -> Self {
        let next = consumer.next();
        let outstanding = outstanding(consumer);
        let its_own = |((of, worker), sequence): (&(ConsumerId, WorkerId), &u64)| {
            (*of == id).then_some((*worker, *sequence))
        };
        let again = |(worker, sequence)| {
            let taker = Taker {
                consumer: id,
                worker,
                sequence,
            };
            let answer = match consumer.turn(taker, now) {
                Ok(Turn::Again {
                    from, to, lease, ..
                }) => Some((from, to, lease)),
                _ => None,
            };
            (worker, answer)
        };
        Self {
            id,
            name: consumer.name().to_owned(),
            next: next.offset,
            records: next.totals.records,
            bytes: next.totals.bytes,
            cursor: outstanding.first().copied().unwrap_or(next.offset),
            outstanding,
            gaps: consumer.gaps(),
            answers: (known.workers.iter())
                .filter_map(its_own)
                .map(again)
                .collect(),
        }
    }
}

impl Held {
    /// Takes in what a topic hands to the storage.
    pub(super) fn take(&mut self, job: &Job) {
        let topic = job.topic;
        if topic == delay_log(topic) {
            let batches = self.delay_logs.entry(topic).or_default();
            return take_batches(batches, job);
        }
        if job.kind == JobKind::Delete {
            self.rows.remove(&topic);
            self.topics.remove(&topic);
        }
        let rows = self.rows.entry(topic).or_default();
        for row in &job.rows {
            match &row.value {
                Some(value) => drop(rows.insert(row.key.clone(), value.clone())),
                None => drop(rows.remove(&row.key)),
            }
        }
        if rows.is_empty() {
            self.rows.remove(&topic);
        }
        if job.kind == JobKind::Delete || topic.is_none() {
            return;
        }
        take_batches(&mut self.known(topic).batches, job);
    }

    /// What is known of a topic, to be changed.
    pub(super) fn known(&mut self, topic: TopicId) -> &mut Known {
        Arc::make_mut(self.topics.entry(topic).or_default())
    }

    pub(super) fn sends(&self) -> impl Iterator<Item = &Sent> {
        self.topics.values().flat_map(|known| &known.sends)
    }

    /// Whether a producer's batch is among what was sent.
    pub(super) fn has(&self, sent: &Sent) -> bool {
        let known = self.topics.get(&sent.topic);
        known.is_some_and(|known| known.sends.iter().any(|it| it.batch == sent.batch))
    }
}

fn take_batches(batches: &mut Vec<Bytes>, job: &Job) {
    let new = job.batches.iter().map(|it| it.bytes.clone());
    match job.kind {
        JobKind::Delete => batches.clear(),
        JobKind::Change => batches.extend(new),
        JobKind::Trim { before, .. } => {
            batches.extend(new);
            batches.retain(|batch| Head::parse(batch).unwrap().end_offset() > before);
        }
    }
}

impl Sent {
    /// To be sent once more.
    pub(super) fn again(&self) -> BytesMut {
        BytesMut::from(&self.batch[..])
    }
}

/// A batch of these values, the keys of which are their first bytes.
pub(super) fn batch(values: &[Vec<u8>], time: u64, origin: Origin) -> BytesMut {
    let mut builder = BatchBuilder::default();
    for value in values {
        builder.push(&NewRecord {
            timestamp: time,
            key: value.get(..1),
            value,
            ..NewRecord::default()
        });
    }
    builder.finish(origin)
}

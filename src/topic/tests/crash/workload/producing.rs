//! What producers do: send, send again, let batches wait for their time.
//!
//! Its neighbour: [`step`](super::super::store::Store::step) throws the dice.

use bytes::BytesMut;
use logdrive_protocol::batch::{Head, Origin};
use logdrive_protocol::operations::RegisterProducer;
use logdrive_protocol::{ProducerId, TopicId};

use super::super::held::{self, Sent};
use super::super::store::Store;
use super::text;
use crate::storage::JobKind;
use crate::topic::delayed::delay_log;
use crate::topic::due;
use crate::topic::state::{Append, Schedule};

impl Store {
    /// Values that no other batch has.
    pub(super) fn values(&mut self) -> Vec<Vec<u8>> {
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
    pub(super) fn next_batch(&mut self, topic: TopicId) -> BytesMut {
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

    pub(super) fn produce(&mut self, topic: TopicId) -> Result<(), String> {
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
    pub(super) fn schedule(&mut self, topic: TopicId) -> Result<(), String> {
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
    pub(super) fn deliver(&mut self, topic: TopicId) -> Result<(), String> {
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

    pub(super) fn note_sent(&mut self, topic: TopicId, batch: bytes::Bytes, offset: u64) {
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
    pub(super) fn retry(&mut self, topic: TopicId) -> Result<(), String> {
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
    pub(super) fn send_again(&mut self, sent: &Sent) -> Result<(), String> {
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

    pub(super) fn register_producer(&mut self, topic: TopicId) -> Result<(), String> {
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
}

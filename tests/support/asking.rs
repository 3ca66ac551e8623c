//! The requests that most tests make, and the batches that they send.

use logdrive_protocol::batch::{BatchBuilder, Codec, NewRecord, Origin, Packer};
use logdrive_protocol::operations::{
    Cancel, Consume, ConsumerRegistered, Counted, CreateTopic, Delivered, Fetch, Part, Payload,
    Ping, Produce, ProduceAll, ProducerRegistered, RegisterConsumer, RegisterProducer, Size, Stats,
};
use logdrive_protocol::{ConsumerId, Position, TopicId, WorkerId};

use super::Connection;

/// A batch of these values, of no producer.
pub(crate) fn batch(values: &[&str]) -> Payload {
    batch_of(Origin::default(), values)
}

/// A batch of these values.
pub(crate) fn batch_of<V: AsRef<[u8]>>(origin: Origin, values: &[V]) -> Payload {
    Payload::Shared(builder_of(values).finish(origin).freeze())
}

/// A batch of these values, packed; they must be worth it.
pub(crate) fn packed<V: AsRef<[u8]>>(codec: Codec, origin: Origin, values: &[V]) -> Payload {
    let mut packer = Packer::new(codec);
    let batch = builder_of(values).finish_packed(origin, &mut packer);
    assert_eq!(u16::from(batch[49]), codec.number());
    Payload::Shared(batch.freeze())
}

fn builder_of<V: AsRef<[u8]>>(values: &[V]) -> BatchBuilder {
    let mut builder = BatchBuilder::default();
    for value in values {
        builder.push(&NewRecord {
            timestamp: 1_000_000,
            value: value.as_ref(),
            ..NewRecord::default()
        });
    }
    builder
}

/// A request to append a batch, to be answered when it is synced.
pub(crate) fn produce(topic: TopicId, batch: Payload) -> Produce {
    Produce {
        topic,
        batch,
        ..Produce::default()
    }
}

/// A request to append a batch when its time has come, in microseconds since 1970 UTC.
pub(crate) fn schedule(topic: TopicId, batch: Payload, not_before: u64) -> Produce {
    Produce {
        not_before,
        ..produce(topic, batch)
    }
}

/// A request to append batches to several topics at once.
pub(crate) fn produce_all(parts: impl IntoIterator<Item = (TopicId, Payload)>) -> ProduceAll {
    let parts = parts.into_iter();
    ProduceAll {
        parts: parts.map(|(topic, batch)| Part { topic, batch }).collect(),
        ..ProduceAll::default()
    }
}

/// A request to append a batch, to be answered when it is staged.
pub(crate) fn produce_accepted(topic: TopicId, batch: Payload) -> Produce {
    Produce {
        ack: Produce::ACCEPTED,
        ..produce(topic, batch)
    }
}

/// A request to read from an offset.
pub(crate) fn fetch(topic: TopicId, from: u64) -> Fetch {
    Fetch {
        topic,
        from: Position::Offset(from),
        ..Fetch::default()
    }
}

/// A request to read from an offset, which waits for as long as the broker lets it.
pub(crate) fn fetch_waiting(topic: TopicId, from: u64) -> Fetch {
    Fetch {
        max_wait_ms: u32::MAX,
        ..fetch(topic, from)
    }
}

/// A request of a topic's name and a producer's, for a new run of a program.
pub(crate) fn register(topic: &str, name: &str, instance: u64) -> RegisterProducer {
    RegisterProducer {
        topic: topic.to_owned(),
        name: name.to_owned(),
        instance,
        ..RegisterProducer::default()
    }
}

/// A registration as the head of its batches has it.
pub(crate) fn origin(registered: &ProducerRegistered, sequence: u64) -> Origin {
    Origin {
        producer: registered.producer,
        epoch: registered.epoch,
        sequence,
    }
}

/// A worker of a consumer, with its place in the sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Worker {
    pub(crate) topic: TopicId,
    pub(crate) consumer: ConsumerId,
    pub(crate) id: u64,
}

impl Worker {
    /// A worker of a consumer that is registered.
    pub(crate) fn of(registered: &ConsumerRegistered, id: u64) -> Self {
        Self {
            topic: registered.topic,
            consumer: registered.consumer,
            id,
        }
    }

    /// Its request for at most so many records; 0 for no limit.
    pub(crate) fn take(&self, sequence: u64, max_records: u32) -> Consume {
        Consume {
            topic: self.topic,
            consumer: self.consumer,
            worker: WorkerId(self.id),
            sequence,
            max_records,
            ..Consume::default()
        }
    }

    /// Its request for one record, which waits for as long as the broker lets it.
    pub(crate) fn wait(&self, sequence: u64) -> Consume {
        Consume {
            max_wait_ms: u32::MAX,
            ..self.take(sequence, 1)
        }
    }

    /// What is left for its consumer.
    pub(crate) fn size(&self) -> Size {
        Size {
            topic: self.topic,
            consumer: self.consumer,
        }
    }
}

impl Connection {
    /// Creates a topic that is new.
    pub(crate) fn create(&mut self, name: &str) -> TopicId {
        let create = CreateTopic {
            name: name.to_owned(),
            ..CreateTopic::default()
        };
        let created = self.ask(create).unwrap();
        assert!(created.created);
        created.topic
    }

    /// Appends a batch of these values; the offset of the first.
    pub(crate) fn produce(&mut self, topic: TopicId, values: &[&str]) -> u64 {
        self.ask(produce(topic, batch(values))).unwrap().base_offset
    }

    /// Registers a consumer at the topic's beginning, or finds it.
    pub(crate) fn consumer(&mut self, topic: &str, name: &str) -> ConsumerRegistered {
        self.ask(RegisterConsumer {
            topic: topic.to_owned(),
            name: name.to_owned(),
            create: true,
            ..RegisterConsumer::default()
        })
        .unwrap()
    }

    /// Registers a nameless producer and creates the topic if it is missing.
    pub(crate) fn producer(&mut self, topic: &str) -> ProducerRegistered {
        self.ask(RegisterProducer {
            create_topic: true,
            ..register(topic, "", fastrand::u64(1..))
        })
        .unwrap()
    }

    /// The broker's clock, in microseconds since 1970 UTC.
    pub(crate) fn now(&mut self) -> u64 {
        self.ask(Ping {}).unwrap().now
    }

    /// All records of a topic, page by page.
    pub(crate) fn all(&mut self, topic: TopicId) -> Vec<(u64, Vec<u8>)> {
        let mut records = Vec::new();
        let mut next = 0;
        loop {
            let mut page: Delivered = self.ask(fetch(topic, next)).unwrap();
            page.check(topic).unwrap();
            if page.status == Delivered::EMPTY {
                return records;
            }
            records.extend(
                page.records()
                    .map(|it| (it.offset, it.record.value.to_vec())),
            );
            next = page.next;
        }
    }

    /// Returns when all that was sent to the topic before has been looked at.
    pub(crate) fn settle(&mut self, topic: TopicId) {
        let correlation = u32::MAX;
        self.ask(Cancel { topic, correlation }).unwrap();
    }

    /// A counter of a topic, or of the broker if the name is empty.
    pub(crate) fn counter(&mut self, topic: &str, name: &str) -> u64 {
        let stats = Stats {
            topic: topic.to_owned(),
        };
        let Counted { counters } = self.ask(stats).unwrap();
        counters.iter().find(|it| it.name == name).unwrap().value
    }
}

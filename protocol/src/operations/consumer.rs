//! Operations of consumers.

use crate::Position;
use crate::body::bodies;
use crate::ids::{ConsumerId, TopicId, WorkerId};

use super::topic::Setting;

bodies! {
    /// Registers a consumer, or looks one up.
    pub struct RegisterConsumer {
        /// The topic's name; it must exist.
        pub topic: String,
        /// The consumer's name.
        pub name: String,
        /// Where a new consumer begins; ignored for one that exists.
        pub from: Position,
        /// Settings other than the defaults; empty accepts those of an existing consumer.
        pub settings: Vec<Setting>,
        /// Whether a missing consumer is created.
        pub create: bool,
    }

    /// The consumer is there and durable.
    pub struct ConsumerRegistered {
        /// The topic's id.
        pub topic: TopicId,
        /// The consumer's id.
        pub consumer: ConsumerId,
        /// Offset of the next record for it.
        pub cursor: u64,
        /// False if it was there before.
        pub created: bool,
    }

    /// Removes a consumer and its cursor.
    pub struct UnregisterConsumer {
        /// The topic.
        pub topic: TopicId,
        /// The consumer.
        pub consumer: ConsumerId,
    }

    /// The consumer is gone.
    pub struct ConsumerUnregistered {}

    /// Takes the next records for a consumer and moves its cursor past them.
    pub struct Consume {
        /// The topic.
        pub topic: TopicId,
        /// The consumer.
        pub consumer: ConsumerId,
        /// Who takes them: random, kept while the taker lives; 0 has no memory.
        pub worker: WorkerId,
        /// 1 for the worker's first request, one more after each answer that gave something.
        pub sequence: u64,
        /// At most so many records; 0 for no limit.
        pub max_records: u32,
        /// At most so many bytes, but always one batch; 0 for 1 MiB.
        pub max_bytes: u32,
        /// How long to wait for a first record, in milliseconds.
        pub max_wait_ms: u32,
        /// How long the worker may take, in milliseconds, before the records are given to another;
        /// 0 takes them for good.
        pub lease_ms: u32,
        /// Epoch of the leader, as the client knows it; 0 without a cluster.
        pub leader_epoch: u64,
    }

    /// Ends a worker: its place is free for another. For one that took its last answer.
    pub struct UnregisterWorker {
        /// The topic.
        pub topic: TopicId,
        /// The consumer.
        pub consumer: ConsumerId,
        /// The worker; one that is not known is a success.
        pub worker: WorkerId,
    }

    /// The worker is forgotten, durably.
    pub struct WorkerUnregistered {}

    /// Moves a consumer's cursor.
    pub struct Seek {
        /// The topic.
        pub topic: TopicId,
        /// The consumer.
        pub consumer: ConsumerId,
        /// Where to.
        pub to: Position,
    }

    /// The cursor has moved, durably.
    pub struct Sought {
        /// Offset of the next record for the consumer.
        pub cursor: u64,
    }

    /// Asks what is left for a consumer.
    pub struct Size {
        /// The topic.
        pub topic: TopicId,
        /// The consumer.
        pub consumer: ConsumerId,
    }

    /// What is left for a consumer, exactly.
    pub struct Measured {
        /// Visible records that are not acked.
        pub records: u64,
        /// Their keys, headers and values, in bytes.
        pub bytes: u64,
        /// Microseconds since the oldest of them was appended; 0 if there is none or it cannot be
        /// read.
        pub oldest_age: u64,
        /// Records that are leased; they are counted in `records` too.
        pub leased: u64,
        /// Records that wait for their time; not counted in `records`.
        pub delayed: u64,
        /// Gaps that the consumer has not been told of.
        pub gaps: u64,
    }

    /// Changes a consumer's settings, pauses it or lets it go on.
    pub struct AlterConsumer {
        /// The topic.
        pub topic: TopicId,
        /// The consumer.
        pub consumer: ConsumerId,
        /// Settings to set; those that are not named stay.
        pub set: Vec<Setting>,
        /// Keys of settings that go back to their defaults.
        pub unset: Vec<String>,
        /// 0 = leave it as it is, 1 = give no records, 2 = give records again.
        pub pause: u8,
    }

    /// The consumer is changed, durably.
    pub struct ConsumerAltered {
        /// Its settings now, other than the defaults.
        pub settings: Vec<Setting>,
        /// Whether it gives no records.
        pub paused: bool,
    }

    /// Describes a consumer and its leases.
    pub struct DescribeConsumer {
        /// The topic.
        pub topic: TopicId,
        /// The consumer.
        pub consumer: ConsumerId,
        /// Only leases with ids above this one.
        pub after: u64,
        /// At most so many leases, up to 1000; 0 for 100.
        pub limit: u32,
    }

    /// A consumer in full.
    pub struct ConsumerDescribed {
        /// Its name.
        pub name: String,
        /// Settings other than the defaults.
        pub settings: Vec<Setting>,
        /// Whether it gives no records.
        pub paused: bool,
        /// Everything before this offset is acked.
        pub cursor: u64,
        /// Offset of the first record that was never given to anybody.
        pub next: u64,
        /// Visible records that are not acked.
        pub records: u64,
        /// Their keys, headers and values, in bytes.
        pub bytes: u64,
        /// Records that are leased.
        pub leased: u64,
        /// Records below `next` that are neither acked nor leased: given back, or set aside.
        pub waiting: u64,
        /// Gaps that the consumer has not been told of.
        pub gaps: u64,
        /// Workers that it knows.
        pub workers: u32,
        /// Why no more records are given although there are some; empty if nothing is in the way.
        pub held_by: String,
        /// The offset of the record that is in the way, where there is one.
        pub held_offset: u64,
        /// That record's key, where its key is in the way.
        pub held_key: Option<String>,
        /// In the order of their ids.
        pub leases: Vec<LeaseSummary>,
        /// Whether there are more leases after the last one.
        pub more: bool,
    }

    /// What a description says of one lease.
    pub struct LeaseSummary {
        /// The lease.
        pub lease: u64,
        /// Who holds it.
        pub worker: WorkerId,
        /// Records that are not settled.
        pub records: u64,
        /// Offset of the first of them.
        pub from: u64,
        /// Milliseconds until they are given to another.
        pub left_ms: u64,
    }
}

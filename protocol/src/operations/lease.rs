//! Operations on leases: records that were handed to a worker until a deadline.

use crate::body::bodies;
use crate::ids::{ConsumerId, TopicId, WorkerId};

bodies! {
    /// Records of one lease: all that it holds within these offsets.
    pub struct Settled {
        /// The lease, as a range of the answer names it.
        pub lease: u64,
        /// The first offset; 0 for everything up to `to`.
        pub from: u64,
        /// After the last.
        pub to: u64,
    }

    /// Says that records were processed: they are not given again.
    pub struct Ack {
        /// The topic.
        pub topic: TopicId,
        /// The consumer.
        pub consumer: ConsumerId,
        /// The worker that holds the leases.
        pub worker: WorkerId,
        /// Which records; all of them or none.
        pub settled: Vec<Settled>,
    }

    /// The records are acked, durably.
    pub struct Acked {
        /// So many by this request; those that were acked before are not counted.
        pub records: u64,
    }

    /// Gives records back, to be delivered again.
    pub struct Nack {
        /// The topic.
        pub topic: TopicId,
        /// The consumer.
        pub consumer: ConsumerId,
        /// The worker that holds the leases.
        pub worker: WorkerId,
        /// Which records; all of them or none.
        pub settled: Vec<Settled>,
        /// Not before so many milliseconds have passed; 0 for at once.
        pub delay_ms: u32,
    }

    /// The records are given back, durably.
    pub struct Nacked {
        /// So many.
        pub records: u64,
    }

    /// Lets a lease run for a new duration from now.
    pub struct Extend {
        /// The topic.
        pub topic: TopicId,
        /// The consumer.
        pub consumer: ConsumerId,
        /// The worker that holds it.
        pub worker: WorkerId,
        /// The lease.
        pub lease: u64,
        /// Its duration from now, in milliseconds.
        pub lease_ms: u32,
    }

    /// The lease runs on, durably.
    pub struct Extended {}

    /// Offsets of a topic.
    pub struct Offsets {
        /// The first.
        pub from: u64,
        /// After the last.
        pub to: u64,
    }

    /// Delivers records again that were given up, to this consumer alone.
    pub struct Requeue {
        /// The topic of the consumer.
        pub topic: TopicId,
        /// The consumer that gave them up.
        pub consumer: ConsumerId,
        /// The topic that holds the dead letters.
        pub dead_letters: TopicId,
        /// Offsets of dead letters in that topic.
        pub ranges: Vec<Offsets>,
    }

    /// The records will be delivered again.
    pub struct Requeued {
        /// So many; those that wait for delivery already are not counted.
        pub records: u64,
    }
}

//! Several topics in one request: all of it or nothing.

use crate::body::bodies;
use crate::ids::{ConsumerId, TopicId, WorkerId};

use super::lease::Settled;
use super::producer::{Payload, Produced};

bodies! {
    /// Appends batches to several topics and acks records, in one transaction.
    pub struct ProduceAll {
        /// One batch for each topic; a topic stands here once.
        pub parts: Vec<Part>,
        /// Records whose processing led to these batches.
        pub consumed: Vec<Consumed>,
    }

    /// One batch of the request.
    pub struct Part {
        /// The topic.
        pub topic: TopicId,
        /// One record batch.
        pub batch: Payload,
    }

    /// Leased records that are acked with it.
    pub struct Consumed {
        /// The topic.
        pub topic: TopicId,
        /// The consumer.
        pub consumer: ConsumerId,
        /// The worker that holds the leases.
        pub worker: WorkerId,
        /// Which records; all of them or none.
        pub settled: Vec<Settled>,
    }

    /// All batches are in their topics, durably, and all records are acked.
    pub struct ProducedAll {
        /// Where each batch went, in the order of the request.
        pub parts: Vec<Produced>,
        /// Records that were acked by it.
        pub acked: u64,
    }
}

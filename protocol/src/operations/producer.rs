//! Operations of producers.

use bytes::{Bytes, BytesMut};

use crate::body::{Field, Malformed, Reader, Writer, bodies};
use crate::ids::{ProducerId, TopicId};

bodies! {
    /// Registers a producer for a topic, or takes up a registration again.
    pub struct RegisterProducer {
        /// The topic's name.
        pub topic: String,
        /// The producer's name, which gives the same id again after a restart; may be empty.
        pub name: String,
        /// The id of a registration to take up again; 0 for a new one or one by name.
        pub producer: ProducerId,
        /// Random; the same one gets the same epoch again, so that a retry fences nobody.
        pub instance: u64,
        /// Whether a missing topic is created, in the same transaction.
        pub create_topic: bool,
    }

    /// The registration is durable.
    pub struct ProducerRegistered {
        /// The topic's id.
        pub topic: TopicId,
        /// The producer's id.
        pub producer: ProducerId,
        /// The epoch; batches with an older one are refused.
        pub epoch: u32,
        /// The sequence to go on from.
        pub next_sequence: u64,
        /// Whether the topic was created with it.
        pub topic_created: bool,
    }

    /// Ends a registration; its batches stay.
    pub struct UnregisterProducer {
        /// The topic.
        pub topic: TopicId,
        /// The producer.
        pub producer: ProducerId,
        /// Its epoch.
        pub epoch: u32,
    }

    /// The registration is gone.
    pub struct ProducerUnregistered {}

    /// Appends a batch to a topic.
    pub struct Produce {
        /// The topic.
        pub topic: TopicId,
        /// Epoch of the leader, as the client knows it; 0 without a cluster.
        pub leader_epoch: u64,
        /// 0 = answer when it is synced to disk, 1 = answer when it is accepted.
        pub ack: u8,
        /// When it may be delivered first, in microseconds since 1970 UTC; 0 for at once.
        pub not_before: u64,
        /// One record batch.
        pub batch: Payload,
    }

    /// The batch is in the topic.
    pub struct Produced {
        /// Offset of its first record.
        pub base_offset: u64,
        /// When the broker took it, in microseconds since 1970 UTC.
        pub append_time: u64,
        /// 0 = synced, 1 = accepted, 2 = scheduled.
        pub durability: u8,
        /// Epoch of the leader; 0 without a cluster.
        pub leader_epoch: u64,
    }
}

impl Produce {
    /// [`Produce::ack`]: answered after the fsync that made it durable.
    pub const SYNCED: u8 = 0;
    /// [`Produce::ack`]: answered when staged; may be lost by a crash or a failed write.
    pub const ACCEPTED: u8 = 1;
}

impl Produced {
    /// [`Produced::durability`]: on disk, where it waits for its time; it has no offset yet.
    pub const SCHEDULED: u8 = 2;
}

/// A batch on its way: shared where a client may have to send it again, owned where the broker is
/// about to write its part of the head.
#[derive(Clone, Debug)]
pub enum Payload {
    /// To be sent, possibly more than once.
    Shared(Bytes),
    /// As it arrived.
    Owned(BytesMut),
}

impl Payload {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }

    /// The bytes to write into; copied only where they are shared.
    pub fn into_mut(self) -> BytesMut {
        match self {
            Self::Shared(bytes) => bytes.into(),
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::Shared(Bytes::new())
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Payload {}

impl Field for Payload {
    fn put(&self, out: &mut Writer) {
        match self {
            Self::Shared(bytes) => out.shared(bytes.clone()),
            Self::Owned(bytes) => out.bytes(bytes),
        }
    }

    fn take(body: &mut Reader, name: &'static str) -> Result<Self, Malformed> {
        body.bytes(name).map(Self::Owned)
    }
}

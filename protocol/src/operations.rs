//! Every operation: the request, its answer, and the number that stands for both in a frame.
//!
//! A request and its answer have the same opcode; an answer that is an error has
//! [`FLAG_ERROR`](crate::frame::FLAG_ERROR) and a [`Failure`] as its body.

mod broker;
mod consumer;
mod delivered;
mod lease;
mod principal;
mod producer;
mod together;
mod topic;

use bytes::{Bytes, BytesMut};

pub use broker::{
    Cancel, CancelPassed, Counted, Counter, GoingAway, Greeted, Hello, Located, Metadata, Node,
    Ping, Pinged, StateChanged, Stats, TopicPlace,
};
pub use consumer::{
    AlterConsumer, Consume, ConsumerAltered, ConsumerDescribed, ConsumerRegistered,
    ConsumerUnregistered, DescribeConsumer, LeaseSummary, Measured, RegisterConsumer, Seek, Size,
    Sought, UnregisterConsumer, UnregisterWorker, WorkerUnregistered,
};
pub use delivered::{Delivered, DeliveredRecord, Fetch, Gap, Range};
pub use lease::{Ack, Acked, Extend, Extended, Nack, Nacked, Offsets, Requeue, Requeued, Settled};
pub use principal::{
    AlterPrincipal, Authenticate, Authenticated, CreatePrincipal, DeletePrincipal, Grant,
    IssuedToken, ListPrincipals, PrincipalAltered, PrincipalCreated, PrincipalDeleted,
    PrincipalSummary, PrincipalsListed, TokenSummary, Verifier,
};
pub use producer::{
    Payload, Produce, Produced, ProducerRegistered, ProducerUnregistered, RegisterProducer,
    UnregisterProducer,
};
pub use together::{Consumed, Part, ProduceAll, ProducedAll};
pub use topic::{
    AlterTopic, ConsumerSummary, CreateTopic, DeleteTopic, DescribeTopic, ListTopics, PurgeTopic,
    Setting, TopicAltered, TopicCreated, TopicDeleted, TopicDescribed, TopicPurged, TopicSummary,
    TopicsListed,
};

use crate::body::{Body, Malformed, Writer};
use crate::error::{ErrorCode, Failure};
use crate::frame::{self, CRITICAL_FLAGS, Frame};

/// Ties a request to its opcode and to its answer.
pub trait Operation: Body + Into<Request> {
    /// Which operation.
    const OPCODE: u8;
    /// Its name in PROTOCOL.md.
    const NAME: &'static str;
    /// What it is answered with when it succeeds.
    type Answer: Body;
}

macro_rules! operations {
    ($($opcode:literal $request:ident => $answer:ident,)*) => {
        /// A decoded request.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each variant is documented at its struct")]
        pub enum Request { $($request($request),)* }

        /// The answer to a request.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each variant is documented at its operation")]
        pub enum Answer { $($request(<$request as Operation>::Answer),)* }

        /// Opcode and name of every operation, in the order of opcodes.
        pub const OPERATIONS: &[(u8, &str)] = &[$(($opcode, stringify!($request)),)*];

        impl Request {
            /// Decodes the body of a request; `None` if no operation has this opcode.
            pub fn decode(opcode: u8, body: BytesMut) -> Option<Result<Self, Malformed>> {
                match opcode {
                    $($opcode => Some($request::from_bytes(body).map(Self::$request)),)*
                    _ => None,
                }
            }

            /// Which operation it asks for.
            pub fn opcode(&self) -> u8 {
                match self { $(Self::$request(_) => $opcode,)* }
            }

            /// The frame that asks for it.
            pub fn encode(&self, correlation: u32) -> Vec<Bytes> {
                match self { $(Self::$request(it) => frame::encode($opcode, 0, correlation, it),)* }
            }
        }

        impl Answer {
            /// Decodes the body of an answer; `None` if no operation has this opcode.
            #[cfg(any(test, fuzzing))]
            pub fn decode(opcode: u8, body: BytesMut) -> Option<Result<Self, Malformed>> {
                match opcode {
                    $($opcode => {
                        let decoded = <$request as Operation>::Answer::from_bytes(body);
                        Some(decoded.map(Self::$request))
                    })*
                    _ => None,
                }
            }

            /// The frame that answers.
            pub fn encode(&self, correlation: u32) -> Vec<Bytes> {
                let mut out = Writer::default();
                self.append(&mut out, correlation);
                out.into_parts()
            }

            /// Writes the frame that answers behind what was written before.
            pub fn append(&self, out: &mut Writer, correlation: u32) {
                match self {
                    $(Self::$request(it) => frame::append(out, $opcode, 0, correlation, it),)*
                }
            }
        }

        $(
            impl Operation for $request {
                const OPCODE: u8 = $opcode;
                const NAME: &'static str = stringify!($request);
                type Answer = $answer;
            }
            impl From<$request> for Request {
                fn from(request: $request) -> Self {
                    Self::$request(request)
                }
            }
        )*
    };
}

operations! {
    0x01 Hello => Greeted,
    0x02 Ping => Pinged,
    0x03 Metadata => Located,
    0x04 Cancel => CancelPassed,
    0x05 Authenticate => Authenticated,
    0x06 Stats => Counted,
    0x10 CreateTopic => TopicCreated,
    0x11 DeleteTopic => TopicDeleted,
    0x12 ListTopics => TopicsListed,
    0x13 DescribeTopic => TopicDescribed,
    0x14 AlterTopic => TopicAltered,
    0x15 PurgeTopic => TopicPurged,
    0x20 RegisterProducer => ProducerRegistered,
    0x21 UnregisterProducer => ProducerUnregistered,
    0x22 Produce => Produced,
    0x23 ProduceAll => ProducedAll,
    0x30 Fetch => Delivered,
    0x40 RegisterConsumer => ConsumerRegistered,
    0x41 UnregisterConsumer => ConsumerUnregistered,
    0x42 Consume => Delivered,
    0x43 Seek => Sought,
    0x44 Size => Measured,
    0x45 Ack => Acked,
    0x46 Nack => Nacked,
    0x47 Extend => Extended,
    0x48 Requeue => Requeued,
    0x49 AlterConsumer => ConsumerAltered,
    0x4a UnregisterWorker => WorkerUnregistered,
    0x4b DescribeConsumer => ConsumerDescribed,
    0x50 CreatePrincipal => PrincipalCreated,
    0x51 AlterPrincipal => PrincipalAltered,
    0x52 DeletePrincipal => PrincipalDeleted,
    0x53 ListPrincipals => PrincipalsListed,
}

impl Request {
    /// The request that a client's frame holds.
    ///
    /// # Errors
    /// `UNKNOWN_FLAG` if a critical flag is set, `UNKNOWN_OPERATION`, `MALFORMED`: the connection
    /// goes on after each of them.
    pub fn from_frame(frame: Frame) -> Result<Self, Failure> {
        let flags = frame.flags;
        if flags & CRITICAL_FLAGS != 0 {
            let message = format!("flags {flags:#04x} have a critical one that is unknown here");
            return Err(Failure::new(ErrorCode::UnknownFlag, message));
        }
        match Self::decode(frame.opcode, frame.body) {
            Some(request) => Ok(request?),
            None => Err(Failure::new(
                ErrorCode::UnknownOperation,
                format!("there is no operation with opcode {:#04x}", frame.opcode),
            )
            .hint("the broker may be older than the client: compare versions with Hello")),
        }
    }
}

/// The first opcode that is reserved for traffic between brokers; all above it are.
pub const FIRST_BROKER_OPCODE: u8 = 0xc0;

/// Opcodes of notices, whose correlation id is 0.
pub const NOTICES: &[(u8, &str)] = &[
    (GoingAway::OPCODE, "GoingAway"),
    (StateChanged::OPCODE, "StateChanged"),
];

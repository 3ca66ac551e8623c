//! What a topic is asked and told, and what it tells the broker.

use actix::Message;
use logdrive_protocol::operations::{Consumed, Payload, ProduceAll, Request, TopicSummary};
use logdrive_protocol::{Failure, TopicId};
use tokio::sync::oneshot;

use crate::reply::{ConnectionId, Reply};

/// A request for a topic, with the duty to answer it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// To be answered.
    pub reply: Reply,
    /// An id never handed out before, for registrations; 0 otherwise.
    pub fresh: u64,
}

/// A connection has nothing to take here any more: what it had waiting is not served, and what it was
/// lent is given back.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Gone(pub ConnectionId, pub Leaving);

/// Why a connection takes nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// It ends.
    Ended,
    /// The right to consume here was taken away.
    Denied,
}

/// Asks for what a list says of the topic; answered by `None` while the topic is not yet durable.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Option<TopicSummary>")]
pub struct Summarize;

/// What the broker is told of a topic.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum Told {
    /// It is durable: its name may be seen.
    Born(TopicId),
    /// It is gone, or never was: its name is free.
    Died(TopicId),
    /// Producers or consumers of it are registered under these ids.
    Registered(TopicId, Vec<u64>),
    /// This id stands for nothing any more.
    Unregistered(u64),
    /// Answer with the right error: the id is not one of the topic's.
    Stranger {
        /// A producer's or a consumer's id.
        id: u64,
        /// What to answer if it is nobody's.
        otherwise: Failure,
        /// To be answered.
        reply: Reply,
    },
    /// Let this set out to its topics: who sends it has no connection.
    Depart(ProduceAll, Reply),
    /// Ask another topic for what a list says of it; `None` where there is none of this id.
    Summary(TopicId, oneshot::Sender<Option<TopicSummary>>),
    /// Let records set out that a consumer gives up, for the topic of this name.
    Bury {
        /// The topic that takes dead letters.
        dead_letters: String,
        /// The batch for it.
        batch: Payload,
        /// Which records those were.
        consumed: Consumed,
        /// To be answered.
        reply: Reply,
    },
}

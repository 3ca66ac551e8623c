//! A request for several topics: sorted by topic, and on its way from one to the next.
//!
//! Owns what travels, and that everybody who was visited hears how it ended. What a topic does when
//! it is visited is in [`together`](super::together). Its neighbours: connections and the broker
//! let a [`Journey`] [depart](Journey::depart).

use std::collections::{BTreeMap, VecDeque};

use actix::{Addr, Message};
use logdrive_protocol::batch::Head;
use logdrive_protocol::limits::{MAX_PARTS, MAX_SETTLED};
use logdrive_protocol::operations::{
    Answer, Consumed, Part, Payload, ProduceAll, Produced, ProducedAll,
};
use logdrive_protocol::{ErrorCode, Failure, TopicId};
use tokio::time::Instant;

use super::actor::{Topic, not_found};
use crate::limits::TRAVEL_WAIT;
use crate::reply::Reply;
use crate::storage::Job;

/// What a request asks of each topic, by ascending id.
#[derive(Debug)]
pub struct Journey {
    errands: BTreeMap<TopicId, Errand>,
    parts: usize,
}

/// What is to be done in one topic.
#[derive(Debug, Default)]
pub(super) struct Errand {
    /// A batch to append, and which part of the request it is.
    pub(super) part: Option<(usize, Payload)>,
    /// Records to ack.
    pub(super) consumed: Vec<Consumed>,
}

impl Journey {
    /// Sorts a request by topic.
    ///
    /// # Errors
    /// `INVALID_PARTS`, `LIMIT_REACHED`.
    pub fn of(request: ProduceAll) -> Result<Self, Failure> {
        let ProduceAll { parts, consumed } = request;
        if parts.is_empty() && consumed.is_empty() {
            return Err(invalid("the request has no parts", "name what to produce"));
        }
        if parts.len() > MAX_PARTS || consumed.len() > MAX_PARTS {
            let message = format!(
                "{} parts and {} consumers are over the limit of {MAX_PARTS} each",
                parts.len(),
                consumed.len()
            );
            return Err(Failure::new(ErrorCode::LimitReached, message)
                .numbers(MAX_PARTS as u64, 0)
                .hint("name fewer topics; one batch may hold many records"));
        }
        let mut journey = Self {
            errands: BTreeMap::new(),
            parts: parts.len(),
        };
        let mut registered = None;
        for (index, Part { topic, batch }) in parts.into_iter().enumerate() {
            let producer = Head::parse(batch.as_slice()).is_some_and(|it| !it.producer.is_none());
            if *registered.get_or_insert(producer) != producer {
                return Err(invalid(
                    "some parts are of registered producers, others of none: a retry could not be \
                     recognized",
                    "register a producer for each topic, or for none",
                ));
            }
            let errand = journey.errands.entry(topic).or_default();
            if errand.part.replace((index, batch)).is_some() {
                return Err(invalid(
                    format!("topic {topic} stands in two parts"),
                    "put the records of a topic into one batch",
                ));
            }
        }
        for consumed in consumed {
            if consumed.settled.len() > MAX_SETTLED {
                let count = consumed.settled.len();
                let message = format!("{count} ranges are more than {MAX_SETTLED}");
                let failure = Failure::new(ErrorCode::LimitReached, message);
                return Err(failure.hint("send several requests"));
            }
            let errand = journey.errands.entry(consumed.topic).or_default();
            errand.consumed.push(consumed);
        }
        Ok(journey)
    }

    /// The topics that are visited.
    pub fn topics(&self) -> impl Iterator<Item = TopicId> {
        self.errands.keys().copied()
    }

    /// Sets out; `address` says where a topic lives.
    pub fn depart(self, address: impl Fn(TopicId) -> Option<Addr<Topic>>, reply: Reply) {
        let mut stops = VecDeque::new();
        for (topic, errand) in self.errands {
            match address(topic) {
                Some(address) => stops.push_back(Stop {
                    topic,
                    address,
                    errand,
                }),
                None => return reply.fail(not_found(topic)),
            }
        }
        let traveller = Traveller {
            reply: Some(reply),
            stops,
            reserved: Vec::new(),
            jobs: Vec::new(),
            produced: vec![Produced::default(); self.parts],
            acked: 0,
            known: None,
            unless_known: None,
            generation: None,
            until: Instant::now() + TRAVEL_WAIT,
        };
        Box::new(traveller).travel();
    }
}

fn invalid(message: impl Into<String>, hint: &str) -> Failure {
    Failure::new(ErrorCode::InvalidParts, message).hint(hint)
}

/// A topic that is still to be visited.
#[derive(Debug)]
pub(super) struct Stop {
    topic: TopicId,
    address: Addr<Topic>,
    pub(super) errand: Errand,
}

/// A request on its way through its topics; dropping it lets those that it has visited go on as if
/// it had never come.
#[derive(Debug)]
pub struct Traveller {
    pub(super) reply: Option<Reply>,
    pub(super) stops: VecDeque<Stop>,
    /// Who keeps still for it, and under which number.
    pub(super) reserved: Vec<(Addr<Topic>, u64)>,
    /// What they will have staged.
    pub(super) jobs: Vec<Job>,
    /// Where each part goes.
    pub(super) produced: Vec<Produced>,
    /// Records that are acked with them.
    pub(super) acked: u64,
    /// Whether the parts are a retry; the first one says it for all.
    pub(super) known: Option<bool>,
    /// Why the acks of a topic on the way are refused, unless the parts that follow are a retry.
    pub(super) unless_known: Option<(u64, Failure)>,
    /// The storage's generation, which must be the same for all jobs: else some would be refused.
    pub(super) generation: Option<u64>,
    /// Its deadline, up to the decision.
    pub(super) until: Instant,
}

impl Traveller {
    /// Goes to the next topic, or is answered where there is none.
    pub(super) fn travel(mut self: Box<Self>) {
        let Some(stop) = self.stops.front() else {
            return self.arrive();
        };
        if stop.address.connected() {
            let address = stop.address.clone();
            address.do_send(Visit(self));
        } else {
            let gone = not_found(stop.topic);
            self.fail(gone);
        }
    }

    /// All parts were stored before: nothing is staged, and what is reserved is given up.
    fn arrive(&mut self) {
        self.acked = 0;
        let answer = self.answer();
        if let Some(reply) = self.reply.take() {
            reply.answer(answer);
        }
    }

    pub(super) fn answer(&mut self) -> Answer {
        Answer::ProduceAll(ProducedAll {
            parts: std::mem::take(&mut self.produced),
            acked: self.acked,
        })
    }

    pub(super) fn fail(mut self: Box<Self>, failure: Failure) {
        if let Some(reply) = self.reply.take() {
            reply.fail(failure);
        }
    }

    /// Whether a topic that follows says whether the parts are a retry.
    pub(super) fn will_know(&self) -> bool {
        self.known.is_none() && self.stops.iter().any(|stop| stop.errand.part.is_some())
    }

    pub(super) fn is_late(&self) -> bool {
        self.until <= Instant::now()
    }

    /// Whether all parts so far are retries, or none is.
    pub(super) fn agree(&mut self, known: bool, topic: TopicId) -> Result<(), Failure> {
        if *self.known.get_or_insert(known) == known {
            return Ok(());
        }
        let (this, others) = if known {
            ("is stored already", "are new")
        } else {
            ("is new", "are stored already")
        };
        let message = format!("the part of topic {topic} {this}, and those before it {others}");
        Err(Failure::new(ErrorCode::PartlyStored, message)
            .hint("retry with the same parts, or produce each of them by itself"))
    }
}

impl Drop for Traveller {
    fn drop(&mut self) {
        for (topic, number) in self.reserved.drain(..) {
            topic.do_send(Returned { number, go: false });
        }
    }
}

/// A traveller comes to a topic.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Visit(pub(super) Box<Traveller>);

/// How it ended, for a topic that has reserved something.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Returned {
    /// The topic's number of what it has reserved.
    pub(super) number: u64,
    /// Whether the job was submitted.
    pub(super) go: bool,
}

impl Traveller {
    /// It waits for something that is on its way to the disk.
    pub(super) fn staged(&mut self) {
        if let Some(reply) = &mut self.reply {
            reply.staged();
        }
    }
}

pub(super) fn too_late() -> Failure {
    let message = format!("the topics were busy with other requests for {TRAVEL_WAIT:?}");
    Failure::new(ErrorCode::Unavailable, message).hint("nothing was done; retry")
}

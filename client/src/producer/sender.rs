//! Sending one request at a time: to several topics together, or for later.
//!
//! ```text
//!  records -> a batch for each topic -> request -> answer: the sequences go on
//!                                          |
//!                                          +-> no answer: the same request again
//!                                          '-> none in time: unknown; a new epoch before the next
//! ```
//!
//! It batches nothing beyond a call and has no task. Its neighbours: [`Registrar`] registers, the
//! client's link carries the request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use logdrive_protocol::batch::{BatchBuilder, NewRecord, Origin};
use logdrive_protocol::limits::MAX_PARTS;
use logdrive_protocol::operations::{
    Operation, Part, Payload, Produce, ProduceAll, UnregisterProducer,
};
use logdrive_protocol::preface::Limits;
use logdrive_protocol::{Outcome, TopicId};

use super::delivery::{Durability, Placed, Receipt};
use super::register::{Found, Registrar, Wanted};
use super::sequence::Registration;
use super::{micros_of, stamped};
use crate::backoff::Retry;
use crate::{Client, Error, ErrorKind, ProducerOptions};

/// Room in a frame for what is not a batch.
const HEAD_BYTES: usize = 4 << 10;

/// Sends one request at a time, and repeats it until its outcome is known: records for several
/// topics that are stored together or not at all, or records that wait for their time.
///
/// It registers a producer with each topic, so that a repeated request is stored once. An error
/// whose [outcome](Error::outcome) is unknown says that the time for repeating it has passed: it
/// may be stored or not, and it cannot be stored later, for the next call begins a new epoch.
#[derive(Debug)]
pub struct Sender {
    client: Client,
    topics: Vec<Registered>,
    limits: Limits,
    /// The last request may have been stored, or not.
    in_doubt: bool,
}

/// One topic of a sender.
#[derive(Debug)]
struct Registered {
    topic: Arc<str>,
    id: TopicId,
    registrar: Registrar,
    registration: Registration,
    created: bool,
}

impl Registered {
    fn origin(&self) -> Origin {
        Origin {
            producer: self.registration.producer,
            epoch: self.registration.epoch,
            sequence: self.registration.next_sequence,
        }
    }
}

impl Sender {
    pub(crate) async fn open(
        client: &Client,
        topics: &[&str],
        options: ProducerOptions,
    ) -> Result<Self, Error> {
        let mut registered: Vec<Registered> = Vec::with_capacity(topics.len());
        if topics.is_empty() || topics.len() > MAX_PARTS {
            let message = format!("a sender is for 1 to {MAX_PARTS} topics");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        for &topic in topics {
            if registered.iter().any(|it| &*it.topic == topic) {
                continue;
            }
            let registrar = Registrar::new(topic, &options);
            let Found {
                topic: id,
                registration,
                topic_created,
            } = registrar.begin(client).await?;
            registered.push(Registered {
                topic: topic.into(),
                id,
                registrar,
                registration,
                created: topic_created,
            });
        }
        Ok(Self {
            limits: client.limits().await?,
            client: client.clone(),
            topics: registered,
            in_doubt: false,
        })
    }

    /// Produces records to several topics, all of them or none, and waits until they are on disk;
    /// the receipts are in the order of the records. A timestamp of 0 becomes the present time.
    ///
    /// # Errors
    /// Of kind [`ErrorKind::Invalid`] where the records do not fit into one request.
    pub async fn send_all(
        &mut self,
        records: &[(&str, NewRecord<'_>)],
    ) -> Result<Vec<Receipt>, Error> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.settle_doubt().await?;
        let mut batches: BTreeMap<usize, BatchBuilder> = BTreeMap::new();
        let mut order = Vec::with_capacity(records.len());
        for (topic, record) in records {
            let at = self.find(topic)?;
            let builder = batches.entry(at).or_default();
            order.push((at, builder.count()));
            builder.push(&stamped(record, self.limits.record_bytes)?);
        }
        let counts: Vec<(usize, u64)> = batches
            .iter()
            .map(|(at, builder)| (*at, builder.count() as u64))
            .collect();
        let mut parts = Vec::with_capacity(batches.len());
        for (at, builder) in batches {
            let topic = &self.topics[at];
            parts.push(Part {
                topic: topic.id,
                batch: self.finish(builder, topic.origin())?,
            });
        }
        self.check_frame(parts.iter().map(|part| part.batch.as_slice().len()).sum())?;
        let request = ProduceAll {
            parts,
            ..ProduceAll::default()
        };
        let answer = self.ask(&request).await?;
        if answer.parts.len() != counts.len() {
            return Err(Error::protocol("places of other batches than were sent"));
        }
        let mut placed = BTreeMap::new();
        for ((at, count), part) in counts.into_iter().zip(&answer.parts) {
            self.topics[at].registration.next_sequence += count;
            let place = Placed {
                base_offset: part.base_offset,
                append_time: part.append_time,
                durability: Durability::Synced,
            };
            placed.insert(at, place);
        }
        let receipt = |(at, index): (usize, usize)| {
            let topic = &self.topics[at].topic;
            placed.get(&at).map(|it| it.receipt(topic, index))
        };
        Ok(order.into_iter().filter_map(receipt).collect())
    }

    /// Lets records wait in the broker, where nobody receives them before `time`, and returns when
    /// they are on disk there. A timestamp of 0 becomes the present time.
    pub async fn schedule(
        &mut self,
        topic: &str,
        records: &[NewRecord<'_>],
        time: SystemTime,
    ) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        self.settle_doubt().await?;
        let at = self.find(topic)?;
        let mut builder = BatchBuilder::default();
        for record in records {
            builder.push(&stamped(record, self.limits.record_bytes)?);
        }
        let count = builder.count() as u64;
        let registered = &self.topics[at];
        let request = Produce {
            topic: registered.id,
            // Zero would be at once, and so would be no delay.
            not_before: micros_of(time).max(1),
            batch: self.finish(builder, registered.origin())?,
            ..Produce::default()
        };
        self.ask(&request).await?;
        self.topics[at].registration.next_sequence += count;
        Ok(())
    }

    /// Topics that did not exist before this sender registered with them.
    pub fn created_topics(&self) -> Vec<Arc<str>> {
        let created = self.topics.iter().filter(|it| it.created);
        created.map(|it| it.topic.clone()).collect()
    }

    /// Ends unnamed registrations.
    pub async fn close(self) {
        for it in self.topics {
            if it.registrar.is_named() || !it.registrar.is_registered() {
                continue;
            }
            let unregister = UnregisterProducer {
                topic: it.id,
                producer: it.registration.producer,
                epoch: it.registration.epoch,
            };
            if let Err(error) = self.client.call(unregister).await {
                // The broker forgets it by itself after a day.
                tracing::debug!(topic = %it.topic, %error, "not unregistered");
            }
        }
    }

    fn find(&self, topic: &str) -> Result<usize, Error> {
        let known = self.topics.iter().position(|it| &*it.topic == topic);
        known.ok_or_else(|| {
            let message = format!("this sender is not for topic \"{topic}\"");
            Error::new(ErrorKind::Invalid, message)
        })
    }

    fn finish(&self, mut builder: BatchBuilder, origin: Origin) -> Result<Payload, Error> {
        let batch = builder.finish(origin);
        let limit = self.limits.batch_bytes as usize;
        if batch.len() > limit {
            let message = format!(
                "a batch of {} bytes is over the limit of {limit}",
                batch.len()
            );
            return Err(Error::new(ErrorKind::Invalid, message).with_hint("send fewer records"));
        }
        Ok(Payload::Shared(batch.freeze()))
    }

    fn check_frame(&self, batches: usize) -> Result<(), Error> {
        let limit = (self.limits.frame_bytes as usize).saturating_sub(HEAD_BYTES);
        if batches > limit {
            let message = format!("batches of {batches} bytes together are over {limit}");
            return Err(Error::new(ErrorKind::Invalid, message)
                .with_hint("what is stored together must fit into one request"));
        }
        Ok(())
    }

    /// Asks until the outcome is known, or the time for that has passed.
    async fn ask<O: Operation + Clone>(&mut self, request: &O) -> Result<O::Answer, Error> {
        let registered = self.topics.iter().all(|it| it.registrar.is_registered());
        let mut retry = Retry::new(self.client.dialer().options());
        let mut unknown = false;
        loop {
            let error = match self.client.call(request.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            unknown |= error.outcome() == Outcome::Unknown;
            let again = error.is_retryable() && (registered || !unknown);
            if let Some(pause) = again.then(|| retry.failed_now(&error)).flatten() {
                tokio::time::sleep(pause).await;
                continue;
            }
            if !unknown {
                return Err(error);
            }
            self.in_doubt = registered;
            let what = "this may have been stored or not, and is not sent again";
            return Err(Error::new(ErrorKind::OutcomeUnknown, error.message())
                .after(what)
                .with_hint(error.hint()));
        }
    }

    /// After a request of unknown outcome: from here on it cannot be stored any more, and the
    /// broker says where to go on.
    async fn settle_doubt(&mut self) -> Result<(), Error> {
        if !self.in_doubt {
            return Ok(());
        }
        for it in &mut self.topics {
            let link = self.client.dialer().link().await?;
            let wanted = Wanted::NewEpoch(it.registration.producer);
            it.registration = it.registrar.register(&link, wanted).await?.registration;
        }
        self.in_doubt = false;
        Ok(())
    }
}

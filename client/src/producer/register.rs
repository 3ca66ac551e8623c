//! Registering a producer with a topic: for the first time, again, or anew.

use logdrive_protocol::operations::{Metadata, ProducerRegistered, RegisterProducer};
use logdrive_protocol::{ProducerId, TopicId};

use super::sequence::Registration;
use crate::client::topic_not_found;
use crate::link::{Link, Parking};
use crate::{Client, Error, ProducerOptions};

/// A sequence that no producer reaches: a billion records a second would take it a century.
const SEQUENCES: u64 = 1 << 62;

/// What is registered, and as what.
#[derive(Clone, Debug)]
pub(crate) struct Registrar {
    topic: String,
    name: String,
    create_topic: bool,
    registered: bool,
    /// Random: a retry of the same registration gives the same epoch.
    instance: u64,
}

/// Which registration is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    /// By name, or a new id.
    New,
    /// The one that this instance has.
    Same(ProducerId),
    /// The same id with a new epoch.
    NewEpoch(ProducerId),
}

/// A registration that was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) topic: TopicId,
    pub(crate) registration: Registration,
    pub(crate) topic_created: bool,
}

impl Registrar {
    pub(crate) fn new(topic: &str, options: &ProducerOptions) -> Self {
        Self {
            topic: topic.to_owned(),
            name: options.name.clone().unwrap_or_default(),
            create_topic: options.create_topic,
            registered: options.registered,
            instance: random_instance(),
        }
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.registered
    }

    pub(crate) fn is_named(&self) -> bool {
        !self.name.is_empty()
    }

    /// Registers for the first time, or finds the topic for an unregistered producer.
    pub(crate) async fn begin(&self, client: &Client) -> Result<Found, Error> {
        if self.registered {
            let request = self.request(Wanted::New);
            return match client.call(request.clone()).await {
                // The same instance: nothing is registered twice.
                Err(error) if error.kind() == crate::ErrorKind::ConnectionLost => {
                    client.call(request).await.and_then(|it| found(&it))
                }
                first => first.and_then(|it| found(&it)),
            };
        }
        let topics = vec![self.topic.clone()];
        let located = client.call(Metadata { topics }).await?;
        let place = located.topics.first().filter(|place| !place.id.is_none());
        let (topic, topic_created) = match place {
            Some(place) => (place.id, false),
            None if self.create_topic => {
                let created = client.create_topic(&self.topic, &[], true).await?;
                (created.topic, created.created)
            }
            None => return Err(topic_not_found(&self.topic).into()),
        };
        Ok(Found {
            topic,
            registration: Registration::default(),
            topic_created,
        })
    }

    /// Registers over this connection.
    pub(crate) async fn register(&mut self, link: &Link, wanted: Wanted) -> Result<Found, Error> {
        if !matches!(wanted, Wanted::Same(_)) {
            self.instance = random_instance();
        }
        let request = self.request(wanted);
        link.ask(&request, Parking::default())
            .await
            .and_then(|it| found(&it))
    }

    fn request(&self, wanted: Wanted) -> RegisterProducer {
        let (name, producer, create_topic) = match wanted {
            Wanted::New => (self.name.clone(), ProducerId::NONE, self.create_topic),
            Wanted::Same(id) | Wanted::NewEpoch(id) => (String::new(), id, false),
        };
        RegisterProducer {
            topic: self.topic.clone(),
            name,
            producer,
            instance: self.instance,
            create_topic,
        }
    }
}

/// What the answer gives, if there is room for records behind it.
fn found(registered: &ProducerRegistered) -> Result<Found, Error> {
    if registered.next_sequence >= SEQUENCES {
        return Err(Error::protocol(
            "a registration with more records than there can be",
        ));
    }
    Ok(Found {
        topic: registered.topic,
        registration: Registration {
            producer: registered.producer,
            epoch: registered.epoch,
            next_sequence: registered.next_sequence,
        },
        topic_created: registered.topic_created,
    })
}

/// Never 0, so that it cannot be taken for a field that is missing.
fn random_instance() -> u64 {
    fastrand::u64(1..)
}

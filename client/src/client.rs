//! The client: operations by name, and what opens producers, consumers and fetchers.

use std::time::Duration;

use logdrive_protocol::Position;
use logdrive_protocol::operations::{
    ConsumerRegistered, Counter, Greeted, Located, Measured, Operation, Pinged, Setting,
    TopicCreated, TopicDescribed, TopicSummary,
};

use crate::{
    Addresses, Consumer, ConsumerOptions, Error, FetchOptions, Fetcher, Options, Producer,
    ProducerOptions,
};

/// A broker, reached over one connection that is made again when it is lost. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {}

impl Client {
    /// Connects to the first of the addresses that answers (`"a:7440,b:7440"`, or a list).
    pub async fn connect(addresses: impl Into<Addresses>) -> Result<Self, Error> {
        Self::connect_with(addresses, Options::default()).await
    }

    /// Connects with options other than the defaults.
    pub async fn connect_with(
        _addresses: impl Into<Addresses>,
        _options: Options,
    ) -> Result<Self, Error> {
        todo!()
    }

    /// Asks for one operation, once.
    pub async fn call<O: Operation>(&self, _request: O) -> Result<O::Answer, Error> {
        todo!()
    }

    /// Asks whether the broker is there and what it can do now.
    pub async fn ping(&self) -> Result<Pinged, Error> {
        todo!()
    }

    /// Asks who the broker is.
    pub async fn hello(&self) -> Result<Greeted, Error> {
        todo!()
    }

    /// Counters of a topic, or of the broker.
    pub async fn stats(&self, _topic: Option<&str>) -> Result<Vec<Counter>, Error> {
        todo!()
    }

    /// Where topics are served.
    pub async fn metadata(&self, _topics: &[&str]) -> Result<Located, Error> {
        todo!()
    }

    /// Creates a topic.
    pub async fn create_topic(
        &self,
        _name: &str,
        _settings: &[Setting],
        _if_not_exists: bool,
    ) -> Result<TopicCreated, Error> {
        todo!()
    }

    /// Deletes a topic with all its records, producers and consumers.
    pub async fn delete_topic(&self, _name: &str) -> Result<(), Error> {
        todo!()
    }

    /// All topics whose names match, in the order of their names; an empty glob matches all.
    pub async fn list_topics(&self, _glob: &str) -> Result<Vec<TopicSummary>, Error> {
        todo!()
    }

    /// A topic with all its consumers.
    pub async fn describe_topic(&self, _name: &str) -> Result<TopicDescribed, Error> {
        todo!()
    }

    /// Registers a consumer, or looks it up (`create = false`).
    pub async fn register_consumer(
        &self,
        _topic: &str,
        _name: &str,
        _from: Position,
        _create: bool,
    ) -> Result<ConsumerRegistered, Error> {
        todo!()
    }

    /// Removes a consumer and its cursor.
    pub async fn unregister_consumer(&self, _topic: &str, _name: &str) -> Result<(), Error> {
        todo!()
    }

    /// Moves a consumer's cursor; gives the offset of the next record for it.
    pub async fn seek(&self, _topic: &str, _consumer: &str, _to: Position) -> Result<u64, Error> {
        todo!()
    }

    /// What is left for a consumer, exactly; never creates one.
    pub async fn size(&self, _topic: &str, _consumer: &str) -> Result<Measured, Error> {
        todo!()
    }

    /// Reads a topic from a position on, changing nothing.
    pub async fn fetch(
        &self,
        _topic: &str,
        _from: Position,
        _options: FetchOptions,
    ) -> Result<Fetcher, Error> {
        todo!()
    }

    /// A producer for these topics.
    pub async fn producer(
        &self,
        _topics: &[&str],
        _options: ProducerOptions,
    ) -> Result<Producer, Error> {
        todo!()
    }

    /// A consumer of this name on each of these topics.
    pub async fn consumer(
        &self,
        _name: &str,
        _topics: &[&str],
        _options: ConsumerOptions,
    ) -> Result<Consumer, Error> {
        todo!()
    }

    /// Ends the connection; what still uses it gets [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    pub async fn close(self) {
        let _ = Duration::ZERO;
        todo!()
    }
}

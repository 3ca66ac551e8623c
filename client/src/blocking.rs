//! The client for programs without a runtime: the same names, and every call blocks its thread.
//!
//! ```no_run
//! use logdrive_client::blocking::Client;
//! use logdrive_client::ProducerOptions;
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("127.0.0.1:7440")?;
//! let mut producer = client.producer(&["app"], ProducerOptions::default())?;
//! producer.send("app", "started")?;
//! producer.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! One background thread runs the async client, so that what was handed over is sent and answered
//! while the program does something else. It ends with the last client, producer, consumer and
//! fetcher. Nothing here may be used within an async runtime: it would block it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use logdrive_protocol::Position;
use logdrive_protocol::batch::NewRecord;
use logdrive_protocol::operations::{
    AlterPrincipal, ConsumerAltered, ConsumerDescribed, ConsumerRegistered, Counter,
    CreatePrincipal, Greeted, IssuedToken, Located, Measured, Operation, Pinged, PrincipalSummary,
    Setting, TopicCreated, TopicDescribed, TopicPurged, TopicSummary, Verifier,
};
use tokio::runtime::Runtime;

use crate::{
    Acknowledgements, Addresses, ConsumerOptions, Delivery, Error, ErrorKind, Event, FetchOptions,
    Options, Portion, ProducerOptions, Receipt, Record, Unacknowledged,
};

/// See [`crate::Client`].
#[derive(Clone, Debug)]
pub struct Client {
    client: crate::Client,
    runtime: Arc<Runtime>,
}

impl Client {
    /// See [`crate::Client::connect`].
    pub fn connect(addresses: impl Into<Addresses>) -> Result<Self, Error> {
        Self::connect_with(addresses, Options::default())
    }

    /// See [`crate::Client::connect_with`].
    pub fn connect_with(addresses: impl Into<Addresses>, options: Options) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("logdrive-client")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| {
            let what = format!("no thread for the client: {error}");
            Error::new(ErrorKind::Unreachable, what)
        })?;
        let client = runtime.block_on(crate::Client::connect_with(addresses, options))?;
        Ok(Self {
            client,
            runtime: Arc::new(runtime),
        })
    }

    /// See [`crate::Client::call`].
    pub fn call<O: Operation>(&self, request: O) -> Result<O::Answer, Error> {
        self.runtime.block_on(self.client.call(request))
    }

    /// See [`crate::Client::ping`].
    pub fn ping(&self) -> Result<Pinged, Error> {
        self.runtime.block_on(self.client.ping())
    }

    /// See [`crate::Client::hello`].
    pub fn hello(&self) -> Result<Greeted, Error> {
        self.runtime.block_on(self.client.hello())
    }

    /// See [`crate::Client::stats`].
    pub fn stats(&self, topic: Option<&str>) -> Result<Vec<Counter>, Error> {
        self.runtime.block_on(self.client.stats(topic))
    }

    /// See [`crate::Client::metadata`].
    pub fn metadata(&self, topics: &[&str]) -> Result<Located, Error> {
        self.runtime.block_on(self.client.metadata(topics))
    }

    /// See [`crate::Client::create_topic`].
    pub fn create_topic(
        &self,
        name: &str,
        settings: &[Setting],
        if_not_exists: bool,
    ) -> Result<TopicCreated, Error> {
        let create = self.client.create_topic(name, settings, if_not_exists);
        self.runtime.block_on(create)
    }

    /// See [`crate::Client::delete_topic`].
    pub fn delete_topic(&self, name: &str) -> Result<(), Error> {
        self.runtime.block_on(self.client.delete_topic(name))
    }

    /// See [`crate::Client::alter_topic`].
    pub fn alter_topic(
        &self,
        name: &str,
        set: &[Setting],
        unset: &[&str],
    ) -> Result<Vec<Setting>, Error> {
        let alter = self.client.alter_topic(name, set, unset);
        self.runtime.block_on(alter)
    }

    /// See [`crate::Client::purge_topic`].
    pub fn purge_topic(&self, name: &str, before: Position) -> Result<TopicPurged, Error> {
        let purge = self.client.purge_topic(name, before);
        self.runtime.block_on(purge)
    }

    /// See [`crate::Client::list_topics`].
    pub fn list_topics(&self, glob: &str) -> Result<Vec<TopicSummary>, Error> {
        self.runtime.block_on(self.client.list_topics(glob))
    }

    /// See [`crate::Client::create_principal`].
    pub fn create_principal(&self, create: CreatePrincipal) -> Result<Vec<IssuedToken>, Error> {
        self.runtime.block_on(self.client.create_principal(create))
    }

    /// See [`crate::Client::alter_principal`].
    pub fn alter_principal(&self, alter: AlterPrincipal) -> Result<Vec<IssuedToken>, Error> {
        self.runtime.block_on(self.client.alter_principal(alter))
    }

    /// See [`crate::Client::delete_principal`].
    pub fn delete_principal(&self, name: &str) -> Result<(), Error> {
        self.runtime.block_on(self.client.delete_principal(name))
    }

    /// See [`crate::Client::list_principals`].
    pub fn list_principals(&self, glob: &str) -> Result<Vec<PrincipalSummary>, Error> {
        self.runtime.block_on(self.client.list_principals(glob))
    }

    /// See [`crate::verifier`].
    pub fn verifier(&self, password: &str) -> Result<Verifier, Error> {
        self.runtime.block_on(crate::verifier(password))
    }

    /// See [`crate::Client::describe_topic`].
    pub fn describe_topic(&self, name: &str) -> Result<TopicDescribed, Error> {
        self.runtime.block_on(self.client.describe_topic(name))
    }

    /// See [`crate::Client::register_consumer`].
    pub fn register_consumer(
        &self,
        topic: &str,
        name: &str,
        from: Position,
        create: bool,
    ) -> Result<ConsumerRegistered, Error> {
        let register = self.client.register_consumer(topic, name, from, create);
        self.runtime.block_on(register)
    }

    /// See [`crate::Client::unregister_consumer`].
    pub fn unregister_consumer(&self, topic: &str, name: &str) -> Result<(), Error> {
        let unregister = self.client.unregister_consumer(topic, name);
        self.runtime.block_on(unregister)
    }

    /// See [`crate::Client::seek`].
    pub fn seek(&self, topic: &str, consumer: &str, to: Position) -> Result<u64, Error> {
        self.runtime.block_on(self.client.seek(topic, consumer, to))
    }

    /// See [`crate::Client::size`].
    pub fn size(&self, topic: &str, consumer: &str) -> Result<Measured, Error> {
        self.runtime.block_on(self.client.size(topic, consumer))
    }

    /// See [`crate::Client::create_consumer`].
    pub fn create_consumer(
        &self,
        topic: &str,
        name: &str,
        from: Position,
        settings: &[Setting],
    ) -> Result<ConsumerRegistered, Error> {
        let created = self.client.create_consumer(topic, name, from, settings);
        self.runtime.block_on(created)
    }

    /// See [`crate::Client::alter_consumer`].
    pub fn alter_consumer(
        &self,
        topic: &str,
        name: &str,
        set: &[Setting],
        unset: &[&str],
    ) -> Result<ConsumerAltered, Error> {
        let altered = self.client.alter_consumer(topic, name, set, unset);
        self.runtime.block_on(altered)
    }

    /// See [`crate::Client::pause_consumer`].
    pub fn pause_consumer(&self, topic: &str, name: &str) -> Result<(), Error> {
        let paused = self.client.pause_consumer(topic, name);
        self.runtime.block_on(paused)
    }

    /// See [`crate::Client::resume_consumer`].
    pub fn resume_consumer(&self, topic: &str, name: &str) -> Result<(), Error> {
        let resumed = self.client.resume_consumer(topic, name);
        self.runtime.block_on(resumed)
    }

    /// See [`crate::Client::describe_consumer`].
    pub fn describe_consumer(&self, topic: &str, name: &str) -> Result<ConsumerDescribed, Error> {
        let described = self.client.describe_consumer(topic, name);
        self.runtime.block_on(described)
    }

    /// See [`crate::Client::requeue`].
    pub fn requeue(
        &self,
        topic: &str,
        consumer: &str,
        dead_letters: &str,
        ranges: &[(u64, u64)],
    ) -> Result<u64, Error> {
        let requeued = self.client.requeue(topic, consumer, dead_letters, ranges);
        self.runtime.block_on(requeued)
    }

    /// See [`crate::Client::resolve`].
    pub fn resolve(&self, topic: &str, position: Position) -> Result<u64, Error> {
        self.runtime.block_on(self.client.resolve(topic, position))
    }

    /// See [`crate::Client::fetch`].
    pub fn fetch(
        &self,
        topic: &str,
        from: Position,
        options: FetchOptions,
    ) -> Result<Fetcher, Error> {
        let fetcher = self.client.fetch(topic, from, options);
        Ok(Fetcher {
            fetcher: self.runtime.block_on(fetcher)?,
            runtime: self.runtime.clone(),
        })
    }

    /// See [`crate::Client::producer`].
    pub fn producer(&self, topics: &[&str], options: ProducerOptions) -> Result<Producer, Error> {
        let producer = self.client.producer(topics, options);
        Ok(Producer {
            producer: self.runtime.block_on(producer)?,
            runtime: self.runtime.clone(),
        })
    }

    /// See [`crate::Client::sender`].
    pub fn sender(&self, topics: &[&str], options: ProducerOptions) -> Result<Sender, Error> {
        let sender = self.client.sender(topics, options);
        Ok(Sender {
            sender: self.runtime.block_on(sender)?,
            runtime: self.runtime.clone(),
        })
    }

    /// See [`crate::Client::consumer`].
    pub fn consumer(
        &self,
        name: &str,
        topics: &[&str],
        options: ConsumerOptions,
    ) -> Result<Consumer, Error> {
        let consumer = self.client.consumer(name, topics, options);
        Ok(Consumer {
            consumer: self.runtime.block_on(consumer)?,
            runtime: self.runtime.clone(),
        })
    }
}

/// See [`crate::Producer`]. Close it: dropped as the last that uses the background thread, it takes
/// with it what has no answer yet.
#[derive(Debug)]
pub struct Producer {
    // Before the runtime: it tells its tasks to finish.
    producer: crate::Producer,
    runtime: Arc<Runtime>,
}

impl Producer {
    /// See [`crate::Producer::send`].
    pub fn send(&mut self, topic: &str, value: impl AsRef<[u8]> + Send) -> Result<Receipt, Error> {
        self.runtime.block_on(self.producer.send(topic, value))
    }

    /// See [`crate::Producer::send_record`].
    pub fn send_record(&mut self, topic: &str, record: &NewRecord<'_>) -> Result<Receipt, Error> {
        let sent = self.producer.send_record(topic, record);
        self.runtime.block_on(sent)
    }

    /// See [`crate::Producer::enqueue`]; wait for the delivery with [`Producer::wait`].
    pub fn enqueue(&mut self, topic: &str, record: &NewRecord<'_>) -> Result<Delivery, Error> {
        let delivery = self.producer.enqueue(topic, record);
        self.runtime.block_on(delivery)
    }

    /// Waits until a record is acknowledged.
    pub fn wait(&self, delivery: Delivery) -> Result<Receipt, Error> {
        self.runtime.block_on(delivery)
    }

    /// See [`crate::Producer::push`].
    pub fn push(&mut self, topic: &str, record: &NewRecord<'_>) -> Result<(), Error> {
        // Entering the runtime costs more than a record does.
        if self.producer.try_push(topic, record)? {
            return Ok(());
        }
        self.runtime.block_on(self.producer.push(topic, record))
    }

    /// See [`crate::Producer::flush`].
    pub fn flush(&mut self) -> Result<(), Unacknowledged> {
        self.runtime.block_on(self.producer.flush())
    }

    /// See [`crate::Producer::acknowledged`].
    pub fn acknowledged(&self) -> u64 {
        self.producer.acknowledged()
    }

    /// See [`crate::Producer::acknowledgements`].
    pub fn acknowledgements(&self) -> Acknowledgements {
        self.producer.acknowledgements()
    }

    /// See [`crate::Producer::handed_over`].
    pub fn handed_over(&self) -> u64 {
        self.producer.handed_over()
    }

    /// See [`crate::Producer::created_topics`].
    pub fn created_topics(&self) -> Vec<Arc<str>> {
        self.producer.created_topics()
    }

    /// See [`crate::Producer::close`].
    pub fn close(self) -> Result<(), Unacknowledged> {
        self.runtime.block_on(self.producer.close())
    }
}

/// See [`crate::Sender`].
#[derive(Debug)]
pub struct Sender {
    sender: crate::Sender,
    runtime: Arc<Runtime>,
}

impl Sender {
    /// See [`crate::Sender::send_all`].
    pub fn send_all(&mut self, records: &[(&str, NewRecord<'_>)]) -> Result<Vec<Receipt>, Error> {
        self.runtime.block_on(self.sender.send_all(records))
    }

    /// See [`crate::Sender::schedule`].
    pub fn schedule(
        &mut self,
        topic: &str,
        records: &[NewRecord<'_>],
        time: SystemTime,
    ) -> Result<(), Error> {
        let scheduled = self.sender.schedule(topic, records, time);
        self.runtime.block_on(scheduled)
    }

    /// See [`crate::Sender::created_topics`].
    pub fn created_topics(&self) -> Vec<Arc<str>> {
        self.sender.created_topics()
    }

    /// See [`crate::Sender::close`].
    pub fn close(self) {
        self.runtime.block_on(self.sender.close());
    }
}

/// See [`crate::Consumer`].
#[derive(Debug)]
pub struct Consumer {
    consumer: crate::Consumer,
    runtime: Arc<Runtime>,
}

impl Consumer {
    /// See [`crate::Consumer::get_next`].
    pub fn get_next(&mut self) -> Result<Option<Event>, Error> {
        self.runtime.block_on(self.consumer.get_next())
    }

    /// See [`crate::Consumer::get_next_within`].
    pub fn get_next_within(&mut self, wait: Duration) -> Result<Option<Event>, Error> {
        self.runtime.block_on(self.consumer.get_next_within(wait))
    }

    /// See [`crate::Consumer::try_next`].
    pub fn try_next(&mut self) -> Result<Option<Event>, Error> {
        self.runtime.block_on(self.consumer.try_next())
    }

    /// See [`crate::Consumer::get_batch`].
    pub fn get_batch(&mut self, wait: Option<Duration>) -> Result<Option<Portion>, Error> {
        self.runtime.block_on(self.consumer.get_batch(wait))
    }

    /// See [`crate::Consumer::set_max_records`].
    pub fn set_max_records(&mut self, max_records: u32) {
        self.consumer.set_max_records(max_records);
    }

    /// See [`crate::Consumer::buffered`].
    pub fn buffered(&self) -> u64 {
        self.consumer.buffered()
    }

    /// See [`crate::Consumer::is_held`].
    pub fn is_held(&self) -> bool {
        self.consumer.is_held()
    }

    /// See [`crate::Consumer::ack`].
    pub fn ack(&self, record: &Record) -> Result<(), Error> {
        self.runtime.block_on(self.consumer.ack(record))
    }

    /// See [`crate::Consumer::ack_later`].
    pub fn ack_later(&self, record: &Record) -> Result<(), Error> {
        self.runtime.block_on(self.consumer.ack_later(record))
    }

    /// See [`crate::Consumer::settled`].
    pub fn settled(&self) -> Result<(), Error> {
        self.runtime.block_on(self.consumer.settled())
    }

    /// See [`crate::Consumer::ack_up_to`].
    pub fn ack_up_to(&self, record: &Record) -> Result<(), Error> {
        self.runtime.block_on(self.consumer.ack_up_to(record))
    }

    /// See [`crate::Consumer::ack_portion`].
    pub fn ack_portion(&self, portion: &Portion) -> Result<(), Error> {
        self.runtime.block_on(self.consumer.ack_portion(portion))
    }

    /// See [`crate::Consumer::ack_all`].
    pub fn ack_all(&self) -> Result<(), Error> {
        self.runtime.block_on(self.consumer.ack_all())
    }

    /// See [`crate::Consumer::nack`].
    pub fn nack(&self, record: &Record, delay: Duration) -> Result<(), Error> {
        self.runtime.block_on(self.consumer.nack(record, delay))
    }

    /// See [`crate::Consumer::nack_portion`].
    pub fn nack_portion(&self, portion: &Portion, delay: Duration) -> Result<(), Error> {
        let given_back = self.consumer.nack_portion(portion, delay);
        self.runtime.block_on(given_back)
    }

    /// See [`crate::Consumer::extend`].
    pub fn extend(&self, record: &Record, lasts: Duration) -> Result<(), Error> {
        self.runtime.block_on(self.consumer.extend(record, lasts))
    }

    /// See [`crate::Consumer::close`].
    pub fn close(self) -> u64 {
        self.runtime.block_on(self.consumer.close())
    }
}

/// All events; ends as [`crate::Consumer::into_stream`] does, but goes on after an error.
impl Iterator for Consumer {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next().transpose()
    }
}

/// See [`crate::Fetcher`].
#[derive(Debug)]
pub struct Fetcher {
    fetcher: crate::Fetcher,
    runtime: Arc<Runtime>,
}

impl Fetcher {
    /// See [`crate::Fetcher::next`].
    pub fn next_portion(&mut self) -> Result<Option<Portion>, Error> {
        self.runtime.block_on(self.fetcher.next())
    }

    /// See [`crate::Fetcher::end_offset`].
    pub fn end_offset(&self) -> Option<u64> {
        self.fetcher.end_offset()
    }

    /// See [`crate::Fetcher::position`].
    pub fn position(&self) -> u64 {
        self.fetcher.position()
    }
}

/// Portion by portion, to the end; goes on after an error.
impl Iterator for Fetcher {
    type Item = Result<Portion, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_portion().transpose()
    }
}

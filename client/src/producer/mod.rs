//! Producing: the handle that callers hold, and behind it a task for each topic.
//!
//! | module | owns |
//! |---|---|
//! | `batching` | the open batch and the slot by which it is passed on |
//! | `task` | sending, answers, recovering |
//! | `lone` | a record that is sent while nothing is under way, past the task |
//! | `sequence` | which batches are unanswered, and what may be done with each |
//! | `register` | registering, again and anew |
//! | `delivery` | what a caller learns |
//! | `sender` | one request at a time: several topics together, or for later |
//!
//! The handle encodes records into the open batch and does nothing else with them, a lone record
//! apart.

mod batching;
mod delivery;
mod lone;
mod register;
mod sender;
mod sequence;
mod task;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use logdrive_protocol::batch::{NewRecord, Packer};
use logdrive_protocol::{ErrorCode, Failure};
use tokio::sync::watch;

use crate::{Ack, Client, Error, ErrorKind, ProducerOptions};
use batching::{BatchLimits, Put, Slot};
use delivery::Tally;
use lone::Lone;
use register::Registrar;
use sequence::{Unanswered, Window};
use task::Task;

pub use delivery::{
    Acknowledgements, Delivery, Durability, Receipt, Unacknowledged, UnacknowledgedTopic,
};
pub use sender::Sender;

/// Highest `SeverityNumber` of OpenTelemetry.
const MAX_SEVERITY: u8 = 24;

/// Produces to one or several topics. Records of one topic keep their order.
///
/// Records gather in a batch, which leaves at once when nothing is in flight, else with the next
/// answer or when it is full. A lost connection is a pause: what has no answer is sent again, with
/// the same sequence, so that it is stored once. An error that no retry can help, or that lasts
/// longer than [`retry_for`](crate::Options::retry_for), ends the producer for that topic:
/// everything unanswered fails, and so does every later record.
///
/// Dropped without [`close`](Self::close), it goes on in the background until what was handed over
/// has its answer, and nobody learns of errors.
#[derive(Debug)]
pub struct Producer {
    topics: Vec<Lane>,
    acknowledgements: Acknowledgements,
}

/// The producer's side of one topic.
#[derive(Debug)]
struct Lane {
    topic: Arc<str>,
    slot: Arc<Slot>,
    limits: BatchLimits,
    record_bytes: u32,
    tally: watch::Receiver<Tally>,
    /// Records handed over.
    put: u64,
    /// Of these, records acknowledged past the task, which are not in its tally.
    lone: u64,
    /// What the caller was told of.
    told: Tally,
    created: bool,
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.slot.leave();
    }
}

impl Producer {
    pub(crate) async fn open(
        client: &Client,
        topics: &[&str],
        options: ProducerOptions,
    ) -> Result<Self, Error> {
        if topics.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "a producer needs a topic"));
        }
        let acknowledgements = Acknowledgements::default();
        let mut lanes: Vec<Lane> = Vec::with_capacity(topics.len());
        for &topic in topics {
            if lanes.iter().all(|lane| &*lane.topic != topic) {
                lanes.push(Lane::open(client, topic, &options, &acknowledgements).await?);
            }
        }
        Ok(Self {
            topics: lanes,
            acknowledgements,
        })
    }

    /// Produces one record, stamped with the present time, and waits until it is acknowledged:
    /// durable, unless [`Ack::Accepted`] was asked for.
    ///
    /// If the future is dropped, the record may be produced all the same.
    pub async fn send(
        &mut self,
        topic: &str,
        value: impl AsRef<[u8]> + Send,
    ) -> Result<Receipt, Error> {
        let record = NewRecord {
            value: value.as_ref(),
            ..NewRecord::default()
        };
        self.send_record(topic, &record).await
    }

    /// Produces one record and waits until it is acknowledged. A timestamp of 0 becomes the
    /// present time.
    pub async fn send_record(
        &mut self,
        topic: &str,
        record: &NewRecord<'_>,
    ) -> Result<Receipt, Error> {
        let acknowledgements = self.acknowledgements.clone();
        let lane = self.lane(topic)?;
        match lane.send_lone(record, &acknowledgements).await? {
            Lone::Done(receipt) => Ok(receipt),
            Lone::Left(delivery) => delivery.await,
            Lone::Not => self.enqueue(topic, record).await?.await,
        }
    }

    /// Hands a record over, waiting only for room in the window; the delivery says what became
    /// of it. If this future is dropped while it waits, the record is not produced.
    pub async fn enqueue(
        &mut self,
        topic: &str,
        record: &NewRecord<'_>,
    ) -> Result<Delivery, Error> {
        let lane = self.lane(topic)?;
        loop {
            if let Put::In(answer, index) = lane.put(record)? {
                return Ok(Delivery::new(lane.topic.clone(), answer, index));
            }
            lane.slot.taken().await;
        }
    }

    /// Hands a record over without a delivery, the fast way: what became of it is told by
    /// [`acknowledged`](Self::acknowledged), [`flush`](Self::flush) and [`close`](Self::close).
    pub async fn push(&mut self, topic: &str, record: &NewRecord<'_>) -> Result<(), Error> {
        let lane = self.lane(topic)?;
        while let Put::Full = lane.put(record)? {
            lane.slot.taken().await;
        }
        Ok(())
    }

    /// As [`push`](Self::push), without waiting: false if the window is full.
    pub fn try_push(&mut self, topic: &str, record: &NewRecord<'_>) -> Result<bool, Error> {
        let put = self.lane(topic)?.put(record)?;
        Ok(matches!(put, Put::In(..)))
    }

    /// Waits until everything handed over is acknowledged, or has failed. Nothing has to be
    /// flushed to be sent.
    ///
    /// # Errors
    /// What was not acknowledged since the last flush.
    pub async fn flush(&mut self) -> Result<(), Unacknowledged> {
        let mut topics = Vec::new();
        for lane in &mut self.topics {
            topics.extend(lane.flush().await);
        }
        if topics.is_empty() {
            Ok(())
        } else {
            Err(Unacknowledged { topics })
        }
    }

    /// Records acknowledged so far, over all topics; cheap.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledgements.count()
    }

    /// The same count, for somebody else to look at, such as a progress bar.
    pub fn acknowledgements(&self) -> Acknowledgements {
        self.acknowledgements.clone()
    }

    /// Records handed over so far, over all topics.
    pub fn handed_over(&self) -> u64 {
        self.topics.iter().map(|lane| lane.put).sum()
    }

    /// Topics that did not exist before this producer registered with them.
    pub fn created_topics(&self) -> Vec<Arc<str>> {
        let created = self.topics.iter().filter(|lane| lane.created);
        created.map(|lane| lane.topic.clone()).collect()
    }

    /// Flushes, then ends an unnamed registration.
    ///
    /// # Errors
    /// What was never acknowledged, from the beginning on.
    pub async fn close(self) -> Result<(), Unacknowledged> {
        let mut topics = Vec::new();
        for mut lane in self.topics {
            lane.told = Tally::default();
            topics.extend(lane.flush().await);
            lane.slot.leave();
            // The task's end of this is dropped with the task, when it has unregistered.
            while lane.tally.changed().await.is_ok() {}
        }
        if topics.is_empty() {
            Ok(())
        } else {
            Err(Unacknowledged { topics })
        }
    }

    fn lane(&mut self, topic: &str) -> Result<&mut Lane, Error> {
        let known = self.topics.iter().position(|lane| &*lane.topic == topic);
        if let Some(index) = known {
            return Ok(&mut self.topics[index]);
        }
        let topics: Vec<&str> = self.topics.iter().map(|lane| &*lane.topic).collect();
        let topics = topics.join(", ");
        Err(Error::new(
            ErrorKind::Invalid,
            format!("this producer is not for topic \"{topic}\", only for {topics}"),
        ))
    }
}

impl Lane {
    async fn open(
        client: &Client,
        topic: &str,
        options: &ProducerOptions,
        acknowledgements: &Acknowledgements,
    ) -> Result<Self, Error> {
        let registrar = Registrar::new(topic, options);
        let found = registrar.begin(client).await?;
        let link = client.dialer().link().await?;
        let limits = *link.limits();
        let at_once = usize::try_from(limits.batches_in_flight).unwrap_or(usize::MAX);
        let window = Window {
            batches: options.batches_in_flight.min(at_once).max(1),
            bytes: options.window_bytes,
        };
        let (tally, told) = watch::channel(Tally::default());
        let slot = Arc::new(Slot::new());
        let name: Arc<str> = topic.into();
        let synced = options.ack == Ack::Synced;
        let task = Task {
            topic: name.clone(),
            id: found.topic,
            dialer: client.dialer().clone(),
            link,
            registrar,
            slot: slot.clone(),
            unanswered: Unanswered::new(found.registration, window, synced)
                .packing(options.compression.codec().map(Packer::new)),
            acknowledgements: acknowledgements.clone(),
            tally,
        };
        tokio::spawn(task.run());
        Ok(Self {
            topic: name,
            slot,
            limits: BatchLimits {
                bytes: options.batch_bytes.min(limits.batch_bytes as usize),
                records: options.batch_records.max(1),
            },
            record_bytes: limits.record_bytes.min(limits.batch_bytes / 2),
            tally: told,
            put: 0,
            lone: 0,
            told: Tally::default(),
            created: found.topic_created,
        })
    }

    /// Sends a record past the task, if nothing of the topic is under way.
    async fn send_lone(
        &mut self,
        record: &NewRecord<'_>,
        acknowledgements: &Acknowledgements,
    ) -> Result<Lone, Error> {
        let record = stamped(record, self.record_bytes)?;
        let Some(lent) = self.slot.borrow(self.put) else {
            return Ok(Lone::Not);
        };
        // Whatever becomes of this future, the record is handed over from here on.
        self.put += 1;
        let sent = lone::send(&self.slot, lent, &self.topic, &record).await;
        if let Lone::Done(_) = sent {
            acknowledgements.add(1);
            self.lone += 1;
        }
        Ok(sent)
    }

    fn put(&mut self, record: &NewRecord<'_>) -> Result<Put, Error> {
        let stamped = stamped(record, self.record_bytes)?;
        let put = self.slot.put(&stamped, self.limits)?;
        if matches!(put, Put::In(..)) {
            self.put += 1;
        }
        Ok(put)
    }

    async fn flush(&mut self) -> Option<UnacknowledgedTopic> {
        let put = self.put - self.lone;
        let ended = self
            .tally
            .wait_for(|tally| tally.settled >= put)
            .await
            .is_err();
        let mut now = self.tally.borrow().clone();
        if ended {
            // The task is gone before its time: it panicked, or the runtime is ending.
            let missing = put.saturating_sub(now.settled);
            now.settled += missing;
            now.failed += missing;
            now.unknown += missing;
        }
        let said = UnacknowledgedTopic::since(&self.topic, &self.told, &now);
        self.told = now;
        said
    }
}

/// A record that may be produced, with a time.
fn stamped<'a>(record: &NewRecord<'a>, record_bytes: u32) -> Result<NewRecord<'a>, Error> {
    let length = record.content_len();
    if length > record_bytes as usize {
        return Err(too_large(length, record_bytes));
    }
    if record.severity > MAX_SEVERITY {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("a severity of {} is above {MAX_SEVERITY}", record.severity),
        ));
    }
    Ok(NewRecord {
        timestamp: match record.timestamp {
            0 => micros_of(SystemTime::now()),
            given => given,
        },
        ..*record
    })
}

fn too_large(length: usize, limit: u32) -> Error {
    Failure::new(
        ErrorCode::RecordTooLarge,
        format!("a record of {length} bytes is over the limit of {limit}"),
    )
    .numbers(limit.into(), 0)
    .hint("split the record, or store it elsewhere and produce a reference")
    .into()
}

/// Microseconds since 1970 UTC.
fn micros_of(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0, |it| u64::try_from(it.as_micros()).unwrap_or(u64::MAX))
}

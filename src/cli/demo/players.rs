//! The producers and consumers of the demo, each with a connection and notes of its own.
//!
//! Own what a client does and notes down; they know nothing of the killing, which they live through
//! by the client's means alone. All register before any begins: a client survives the loss of a
//! broker, but the first connection needs one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use logdrive_client::{
    Client, Consumer, ConsumerOptions, Delivery, Error, ErrorKind, FetchOptions, NewRecord,
    Options, Outcome, Position, Producer, ProducerOptions, Receipt,
};
use logdrive_protocol::WorkerId;
use tokio::sync::watch;

use crate::history::{Answer, Origin, Read, Recorder};

use super::plan::{fingerprint_of, value};

/// Records that a producer has on their way: few, so that a kill finds the broker in the middle.
const ON_THEIR_WAY: usize = 64;
/// How long a consumer waits for records before it looks whether all is produced.
const CONSUME_WAIT: Duration = Duration::from_millis(200);

/// A connection as every player has it.
pub(super) async fn connect(address: SocketAddr, name: &str) -> Result<Client, Error> {
    let options = Options {
        client_name: format!("logdrive-demo-{name}"),
        ..Options::default()
    };
    Client::connect_with(address, options).await
}

/// What a producer comes back with.
#[derive(Debug, Default)]
pub(super) struct Produced {
    pub(super) notes: Recorder,
    /// From handing a record over to its acknowledgement, for each.
    pub(super) latencies: Vec<Duration>,
    /// The first error, in words.
    pub(super) error: Option<String>,
}

/// Where a record stands, and when it was handed over.
#[derive(Clone, Copy)]
struct Sent {
    topic: &'static str,
    sequence: u64,
    at: Instant,
}

/// A producer that is registered and has not begun.
pub(super) struct ProducerReady {
    name: &'static str,
    topics: &'static [&'static str],
    producer: Producer,
}

impl ProducerReady {
    /// Connects and registers.
    pub(super) async fn open(
        address: SocketAddr,
        (name, topics): (&'static str, &'static [&'static str]),
    ) -> Result<Self, Error> {
        let options = ProducerOptions {
            name: Some(name.to_owned()),
            ..ProducerOptions::default()
        };
        let producer = connect(address, name)
            .await?
            .producer(topics, options)
            .await?;
        Ok(Self {
            name,
            topics,
            producer,
        })
    }

    /// Produces every line to every topic; counts acknowledgements in `acknowledged`.
    pub(super) async fn run(
        mut self,
        lines: Vec<Bytes>,
        acknowledged: watch::Sender<u64>,
    ) -> Produced {
        let mut seen = Produced::default();
        let mut under_way = FuturesUnordered::new();
        for (sequence, line) in (0..).zip(&lines) {
            let value = value(self.name, sequence, line);
            let record = NewRecord {
                value: &value,
                ..NewRecord::default()
            };
            for &topic in self.topics {
                let sent = Sent {
                    topic,
                    sequence,
                    at: Instant::now(),
                };
                seen.notes
                    .sent(sent.origin(self.name), fingerprint_of(&value));
                match self.producer.enqueue(topic, &record).await {
                    Ok(delivery) => under_way.push(settled(sent, delivery)),
                    Err(error) => seen.settle(self.name, sent, Err(error), &acknowledged),
                }
                while under_way.len() >= ON_THEIR_WAY
                    && let Some((sent, outcome)) = under_way.next().await
                {
                    seen.settle(self.name, sent, outcome, &acknowledged);
                }
            }
        }
        while let Some((sent, outcome)) = under_way.next().await {
            seen.settle(self.name, sent, outcome, &acknowledged);
        }
        if let Err(unacknowledged) = self.producer.close().await {
            seen.error.get_or_insert(unacknowledged.to_string());
        }
        seen
    }
}

async fn settled(sent: Sent, delivery: Delivery) -> (Sent, Result<(Receipt, Duration), Error>) {
    let outcome = delivery.await.map(|receipt| (receipt, sent.at.elapsed()));
    (sent, outcome)
}

impl Sent {
    fn origin(self, producer: &str) -> Origin<'_> {
        Origin {
            topic: self.topic,
            producer,
            sequence: self.sequence,
        }
    }
}

impl Produced {
    /// Notes what became of a record.
    fn settle(
        &mut self,
        name: &str,
        sent: Sent,
        outcome: Result<(Receipt, Duration), Error>,
        acknowledged: &watch::Sender<u64>,
    ) {
        let origin = sent.origin(name);
        match outcome {
            Ok((receipt, latency)) => {
                self.notes.acknowledged(origin, receipt.offset);
                self.latencies.push(latency);
                acknowledged.send_modify(|count| *count += 1);
            }
            Err(error) => {
                if error.kind() == ErrorKind::Lost || error.outcome() == Outcome::NotDone {
                    self.notes.reported_lost(origin);
                } else {
                    self.notes.unknown(origin);
                }
                self.error.get_or_insert_with(|| format!("{name}: {error}"));
            }
        }
    }
}

/// A consumer that is registered and has not begun.
pub(super) struct ConsumerReady {
    name: &'static str,
    worker: u64,
    consumer: Consumer,
}

impl ConsumerReady {
    /// Connects and registers.
    pub(super) async fn open(
        address: SocketAddr,
        (name, topics): (&'static str, &'static [&'static str]),
    ) -> Result<Self, Error> {
        let worker = fastrand::u64(1..);
        let options = ConsumerOptions {
            worker: Some(WorkerId(worker)),
            ..ConsumerOptions::default()
        };
        let consumer = connect(address, name)
            .await?
            .consumer(name, topics, options)
            .await?;
        Ok(Self {
            name,
            worker,
            consumer,
        })
    }

    /// Consumes until nothing is left and `all_produced` is true.
    pub(super) async fn run(
        mut self,
        all_produced: watch::Receiver<bool>,
    ) -> Result<Recorder, Error> {
        let mut notes = Recorder::new();
        let mut number = 0;
        loop {
            // Looked at first: what was produced before is found by the request that follows.
            let last_round = *all_produced.borrow();
            let Some(portion) = self.consumer.get_batch(Some(CONSUME_WAIT)).await? else {
                if last_round {
                    break;
                }
                continue;
            };
            number += 1;
            let answer = Answer {
                topic: portion.topic(),
                consumer: Some(self.name),
                worker: self.worker,
                number,
            };
            for record in portion.records() {
                let read = Read {
                    offset: record.offset,
                    fingerprint: fingerprint_of(record.record.value),
                };
                notes.delivered(answer, read);
            }
        }
        self.consumer.close().await;
        Ok(notes)
    }
}

/// Reads a topic from its beginning to its end.
pub(super) async fn read_all(client: &Client, topic: &str) -> Result<Recorder, Error> {
    let mut notes = Recorder::new();
    let mut fetcher = client
        .fetch(topic, Position::Earliest, FetchOptions::default())
        .await?;
    while let Some(portion) = fetcher.next().await? {
        for record in portion.records() {
            let read = Read {
                offset: record.offset,
                fingerprint: fingerprint_of(record.record.value),
            };
            notes.finally_read(topic, read);
        }
    }
    Ok(notes)
}

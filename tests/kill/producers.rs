//! The producers that use the client, each with a connection, dice and notes of its own.
//!
//! They know nothing of the killing but its number; a registered one takes every error for a fault,
//! an unregistered one notes what it is told.

use fastrand::Rng;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use logdrive::history::{Origin, Recorder};
use logdrive_client::{
    Ack, Delivery, Durability, Error, ErrorKind, NewRecord, Outcome, Producer, ProducerOptions,
    Receipt,
};

use crate::course::{Course, Crossing, Noted};
use crate::plan::{self, Manner, ProducerPlan, TOPICS};

/// Records that a pipelined producer has on their way at most.
const ON_THEIR_WAY: usize = 128;
/// Records of a burst.
const BURST: std::ops::RangeInclusive<usize> = 6..=24;
/// Acknowledgements of anybody between two bursts.
const BETWEEN_BURSTS: std::ops::RangeInclusive<u64> = 200..=1500;
/// Accepted records for each acknowledgement of anybody: their answers cost nothing to wait for.
const ACCEPTED_AT_A_TIME: u32 = 8;

/// A record on its way.
#[derive(Clone, Copy)]
struct Sent {
    topic: &'static str,
    sequence: u64,
    /// Kills before it was handed over.
    kills: u64,
}

type Outcomes = FuturesUnordered<BoxFuture<'static, (Sent, Result<Receipt, Error>)>>;

/// A producer that is registered and has not begun.
pub(crate) struct Ready {
    plan: ProducerPlan,
    course: Course,
    producer: Producer,
    dice: Rng,
    next_sequence: u64,
    noted: Noted,
}

impl Ready {
    /// Connects and registers.
    pub(crate) async fn open(course: &Course, plan: ProducerPlan) -> Result<Self, Error> {
        let options = ProducerOptions {
            name: plan.is_named.then(|| plan.name.to_owned()),
            registered: plan.manner != Manner::Unregistered,
            ack: if plan.manner == Manner::Accepted {
                Ack::Accepted
            } else {
                Ack::Synced
            },
            ..ProducerOptions::default()
        };
        let client = course.connect(plan.name).await?;
        Ok(Self {
            plan,
            course: course.clone(),
            producer: client.producer(plan.topics, options).await?,
            dice: plan::dice(course.seed, plan.name),
            next_sequence: 0,
            noted: Noted::default(),
        })
    }

    /// Produces until the trial comes to its end; gives what it noted, or a fault in words.
    pub(crate) async fn run(mut self) -> Result<Noted, String> {
        let produced = match self.plan.manner {
            Manner::OneByOne => self.one_by_one().await,
            Manner::Bursts => self.bursts().await,
            Manner::Pipelined | Manner::Accepted | Manner::Unregistered => self.pipelined().await,
        };
        let name = self.plan.name;
        produced.map_err(|error| format!("{name}: {error}"))?;
        match self.producer.close().await {
            Err(unacknowledged) if self.plan.manner != Manner::Unregistered => {
                Err(format!("{name}: {unacknowledged}"))
            }
            _ => Ok(self.noted),
        }
    }

    async fn one_by_one(&mut self) -> Result<(), Error> {
        while !self.course.now().finishing {
            let (sent, value) = self.next();
            let outcome = self.producer.send(sent.topic, value).await;
            self.settle(sent, outcome)?;
        }
        Ok(())
    }

    async fn pipelined(&mut self) -> Result<(), Error> {
        let mut under_way = Outcomes::new();
        while !self.course.now().finishing {
            self.hand_over(&mut under_way).await?;
            if self.plan.manner == Manner::Accepted
                && self.next_sequence.is_multiple_of(ACCEPTED_AT_A_TIME.into())
            {
                self.course.acknowledgements(1).await;
            }
            let most = self.dice.usize(1..=ON_THEIR_WAY);
            self.settle_all_but(&mut under_way, most).await?;
        }
        self.settle_all_but(&mut under_way, 0).await
    }

    async fn bursts(&mut self) -> Result<(), Error> {
        let mut under_way = Outcomes::new();
        while !self.course.now().finishing {
            for _ in 0..self.dice.usize(BURST) {
                self.hand_over(&mut under_way).await?;
            }
            self.course.bursts.send_modify(|count| *count += 1);
            let pause = self.dice.u64(BETWEEN_BURSTS);
            self.course.acknowledgements(pause).await;
            self.settle_all_but(&mut under_way, 0).await?;
        }
        Ok(())
    }

    async fn hand_over(&mut self, under_way: &mut Outcomes) -> Result<(), Error> {
        let (sent, value) = self.next();
        let key = plan::key(sent.sequence);
        let record = NewRecord {
            key: Some(&key),
            value: &value,
            ..NewRecord::default()
        };
        match self.producer.enqueue(sent.topic, &record).await {
            Ok(delivery) => under_way.push(outcome(sent, delivery).boxed()),
            Err(error) => self.settle(sent, Err(error))?,
        }
        Ok(())
    }

    async fn settle_all_but(&mut self, under_way: &mut Outcomes, most: usize) -> Result<(), Error> {
        while under_way.len() > most
            && let Some((sent, outcome)) = under_way.next().await
        {
            self.settle(sent, outcome)?;
        }
        Ok(())
    }

    /// The next record, noted as sent.
    fn next(&mut self) -> (Sent, Vec<u8>) {
        let sent = Sent {
            topic: self.plan.topics[self.dice.usize(..self.plan.topics.len())],
            sequence: self.next_sequence,
            kills: self.course.now().kills,
        };
        self.next_sequence += 1;
        let length = plan::length(&mut self.dice, self.plan.manner);
        let value = plan::value(&mut self.dice, self.plan.name, sent.sequence, length);
        let origin = origin(self.plan.name, sent);
        let fingerprint = plan::fingerprint_of(&value);
        self.noted.recorder.sent(origin, fingerprint);
        (sent, value)
    }

    /// Notes what became of a record; the error of one that must not fail is a fault.
    fn settle(&mut self, sent: Sent, outcome: Result<Receipt, Error>) -> Result<(), Error> {
        let origin = origin(self.plan.name, sent);
        let notes = &mut self.noted;
        match outcome {
            Ok(receipt) if receipt.durability == Durability::Synced => {
                notes.recorder.acknowledged(origin, receipt.offset);
                let now = self.course.now();
                if now.deaths > sent.kills {
                    notes.crossings.push(Crossing {
                        kills: sent.kills,
                        deaths: now.deaths,
                        is_restarted: now.survived == now.deaths,
                        append_time: receipt.append_time,
                    });
                }
                self.course.acknowledged.send_modify(|count| *count += 1);
            }
            Ok(_) => {
                notes.recorder.unknown(origin);
                notes.accepted += 1;
            }
            Err(error) if self.plan.manner != Manner::Unregistered => return Err(error),
            Err(error)
                if error.kind() == ErrorKind::Lost || error.outcome() == Outcome::NotDone =>
            {
                notes.recorder.reported_lost(origin);
            }
            Err(_) => {
                notes.recorder.unknown(origin);
                notes.unknown += 1;
            }
        }
        Ok(())
    }
}

/// Produces one record to each topic, synced: a record answered as accepted may still be on its way
/// to the disk, and what is behind it comes after it.
pub(crate) async fn the_last(course: &Course) -> Result<Recorder, Error> {
    const NAME: &str = "last";
    let client = course.connect(NAME).await?;
    let mut producer = client.producer(&TOPICS, ProducerOptions::default()).await?;
    let mut notes = Recorder::new();
    for topic in TOPICS {
        let sent = Sent {
            topic,
            sequence: 0,
            kills: course.now().kills,
        };
        let value = plan::value(&mut plan::dice(course.seed, NAME), NAME, 0, 0);
        notes.sent(origin(NAME, sent), plan::fingerprint_of(&value));
        let receipt = producer.send(topic, value).await?;
        notes.acknowledged(origin(NAME, sent), receipt.offset);
    }
    Ok(notes)
}

fn origin(producer: &str, sent: Sent) -> Origin<'_> {
    Origin {
        topic: sent.topic,
        producer,
        sequence: sent.sequence,
    }
}

async fn outcome(sent: Sent, delivery: Delivery) -> (Sent, Result<Receipt, Error>) {
    (sent, delivery.await)
}

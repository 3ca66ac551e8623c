//! Who produces, with the client as it is; each with a connection, dice and notes of its own.
//!
//! A registered producer takes every error for a fault, an unregistered one notes what it is told.
//! One of them is a program that starts again now and then, under the same name.

use fastrand::Rng;
use futures_util::StreamExt;
use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::FuturesUnordered;
use logdrive_client::{
    Delivery, Error, ErrorKind, NewRecord, Outcome, Producer, ProducerOptions, Receipt, Sender,
};

use logdrive_protocol::ErrorCode;

use super::course::Course;
use super::plan::{self, Manner, ProducerPlan};
use super::trace;
use crate::history::{Origin, Recorder};

/// Records that a pipelined producer has on their way at most.
const ON_THEIR_WAY: usize = 12;
/// Of so many records one is followed by a new start of the program.
const RECORDS_TO_A_START: u32 = 16;
/// Milliseconds between two records at most.
const PAUSE: u64 = 160;

type Ending = (&'static str, u64, Result<Receipt, Error>);
type Outcomes = FuturesUnordered<LocalBoxFuture<'static, Ending>>;

/// A producer that is registered and has not begun.
pub(super) struct Ready {
    plan: ProducerPlan,
    course: Course,
    producer: Handle,
    dice: Rng,
    next_sequence: u64,
    notes: Recorder,
}

/// What the client gives to who produces.
enum Handle {
    Producer(Box<Producer>),
    Sender(Box<Sender>),
}

impl Ready {
    /// Connects and registers.
    pub(super) async fn open(course: &Course, plan: ProducerPlan) -> Result<Self, Error> {
        Ok(Self {
            plan,
            course: course.clone(),
            producer: register(course, plan).await?,
            dice: plan::dice(course.seed, plan.name),
            next_sequence: 0,
            notes: Recorder::new(),
        })
    }

    /// Produces until producers come to an end; hands its notes in, or tells of a fault.
    pub(super) async fn run(mut self) {
        let course = self.course.clone();
        let name = self.plan.name;
        course.says(name, "produces");
        let produced = match self.plan.manner {
            Manner::OneByOne => self.one_by_one().await,
            Manner::Together => self.together().await,
            Manner::Pipelined | Manner::Unregistered => self.pipelined().await,
        };
        match produced {
            Ok(()) => course.hand_in(self.notes),
            Err(error) => course.fault(format!("{name}: {error:?}")),
        }
        course.says(name, "is done");
    }

    async fn one_by_one(&mut self) -> Result<(), Error> {
        while !self.course.is_finishing() {
            let (topic, sequence, value) = self.next();
            let key = plan::key(sequence);
            let sent = self
                .producer()
                .send_record(topic, &record(&key, &value))
                .await;
            match sent {
                // An earlier start of the program was slow to register, and has taken over.
                Err(error)
                    if error.code() == Some(ErrorCode::FencedEpoch)
                        || error.kind() == ErrorKind::OutcomeUnknown =>
                {
                    self.notes.unknown(origin(self.plan.name, topic, sequence));
                    self.producer = register(&self.course, self.plan).await?;
                }
                sent => self.settle((topic, sequence, sent))?,
            }
            if self.dice.u32(..RECORDS_TO_A_START) == 0 {
                self.start_again().await?;
            }
            let pause = self.dice.u64(..PAUSE);
            self.course.pause(pause).await;
        }
        Ok(())
    }

    /// The program ends with a record on its way, and begins again under its name.
    async fn start_again(&mut self) -> Result<(), Error> {
        let (topic, sequence, value) = self.next();
        let key = plan::key(sequence);
        let delivery = self
            .producer()
            .enqueue(topic, &record(&key, &value))
            .await?;
        drop(delivery);
        self.notes.unknown(origin(self.plan.name, topic, sequence));
        self.producer = register(&self.course, self.plan).await?;
        Ok(())
    }

    /// A record to each topic, stored together or not at all; what was not is given up.
    async fn together(&mut self) -> Result<(), Error> {
        while !self.course.is_finishing() {
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            let value = plan::value(&mut self.dice, self.plan.name, sequence, 20);
            let key = plan::key(sequence);
            let records = self.plan.topics.iter();
            let records: Vec<_> = records.map(|&it| (it, record(&key, &value))).collect();
            for topic in self.plan.topics {
                let origin = origin(self.plan.name, topic, sequence);
                self.notes.sent(origin, plan::fingerprint_of(&value));
            }
            let Handle::Sender(sender) = &mut self.producer else {
                break;
            };
            let sent = sender.send_all(&records).await;
            for (at, topic) in self.plan.topics.iter().enumerate() {
                let origin = origin(self.plan.name, topic, sequence);
                match &sent {
                    Ok(receipts) => {
                        self.notes.acknowledged(origin, receipts[at].offset);
                        self.course.acknowledged(topic, receipts[at].offset);
                    }
                    Err(error) if error.outcome() == Outcome::NotDone => {
                        self.notes.reported_lost(origin);
                    }
                    Err(_) => self.notes.unknown(origin),
                }
            }
            let pause = self.dice.u64(..2 * PAUSE);
            self.course.pause(pause).await;
        }
        Ok(())
    }

    fn producer(&mut self) -> &mut Producer {
        match &mut self.producer {
            Handle::Producer(producer) => producer,
            Handle::Sender(_) => panic!("{} produces together", self.plan.name),
        }
    }

    async fn pipelined(&mut self) -> Result<(), Error> {
        let mut under_way = Outcomes::new();
        while !self.course.is_finishing() {
            for _ in 0..self.dice.usize(1..6) {
                self.hand_over(&mut under_way).await?;
            }
            self.settle_all_but(&mut under_way, ON_THEIR_WAY).await?;
            let pause = self.dice.u64(..2 * PAUSE);
            self.course.pause(pause).await;
        }
        self.settle_all_but(&mut under_way, 0).await
    }

    async fn hand_over(&mut self, under_way: &mut Outcomes) -> Result<(), Error> {
        let (topic, sequence, value) = self.next();
        let key = plan::key(sequence);
        match self.producer().enqueue(topic, &record(&key, &value)).await {
            Ok(delivery) => {
                under_way.push(ending(topic, sequence, delivery).boxed_local());
            }
            Err(error) => self.settle((topic, sequence, Err(error)))?,
        }
        Ok(())
    }

    async fn settle_all_but(&mut self, under_way: &mut Outcomes, most: usize) -> Result<(), Error> {
        while under_way.len() > most
            && let Some(ending) = under_way.next().await
        {
            self.settle(ending)?;
        }
        Ok(())
    }

    /// The next record, noted as sent.
    fn next(&mut self) -> (&'static str, u64, Vec<u8>) {
        let topic = self.plan.topics[self.dice.usize(..self.plan.topics.len())];
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let most = if self.dice.u8(..16) == 0 { 3_000 } else { 60 };
        let length = self.dice.usize(..most);
        let value = plan::value(&mut self.dice, self.plan.name, sequence, length);
        let origin = origin(self.plan.name, topic, sequence);
        self.notes.sent(origin, plan::fingerprint_of(&value));
        (topic, sequence, value)
    }

    /// Notes what became of a record; the error of one that must not fail is a fault.
    fn settle(&mut self, (topic, sequence, outcome): Ending) -> Result<(), Error> {
        let origin = origin(self.plan.name, topic, sequence);
        match outcome {
            Ok(receipt) => {
                self.notes.acknowledged(origin, receipt.offset);
                self.course.acknowledged(topic, receipt.offset);
            }
            Err(error) if self.plan.manner != Manner::Unregistered => return Err(error),
            Err(error)
                if error.kind() == ErrorKind::Lost || error.outcome() == Outcome::NotDone =>
            {
                trace::note("reported lost", sequence, &[]);
                self.notes.reported_lost(origin);
            }
            Err(_) => {
                trace::note("unknown", sequence, &[]);
                self.notes.abandoned(origin);
            }
        }
        Ok(())
    }
}

async fn register(course: &Course, plan: ProducerPlan) -> Result<Handle, Error> {
    loop {
        let options = ProducerOptions {
            name: plan.is_named.then(|| plan.name.to_owned()),
            registered: plan.manner != Manner::Unregistered,
            // Without an id nobody sees that a batch overtakes an older one that was refused.
            batches_in_flight: match plan.manner {
                Manner::Unregistered => 1,
                _ => ProducerOptions::default().batches_in_flight,
            },
            ..ProducerOptions::default()
        };
        let client = course.connect_at_last(plan.name).await?;
        let registered = if plan.manner == Manner::Together {
            let sender = client.sender(plan.topics, options).await;
            sender.map(|it| Handle::Sender(Box::new(it)))
        } else {
            let producer = client.producer(plan.topics, options).await;
            producer.map(|it| Handle::Producer(Box::new(it)))
        };
        match registered {
            // The program is started again until it comes up.
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            other => return other,
        }
    }
}

/// A record to each topic after everything else, so that everything else is on disk.
pub(super) async fn produce_the_last(
    course: &Course,
    producer: &mut Producer,
    notes: &mut Recorder,
    sequence: u64,
) -> Result<(), Error> {
    const NAME: &str = "last";
    for topic in plan::TOPICS {
        let value = plan::value(&mut plan::dice(course.seed, NAME), NAME, sequence, 8);
        notes.sent(origin(NAME, topic, sequence), plan::fingerprint_of(&value));
        let key = plan::key(sequence);
        let receipt = producer.send_record(topic, &record(&key, &value)).await?;
        notes.acknowledged(origin(NAME, topic, sequence), receipt.offset);
        course.acknowledged(topic, receipt.offset);
    }
    Ok(())
}

async fn ending(topic: &'static str, sequence: u64, delivery: Delivery) -> Ending {
    (topic, sequence, delivery.await)
}

fn record<'a>(key: &'a [u8], value: &'a [u8]) -> NewRecord<'a> {
    NewRecord {
        timestamp: trace::wall(),
        key: Some(key),
        value,
        ..NewRecord::default()
    }
}

fn origin<'a>(producer: &'a str, topic: &'a str, sequence: u64) -> Origin<'a> {
    Origin {
        topic,
        producer,
        sequence,
    }
}

//! Who reads: the workers of consumers, a follower without one, and the last look at everything.
//!
//! Workers keep their ids for the whole simulation. Every error is a fault, and every gap of a topic
//! that keeps its records.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;
use logdrive_client::{
    Client, Consumer, ConsumerOptions, End, Error, Event, FetchOptions, Fetcher, Portion, Position,
};
use logdrive_protocol::WorkerId;

use super::course::{Course, Stage};
use super::plan::{self, CONSUMERS, ConsumerPlan, DEAD, LEASED, TOPICS, TRIMMED, fingerprint_of};
use crate::history::{Answer, DeadLetter, Read, Recorder, Told};

/// A worker whose consumer is registered.
pub(super) struct Worker {
    plan: ConsumerPlan,
    course: Course,
    player: String,
    id: u64,
    dice: Rng,
    consumer: Consumer,
    number: u64,
    notes: Recorder,
}

impl Worker {
    /// Connects and registers.
    pub(super) async fn open(
        course: &Course,
        plan: ConsumerPlan,
        number: usize,
    ) -> Result<Self, Error> {
        let player = format!("{}.{number}", plan.name);
        let mut dice = plan::dice(course.seed, &player);
        let id = dice.u64(1..);
        let options = ConsumerOptions {
            max_records: plan.max_records,
            prefetch: plan.prefetch,
            worker: Some(WorkerId(id)),
            ..ConsumerOptions::default()
        };
        let client = course.connect(&player).await?;
        let consumer = client.consumer(plan.name, plan.topics, options).await?;
        for topic in plan.topics {
            course.has_read(plan.name, topic, 0);
        }
        Ok(Self {
            plan,
            course: course.clone(),
            player,
            id,
            dice,
            consumer,
            number: 0,
            notes: Recorder::new(),
        })
    }

    /// Consumes until everything is produced and nothing is left.
    pub(super) async fn run(mut self) {
        let (course, player) = (self.course.clone(), self.player.clone());
        course.says(&player, "consumes");
        match self.consume().await {
            Ok(()) => {
                let left = self.consumer.close().await;
                if left > 0 {
                    course.fault(format!("{player}: {left} records at the end"));
                }
                course.hand_in(self.notes);
            }
            Err(fault) => course.fault(format!("{player}: {fault}")),
        }
        course.says(&player, "is done");
    }

    async fn consume(&mut self) -> Result<(), String> {
        loop {
            // Giving up the wait loses nothing: the consumer keeps its request.
            let taken = tokio::select! {
                biased;
                taken = take(&mut self.consumer, self.plan.prefetch, None) => Some(taken?),
                () = self.course.reach(Stage::Ending) => None,
            };
            match taken {
                Some(Some(taken)) => {
                    self.note(&taken)?;
                    if self.plan.pause > 0 {
                        let pause = self.dice.u64(..self.plan.pause);
                        self.course.pause(pause).await;
                    }
                }
                Some(None) => return Err("a wait without an end has ended".to_owned()),
                None => break,
            }
        }
        while let Some(taken) =
            take(&mut self.consumer, self.plan.prefetch, Some(Duration::ZERO)).await?
        {
            self.note(&taken)?;
        }
        Ok(())
    }

    fn note(&mut self, taken: &Taken) -> Result<(), String> {
        self.number += 1;
        let (course, plan) = (self.course.clone(), self.plan);
        let answer = |topic| Answer {
            topic,
            consumer: Some(plan.name),
            worker: self.id,
            number: self.number,
        };
        match taken {
            Taken::Portion(portion) => {
                note_gaps(&course, &mut self.notes, portion, plan.name)?;
                note(&mut self.notes, answer(portion.topic()), portion);
                if let Some(last) = portion.records().last() {
                    course.has_read(plan.name, known(portion.topic()), last.offset + 1);
                }
            }
            Taken::Event(Event::Record(record)) => {
                let read = Read {
                    offset: record.offset,
                    fingerprint: fingerprint_of(&record.value),
                };
                self.notes.delivered(answer(&record.topic), read);
                course.has_read(plan.name, known(&record.topic), record.offset + 1);
            }
            Taken::Event(Event::Gap { gap, .. }) => return Err(format!("a gap: {gap:?}")),
        }
        Ok(())
    }
}

/// The topic's name as the plan has it.
pub(super) fn known(topic: &str) -> &'static str {
    TOPICS.into_iter().find(|it| *it == topic).unwrap()
}

/// What a consumer was given.
enum Taken {
    Portion(Portion),
    Event(Event),
}

async fn take(
    consumer: &mut Consumer,
    one_by_one: bool,
    wait: Option<Duration>,
) -> Result<Option<Taken>, String> {
    let taken = match (one_by_one, wait) {
        (false, wait) => consumer
            .get_batch(wait)
            .await
            .map(|it| it.map(Taken::Portion)),
        (true, None) => consumer.get_next().await.map(|it| it.map(Taken::Event)),
        (true, Some(wait)) => {
            let next = consumer.get_next_within(wait).await;
            next.map(|it| it.map(Taken::Event))
        }
    };
    taken.map_err(|error| format!("{error:?}"))
}

fn note(notes: &mut Recorder, answer: Answer<'_>, portion: &Portion) {
    for record in portion.records() {
        let read = Read {
            offset: record.offset,
            fingerprint: fingerprint_of(record.record.value),
        };
        notes.delivered(answer, read);
    }
}

/// Notes the gaps that a consumer was told; a topic that keeps its records has none.
pub(super) fn note_gaps(
    course: &Course,
    notes: &mut Recorder,
    portion: &Portion,
    consumer: &'static str,
) -> Result<(), String> {
    for gap in portion.gaps() {
        if **portion.topic() != *TRIMMED {
            return Err(format!("a gap: {gap:?}"));
        }
        let told = Told {
            from: gap.from,
            to: gap.to,
            records: gap.records,
        };
        notes.told(TRIMMED, consumer, told);
        course.has_read(consumer, TRIMMED, gap.to);
    }
    Ok(())
}

/// Somebody who reads one topic without a consumer.
pub(super) struct Follower {
    course: Course,
    name: &'static str,
    topic: &'static str,
    worker: u64,
    fetcher: Fetcher,
}

impl Follower {
    /// Connects and asks for the beginning.
    pub(super) async fn open(
        course: &Course,
        name: &'static str,
        topic: &'static str,
        worker: u64,
    ) -> Result<Self, Error> {
        let options = FetchOptions {
            end: End::Follow,
            ..FetchOptions::default()
        };
        let client = course.connect(name).await?;
        let fetcher = client.fetch(topic, Position::Earliest, options).await?;
        course.has_read(name, topic, 0);
        Ok(Self {
            course: course.clone(),
            name,
            topic,
            worker,
            fetcher,
        })
    }

    /// Follows until everything is produced.
    pub(super) async fn run(mut self) {
        self.course.says(self.name, "follows");
        let mut notes = Recorder::new();
        if let Err(fault) = self.follow(&mut notes).await {
            self.course.fault(format!("{}: {fault}", self.name));
        }
        self.course.hand_in(notes);
        self.course.says(self.name, "is done");
    }

    async fn follow(&mut self, notes: &mut Recorder) -> Result<(), String> {
        let mut number = 0;
        let mut position = 0;
        loop {
            let portion = tokio::select! {
                biased;
                portion = self.fetcher.next() => portion,
                () = self.course.reach(Stage::Ending) => return Ok(()),
            };
            let portion = portion.map_err(|error| format!("{error:?}"))?;
            let Some(portion) = portion else {
                return Err("came to an end".to_owned());
            };
            number += 1;
            let answer = Answer {
                topic: self.topic,
                consumer: None,
                worker: self.worker,
                number,
            };
            if self.topic == TRIMMED && number == 1 {
                // What was trimmed before the first answer is before the earliest record, and no gap.
                let first_gap = portion.gaps().first().map(|gap| gap.from);
                let first_record = portion.records().next().map(|record| record.offset);
                position = first_gap.or(first_record).unwrap_or(position);
            }
            for gap in portion.gaps() {
                if self.topic != TRIMMED || gap.from != position {
                    return Err(format!("a gap at {position}: {gap:?}"));
                }
                position = gap.to;
            }
            for record in portion.records() {
                if record.offset != position {
                    return Err(format!("at {position}, given {}", record.offset));
                }
                position += 1;
            }
            note(notes, answer, &portion);
            self.course.has_read(self.name, self.topic, position);
        }
    }
}

/// Reads every topic completely and asks for every size.
///
/// What is produced to several topics together must be in all of them or in none.
pub(super) async fn look_at_everything(
    course: &Course,
    client: &Client,
) -> Result<Recorder, Error> {
    let mut notes = Recorder::new();
    let mut together = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
    for (at, topic) in TOPICS.into_iter().enumerate() {
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
                if record.record.value.starts_with(plan::TOGETHER.as_bytes()) {
                    together[at].insert(plan::sequence_of(record.record.value));
                }
            }
        }
    }
    if let Some(alone) = together[0].symmetric_difference(&together[1]).next() {
        course.fault(format!(
            "{}: {alone:?} is in one topic alone",
            plan::TOGETHER
        ));
    }
    let trimmed = client.describe_topic(TRIMMED).await?;
    notes.removed(TRIMMED, trimmed.log_start);
    let all = CONSUMERS.map(|plan| (plan.name, plan.topics));
    let leased = LEASED.map(|plan| (plan.name, plan.topics));
    for (name, topics) in all.into_iter().chain(leased) {
        for &topic in topics {
            let size = client.size(topic, name).await?;
            notes.sized(topic, name, size.records);
        }
    }
    look_at_dead_letters(client, &mut notes).await?;
    Ok(notes)
}

async fn look_at_dead_letters(client: &Client, notes: &mut Recorder) -> Result<(), Error> {
    let options = FetchOptions::default();
    let mut fetcher = client.fetch(DEAD, Position::Earliest, options).await?;
    while let Some(portion) = fetcher.next().await? {
        for record in portion.records() {
            let record = portion.owned(&record);
            let header = |name: &str| {
                let found = record.headers.iter().find(|(header, _)| header == name);
                String::from_utf8(found.unwrap().1.to_vec()).unwrap()
            };
            notes.given_up(DeadLetter {
                topic: &header("logdrive.topic"),
                consumer: &header("logdrive.consumer"),
                read: Read {
                    offset: header("logdrive.offset").parse().unwrap(),
                    fingerprint: fingerprint_of(&record.value),
                },
                deliveries: header("logdrive.deliveries").parse().unwrap(),
            });
        }
    }
    Ok(())
}

/// Who removes records of one topic now and then.
pub(super) async fn purge(client: Client, course: Course) {
    const NAME: &str = "purger";
    let mut dice = plan::dice(course.seed, NAME);
    course.says(NAME, "purges");
    while !course.is_finishing() {
        course.pause(dice.u64(200..2_000)).await;
        let before = Position::Last(dice.u64(0..30));
        // It may fail at any time, and what was asked for may be done.
        if let Err(error) = client.purge_topic(TRIMMED, before).await
            && !error.is_retryable()
        {
            course.fault(format!("{NAME}: {error:?}"));
            break;
        }
    }
    course.says(NAME, "is done");
}

//! Who reads: the workers of consumers, a follower without one, and the last look at everything.
//!
//! Workers keep their ids for the whole trial. Every error is a fault, and every gap of a topic that
//! keeps its records.

use std::time::Duration;

use logdrive::history::{Answer, DeadLetter, Read, Recorder, Told};
use logdrive_client::{
    Client, Consumer, ConsumerOptions, End, Error, Event, FetchOptions, Fetcher, Portion, Position,
};
use logdrive_protocol::WorkerId;

use crate::course::Course;
use crate::plan::{
    self, CONSUMERS, ConsumerPlan, DEAD, FOLLOWED, LEASED, TOPICS, TRIMMED, fingerprint_of,
};

/// A worker whose consumer is registered.
pub(crate) struct Worker {
    plan: ConsumerPlan,
    course: Course,
    id: u64,
    consumer: Consumer,
    number: u64,
    notes: Recorder,
}

impl Worker {
    /// Connects and registers.
    pub(crate) async fn open(
        course: &Course,
        plan: ConsumerPlan,
        number: usize,
    ) -> Result<Self, Error> {
        let player = format!("{}.{number}", plan.name);
        let id = plan::dice(course.seed, &player).u64(1..);
        let options = ConsumerOptions {
            max_records: plan.max_records,
            max_bytes: plan.max_bytes,
            prefetch: plan.prefetch,
            worker: Some(WorkerId(id)),
            ..ConsumerOptions::default()
        };
        let client = course.connect(&player).await?;
        Ok(Self {
            plan,
            course: course.clone(),
            id,
            consumer: client.consumer(plan.name, plan.topics, options).await?,
            number: 0,
            notes: Recorder::new(),
        })
    }

    /// Consumes until everything is produced and nothing is left.
    pub(crate) async fn run(mut self) -> Result<Recorder, String> {
        let consumed = self.consume().await;
        consumed.map_err(|error| format!("{}: {error}", self.plan.name))?;
        match self.consumer.close().await {
            0 => Ok(self.notes),
            left => Err(format!("{}: {left} records at the end", self.plan.name)),
        }
    }

    async fn consume(&mut self) -> Result<(), String> {
        let mut stage = self.course.stage.clone();
        loop {
            // Giving up the wait loses nothing: the consumer keeps its request.
            let taken = tokio::select! {
                taken = take(&mut self.consumer, self.plan.prefetch, None) => Some(taken?),
                _ = stage.wait_for(|stage| stage.all_produced) => None,
            };
            match taken {
                Some(Some(taken)) => {
                    self.note(&taken)?;
                    if self.plan.pause > 0 {
                        self.course.acknowledgements(self.plan.pause).await;
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
        let answer = |topic| Answer {
            topic,
            consumer: Some(self.plan.name),
            worker: self.id,
            number: self.number,
        };
        match taken {
            Taken::Portion(portion) => {
                note_gaps(&mut self.notes, portion, self.plan.name)?;
                note(&mut self.notes, answer(portion.topic()), portion)?;
            }
            Taken::Event(Event::Record(record)) => {
                let read = Read {
                    offset: record.offset,
                    fingerprint: fingerprint_of(&record.value),
                };
                self.notes.delivered(answer(&record.topic), read);
            }
            Taken::Event(Event::Gap { gap, .. }) => return Err(format!("a gap: {gap:?}")),
        }
        self.course.answered.send_modify(|count| *count += 1);
        Ok(())
    }
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
    taken.map_err(|error| error.to_string())
}

fn note(notes: &mut Recorder, answer: Answer<'_>, portion: &Portion) -> Result<(), String> {
    if let (None, Some(gap)) = (answer.consumer, portion.gaps().first()) {
        return Err(format!("a gap: {gap:?}"));
    }
    for record in portion.records() {
        let read = Read {
            offset: record.offset,
            fingerprint: fingerprint_of(record.record.value),
        };
        notes.delivered(answer, read);
    }
    Ok(())
}

/// Notes the gaps that a consumer was told; a topic that keeps its records has none.
pub(crate) fn note_gaps(
    notes: &mut Recorder,
    portion: &Portion,
    consumer: &str,
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
    }
    Ok(())
}

/// Somebody who reads one topic without a consumer.
pub(crate) struct Follower {
    course: Course,
    fetcher: Fetcher,
}

impl Follower {
    /// Connects and asks for the beginning.
    pub(crate) async fn open(course: &Course) -> Result<Self, Error> {
        let options = FetchOptions {
            end: End::Follow,
            ..FetchOptions::default()
        };
        let client = course.connect("follower").await?;
        Ok(Self {
            course: course.clone(),
            fetcher: client.fetch(FOLLOWED, Position::Earliest, options).await?,
        })
    }

    /// Follows until everything is produced.
    pub(crate) async fn run(mut self) -> Result<Recorder, String> {
        let mut notes = Recorder::new();
        let mut number = 0;
        loop {
            let portion = tokio::select! {
                portion = self.fetcher.next() => portion,
                _ = self.course.stage.wait_for(|stage| stage.all_produced) => return Ok(notes),
            };
            let portion = portion.map_err(|error| format!("the follower: {error}"))?;
            let Some(portion) = portion else {
                return Err("the follower came to an end".to_owned());
            };
            number += 1;
            let answer = Answer {
                topic: FOLLOWED,
                consumer: None,
                worker: 1,
                number,
            };
            note(&mut notes, answer, &portion)?;
        }
    }
}

/// Reads every topic completely and asks for every size.
pub(crate) async fn look_at_everything(client: &Client) -> Result<Recorder, Error> {
    let mut notes = Recorder::new();
    for topic in TOPICS {
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
    }
    let trimmed = client.describe_topic(TRIMMED).await?;
    notes.removed(TRIMMED, trimmed.log_start);
    let all = CONSUMERS.map(|plan| (plan.name, plan.topics));
    let leased = LEASED.map(|plan| (plan.name, plan.topics));
    for (name, topics) in all.into_iter().chain(leased) {
        for &topic in topics {
            let size = client.size(topic, name).await?;
            notes.sized(topic, name, size.records);
            assert_eq!(size.gaps, 0, "gaps that {name} was never told of");
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

/// Who removes records of one topic now and then, until everything is produced.
pub(crate) async fn purge(client: Client, mut course: Course) -> Result<Recorder, String> {
    /// Acknowledgements of anybody between two purges.
    const BETWEEN: u64 = 1500;
    const NAME: &str = "purger";
    let mut dice = plan::dice(course.seed, NAME);
    while !course.now().finishing {
        course.acknowledgements(BETWEEN).await;
        let before = Position::Last(dice.u64(0..200));
        // It may be killed meanwhile, and what was asked for may be done.
        if let Err(error) = client.purge_topic(TRIMMED, before).await
            && !error.is_retryable()
        {
            return Err(format!("{NAME}: {error}"));
        }
    }
    Ok(Recorder::new())
}

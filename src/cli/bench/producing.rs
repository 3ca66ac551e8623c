//! The load of producers: registered first, then all let go at once, and watched.
//!
//! Owns how records are handed to the client, which is what a user's program would call: `push` and
//! `flush` for many at once, `send` for one after the other. Timing begins when every producer is
//! registered and ends with the last acknowledgement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use logdrive_client::{Acknowledgements, NewRecord, Producer, ProducerOptions};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::args::{Connections, Mode};
use super::course::{Course, SLICE};
use super::ground::Target;
use super::latencies::Latencies;
use super::payload::Payload;
use crate::cli::progress::Progress;

/// Time between the moments at which a limited rate hands over what is due.
const TICK: Duration = Duration::from_millis(1);

/// What is to be produced, and how.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) payload: Arc<Payload>,
    /// Records of all producers together.
    pub(crate) records: u64,
    /// Topics, which producers take in turn.
    pub(crate) topics: Vec<String>,
    pub(crate) producers: usize,
    pub(crate) connections: Connections,
    pub(crate) options: ProducerOptions,
    pub(crate) mode: Mode,
    /// Records per second of all together.
    pub(crate) rate: Option<u64>,
}

/// What was produced: acknowledged, all of it.
pub(crate) struct Produced {
    pub(crate) records: u64,
    /// Bytes of values.
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    /// Records acknowledged.
    pub(crate) course: Course,
    /// From handing over to acknowledgement, one by one only.
    pub(crate) latencies: Latencies,
}

/// A load whose producers are registered.
pub(crate) struct Ready {
    load: Load,
    producers: Vec<Producer>,
}

/// What one producer comes back with.
struct Share {
    bytes: u64,
    latencies: Latencies,
}

impl Load {
    /// One producer, one topic, as fast as it goes.
    pub(crate) fn plain(payload: Arc<Payload>, records: u64, topic: String) -> Self {
        Self {
            payload,
            records,
            topics: vec![topic],
            producers: 1,
            connections: Connections::Each,
            options: ProducerOptions::default(),
            mode: Mode::Pipelined,
            rate: None,
        }
    }

    /// Registers the producers.
    pub(crate) async fn ready(self, target: &Target) -> anyhow::Result<Ready> {
        let mut client = target.client().await?;
        let mut producers = Vec::with_capacity(self.producers);
        for index in 0..self.producers {
            if index > 0 && self.connections == Connections::Each {
                client = target.client().await?;
            }
            let topics: Vec<&str> = dealt(&self.topics, index, self.producers).collect();
            producers.push(client.producer(&topics, self.options.clone()).await?);
        }
        Ok(Ready {
            load: self,
            producers,
        })
    }

    /// Registers and produces.
    pub(crate) async fn run(
        self,
        target: &Target,
        progress: &Progress,
    ) -> anyhow::Result<Produced> {
        self.ready(target).await?.run(progress).await
    }
}

impl Ready {
    /// Lets all producers go and waits until everything is acknowledged.
    pub(crate) async fn run(self, progress: &Progress) -> anyhow::Result<Produced> {
        let Self { load, producers } = self;
        let count = producers.len() as u64;
        let acknowledged: Vec<_> = producers.iter().map(Producer::acknowledgements).collect();
        let mut tasks = JoinSet::new();
        let begun = Instant::now();
        for (index, producer) in producers.into_iter().enumerate() {
            let records = load.records / count + u64::from((index as u64) < load.records % count);
            let rate = load.rate.map(|rate| rate as f64 / count as f64);
            tasks.spawn(one(load.clone(), producer, index, records, rate));
        }
        let mut course = Course::default();
        let mut looks = interval(SLICE);
        let mut latencies = Latencies::new()?;
        let mut bytes = 0;
        loop {
            tokio::select! {
                done = tasks.join_next() => match done {
                    Some(share) => {
                        let share = share.context("a producer panicked")??;
                        bytes += share.bytes;
                        latencies.add(&share.latencies)?;
                    }
                    None => break,
                },
                _ = looks.tick() => {
                    let now = count_of(&acknowledged);
                    course.look(begun.elapsed(), now);
                    progress.set(now);
                }
            }
        }
        let took = begun.elapsed();
        course.look(took, count_of(&acknowledged));
        Ok(Produced {
            records: load.records,
            bytes,
            took,
            course,
            latencies,
        })
    }
}

/// The topics of one of so many: dealt out in turn, and with fewer topics several have the same one.
pub(crate) fn dealt(
    topics: &[String],
    one: usize,
    of: usize,
) -> impl Iterator<Item = &str> + Clone {
    let first = one % topics.len();
    topics.iter().skip(first).step_by(of).map(String::as_str)
}

fn count_of(acknowledged: &[Acknowledgements]) -> u64 {
    acknowledged.iter().map(Acknowledgements::count).sum()
}

/// One producer's part.
async fn one(
    load: Load,
    mut producer: Producer,
    index: usize,
    records: u64,
    rate: Option<f64>,
) -> anyhow::Result<Share> {
    let topics = dealt(&load.topics, index, load.producers).cycle();
    let mut share = Share {
        bytes: 0,
        latencies: Latencies::new()?,
    };
    let mut pace = rate.map(Pace::new);
    let count = usize::try_from(records).unwrap_or(usize::MAX);
    // Producers begin at values of their own.
    let values = load.payload.from(index * 4099).take(count);
    for ((sent, value), topic) in values.enumerate().zip(topics) {
        if let Some(pace) = &mut pace {
            pace.wait_for(sent as u64).await;
        }
        let record = NewRecord {
            value,
            ..NewRecord::default()
        };
        match load.mode {
            Mode::Pipelined => producer.push(topic, &record).await?,
            Mode::OneByOne => {
                let begun = Instant::now();
                producer.send_record(topic, &record).await?;
                share.latencies.record(begun.elapsed());
            }
        }
        share.bytes += value.len() as u64;
    }
    producer.flush().await?;
    Ok(share)
}

/// Holds back what is not due yet, sleeping from tick to tick.
struct Pace {
    ticks: tokio::time::Interval,
    begun: Instant,
    per_second: f64,
    due: u64,
}

impl Pace {
    fn new(per_second: f64) -> Self {
        let mut ticks = interval(TICK);
        // After a pause everything that came due meanwhile is sent at once.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self {
            ticks,
            begun: Instant::now(),
            per_second,
            due: 0,
        }
    }

    async fn wait_for(&mut self, record: u64) {
        while record >= self.due {
            self.ticks.tick().await;
            self.due = (self.begun.elapsed().as_secs_f64() * self.per_second) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_is_dealt_and_everybody_has_one() {
        let topics: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        let check = |of: usize, expected: &str| {
            let each = (0..of).map(|one| dealt(&topics, one, of).collect::<String>());
            assert_eq!(each.collect::<Vec<_>>().join(" "), expected);
        };
        check(1, "abc");
        check(2, "ac b");
        check(3, "a b c");
        check(5, "a b c a b");
    }
}

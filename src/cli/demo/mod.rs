//! `logdrive demo`: five producers and three consumers over real logs, and a broker that is killed.
//!
//! ```text
//!  start ─► create topics ─► produce and consume ────────────────► read, size ─► check ─► table
//!                             │ a third acknowledged: SIGKILL, start again
//!                             │ two thirds acknowledged: SIGKILL, start again
//! ```
//!
//! Owns the course of the trial; kills are decided by counts of acknowledged records, not by time.
//!
//! | module | owns |
//! |---|---|
//! | [`plan`] | who produces to and consumes from which topic |
//! | [`logs`] | the log lines |
//! | [`players`] | producers and consumers |
//! | [`verdict`] | what is printed |
//!
//! The child process is a [`Broker`]; what is right and wrong is decided by [`history`](crate::history), from the players' notes.

mod logs;
mod plan;
mod players;
mod verdict;

use std::io::{IsTerminal, stdout};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::history::{self, Recorder};

use super::args::Demo;
use super::broker::{Broker, Place};
use super::exit::{Exit, Fault};
use super::output::Format;
use super::progress::Progress;
use super::signals::Signals;
use logs::Logs;
use plan::{CONSUMERS, PRODUCERS, TOPICS};
use players::{ConsumerReady, Produced, ProducerReady};
use verdict::Verdict;

/// How often the broker is killed: at equal steps on the way to all records.
const KILLS: u64 = 2;

/// Runs the demo in a temporary directory; fails on any fault.
pub(crate) async fn run(output: Option<Format>, arguments: Demo) -> Result<Exit, Fault> {
    let mut signals = Signals::new()?;
    let directory = tempfile::Builder::new()
        .prefix("logdrive-demo-")
        .tempdir()
        .map_err(|error| Fault::new(Exit::Failed, format_args!("no directory: {error}")))?;
    let tried = tokio::select! {
        tried = trial(&arguments, directory.path()) => {
            tried.map_err(|error| Fault::new(Exit::of(&error), format_args!("demo: {error:#}")))
        }
        () = signals.wait() => Err(Fault::new(Exit::Interrupted, "demo: interrupted")),
    };
    if arguments.keep {
        eprintln!(
            "kept in {}: the broker's data and broker.log",
            directory.keep().display()
        );
    }
    let verdict = tried?;
    verdict
        .print(output.unwrap_or(Format::Table), &mut stdout().lock())
        .map_err(|error| Fault::stdout(&error))?;
    if verdict.faults().is_empty() {
        return Ok(Exit::Done);
    }
    let faults = verdict.faults().join(", ");
    Err(Fault::new(Exit::Failed, format_args!("demo: {faults}"))
        .hint("run it again with --keep to look at the broker's directory"))
}

/// The whole trial, from the first start to the check.
async fn trial(arguments: &Demo, directory: &Path) -> anyhow::Result<Verdict> {
    let logs = match &arguments.logs {
        Some(logs) => Logs::read(logs)?,
        None => Logs::shipped(),
    };
    for what in &logs.left_out {
        eprintln!("left out: {what}");
    }
    let lines: Vec<Vec<Bytes>> = (0..PRODUCERS.len())
        .map(|producer| logs.deal(producer, PRODUCERS.len(), arguments.records))
        .collect();
    let total = lines
        .iter()
        .zip(PRODUCERS)
        .map(|(lines, (_, topics))| lines.len() * topics.len());
    let total = total.sum::<usize>() as u64;
    if std::io::stderr().is_terminal() {
        eprintln!(
            "{} log files, {total} records: {} producers, {} consumers, {} topics, {KILLS} kills",
            logs.file_count(),
            PRODUCERS.len(),
            CONSUMERS.len(),
            TOPICS.len()
        );
    }
    let place = Place::new(directory, &[])?;
    let broker = place.start().await?;
    let client = players::connect(place.address, "C0").await?;
    for topic in TOPICS {
        client.create_topic(topic, &[], true).await?;
    }

    let course = Course::begin(place, lines).await?;
    let (broker, mut verdict, mut notes) = course.run(broker, total).await?;

    for topic in TOPICS {
        notes.push(players::read_all(&client, topic).await?);
    }
    let mut sizes = Recorder::new();
    for (name, topics) in CONSUMERS {
        for &topic in topics {
            sizes.sized(topic, name, client.size(topic, name).await?.records);
            verdict.sizes += 1;
        }
    }
    notes.push(sizes);
    client.close().await;
    broker.stop().await?;
    verdict.report = history::check(notes);
    Ok(verdict)
}

/// Producers and consumers under way.
struct Course {
    place: Place,
    producers: JoinSet<Produced>,
    consumers: JoinSet<anyhow::Result<Recorder>>,
    acknowledged: watch::Receiver<u64>,
    all_produced: watch::Sender<bool>,
}

impl Course {
    /// Registers all players, then lets them begin.
    async fn begin(place: Place, lines: Vec<Vec<Bytes>>) -> anyhow::Result<Self> {
        let address = place.address;
        let mut consumers_ready = Vec::new();
        for consumer in CONSUMERS {
            consumers_ready.push((consumer.0, ConsumerReady::open(address, consumer).await?));
        }
        let mut producers_ready = Vec::new();
        for producer in PRODUCERS {
            producers_ready.push(ProducerReady::open(address, producer).await?);
        }

        let (count, acknowledged) = watch::channel(0);
        let (all_produced, until) = watch::channel(false);
        let mut consumers = JoinSet::new();
        for (name, ready) in consumers_ready {
            let until = until.clone();
            consumers.spawn(async move {
                let noted = ready.run(until).await;
                noted.with_context(|| format!("consumer {name}"))
            });
        }
        let mut producers = JoinSet::new();
        for (ready, lines) in producers_ready.into_iter().zip(lines) {
            producers.spawn(ready.run(lines, count.clone()));
        }
        Ok(Self {
            place,
            producers,
            consumers,
            acknowledged,
            all_produced,
        })
    }

    /// Kills and restarts at each step, then waits for all players; gives what they noted.
    async fn run(
        mut self,
        mut broker: Broker,
        total: u64,
    ) -> anyhow::Result<(Broker, Verdict, Vec<Recorder>)> {
        let progress = Progress::new(Some(total), "acknowledged");
        let mut verdict = Verdict {
            kills: usize::try_from(KILLS)?,
            ..Verdict::default()
        };
        for kill in 1..=KILLS {
            if !self.reach(total * kill / (KILLS + 1), &progress).await {
                break;
            }
            progress.name(&format!("acknowledged, SIGKILL {kill} of {KILLS}"));
            broker.kill().await?;
            let (started, recovery) = self.restart().await?;
            broker = started;
            verdict.recoveries.push(recovery);
            progress.name("acknowledged");
        }
        self.reach(total, &progress).await;
        progress.name("acknowledged, waiting for consumers");
        let mut notes = Vec::new();
        while let Some(produced) = self.producers.join_next().await {
            let produced = produced.context("a producer panicked")?;
            verdict.latencies.extend(produced.latencies);
            verdict.errors.extend(produced.error);
            notes.push(produced.notes);
        }
        self.all_produced.send_replace(true);
        while let Some(noted) = self.consumers.join_next().await {
            notes.push(noted.context("a consumer panicked")??);
        }
        Ok((broker, verdict, notes))
    }

    /// Waits until so many records are acknowledged; false if the producers ended before.
    async fn reach(&mut self, count: u64, progress: &Progress) -> bool {
        loop {
            let now = *self.acknowledged.borrow_and_update();
            progress.set(now);
            if now >= count {
                return true;
            }
            // The last producer drops the last sender.
            if self.acknowledged.changed().await.is_err() {
                return *self.acknowledged.borrow() >= count;
            }
        }
    }

    /// Starts the broker again, and says how long it took until it answered.
    async fn restart(&self) -> anyhow::Result<(Broker, Duration)> {
        let at = Instant::now();
        let broker = self.place.start().await?;
        let client = players::connect(self.place.address, "C0").await?;
        client.ping().await?;
        Ok((broker, at.elapsed()))
    }
}

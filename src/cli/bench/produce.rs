//! `bench produce`: records per second into the broker, beside what the disk does with as many
//! bytes directly before and after.
//!
//! Owns the figures; the load is [`producing`](super::producing)'s.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use logdrive_client::{Client, ProducerOptions};
use tokio::time::{sleep, timeout};

use super::args::{Connections, Mode, ProduceArgs};
use super::course::per_second;
use super::disk::{self, Appends};
use super::figure::{Figure, Limit, Unit};
use super::ground::{Ground, Target};
use super::machine::{Costs, Meter};
use super::payload::Payload;
use super::producing::{Load, Produced};
use super::volume::Volume;
use crate::cli::args::Ack;
use crate::cli::progress::Progress;

/// What a disk takes in a burst: over it, the rest is told apart.
const BURST: u64 = 2_000_000_000;
/// What makes a broker begin to write files ahead.
const STORED_FIRST: u64 = 160_000_000;
/// Different ones among its records.
const FIRST_RECORDS: u64 = 1000;
/// Bytes of a file that is written ahead, at least.
const AHEAD_FILE: u64 = 256 << 20;
/// The broker's counter of them.
const AHEAD_COUNTER: &str = "written_ahead_bytes";
/// How long that may take, and how often is looked.
const AHEAD_LIMIT: Duration = Duration::from_mins(2);
const AHEAD_LOOK: Duration = Duration::from_millis(50);
/// The broker's counter of what clients have sent.
const RECEIVED_COUNTER: &str = "received_bytes";
/// Small appends before and after a measurement of single records.
const SMALL_APPENDS: u32 = 1000;

impl ProduceArgs {
    /// Bytes of records in all.
    fn volume(&self) -> Volume {
        match self.records {
            Some(records) => Volume(records.saturating_mul(self.source.size.0)),
            None => self.bytes,
        }
    }

    /// What to produce, and a name for it.
    fn load(&self, topic: impl Fn(u32) -> String) -> anyhow::Result<(Load, String)> {
        let payload = Arc::new(Payload::new(&self.source, self.volume())?);
        let mut name = format!("produce {}", payload.name());
        let mut say = |what: String| name.extend([", ", &what]);
        let mut options = ProducerOptions {
            ack: self.ack.into(),
            ..ProducerOptions::default()
        };
        if let Some(batch) = self.batch {
            options.batch_bytes = batch.length();
            say(format!("batches of {batch}"));
        }
        if let Some(compression) = self.compression {
            options.compression = compression.into();
            say(format!("compression {}", compression.name()));
        }
        if self.producers > 1 {
            say(format!("{} producers", self.producers));
        }
        if self.topics > 1 {
            say(format!("{} topics", self.topics));
        }
        if self.connections == Connections::Shared {
            say("one connection".to_owned());
        }
        if self.mode == Mode::OneByOne {
            say("one by one".to_owned());
        }
        if self.ahead.is_some() {
            say("files written ahead".to_owned());
        }
        if let Some(rate) = self.rate {
            say(format!("{rate}/s"));
        }
        if self.ack == Ack::Accepted {
            say("accepted".to_owned());
        }
        let records = self.records;
        let load = Load {
            records: records.unwrap_or_else(|| payload.records_in(self.bytes.0)),
            payload,
            topics: (0..self.topics).map(topic).collect(),
            producers: self.producers as usize,
            connections: self.connections,
            options,
            mode: self.mode,
            rate: self.rate,
        };
        Ok((load, name))
    }
}

impl From<Ack> for logdrive_client::Ack {
    fn from(ack: Ack) -> Self {
        match ack {
            Ack::Synced => Self::Synced,
            Ack::Accepted => Self::Accepted,
        }
    }
}

/// Measures producing.
pub(super) async fn run(ground: &Ground, arguments: &ProduceArgs) -> anyhow::Result<Vec<Figure>> {
    let target = match arguments.ahead {
        None => ground.broker().await?,
        Some(files) => written_ahead(ground, files).await?,
    };
    let (load, name) = arguments.load(|index| target.topic(&index.to_string()))?;
    let (records, mean) = (load.records, load.payload.mean());
    let client = target.client().await?;
    let before = counted(&client, RECEIVED_COUNTER).await?;
    let mut figures = match arguments.mode {
        Mode::Pipelined => pipelined(ground, &target, load, &name).await?,
        Mode::OneByOne => one_by_one(ground, &target, load, &name).await?,
    };
    if arguments.compression.is_some() {
        let name = format!("{name}, bytes sent for each byte");
        let bytes = counted(&client, RECEIVED_COUNTER).await? - before;
        let times = bytes as f64 / (records as f64 * mean).max(1.0);
        figures.push(Figure::new(name, times, Unit::Times));
    }
    client.close().await;
    target.end().await?;
    for figure in &mut figures {
        figure.parameters.insert("records", records.to_string());
    }
    Ok(figures)
}

async fn pipelined(
    ground: &Ground,
    target: &Target,
    load: Load,
    name: &str,
) -> anyhow::Result<Vec<Figure>> {
    let bytes = (load.records as f64 * load.payload.mean()) as u64;
    let before = Appends::measure(ground, bytes).await?;
    let (produced, costs) = measured(target, load, name).await?;
    let after = Appends::measure(ground, bytes).await?;
    let mut figures = rates(name, &produced, &before, &after);
    if let Some(first) = figures.first_mut() {
        first.costs = Some(costs);
    }
    Ok(figures)
}

async fn one_by_one(
    ground: &Ground,
    target: &Target,
    load: Load,
    name: &str,
) -> anyhow::Result<Vec<Figure>> {
    let before = disk::small_appends(ground, SMALL_APPENDS).await?;
    let (produced, costs) = measured(target, load, name).await?;
    let after = disk::small_appends(ground, SMALL_APPENDS).await?;
    let rate = per_second(produced.records, produced.took);
    let rate = Figure::new(name, rate, Unit::RecordsPerSecond).costing(costs);
    let mut figures = vec![rate.with_series(produced.course.series(name, 1.0, "records/s"))];
    for (percent, percentile) in [(50.0, "p50"), (99.0, "p99")] {
        let latency = produced.latencies.percentile(percent);
        let figure = Figure::seconds(format!("{name}, {percentile}"), latency);
        figures.push(figure.beside(disk::small_limit(&before, &after)));
    }
    Ok(figures)
}

/// Runs a load whose producers are registered before the meter begins.
pub(super) async fn measured(
    target: &Target,
    load: Load,
    name: &str,
) -> anyhow::Result<(Produced, Costs)> {
    let records = load.records;
    let ready = load.ready(target).await?;
    let progress = Progress::new(Some(records), name);
    let meter = Meter::begin(target.pid());
    let produced = ready.run(&progress).await?;
    Ok((produced, meter.costs(records)))
}

/// A broker that has written so many files ahead: it begins when something is stored, and goes on
/// while there is little else to write.
async fn written_ahead(ground: &Ground, files: u32) -> anyhow::Result<Target> {
    let target = ground
        .broker_with(&["--write-ahead", &files.to_string()])
        .await?;
    let payload = Arc::new(Payload::generated(Volume(1 << 10), FIRST_RECORDS)?);
    let records = payload.records_in(STORED_FIRST);
    let progress = Progress::new(None, "stored first");
    let load = Load::plain(payload, records, target.topic("first"));
    load.run(&target, &progress).await?;
    progress.name("files are written ahead");
    let client = target.client().await?;
    let all = timeout(AHEAD_LIMIT, async {
        let wanted = u64::from(files) * AHEAD_FILE;
        loop {
            if counted(&client, AHEAD_COUNTER).await? >= wanted {
                return anyhow::Ok(());
            }
            sleep(AHEAD_LOOK).await;
        }
    });
    all.await
        .with_context(|| format!("{files} files were not written ahead in {AHEAD_LIMIT:?}"))??;
    client.close().await;
    Ok(target)
}

/// What one of the broker's counters says.
async fn counted(client: &Client, name: &str) -> anyhow::Result<u64> {
    let counters = client.stats(None).await?;
    let found = counters.iter().find(|it| it.name == name);
    Ok(found.map_or(0, |it| it.value))
}

/// Records per second, and bytes per second beside the disk: as a whole, and in parts if it is long.
fn rates(name: &str, produced: &Produced, before: &Appends, after: &Appends) -> Vec<Figure> {
    let size = produced.bytes as f64 / produced.records.max(1) as f64;
    let rate = per_second(produced.records, produced.took);
    let records_limit = |limit: Limit| Limit {
        value: limit.value / size,
        around: limit
            .around
            .map(|(before, after)| (before / size, after / size)),
        ..limit
    };
    let limit = disk::limit(before.rate(), after.rate());
    let series = produced.course.series(name, size, "bytes/s");
    let mut figures = vec![
        Figure::new(name, rate, Unit::RecordsPerSecond).beside(records_limit(limit.clone())),
        Figure::new(format!("{name}, bytes"), rate * size, Unit::BytesPerSecond)
            .beside(limit)
            .with_series(series),
    ];
    let burst = (BURST as f64 / size) as u64;
    if let Some((first, rest)) = produced.course.rates_apart(burst) {
        let (before, after) = (before.rates_apart(BURST), after.rates_apart(BURST));
        let parts = [
            ("first 2 GB", first, before.0, after.0),
            ("after 2 GB", rest, before.1, after.1),
        ];
        for (part, rate, before, after) in parts {
            let figure = Figure::new(format!("{name}, {part}"), rate * size, Unit::BytesPerSecond);
            figures.push(figure.beside(disk::limit(before, after)));
        }
    }
    figures
}

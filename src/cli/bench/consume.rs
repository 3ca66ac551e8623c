//! `bench consume`: records per second out of the broker, warm and cold.
//!
//! Owns the figures. Warm is after producing, once the broker has nothing left to do; cold is a
//! broker that was started anew, its files dropped from the page cache. Warm stands beside a TCP
//! copy, cold beside a cold read of the disk, each before and after.

use std::sync::Arc;

use super::args::ConsumeArgs;
use super::disk;
use super::figure::{Figure, Limit, Unit};
use super::ground::{Ground, Target};
use super::loopback;
use super::machine::Meter;
use super::payload::Payload;
use super::producing::Load;
use super::reading::{Way, read_all};
use crate::cli::progress::Progress;

const WAYS: [(Way, &str, &str); 3] = [
    (Way::FetchBatches, "fetch", "batches"),
    (Way::FetchRecords, "fetch", "records"),
    (Way::Consume, "consume", "records"),
];

/// What was produced to be read.
struct Stored {
    topic: String,
    records: u64,
    /// Bytes of values.
    bytes: u64,
    /// What the records are.
    name: String,
}

/// Measures reading.
pub(super) async fn run(ground: &Ground, arguments: &ConsumeArgs) -> anyhow::Result<Vec<Figure>> {
    let mut target = ground.broker().await?;
    let payload = Arc::new(Payload::new(&arguments.source, arguments.bytes)?);
    let records = payload.records_in(arguments.bytes.0);
    let mut name = payload.name().to_owned();
    let topic = target.topic("read");
    let progress = Progress::new(Some(records), "produced, to be read");
    let mut load = Load::plain(payload, records, topic.clone());
    if let Some(compression) = arguments.compression {
        load.options.compression = compression.into();
        name.extend([", compression ", compression.name()]);
    }
    let produced = load.run(&target, &progress).await?;
    drop(progress);
    target.settle().await;
    let stored = Stored {
        topic,
        records,
        bytes: produced.bytes,
        name,
    };
    let mut figures = warm(&target, &stored).await?;
    if ground.is_own() && !arguments.warm {
        figures.extend(cold(ground, &mut target, &stored).await?);
    }
    target.end().await?;
    for figure in &mut figures {
        figure.parameters.insert("records", records.to_string());
    }
    Ok(figures)
}

async fn warm(target: &Target, stored: &Stored) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut before = loopback::copy(stored.bytes).await?;
    for way in WAYS {
        let figure = measured(target, stored, way, "warm").await?;
        let after = loopback::copy(stored.bytes).await?;
        figures.push(figure.beside(stored.limit(loopback::COPY, before, after)));
        before = after;
    }
    Ok(figures)
}

async fn cold(
    ground: &Ground,
    target: &mut Target,
    stored: &Stored,
) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut before = disk::cold_read(ground, stored.bytes).await?;
    for way in WAYS {
        target.stop().await?;
        target.forget_pages().await?;
        target.start().await?;
        let figure = measured(target, stored, way, "cold").await?;
        let after = disk::cold_read(ground, stored.bytes).await?;
        figures.push(figure.beside(stored.limit("cold read of a file", before, after)));
        before = after;
    }
    Ok(figures)
}

async fn measured(
    target: &Target,
    stored: &Stored,
    (way, verb, what): (Way, &str, &str),
    state: &str,
) -> anyhow::Result<Figure> {
    let name = format!("{verb} {}, {state}, {what}", stored.name);
    let client = target.client().await?;
    let progress = Progress::new(None, &name);
    let meter = Meter::begin(target.pid());
    let course = read_all(&client, &stored.topic, way, stored.records).await?;
    let costs = meter.costs(stored.records);
    drop(progress);
    client.close().await;
    let series = course.series(&name, stored.size(), "bytes/s");
    Ok(Figure::new(name, course.rate(), Unit::RecordsPerSecond)
        .costing(costs)
        .with_series(series))
}

impl Stored {
    /// Bytes of a record on average.
    fn size(&self) -> f64 {
        self.bytes as f64 / self.records as f64
    }

    /// A limit in bytes per second, as records of this size.
    fn limit(&self, what: &str, before: f64, after: f64) -> Limit {
        Limit::around(what, before / self.size(), after / self.size())
    }
}

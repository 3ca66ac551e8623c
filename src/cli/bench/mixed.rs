//! `bench mixed`: producers, topics and consumers at once, beside the same work on one topic.
//!
//! Owns the figures. The consumers of a topic are workers of one consumer, so that every record is
//! taken once, on one topic as on many. The work on one topic is done before and after.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use logdrive_client::{Consumer, ConsumerOptions, ProducerOptions};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::args::MixedArgs;
use super::course::per_second;
use super::figure::{Figure, Limit, Series, Unit};
use super::ground::{Ground, Target};
use super::machine::{Costs, Meter};
use super::payload::Payload;
use super::producing::{Load, dealt};
use crate::cli::progress::Progress;

/// What all workers of a topic are.
const CONSUMER: &str = "mixed";
/// How long a worker waits for records before it looks whether all were taken by others.
const WAIT: Duration = Duration::from_millis(50);

/// One shape's result.
struct Ran {
    /// Bytes of values per second, until the last was acknowledged.
    produced: f64,
    /// Likewise until the last was taken; none without consumers.
    consumed: Option<f64>,
    costs: Costs,
    series: Series,
}

/// Measures both shapes.
pub(super) async fn run(ground: &Ground, arguments: &MixedArgs) -> anyhow::Result<Vec<Figure>> {
    let payload = Arc::new(Payload::new(&arguments.source, arguments.bytes)?);
    let before = shape(ground, arguments, &payload, 1).await?;
    let many = shape(ground, arguments, &payload, arguments.topics).await?;
    let after = shape(ground, arguments, &payload, 1).await?;
    let name = arguments.name(&payload, arguments.topics);
    let one = arguments.name(&payload, 1);
    let records = payload.records_in(arguments.bytes.0);
    let beside = |which: &str, value, before, after| {
        let limit = Limit::around("the same on one topic", before, after);
        let figure = Figure::new(format!("{name}: {which}"), value, Unit::BytesPerSecond);
        figure.beside(limit).parameter("records", records)
    };
    let produced = beside("in", many.produced, before.produced, after.produced);
    let mut figures = vec![produced.costing(many.costs).with_series(many.series)];
    if let (Some(before), Some(many), Some(after)) =
        (before.consumed, many.consumed, after.consumed)
    {
        figures.push(beside("out", many, before, after));
    }
    let value = f64::midpoint(before.produced, after.produced);
    figures.push(Figure::new(
        format!("{one}: in"),
        value,
        Unit::BytesPerSecond,
    ));
    Ok(figures)
}

impl MixedArgs {
    fn name(&self, payload: &Payload, topics: u32) -> String {
        let batch = self.batch;
        let topics = match topics {
            1 => "one topic".to_owned(),
            topics => format!("{topics} topics"),
        };
        let mut name = format!("{} producers, {topics}", self.producers);
        if self.consumers > 0 {
            name.extend([", ", &self.consumers.to_string(), " consumers"]);
        }
        format!("{name}, {}, {batch} batches", payload.name())
    }
}

/// Runs everything at once on so many topics of a new broker.
async fn shape(
    ground: &Ground,
    arguments: &MixedArgs,
    payload: &Arc<Payload>,
    topics: u32,
) -> anyhow::Result<Ran> {
    let target = ground.broker().await?;
    let name = arguments.name(payload, topics);
    let records = payload.records_in(arguments.bytes.0);
    let topics: Vec<String> = (0..topics)
        .map(|index| target.topic(&format!("{topics}-{index}")))
        .collect();
    let load = Load {
        topics: topics.clone(),
        producers: arguments.producers as usize,
        options: ProducerOptions {
            batch_bytes: arguments.batch.length(),
            ..ProducerOptions::default()
        },
        ..Load::plain(payload.clone(), records, String::new())
    };
    let load = load.ready(&target).await?;
    let consumers = consumers(&target, &topics, arguments.consumers).await?;
    let meter = Meter::begin(target.pid());
    let progress = Progress::new(Some(records), &name);
    let begun = Instant::now();
    let (taken, mut all_taken) = watch::channel(0);
    let mut tasks = JoinSet::new();
    let consuming = !consumers.is_empty();
    for consumer in consumers {
        tasks.spawn(take(consumer, taken.clone(), records));
    }
    let consumed = AbortOnDropHandle::new(tokio::spawn(async move {
        // A worker that ends before its time is told of below.
        let _ = all_taken.wait_for(|taken| *taken >= records).await;
        begun.elapsed()
    }));
    let produced = load.run(&progress).await?;
    progress.name("acknowledged, waiting for consumers");
    while let Some(ended) = tasks.join_next().await {
        ended.context("a consumer panicked")??;
    }
    let all = *taken.borrow();
    anyhow::ensure!(
        !consuming || all == records,
        "{all} of {records} records were taken"
    );
    drop(taken);
    let consumed = consumed.await.context("the count panicked")?;
    let costs = meter.costs(records);
    drop(progress);
    target.end().await?;
    Ok(Ran {
        produced: per_second(produced.bytes, produced.took),
        consumed: consuming.then(|| per_second(produced.bytes, consumed)),
        costs,
        series: produced.course.series(name, payload.mean(), "bytes/s"),
    })
}

/// Workers with connections of their own, on the topics in turn.
async fn consumers(
    target: &Target,
    topics: &[String],
    count: u32,
) -> anyhow::Result<Vec<Consumer>> {
    let mut consumers = Vec::new();
    for index in 0..count as usize {
        let client = target.client().await?;
        let options = ConsumerOptions::default();
        let topics: Vec<&str> = dealt(topics, index, count as usize).collect();
        consumers.push(client.consumer(CONSUMER, &topics, options).await?);
    }
    Ok(consumers)
}

/// Takes records until all together have taken all.
async fn take(
    mut consumer: Consumer,
    taken: watch::Sender<u64>,
    records: u64,
) -> anyhow::Result<()> {
    while *taken.borrow() < records {
        if let Some(portion) = consumer.get_batch(Some(WAIT)).await? {
            let count = portion.records().count() as u64;
            taken.send_modify(|taken| *taken += count);
        }
    }
    Ok(())
}

//! `bench retention`: what producers notice when retention removes gigabytes at once.
//!
//! Owns the windows: as many seconds before, from the change of the setting on that makes all that
//! was stored superfluous, and after it. It says how long after the change the records were gone,
//! and their files, and fails if they stay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use logdrive_client::{ProducerOptions, Setting};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::args::RetentionArgs;
use super::figure::{Figure, Limit};
use super::footprint::on_disk;
use super::ground::{Ground, Target};
use super::latencies::Latencies;
use super::payload::Payload;
use super::producing::Load;
use crate::cli::progress::Progress;

/// How often the topic is asked whether its records are gone.
const LOOK: Duration = Duration::from_millis(20);
/// How long it may keep them.
const PATIENCE: Duration = Duration::from_mins(1);
/// Bytes of files of which retention must free the half: four segments.
const MANY_SEGMENTS: u64 = 1 << 30;

/// Measures the three windows.
pub(super) async fn run(ground: &Ground, arguments: &RetentionArgs) -> anyhow::Result<Vec<Figure>> {
    let target = ground.broker().await?;
    let old = target.topic("old");
    let payload = Arc::new(Payload::new(&arguments.source, arguments.bytes)?);
    let records = payload.records_in(arguments.bytes.0);
    let progress = Progress::new(Some(records), "stored, to be removed");
    let load = Load::plain(payload.clone(), records, old.clone());
    load.run(&target, &progress).await?;
    drop(progress);
    target.settle().await;
    let before = window(&target, arguments).await?;
    let removal = removal(&target, &old, records);
    let (during, (removed, freed)) = tokio::try_join!(window(&target, arguments), removal)?;
    let after = window(&target, arguments).await?;
    target.end().await?;
    let what = "one durable record at a time, p99";
    let p99 = |window: &Latencies| window.percentile(99.0);
    let quiet = [&before, &after].map(|it| p99(it).as_secs_f64());
    let limit = Limit::around("the same without retention", quiet[0], quiet[1]);
    let figures = [
        Figure::seconds(format!("{what}, before retention"), p99(&before)),
        Figure::seconds(format!("{what}, while retention removes"), p99(&during)).beside(limit),
        Figure::seconds("retention set to removed", removed),
        Figure::seconds("retention set to space free", freed),
    ];
    let told = |figure: Figure| {
        let figure = figure.parameter("bytes removed", arguments.bytes.0);
        let figure = figure.parameter("producers", arguments.producers);
        figure.parameter("seconds", arguments.seconds)
    };
    Ok(figures.map(told).into())
}

/// Makes all records superfluous; how long it took until they were gone, and their files.
async fn removal(
    target: &Target,
    topic: &str,
    records: u64,
) -> anyhow::Result<(Duration, Duration)> {
    let client = target.client().await?;
    let data = target.data()?;
    let full = on_disk(&data)?;
    let at_once = Setting {
        key: "retention_age".to_owned(),
        value: "1ms".to_owned(),
    };
    let begun = Instant::now();
    client.alter_topic(topic, &[at_once], &[]).await?;
    while client.describe_topic(topic).await?.records > records / 2 {
        ensure!(begun.elapsed() < PATIENCE, "retention removes nothing");
        sleep(LOOK).await;
    }
    let removed = begun.elapsed();
    // What is less than a segment stays in the one that is written.
    while full > MANY_SEGMENTS && on_disk(&data)? > full / 2 {
        ensure!(begun.elapsed() < PATIENCE, "retention frees no space");
        sleep(LOOK).await;
    }
    Ok((removed, begun.elapsed()))
}

/// What producers with one record in flight see for some seconds.
async fn window(target: &Target, arguments: &RetentionArgs) -> anyhow::Result<Latencies> {
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let mut producing = JoinSet::new();
    for index in 0..arguments.producers {
        let client = target.client().await?;
        let topic = target.topic(&format!("live-{index}"));
        let options = ProducerOptions::default();
        let mut producer = client.producer(&[&topic], options).await?;
        producing.spawn(async move {
            let mut latencies = Latencies::new()?;
            while Instant::now() < end {
                let begun = Instant::now();
                producer.send(&topic, &[b'x'; 1024][..]).await?;
                latencies.record(begun.elapsed());
            }
            producer.close().await?;
            anyhow::Ok(latencies)
        });
    }
    let mut all = Latencies::new()?;
    while let Some(one) = producing.join_next().await {
        all.add(&one??)?;
    }
    Ok(all)
}

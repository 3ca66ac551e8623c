//! `bench retention`: what producers notice when retention removes gigabytes at once.
//!
//! Owns both windows: as many seconds before, and from the change of the setting on that makes all
//! that was stored superfluous. It says how long after that the files were gone, and fails if they
//! stay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use logdrive_client::{ProducerOptions, Setting};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::args::RetentionArgs;
use super::figure::{Figure, Limit};
use super::ground::{Ground, Target};
use super::latencies::Latencies;
use super::payload::Payload;
use super::producing::Load;
use crate::cli::progress::Progress;

/// How often the topic is asked whether its records are gone.
const LOOK: Duration = Duration::from_millis(20);
/// How long it may keep them.
const PATIENCE: Duration = Duration::from_mins(1);

/// Measures both windows.
pub(super) async fn run(ground: &Ground, arguments: &RetentionArgs) -> anyhow::Result<Vec<Figure>> {
    let target = ground.broker().await?;
    let old = target.topic("old");
    let payload = Arc::new(Payload::new(&arguments.source, arguments.bytes)?);
    let records = payload.records_in(arguments.bytes.0);
    let progress = Progress::new(Some(records), "stored, to be removed");
    let load = Load::plain(payload.clone(), records, old.clone());
    load.run(&target, &progress).await?;
    drop(progress);
    let before = window(&target, arguments).await?;
    let client = target.client().await?;
    let at_once = Setting {
        key: "retention_age".to_owned(),
        value: "1ms".to_owned(),
    };
    let begun = Instant::now();
    let removed = async {
        client.alter_topic(&old, &[at_once], &[]).await?;
        while client.describe_topic(&old).await?.records > 0 {
            ensure!(begun.elapsed() < PATIENCE, "retention removes nothing");
            sleep(LOOK).await;
        }
        Ok(begun.elapsed())
    };
    let (during, removed) = tokio::try_join!(window(&target, arguments), removed)?;
    target.end().await?;
    let what = "one durable record at a time, p99";
    let (quiet, busy) = (before.percentile(99.0), during.percentile(99.0));
    let figures = [
        Figure::seconds(format!("{what}, before retention"), quiet),
        Figure::seconds(format!("{what}, while retention removes"), busy)
            .beside(Limit::new("the same before retention", quiet.as_secs_f64())),
        Figure::seconds("retention set to removed", removed),
    ];
    let told = |figure: Figure| {
        let figure = figure.parameter("bytes removed", arguments.bytes.0);
        let figure = figure.parameter("producers", arguments.producers);
        figure.parameter("seconds", arguments.seconds)
    };
    Ok(figures.map(told).into())
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

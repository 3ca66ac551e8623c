//! `bench restart`: how long after a SIGKILL the first record is read again, and memory then.
//!
//! Owns the course: fill, kill, start, read, with the files in the page cache and without. Before the
//! second kill more is produced, so that both starts find a segment that was left open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use logdrive_client::{FetchOptions, Position};

use super::args::RestartArgs;
use super::figure::{Figure, Unit};
use super::ground::{Ground, Target};
use super::machine;
use super::payload::Payload;
use super::producing::Load;
use crate::cli::progress::Progress;

/// What is produced before the second kill.
const MORE_BYTES: u64 = 100_000_000;

/// Measures both starts.
pub(super) async fn run(ground: &Ground, arguments: &RestartArgs) -> anyhow::Result<Vec<Figure>> {
    let mut target = ground.broker().await?;
    let payload = Arc::new(Payload::new(&arguments.source, arguments.bytes)?);
    let topic = target.topic("restart");
    let mut stored = 0;
    let mut figures = Vec::new();
    let more = MORE_BYTES.min(arguments.bytes.0);
    for (bytes, state) in [(arguments.bytes.0, "warm"), (more, "cold page cache")] {
        let records = payload.records_in(bytes);
        let progress = Progress::new(Some(records), "stored, then killed");
        let load = Load::plain(payload.clone(), records, topic.clone());
        load.run(&target, &progress).await?;
        drop(progress);
        stored += records;
        target.kill().await?;
        if state != "warm" {
            target.forget_pages().await?;
        }
        let (took, resident) = first_record(&mut target, &topic, stored).await?;
        let name = format!("SIGKILL to the first record, {state}");
        figures.push(Figure::seconds(name, took));
        let name = format!("memory after the first record, {state}");
        figures.push(Figure::new(name, resident as f64, Unit::Bytes));
    }
    target.end().await?;
    for figure in &mut figures {
        figure
            .parameters
            .insert("bytes", arguments.bytes.to_string());
        figure
            .parameters
            .insert("records", payload.name().to_owned());
    }
    Ok(figures)
}

/// Starts the broker and reads the first record; what was acknowledged must all be there.
async fn first_record(
    target: &mut Target,
    topic: &str,
    stored: u64,
) -> anyhow::Result<(Duration, u64)> {
    let begun = Instant::now();
    target.start().await?;
    let client = target.client().await?;
    let options = FetchOptions {
        max_records: 1,
        ..FetchOptions::default()
    };
    let mut fetcher = client.fetch(topic, Position::Earliest, options).await?;
    let first = fetcher.next().await?.context("no record is there")?;
    let took = begun.elapsed();
    let resident = target.pid().and_then(machine::resident);
    ensure!(first.record_count() == 1, "the first record is missing");
    let end = first.high_watermark();
    ensure!(
        end == stored,
        "{stored} records were acknowledged and {end} are there"
    );
    client.close().await;
    let resident = resident.context("the system does not tell what memory the broker has")?;
    Ok((took, resident))
}

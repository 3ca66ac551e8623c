//! `bench latency`: how long a record takes, to its acknowledgement and to those who read it.
//!
//! Owns both loops. The closed one sends a record when the one before is acknowledged, in turns with
//! the disk. The open one sends on a schedule that no stall of the broker slows down, from a thread
//! that sleeps from tick to tick and never spins:
//!
//! ```text
//!  schedule    tick 0     tick 1     tick 2     tick 3
//!                |          |          |          |
//!  sent          ooo        ooo             ooo   ooo      (the sender woke late)
//!  read             x          x                   x  x
//!                '--'                  '-----------'
//!               latency                 latency: from the tick that the schedule names
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use logdrive_client::{
    Consumer, ConsumerOptions, End, FetchOptions, Fetcher, NewRecord, Portion, Position, Producer,
    ProducerOptions,
};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::args::LatencyArgs;
use super::disk;
use super::figure::{Figure, Limit};
use super::ground::{Ground, Target, blocking, go_on};
use super::latencies::Latencies;
use super::machine::Meter;
use super::payload::Payload;
use super::volume::Volume;
use crate::cli::progress::Progress;

/// Turns that the disk and the broker take in the closed loop, so that both meet the same neighbours.
const ROUNDS: u32 = 10;
/// Small appends before and after an open loop.
const SMALL_APPENDS: u32 = 1000;
/// Between the making of the schedule and its first tick.
const HEAD_START: Duration = Duration::from_millis(100);
/// What is told of latencies.
const PERCENTILES: [(f64, &str); 4] =
    [(50.0, "p50"), (90.0, "p90"), (99.0, "p99"), (99.9, "p99.9")];
/// A record begins with its number in so many bytes.
const NUMBER_BYTES: usize = 8;

/// When which record is due.
#[derive(Clone, Copy)]
struct Schedule {
    begin: Instant,
    tick: Duration,
    /// Records per second.
    rate: u64,
    records: u64,
}

impl Schedule {
    /// The tick of a record, counted from 0.
    fn tick_of(&self, record: u64) -> u32 {
        let ticks = u128::from(record) * Duration::from_secs(1).as_nanos()
            / (u128::from(self.rate) * self.tick.as_nanos());
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    fn due(&self, record: u64) -> Instant {
        self.begin + self.tick * self.tick_of(record)
    }
}

/// Who reads.
enum Reader {
    Fetch(Fetcher),
    Consume(Consumer),
}

impl Reader {
    async fn next(&mut self) -> anyhow::Result<Portion> {
        let portion = match self {
            Self::Fetch(fetcher) => fetcher.next().await?,
            Self::Consume(consumer) => consumer.get_batch(None).await?,
        };
        portion.context("the topic came to an end")
    }
}

/// Measures latencies.
pub(super) async fn run(ground: &Ground, arguments: &LatencyArgs) -> anyhow::Result<Vec<Figure>> {
    let target = ground.broker().await?;
    let mut figures = closed_loop(ground, &target, arguments).await?;
    for way in ["fetch", "consume"] {
        figures.extend(open_loop(ground, &target, arguments, way).await?);
    }
    target.end().await?;
    Ok(figures)
}

async fn closed_loop(
    ground: &Ground,
    target: &Target,
    arguments: &LatencyArgs,
) -> anyhow::Result<Vec<Figure>> {
    let size = Volume(arguments.size.into());
    let topic = target.topic("closed");
    let options = ProducerOptions::default();
    let mut producer = target.client().await?.producer(&[&topic], options).await?;
    let payload = Payload::generated(size, arguments.sends.into())?;
    let mut values = payload.from(0);
    let (mut sends, mut appends) = (Latencies::new()?, Latencies::new()?);
    let progress = Progress::new(Some(arguments.sends.into()), "one record at a time");
    let meter = Meter::begin(target.pid());
    let in_round = arguments.sends.div_ceil(ROUNDS);
    while sends.len() < arguments.sends.into() {
        appends.add(&disk::small_appends(ground, in_round).await?)?;
        for value in values.by_ref().take(in_round as usize) {
            let begun = Instant::now();
            producer.send(&topic, value).await?;
            sends.record(begun.elapsed());
        }
        progress.set(sends.len());
    }
    let costs = meter.costs(sends.len());
    drop(progress);
    producer.close().await?;
    let name = format!("one durable record of {size} at a time");
    let limit = appends.percentile(50.0).as_secs_f64();
    let limit = Limit::new("4 KiB append + fdatasync, p50, in turns", limit);
    let figure = |(percent, percentile)| {
        let value = sends.percentile(percent);
        let figure = Figure::seconds(format!("{name}, {percentile}"), value);
        figure
            .beside(limit.clone())
            .parameter("records", sends.len())
    };
    let mut figures: Vec<Figure> = [PERCENTILES[0], PERCENTILES[2]].map(figure).into();
    if let Some(first) = figures.first_mut() {
        first.costs = Some(costs);
        first.series.push(sends.series(name));
        first
            .series
            .push(appends.series("4 KiB append + fdatasync"));
    }
    Ok(figures)
}

async fn open_loop(
    ground: &Ground,
    target: &Target,
    arguments: &LatencyArgs,
    way: &str,
) -> anyhow::Result<Vec<Figure>> {
    let topic = target.topic(way);
    let client = target.client().await?;
    client.create_topic(&topic, &[], true).await?;
    let reader = if way == "fetch" {
        let options = FetchOptions {
            end: End::Follow,
            ..FetchOptions::default()
        };
        Reader::Fetch(client.fetch(&topic, Position::Earliest, options).await?)
    } else {
        let options = ConsumerOptions::default();
        Reader::Consume(client.consumer("latency", &[&topic], options).await?)
    };
    // On a connection of its own, as the producer would be another program.
    let options = ProducerOptions::default();
    let producer = target.client().await?.producer(&[&topic], options).await?;
    let records = arguments.rate * arguments.seconds;
    let payload = Payload::generated(Volume(arguments.size.into()), records)?;
    let before = disk::small_appends(ground, SMALL_APPENDS).await?;
    let meter = Meter::begin(target.pid());
    let schedule = Schedule {
        begin: Instant::now() + HEAD_START,
        tick: arguments.tick(),
        rate: arguments.rate,
        records,
    };
    let read = AbortOnDropHandle::new(tokio::spawn(read(reader, schedule)));
    let late = send(producer, topic, schedule, payload).await?;
    let latencies = read.await.context("the reader panicked")??;
    let costs = meter.costs(records);
    let after = disk::small_appends(ground, SMALL_APPENDS).await?;

    let name = format!(
        "produce to {way}, {} B at {}/s",
        arguments.size, arguments.rate
    );
    let limit = disk::small_limit(&before, &after);
    let told = PERCENTILES.map(|(percent, name)| (latencies.percentile(percent), name));
    let told = told.into_iter().chain([(latencies.longest(), "max")]);
    let mut figures: Vec<Figure> = told
        .map(|(value, percentile)| {
            Figure::seconds(format!("{name}, {percentile}"), value).beside(limit.clone())
        })
        .collect();
    if let Some(first) = figures.first_mut() {
        first.costs = Some(costs);
        first.series.push(latencies.series(&*name));
    }
    let woke = Figure::seconds(format!("{name}: sender late, p99"), late.percentile(99.0));
    figures.push(woke.with_series(late.series("sender late")));
    for figure in &mut figures {
        figure.parameters.insert("records", records.to_string());
        figure
            .parameters
            .insert("tick", format!("{} ms", arguments.tick));
    }
    Ok(figures)
}

/// Sends on schedule; says how late the sender was at each tick.
async fn send(
    mut producer: Producer,
    topic: String,
    schedule: Schedule,
    payload: Payload,
) -> anyhow::Result<Latencies> {
    let runtime = Handle::current();
    let (producer, late) = blocking(move |stop| {
        let mut late = Latencies::new()?;
        let mut ticked = None;
        for (number, value) in (0..schedule.records).zip(payload.from(0)) {
            if ticked.replace(schedule.tick_of(number)) != Some(schedule.tick_of(number)) {
                go_on(stop)?;
                let due = schedule.due(number);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                late.record(due.elapsed());
            }
            let mut value = value.to_vec();
            value[..NUMBER_BYTES].copy_from_slice(&number.to_be_bytes());
            let record = NewRecord {
                value: &value,
                ..NewRecord::default()
            };
            if !producer.try_push(&topic, &record)? {
                runtime.block_on(producer.push(&topic, &record))?;
            }
        }
        Ok((producer, late))
    })
    .await?;
    producer.close().await?;
    Ok(late)
}

/// Reads everything; says how long after its tick each record was there.
async fn read(mut reader: Reader, schedule: Schedule) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::new()?;
    while latencies.len() < schedule.records {
        let portion = reader.next().await?;
        let now = Instant::now();
        for record in portion.records() {
            let Some(number) = record.record.value.first_chunk::<NUMBER_BYTES>() else {
                bail!("a record without its number was read");
            };
            let (number, expected) = (u64::from_be_bytes(*number), latencies.len());
            ensure!(
                number == expected,
                "record {number} was read, {expected} was next"
            );
            latencies.record(now.saturating_duration_since(schedule.due(number)));
        }
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_has_all_that_is_due_within_a_tick_at_its_beginning() {
        let schedule = |rate, milliseconds| Schedule {
            begin: Instant::now(),
            tick: Duration::from_millis(milliseconds),
            rate,
            records: 0,
        };
        let ticks = |schedule: Schedule, records: &[u64]| -> Vec<u32> {
            records.iter().map(|&it| schedule.tick_of(it)).collect()
        };
        assert_eq!(
            ticks(schedule(10_000, 1), &[0, 9, 10, 99_999]),
            [0, 0, 1, 9999]
        );
        assert_eq!(ticks(schedule(300, 1), &[0, 1, 2, 3]), [0, 3, 6, 10]);
        assert_eq!(ticks(schedule(10, 100), &[0, 1, 2]), [0, 1, 2]);
        let due = schedule(10_000, 1);
        assert_eq!(due.due(10), due.begin + Duration::from_millis(1));
    }
}

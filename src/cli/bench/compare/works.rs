//! The works that are compared: the same loops for every system, through the verbs of [`Peer`].
//!
//! Owns what is measured and how; each work has a server of its own that has stored nothing. What
//! was sent is counted in the server afterwards: a rate of records that are not there is an error.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tokio::task::JoinSet;

use super::latency;
use super::peer::{Peer, Produce, Read};
use super::server::Server;
use super::stream::{self, pump, requests};
use super::table::{Better, Row};
use crate::cli::bench::args::Volume;
use crate::cli::bench::course::per_second;
use crate::cli::bench::disk::{self, Appends};
use crate::cli::bench::figure::Unit;
use crate::cli::bench::ground::Ground;
use crate::cli::bench::latencies::Latencies;

/// Records of a request, where a peer has requests of several.
pub(super) const PER_REQUEST: usize = 1_000;
/// Producers that wait for each acknowledgement.
const PRODUCERS: usize = 64;
/// Topics, producers and consumers at once.
const LANES: usize = 8;
/// Bytes of a request when several topics are busy.
const LANE_BATCH: usize = 64 << 10;
/// What a batch of the client may grow to otherwise: as large as it likes.
pub(super) const ANY_BATCH: usize = usize::MAX;
/// The last record of a lane.
const END: &[u8] = b"end";
pub(super) const KIB: Volume = Volume(1 << 10);
pub(super) const SMALL: Volume = Volume(100);
pub(super) const TOPIC: &str = "compare";

/// How much of each work is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// Bytes that a producer sends at most.
    pub(super) bytes: u64,
    /// How long it goes on at most.
    pub(super) time: Duration,
    /// Records of the one that waits for each acknowledgement.
    pub(super) sends: u32,
    /// Idle connections.
    pub(super) connections: u32,
    /// Bytes that are stored before the server is killed.
    pub(super) restart_bytes: u64,
    /// Bytes with which the disk is measured.
    pub(super) disk_bytes: u64,
}

/// One work: some figures of one server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// One producer as fast as it goes, then a reader.
    Stream(Volume),
    /// One record at a time: one producer, then many.
    OneByOne,
    /// Several topics, each with a producer and a consumer.
    Lanes,
    /// Records on a schedule, and how long each takes to its consumer.
    Latency,
    /// What a SIGKILL costs.
    Restart,
    /// What a connection costs.
    Idle,
}

/// All of them, in the order of the table.
pub(super) const WORKS: [Work; 7] = [
    Work::Stream(KIB),
    Work::Stream(SMALL),
    Work::OneByOne,
    Work::Lanes,
    Work::Latency,
    Work::Restart,
    Work::Idle,
];

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(size) => write!(f, "a stream of {size} records"),
            Self::OneByOne => write!(f, "one record at a time"),
            Self::Lanes => write!(f, "{LANES} topics at once"),
            Self::Latency => write!(f, "records on a schedule"),
            Self::Restart => write!(f, "a restart after SIGKILL"),
            Self::Idle => write!(f, "idle connections"),
        }
    }
}

impl Work {
    /// What `--only` calls it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Stream(KIB) => "stream-1KiB",
            Self::Stream(_) => "stream-100B",
            Self::OneByOne => "one-by-one",
            Self::Lanes => "lanes",
            Self::Latency => "latency",
            Self::Restart => "restart",
            Self::Idle => "idle",
        }
    }

    /// Its figures, in the order in which [`measure`](Self::measure) gives them.
    pub(super) fn rows(self, scale: &Scale) -> Vec<Row> {
        let row = |name: &str, unit, better| Row {
            name: name.to_owned(),
            unit,
            better,
        };
        let rate = |name: &str| row(name, Unit::RecordsPerSecond, Better::More);
        let time = |name: &str| row(name, Unit::Seconds, Better::Less);
        let small_appends = || {
            let name = "the disk alone, directly before: 4 KiB append + fdatasync, p50";
            row(name, Unit::Seconds, Better::Neither)
        };
        match self {
            Self::Stream(size) => {
                let mut rows = vec![
                    row(
                        "the disk alone, directly before: append + fdatasync",
                        Unit::BytesPerSecond,
                        Better::Neither,
                    ),
                    rate(&format!("produce {size}, 1,000 records a request")),
                    rate(&format!("fetch {size}, warm")),
                ];
                if size == SMALL {
                    let name = format!("bytes on disk for each record of {size}");
                    rows.push(row(&name, Unit::Bytes, Better::Less));
                }
                rows
            }
            Self::OneByOne => vec![
                small_appends(),
                time("one record of 100 B in flight, p50"),
                rate("64 producers, one record of 100 B in flight each"),
            ],
            Self::Lanes => ["in", "out"]
                .map(|way| {
                    let name = format!("8 producers, 8 topics, 8 consumers, 1 KiB: {way}");
                    row(&name, Unit::BytesPerSecond, Better::More)
                })
                .into(),
            Self::Latency => vec![
                small_appends(),
                time("produce to consume, 100 B at 10,000/s, p50"),
                time("produce to consume, 100 B at 10,000/s, p99"),
            ],
            Self::Restart => {
                let name = format!("SIGKILL with {}", Volume(scale.restart_bytes));
                vec![
                    time(&format!("{name}: first record read")),
                    row(&format!("{name}: memory then"), Unit::Bytes, Better::Less),
                ]
            }
            Self::Idle => vec![row("an idle connection", Unit::Bytes, Better::Less)],
        }
    }

    /// Does it; figures that were measured stay in `values` also when a later one fails.
    pub(super) async fn measure<P: Peer>(
        self,
        peer: &P,
        scale: &Scale,
        ground: &Ground,
        values: &mut Vec<f64>,
    ) -> Result<()> {
        match self {
            Self::Stream(_) => {
                values.push(Appends::measure(ground, scale.disk_bytes).await?.rate());
            }
            Self::OneByOne | Self::Latency => {
                let appends = disk::small_appends(ground, scale.sends).await?;
                values.push(appends.percentile(50.0).as_secs_f64());
            }
            Self::Lanes | Self::Restart | Self::Idle => {}
        }
        let mut server = Server::start(peer, ground.path()).await?;
        match self {
            Self::Stream(size) => stream::measure(&mut server, size, scale, values).await,
            Self::OneByOne => one_by_one(&server, scale, values).await,
            Self::Lanes => lanes(&server, scale, values).await,
            Self::Latency => latency::measure(&server, scale.time, values).await,
            Self::Restart => stream::restart(&mut server, scale, values).await,
            Self::Idle => idle(&server, scale, values).await,
        }
    }
}

/// Compares what the server has with what was sent.
pub(super) async fn stored<P: Peer>(server: &Server<'_, P>, topic: &str, sent: u64) -> Result<()> {
    let count = server.peer().count(server.at(), topic).await?;
    ensure!(
        count == sent,
        "the server has {count} records, {sent} were acknowledged"
    );
    Ok(())
}

async fn one_by_one<P: Peer>(
    server: &Server<'_, P>,
    scale: &Scale,
    values: &mut Vec<f64>,
) -> Result<()> {
    let (peer, at) = (server.peer(), server.at());
    peer.create(at, TOPIC).await?;
    let value = requests(SMALL, 1).swap_remove(0);
    let mut producer = peer.producer(at, TOPIC, ANY_BATCH).await?;
    let mut latencies = Latencies::new()?;
    for _ in 0..scale.sends {
        let begun = Instant::now();
        producer.send(&value).await?;
        producer.acknowledged().await?;
        latencies.record(begun.elapsed());
    }
    drop(producer);
    values.push(latencies.percentile(50.0).as_secs_f64());

    let mut producers = Vec::with_capacity(PRODUCERS);
    for _ in 0..PRODUCERS {
        producers.push(peer.producer(at, TOPIC, ANY_BATCH).await?);
    }
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for mut producer in producers {
        let (value, time) = (value.clone(), scale.time);
        tasks.spawn(async move {
            let mut records = 0;
            while begun.elapsed() < time {
                producer.send(&value).await?;
                producer.acknowledged().await?;
                records += 1;
            }
            anyhow::Ok(records)
        });
    }
    let mut records = 0_u64;
    while let Some(done) = tasks.join_next().await {
        records += done.context("a producer panicked")??;
    }
    let took = begun.elapsed();
    stored(server, TOPIC, records + u64::from(scale.sends)).await?;
    values.push(per_second(records, took));
    Ok(())
}

async fn lanes<P: Peer>(
    server: &Server<'_, P>,
    scale: &Scale,
    values: &mut Vec<f64>,
) -> Result<()> {
    let (peer, at) = (server.peer(), server.at());
    let requests = Arc::new(requests(KIB, LANE_BATCH / KIB.length()));
    let mut ready = Vec::with_capacity(LANES);
    for lane in 0..LANES {
        let topic = format!("lane-{lane}");
        peer.create(at, &topic).await?;
        let producer = peer.producer(at, &topic, LANE_BATCH).await?;
        ready.push((producer, peer.consumer(at, &topic).await?));
    }
    let (mut producers, mut consumers) = (JoinSet::new(), JoinSet::new());
    let begun = Instant::now();
    for (lane, (mut producer, mut consumer)) in ready.into_iter().enumerate() {
        let (requests, bytes, time) = (requests.clone(), scale.bytes / LANES as u64, scale.time);
        producers.spawn(async move {
            let records = pump(&mut producer, &requests, bytes, time).await?;
            let took = begun.elapsed();
            producer.send(&[Bytes::from_static(END)]).await?;
            producer.acknowledged().await?;
            anyhow::Ok((lane, records, took))
        });
        consumers.spawn(async move {
            let (mut bytes, mut ended) = (0, false);
            while !ended {
                let each = |value: &[u8]| match value {
                    END => ended = true,
                    value => bytes += value.len() as u64,
                };
                consumer.next(each).await?;
            }
            anyhow::Ok((bytes, begun.elapsed()))
        });
    }
    let (mut sent, mut produced_in) = (0, Duration::ZERO);
    while let Some(done) = producers.join_next().await {
        let (lane, records, took) = done.context("a producer panicked")??;
        stored(server, &format!("lane-{lane}"), records + 1).await?;
        sent += records * KIB.0;
        produced_in = produced_in.max(took);
    }
    values.push(per_second(sent, produced_in));
    let (mut read, mut read_in) = (0, Duration::ZERO);
    while let Some(done) = consumers.join_next().await {
        let (bytes, took) = done.context("a consumer panicked")??;
        read += bytes;
        read_in = read_in.max(took);
    }
    ensure!(read == sent, "{read} bytes were consumed of {sent}");
    values.push(per_second(read, read_in));
    Ok(())
}

async fn idle<P: Peer>(server: &Server<'_, P>, scale: &Scale, values: &mut Vec<f64>) -> Result<()> {
    let before = server.resident()?;
    let mut connections = Vec::new();
    for _ in 0..scale.connections {
        connections.push(server.peer().idle(server.at()).await?);
    }
    let grown = server.resident()?.saturating_sub(before);
    values.push(grown as f64 / f64::from(scale.connections));
    Ok(())
}

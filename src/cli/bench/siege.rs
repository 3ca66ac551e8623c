//! `bench siege`: what an honest client notices while a broker is besieged.
//!
//! Owns the honest client and the windows: it produces a durable record at each tick and consumes it,
//! before a siege, during it and after it, and also while another broker is besieged: what it notices
//! of that is the machine's. It waits for no acknowledgement before the next record, and
//! each latency counts from the tick: so a stall is felt by every record that was due meanwhile, and
//! by no later one. Nothing of what it sends may be lost, doubled or refused:
//! then there is no figure, but an error. Who besieges is in [`host`].

mod host;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use logdrive_client::{Consumer, ConsumerOptions, NewRecord, Producer, ProducerOptions};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::args::SiegeArgs;
use super::figure::{Figure, Limit, Unit};
use super::ground::{Ground, Target, blocking};
use super::latencies::Latencies;
use super::machine::{self, allow_files};
use super::payload::Payload;
use super::producing::Load;
use super::volume::Volume;
use crate::cli::progress::Progress;
use host::{Ends, Host, Muster};

/// Between two records of the honest client.
const TICK: Duration = Duration::from_millis(5);
/// A record begins with its number and the tick that it was due at, in nanoseconds.
const HEAD_BYTES: usize = 16;
/// The whole record.
const RECORD_BYTES: usize = 100;
/// How often it is looked whether a siege has come to its end.
const LOOK: Duration = Duration::from_millis(20);
/// How long a siege may take to come up, and the broker to be rid of it.
const PATIENCE: Duration = Duration::from_mins(2);
/// Files besides the sockets.
const OTHER_FILES: u64 = 256;

/// Measures one siege after the other.
pub(super) async fn run(ground: &Ground, arguments: &SiegeArgs) -> anyhow::Result<Vec<Figure>> {
    let most = arguments.slow.max(arguments.idle).max(arguments.unread);
    allow_files(u64::from(most) + OTHER_FILES)?;
    let mut figures = Vec::new();
    for host in [
        Host::Slow(arguments.slow),
        Host::Unread(arguments.unread),
        Host::Idle(arguments.idle),
        Host::Bad(arguments.bad),
    ] {
        if host.count() > 0 {
            figures.extend(besieged(ground, arguments, host).await?);
        }
    }
    Ok(figures)
}

/// The honest client.
struct Citizen {
    topic: String,
    producer: Producer,
    consumer: Consumer,
    begun: Instant,
    /// Records that were sent, and consumed.
    count: u64,
}

/// What it saw.
struct Seen {
    acked: Latencies,
    consumed: Latencies,
}

impl Citizen {
    async fn of(target: &Target) -> anyhow::Result<Self> {
        let topic = target.topic("honest");
        let client = target.client().await?;
        let options = ProducerOptions::default();
        let producer = client.producer(&[&topic], options).await?;
        let client = target.client().await?;
        let options = ConsumerOptions::default();
        let consumer = client.consumer("honest", &[&topic], options).await?;
        Ok(Self {
            topic,
            producer,
            consumer,
            begun: Instant::now(),
            count: 0,
        })
    }

    /// Works until it is told that this is enough; all that was sent is consumed then.
    async fn work(&mut self, is_enough: impl Fn() -> bool) -> anyhow::Result<Seen> {
        let (first, begun) = (self.count, self.begun);
        let end = AtomicU64::new(u64::MAX);
        let (topic, producer, consumer) = (&self.topic, &mut self.producer, &mut self.consumer);
        let (acked, taken) = tokio::try_join!(
            produce(producer, topic, (first, begun), &end, is_enough),
            consume(consumer, (first, begun), &end)
        )?;
        self.count = end.load(Ordering::Relaxed);
        Ok(Seen {
            acked,
            consumed: taken,
        })
    }
}

/// Sends on schedule, whatever the broker does, and waits for the acknowledgements beside it.
async fn produce(
    producer: &mut Producer,
    topic: &str,
    (first, begun): (u64, Instant),
    end: &AtomicU64,
    is_enough: impl Fn() -> bool,
) -> anyhow::Result<Latencies> {
    let (sent, mut under_way) = mpsc::unbounded_channel();
    let sending = async move {
        let schedule = Instant::now();
        for (tick, number) in (1..).zip(first..) {
            let due = schedule + TICK * tick;
            sleep(due.saturating_duration_since(Instant::now())).await;
            let is_last = is_enough();
            if is_last {
                // Before it is sent: whoever consumes it knows then that nothing follows.
                end.store(number + 1, Ordering::Relaxed);
            }
            let mut value = [b'x'; RECORD_BYTES];
            let at = due.saturating_duration_since(begun).as_nanos() as u64;
            value[..8].copy_from_slice(&number.to_be_bytes());
            value[8..HEAD_BYTES].copy_from_slice(&at.to_be_bytes());
            let record = NewRecord {
                value: &value,
                ..NewRecord::default()
            };
            // Where the client's window is full this waits, so what is under way is bounded.
            sent.send((due, producer.enqueue(topic, &record).await?))?;
            if is_last {
                break;
            }
        }
        anyhow::Ok(())
    };
    let hearing = async {
        let mut latencies = Latencies::new()?;
        while let Some((due, delivery)) = under_way.recv().await {
            delivery.await?;
            latencies.record(due.elapsed());
        }
        anyhow::Ok(latencies)
    };
    let ((), latencies) = tokio::try_join!(sending, hearing)?;
    Ok(latencies)
}

async fn consume(
    consumer: &mut Consumer,
    (first, begun): (u64, Instant),
    end: &AtomicU64,
) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let mut next = first;
    while next < end.load(Ordering::Relaxed) {
        let portion = consumer.get_batch(None).await?;
        let portion = portion.context("the topic came to an end")?;
        let now = begun.elapsed();
        ensure!(portion.gaps().is_empty(), "records are missing");
        for record in portion.records() {
            let Some(head) = record.record.value.first_chunk::<HEAD_BYTES>() else {
                bail!("a record without its number was consumed");
            };
            let (number, at) = head.split_at(8);
            let number = u64::from_be_bytes(number.try_into()?);
            ensure!(number == next, "record {number} came, {next} was next");
            let at = Duration::from_nanos(u64::from_be_bytes(at.try_into()?));
            latencies.record(now.saturating_sub(at));
            next += 1;
        }
    }
    Ok(latencies)
}

/// What the broker's process holds.
struct Held {
    memory: u64,
    files: usize,
}

impl Held {
    fn by(target: &Target) -> anyhow::Result<Self> {
        let pid = target.pid().context("the broker is not ours")?;
        let what = "the system does not tell what the broker has";
        Ok(Self {
            memory: machine::resident(pid).context(what)?,
            files: machine::open_files(pid).context(what)?,
        })
    }
}

async fn besieged(
    ground: &Ground,
    arguments: &SiegeArgs,
    host: Host,
) -> anyhow::Result<Vec<Figure>> {
    let target = prepared(ground, arguments, host).await?;
    let other = prepared(ground, arguments, host).await?;
    let mut citizen = Citizen::of(&target).await?;
    let window = || {
        let end = Instant::now() + Duration::from_secs(arguments.seconds);
        move || Instant::now() >= end
    };
    let progress = Progress::new(None, host.name());
    // What is new to the broker is no matter of a siege.
    citizen.work(window()).await?;
    let before = citizen.work(window()).await?;
    // They share the machine as they will, and nothing else.
    let (elsewhere, _) = under_siege(&other, arguments, host, &mut citizen).await?;
    other.end().await?;
    let quiet = (Held::by(&target)?, open(&target).await?);
    let (during, siege) = under_siege(&target, arguments, host, &mut citizen).await?;
    relieved(&target, quiet.1).await?;
    let left = Held::by(&target)?;
    let after = citizen.work(window()).await?;
    let after_all = Held::by(&target)?;
    citizen.producer.close().await?;
    drop(progress);
    target.end().await?;
    let seen = [&before, &elsewhere, &during, &after];
    let held = [&quiet.0, &siege.held, &left, &after_all];
    Ok(figures(host, seen, held, &siege.ends))
}

/// A broker with what a siege needs.
async fn prepared(ground: &Ground, arguments: &SiegeArgs, host: Host) -> anyhow::Result<Target> {
    let target = ground.broker().await?;
    if let Host::Unread(_) = host {
        let records = (arguments.plenty.0 >> 10).max(1);
        let payload = Arc::new(Payload::generated(Volume(1 << 10), records)?);
        let load = Load::plain(payload, records, target.topic(host::PLENTY));
        load.run(
            &target,
            &Progress::new(Some(records), "stored, to be asked for"),
        )
        .await?;
        target.settle().await;
    }
    Ok(target)
}

/// What came of a siege.
struct Siege {
    ends: Ends,
    held: Held,
}

async fn under_siege(
    target: &Target,
    arguments: &SiegeArgs,
    host: Host,
    citizen: &mut Citizen,
) -> anyhow::Result<(Seen, Siege)> {
    let stop = CancellationToken::new();
    let _dropped = stop.clone().drop_guard();
    let muster = Arc::new(Muster::default());
    let besieging = {
        let (muster, stop) = (muster.clone(), stop.clone());
        let address = target.address.parse()?;
        let plenty = target.topic(host::PLENTY);
        blocking(move |_| host::besiege(host, address, &plenty, &muster, &stop))
    };
    let watching = async {
        let begun = Instant::now();
        while !muster.is_up(host) {
            ensure!(begun.elapsed() < PATIENCE, "the siege did not come up");
            sleep(LOOK).await;
        }
        sleep(Duration::from_secs(arguments.seconds)).await;
        let held = Held::by(target)?;
        while !muster.is_done(host) {
            ensure!(begun.elapsed() < PATIENCE * 5, "the siege came to no end");
            sleep(LOOK).await;
        }
        stop.cancel();
        anyhow::Ok(held)
    };
    let is_over = || stop.is_cancelled();
    let (ends, held, seen) = tokio::try_join!(besieging, watching, citizen.work(is_over))?;
    Ok((seen, Siege { ends, held }))
}

/// Connections that the broker counts.
async fn open(target: &Target) -> anyhow::Result<u64> {
    let client = target.client().await?;
    let counters = client.stats(None).await?;
    client.close().await;
    let open = counters.iter().find(|it| it.name == "connections");
    Ok(open.context("the broker does not count connections")?.value)
}

/// Waits until the broker has as many connections as before.
async fn relieved(target: &Target, before: u64) -> anyhow::Result<()> {
    let begun = Instant::now();
    while open(target).await? > before {
        ensure!(begun.elapsed() < PATIENCE, "connections are not given back");
        sleep(LOOK * 5).await;
    }
    Ok(())
}

fn figures(
    host: Host,
    [before, elsewhere, during, after]: [&Seen; 4],
    [quiet, siege, left, last]: [&Held; 4],
    ends: &Ends,
) -> Vec<Figure> {
    let name = format!("beside {} {}", host.count(), host.name());
    let mut figures = Vec::new();
    for (what, of) in [
        ("synced", (|it| &it.acked) as fn(&Seen) -> &Latencies),
        ("consumed", |it| &it.consumed),
    ] {
        for (percent, percentile) in [(50.0, "p50"), (99.0, "p99")] {
            for (whose, seen) in [("", during), (" of another broker", elsewhere)] {
                let at = |seen: &Seen| of(seen).percentile(percent).as_secs_f64();
                let limit = Limit::around("the same without them", at(before), at(after));
                let figure = Figure::seconds(
                    format!("{name}{whose}: {what}, {percentile}"),
                    of(seen).percentile(percent),
                );
                figures.push(figure.beside(limit).with_series(of(seen).series(what)));
            }
        }
    }
    let memory = |what: &str, held: &Held| {
        Figure::new(format!("{name}: {what}"), held.memory as f64, Unit::Bytes)
            .beside(Limit::new("before", quiet.memory as f64))
            .parameter("open files", held.files)
            .parameter("open files before", quiet.files)
    };
    figures.push(memory("memory", siege));
    figures.push(memory("memory when they are gone", left));
    figures.push(memory("memory a while later", last));
    let told = |figure: Figure| {
        let ends = ends.iter().map(|(end, count)| format!("{end} {count}"));
        let ends = ends.collect::<Vec<_>>().join(", ");
        figure
            .parameter("records", during.acked.len())
            .parameter("ended", ends)
    };
    figures.into_iter().map(told).collect()
}

//! `bench lease`: records per second that workers of one consumer lease and ack, durably.
//!
//! ```text
//!  produced before ──► one consumer ──lease of 1,000──► 8 workers ──10 acks of 100──► acked, all
//!                      another one  ──1,000 taken for good──► 8 workers             (before, after)
//! ```
//!
//! Owns the figures: the rate until the last ack was answered, how long acks take, and beside it the
//! same workers who take without leases. Everything is done twice, over bare connections, where each
//! ack is a request, and through the client, which joins acks that wait. That each record was acked,
//! once, is what the broker says: it counts what an ack has acked, and a record twice would be more.
//! How a worker goes about it is the business of `bare` and `client`.

mod bare;
mod client;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use logdrive_client::{Consumer, Position, Setting};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_util::task::AbortOnDropHandle;

use self::bare::Bare;
use super::args::LeaseArgs;
use super::course::{Course, SLICE};
use super::figure::{Figure, Limit, Unit};
use super::ground::{Ground, Target};
use super::latencies::Latencies;
use super::machine::{Costs, Meter};
use super::payload::Payload;
use super::producing::Load;
use crate::cli::progress::Progress;

/// Longer than any run.
const LEASE: Duration = Duration::from_hours(1);
/// How long a worker waits for records before it looks whether all are settled.
const WAIT: Duration = Duration::from_millis(50);

/// Who the workers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Bare,
    Client,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare requests",
            Self::Client => "client",
        }
    }
}

/// What every worker is told.
#[derive(Clone, Debug)]
struct Task {
    topic: String,
    consumer: String,
    /// Whether records are leased and acked, or taken for good.
    leases: bool,
    /// Records of one answer.
    answer: u32,
    /// Records of one ack.
    ack: u64,
    /// Records of all workers together.
    records: u64,
    /// How many of them are acked, or taken where nothing is leased.
    settled: watch::Sender<u64>,
}

impl Task {
    fn is_done(&self) -> bool {
        *self.settled.borrow() >= self.records
    }

    fn settle(&self, records: u64) {
        self.settled.send_modify(|settled| *settled += records);
    }
}

/// What a run of all workers comes to.
struct Ran {
    course: Course,
    acks: Latencies,
    costs: Costs,
}

/// Measures both ways.
pub(super) async fn run(ground: &Ground, arguments: &LeaseArgs) -> anyhow::Result<Vec<Figure>> {
    let target = ground.broker().await?;
    let payload = Arc::new(Payload::new(&arguments.source, arguments.bytes)?);
    let records = payload.records_in(arguments.bytes.0);
    let name = payload.name().to_owned();
    let topic = target.topic("leased");
    let progress = Progress::new(Some(records), "produced, to be leased");
    let load = Load::plain(payload, records, topic.clone());
    load.run(&target, &progress).await?;
    drop(progress);
    target.settle().await;
    let mut figures = Vec::new();
    for way in [Way::Bare, Way::Client] {
        let one = |leases| ran(&target, arguments, &topic, records, way, leases);
        let before = one(false).await?.course.rate();
        let leased = one(true).await?;
        let after = one(false).await?.course.rate();
        let name = format!(
            "lease {name}, {} workers, acks of {}, {}",
            arguments.workers,
            arguments.ack,
            way.name()
        );
        let limit = Limit::around("the same workers, without leases", before, after);
        let series = leased.course.series(&name, 1.0, "records/s");
        let acks = leased.acks.series(format!("{name}: an ack"));
        let took = |percent| leased.acks.percentile(percent);
        let p50 = Figure::seconds(format!("{name}: an ack, p50"), took(50.0));
        figures.extend([
            Figure::new(name.clone(), leased.course.rate(), Unit::RecordsPerSecond)
                .beside(limit)
                .costing(leased.costs)
                .with_series(series),
            p50.with_series(acks),
            Figure::seconds(format!("{name}: an ack, p99"), took(99.0)),
        ]);
    }
    target.end().await?;
    let told = |figure: Figure| {
        let figure = figure.parameter("records", records);
        figure.parameter("records of an answer", arguments.answer)
    };
    Ok(figures.into_iter().map(told).collect())
}

/// Lets all workers settle all records of a consumer that is new.
async fn ran(
    target: &Target,
    arguments: &LeaseArgs,
    topic: &str,
    records: u64,
    way: Way,
    leases: bool,
) -> anyhow::Result<Ran> {
    let (settled, _) = watch::channel(0);
    let task = Task {
        topic: topic.to_owned(),
        consumer: format!("consumer-{:08x}", fastrand::u32(..)),
        leases,
        answer: arguments.answer,
        ack: u64::from(arguments.ack),
        records,
        settled,
    };
    let ready = ready(target, arguments, &task, way).await?;
    let progress = Progress::new(Some(records), if leases { "acked" } else { "taken" });
    let meter = Meter::begin(target.pid());
    let begun = Instant::now();
    let watched = AbortOnDropHandle::new(tokio::spawn(watched(task.clone(), progress)));
    let mut workers = JoinSet::new();
    for worker in ready {
        match worker {
            Worker::Bare(bare) => workers.spawn(bare.work(task.clone())),
            Worker::Client(consumer) => workers.spawn(client::work(consumer, task.clone())),
        };
    }
    let mut acks = Latencies::new()?;
    while let Some(own) = workers.join_next().await {
        acks.add(&own.context("a worker panicked")??)?;
    }
    let costs = meter.costs(records);
    let all = *task.settled.borrow();
    ensure!(all == records, "{all} of {records} records were settled");
    let course = watched.await.context("the count panicked")?;
    ensure!(begun.elapsed() < LEASE, "the leases were over meanwhile");
    Ok(Ran {
        course,
        acks,
        costs,
    })
}

/// Looks at the count now and then, and when it is reached.
async fn watched(task: Task, progress: Progress) -> Course {
    let begun = Instant::now();
    let mut course = Course::default();
    let mut looks = interval(SLICE);
    let mut seen = task.settled.subscribe();
    loop {
        let ended = tokio::select! {
            _ = looks.tick() => false,
            // The sender is in the task.
            _ = seen.wait_for(|settled| *settled >= task.records) => true,
        };
        let now = *task.settled.borrow();
        course.look(begun.elapsed(), now);
        progress.set(now);
        if ended {
            return course;
        }
    }
}

/// A worker with a connection of its own.
enum Worker {
    Bare(Bare),
    Client(Consumer),
}

/// Registers the consumer, and connects its workers.
async fn ready(
    target: &Target,
    arguments: &LeaseArgs,
    task: &Task,
    way: Way,
) -> anyhow::Result<Vec<Worker>> {
    let most = Setting {
        key: "max_leased".to_owned(),
        value: arguments.max_leased.to_string(),
    };
    let registered = target
        .client()
        .await?
        .create_consumer(&task.topic, &task.consumer, Position::Earliest, &[most])
        .await?;
    let mut workers = Vec::new();
    for _ in 0..arguments.workers {
        workers.push(match way {
            Way::Bare => Worker::Bare(Bare::open(target, &registered).await?),
            Way::Client => Worker::Client(client::open(target, task).await?),
        });
    }
    Ok(workers)
}

//! `bench idle`: what a broker takes of a core while all its consumers wait and nothing comes.
//!
//! Owns the waiting consumers: each is a program's own, on a connection of its own, and its wait is
//! renewed by the client. By default the time measured is as long as such a wait, so that every
//! renewal is in it.

use std::time::{Duration, Instant};

use anyhow::Context;
use logdrive_client::{ConsumerOptions, ProducerOptions, Setting};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::args::IdleArgs;
use super::figure::{Figure, Unit};
use super::ground::{Ground, Target};
use super::machine::{self, allow_files};
use crate::cli::progress::Progress;

/// Files besides the sockets.
const OTHER_FILES: u64 = 256;
/// The broker is idle when it takes no CPU time for so long.
const QUIET: Duration = Duration::from_secs(1);
/// How often that is looked for; an idle broker may never be that quiet.
const QUIET_TRIES: u32 = 10;

/// Measures an idle broker.
pub(super) async fn run(ground: &Ground, arguments: &IdleArgs) -> anyhow::Result<Vec<Figure>> {
    allow_files(u64::from(arguments.consumers) + OTHER_FILES)?;
    let target = ground.broker().await?;
    let waiting = waiting(&target, arguments).await?;
    let mut now = cpu(&target)?;
    for _ in 0..QUIET_TRIES {
        sleep(QUIET).await;
        let before = std::mem::replace(&mut now, cpu(&target)?);
        if before == now {
            break;
        }
    }
    let _shown = Progress::new(None, "idle");
    let begun = Instant::now();
    sleep(Duration::from_secs(arguments.seconds)).await;
    let used = cpu(&target)?.saturating_sub(now);
    let share = used.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    let resident = target.pid().and_then(machine::resident);
    drop(waiting);
    target.end().await?;
    let name = match arguments.retention {
        None => "an idle broker".to_owned(),
        Some(_) => format!("an idle broker, {} topics with retention", arguments.topics),
    };
    let memory = format!("{name}, memory");
    let memory = resident.map(|it| Figure::new(memory, it as f64, Unit::Bytes));
    let share = Figure::new(name, share, Unit::CorePercent);
    let told = |figure: Figure| {
        let figure = figure.parameter("topics", arguments.topics);
        let figure = figure.parameter("waiting consumers", arguments.consumers);
        figure.parameter("seconds", arguments.seconds)
    };
    Ok([Some(share), memory]
        .into_iter()
        .flatten()
        .map(told)
        .collect())
}

fn cpu(target: &Target) -> anyhow::Result<Duration> {
    let cpu = target.pid().and_then(machine::cpu);
    cpu.context("the system does not tell what the broker takes")
}

/// Makes the topics, and lets the consumers wait.
async fn waiting(
    target: &Target,
    arguments: &IdleArgs,
) -> anyhow::Result<JoinSet<Result<(), logdrive_client::Error>>> {
    let progress = Progress::new(Some(arguments.topics.into()), "topics");
    let client = target.client().await?;
    let name = |index: u32| target.topic(&index.to_string());
    let settings: Vec<Setting> = (arguments.retention.iter())
        .map(|age| Setting {
            key: "retention_age".to_owned(),
            value: age.clone(),
        })
        .collect();
    for index in 0..arguments.topics {
        client.create_topic(&name(index), &settings, true).await?;
        if arguments.retention.is_some() {
            let topic = name(index);
            let options = ProducerOptions::default();
            let mut producer = client.producer(&[&topic], options).await?;
            producer.send(&topic, &b"a record"[..]).await?;
            producer.close().await?;
        }
        progress.set(index.into());
    }
    progress.name("consumers");
    progress.expect(arguments.consumers.into());
    let mut waiting = JoinSet::new();
    for index in 0..arguments.consumers {
        let client = target.client().await?;
        let topic = name(index % arguments.topics);
        let consumer = format!("idle-{index}");
        let options = ConsumerOptions::default();
        let mut consumer = client.consumer(&consumer, &[&topic], options).await?;
        waiting.spawn(async move { consumer.get_batch(None).await.map(drop) });
        progress.set(index.into());
    }
    Ok(waiting)
}

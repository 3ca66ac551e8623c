//! A worker of `bench lease` as a user's program: the client's consumer, one answer ahead.
//!
//! Acks each so many records with one call, all calls of an answer at once; the client sends what
//! waits together.

use std::time::Instant;

use futures_util::future::try_join_all;
use logdrive_client::{Consumer, ConsumerOptions, Portion, Record};

use super::super::ground::Target;
use super::super::latencies::Latencies;
use super::{LEASE, Task, WAIT};

/// Connects.
pub(super) async fn open(target: &Target, task: &Task) -> anyhow::Result<Consumer> {
    let options = ConsumerOptions {
        create: false,
        max_records: task.answer,
        prefetch: true,
        lease: task.leases.then_some(LEASE),
        ..ConsumerOptions::default()
    };
    let client = target.client().await?;
    Ok(client
        .consumer(&task.consumer, &[&task.topic], options)
        .await?)
}

/// Works until all records are settled; how long each ack took.
pub(super) async fn work(mut consumer: Consumer, task: Task) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::new()?;
    while !task.is_done() {
        let Some(portion) = consumer.get_batch(Some(WAIT)).await? else {
            continue;
        };
        let (count, lasts) = looked_through(&portion, task.ack);
        if task.leases {
            let begun = Instant::now();
            let acks = lasts.iter().map(|last| async {
                consumer.ack_up_to(last).await?;
                Ok::<_, logdrive_client::Error>(begun.elapsed())
            });
            for took in try_join_all(acks).await? {
                latencies.record(took);
            }
        }
        task.settle(count);
    }
    consumer.close().await;
    Ok(latencies)
}

/// Looks at each record; how many there are, and the last of each so many.
fn looked_through(portion: &Portion, each: u64) -> (u64, Vec<Record>) {
    let (mut count, mut lasts, mut left) = (0, Vec::new(), None);
    for record in portion.records() {
        count += 1;
        if count % each == 0 {
            lasts.push(portion.owned(&record));
            left = None;
        } else {
            left = Some(record);
        }
    }
    lasts.extend(left.map(|last| portion.owned(&last)));
    (count, lasts)
}

//! Produce to consume on a schedule, for any peer.
//!
//! Owns the open loop: records are due at ticks, and each counts from the tick that the schedule
//! names, so that a stall is felt by all that were due meanwhile. The sender is a thread that sleeps
//! from tick to tick and never spins; the reader is another connection.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::peer::{Peer, Produce, Read};
use super::server::Server;
use super::works::stored;
use crate::cli::bench::ground::{blocking, go_on};
use crate::cli::bench::latencies::Latencies;

/// Between ticks.
const TICK: Duration = Duration::from_millis(1);
/// Records that are due at each: 10,000 a second.
const PER_TICK: u32 = 10;
/// Bytes of a record; it begins with the number of its tick.
const RECORD_BYTES: usize = 100;
/// Between the making of the schedule and its first tick.
const HEAD_START: Duration = Duration::from_millis(100);
const TOPIC: &str = "latency";

/// Measures p50 and p99.
pub(super) async fn measure<P: Peer>(
    server: &Server<'_, P>,
    time: Duration,
    values: &mut Vec<f64>,
) -> Result<()> {
    let (peer, at) = (server.peer(), server.at());
    peer.create(at, TOPIC).await?;
    let reader = peer.consumer(at, TOPIC).await?;
    let producer = peer.producer(at, TOPIC, usize::MAX).await?;
    let ticks = u32::try_from(time.as_millis() / TICK.as_millis())?.max(1);
    let begin = Instant::now() + HEAD_START;
    let records = u64::from(ticks) * u64::from(PER_TICK);
    let read = AbortOnDropHandle::new(tokio::spawn(read(reader, begin, records)));
    send(producer, begin, ticks).await?;
    let latencies = read.await.context("the reader panicked")??;
    stored(server, TOPIC, records).await?;
    for percent in [50.0, 99.0] {
        values.push(latencies.percentile(percent).as_secs_f64());
    }
    Ok(())
}

async fn send(mut producer: impl Produce + 'static, begin: Instant, ticks: u32) -> Result<()> {
    let runtime = Handle::current();
    blocking(move |stop| {
        let _entered = runtime.enter();
        let mut in_flight = 0;
        for tick in 0..ticks {
            go_on(stop)?;
            let due = begin + TICK * tick;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut value = [b'x'; RECORD_BYTES];
            value[..4].copy_from_slice(&tick.to_be_bytes());
            let value = Bytes::copy_from_slice(&value);
            runtime.block_on(producer.send(&vec![value; PER_TICK as usize]))?;
            in_flight += 1;
            // Takes the acknowledgements that are there; the schedule waits for none.
            while in_flight > 0
                && let Some(acknowledged) = producer.acknowledged().now_or_never()
            {
                acknowledged?;
                in_flight -= 1;
            }
        }
        for _ in 0..in_flight {
            runtime.block_on(producer.acknowledged())?;
        }
        Ok(())
    })
    .await
}

/// Reads everything; says how long after its tick each record was there.
async fn read(mut reader: impl Read, begin: Instant, records: u64) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let mut ticks = Vec::new();
    while latencies.len() < records {
        ticks.clear();
        let tick =
            |value: &[u8]| ticks.extend(value.first_chunk().copied().map(u32::from_be_bytes));
        let count = reader.next(tick).await?;
        let now = Instant::now();
        ensure!(
            count == ticks.len() as u64,
            "a record without its tick was read"
        );
        for &tick in &ticks {
            let due = begin + TICK * tick;
            latencies.record(now.saturating_duration_since(due));
        }
    }
    Ok(latencies)
}

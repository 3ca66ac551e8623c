//! Streams: one producer as fast as it goes, a reader behind it, and a server that is killed with
//! what it has stored.
//!
//! Owns the pump that everything pipelined goes through. Its neighbours: [`works`](super::works)
//! says what is measured, [`peer`](super::peer) how each system is spoken to.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;

use super::peer::{Peer, Produce, Read};
use super::server::Server;
use super::works::{ANY_BATCH, KIB, PER_REQUEST, SMALL, Scale, TOPIC, stored};
use crate::cli::bench::args::Volume;
use crate::cli::bench::course::per_second;

/// Requests without an acknowledgement.
const IN_FLIGHT: usize = 16;
/// Requests that are prepared, and sent over and over.
const PREPARED: usize = 32;

/// Requests of so many records, to be sent over and over: bytes in which nothing repeats.
pub(super) fn requests(size: Volume, records: usize) -> Vec<Vec<Bytes>> {
    let size = size.length();
    let mut noise = vec![0; PREPARED * records * size];
    fastrand::Rng::with_seed(size as u64).fill(&mut noise);
    let mut noise = Bytes::from(noise);
    let request = |_| (0..records).map(|_| noise.split_to(size)).collect();
    (0..PREPARED).map(request).collect()
}

/// Sends requests until there are so many bytes or the time is over, and waits for all
/// acknowledgements; how many records that were.
pub(super) async fn pump(
    producer: &mut impl Produce,
    requests: &[Vec<Bytes>],
    bytes: u64,
    time: Duration,
) -> Result<u64> {
    let begun = Instant::now();
    let (mut records, mut sent, mut in_flight) = (0, 0, 0);
    for request in requests.iter().cycle() {
        if sent >= bytes || begun.elapsed() >= time {
            break;
        }
        if in_flight == IN_FLIGHT {
            producer.acknowledged().await?;
            in_flight -= 1;
        }
        producer.send(request).await?;
        in_flight += 1;
        records += request.len() as u64;
        sent += request.iter().map(|value| value.len() as u64).sum::<u64>();
    }
    for _ in 0..in_flight {
        producer.acknowledged().await?;
    }
    Ok(records)
}

/// Stores a stream; how many records it has, and how long it took.
async fn fill<P: Peer>(
    server: &Server<'_, P>,
    size: Volume,
    bytes: u64,
    time: Duration,
) -> Result<(u64, Duration)> {
    let (peer, at) = (server.peer(), server.at());
    peer.create(at, TOPIC).await?;
    let mut producer = peer.producer(at, TOPIC, ANY_BATCH).await?;
    let requests = requests(size, PER_REQUEST);
    let begun = Instant::now();
    let records = pump(&mut producer, &requests, bytes, time).await?;
    let took = begun.elapsed();
    stored(server, TOPIC, records).await?;
    Ok((records, took))
}

/// Produces, reads it all, and looks at the files.
pub(super) async fn measure<P: Peer>(
    server: &mut Server<'_, P>,
    size: Volume,
    scale: &Scale,
    values: &mut Vec<f64>,
) -> Result<()> {
    server.stop().await?;
    let empty = server.disk_bytes().await?;
    server.start_again().await?;
    let (records, took) = fill(server, size, scale.bytes, scale.time).await?;
    values.push(per_second(records, took));

    server.settle().await;
    let mut reader = server.peer().fetcher(server.at(), TOPIC).await?;
    let (mut count, mut bytes) = (0, 0);
    let begun = Instant::now();
    while count < records {
        let more = reader.next(|value| bytes += value.len() as u64).await?;
        ensure!(more > 0, "only {count} of {records} records can be read");
        count += more;
    }
    let took = begun.elapsed();
    ensure!(
        bytes == records * size.0,
        "{bytes} bytes were read of {records} records of {size}"
    );
    values.push(per_second(count, took));
    drop(reader);

    if size == SMALL {
        server.stop().await?;
        let grown = server.disk_bytes().await?.saturating_sub(empty);
        values.push(grown as f64 / records as f64);
    }
    Ok(())
}

/// Stores, kills, starts, and reads.
pub(super) async fn restart<P: Peer>(
    server: &mut Server<'_, P>,
    scale: &Scale,
    values: &mut Vec<f64>,
) -> Result<()> {
    // However long it takes: this is not what is timed.
    let (records, _) = fill(server, KIB, scale.restart_bytes, Duration::MAX).await?;
    server.kill().await?;
    let begun = Instant::now();
    server.spawn()?;
    let first = async |peer: &P, at| {
        let mut reader = peer.fetcher(at, TOPIC).await?;
        let read = reader.next(|_| ()).await?;
        ensure!(read > 0, "there is no record");
        Ok(())
    };
    server.until(first).await?;
    let took = begun.elapsed();
    values.push(took.as_secs_f64());
    values.push(server.resident()? as f64);
    stored(server, TOPIC, records).await
}

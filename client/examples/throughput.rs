//! Measures a running broker through the client: one durable record at a time, many at once, and
//! both ways of reading them back.
//!
//! ```text
//! cargo run --release -p logdrive-client --example throughput -- [ADDRESS] [RECORDS]
//! ```
//!
//! It creates a topic of its own and deletes it again.

use std::error::Error;
use std::time::{Duration, Instant};

use logdrive_client::{
    Client, ConsumerOptions, FetchOptions, NewRecord, Position, Producer, ProducerOptions,
};

/// Bytes of a record.
const RECORD_BYTES: usize = 100;
/// Records that are sent one by one.
const SINGLE: usize = 2000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:7440".to_owned());
    let records: u64 = arguments
        .next()
        .map_or(Ok(3_000_000), |count| count.parse())?;
    let client = Client::connect(address).await?;
    let topic = format!("throughput-{}", std::process::id());
    let mut producer = client
        .producer(&[&topic], ProducerOptions::default())
        .await?;
    let measured = measure(&client, &mut producer, &topic, records).await;
    producer.close().await?;
    client.delete_topic(&topic).await?;
    measured
}

async fn measure(
    client: &Client,
    producer: &mut Producer,
    topic: &str,
    records: u64,
) -> Result<(), Box<dyn Error>> {
    let value = [b'x'; RECORD_BYTES];
    let mut latencies = Vec::with_capacity(SINGLE);
    for _ in 0..SINGLE {
        let begin = Instant::now();
        producer.send(topic, value).await?;
        latencies.push(begin.elapsed());
    }
    latencies.sort_unstable();
    let (half, most) = (latencies[SINGLE / 2], latencies[SINGLE * 99 / 100]);
    println!("one durable record at a time: p50 {half:?}, p99 {most:?}");

    let record = NewRecord {
        value: &value,
        ..NewRecord::default()
    };
    let begin = Instant::now();
    for _ in 0..records {
        producer.push(topic, &record).await?;
    }
    producer.flush().await?;
    say("pushed and synced", records, begin.elapsed());

    let begin = Instant::now();
    let mut last = None;
    for _ in 0..records {
        last = Some(producer.enqueue(topic, &record).await?);
    }
    if let Some(last) = last {
        last.await?;
    }
    say("enqueued and synced", records, begin.elapsed());

    let begin = Instant::now();
    let options = FetchOptions::default();
    let mut fetcher = client.fetch(topic, Position::Earliest, options).await?;
    let (mut count, mut bytes) = (0, 0);
    while let Some(portion) = fetcher.next().await? {
        for record in portion.records() {
            count += 1;
            bytes += record.record.value.len();
        }
    }
    say("fetched", count, begin.elapsed());
    println!("  {bytes} bytes");

    let begin = Instant::now();
    let options = ConsumerOptions::default();
    let mut consumer = client.consumer("throughput", &[topic], options).await?;
    let mut count = 0;
    while consumer.try_next().await?.is_some() {
        count += 1;
    }
    say("consumed one by one", count, begin.elapsed());
    Ok(())
}

fn say(what: &str, records: u64, took: Duration) {
    let rate = u128::from(records) * 1_000_000 / took.as_micros().max(1);
    println!("{what}: {records} records in {took:.2?}, {rate} records/s");
}

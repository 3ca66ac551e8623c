//! Works through a topic with leases: what is not acked comes again, to this worker or another.
//!
//! ```text
//! cargo run -- serve                                            # in another terminal
//! cargo run -- produce jobs data/logs/dpkg.log
//! cargo run --example work -- jobs workers
//! ```
//!
//! Kill it in the middle and run it again, or run several at once: every line is processed, and
//! only those that were in hand are processed twice.

use std::time::Duration;

use logdrive_client::{Client, ConsumerOptions, Event, Record};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let topic = arguments.next().unwrap_or_else(|| "jobs".to_owned());
    let name = arguments.next().unwrap_or_else(|| "workers".to_owned());
    let server = std::env::var("LOGDRIVE_SERVER").unwrap_or_else(|_| "127.0.0.1:7440".to_owned());
    let client = Client::connect(server).await?;

    let options = ConsumerOptions {
        lease: Some(Duration::from_secs(30)),
        // Work that takes longer keeps its lease as long as this process lives.
        auto_extend: true,
        max_wait: Some(Duration::from_secs(2)),
        max_records: 100,
        ..ConsumerOptions::default()
    };
    let mut consumer = client.consumer(&name, &[&topic], options).await?;
    while let Some(event) = consumer.get_next().await? {
        let Event::Record(record) = event else {
            println!("records were removed before they were read");
            continue;
        };
        if processed(&record) {
            // Returns at once; acks leave together.
            consumer.ack_later(&record).await?;
        } else {
            consumer.nack(&record, Duration::from_secs(10)).await?;
        }
    }
    consumer.settled().await?;
    if consumer.is_held() {
        println!("the rest is leased to others, or waits for another attempt");
    }
    consumer.close().await;
    Ok(())
}

/// A job that fails now and then, and succeeds when it is tried again.
fn processed(record: &Record) -> bool {
    let succeeds = record.deliveries > 0 || record.offset % 100 != 99;
    let value = String::from_utf8_lossy(&record.value);
    println!("{:>8} {succeeds:5} {value}", record.offset);
    succeeds
}

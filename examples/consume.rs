//! Consumes a topic as a stream until nothing has come for two seconds.
//!
//! ```text
//! cargo run -- serve                                            # in another terminal
//! cargo run -- produce app data/logs/dpkg.log
//! cargo run --example consume -- app reports
//! ```
//!
//! Run it twice at once: both are workers of the same consumer, and share its records.

use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt;
use logdrive_client::{Client, ConsumerOptions, Event};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let topic = arguments.next().unwrap_or_else(|| "app".to_owned());
    let name = arguments.next().unwrap_or_else(|| "reports".to_owned());
    let server = std::env::var("LOGDRIVE_SERVER").unwrap_or_else(|_| "127.0.0.1:7440".to_owned());
    let client = Client::connect(server).await?;

    let options = ConsumerOptions {
        max_wait: Some(Duration::from_secs(2)),
        // What a worker takes with it if it dies.
        max_records: 100,
        ..ConsumerOptions::default()
    };
    let consumer = client.consumer(&name, &[&topic], options).await?;
    let mut events = pin!(consumer.into_stream());
    while let Some(event) = events.try_next().await? {
        match event {
            Event::Record(record) => {
                let value = String::from_utf8_lossy(&record.value);
                println!("{:>8} {value}", record.offset);
            }
            Event::Gap { gap, .. } => println!("{} records were removed unread", gap.records),
        }
    }
    let left = client.size(&topic, &name).await?;
    println!("{} records are left for {name}", left.records);
    Ok(())
}

//! Producing, consuming and fetching in a program without an async runtime.
//!
//! ```text
//! cargo run -- serve                                            # in another terminal
//! cargo run --example blocking
//! ```

use logdrive_client::blocking::Client;
use logdrive_client::{ConsumerOptions, Event, FetchOptions, Position, ProducerOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::var("LOGDRIVE_SERVER").unwrap_or_else(|_| "127.0.0.1:7440".to_owned());
    let client = Client::connect(server)?;

    let mut producer = client.producer(&["app"], ProducerOptions::default())?;
    let receipt = producer.send("app", "started")?;
    println!("on disk at offset {}", receipt.offset);
    producer.close()?;

    let mut consumer = client.consumer("blocking", &["app"], ConsumerOptions::default())?;
    while let Some(event) = consumer.try_next()? {
        if let Event::Record(record) = event {
            println!("consumed {} {:?}", record.offset, record.value);
        }
    }

    // Fetching changes nothing, and needs no consumer.
    let last = client.fetch("app", Position::Last(3), FetchOptions::default())?;
    for portion in last {
        for record in portion?.records() {
            let value = String::from_utf8_lossy(record.record.value);
            println!("fetched {} {value}", record.offset);
        }
    }
    Ok(())
}

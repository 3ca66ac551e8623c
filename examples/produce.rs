//! Produces lines of stdin to a topic, as fast as they come, and says when they are on disk.
//!
//! ```text
//! cargo run -- serve                                            # in another terminal
//! cargo run --example produce -- app < data/logs/dpkg.log
//! ```

use std::io::{BufRead, stdin};

use logdrive_client::{Client, NewRecord, ProducerOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let topic = std::env::args().nth(1).unwrap_or_else(|| "app".to_owned());
    let server = std::env::var("LOGDRIVE_SERVER").unwrap_or_else(|_| "127.0.0.1:7440".to_owned());
    let client = Client::connect(server).await?;
    let options = ProducerOptions::default();
    let mut producer = client.producer(&[&topic], options).await?;

    let headers = [("program".to_owned(), b"produce".to_vec())];
    for line in stdin().lock().lines() {
        let line = line?;
        let record = NewRecord {
            value: line.as_bytes(),
            key: Some(b"stdin"),
            headers: &headers,
            ..NewRecord::default()
        };
        // Waits only while too much is under way. `enqueue` would give a future of this record's
        // offset, `send` would wait for it.
        producer.push(&topic, &record).await?;
    }
    producer.flush().await?;
    println!("{} records are on disk", producer.acknowledged());
    producer.close().await?;
    Ok(())
}

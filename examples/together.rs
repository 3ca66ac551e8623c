//! One record in two topics, in both or in neither, and one that waits for its time.
//!
//! ```text
//! cargo run -- serve                                            # in another terminal
//! cargo run --example together
//! ```

use std::time::{Duration, SystemTime};

use logdrive_client::{Client, NewRecord, ProducerOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::var("LOGDRIVE_SERVER").unwrap_or_else(|_| "127.0.0.1:7440".to_owned());
    let client = Client::connect(server).await?;
    let topics = ["orders", "bills"];
    let mut sender = client.sender(&topics, ProducerOptions::default()).await?;

    let paid = NewRecord {
        value: b"order 17 paid",
        ..NewRecord::default()
    };
    for receipt in sender
        .send_all(&[("orders", paid), ("bills", paid)])
        .await?
    {
        println!("{} has it at offset {}", receipt.topic, receipt.offset);
    }

    let remind = NewRecord {
        value: b"order 17: remind",
        ..NewRecord::default()
    };
    let soon = SystemTime::now() + Duration::from_secs(5);
    sender.schedule("orders", &[remind], soon).await?;
    println!("nobody receives the other one within five seconds");
    sender.close().await;
    Ok(())
}

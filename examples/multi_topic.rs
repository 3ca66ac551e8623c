//! One producer and one consumer over several topics: send to any of them, take the next record of
//! whichever has one.
//!
//! ```text
//! cargo run -- serve                                            # in another terminal
//! cargo run --example multi_topic
//! ```

use logdrive_client::{Client, ConsumerOptions, Event, ProducerOptions};

const TOPICS: [&str; 3] = ["web", "database", "audit"];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::var("LOGDRIVE_SERVER").unwrap_or_else(|_| "127.0.0.1:7440".to_owned());
    let client = Client::connect(server).await?;

    let mut producer = client.producer(&TOPICS, ProducerOptions::default()).await?;
    for request in 1..=5 {
        let line = format!("GET /cart/{request} 200");
        producer.send("web", &line).await?;
        let line = format!("SELECT for cart {request}: 3 rows");
        let receipt = producer.send("database", &line).await?;
        let line = format!("cart {request} read, see database {}", receipt.offset);
        producer.send("audit", &line).await?;
    }
    producer.close().await?;

    // Each topic keeps its own order; between topics there is none.
    let mut consumer = client
        .consumer("everything", &TOPICS, ConsumerOptions::default())
        .await?;
    while let Some(event) = consumer.try_next().await? {
        if let Event::Record(record) = event {
            let value = String::from_utf8_lossy(&record.value);
            println!("{:>8} {:>4} {value}", record.topic, record.offset);
        }
    }
    for topic in TOPICS {
        let left = client.size(topic, "everything").await?;
        println!("{topic}: {} records left", left.records);
    }
    Ok(())
}

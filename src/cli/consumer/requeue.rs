//! `logdrive consumer requeue`: dead letters back to the consumer that gave them up.
//!
//! Finds a consumer's dead letters by the headers that the broker gave them; what is delivered again
//! is for the broker to say.

use logdrive_client::{Client, FetchOptions, Position};
use logdrive_protocol::operations::DeliveredRecord;

use super::super::exit::{Exit, Fault};
use super::super::output::{Format, Row};
use super::super::suggest;
use super::{known, print};

/// The header that names the topic a dead letter came from.
const TOPIC: &[u8] = b"logdrive.topic";
/// The header that names the consumer that gave it up.
const CONSUMER: &[u8] = b"logdrive.consumer";

/// Runs the command; no offsets mean all of this consumer.
pub(super) async fn run(
    client: &Client,
    output: Option<Format>,
    (topic, name): (&str, &str),
    dead_letters: &str,
    offsets: Vec<(u64, u64)>,
) -> Result<Exit, Fault> {
    let offsets = if offsets.is_empty() {
        find(client, topic, name, dead_letters).await?
    } else {
        offsets
    };
    let requeued = client.requeue(topic, name, dead_letters, &offsets).await;
    let records = known(client, requeued, topic, name).await?;
    let row = Row::new().count("records", records);
    print(output.unwrap_or(Format::Table), &row)
}

/// The offsets of all dead letters of a consumer, as they are now.
async fn find(
    client: &Client,
    topic: &str,
    name: &str,
    dead_letters: &str,
) -> Result<Vec<(u64, u64)>, Fault> {
    let options = FetchOptions::default();
    let from = Position::Earliest;
    let mut fetcher = match client.fetch(dead_letters, from, options).await {
        Ok(fetcher) => fetcher,
        Err(error) => return Err(suggest::explain(client, error, dead_letters, None).await),
    };
    let mut found: Vec<(u64, u64)> = Vec::new();
    while let Some(portion) = fetcher.next().await? {
        let given_up = |it: &DeliveredRecord<'_>| {
            has(it, TOPIC, topic.as_bytes()) && has(it, CONSUMER, name.as_bytes())
        };
        for record in portion.records().filter(given_up) {
            match found.last_mut() {
                Some((_, to)) if *to == record.offset => *to += 1,
                _ => found.push((record.offset, record.offset + 1)),
            }
        }
    }
    Ok(found)
}

fn has(record: &DeliveredRecord<'_>, name: &[u8], value: &[u8]) -> bool {
    let mut headers = record.record.headers.clone();
    headers.any(|header| header == (name, value))
}

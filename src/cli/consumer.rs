//! `logdrive size` and `logdrive consumer`: looking at a consumer, moving it, removing it.
//!
//! None of these creates a consumer.

use std::io::stdout;

use logdrive_client::{Client, Error, Measured};
use logdrive_protocol::Position;

use super::args::{Common, Consumer, Size};
use super::exit::{Exit, Fault};
use super::output::{Format, Row, print_one};
use super::{connect, suggest};

/// Runs `consumer seek` and `consumer unregister`.
pub(crate) async fn run(common: &Common, command: Consumer) -> Result<Exit, Fault> {
    let client = connect(common).await?;
    match command {
        Consumer::Seek { topic, name, to } => seek(&client, common.output, &topic, &name, to).await,
        Consumer::Unregister { topic, name, yes } => {
            unregister(&client, common.output, &topic, &name, yes).await
        }
    }
}

/// Runs `size`.
pub(crate) async fn size(common: &Common, arguments: Size) -> Result<Exit, Fault> {
    let client = connect(common).await?;
    let (topic, name) = (&arguments.topic, &arguments.consumer);
    let measured = known(&client, client.size(topic, name).await, topic, name).await?;
    let row = Row::new()
        .count("records", measured.records)
        .count("bytes", measured.bytes)
        .count("oldest_age_ms", measured.oldest_age / 1000)
        .count("leased", measured.leased)
        .count("delayed", measured.delayed)
        .count("gaps", measured.gaps);
    print_one(
        common.output.unwrap_or(Format::Table),
        &row,
        &mut stdout().lock(),
    )
    .map_err(|error| Fault::stdout(&error))?;
    Ok(Exit::Done)
}

async fn seek(
    client: &Client,
    output: Option<Format>,
    topic: &str,
    name: &str,
    to: Position,
) -> Result<Exit, Fault> {
    let cursor = known(client, client.seek(topic, name, to).await, topic, name).await?;
    let row = Row::new().count("cursor", cursor);
    print_one(output.unwrap_or(Format::Table), &row, &mut stdout().lock())
        .map_err(|error| Fault::stdout(&error))?;
    Ok(Exit::Done)
}

async fn unregister(
    client: &Client,
    output: Option<Format>,
    topic: &str,
    name: &str,
    yes: bool,
) -> Result<Exit, Fault> {
    if !yes {
        let left = known(client, client.size(topic, name).await, topic, name).await?;
        return Err(
            Fault::new(Exit::Usage, would_go(topic, name, &left)).hint(format_args!(
                "do it with: logdrive consumer unregister {topic} {name} --yes"
            )),
        );
    }
    let done = client.unregister_consumer(topic, name).await;
    known(client, done, topic, name).await?;
    match output {
        None => eprintln!("unregistered consumer {name} of topic {topic}"),
        Some(format) => {
            let row = Row::new()
                .text("topic", topic)
                .text("name", name)
                .flag("unregistered", true);
            print_one(format, &row, &mut stdout().lock()).map_err(|e| Fault::stdout(&e))?;
        }
    }
    Ok(Exit::Done)
}

/// The answer, or the error with the name that was probably meant.
async fn known<T>(
    client: &Client,
    answer: Result<T, Error>,
    topic: &str,
    name: &str,
) -> Result<T, Fault> {
    match answer {
        Ok(answer) => Ok(answer),
        Err(error) => Err(suggest::explain(client, error, topic, Some(name)).await),
    }
}

/// What would be forgotten, in a sentence.
fn would_go(topic: &str, name: &str, left: &Measured) -> String {
    format!(
        "nothing was changed: this would forget the cursor of consumer {name} of topic {topic}, \
         which has {} records ({} bytes) left; the records stay",
        left.records, left.bytes
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_unregistration_says_what_would_go() {
        let left = Measured {
            records: 5,
            bytes: 60,
            ..Measured::default()
        };
        assert_eq!(
            would_go("app", "c1", &left),
            "nothing was changed: this would forget the cursor of consumer c1 of topic app, \
             which has 5 records (60 bytes) left; the records stay"
        );
    }
}

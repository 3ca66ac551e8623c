//! `logdrive size` and `logdrive consumer`: creating a consumer, looking at it, changing, moving and
//! removing it.
//!
//! Only `create` creates one. Its parts: `args`, what can be typed; `rows`, how consumers are shown;
//! `requeue`, which finds dead letters.

mod args;
mod requeue;
mod rows;

use std::io::stdout;

use logdrive_client::{Client, Error, Measured, Setting};
use logdrive_protocol::Position;

pub(crate) use self::args::Consumer;
use super::args::{Common, Size};
use super::exit::{Exit, Fault};
use super::output::{Format, Row, print_list, print_one};
use super::{connect, suggest};

/// Runs `consumer`.
pub(crate) async fn run(common: &Common, command: Consumer) -> Result<Exit, Fault> {
    let client = connect(common).await?;
    let (client, output) = (&client, common.output);
    match command {
        Consumer::Create {
            topic,
            name,
            from,
            settings,
        } => create(client, output, (&topic, &name), from, &settings).await,
        Consumer::List { topic } => list(client, output, &topic).await,
        Consumer::Describe { topic, name } => describe(client, output, &topic, &name).await,
        Consumer::Alter {
            topic,
            name,
            settings,
        } => alter(client, output, &topic, &name, settings).await,
        Consumer::Seek { topic, name, to } => seek(client, output, &topic, &name, to).await,
        Consumer::Pause { topic, name } => {
            let done = client.pause_consumer(&topic, &name).await;
            known(client, done, &topic, &name).await?;
            say(output, &topic, &name, "paused")
        }
        Consumer::Resume { topic, name } => {
            let done = client.resume_consumer(&topic, &name).await;
            known(client, done, &topic, &name).await?;
            say(output, &topic, &name, "resumed")
        }
        Consumer::Requeue {
            topic,
            name,
            from,
            offsets,
        } => requeue::run(client, output, (&topic, &name), &from, offsets).await,
        Consumer::Delete { topic, name, yes } => delete(client, output, &topic, &name, yes).await,
    }
}

async fn create(
    client: &Client,
    output: Option<Format>,
    (topic, name): (&str, &str),
    from: Position,
    settings: &[Setting],
) -> Result<Exit, Fault> {
    let created = client.create_consumer(topic, name, from, settings).await;
    let registered = known(client, created, topic, name).await?;
    if !registered.created {
        let message = format!("consumer {name} of topic {topic} exists");
        return Err(Fault::new(Exit::Exists, message).hint(format_args!(
            "look at it with: logdrive consumer describe {topic} {name}"
        )));
    }
    match output {
        None => {
            let cursor = registered.cursor;
            eprintln!("created consumer {name} of topic {topic} at offset {cursor}");
            Ok(Exit::Done)
        }
        Some(format) => {
            let row = Row::new()
                .text("topic", topic)
                .text("name", name)
                .count("id", registered.consumer.0)
                .count("cursor", registered.cursor);
            print(format, &row)
        }
    }
}

async fn list(client: &Client, output: Option<Format>, topic: &str) -> Result<Exit, Fault> {
    let described = match client.describe_topic(topic).await {
        Ok(described) => described,
        Err(error) => return Err(suggest::explain(client, error, topic, None).await),
    };
    let rows: Vec<Row> = described.consumers.iter().map(rows::summary).collect();
    let format = output.unwrap_or(Format::Table);
    print_list(format, &rows, &mut stdout().lock()).map_err(|error| Fault::stdout(&error))?;
    Ok(Exit::Done)
}

async fn describe(
    client: &Client,
    output: Option<Format>,
    topic: &str,
    name: &str,
) -> Result<Exit, Fault> {
    let described = client.describe_consumer(topic, name).await;
    let described = known(client, described, topic, name).await?;
    print(
        output.unwrap_or(Format::Table),
        &rows::description(&described),
    )
}

async fn alter(
    client: &Client,
    output: Option<Format>,
    topic: &str,
    name: &str,
    settings: Vec<Setting>,
) -> Result<Exit, Fault> {
    let (unset, set): (Vec<_>, Vec<_>) = settings.into_iter().partition(|it| it.value.is_empty());
    let unset: Vec<&str> = unset.iter().map(|it| it.key.as_str()).collect();
    let altered = client.alter_consumer(topic, name, &set, &unset).await;
    let altered = known(client, altered, topic, name).await?;
    let row = Row::new()
        .flag("paused", altered.paused)
        .rows("settings", rows::settings(&altered.settings));
    print(output.unwrap_or(Format::Table), &row)
}

/// What was done, on stderr or in the form that is asked for.
fn say(output: Option<Format>, topic: &str, name: &str, what: &str) -> Result<Exit, Fault> {
    match output {
        None => {
            eprintln!("{what} consumer {name} of topic {topic}");
            Ok(Exit::Done)
        }
        Some(format) => {
            let row = Row::new().text("topic", topic).text("name", name);
            print(format, &row.flag(what, true))
        }
    }
}

fn print(format: Format, row: &Row) -> Result<Exit, Fault> {
    print_one(format, row, &mut stdout().lock()).map_err(|error| Fault::stdout(&error))?;
    Ok(Exit::Done)
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
    print(common.output.unwrap_or(Format::Table), &row)
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
    print(output.unwrap_or(Format::Table), &row)
}

async fn delete(
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
                "do it with: logdrive consumer delete {topic} {name} --yes"
            )),
        );
    }
    let done = client.unregister_consumer(topic, name).await;
    known(client, done, topic, name).await?;
    say(output, topic, name, "unregistered")
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

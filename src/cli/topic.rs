//! `logdrive topic`: create, alter, list, describe, purge, delete.
//!
//! Owns how topics are shown, and the refusal to delete and purge without `--yes`.

use std::io::stdout;

use logdrive_client::{Client, Setting, TopicDescribed, TopicSummary};
use logdrive_protocol::Position;

use super::args::{Common, Topic};
use super::exit::{Exit, Fault};
use super::output::{Format, Row, print_list, print_one};
use super::{connect, suggest};

/// Runs one of the commands.
pub(crate) async fn run(common: &Common, command: Topic) -> Result<Exit, Fault> {
    let client = connect(common).await?;
    let format = common.output.unwrap_or(Format::Table);
    match command {
        Topic::Create { name, settings } => create(&client, common.output, &name, settings).await,
        Topic::Alter { name, settings } => alter(&client, common.output, &name, settings).await,
        Topic::Purge { name, before, yes } => {
            if !yes {
                return Err(not_purged(&describe(&client, &name).await?, before));
            }
            purge(&client, common.output, &name, before).await
        }
        Topic::List => {
            let topics = client.list_topics("").await?;
            let rows: Vec<Row> = topics.iter().map(summary).collect();
            print_list(format, &rows, &mut stdout().lock()).map_err(|e| Fault::stdout(&e))?;
            if topics.is_empty() && format == Format::Table {
                eprintln!("no topics; create one with: logdrive topic create NAME");
            }
            Ok(Exit::Done)
        }
        Topic::Describe { name } => {
            let described = describe(&client, &name).await?;
            let row = description(&described);
            print_one(format, &row, &mut stdout().lock()).map_err(|e| Fault::stdout(&e))?;
            Ok(Exit::Done)
        }
        Topic::Delete { name, yes } => delete(&client, common.output, &name, yes).await,
    }
}

async fn create(
    client: &Client,
    output: Option<Format>,
    name: &str,
    settings: Vec<(String, String)>,
) -> Result<Exit, Fault> {
    let settings: Vec<Setting> = settings.into_iter().map(setting).collect();
    let created = match client.create_topic(name, &settings, false).await {
        Ok(created) => created,
        Err(error) => return Err(Fault::of_change(&error)),
    };
    match output {
        None => eprintln!("created topic {name}"),
        Some(format) => {
            let row = Row::new().text("name", name).count("id", created.topic.0);
            print_one(format, &row, &mut stdout().lock()).map_err(|e| Fault::stdout(&e))?;
        }
    }
    Ok(Exit::Done)
}

fn setting((key, value): (String, String)) -> Setting {
    Setting { key, value }
}

async fn alter(
    client: &Client,
    output: Option<Format>,
    name: &str,
    settings: Vec<(String, String)>,
) -> Result<Exit, Fault> {
    let (unset, set): (Vec<_>, Vec<_>) = settings.into_iter().partition(|it| it.1.is_empty());
    let unset: Vec<&str> = unset.iter().map(|(key, _)| key.as_str()).collect();
    let set: Vec<Setting> = set.into_iter().map(setting).collect();
    let settings = match client.alter_topic(name, &set, &unset).await {
        Ok(settings) => settings,
        Err(error) => return Err(suggest::explain(client, error, name, None).await),
    };
    let shown = settings
        .iter()
        .map(|it| Row::new().text("name", &it.key).text("value", &it.value));
    let row = Row::new()
        .text("name", name)
        .rows("settings", shown.collect());
    print_one(output.unwrap_or(Format::Table), &row, &mut stdout().lock())
        .map_err(|e| Fault::stdout(&e))?;
    Ok(Exit::Done)
}

async fn purge(
    client: &Client,
    output: Option<Format>,
    name: &str,
    before: Position,
) -> Result<Exit, Fault> {
    let purged = match client.purge_topic(name, before).await {
        Ok(purged) => purged,
        Err(error) => return Err(suggest::explain(client, error, name, None).await),
    };
    let row = Row::new()
        .text("name", name)
        .count("records", purged.records)
        .count("bytes", purged.bytes)
        .count("start", purged.log_start);
    print_one(output.unwrap_or(Format::Table), &row, &mut stdout().lock())
        .map_err(|e| Fault::stdout(&e))?;
    Ok(Exit::Done)
}

async fn describe(client: &Client, name: &str) -> Result<TopicDescribed, Fault> {
    match client.describe_topic(name).await {
        Ok(described) => Ok(described),
        Err(error) => Err(suggest::explain(client, error, name, None).await),
    }
}

async fn delete(
    client: &Client,
    output: Option<Format>,
    name: &str,
    yes: bool,
) -> Result<Exit, Fault> {
    if !yes {
        let topic = describe(client, name).await?;
        return Err(Fault::new(Exit::Usage, would_go(&topic)).hint(format_args!(
            "do it with: logdrive topic delete {name} --yes"
        )));
    }
    match client.delete_topic(name).await {
        Ok(()) => {
            match output {
                None => eprintln!("deleted topic {name}"),
                Some(format) => {
                    let row = Row::new().text("name", name).flag("deleted", true);
                    print_one(format, &row, &mut stdout().lock()).map_err(|e| Fault::stdout(&e))?;
                }
            }
            Ok(Exit::Done)
        }
        Err(error) => Err(suggest::explain(client, error, name, None).await),
    }
}

/// The refusal to remove records without `--yes`.
fn not_purged(topic: &TopicDescribed, before: Position) -> Fault {
    let name = &topic.name;
    let told = format_args!(
        "nothing was changed: this would remove the records before {before} of topic {name}, which \
         has {} from {} up to {}, for good",
        topic.records, topic.log_start, topic.high_watermark
    );
    Fault::new(Exit::Usage, told).hint(format_args!(
        "do it with: logdrive topic purge {name} --before {before} --yes"
    ))
}

/// What a deletion would take away, in a sentence.
fn would_go(topic: &TopicDescribed) -> String {
    let names: Vec<&str> = topic.consumers.iter().map(|it| it.name.as_str()).collect();
    let consumers = match names.len() {
        0 => "no consumers".to_owned(),
        count => format!("{count} consumers ({})", names.join(", ")),
    };
    format!(
        "nothing was changed: this would delete topic {} with {} records ({} bytes), {consumers} \
         and {} producers, for good",
        topic.name, topic.records, topic.bytes, topic.producers
    )
}

fn summary(topic: &TopicSummary) -> Row {
    Row::new()
        .text("name", &topic.name)
        .count("id", topic.topic.0)
        .count("records", topic.records)
        .count("bytes", topic.bytes)
        .count("start", topic.log_start)
        .count("end", topic.high_watermark)
}

fn description(topic: &TopicDescribed) -> Row {
    let settings = topic
        .settings
        .iter()
        .map(|setting| {
            Row::new()
                .text("name", &setting.key)
                .text("value", &setting.value)
        })
        .collect();
    let consumers = topic
        .consumers
        .iter()
        .map(|consumer| {
            Row::new()
                .text("name", &consumer.name)
                .count("id", consumer.consumer.0)
                .count("cursor", consumer.cursor)
                .count("records", consumer.records)
                .count("bytes", consumer.bytes)
                .count("workers", u64::from(consumer.workers))
        })
        .collect();
    Row::new()
        .text("name", &topic.name)
        .count("id", topic.topic.0)
        .time("created", topic.created_at)
        .count("records", topic.records)
        .count("bytes", topic.bytes)
        .count("start", topic.log_start)
        .count("end", topic.high_watermark)
        .time("last_append", topic.last_append_time)
        .count("producers", u64::from(topic.producers))
        .text("held_by", &topic.held_by)
        .text("owner", &topic.owner)
        .rows("settings", settings)
        .rows("consumers", consumers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use logdrive_client::ConsumerSummary;

    #[test]
    fn a_refused_deletion_says_what_would_go() {
        let consumer = |name: &str| ConsumerSummary {
            name: name.to_owned(),
            ..ConsumerSummary::default()
        };
        let topic = TopicDescribed {
            name: "app".to_owned(),
            records: 12,
            bytes: 340,
            producers: 1,
            consumers: vec![consumer("c1"), consumer("c2")],
            ..TopicDescribed::default()
        };
        assert_eq!(
            would_go(&topic),
            "nothing was changed: this would delete topic app with 12 records (340 bytes), \
             2 consumers (c1, c2) and 1 producers, for good"
        );
    }
}

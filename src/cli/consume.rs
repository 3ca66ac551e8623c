//! `logdrive consume`: takes the next records for a consumer and prints them.
//!
//! The cursor's move is durable before the records arrive here, so everything taken is written
//! before more is taken, a signal is heeded only between two answers, and what could not be written
//! is named with the command that takes the cursor back.

use std::io::Write;
use std::pin::pin;
use std::time::Duration;

use logdrive_client::{Client, Consumer, ConsumerOptions, Portion};
use tokio::time::timeout;

use super::args::{Common, Consume};
use super::exit::{Exit, Fault};
use super::output::Format;
use super::progress::Progress;
use super::records::{RecordWriter, describe_gap, stdout};
use super::signals::Signals;
use super::{connect, suggest};

/// How long one request waits for records when following: a signal waits no longer either.
const FOLLOW_WAIT: Duration = Duration::from_millis(500);

/// How long an interrupted request may still take.
const LAST_ANSWER_WAIT: Duration = Duration::from_secs(1);

/// Runs the command.
pub(crate) async fn run(common: &Common, arguments: Consume) -> Result<Exit, Fault> {
    let client = connect(common).await?;
    let mut consumer = open(&client, &arguments).await?;
    let mut writer = RecordWriter::new(stdout()?, common.output.unwrap_or(Format::Raw));
    let progress = Progress::beside_stdout(arguments.count, "records");
    let mut signals = Signals::new()?;
    let mut interrupted = pin!(signals.wait());
    let wait = if arguments.follow {
        FOLLOW_WAIT
    } else {
        Duration::ZERO
    };
    let mut stopping = false;
    let ended = loop {
        if stopping {
            break Ok(Exit::Interrupted);
        }
        let wanted = arguments
            .count
            .map(|count| count.saturating_sub(writer.count()));
        if wanted == Some(0) {
            break Ok(Exit::Done);
        }
        consumer.set_max_records(limit(wanted));
        let mut asked = pin!(consumer.get_batch(Some(wait)));
        let batch = tokio::select! {
            batch = &mut asked => batch,
            () = interrupted.as_mut() => {
                stopping = true;
                // What is being given now is worth waiting for: it would be taken by nobody.
                match timeout(LAST_ANSWER_WAIT, asked).await {
                    Ok(batch) => batch,
                    Err(_) => break Ok(Exit::Interrupted),
                }
            }
        };
        match batch {
            Ok(Some(portion)) => {
                for gap in portion.gaps() {
                    progress.say(&describe_gap(&arguments.topic, gap));
                }
                write(&mut writer, &portion, &arguments)?;
                progress.set(writer.count());
            }
            Ok(None) if arguments.follow => {}
            Ok(None) => break Ok(Exit::Done),
            Err(error) => break Err(Fault::of_change(&error)),
        }
    };
    consumer.close().await;
    writer.finish().map_err(|error| Fault::stdout(&error))?;
    ended
}

/// The limit of one request: 0 is none.
fn limit(wanted: Option<u64>) -> u32 {
    wanted.map_or(0, |wanted| u32::try_from(wanted).unwrap_or(u32::MAX))
}

async fn open(client: &Client, arguments: &Consume) -> Result<Consumer, Fault> {
    let (topic, name) = (arguments.topic.as_str(), arguments.consumer.as_str());
    let registered = match client
        .register_consumer(topic, name, arguments.from, true)
        .await
    {
        Ok(registered) => registered,
        Err(error) => return Err(suggest::explain(client, error, topic, Some(name)).await),
    };
    if registered.created {
        eprintln!(
            "created consumer {name} of topic {topic} at offset {}",
            registered.cursor
        );
    }
    let options = ConsumerOptions {
        create: false,
        ..ConsumerOptions::default()
    };
    Ok(client.consumer(name, &[topic], options).await?)
}

/// Writes what one answer brought.
fn write(
    writer: &mut RecordWriter<impl Write>,
    portion: &Portion,
    arguments: &Consume,
) -> Result<(), Fault> {
    let mut first = None;
    for record in portion.records() {
        first = first.or(Some(record.offset));
        if let Err(error) = writer.push(&arguments.topic, &record) {
            return Err(unwritten(&error, first, portion, arguments));
        }
    }
    writer
        .flush()
        .map_err(|error| unwritten(&error, first, portion, arguments))
}

/// Records that were taken and perhaps not written: the cursor is past them, so it is said which.
fn unwritten(
    error: &std::io::Error,
    first: Option<u64>,
    portion: &Portion,
    arguments: &Consume,
) -> Fault {
    let mut fault = Fault::stdout(error);
    if let Some(first) = first {
        let last = portion.next_offset().saturating_sub(1);
        fault.message = format!(
            "stdout was closed: records {first} to {last} of topic {} were consumed and may not \
             have been read",
            arguments.topic
        );
        fault.hint = format!(
            "take them again with: logdrive consumer seek {} {} {first}",
            arguments.topic, arguments.consumer
        );
    }
    fault
}

#[cfg(test)]
mod tests {
    use super::limit;

    #[test]
    fn a_request_never_asks_for_more_than_is_wanted() {
        assert_eq!((limit(None), limit(Some(5))), (0, 5));
        assert_eq!(limit(Some(1 << 40)), u32::MAX);
    }
}

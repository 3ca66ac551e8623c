//! `logdrive consume`: takes the next records for a consumer and prints them.
//!
//! The cursor's move is durable before the records arrive here, so everything taken is written
//! before more is taken, a signal is heeded only between two answers, and what could not be written
//! is named with the command that takes the cursor back.
//!
//! With a lease nothing can get lost that way: records are acked when they are written and flushed,
//! and given back when they are not.

use std::io::Write;
use std::pin::{Pin, pin};
use std::time::Duration;

use logdrive_client::{Client, Consumer, ConsumerOptions, Error, ErrorCode, Portion};
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
    let mut late = false;
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
        let taken = take(&mut consumer, wait, interrupted.as_mut(), &mut stopping).await;
        let Some(batch) = taken else {
            break Ok(Exit::Interrupted);
        };
        match batch {
            Ok(Some(portion)) => {
                for gap in portion.gaps() {
                    progress.say(&describe_gap(&arguments.topic, gap));
                }
                if let Err(fault) = write(&mut writer, &portion, &arguments) {
                    break Err(fault);
                }
                progress.set(writer.count());
                if let Err(error) = ack(&consumer, &portion).await {
                    if error.code() != Some(ErrorCode::LeaseLost) {
                        break Err(Fault::of_change(&error));
                    }
                    progress.say(&written_late(&portion, &arguments));
                    late = true;
                }
            }
            Ok(None) if arguments.follow => {}
            Ok(None) => {
                if consumer.is_held() {
                    progress.say(&held(&arguments));
                }
                break Ok(Exit::Done);
            }
            Err(error) => break Err(Fault::of_change(&error)),
        }
    };
    consumer.close().await;
    let finished = writer.finish().map_err(|error| Fault::stdout(&error));
    let exit = ended?;
    finished?;
    Ok(match exit {
        Exit::Done if late => Exit::Failed,
        exit => exit,
    })
}

/// What there is within `wait`; `None` if a signal came first and nothing was on its way. A signal
/// sets `stopping`.
async fn take(
    consumer: &mut Consumer,
    wait: Duration,
    interrupted: Pin<&mut impl Future<Output = ()>>,
    stopping: &mut bool,
) -> Option<Result<Option<Portion>, Error>> {
    let mut asked = pin!(consumer.get_batch(Some(wait)));
    tokio::select! {
        batch = &mut asked => Some(batch),
        () = interrupted => {
            *stopping = true;
            // What is being given now is worth waiting for: it would be taken by nobody.
            timeout(LAST_ANSWER_WAIT, asked).await.ok()
        }
    }
}

/// Acks what was written, if it was leased.
async fn ack(consumer: &Consumer, portion: &Portion) -> Result<(), Error> {
    match portion.lease() {
        Some(_) => consumer.ack_portion(portion).await,
        None => Ok(()),
    }
}

fn written_late(portion: &Portion, arguments: &Consume) -> String {
    let offsets: Vec<u64> = portion.records().map(|it| it.offset).collect();
    let (first, last) = (offsets.first().unwrap_or(&0), offsets.last().unwrap_or(&0));
    format!(
        "records {first} to {last} of topic {} were written when their lease was over: they will \
         be delivered again; use a longer --lease",
        arguments.topic
    )
}

fn held(arguments: &Consume) -> String {
    let (topic, name) = (&arguments.topic, &arguments.consumer);
    format!(
        "records are left that cannot be given now: they are leased to others or wait, or the \
         consumer is paused; see: logdrive consumer describe {topic} {name}"
    )
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
        lease: arguments.lease,
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
    if let Some(first) = first
        && portion.lease().is_none()
    {
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

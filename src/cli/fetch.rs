//! `logdrive fetch`: prints records and changes nothing.
//!
//! The client asks for the next answer while the last one is written; each record is copied once,
//! from the answer to the buffer in front of stdout. With filters the broker looks through much
//! for little: the bar then counts the records that were looked through.

use std::fs::File;

use logdrive_client::{Client, End, FetchOptions, Fetcher, Filter, Portion};

use super::args::{Common, Fetch};
use super::exit::{Exit, Fault};
use super::output::Format;
use super::progress::Progress;
use super::records::{RecordWriter, describe_gap, stdout};
use super::signals::Signals;
use super::{connect, suggest};

/// Runs the command.
pub(crate) async fn run(common: &Common, arguments: Fetch) -> Result<Exit, Fault> {
    let client = connect(common).await?;
    let mut fetcher = open(&client, &arguments).await?;
    let progress = begin_progress(&fetcher, &arguments);
    let format = common.output.unwrap_or(Format::Raw);
    let mut writer = RecordWriter::new(stdout()?, format);
    let ended = copy(&mut fetcher, &mut writer, &arguments, &progress).await;
    // What came before an error is written too.
    writer.finish().map_err(|error| Fault::stdout(&error))?;
    ended
}

/// A bar that counts records, or with a filter those that were looked through.
fn begin_progress(fetcher: &Fetcher, arguments: &Fetch) -> Progress {
    let left = fetcher
        .end_offset()
        .map(|end| end.saturating_sub(fetcher.position()));
    if arguments.wanted.is_any() {
        // How much of it matches, and so how far a count leads, nobody knows.
        return Progress::new(left, "records looked through");
    }
    let total = match (left, arguments.count) {
        (Some(left), Some(count)) => Some(left.min(count)),
        (left, count) => left.or(count),
    };
    Progress::beside_stdout(total, "records")
}

/// Writes all that the fetcher gives.
async fn copy(
    fetcher: &mut Fetcher,
    writer: &mut RecordWriter<File>,
    arguments: &Fetch,
    progress: &Progress,
) -> Result<Exit, Fault> {
    let mut signals = Signals::new()?;
    let begin = fetcher.position();
    loop {
        let portion = tokio::select! {
            portion = fetcher.next() => portion?,
            () = signals.wait() => return Ok(Exit::Interrupted),
        };
        let Some(portion) = portion else {
            return Ok(Exit::Done);
        };
        for gap in portion.gaps() {
            progress.say(&describe_gap(&arguments.topic, gap));
        }
        let searches = arguments.wanted.is_any();
        // What a search finds is seen when it is found, not when a buffer is full.
        let at_once = arguments.follow || searches && portion.record_count() > 0;
        let mut write = || write(writer, arguments, &portion, at_once);
        let written = if searches {
            progress.aside(write)
        } else {
            write()
        };
        written.map_err(|error| Fault::stdout(&error))?;
        progress.set(if searches {
            fetcher.position().saturating_sub(begin)
        } else {
            writer.count()
        });
    }
}

fn write(
    writer: &mut RecordWriter<File>,
    arguments: &Fetch,
    portion: &Portion,
    at_once: bool,
) -> std::io::Result<()> {
    for record in portion.records() {
        writer.push(&arguments.topic, &record)?;
    }
    if at_once { writer.flush() } else { Ok(()) }
}

async fn open(client: &Client, arguments: &Fetch) -> Result<Fetcher, Fault> {
    // No limit is 0 to the client; a person who types 0 wants none.
    let (max_records, end) = match (arguments.count, arguments.to, arguments.follow) {
        (Some(0), ..) => (0, End::Before(arguments.from)),
        (count, Some(to), _) => (count.unwrap_or(0), End::Before(to)),
        (count, None, true) => (count.unwrap_or(0), End::Follow),
        (count, None, false) => (count.unwrap_or(0), End::HighWatermark),
    };
    let options = FetchOptions {
        end,
        max_records,
        filter: Filter::from(arguments.wanted.clone()),
        ..FetchOptions::default()
    };
    let topic = arguments.topic.as_str();
    match client.fetch(topic, arguments.from, options).await {
        Ok(fetcher) => Ok(fetcher),
        Err(error) => Err(suggest::explain(client, error, topic, None).await),
    }
}

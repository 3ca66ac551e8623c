//! `logdrive fetch`: prints records and changes nothing.
//!
//! The client asks for the next answer while the last one is written; each record is copied once,
//! from the answer to the buffer in front of stdout.

use std::fs::File;

use logdrive_client::{Client, End, FetchOptions, Fetcher};

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
    let total = match (fetcher.end_offset(), arguments.count) {
        (Some(end), count) => {
            let left = end.saturating_sub(fetcher.position());
            Some(count.map_or(left, |count| count.min(left)))
        }
        (None, count) => count,
    };
    let progress = Progress::beside_stdout(total, "records");
    let format = common.output.unwrap_or(Format::Raw);
    let mut writer = RecordWriter::new(stdout()?, format);
    let ended = copy(&mut fetcher, &mut writer, &arguments, &progress).await;
    // What came before an error is written too.
    writer.finish().map_err(|error| Fault::stdout(&error))?;
    ended
}

/// Writes all that the fetcher gives.
async fn copy(
    fetcher: &mut Fetcher,
    writer: &mut RecordWriter<File>,
    arguments: &Fetch,
    progress: &Progress,
) -> Result<Exit, Fault> {
    let mut signals = Signals::new()?;
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
        for record in portion.records() {
            writer
                .push(&arguments.topic, &record)
                .map_err(|error| Fault::stdout(&error))?;
        }
        progress.set(writer.count());
        if arguments.follow {
            writer.flush().map_err(|error| Fault::stdout(&error))?;
        }
    }
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
        ..FetchOptions::default()
    };
    let topic = arguments.topic.as_str();
    match client.fetch(topic, arguments.from, options).await {
        Ok(fetcher) => Ok(fetcher),
        Err(error) => Err(suggest::explain(client, error, topic, None).await),
    }
}

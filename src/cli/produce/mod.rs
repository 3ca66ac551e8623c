//! `logdrive produce`: every line of files, or of stdin, becomes a record.
//!
//! ```text
//!  a thread          this task                     the client's tasks
//!  files ─ blocks ─► lines ─► records ─ window ──► batches ─► broker
//!           bounded                    bounded  ◄── acknowledged
//! ```
//!
//! Nothing is counted before the broker has acknowledged it. A line over the record limit is named
//! and left out, the rest goes on; reading waits when the client's window is full.

mod apart;
mod input;
mod shown;

use std::io::stdout;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::HumanCount;
use logdrive_client::{
    Ack as ClientAck, Client, Error, NewRecord, Producer, ProducerOptions, Unacknowledged,
};

use super::args::{Ack, Common, Produce};
use super::connect;
use super::exit::{Exit, Fault};
use super::lines::{Line, Lines};
use super::output::{Row, print_one};
use super::signals::Signals;
use input::Piece;
use shown::{Awaited, Shown};

/// How long an interrupted command waits for what is on its way.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// Lines over the limit that are named one by one; all are counted.
const OVERLONG_NAMED: u64 = 20;

/// Runs the command.
pub(crate) async fn run(common: &Common, arguments: Produce) -> Result<Exit, Fault> {
    apart::check_topics(&arguments)?;
    let inputs = input::of(&arguments.files)?;
    let client = connect(common).await?;
    let limit = line_limit(&client, &arguments).await?;
    if apart::is_asked(&arguments) {
        return apart::run(common, &client, &arguments, (inputs, limit)).await;
    }
    let producer = open(&client, &arguments).await?;
    for topic in producer.created_topics() {
        eprintln!("created topic {topic}");
    }
    let mut feed = Feed {
        shown: Shown::new(producer.acknowledgements(), input::total_bytes(&inputs)),
        arguments: &arguments,
        producer,
        signals: Signals::new()?,
        limit,
        file: String::new(),
        read: Counts::default(),
    };
    let started = Instant::now();
    let stopped = feed.all(input::read(inputs)).await.err();
    let told = feed.end(stopped, started).await;
    if let Some(format) = common.output {
        let row = told.row(&arguments);
        print_one(format, &row, &mut stdout().lock()).map_err(|error| Fault::stdout(&error))?;
    }
    told.exit(arguments.ack)
}

/// Bytes that a line may have beside key and headers, by the broker's own limit.
async fn line_limit(client: &Client, arguments: &Produce) -> Result<usize, Fault> {
    let limit = client.limits().await?.record_bytes;
    let around = record(arguments, 0, b"").content_len();
    (limit as usize).checked_sub(around).ok_or_else(|| {
        Fault::new(
            Exit::Usage,
            format_args!("key and headers have {around} bytes, a record may have {limit} in all"),
        )
    })
}

async fn open(client: &Client, arguments: &Produce) -> Result<Producer, Fault> {
    let defaults = ProducerOptions::default();
    let options = ProducerOptions {
        ack: match arguments.ack {
            Ack::Synced => ClientAck::Synced,
            Ack::Accepted => ClientAck::Accepted,
        },
        compression: arguments
            .compression
            .map_or(defaults.compression, Into::into),
        ..defaults
    };
    Ok(client.producer(&[&arguments.topic], options).await?)
}

/// A line as it is produced.
fn record<'a>(arguments: &'a Produce, timestamp: u64, line: &'a [u8]) -> NewRecord<'a> {
    NewRecord {
        timestamp,
        severity: arguments.severity.unwrap_or_default().0,
        key: arguments.key.as_deref().map(str::as_bytes),
        headers: &arguments.headers,
        value: line,
    }
}

/// Microseconds since 1970 UTC.
fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// What was read so far.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    records: u64,
    bytes: u64,
    overlong: u64,
}

/// The command while it runs.
struct Feed<'a> {
    arguments: &'a Produce,
    producer: Producer,
    shown: Shown,
    signals: Signals,
    /// Longest line, in bytes.
    limit: usize,
    /// The input that is read.
    file: String,
    read: Counts,
}

/// Why lines were no longer handed over before the end of the inputs.
enum Stopped {
    Signal,
    Fault(Fault),
}

impl Feed<'_> {
    /// Hands all inputs over, one after the other.
    async fn all(&mut self, mut pieces: tokio::sync::mpsc::Receiver<Piece>) -> Result<(), Stopped> {
        let mut lines = Lines::new(self.limit);
        loop {
            self.shown.read(self.read.records, self.read.bytes);
            let piece = self
                .shown
                .until(Awaited::Lines, pieces.recv(), &mut self.signals)
                .await;
            let piece = piece.ok_or(Stopped::Signal)?;
            match piece {
                None => return Ok(()),
                Some(Piece::Begin(name)) => {
                    self.file = name;
                    lines = Lines::new(self.limit);
                }
                Some(Piece::Block(block)) => {
                    let (mut rest, time) = (&block[..], now());
                    while let Some(line) = lines.next(&mut rest) {
                        self.line(&line, time).await?;
                    }
                    self.read.bytes += block.len() as u64;
                }
                Some(Piece::End) => {
                    if let Some(line) = lines.last() {
                        self.line(&line, now()).await?;
                    }
                }
                Some(Piece::Failed(fault)) => return Err(Stopped::Fault(fault)),
            }
        }
    }

    /// Hands one line over, waiting for room in the window.
    async fn line(&mut self, line: &Line<'_>, time: u64) -> Result<(), Stopped> {
        let line = match *line {
            Line::Whole(line) => line,
            Line::TooLong { number, bytes } => {
                self.leave_out(number, bytes);
                return Ok(());
            }
        };
        self.read.records += 1;
        let record = record(self.arguments, time, line);
        let push = self.producer.push(&self.arguments.topic, &record);
        match self
            .shown
            .until(Awaited::Broker, push, &mut self.signals)
            .await
        {
            Some(pushed) => pushed.map_err(|error| Stopped::Fault(Fault::of_change(&error))),
            None => Err(Stopped::Signal),
        }
    }

    fn leave_out(&mut self, number: u64, bytes: u64) {
        self.read.overlong += 1;
        if self.read.overlong <= OVERLONG_NAMED {
            self.shown.say(&format!(
                "{}: line {number} has {bytes} bytes, over the limit of {}: left out",
                self.file, self.limit
            ));
        }
    }

    /// Waits for what is on its way and closes the producer.
    async fn end(mut self, stopped: Option<Stopped>, started: Instant) -> Told {
        self.shown.read_all(self.read.records);
        let interrupted = matches!(stopped, Some(Stopped::Signal));
        let flush = self.producer.flush();
        let flushed = if interrupted {
            tokio::time::timeout(LAST_WAIT, flush).await.ok()
        } else {
            self.shown
                .until(Awaited::Broker, flush, &mut self.signals)
                .await
        };
        let interrupted = interrupted || flushed.is_none();
        if flushed.is_some() {
            // What it could say was said by the flush.
            let _ = self.producer.close().await;
        }
        let fault = match (stopped, flushed) {
            (_, Some(Err(unacknowledged))) => Some(unacknowledged_fault(&unacknowledged)),
            (Some(Stopped::Fault(fault)), _) => Some(fault),
            _ => None,
        };
        Told {
            read: self.read,
            acknowledged: self.shown.acknowledged(),
            interrupted,
            fault,
            elapsed: started.elapsed(),
        }
    }
}

fn unacknowledged_fault(unacknowledged: &Unacknowledged) -> Fault {
    let unknown: u64 = unacknowledged
        .topics
        .iter()
        .map(|topic| topic.unknown)
        .sum();
    let first: Option<&Error> = unacknowledged.topics.first().map(|topic| &topic.error);
    let mut fault = first.map_or_else(
        || Fault::new(Exit::Failed, "not everything was acknowledged"),
        Fault::of_change,
    );
    if unknown > 0 {
        fault.exit = Exit::OutcomeUnknown;
        fault.message = format!(
            "{unknown} records may have been stored or not: {}",
            fault.message
        );
    }
    fault
}

/// How it ended.
struct Told {
    read: Counts,
    acknowledged: u64,
    interrupted: bool,
    fault: Option<Fault>,
    elapsed: Duration,
}

impl Told {
    fn row(&self, arguments: &Produce) -> Row {
        Row::new()
            .text("topic", &arguments.topic)
            .count("read", self.read.records)
            .count("acknowledged", self.acknowledged)
            .count("too_long", self.read.overlong)
            .count("bytes_read", self.read.bytes)
            .text("durability", durability(arguments.ack))
            .count(
                "elapsed_ms",
                u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX),
            )
    }

    /// Says what was acknowledged, and ends accordingly.
    fn exit(self, ack: Ack) -> Result<Exit, Fault> {
        let millis = self.elapsed.as_millis().max(1);
        let rate = u128::from(self.acknowledged) * 1000 / millis;
        let rate = HumanCount(u64::try_from(rate).unwrap_or(u64::MAX));
        let seconds = self.elapsed.as_secs_f64();
        eprintln!(
            "{} of {} records acknowledged as {} in {seconds:.2} s ({rate}/s)",
            HumanCount(self.acknowledged),
            HumanCount(self.read.records),
            durability(ack),
        );
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.interrupted {
            let open = self.read.records.saturating_sub(self.acknowledged);
            let told = match open {
                0 => "interrupted".to_owned(),
                open => format!("interrupted: {open} records may have been stored or not"),
            };
            return Err(Fault::new(Exit::Interrupted, told));
        }
        if self.read.overlong > 0 {
            return Err(Fault::new(
                Exit::Failed,
                format_args!("{} lines were too long and left out", self.read.overlong),
            )
            .hint("split them, or store them elsewhere and produce a reference"));
        }
        Ok(Exit::Done)
    }
}

fn durability(ack: Ack) -> &'static str {
    match ack {
        Ack::Synced => "synced",
        Ack::Accepted => "accepted",
    }
}

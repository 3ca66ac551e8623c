//! Lines that are not simply appended to one topic: those for several topics together, and those
//! that wait for their time.
//!
//! What one block of input holds is one request, answered before the next is sent. Reading and
//! cutting are the command's own; its neighbour is the client's sender.

use std::io::stdout;
use std::time::{Instant, SystemTime};

use indicatif::HumanCount;
use logdrive_client::{Client, NewRecord, ProducerOptions, Sender};

use super::input::Input;
use super::{Piece, input, now, record};
use crate::cli::args::{Common, Produce};
use crate::cli::exit::{Exit, Fault};
use crate::cli::lines::{Line, Lines};
use crate::cli::output::{Row, print_one};
use crate::cli::signals::Signals;

/// Whether the arguments ask for it.
pub(super) fn is_asked(arguments: &Produce) -> bool {
    !arguments.also.is_empty() || arguments.delay.is_some() || arguments.at.is_some()
}

/// Every topic is named once: no topic takes two batches of one transaction.
pub(super) fn check_topics(arguments: &Produce) -> Result<(), Fault> {
    let mut seen = vec![&arguments.topic];
    for topic in &arguments.also {
        if seen.contains(&topic) {
            let told = format_args!("topic {topic} is named twice: nothing was produced");
            return Err(Fault::new(Exit::Usage, told).hint("name each topic once"));
        }
        seen.push(topic);
    }
    Ok(())
}

/// The lines of a block, with where they came from.
#[derive(Default)]
struct Block {
    lines: Vec<(u64, Vec<u8>)>,
    file: String,
    limit: usize,
    too_long: u64,
}

impl Block {
    fn take(&mut self, line: &Line<'_>) {
        match *line {
            Line::Whole(line) => self.lines.push((now(), line.to_vec())),
            Line::TooLong { number, bytes } => {
                self.too_long += 1;
                let (file, limit) = (&self.file, self.limit);
                eprintln!(
                    "{file}: line {number} has {bytes} bytes, over the limit of {limit}: left out"
                );
            }
        }
    }
}

/// Runs the command.
pub(super) async fn run(
    common: &Common,
    client: &Client,
    arguments: &Produce,
    (inputs, limit): (Vec<Input>, usize),
) -> Result<Exit, Fault> {
    let mut topics = vec![arguments.topic.as_str()];
    topics.extend(arguments.also.iter().map(String::as_str));
    let sender = client.sender(&topics, ProducerOptions::default());
    let mut sender = sender.await?;
    for topic in sender.created_topics() {
        eprintln!("created topic {topic}");
    }
    let mut signals = Signals::new()?;
    let started = Instant::now();
    let time = arguments
        .at
        .or_else(|| arguments.delay.map(|delay| SystemTime::now() + delay));
    let mut pieces = input::read(inputs);
    let mut block = Block {
        limit,
        ..Block::default()
    };
    let (mut lines, mut acknowledged) = (Lines::new(limit), 0);
    let fault = loop {
        let piece = tokio::select! {
            piece = pieces.recv() => piece,
            () = signals.wait() => break Some(Fault::new(Exit::Interrupted, "interrupted")),
        };
        match piece {
            None => break None,
            Some(Piece::Begin(name)) => {
                block.file = name;
                lines = Lines::new(limit);
            }
            Some(Piece::Block(bytes)) => {
                let mut rest = &bytes[..];
                while let Some(line) = lines.next(&mut rest) {
                    block.take(&line);
                }
            }
            Some(Piece::End) => {
                if let Some(line) = lines.last() {
                    block.take(&line);
                }
            }
            Some(Piece::Failed(fault)) => break Some(fault),
        }
        let read = std::mem::take(&mut block.lines);
        if let Err(fault) = send(&mut sender, arguments, &topics, &read, time).await {
            break Some(fault);
        }
        acknowledged += read.len() as u64;
    };
    sender.close().await;
    let done = if time.is_some() {
        "scheduled"
    } else {
        "synced"
    };
    let seconds = started.elapsed().as_secs_f64();
    let count = HumanCount(acknowledged);
    eprintln!("{count} records acknowledged as {done} in {seconds:.2} s");
    if let Some(format) = common.output {
        let row = Row::new()
            .text("topic", topics.join(","))
            .count("acknowledged", acknowledged)
            .count("too_long", block.too_long)
            .text("durability", done);
        print_one(format, &row, &mut stdout().lock()).map_err(|error| Fault::stdout(&error))?;
    }
    match fault {
        Some(fault) => Err(fault),
        None if block.too_long > 0 => Ok(Exit::Failed),
        None => Ok(Exit::Done),
    }
}

async fn send(
    sender: &mut Sender,
    arguments: &Produce,
    topics: &[&str],
    read: &[(u64, Vec<u8>)],
    time: Option<SystemTime>,
) -> Result<(), Fault> {
    let records = read
        .iter()
        .map(|(time, line)| record(arguments, *time, line));
    let sent = if let Some(time) = time {
        let records: Vec<NewRecord<'_>> = records.collect();
        sender.schedule(&arguments.topic, &records, time).await
    } else {
        let in_all = records.flat_map(|record| topics.iter().map(move |&topic| (topic, record)));
        let records: Vec<(&str, NewRecord<'_>)> = in_all.collect();
        sender.send_all(&records).await.map(drop)
    };
    sent.map_err(|error| Fault::of_change(&error))
}

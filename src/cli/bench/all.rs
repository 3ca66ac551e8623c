//! `bench all`: every measurement in turn, and what comes of it as JSON and as a page to look at.
//!
//! Owns the list of lines that are run, as they would be typed, and the two files. A measurement that
//! fails is named, and the others go on.

use std::path::Path;

use anyhow::Context;
use clap::Parser;

use super::args::{AllArgs, Measurement};
use super::ground::Ground;
use super::{Sheet, figures, html};
use crate::cli::exit::{Exit, Fault};

/// Each line, with what makes it long enough to mean something, and short enough for a test.
const LINES: [(&str, &str, &str); 20] = [
    ("disk", "--bytes 2GiB", "--bytes 16MiB --writes 20"),
    ("loopback", "--bytes 8GiB", "--bytes 4MiB --round-trips 100"),
    ("produce --size 1KiB", "--bytes 7GB", "--bytes 4MB"),
    (
        "produce --size 1KiB",
        "--bytes 2GB --ahead 8",
        "--bytes 1MB --ahead 1",
    ),
    ("produce --size 100B", "--bytes 1GB", "--bytes 200KB"),
    (
        "produce --size 1KiB --ack accepted",
        "--bytes 2GB",
        "--bytes 1MB",
    ),
    (
        "latency",
        "--seconds 20 --sends 5000",
        "--seconds 1 --sends 20",
    ),
    (
        "many",
        "--records 300000 --single 5000",
        "--records 640 --single 20",
    ),
    ("consume --size 1KiB", "--bytes 2GB", "--bytes 1MB"),
    ("consume --size 100B", "--bytes 1GB", "--bytes 200KB"),
    ("lease --size 100B", "--bytes 200MB", "--bytes 200KB"),
    ("mixed", "--bytes 1GB", "--bytes 1MB"),
    (
        "mixed --producers 256 --topics 256 --consumers 0",
        "--bytes 1GB",
        "--bytes 1MB",
    ),
    ("connections", "--count 10000", "--count 50"),
    ("restart", "--bytes 5GB", "--bytes 1MB"),
    (
        "footprint",
        "--records 10000000 --flushes 10000",
        "--records 2000 --flushes 5",
    ),
    (
        "idle",
        "--topics 1000 --consumers 1000 --seconds 30",
        "--topics 10 --consumers 10 --seconds 1",
    ),
    (
        "idle --retention 1h --consumers 1",
        "--topics 10000 --seconds 60",
        "--topics 10 --seconds 1",
    ),
    ("retention", "--bytes 5GB", "--bytes 8MB --seconds 1"),
    (
        "siege",
        "--seconds 10",
        "--slow 30 --unread 3 --plenty 8MiB --idle 50 --bad 100 --seconds 1",
    ),
];

/// A line of [`LINES`], parsed as the command line is.
#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    measurement: Measurement,
}

fn lines(quick: bool) -> impl Iterator<Item = String> {
    let lines = LINES.into_iter();
    lines.map(move |(line, long, short)| format!("{line} {}", if quick { short } else { long }))
}

fn parse(line: &str) -> Result<Measurement, clap::Error> {
    let words = std::iter::once("bench").chain(line.split_whitespace());
    Ok(Line::try_parse_from(words)?.measurement)
}

/// Runs everything and writes both files.
pub(super) async fn run(
    ground: &Ground,
    arguments: &AllArgs,
    sheet: &mut Sheet,
) -> Result<(), Fault> {
    let mut failed = Vec::new();
    for line in lines(arguments.quick) {
        let measurement = parse(&line).map_err(|error| Fault::new(Exit::Failed, error))?;
        if measurement.needs_own_broker() && !ground.is_own() {
            eprintln!("left out: {line}: it needs a broker of its own, without --address");
            continue;
        }
        match Box::pin(figures(ground, &measurement)).await {
            Ok(figures) => sheet
                .add(&line, figures)
                .map_err(|error| Fault::stdout(&error))?,
            Err(error) => {
                eprintln!("failed: {line}: {error:#}");
                failed.push(line);
            }
        }
    }
    let report = &sheet.report;
    write(&arguments.html, html::page(report))
        .and_then(|()| write(&arguments.json, serde_json::to_vec_pretty(report)?))
        .map_err(|error| super::failed(&error))?;
    if failed.is_empty() {
        return Ok(());
    }
    let failed = failed.join(", ");
    Err(
        Fault::new(Exit::Failed, format_args!("bench: failed: {failed}"))
            .hint("the other figures are in the files all the same"),
    )
}

fn write(path: &Path, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
    std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_can_be_typed_in_both_forms() {
        for line in lines(false).chain(lines(true)) {
            parse(&line).unwrap();
        }
    }
}

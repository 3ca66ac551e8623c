//! `logdrive bench`: what the broker does, each figure beside the limit of the machine.
//!
//! ```text
//!  line typed ──► measurement ──► figures ──► lines on stdout, JSON, bench.json, bench.html
//!                   │     │
//!        the machine's    a broker in a child process
//!        own limit        on a fresh directory
//! ```
//!
//! Owns what a run is: a directory that goes with it, a way to be interrupted, and the printing of
//! what was measured. The broker is only ever reached as clients reach it, through its files and
//! through what the system says of its process.
//!
//! | module | owns |
//! |---|---|
//! | `args` | what can be typed |
//! | `figure` | figures and reports |
//! | `ground` | the directory, the brokers in it |
//! | `machine` | `/proc`, limits of files, the page cache |
//! | `latencies`, `course` | percentiles, and rates over time |
//! | `payload`, `producing` | records, and the load of producers |
//! | `disk`, `loopback` | what the machine does alone |
//! | `produce`, `latency` | one measurement each |

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are quotients with few digits, of counts that an f64 holds exactly"
)]
#![allow(
    dead_code,
    reason = "what the measurements to come will use is here already"
)]

mod args;
mod course;
mod disk;
mod figure;
mod ground;
mod latencies;
mod latency;
mod loopback;
mod machine;
mod payload;
mod produce;
mod producing;

use std::io::{Write, stdout};

pub(crate) use args::Bench;

use super::exit::{Exit, Fault};
use super::output::Format;
use super::signals::Signals;
use args::Work;
use figure::{Figure, HEADING, Report};
use ground::Ground;
use machine::Machine;

/// Measures what was asked for, and prints it.
pub(crate) async fn run(output: Option<Format>, bench: Bench) -> Result<Exit, Fault> {
    let mut signals = Signals::new()?;
    if cfg!(debug_assertions) {
        eprintln!(
            "this build is not optimised, its figures say nothing: use cargo build --release"
        );
    }
    let failed = |error: &anyhow::Error| Fault::new(Exit::Failed, format_args!("bench: {error:#}"));
    let machine = Machine::of(&bench.ground.data);
    let ground = Ground::new(bench.ground).map_err(|error| failed(&error))?;
    let mut sheet = Sheet::new(output.unwrap_or(Format::Table), Report::new(machine));
    let ended = tokio::select! {
        ended = measure(&ground, &bench.work, &mut sheet) => ended,
        () = signals.wait() => Err(Fault::new(Exit::Interrupted, "bench: interrupted")),
    };
    let tidied = ground.tidy().await;
    ended?;
    tidied.map_err(|error| failed(&error))?;
    sheet.end().map_err(|error| Fault::stdout(&error))?;
    Ok(Exit::Done)
}

async fn measure(ground: &Ground, work: &Work, sheet: &mut Sheet) -> Result<(), Fault> {
    let figures = figures(ground, work).await;
    let figures =
        figures.map_err(|error| Fault::new(Exit::Failed, format_args!("bench: {error:#}")))?;
    sheet.add(figures).map_err(|error| Fault::stdout(&error))
}

/// One measurement.
async fn figures(ground: &Ground, work: &Work) -> anyhow::Result<Vec<Figure>> {
    match work {
        Work::Disk(arguments) => disk::run(ground, arguments).await,
        Work::Loopback(arguments) => loopback::run(ground, arguments).await,
        Work::Produce(arguments) => produce::run(ground, arguments).await,
        Work::Latency(arguments) => latency::run(ground, arguments).await,
    }
}

/// What goes to stdout: lines as they come, or one document at the end.
struct Sheet {
    format: Format,
    report: Report,
}

impl Sheet {
    fn new(format: Format, report: Report) -> Self {
        Self { format, report }
    }

    /// Takes figures, and prints those that need not wait for the others.
    fn add(&mut self, figures: Vec<Figure>) -> std::io::Result<()> {
        let mut out = stdout().lock();
        if self.format == Format::Table && self.report.figures.is_empty() {
            writeln!(
                out,
                "logdrive {}, {}",
                env!("CARGO_PKG_VERSION"),
                self.report.machine
            )?;
            writeln!(out, "{HEADING}")?;
        }
        for figure in &figures {
            match self.format {
                Format::Table => writeln!(out, "{}", figure.line())?,
                Format::Raw => writeln!(out, "{}={}", figure.name, figure.value)?,
                Format::Ndjson => writeln!(out, "{}", serde_json::to_string(figure)?)?,
                Format::Json => {}
            }
        }
        self.report.figures.extend(figures);
        out.flush()
    }

    /// Prints what had to wait.
    fn end(&self) -> std::io::Result<()> {
        let mut out = stdout().lock();
        if self.format == Format::Json {
            serde_json::to_writer(&mut out, &self.report)?;
            writeln!(out)?;
        }
        out.flush()
    }
}

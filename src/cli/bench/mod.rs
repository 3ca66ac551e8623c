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
//! | `args`, `volume` | what can be typed |
//! | `figure` | figures and reports |
//! | `ground` | the directory, the brokers in it |
//! | `machine` | `/proc`, limits of files, the page cache |
//! | `latencies`, `course` | percentiles, and rates over time |
//! | `payload`, `producing` | records, and the load of producers |
//! | `disk`, `loopback` | what the machine does alone |
//! | `reading` | the load of readers |
//! | `produce`, `consume`, `lease`, `latency`, `mixed`, `many`, `connections`, `restart`, `footprint`, `idle`, `retention`, `siege` | one measurement each |
//! | `all` | every measurement in turn |
//! | `compare` | the same work for peers, and its table |
//! | `reach` | what is asked of figures |
//! | `html`, `chart` | the page |

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are quotients with few digits, of counts that an f64 holds exactly"
)]
mod all;
mod args;
mod chart;
mod compare;
mod connections;
mod consume;
mod course;
mod disk;
mod figure;
mod footprint;
mod ground;
mod html;
mod idle;
mod latencies;
mod latency;
mod lease;
mod loopback;
mod machine;
mod many;
mod mixed;
mod payload;
mod produce;
mod producing;
mod reach;
mod reading;
mod restart;
mod retention;
mod siege;
mod volume;

use std::io::{Write, stdout};

pub(crate) use args::Bench;

use super::exit::{Exit, Fault};
use super::output::Format;
use super::signals::Signals;
use args::{Measurement, Work};
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
    if bench.work.needs_own_broker() && bench.ground.address.is_some() {
        let text = "bench: this needs a broker of its own, which it may look into and kill";
        return Err(Fault::new(Exit::Usage, text).hint("leave --address out"));
    }
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
    match work {
        Work::One(measurement) => {
            let figures = figures(ground, measurement).await;
            let figures = figures.map_err(|error| failed(&error))?;
            sheet
                .add(&typed(), figures)
                .map_err(|error| Fault::stdout(&error))
        }
        Work::All(arguments) => all::run(ground, arguments, sheet).await,
        Work::Compare(arguments) => compare::run(ground, arguments, sheet).await,
    }
}

/// What was typed after `bench`.
fn typed() -> String {
    let words = std::env::args().skip_while(|word| word != "bench").skip(1);
    words.collect::<Vec<_>>().join(" ")
}

fn failed(error: &anyhow::Error) -> Fault {
    Fault::new(Exit::of(error), format_args!("bench: {error:#}"))
}

/// One measurement.
async fn figures(ground: &Ground, measurement: &Measurement) -> anyhow::Result<Vec<Figure>> {
    match measurement {
        Measurement::Disk(arguments) => disk::run(ground, arguments).await,
        Measurement::Loopback(arguments) => loopback::run(ground, arguments).await,
        Measurement::Produce(arguments) => produce::run(ground, arguments).await,
        Measurement::Consume(arguments) => consume::run(ground, arguments).await,
        Measurement::Latency(arguments) => latency::run(ground, arguments).await,
        Measurement::Lease(arguments) => lease::run(ground, arguments).await,
        Measurement::Mixed(arguments) => mixed::run(ground, arguments).await,
        Measurement::Many(arguments) => many::run(ground, arguments).await,
        Measurement::Connections(arguments) => connections::run(ground, arguments).await,
        Measurement::Restart(arguments) => restart::run(ground, arguments).await,
        Measurement::Footprint(arguments) => footprint::run(ground, arguments).await,
        Measurement::Idle(arguments) => idle::run(ground, arguments).await,
        Measurement::Retention(arguments) => retention::run(ground, arguments).await,
        Measurement::Siege(arguments) => siege::run(ground, arguments).await,
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
    fn add(&mut self, line: &str, mut figures: Vec<Figure>) -> std::io::Result<()> {
        for figure in &mut figures {
            line.clone_into(&mut figure.line);
            reach::ask(figure);
        }
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
                Format::Table => writeln!(out, "{}", figure.shown())?,
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

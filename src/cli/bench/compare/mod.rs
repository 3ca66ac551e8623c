//! `bench compare`: the same work for logdrive and for peers, where they are installed.
//!
//! Every work is done by one system after the other, each in a fresh server on the same file system
//! and in the same minutes. They take turns in being the first, because a disk that has rested is a
//! faster one. Each keeps the durability that its column names; logdrive always answers after the
//! fsync.
//!
//! ```text
//!  works ──► for each system: start, do it, count what is stored, end ──► rows of the table
//!    │
//!    └─ the same loops for all, through the verbs of `peer`:
//!         logdrive (its client)     redis (resp)     nats (nats_wire)
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `works`, `stream`, `latency` | what is measured, and how |
//! | `peer` | the verbs |
//! | `logdrive`, `redis`, `nats` | what they mean for each system |
//! | `link`, `resp`, `nats_wire` | sockets and the protocols of peers |
//! | `server` | a child process and its files |
//! | `table` | what comes out |

mod latency;
mod link;
mod logdrive;
mod nats;
mod nats_wire;
mod peer;
mod redis;
mod resp;
mod server;
mod stream;
mod table;
mod works;

use std::io::{Write, stdout};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use clap::builder::PossibleValuesParser;
use tokio::process::Command;
use tokio::time::timeout;

use super::args::Volume;
use super::ground::Ground;
use super::machine;
use super::{Sheet, failed};
use crate::cli::exit::{Exit, Fault};
use crate::cli::output::Format;
use logdrive::Logdrive;
use nats::Nats;
use redis::Redis;
use table::System;

pub(super) use table::Table;
use works::{Scale, WORKS, Work};

/// One work of one system is given up after this.
const WORK_LIMIT: Duration = Duration::from_mins(20);
/// Open files besides connections.
const OTHER_FILES: u64 = 256;
/// Programs that are looked for on the PATH.
const REDIS: &str = "redis-server";
const NATS: &str = "nats-server";

/// Arguments of `bench compare`.
///
/// Peers are what is found on the PATH: redis-server (Redis Streams) and nats-server (NATS
/// JetStream). They are started as they come, with the durability that their columns name, and
/// driven by load generators written for this, leaner than their libraries. Each figure stands with
/// how many times better logdrive is; what a peer does better is marked. Exit code 1: a figure
/// could not be measured, and the table says why.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct CompareArgs {
    /// Bytes that a producer sends at most.
    #[arg(long, default_value = "2GB", value_name = "BYTES")]
    bytes: Volume,
    /// Seconds that it goes on at most.
    #[arg(long, default_value_t = 10, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Records of the producer that waits for each acknowledgement.
    #[arg(long, default_value_t = 3000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    sends: u32,
    /// Idle connections.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Bytes that are stored before a server is killed and started again.
    #[arg(long, default_value = "1GB", value_name = "BYTES")]
    restart_bytes: Volume,
    /// Bytes with which the disk is measured directly before each stream.
    #[arg(long, default_value = "256MiB", value_name = "BYTES")]
    disk_bytes: Volume,
    /// Does only this; repeatable.
    #[arg(long, value_name = "WORK", value_parser = PossibleValuesParser::new(WORKS.map(Work::word)))]
    only: Vec<String>,
    /// Only shows that it works: a little of everything.
    #[arg(long, conflicts_with_all = ["bytes", "seconds", "sends", "connections", "restart_bytes", "disk_bytes"])]
    quick: bool,
    /// Prints the table as Markdown, for documents.
    #[arg(long, conflicts_with = "output")]
    markdown: bool,
}

impl CompareArgs {
    fn works(&self) -> Vec<Work> {
        let mut works = Vec::from(WORKS);
        works.retain(|work| self.only.is_empty() || self.only.iter().any(|it| it == work.word()));
        works
    }

    fn scale(&self) -> Scale {
        if self.quick {
            return Scale {
                bytes: 2_000_000,
                time: Duration::from_millis(200),
                sends: 50,
                connections: 20,
                restart_bytes: 1_000_000,
                disk_bytes: 1,
            };
        }
        Scale {
            bytes: self.bytes.0,
            time: Duration::from_secs(self.seconds),
            sends: self.sends,
            connections: self.connections,
            restart_bytes: self.restart_bytes.0,
            disk_bytes: self.disk_bytes.0,
        }
    }
}

/// A system with the durability that it is compared with.
#[derive(Clone, Debug)]
enum Contender {
    Logdrive(Logdrive),
    Redis(Redis),
    Nats(Nats),
}

impl Contender {
    async fn measure(
        &self,
        work: Work,
        scale: &Scale,
        ground: &Ground,
        values: &mut Vec<f64>,
    ) -> Result<()> {
        match self {
            Self::Logdrive(it) => work.measure(it, scale, ground, values).await,
            Self::Redis(it) => work.measure(it, scale, ground, values).await,
            Self::Nats(it) => work.measure(it, scale, ground, values).await,
        }
    }
}

/// Compares, prints the table, and leaves it in the sheet's report.
pub(super) async fn run(
    ground: &Ground,
    arguments: &CompareArgs,
    sheet: &mut Sheet,
) -> Result<(), Fault> {
    let table = compare(ground, &arguments.works(), &arguments.scale()).await;
    let table = table.map_err(|error| failed(&error))?;
    let text = match sheet.format {
        _ if arguments.markdown => table.markdown(&sheet.report),
        Format::Json => String::new(),
        Format::Ndjson => {
            serde_json::to_string(&table).map_err(|error| failed(&error.into()))? + "\n"
        }
        Format::Table | Format::Raw => table.text(&sheet.report),
    };
    let written = stdout().lock().write_all(text.as_bytes());
    let has_errors = table.has_errors();
    sheet.report.comparison = Some(table);
    if has_errors {
        // What could be measured is printed all the same.
        written
            .and_then(|()| sheet.end())
            .map_err(|error| Fault::stdout(&error))?;
        let message = "bench: some figures could not be measured: the table says why";
        return Err(Fault::new(Exit::Failed, message));
    }
    written.map_err(|error| Fault::stdout(&error))
}

async fn compare(ground: &Ground, works: &[Work], scale: &Scale) -> Result<Table> {
    machine::allow_files(u64::from(scale.connections) * 2 + OTHER_FILES)?;
    let (contenders, missing) = contenders(ground).await?;
    let (contenders, systems): (Vec<_>, Vec<_>) = contenders.into_iter().unzip();
    for name in &missing {
        eprintln!("not installed, and so not compared: {name}");
    }
    let names: Vec<_> = systems.iter().map(|it| it.name).collect();
    let mut table = Table::new(systems, missing);
    for (turn, &work) in works.iter().enumerate() {
        let mut columns = vec![(Vec::new(), None); contenders.len()];
        for place in 0..contenders.len() {
            let index = (place + turn) % contenders.len();
            let (values, error) = &mut columns[index];
            eprintln!("{} of {}: {}, {work}", turn + 1, works.len(), names[index]);
            let measured = contenders[index].measure(work, scale, ground, values);
            let done = timeout(WORK_LIMIT, measured).await;
            let done = done.context("it took too long").flatten();
            *error = done
                .err()
                .map(|error| format!("{}, {work}: {error:#}", names[index]));
        }
        table.add(work.rows(scale), &columns);
    }
    Ok(table)
}

/// What can be compared here, and which programs are not installed.
async fn contenders(ground: &Ground) -> Result<(Vec<(Contender, System)>, Vec<String>)> {
    let mut missing = Vec::new();
    let system = |name, version: &str, durability, fsync_before_answer| System {
        name,
        version: version.to_owned(),
        durability,
        fsync_before_answer,
    };
    let ours = "synced, fsync before the answer";
    let mut contenders = vec![(
        Contender::Logdrive(Logdrive {
            serve_args: ground.serve_args().to_vec(),
        }),
        system("logdrive", env!("CARGO_PKG_VERSION"), ours, true),
    )];
    match version(REDIS).await {
        Some(version) => {
            for (appendfsync, durability, fsync) in [
                (
                    "always",
                    "appendfsync always, fsync before the answer",
                    true,
                ),
                (
                    "everysec",
                    "appendfsync everysec, fsync once a second, not before the answer",
                    false,
                ),
            ] {
                let redis = Contender::Redis(Redis { appendfsync });
                contenders.push((redis, system("Redis Streams", &version, durability, fsync)));
            }
        }
        None => missing.push(format!("Redis Streams ({REDIS})")),
    }
    match version(NATS).await {
        Some(version) => {
            let durability = "file storage, fsync every two minutes, not before the answer";
            let nats = Contender::Nats(Nats { always: false });
            contenders.push((nats, system("NATS JetStream", &version, durability, false)));
            let always = Nats { always: true };
            if knows(always, ground.path()).await? {
                let durability = "file storage, sync_interval always, fsync before the answer";
                let system = system("NATS JetStream", &version, durability, true);
                contenders.push((Contender::Nats(always), system));
            }
        }
        None => missing.push(format!("NATS JetStream ({NATS})")),
    }
    Ok((contenders, missing))
}

/// The version of a program on the PATH; `None` if there is none.
async fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().await.ok()?;
    version_in(&String::from_utf8_lossy(&output.stdout))
}

/// The first word that looks like a version, without what stands before it.
fn version_in(text: &str) -> Option<String> {
    text.split_whitespace().find_map(|word| {
        let word = word
            .strip_prefix("v=")
            .or(word.strip_prefix('v'))
            .unwrap_or(word);
        let dotted = word.starts_with(|it: char| it.is_ascii_digit()) && word.contains('.');
        dotted.then(|| word.to_owned())
    })
}

/// Whether the installed NATS takes a configuration.
async fn knows(nats: Nats, directory: &Path) -> Result<bool> {
    let configuration = nats.configure(directory, 0)?;
    let mut test = Command::new(NATS);
    test.arg("-c").arg(configuration).arg("-t");
    Ok(test.output().await?.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say_of_themselves() {
        for (text, expected) in [
            (
                "Redis server v=7.0.15 sha=00000000:0 bits=64",
                Some("7.0.15"),
            ),
            ("nats-server: v2.9.10\n", Some("2.9.10")),
            ("server 3.1-beta", Some("3.1-beta")),
            ("server, no version", None),
        ] {
            assert_eq!(version_in(text).as_deref(), expected, "{text}");
        }
    }
}

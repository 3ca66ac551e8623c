//! What can be typed after `logdrive bench`, and the texts of its `--help`.
//!
//! Owns the grammar alone. [`all`](super::all) runs lines of the same grammar, so that every figure of
//! a report can be measured again by typing its line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::compare::CompareArgs;
pub(super) use super::volume::Volume;
use crate::cli::args::{Ack, Compression};

const ABOUT: &str = "\
Each figure stands beside the limit of the machine, measured in the same run, and the ratio of
both: near 1 nothing is left to gain. The disk bursts and throttles, so its limit is measured
directly before and after a measurement, with as many bytes, and the ratio is to the mean of both.
Broker and load generator share the machine, as they do wherever these figures are compared.

A broker is started on a fresh directory for each measurement, and ends with it.";

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = ABOUT)]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(super) ground: GroundArgs,
    #[command(subcommand)]
    pub(super) work: Work,
}

/// Where is measured.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where")]
pub(super) struct GroundArgs {
    /// Directory on the disk that counts: everything is in a fresh one below it, and is removed.
    #[arg(long, global = true, default_value = ".", value_name = "DIR")]
    pub(super) data: PathBuf,
    /// Measures a broker that is running already, as far as that can be done from outside.
    #[arg(long, global = true, value_name = "ADDR")]
    pub(super) address: Option<String>,
    /// An argument of `logdrive serve` for the broker that is started; repeatable.
    #[arg(
        long = "serve-arg",
        global = true,
        value_name = "ARG",
        allow_hyphen_values = true
    )]
    pub(super) serve_args: Vec<OsString>,
}

/// What is done.
#[derive(Debug, Subcommand)]
pub(super) enum Work {
    #[command(flatten)]
    One(Measurement),
    /// All of these in turn; writes the figures as JSON, and as a page with charts.
    All(AllArgs),
    /// The same work for logdrive and for Redis Streams and NATS JetStream, where they are installed.
    Compare(CompareArgs),
}

impl Work {
    /// Whether it has to look into the broker's process or files, or to kill it.
    pub(super) fn needs_own_broker(&self) -> bool {
        match self {
            Self::One(measurement) => measurement.needs_own_broker(),
            Self::All(_) => false,
            Self::Compare(_) => true,
        }
    }
}

/// One measurement.
#[derive(Debug, Subcommand)]
pub(super) enum Measurement {
    /// The disk alone: append and overwrite with fdatasync, and a cold read.
    Disk(DiskArgs),
    /// TCP on this machine alone: a copy, and how long a round trip takes.
    Loopback(LoopbackArgs),
    /// Records per second into the broker.
    Produce(ProduceArgs),
    /// Records per second out of the broker: by offset and by consumer, warm and cold.
    Consume(ConsumeArgs),
    /// How long one record takes to its acknowledgement, and to those who read it.
    Latency(LatencyArgs),
    /// Records per second that workers of one consumer lease and ack, and how long an ack takes.
    Lease(LeaseArgs),
    /// Producers, topics and consumers at once, beside the same work on one topic.
    Mixed(MixedArgs),
    /// Many producers with one record in flight each, beside a single one.
    Many(ManyArgs),
    /// Memory of connections that do nothing.
    Connections(ConnectionsArgs),
    /// From SIGKILL to the first record that is read again.
    Restart(RestartArgs),
    /// Bytes on the disk for each byte that was produced.
    Footprint(FootprintArgs),
    /// What the broker takes of a core while consumers wait and nothing comes.
    Idle(IdleArgs),
    /// What producers notice when retention removes many files.
    Retention(RetentionArgs),
    /// What an honest client notices beside slow, deaf, idle and faulty ones.
    Siege(SiegeArgs),
}

impl Measurement {
    /// Whether it has to look into the broker's process or files, or to kill it.
    pub(super) fn needs_own_broker(&self) -> bool {
        match self {
            Self::Connections(_)
            | Self::Restart(_)
            | Self::Footprint(_)
            | Self::Idle(_)
            | Self::Retention(_)
            | Self::Siege(_) => true,
            Self::Produce(produce) => produce.ahead.is_some(),
            _ => false,
        }
    }
}

/// Arguments of `bench disk`.
#[derive(Debug, Args)]
pub(super) struct DiskArgs {
    /// Bytes that are appended and overwritten with blocks of each size.
    #[arg(long, default_value = "2GiB", value_name = "BYTES")]
    pub(super) bytes: Volume,
    /// Writes of 4 KiB, each with its fdatasync.
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) writes: u32,
}

/// Arguments of `bench loopback`.
#[derive(Debug, Args)]
pub(super) struct LoopbackArgs {
    /// Bytes that are copied, 64 KiB at a time.
    #[arg(long, default_value = "8GiB", value_name = "BYTES")]
    pub(super) bytes: Volume,
    /// Round trips of one byte, and of 100.
    #[arg(long, default_value_t = 20_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) round_trips: u32,
}

/// Arguments of `bench produce`.
#[derive(Clone, Debug, Args)]
pub(super) struct ProduceArgs {
    /// Bytes of records in all; over 2 GB the first 2 GB and the rest are told apart.
    #[arg(long, default_value = "2GB", value_name = "BYTES")]
    pub(super) bytes: Volume,
    /// Records in all, instead of bytes.
    #[arg(long, value_name = "N", conflicts_with = "bytes", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) records: Option<u64>,
    #[command(flatten)]
    pub(super) source: SourceArgs,
    /// Bytes of a full batch [default: the client's, 1 MiB less 1 KiB].
    #[arg(long, value_name = "BYTES")]
    pub(super) batch: Option<Volume>,
    /// How batches are packed [default: as the client does].
    #[arg(long, value_name = "CODEC")]
    pub(super) compression: Option<Compression>,
    /// Producers at once.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) producers: u32,
    /// Topics that they share out among them.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) topics: u32,
    /// Whether producers share a connection.
    #[arg(long, default_value = "each")]
    pub(super) connections: Connections,
    /// When the broker answers.
    #[arg(long, default_value = "synced")]
    pub(super) ack: Ack,
    /// Whether a producer waits for each acknowledgement.
    #[arg(long, default_value = "pipelined")]
    pub(super) mode: Mode,
    /// Waits until so many segment files are written ahead, and then measures; 8 are 2 GiB.
    #[arg(long, value_name = "FILES", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) ahead: Option<u32>,
    /// Records per second of all producers together [default: as fast as it goes].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) rate: Option<u64>,
}

/// Arguments of `bench consume`.
#[derive(Clone, Debug, Args)]
pub(super) struct ConsumeArgs {
    /// Bytes of records, which are produced first.
    #[arg(long, default_value = "2GB", value_name = "BYTES")]
    pub(super) bytes: Volume,
    #[command(flatten)]
    pub(super) source: SourceArgs,
    /// How batches are packed [default: as the client does].
    #[arg(long, value_name = "CODEC")]
    pub(super) compression: Option<Compression>,
    /// Only warm: the broker is not stopped, its files stay in the page cache.
    #[arg(long)]
    pub(super) warm: bool,
}

/// Arguments of `bench lease`.
#[derive(Clone, Debug, Args)]
pub(super) struct LeaseArgs {
    /// Bytes of records, which are produced first; each of six runs goes through all of them.
    #[arg(long, default_value = "200MB", value_name = "BYTES")]
    pub(super) bytes: Volume,
    #[command(flatten)]
    pub(super) source: SourceArgs,
    /// Workers of the consumer, each with a connection.
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) workers: u32,
    /// Records that a worker leases at a time.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) answer: u32,
    /// Records of an ack.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) ack: u32,
    /// Records that may be leased and not acked, of all workers together.
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) max_leased: u32,
}

/// Arguments of `bench mixed`.
#[derive(Clone, Debug, Args)]
pub(super) struct MixedArgs {
    /// Producers, each with a connection; they take the topics in turn.
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) producers: u32,
    /// Topics.
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) topics: u32,
    /// Consumers, each with a connection; they take the topics in turn, and share one topic's
    /// records. Without any, nothing is consumed.
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub(super) consumers: u32,
    /// Bytes of records in all, for each of three runs.
    #[arg(long, default_value = "1GB", value_name = "BYTES")]
    pub(super) bytes: Volume,
    #[command(flatten)]
    pub(super) source: SourceArgs,
    /// Bytes of a full batch.
    #[arg(long, default_value = "64KiB", value_name = "BYTES")]
    pub(super) batch: Volume,
}

/// Arguments of `bench many`.
#[derive(Clone, Debug, Args)]
pub(super) struct ManyArgs {
    /// Producers at once.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) producers: u32,
    /// Records of all of them, with connections of their own, and again with one.
    #[arg(long, default_value_t = 300_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) records: u64,
    /// Records of the single producer, before and again after.
    #[arg(long, default_value_t = 5000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) single: u32,
    /// Bytes of a record.
    #[arg(long, default_value_t = 100, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) size: u32,
}

/// Arguments of `bench connections`.
#[derive(Clone, Debug, Args)]
pub(super) struct ConnectionsArgs {
    /// Connections at once; the limit of open files is raised as far as the system lets.
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=19_000))]
    pub(super) count: u32,
}

/// Arguments of `bench restart`.
#[derive(Clone, Debug, Args)]
pub(super) struct RestartArgs {
    /// Bytes of records that are stored when the broker is killed.
    #[arg(long, default_value = "5GB", value_name = "BYTES")]
    pub(super) bytes: Volume,
    #[command(flatten)]
    pub(super) source: SourceArgs,
}

/// Arguments of `bench footprint`.
#[derive(Clone, Debug, Args)]
pub(super) struct FootprintArgs {
    /// Records in batches of 1,000.
    #[arg(long, default_value_t = 10_000_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) records: u64,
    /// Flushes with one batch of 1, of 10 and of 100 records.
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) flushes: u32,
    /// Bytes of a record.
    #[arg(long, default_value_t = 100, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) size: u32,
}

/// Arguments of `bench idle`.
#[derive(Clone, Debug, Args)]
pub(super) struct IdleArgs {
    /// Topics.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) topics: u32,
    /// Consumers, each with a connection; they wait for the topics in turn.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=19_000))]
    pub(super) consumers: u32,
    /// Seconds that are measured; the clients' waits last 30.
    #[arg(long, default_value_t = 30, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) seconds: u64,
    /// The age at which what the topics hold is removed; each holds a record then.
    #[arg(long, value_name = "AGE")]
    pub(super) retention: Option<String>,
}

/// Arguments of `bench retention`.
#[derive(Clone, Debug, Args)]
pub(super) struct RetentionArgs {
    /// Bytes of records that are removed.
    #[arg(long, default_value = "5GB", value_name = "BYTES")]
    pub(super) bytes: Volume,
    /// Producers with one record in flight each, on topics of their own.
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) producers: u32,
    /// Seconds that are measured before the removal, from its beginning on, and after it.
    #[arg(long, default_value_t = 5, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) seconds: u64,
    #[command(flatten)]
    pub(super) source: SourceArgs,
}

/// Arguments of `bench siege`.
///
/// An honest client has a record made durable and consumes it every 5 ms, on connections of its own,
/// before, during and after each siege. Those who besiege have a thread of the same machine.
#[derive(Clone, Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct SiegeArgs {
    /// Connections that send a byte every two seconds: of a preface, of a frame, of a line.
    #[arg(long, default_value_t = 5000, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=18_000))]
    pub(super) slow: u32,
    /// Consumers that ask for as much as there is and never read.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(super) unread: u32,
    /// Bytes of records that wait for them.
    #[arg(long, default_value = "256MiB", value_name = "BYTES")]
    pub(super) plenty: Volume,
    /// Connections that say nothing more.
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=18_000))]
    pub(super) idle: u32,
    /// Frames without a boundary, from 20 connections that come again and again.
    #[arg(long, default_value_t = 20_000, value_name = "N", value_parser = clap::value_parser!(u32).range(0..))]
    pub(super) bad: u32,
    /// Seconds that are measured before a siege, once it is there, and after it.
    #[arg(long, default_value_t = 20, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) seconds: u64,
}

/// Arguments of `bench all`.
#[derive(Clone, Debug, Args)]
pub(super) struct AllArgs {
    /// Everything in its shortest form: shows that it works, and no figure that means anything.
    #[arg(long)]
    pub(super) quick: bool,
    /// Where the figures go as JSON.
    #[arg(long, default_value = "bench.json", value_name = "FILE")]
    pub(super) json: PathBuf,
    /// Where the page goes: one file that needs no other.
    #[arg(long, default_value = "bench.html", value_name = "FILE")]
    pub(super) html: PathBuf,
}

/// What is in the records.
#[derive(Clone, Debug, Args)]
pub(super) struct SourceArgs {
    /// Bytes of a generated record.
    #[arg(long, default_value = "1KiB", value_name = "BYTES")]
    pub(super) size: Volume,
    /// Log files whose lines are the records, over and over [default: generated text].
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "size")]
    pub(super) source: Vec<PathBuf>,
}

/// Arguments of `bench latency`.
///
/// The open loop sends on a schedule, whatever the broker does, and counts from the moment at which
/// the schedule says that a record is due: a stall of the broker is felt by every record that was
/// due meanwhile. The schedule is made of ticks, at each of which all that is due is sent; between
/// ticks the sender sleeps. How late it woke is a figure of its own.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct LatencyArgs {
    /// Records per second of the open loop.
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(super) rate: u64,
    /// Seconds of the open loop, for each way of reading.
    #[arg(long, default_value_t = 10, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) seconds: u64,
    /// Milliseconds between ticks.
    #[arg(long, default_value_t = 1, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(super) tick: u64,
    /// Bytes of a record, at least 8.
    #[arg(long, default_value_t = 100, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(8..=1_048_576))]
    pub(super) size: u32,
    /// Records of the closed loop: each is sent when the one before is acknowledged.
    #[arg(long, default_value_t = 5000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) sends: u32,
}

impl LatencyArgs {
    /// Time between ticks.
    pub(super) fn tick(&self) -> Duration {
        Duration::from_millis(self.tick)
    }
}

/// How producers connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Connections {
    /// Each has its own.
    Each,
    /// All have one.
    Shared,
}

/// How a producer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Many records are on their way, as many as the client's window lets.
    Pipelined,
    /// The next record is sent when the last is acknowledged.
    OneByOne,
}

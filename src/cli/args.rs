//! What can be typed: every command with its arguments, and the texts of `--help`.
//!
//! Owns the grammar of the command line alone; nothing here runs anything. [`run`](super::run)
//! reads these values and hands them to the module of the command.

mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand, ValueEnum};
use logdrive_client::{Filter, Identity, Tls};
use logdrive_protocol::{Position, Severity};

use values::{
    connections, delay, header, header_text, idle, instant, lease, listen, setting, time,
};

use super::bench::Bench;
use super::consumer::Consumer;
use super::exit::{Exit, Fault};
use super::output::Format;
use super::principal::Principal;
use crate::limits::{LOW_SPACE_BYTES, MAX_CONNECTIONS};

/// A durable log queue: what it has acknowledged is on disk.
#[derive(Debug, Parser)]
#[command(
    name = "logdrive",
    version,
    after_help = super::exit::TABLE,
    arg_required_else_help = true,
    infer_long_args = true
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Common {
    /// The broker, or several, comma-separated.
    #[arg(
        long,
        global = true,
        env = "LOGDRIVE_SERVER",
        default_value = "127.0.0.1:7440",
        value_name = "ADDR"
    )]
    pub(crate) server: String,
    #[command(flatten)]
    pub(crate) secure: Secure,
    /// Form of what goes to stdout: `raw` is the default of fetch and consume, `table` of all others.
    #[arg(short, long, global = true, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    /// Logs in with the token in FILE; without it with the one in `LOGDRIVE_TOKEN`, if there is one.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        conflicts_with_all = ["user", "password_file"]
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// Logs in as this principal, with the password in `LOGDRIVE_PASSWORD` or `--password-file`.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The file with the password.
    #[arg(long, global = true, value_name = "FILE", requires = "user")]
    pub(crate) password_file: Option<PathBuf>,
    /// Refused: whoever lists processes would see it.
    #[arg(long = "token", global = true, hide = true, value_name = "SECRET")]
    pub(crate) token_in_sight: Option<String>,
    /// Refused likewise.
    #[arg(long = "password", global = true, hide = true, value_name = "SECRET")]
    pub(crate) password_in_sight: Option<String>,
}

/// How a client's command speaks TLS: any of these makes it do so.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct Secure {
    /// Speaks TLS; the broker's certificate must be one that this machine trusts, unless --ca says
    /// who is trusted.
    #[arg(
        long,
        global = true,
        env = "LOGDRIVE_TLS",
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    pub(crate) tls: bool,
    /// Who is trusted to sign the broker's certificate, as PEM.
    #[arg(long, global = true, env = "LOGDRIVE_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The certificate that is shown to the broker, as PEM.
    #[arg(long, global = true, env = "LOGDRIVE_CERT", value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key, as PEM.
    #[arg(long, global = true, env = "LOGDRIVE_CERT_KEY", value_name = "FILE")]
    pub(crate) cert_key: Option<PathBuf>,
    /// Logs in as the principal whose name is in the certificate of --cert.
    #[arg(
        long,
        global = true,
        conflicts_with_all = ["token_file", "user"]
    )]
    pub(crate) cert_login: bool,
    /// The name that the broker's certificate must have [default: the host in --server].
    #[arg(
        long,
        global = true,
        env = "LOGDRIVE_TLS_SERVER_NAME",
        value_name = "NAME"
    )]
    pub(crate) tls_server_name: Option<String>,
}

impl Secure {
    /// As the client takes it; none is a connection without TLS.
    ///
    /// # Errors
    /// A certificate without its key, or a key without its certificate: the parser cannot tell, for
    /// one may stand before the command and the other behind it.
    pub(crate) fn options(&self) -> Result<Option<Tls>, Fault> {
        let identity = match (self.cert.clone(), self.cert_key.clone()) {
            (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
            (None, None) => None,
            _ => {
                let what = "--cert FILE and --cert-key FILE are given together or not at all";
                return Err(Fault::new(Exit::Usage, what));
            }
        };
        let tls = Tls {
            ca: self.ca.clone(),
            server_name: self.tls_server_name.clone(),
            identity,
        };
        Ok((self.tls || tls != Tls::default()).then_some(tls))
    }
}

/// One command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the broker until SIGINT or SIGTERM.
    Serve(Serve),
    /// Shows on real logs that nothing is lost: starts a broker of its own, kills it, and checks.
    Demo(Demo),
    /// Measures a broker of its own, every figure beside the limit of the machine.
    Bench(Bench),
    /// Creates, lists, describes and deletes topics.
    #[command(subcommand)]
    Topic(Topic),
    /// Appends every line of files, or of stdin, to a topic.
    Produce(Produce),
    /// Prints records; changes nothing.
    Fetch(Fetch),
    /// Takes the next records for a consumer: its cursor moves past them.
    Consume(Consume),
    /// Says what is left for a consumer: records, bytes and age of the oldest.
    Size(Size),
    /// Creates, lists, describes, alters, moves, pauses and deletes consumers.
    #[command(subcommand)]
    Consumer(Consumer),
    /// Creates, lists, describes, alters and deletes principals: who may log in, and what they may do.
    #[command(subcommand)]
    Principal(Principal),
    /// Asks the broker for its state, version, latency and counters.
    Ping,
    /// Reads everything in a data directory and names what is damaged; changes nothing.
    Verify(Verify),
    /// Makes what is needed for trying things out.
    #[command(subcommand)]
    Generate(Generate),
}

/// What can be made.
#[derive(Debug, Subcommand)]
pub(crate) enum Generate {
    /// A certificate authority, and certificates with keys of a broker and of a client.
    Cert(Cert),
}

/// Arguments of `generate cert`.
#[derive(Debug, Args)]
pub(crate) struct Cert {
    /// Where the files go; made if missing. Nothing is overwritten.
    #[arg(long, default_value = "./logdrive-certs", value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// A name or address of the broker; repeatable [default: localhost, 127.0.0.1, `::1`].
    #[arg(long = "host", value_name = "NAME")]
    pub(crate) hosts: Vec<String>,
    /// The client's name.
    #[arg(long, default_value = "client", value_name = "NAME")]
    pub(crate) client: String,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a flag that is typed for itself"
)]
pub(crate) struct Serve {
    /// Directory of everything that is stored; made if missing.
    #[arg(long, default_value = "./logdrive-data", value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Where to accept connections, in numbers; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:7440", value_name = "ADDR", value_parser = listen)]
    pub(crate) listen: SocketAddr,
    /// Files of 272 MiB that are written ahead while there is little else to write, which doubles
    /// what the disk takes in a burst; none before 128 MiB are stored, nor while space is short.
    #[arg(long, default_value_t = 2, value_name = "FILES")]
    pub(crate) write_ahead: usize,
    /// MiB of free space below which nothing new is taken, until there is twice as much; half of it,
    /// at most 64, is held back in a file, so that consuming, acks and deleting go on. 0 for no mark.
    #[arg(long, default_value_t = LOW_SPACE_BYTES >> 20, value_name = "MIB")]
    pub(crate) low_space: u64,
    /// Connections at once; fewer if the system allows too few open files.
    #[arg(long, default_value_t = MAX_CONNECTIONS, value_name = "N", value_parser = connections())]
    pub(crate) max_connections: usize,
    /// Connections at once of one address, or of one /64 of IPv6 [default: 1000, and all for this
    /// machine's own].
    #[arg(long, value_name = "N", value_parser = connections())]
    pub(crate) max_connections_per_address: Option<usize>,
    /// Ends connections on which nothing is said for so long; clients are told, and ping in time. 0
    /// is never. In text mode it is 30 minutes, whatever this says.
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = idle)]
    pub(crate) idle_time: Duration,
    /// The broker's certificate and those above it, as PEM: with it TLS is spoken on the same port.
    /// SIGHUP reads all these files again, for connections to come.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key, as PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Who may sign the certificates of clients, as PEM; a client need not show one.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// Refuses clients that show no certificate.
    #[arg(long, requires = "tls_client_ca")]
    pub(crate) tls_client_required: bool,
    /// Refuses connections without TLS, from this machine too.
    #[arg(long, requires = "tls_cert")]
    pub(crate) tls_required: bool,
    /// Everybody has to log in. The first start makes the principal `admin` and writes its token to
    /// DIR/admin.token.
    #[arg(long)]
    pub(crate) auth: bool,
    /// Gives the principal `admin` every right and a new token, again in DIR/admin.token; its old
    /// tokens and its password are forgotten.
    #[arg(long, requires = "auth")]
    pub(crate) reset_admin: bool,
    /// Lets everybody do everything, also when others can reach the broker.
    #[arg(long, conflicts_with = "auth")]
    pub(crate) insecure: bool,
}

impl Serve {
    /// How TLS is to be spoken, if it is.
    pub(crate) fn tls(&self) -> Option<crate::tls::Options> {
        let (certificate, key) = self.tls_cert.clone().zip(self.tls_key.clone())?;
        Some(crate::tls::Options {
            certificate,
            key,
            client_ca: self.tls_client_ca.clone(),
            client_required: self.tls_client_required,
            required: self.tls_required,
        })
    }
}

/// Arguments of `verify`.
///
/// No broker may run on the directory meanwhile. Every page, batch, row and entry is compared with
/// its checksums; a line for each fault names the file, the topic and the offsets. The exit code is
/// 0 where all is whole, 9 where something is damaged, and 1 where it could not be read. A last write
/// that a power cut or a full disk has cut short cannot be told from damage: it is doubtful, with 9 too,
/// and gone when the broker has started and stopped once.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Directory of everything that is stored, as given to `serve --data`.
    pub(crate) directory: PathBuf,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Log lines of each producer: its files are cut or repeated to this [default: each line once].
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) records: Option<u64>,
    /// Directory of log files [default: a set that comes with the program].
    #[arg(long, value_name = "DIR")]
    pub(crate) logs: Option<PathBuf>,
    /// Keeps the broker's directory and says where it is.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// What can be done to topics.
#[derive(Debug, Subcommand)]
pub(crate) enum Topic {
    /// Creates a topic; one of that name is an error.
    Create {
        /// 1 to 128 of A-Z a-z 0-9 . _ - and no dot at the start.
        name: String,
        /// Settings, such as `retention_age=7d`.
        #[arg(value_name = "KEY=VALUE", value_parser = setting)]
        settings: Vec<(String, String)>,
    },
    /// Changes settings of a topic; what is not named stays as it is.
    Alter {
        /// The topic.
        name: String,
        /// Settings, such as `retention_age=7d`; `KEY=` alone unsets one.
        #[arg(value_name = "KEY=VALUE", value_parser = setting, required = true)]
        settings: Vec<(String, String)>,
    },
    /// Removes the records before a position.
    Purge {
        /// The topic.
        name: String,
        /// The first record that is kept; see W below.
        #[arg(long, value_name = "W", allow_hyphen_values = true)]
        before: Position,
        /// Really removes them.
        #[arg(long)]
        yes: bool,
    },
    /// Lists all topics; `-o raw` prints names alone.
    List,
    /// Shows a topic and its consumers.
    Describe {
        /// The topic.
        name: String,
    },
    /// Deletes a topic with its records, producers and consumers.
    Delete {
        /// The topic.
        name: String,
        /// Does it; without this the command says what would go, and changes nothing.
        #[arg(long)]
        yes: bool,
    },
}

/// Arguments of `produce`.
///
/// A record is a line without its LF; a CR stays. Its timestamp is the time at which it was read.
/// A line over the broker's record limit is named on stderr and left out; the rest is produced, and
/// the exit code is 1.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Produce {
    /// The topic; created if missing.
    pub(crate) topic: String,
    /// Files, `-` for stdin [default: -].
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Key of every record.
    #[arg(long, value_name = "K")]
    pub(crate) key: Option<String>,
    /// Header of every record; repeatable.
    #[arg(long = "header", value_name = "K=V", value_parser = header)]
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    /// Severity of every record: trace, debug, info, warn, error, fatal, each also with 2 to 4
    /// (`warn2`), or a number from 1 to 24.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) severity: Option<Severity>,
    /// When the broker answers: after the fsync, or before it (a crash may then lose records).
    #[arg(long, default_value = "synced", conflicts_with_all = ["also", "delay", "at"])]
    pub(crate) ack: Ack,
    /// How batches are packed, on the wire and on the broker's disk [default: zstd].
    #[arg(long, value_name = "CODEC")]
    pub(crate) compression: Option<Compression>,
    /// Another topic that gets the same records: each is in all of the topics, or in none;
    /// repeatable.
    #[arg(long, value_name = "TOPIC", conflicts_with_all = ["delay", "at"])]
    pub(crate) also: Vec<String>,
    /// Lets nobody receive the records before so long from now, such as 5m or 1h30m; they wait in
    /// the broker.
    #[arg(long, value_name = "DURATION", value_parser = delay, conflicts_with = "at")]
    pub(crate) delay: Option<Duration>,
    /// The same, until a time such as 2030-01-01T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(crate) at: Option<SystemTime>,
}

/// How batches are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// Less work for readers.
    Lz4,
    /// The fewest bytes, and the least work in all.
    Zstd,
}

impl Compression {
    /// As it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl From<Compression> for logdrive_client::Compression {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Lz4 => Self::Lz4,
            Compression::Zstd => Self::Zstd,
        }
    }
}

/// Which answer counts as an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ack {
    /// After the fsync.
    Synced,
    /// When the record is staged.
    Accepted,
}

/// Arguments of `fetch`.
#[derive(Debug, Args)]
#[command(after_help = POSITIONS)]
pub(crate) struct Fetch {
    /// The topic.
    pub(crate) topic: String,
    /// Where to begin.
    #[arg(
        long,
        value_name = "W",
        default_value = "earliest",
        allow_hyphen_values = true
    )]
    pub(crate) from: Position,
    /// Where to stop, exclusive [default: the end as it is when the command starts].
    #[arg(long, value_name = "W", allow_hyphen_values = true)]
    pub(crate) to: Option<Position>,
    /// At most so many records.
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Waits for more records instead of stopping at the end.
    #[arg(long, conflicts_with = "to")]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) wanted: Wanted,
}

/// Filters: the broker leaves out records that do not fulfil all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct Wanted {
    /// This severity or a higher one: trace, debug, info, warn, error, fatal, or 1 to 24.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) severity: Option<Severity>,
    /// Values in which this regular expression matches; linear in time, at most 256 bytes.
    #[arg(long, value_name = "REGEX")]
    pub(crate) grep: Option<String>,
    /// A header of this name with exactly this value; repeatable, all must hold.
    #[arg(long = "header", value_name = "K=V", value_parser = header_text)]
    pub(crate) headers: Vec<(String, String)>,
    /// Records whose own timestamp is T or later: 2026-03-01T12:00:00Z, or microseconds.
    #[arg(long, value_name = "T", value_parser = time)]
    pub(crate) since: Option<u64>,
    /// Records whose own timestamp is earlier than T.
    #[arg(long, value_name = "T", value_parser = time)]
    pub(crate) until: Option<u64>,
}

impl Wanted {
    /// Whether there is any filter.
    pub(crate) fn is_any(&self) -> bool {
        *self != Self::default()
    }
}

impl From<Wanted> for Filter {
    fn from(wanted: Wanted) -> Self {
        let Wanted {
            severity,
            grep,
            headers,
            since,
            until,
        } = wanted;
        Self {
            severity,
            headers,
            grep,
            since,
            until,
        }
    }
}

/// Arguments of `consume`.
#[derive(Debug, Args)]
#[command(after_help = POSITIONS)]
pub(crate) struct Consume {
    /// The topic.
    pub(crate) topic: String,
    /// The consumer; created if missing.
    #[arg(long, value_name = "NAME")]
    pub(crate) consumer: String,
    /// Where a consumer that is created begins; an existing one goes on where it is.
    #[arg(
        long,
        value_name = "W",
        default_value = "earliest",
        allow_hyphen_values = true
    )]
    pub(crate) from: Position,
    /// At most so many records.
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Waits for more records instead of stopping when nothing is left.
    #[arg(long)]
    pub(crate) follow: bool,
    /// Leases records for so long and acks them when they are written: what was not comes again.
    #[arg(long, value_name = "DURATION", value_parser = lease)]
    pub(crate) lease: Option<Duration>,
}

/// Arguments of `size`.
#[derive(Debug, Args)]
pub(crate) struct Size {
    /// The topic.
    pub(crate) topic: String,
    /// The consumer; it is not created.
    #[arg(long, value_name = "NAME")]
    pub(crate) consumer: String,
}

pub(super) const POSITIONS: &str = "\
W is one of: earliest | latest | an offset | -100 (the last 100) | 1h30m (ago) |
2026-03-01T12:00:00Z (the first record appended at or after it)";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// What is parsed, or the kind of error that clap names.
    fn check(line: &str, expected: &str) {
        let words = std::iter::once("logdrive").chain(line.split_whitespace());
        let got = match Arguments::try_parse_from(words) {
            Ok(arguments) => format!("{:?}", arguments.command),
            Err(error) => format!("{:?}", error.kind()),
        };
        assert!(
            got.contains(expected),
            "{line}\n got: {got}\nwant: {expected}"
        );
    }

    #[test]
    fn the_grammar_agrees_with_itself() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_is_typed_as_documented() {
        check("serve", "data: \"./logdrive-data\", listen: 127.0.0.1:7440");
        check("serve", "low_space: 128");
        check("serve --low-space 16", "low_space: 16");
        check(
            "serve --max-connections 5 --max-connections-per-address 2 --idle-time 1m30s",
            "max_connections: 5, max_connections_per_address: Some(2), idle_time: 90s",
        );
        check("serve --idle-time 0", "idle_time: 0ns");
        check(
            "demo --records 5 --logs d --keep",
            "records: Some(5), logs: Some(\"d\"), keep: true",
        );
        check("topic create app", "Create { name: \"app\", settings: [] }");
        check("topic list", "List");
        check("topic describe app", "Describe");
        check("topic delete app --yes", "yes: true");
        check(
            "produce app a.log - --key k --header a=b --header c=d=e",
            "(\"c\", [100, 61, 101])",
        );
        check(
            "produce app --severity warn --ack accepted",
            "ack: Accepted",
        );
        check(
            "fetch app --from 1h30m --to latest -n 5",
            "from: Ago(5400000000), to: Some(Latest)",
        );
        check(
            "fetch app --severity warn --grep a.b --header k=v --since 1970-01-01T00:00:01Z --until 5",
            "Wanted { severity: Some(Severity(13)), grep: Some(\"a.b\"), headers: [(\"k\", \"v\")], \
             since: Some(1000000), until: Some(5) }",
        );
        check("consume app --consumer c1 -n 1", "consumer: \"c1\"");
        check("size app --consumer c1", "Size");
        check("consume app --consumer c --lease 1m30s", "lease: Some(90s)");
        check("consumer unregister app c1 --yes", "Delete");
        check("consumer delete app c1 --yes", "yes: true");
        check(
            "consumer create app c1 --from -5 --set max_deliveries=3 --set order=key",
            "from: Last(5), settings: [Setting { key: \"max_deliveries\", value: \"3\" }, Setting",
        );
        check("consumer list app", "List { topic: \"app\" }");
        check("consumer describe app c1", "Describe");
        check(
            "consumer alter app c1 backoff=1s,10s order=",
            "value: \"\" }]",
        );
        check("consumer pause app c1", "Pause");
        check("consumer resume app c1", "Resume");
        check(
            "consumer requeue app c1 --from dead --offset 5..7 --offset 9",
            "from: \"dead\", offsets: [(5, 7), (9, 10)]",
        );
        check("ping", "Ping");
        check("verify d -o json", "Verify(Verify { directory: \"d\" })");
        check(
            "topic create app retention_age=7d",
            "settings: [(\"retention_age\", \"7d\")]",
        );
        check("topic alter app description=", "[(\"description\", \"\")]");
        check("topic purge app --before -5", "before: Last(5)");
    }

    #[test]
    fn a_position_may_begin_with_a_hyphen_everywhere() {
        check("fetch app --from -100", "from: Last(100)");
        check("fetch app --from=-100 --to -5", "to: Some(Last(5))");
        check("consume app --consumer c --from -7", "from: Last(7)");
        check("consumer seek app c1 -100", "to: Last(100)");
        check(
            "consumer seek app c1 2026-03-01T12:00:00Z",
            "to: Time(1772366400000000)",
        );
    }

    #[test]
    fn any_word_of_tls_makes_a_command_speak_it() {
        for (line, expected) in [
            ("ping", "None"),
            ("ping --tls", "Some(Tls { ca: None"),
            ("--ca a.pem ping", "Some(Tls { ca: Some(\"a.pem\")"),
            ("ping --tls-server-name b", "server_name: Some(\"b\")"),
            (
                "--cert c ping --cert-key k",
                "certificate: \"c\", key: \"k\"",
            ),
            ("ping --cert c", "are given together"),
        ] {
            let words = std::iter::once("logdrive").chain(line.split_whitespace());
            let common = Arguments::try_parse_from(words).unwrap().common;
            let got = match common.secure.options() {
                Ok(tls) => format!("{tls:?}"),
                Err(fault) => fault.message,
            };
            assert!(got.contains(expected), "{line}: {got}");
        }
        check("serve --tls-cert c", "MissingRequiredArgument");
        check("serve --tls-required", "MissingRequiredArgument");
        check(
            "serve --tls-cert c --tls-key k --tls-client-required",
            "MissingRequiredArgument",
        );
        check("generate cert --host a --host b", "hosts: [\"a\", \"b\"]");
    }

    #[test]
    fn server_and_output_stand_before_or_after_the_command() {
        for line in ["--server h:1 -o json ping", "ping --server h:1 -o json"] {
            let words = std::iter::once("logdrive").chain(line.split_whitespace());
            let common = Arguments::try_parse_from(words).unwrap().common;
            assert_eq!(
                (common.server.as_str(), common.output),
                ("h:1", Some(Format::Json))
            );
        }
    }

    #[test]
    fn an_address_to_listen_on_is_one_in_numbers() {
        assert_eq!(listen("[::1]:7440").unwrap().to_string(), "[::1]:7440");
        for (text, expected) in [
            (
                "localhost:7441",
                "127.0.0.1:7441 for this machine, 0.0.0.0:7441 for all",
            ),
            (":7441", "127.0.0.1:7441 for this machine"),
            ("7441", "127.0.0.1:7441 for this machine"),
            ("broker", "127.0.0.1:7440 for this machine"),
        ] {
            let said = listen(text).unwrap_err();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }

    #[test]
    fn what_does_not_fit_is_a_usage_error() {
        check("", "DisplayHelpOnMissingArgumentOrSubcommand");
        check("fetch", "MissingRequiredArgument");
        check("fetch app --from yesterday", "ValueValidation");
        check("fetch app --severity loud", "ValueValidation");
        check("fetch app --since 2h", "ValueValidation");
        check("consume app", "MissingRequiredArgument");
        check("consume app --consumer c --lease 0s", "ValueValidation");
        check("consumer alter app c1", "MissingRequiredArgument");
        check("serve --idle-time 1ms", "ValueValidation");
        check("serve --listen localhost:7441", "ValueValidation");
        check("serve --max-connections 0", "ValueValidation");
        check("produce app --header =x", "ValueValidation");
        check("produce app --severity loud", "ValueValidation");
        check("produce app --delay soon", "ValueValidation");
        check("produce app --delay 5m --also b", "ArgumentConflict");
        check("demo --records 0", "ValueValidation");
        check("fech app", "InvalidSubcommand");
        check("ping -o yaml", "InvalidValue");
        check("fetch app --to 5 --follow", "ArgumentConflict");
    }
}

//! The command line: `logdrive` as a person or a script uses it.
//!
//! Data goes to stdout, talk to stderr, and every way to end has its exit code. Owns no semantics:
//! every command but `serve`, `demo`, `bench` and `verify` is a client like any other.
//!
//! | module | owns |
//! |---|---|
//! | `args` | what can be typed |
//! | `exit` | exit codes and the errors that carry them |
//! | `output`, `records` | the four forms of what goes to stdout |
//! | `lines` | cutting files into records |
//! | `progress`, `signals`, `suggest` | what a person sees, stops, and meant |
//! | `serve`, `topic`, `produce`, `fetch`, `consume`, `consumer`, `principal`, `ping`, `generate` | one command each |
//! | `verify` | looking for damage in a directory |
//! | `credentials` | where tokens and passwords are read from |
//! | `broker` | a broker in a child process |
//! | `demo` | the broker on trial: killed, restarted, checked |
//! | `bench` | its figures, each beside the limit of the machine |

mod args;
mod bench;
mod broker;
mod consume;
mod consumer;
mod credentials;
mod demo;
mod exit;
mod fetch;
mod generate;
mod lines;
mod output;
mod ping;
mod principal;
mod produce;
mod progress;
mod records;
mod serve;
mod signals;
mod suggest;
mod topic;
mod verify;

use std::process::ExitCode;

use clap::Parser;
use logdrive_client::{Client, Options};

use args::{Arguments, Command, Common};
use exit::{Exit, Fault};

use crate::storage;

/// Runs the command that the process was started with, and says how it ended.
pub fn main() -> ExitCode {
    storage::quiet_guarded_panics();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help that cannot be printed has no reader.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            }
            .into();
        }
    };
    if let Err(fault) = credentials::check_sight(&arguments.common) {
        return fault.report().into();
    }
    let ended = match arguments.command {
        // The broker makes its own runtimes.
        Command::Serve(serve) => serve::run(serve),
        Command::Verify(verify) => verify::run(&arguments.common, &verify),
        command => in_runtime(&arguments.common, command),
    };
    ended.unwrap_or_else(|fault| fault.report()).into()
}

/// Runs a client's command: the command on this thread, connections on another, so that a slow
/// stdout or file holds up nothing but the command itself.
fn in_runtime(common: &Common, command: Command) -> Result<Exit, Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Fault::new(Exit::Failed, format_args!("cannot start: {error}")))?;
    runtime.block_on(run(common, command))
}

async fn run(common: &Common, command: Command) -> Result<Exit, Fault> {
    match command {
        Command::Serve(serve) => serve::run(serve),
        Command::Verify(arguments) => verify::run(common, &arguments),
        Command::Demo(demo) => demo::run(common.output, demo).await,
        Command::Bench(bench) => bench::run(common.output, bench).await,
        Command::Topic(topic) => topic::run(common, topic).await,
        Command::Produce(produce) => produce::run(common, produce).await,
        Command::Fetch(fetch) => fetch::run(common, fetch).await,
        Command::Consume(consume) => consume::run(common, consume).await,
        Command::Size(size) => consumer::size(common, size).await,
        Command::Consumer(consumer) => consumer::run(common, consumer).await,
        Command::Principal(principal) => principal::run(common, principal).await,
        Command::Ping => ping::run(common).await,
        Command::Generate(generate) => generate::run(generate),
    }
}

/// A connection to the broker that `--server` names.
async fn connect(common: &Common) -> Result<Client, Fault> {
    let options = Options {
        client_name: "logdrive-cli".to_owned(),
        tls: common.secure.options()?,
        credentials: credentials::of(common)?,
        ..Options::default()
    };
    Ok(Client::connect_with(common.server.as_str(), options).await?)
}

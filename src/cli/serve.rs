//! `logdrive serve`: the broker in this process.
//!
//! Hands the arguments to [`server`](crate::server), which blocks until it was asked to stop, and
//! prints what the broker has to say on stderr: warnings and errors, or what `LOGDRIVE_LOG` names
//! (`info`, `debug`, `logdrive::storage=debug`).

use tracing_subscriber::EnvFilter;

use super::args::Serve;
use super::exit::{Exit, Fault};
use crate::limits::Admission;

/// Runs the broker; returns when it has stopped gracefully.
pub(crate) fn run(arguments: Serve) -> Result<Exit, Fault> {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::WARN.into())
        .with_env_var("LOGDRIVE_LOG")
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let tls = arguments.tls();
    let options = crate::server::Options {
        data: arguments.data,
        listen: arguments.listen,
        write_ahead: arguments.write_ahead,
        low_space: arguments.low_space.saturating_mul(1 << 20),
        tls,
        admission: Admission {
            connections: arguments.max_connections,
            per_address: arguments.max_connections_per_address,
            idle: arguments.idle_time,
        },
        auth: arguments.auth,
        reset_admin: arguments.reset_admin,
        insecure: arguments.insecure,
    };
    match crate::server::serve(options) {
        Ok(()) => Ok(Exit::Done),
        Err(error) => Err(Fault::new(Exit::Failed, format_args!("{error:#}"))),
    }
}

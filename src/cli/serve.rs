//! `logdrive serve`: the broker in this process.
//!
//! Hands the arguments to [`server`](crate::server), which blocks until it was asked to stop.

use super::args::Serve;
use super::exit::{Exit, Fault};

/// Runs the broker; returns when it has stopped gracefully.
pub(crate) fn run(arguments: Serve) -> Result<Exit, Fault> {
    let options = crate::server::Options {
        data: arguments.data,
        listen: arguments.listen,
    };
    match crate::server::serve(options) {
        Ok(()) => Ok(Exit::Done),
        Err(error) => Err(Fault::new(Exit::Failed, format_args!("{error:#}"))),
    }
}

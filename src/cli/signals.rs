//! SIGINT, SIGTERM and SIGHUP, as something to wait for.
//!
//! Owns the choice of signals; what a command says and does before it ends is its own.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::{Exit, Fault};

/// The signals that ask a command to end; from its making on they no longer kill the process.
pub(crate) struct Signals([Signal; 3]);

impl Signals {
    /// Takes the signals over.
    pub(crate) fn new() -> Result<Self, Fault> {
        let on = |kind| {
            signal(kind).map_err(|error| {
                Fault::new(
                    Exit::Failed,
                    format_args!("cannot wait for signals: {error}"),
                )
            })
        };
        Ok(Self([
            on(SignalKind::interrupt())?,
            on(SignalKind::terminate())?,
            on(SignalKind::hangup())?,
        ]))
    }

    /// Waits for one of them. Dropping the future loses none.
    pub(crate) async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

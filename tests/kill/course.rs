//! What all players see of the trial, and what they tell about it.
//!
//! The supervisor sets the [`Stage`]; players read it and count what happens, so that the
//! supervisor can wait for it. Nobody waits for time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use logdrive::history::Recorder;
use logdrive_client::{Client, Error, Options};
use tokio::sync::watch;

use crate::plan::REQUEST_TIMEOUT;

/// Longer than any trial. Where leases of killed workers hold back all keys, a worker gets nothing
/// as long as no broker lives as long as a lease; whoever is stuck, the supervisor gives up on.
const TRIAL: Duration = Duration::from_hours(24);

/// How the trial stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stage {
    /// Kills so far; counted before the signal is sent.
    pub(crate) kills: u64,
    /// Kills that have ended a broker; counted before it is started again.
    pub(crate) deaths: u64,
    /// Kills that the broker has come back from; counted when it is ready.
    pub(crate) survived: u64,
    /// Producers come to an end.
    pub(crate) finishing: bool,
    /// Everything is acknowledged or given up: consumers take what is left and end.
    pub(crate) all_produced: bool,
}

/// What every player has.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    pub(crate) seed: u64,
    pub(crate) address: SocketAddr,
    begun: Instant,
    pub(crate) stage: watch::Receiver<Stage>,
    /// Records acknowledged as synced.
    pub(crate) acknowledged: watch::Sender<u64>,
    /// Answers that have reached consumers.
    pub(crate) answered: watch::Sender<u64>,
    /// Bursts handed over.
    pub(crate) bursts: watch::Sender<u64>,
}

impl Course {
    pub(crate) fn new(seed: u64, address: SocketAddr, stage: watch::Receiver<Stage>) -> Self {
        let counter = || watch::channel(0).0;
        Self {
            seed,
            address,
            begun: Instant::now(),
            stage,
            acknowledged: counter(),
            answered: counter(),
            bursts: counter(),
        }
    }

    /// The stage now.
    pub(crate) fn now(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Microseconds since the trial began: the time of all notes.
    pub(crate) fn clock(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap()
    }

    /// Waits until so many records more are acknowledged, or producers are to end.
    pub(crate) async fn acknowledgements(&mut self, more: u64) {
        let target = *self.acknowledged.borrow() + more;
        let mut acknowledged = self.acknowledged.subscribe();
        // Both senders live as long as the trial; if one is gone, there is nothing to wait for.
        tokio::select! {
            _ = acknowledged.wait_for(|&count| count >= target) => {}
            _ = self.stage.wait_for(|stage| stage.finishing) => {}
        }
    }

    /// A connection of one player's own. It lives through kills by the client's means alone.
    pub(crate) async fn connect(&self, player: &str) -> Result<Client, Error> {
        let options = Options {
            client_name: format!("kill-{player}"),
            retry_for: TRIAL,
            request_timeout: REQUEST_TIMEOUT,
            ..Options::default()
        };
        Client::connect_with(self.address, options).await
    }
}

/// A record that was handed over before a kill and acknowledged after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crossing {
    /// Kills before it was handed over.
    pub(crate) kills: u64,
    /// Deaths before it was acknowledged.
    pub(crate) deaths: u64,
    /// Whether the broker was ready again after the last of these.
    pub(crate) is_restarted: bool,
    /// When the broker says that it took it, in microseconds since 1970 UTC.
    pub(crate) append_time: u64,
}

/// What a player comes back with.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    pub(crate) recorder: Recorder,
    pub(crate) crossings: Vec<Crossing>,
    /// Records whose outcome the player was told to be unknown.
    pub(crate) unknown: u64,
    /// Records that were only accepted.
    pub(crate) accepted: u64,
}

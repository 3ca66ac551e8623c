//! What is shown while `logdrive produce` waits: the bar, kept at what is acknowledged.
//!
//! Owns the bar and every wait of the command, so that a signal is heard and the bar moves in each.

use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use futures_util::poll;
use logdrive_client::Acknowledgements;

use crate::cli::progress::Progress;
use crate::cli::signals::Signals;

/// How often the bar is brought up to date during a wait.
const TICK: Duration = Duration::from_millis(200);
/// After so many ticks without an acknowledgement, the bar says what is waited for.
const PATIENCE: u32 = 5;
/// After so many ticks without an acknowledgement it is said, bar or not.
const LONG_PATIENCE: u32 = 25;
/// What the bar counts.
const COUNTED: &str = "records acknowledged";
const COUNTED_WAITING: &str = "records acknowledged, waiting for the broker";

/// The bar and what moves it.
pub(super) struct Shown {
    progress: Progress,
    acknowledgements: Acknowledgements,
    /// Bytes of all inputs, where that is known.
    total_bytes: Option<u64>,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// More lines: that may last, and is no trouble.
    Lines,
    /// Acknowledgements, or room in the window, which they make.
    Broker,
}

impl Shown {
    /// A bar where the size of all inputs is known, else a count.
    pub(super) fn new(acknowledgements: Acknowledgements, total_bytes: Option<u64>) -> Self {
        Self {
            // The number of records is told as soon as some lines have been read.
            progress: Progress::new(total_bytes.map(|_| 0), COUNTED),
            acknowledgements,
            total_bytes,
        }
    }

    /// Records acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledgements.count()
    }

    /// Says a line on stderr.
    pub(super) fn say(&self, line: &str) {
        self.progress.say(line);
    }

    /// So many records of so many bytes have been read: those to come are taken to be as long.
    pub(super) fn read(&self, records: u64, bytes: u64) {
        self.progress.set(self.acknowledged());
        if let (Some(total), Some(mean)) = (self.total_bytes, bytes.checked_div(records)) {
            self.progress.expect((total / mean.max(1)).max(records));
        }
    }

    /// All records have been read.
    pub(super) fn read_all(&self, records: u64) {
        self.progress.expect(records);
    }

    /// Waits; `None` when a signal came first.
    pub(super) async fn until<T>(
        &self,
        awaited: Awaited,
        wait: impl Future<Output = T>,
        signals: &mut Signals,
    ) -> Option<T> {
        let mut wait = pin!(wait);
        // Timers and signals are looked at only where there is a wait.
        match poll!(wait.as_mut()) {
            Poll::Ready(ended) => Some(ended),
            Poll::Pending => self.until_late(awaited, wait, signals).await,
        }
    }

    async fn until_late<T>(
        &self,
        awaited: Awaited,
        mut wait: Pin<&mut impl Future<Output = T>>,
        signals: &mut Signals,
    ) -> Option<T> {
        let (mut last, mut idle) = (self.acknowledged(), 0);
        let ended = loop {
            tokio::select! {
                ended = wait.as_mut() => break Some(ended),
                () = signals.wait() => break None,
                () = tokio::time::sleep(TICK) => {}
            }
            let now = self.acknowledged();
            self.progress.set(now);
            idle = if now == last { idle + 1 } else { 0 };
            last = now;
            if awaited == Awaited::Broker && idle == LONG_PATIENCE {
                self.progress.say(
                    "nothing was acknowledged for 5 s: the broker is away or takes nothing; \
                     trying on (logdrive ping says why)",
                );
            }
            if awaited == Awaited::Broker {
                self.progress.name(if idle < PATIENCE {
                    COUNTED
                } else {
                    COUNTED_WAITING
                });
            }
        };
        if idle >= PATIENCE {
            self.progress.name(COUNTED);
        }
        ended
    }
}

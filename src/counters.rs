//! Counters of the broker as a whole: counted where things happen, looked up by nobody per record.

use std::sync::atomic::{AtomicU64, Ordering};

use logdrive_protocol::operations::Counter;

/// All counters, since the broker started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that are open.
    pub connections: AtomicU64,
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections closed because there were too many, of all or of their address.
    pub turned_away: AtomicU64,
    /// Those of them whose address had too many.
    pub turned_away_address: AtomicU64,
    /// Connections closed before they had said anything: to make room, or after a long silence.
    pub silent_ended: AtomicU64,
    /// Connections that were served later because their address came too fast.
    pub paced: AtomicU64,
    /// Connections ended because their preface did not come in time.
    pub handshakes_late: AtomicU64,
    /// Connections ended because a frame or a line was begun and did not go on.
    pub frames_late: AtomicU64,
    /// Connections ended because nothing was said.
    pub idle_ended: AtomicU64,
    /// Connections ended because an answer was not read.
    pub readers_late: AtomicU64,
    /// Connections ended because the boundary between frames was lost.
    pub frames_bad: AtomicU64,
    /// Requests admitted.
    pub requests: AtomicU64,
    /// Answers written.
    pub answers: AtomicU64,
    /// Answers that were errors.
    pub errors: AtomicU64,
    /// Logins that were wrong.
    pub logins_failed: AtomicU64,
    /// Logins that were not heard, because too many of their address had failed.
    pub logins_put_off: AtomicU64,
    /// Requests refused for want of a right.
    pub denied: AtomicU64,
    /// Bytes of frames and lines received.
    pub received_bytes: AtomicU64,
    /// Bytes written to sockets.
    pub sent_bytes: AtomicU64,
}

impl Counters {
    /// All of them by name.
    pub fn list(&self) -> Vec<Counter> {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("connections", value(&self.connections)),
            ("connections_accepted", value(&self.accepted)),
            ("connections_turned_away", value(&self.turned_away)),
            (
                "connections_turned_away_address",
                value(&self.turned_away_address),
            ),
            ("connections_silent_ended", value(&self.silent_ended)),
            ("connections_paced", value(&self.paced)),
            ("connections_idle_ended", value(&self.idle_ended)),
            ("handshakes_late", value(&self.handshakes_late)),
            ("frames_late", value(&self.frames_late)),
            ("frames_bad", value(&self.frames_bad)),
            ("readers_late", value(&self.readers_late)),
            ("requests", value(&self.requests)),
            ("answers", value(&self.answers)),
            ("errors", value(&self.errors)),
            ("logins_failed", value(&self.logins_failed)),
            ("logins_put_off", value(&self.logins_put_off)),
            ("denied", value(&self.denied)),
            ("received_bytes", value(&self.received_bytes)),
            ("sent_bytes", value(&self.sent_bytes)),
        ]
        .map(|(name, value)| Counter {
            name: name.to_owned(),
            value,
        })
        .to_vec()
    }

    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }
}

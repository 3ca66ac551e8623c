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
    /// Connections closed because there were too many.
    pub turned_away: AtomicU64,
    /// Requests admitted.
    pub requests: AtomicU64,
    /// Answers written.
    pub answers: AtomicU64,
    /// Answers that were errors.
    pub errors: AtomicU64,
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
            ("requests", value(&self.requests)),
            ("answers", value(&self.answers)),
            ("errors", value(&self.errors)),
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

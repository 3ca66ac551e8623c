//! What every system under comparison can do: the same few verbs for each, so that the same loops
//! drive them all.
//!
//! Owns the verbs alone. [`works`](super::works) calls them, [`logdrive`](super::logdrive),
//! [`redis`](super::redis) and [`nats`](super::nats) say what each means on their wire.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use bytes::Bytes;

/// A system that stores logs, with one durability.
pub(super) trait Peer: Sync {
    /// A connection that produces to one topic.
    type Producer: Produce + 'static;
    /// A connection that reads one topic.
    type Reader: Read + 'static;
    /// A connection that does nothing.
    type Idle: Send;

    /// What a start needs: the program and its arguments. Files that they name are written here.
    fn command(&self, directory: &Path, port: u16) -> Result<Vec<OsString>>;

    /// Makes a topic.
    fn create(&self, at: SocketAddr, topic: &str) -> impl Future<Output = Result<()>> + Send;

    /// How many records a topic holds: what was really stored.
    fn count(&self, at: SocketAddr, topic: &str) -> impl Future<Output = Result<u64>> + Send;

    /// Connects to produce, with batches of at most so many bytes where the client makes them.
    fn producer(
        &self,
        at: SocketAddr,
        topic: &str,
        batch_bytes: usize,
    ) -> impl Future<Output = Result<Self::Producer>> + Send;

    /// Connects to read a topic from its beginning, changing nothing.
    fn fetcher(
        &self,
        at: SocketAddr,
        topic: &str,
    ) -> impl Future<Output = Result<Self::Reader>> + Send;

    /// Connects to take a topic's records from its beginning, with a cursor that the server keeps.
    fn consumer(
        &self,
        at: SocketAddr,
        topic: &str,
    ) -> impl Future<Output = Result<Self::Reader>> + Send;

    /// Connects, greets, and falls silent.
    fn idle(&self, at: SocketAddr) -> impl Future<Output = Result<Self::Idle>> + Send;
}

/// Producing to one topic.
pub(super) trait Produce: Send {
    /// Sends records as one request, as far as the protocol has requests of several; waits for
    /// nothing but room on the way.
    fn send(&mut self, values: &[Bytes]) -> impl Future<Output = Result<()>> + Send;

    /// Waits until the oldest request without one has its acknowledgement, as safe as the peer's
    /// durability says; for ever if there is none. May be dropped and called again.
    fn acknowledged(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// Reading one topic.
pub(super) trait Read: Send {
    /// Waits for the next records and shows the value of each; how many there were.
    fn next(&mut self, each: impl FnMut(&[u8]) + Send) -> impl Future<Output = Result<u64>> + Send;
}

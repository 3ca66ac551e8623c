//! Producing.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use logdrive_protocol::batch::NewRecord;

use crate::Error;

/// How safe an acknowledged record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It is on disk.
    Synced,
    /// It is staged; a crash of the broker may lose it.
    Accepted,
}

/// The broker's acknowledgement of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The record's offset.
    pub offset: u64,
    /// When the broker took it, in microseconds since 1970 UTC.
    pub append_time: u64,
    /// How safe it is.
    pub durability: Durability,
}

/// A record on its way: a future of its receipt. Dropping it does not withdraw the record.
#[derive(Debug)]
pub struct Delivery {}

impl Future for Delivery {
    type Output = Result<Receipt, Error>;

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Self::Output> {
        todo!()
    }
}

/// What a producer could not get acknowledged, by topic.
#[derive(Clone, Debug)]
pub struct Unacknowledged {
    /// One for each topic concerned.
    pub topics: Vec<UnacknowledgedTopic>,
}

/// What was not acknowledged in one topic.
#[derive(Clone, Debug)]
pub struct UnacknowledgedTopic {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Records that were handed over and never acknowledged.
    pub records: u64,
    /// Of these, records that may have been stored all the same.
    pub unknown: u64,
    /// Records that were acknowledged and that the broker lost.
    pub lost: u64,
    /// The first error.
    pub error: Error,
}

impl fmt::Display for Unacknowledged {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

impl std::error::Error for Unacknowledged {}

/// Produces to one or several topics. Records of one topic keep their order.
#[derive(Debug)]
pub struct Producer {}

impl Producer {
    /// Produces one record, stamped with the present time, and waits until it is acknowledged:
    /// durable, unless [`Ack::Accepted`](crate::Ack::Accepted) was asked for.
    pub async fn send(
        &mut self,
        _topic: &str,
        _value: impl AsRef<[u8]> + Send,
    ) -> Result<Receipt, Error> {
        todo!()
    }

    /// Produces one record and waits until it is acknowledged. A timestamp of 0 becomes the
    /// present time.
    pub async fn send_record(
        &mut self,
        _topic: &str,
        _record: &NewRecord<'_>,
    ) -> Result<Receipt, Error> {
        todo!()
    }

    /// Hands a record over, waiting only for room in the window; the delivery says what became
    /// of it.
    pub async fn enqueue(
        &mut self,
        _topic: &str,
        _record: &NewRecord<'_>,
    ) -> Result<Delivery, Error> {
        todo!()
    }

    /// Hands a record over without a delivery, the fast way: what became of it is told by
    /// [`acknowledged`](Self::acknowledged), [`flush`](Self::flush) and [`close`](Self::close).
    pub async fn push(&mut self, _topic: &str, _record: &NewRecord<'_>) -> Result<(), Error> {
        todo!()
    }

    /// Waits until everything handed over is acknowledged, or has failed.
    ///
    /// # Errors
    /// What was not acknowledged since the last flush.
    pub async fn flush(&mut self) -> Result<(), Unacknowledged> {
        todo!()
    }

    /// Records acknowledged so far, over all topics; cheap, for progress bars.
    pub fn acknowledged(&self) -> u64 {
        todo!()
    }

    /// Records handed over so far, over all topics.
    pub fn handed_over(&self) -> u64 {
        todo!()
    }

    /// Topics that did not exist before.
    pub fn created_topics(&self) -> Vec<Arc<str>> {
        todo!()
    }

    /// Flushes, then ends an unnamed registration.
    ///
    /// # Errors
    /// What was never acknowledged.
    pub async fn close(self) -> Result<(), Unacknowledged> {
        todo!()
    }
}

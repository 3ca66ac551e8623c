//! What a caller learns of its records: receipts, deliveries, and what was not acknowledged.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::batching::Answer;
use crate::{Error, ErrorKind};

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
    /// The record's offset; provisional if it is only accepted.
    pub offset: u64,
    /// When the broker took it, in microseconds since 1970 UTC.
    pub append_time: u64,
    /// How safe it is.
    pub durability: Durability,
}

/// Where a batch is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) base_offset: u64,
    pub(crate) append_time: u64,
    pub(crate) durability: Durability,
}

impl Placed {
    pub(crate) fn is_synced(&self) -> bool {
        self.durability == Durability::Synced
    }

    /// The receipt of the batch's record of this number.
    pub(crate) fn receipt(&self, topic: &Arc<str>, index: usize) -> Receipt {
        Receipt {
            topic: topic.clone(),
            offset: self.base_offset.saturating_add(index as u64),
            append_time: self.append_time,
            durability: self.durability,
        }
    }
}

/// What became of a batch.
pub(crate) type Settled = Result<Placed, Error>;

/// A record on its way: a future of its receipt. Dropping it does not withdraw the record.
#[derive(Debug)]
pub struct Delivery {
    topic: Arc<str>,
    answer: Answer,
    index: usize,
}

impl Delivery {
    pub(crate) fn new(topic: Arc<str>, answer: Answer, index: usize) -> Self {
        Self {
            topic,
            answer,
            index,
        }
    }

    /// Of the only record of a batch.
    pub(crate) fn of_one(topic: Arc<str>, answer: oneshot::Receiver<Settled>) -> Self {
        Self::new(topic, answer.shared(), 0)
    }
}

impl Future for Delivery {
    type Output = Result<Receipt, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(settled) = self.answer.poll_unpin(context) else {
            return Poll::Pending;
        };
        let settled = settled.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::OutcomeUnknown,
                "the producer's task ended before the record was acknowledged",
            ))
        });
        Poll::Ready(settled.map(|placed| placed.receipt(&self.topic, self.index)))
    }
}

/// A look at how many records a producer has had acknowledged, from anywhere; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Acknowledgements(Arc<AtomicU64>);

impl Acknowledgements {
    /// Records so far, over all topics of the producer.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, records: u64) {
        self.0.fetch_add(records, Ordering::Relaxed);
    }
}

/// What became of all records of one topic so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Acknowledged or failed.
    pub(crate) settled: u64,
    pub(crate) failed: u64,
    /// Of the failed, those that may have been stored.
    pub(crate) unknown: u64,
    /// Acknowledged, and lost by the broker.
    pub(crate) lost: u64,
    /// The first one.
    pub(crate) error: Option<Error>,
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
    /// Records that were acknowledged and that the broker has lost since.
    pub lost: u64,
    /// The first error.
    pub error: Error,
}

impl UnacknowledgedTopic {
    /// What has happened since `before`, if it is not nothing.
    pub(crate) fn since(topic: &Arc<str>, before: &Tally, now: &Tally) -> Option<Self> {
        let (records, lost) = (now.failed - before.failed, now.lost - before.lost);
        if records == 0 && lost == 0 {
            return None;
        }
        let unsaid = || Error::new(ErrorKind::OutcomeUnknown, "not acknowledged");
        Some(Self {
            topic: topic.clone(),
            records,
            unknown: now.unknown - before.unknown,
            lost,
            error: now.error.clone().unwrap_or_else(unsaid),
        })
    }
}

impl Unacknowledged {
    /// Records that were handed over and never acknowledged, over all topics.
    pub fn records(&self) -> u64 {
        self.topics.iter().map(|it| it.records).sum()
    }
}

impl fmt::Display for Unacknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, it) in self.topics.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(
                f,
                "topic \"{}\": {} records not acknowledged",
                it.topic, it.records
            )?;
            if it.unknown > 0 {
                write!(f, " ({} of them may have been stored)", it.unknown)?;
            }
            if it.lost > 0 {
                write!(f, ", {} acknowledged ones lost by the broker", it.lost)?;
            }
            write!(f, ": {}", it.error)?;
        }
        Ok(())
    }
}

impl std::error::Error for Unacknowledged {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_acknowledged_is_said_by_topic_with_cause_and_counts() {
        let topic: Arc<str> = "app".into();
        let now = Tally {
            settled: 9,
            failed: 5,
            unknown: 2,
            lost: 1,
            error: Some(Error::new(ErrorKind::Timeout, "too late").with_hint("wait longer")),
        };
        let said = Unacknowledged {
            topics: vec![UnacknowledgedTopic::since(&topic, &Tally::default(), &now).unwrap()],
        };
        assert_eq!(
            said.to_string(),
            "topic \"app\": 5 records not acknowledged (2 of them may have been stored), \
             1 acknowledged ones lost by the broker: too late; wait longer"
        );
        assert!(UnacknowledgedTopic::since(&topic, &now, &now).is_none());
    }
}

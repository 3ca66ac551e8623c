//! Batching: the open batch, and the slot by which producer and task pass it on.
//!
//! ```text
//!  producer: take, or open a new one -> append the record -> put back       (every record)
//!  task:     take -> finish -> send                    (when it is time for a batch to leave)
//! ```
//!
//! Whoever has taken the batch owns it; the slot holds a pointer, so there is nothing to lock. A
//! batch that is full stays in the slot until the task takes it, and the producer waits: that is
//! the back-pressure. It is time for a batch to leave when one at most is in flight, when an
//! answer has come, and when it is full; there is no timer.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use crossbeam_utils::atomic::AtomicCell;
use futures_util::FutureExt;
use futures_util::future::Shared;
use logdrive_protocol::batch::{BatchBuilder, NewRecord};
use tokio::sync::{Notify, oneshot};

use super::delivery::Settled;
use super::lone::Lent;
use crate::Error;

/// Room that a batch begins with, whatever the last one needed.
const LEAST_CAPACITY: usize = 1 << 10;

/// How all deliveries of a batch learn what became of it.
pub(crate) type Answer = Shared<oneshot::Receiver<Settled>>;

/// When a batch is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    pub(crate) bytes: usize,
    pub(crate) records: usize,
}

/// A batch that still takes records.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) builder: BatchBuilder,
    pub(crate) settle: oneshot::Sender<Settled>,
    answer: Answer,
}

impl Open {
    fn new(capacity: usize) -> Self {
        let (settle, answer) = oneshot::channel();
        Self {
            builder: BatchBuilder::with_capacity(capacity),
            settle,
            answer: answer.shared(),
        }
    }

    fn fits(&self, record: &NewRecord<'_>, limits: BatchLimits) -> bool {
        self.builder.is_empty()
            || (self.builder.len() + record.encoded_len() <= limits.bytes
                && self.builder.count() < limits.records)
    }
}

/// Where a record was put.
#[derive(Debug)]
pub(crate) enum Put {
    /// In a batch, as its record of this number.
    In(Answer, usize),
    /// Nowhere: the batch is full and has to be taken first.
    Full,
}

/// Where producer and task meet.
pub(crate) struct Slot {
    open: AtomicCell<Option<Box<Open>>>,
    /// What the task sends with, while it is at rest.
    lent: AtomicCell<Option<Box<Lent>>>,
    /// The task would take a batch of any size: wake it at the next record.
    wanted: AtomicBool,
    /// No further record fits, or one did not.
    full: AtomicBool,
    /// The producer is gone: what is in the slot is the last.
    left: AtomicBool,
    /// The task has given up.
    dead: OnceLock<Error>,
    /// Bytes of the last batch: a good guess at the next one.
    last_len: AtomicUsize,
    for_task: Notify,
    for_producer: Notify,
}

impl Slot {
    pub(crate) fn new() -> Self {
        Self {
            open: AtomicCell::new(None),
            lent: AtomicCell::new(None),
            wanted: AtomicBool::new(true),
            full: AtomicBool::new(false),
            left: AtomicBool::new(false),
            dead: OnceLock::new(),
            last_len: AtomicUsize::new(0),
            for_task: Notify::new(),
            for_producer: Notify::new(),
        }
    }

    /// Puts a record into the open batch. Only the producer calls this, one call at a time.
    pub(crate) fn put(&self, record: &NewRecord<'_>, limits: BatchLimits) -> Result<Put, Error> {
        if let Some(error) = self.dead.get() {
            return Err(error.clone());
        }
        let mut open = self.open.take().unwrap_or_else(|| {
            let last = self.last_len.load(Ordering::Relaxed);
            let capacity =
                (last + last / 4).clamp(LEAST_CAPACITY, limits.bytes.max(LEAST_CAPACITY));
            Box::new(Open::new(capacity))
        });
        let put = if open.fits(record, limits) {
            let index = open.builder.count();
            open.builder.push(record);
            Put::In(open.answer.clone(), index)
        } else {
            Put::Full
        };
        let full = matches!(put, Put::Full) || open.builder.count() >= limits.records;
        self.open.store(Some(open));
        // Either the task's next look at the slot sees the batch, or this sees that it looked.
        fence(Ordering::SeqCst);
        if full {
            self.full.store(true, Ordering::SeqCst);
            self.for_task.notify_one();
        } else if self.wanted.load(Ordering::SeqCst) && self.wanted.swap(false, Ordering::SeqCst) {
            self.for_task.notify_one();
        }
        Ok(put)
    }

    /// Waits until the task has taken a batch since the last wait.
    pub(crate) async fn taken(&self) {
        self.for_producer.notified().await;
    }

    /// Borrows what the task sends with, if it is at rest and has taken all that was put, so many
    /// records. Only the producer calls this, and gives it back before it puts anything.
    pub(crate) fn borrow(&self, taken: u64) -> Option<Box<Lent>> {
        let lent = self.lent.take()?;
        if lent.unanswered.records() == taken && lent.unanswered.has_room() {
            return Some(lent);
        }
        self.lent.store(Some(lent));
        // The task may have looked for it meanwhile.
        self.for_task.notify_one();
        None
    }

    /// Gives back what was borrowed; the task is woken if it has to go on with something.
    pub(crate) fn give_back(&self, lent: Box<Lent>) {
        let wakes = lent.left.is_some();
        self.lent.store(Some(lent));
        if wakes {
            self.for_task.notify_one();
        }
    }

    /// Says that nothing will be put any more.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::SeqCst);
        self.for_task.notify_one();
    }

    /// Takes the open batch. Only the task calls this and what follows.
    ///
    /// With `any`, the task is woken by the next record if there is none.
    pub(crate) fn take(&self, any: bool) -> Option<Box<Open>> {
        self.wanted.store(any, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let open = self.open.take()?;
        self.wanted.store(false, Ordering::SeqCst);
        self.full.store(false, Ordering::SeqCst);
        self.last_len.store(open.builder.len(), Ordering::Relaxed);
        self.for_producer.notify_one();
        Some(open)
    }

    /// Lends the producer what the task sends with, until the task is woken.
    pub(crate) async fn lend(&self, lent: Box<Lent>) -> Box<Lent> {
        self.lent.store(Some(lent));
        loop {
            self.filled().await;
            // Away only while a call of the producer goes on, and whatever wakes comes after that.
            if let Some(lent) = self.lent.take() {
                return lent;
            }
        }
    }

    /// Whether the producer waits for its batch to be taken, or will never come back to it.
    pub(crate) fn is_urgent(&self) -> bool {
        self.full.load(Ordering::SeqCst) || self.has_left()
    }

    pub(crate) fn has_left(&self) -> bool {
        self.left.load(Ordering::SeqCst)
    }

    /// Waits until there is something to look at: a wanted record, a full batch, or the end.
    pub(crate) async fn filled(&self) {
        self.for_task.notified().await;
    }

    /// Refuses all records from now on.
    pub(crate) fn die(&self, error: Error) {
        // The first error stands.
        let _ = self.dead.set(error);
        self.for_producer.notify_one();
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The open batch cannot be looked at without taking it.
        f.debug_struct("Slot")
            .field("dead", &self.dead.get())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BatchLimits = BatchLimits {
        bytes: 400,
        records: 3,
    };

    fn record(value: &[u8]) -> NewRecord<'_> {
        NewRecord {
            timestamp: 1,
            value,
            ..NewRecord::default()
        }
    }

    fn put(slot: &Slot, value: &[u8]) -> Option<usize> {
        match slot.put(&record(value), LIMITS).unwrap() {
            Put::In(_, index) => Some(index),
            Put::Full => None,
        }
    }

    #[test]
    fn records_gather_in_one_batch_until_it_is_taken() {
        let slot = Slot::new();
        assert_eq!(put(&slot, b"a"), Some(0));
        assert_eq!(put(&slot, b"b"), Some(1));
        assert_eq!(slot.take(true).unwrap().builder.count(), 2);
        assert!(slot.take(true).is_none());
        assert_eq!(put(&slot, b"c"), Some(0), "a new batch");
    }

    #[test]
    fn a_batch_is_full_by_records_or_by_bytes_and_keeps_what_it_has() {
        let slot = Slot::new();
        for index in 0..3 {
            assert_eq!(put(&slot, b"x"), Some(index));
        }
        assert_eq!(put(&slot, b"x"), None, "three records");
        assert!(slot.is_urgent());
        assert_eq!(slot.take(false).unwrap().builder.count(), 3);
        assert!(!slot.is_urgent());
        assert_eq!(put(&slot, &[b'x'; 200]), Some(0));
        assert_eq!(put(&slot, &[b'x'; 200]), None, "400 bytes");
    }

    #[test]
    fn a_record_larger_than_a_batch_travels_alone() {
        let slot = Slot::new();
        assert_eq!(put(&slot, &[b'x'; 1000]), Some(0));
        assert_eq!(put(&slot, b"x"), None);
    }

    #[tokio::test]
    async fn the_task_is_woken_by_the_first_record_when_it_wants_one_and_by_a_full_batch() {
        let slot = Slot::new();
        assert!(slot.take(true).is_none());
        put(&slot, b"x");
        slot.filled().await;
        slot.take(false).unwrap();
        put(&slot, b"x");
        put(&slot, b"x");
        assert!(slot.filled().now_or_never().is_none(), "not wanted now");
        put(&slot, b"x");
        slot.filled().await;
    }

    #[test]
    fn after_the_task_has_given_up_records_are_refused_with_its_error() {
        let slot = Slot::new();
        slot.die(Error::new(crate::ErrorKind::Lost, "why"));
        let refused = slot.put(&record(b"x"), LIMITS).unwrap_err();
        assert_eq!(refused.message(), "why");
    }

    #[test]
    fn no_record_is_lost_between_a_busy_producer_and_a_busy_task() {
        let slot = Slot::new();
        let total = 20_000;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..total {
                    while matches!(slot.put(&record(b"x"), LIMITS), Ok(Put::Full)) {
                        std::thread::yield_now();
                    }
                }
            });
            let mut taken = 0;
            while taken < total {
                match slot.take(true) {
                    Some(open) => taken += open.builder.count(),
                    None => std::thread::yield_now(),
                }
            }
            assert_eq!(taken, total);
        });
    }
}

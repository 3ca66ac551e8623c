//! A record that is sent while nothing else of its topic is under way: without the task.
//!
//! ```text
//!  task, at rest: lends what it sends with ---> slot
//!  producer:      borrows it -> one batch of one record -> awaits its answer -> gives it back
//!  task:          takes it back when it is woken, with whatever did not go well
//! ```
//!
//! Whoever has the [`Lent`] owns it. The producer keeps it only inside of one call, and only for
//! what goes well: an error, or a caller that waits no longer, leaves the rest to the task, which
//! then stands where it would stand had it sent the batch itself.

use std::sync::Arc;

use logdrive_protocol::TopicId;
use logdrive_protocol::batch::{BatchBuilder, HEAD_BYTES, NewRecord};
use tokio::sync::oneshot;

use super::batching::Slot;
use super::delivery::{Delivery, Placed, Receipt};
use super::sequence::{Outgoing, Unanswered};
use super::task::{Flight, Tell, placed, produce};
use crate::Error;
use crate::link::{Link, Parking};

/// What a batch is sent with.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) topic: TopicId,
    pub(crate) link: Link,
    pub(crate) unanswered: Unanswered<Tell>,
    /// Whether a batch was answered as it should be.
    pub(crate) succeeded: bool,
    /// What the task has to go on with.
    pub(crate) left: Option<Left>,
}

/// Where a batch stands that did not come to its end.
#[derive(Debug)]
pub(crate) enum Left {
    /// It is to be sent.
    Unsent(u64),
    /// Nobody waits for its answer.
    Flying(Flight),
    /// It failed.
    Failed(u64, Error),
}

/// The borrowed, which goes back with this value.
struct Borrowed<'a> {
    slot: &'a Slot,
    lent: Option<Box<Lent>>,
    left: Option<Left>,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if let Some(mut lent) = self.lent.take() {
            lent.left = self.left.take();
            self.slot.give_back(lent);
        }
    }
}

/// What became of a record that was to be sent so.
pub(crate) enum Lone {
    /// It is acknowledged.
    Done(Receipt),
    /// The task goes on with it.
    Left(Delivery),
    /// It was not taken: something else is under way.
    Not,
}

/// Sends one record with what the slot has lent.
pub(crate) async fn send(
    slot: &Slot,
    lent: Box<Lent>,
    topic: &Arc<str>,
    record: &NewRecord<'_>,
) -> Lone {
    let mut borrowed = Borrowed {
        slot,
        lent: Some(lent),
        left: None,
    };
    let (tell, answer) = oneshot::channel();
    match borrowed.send(tell, record).await {
        Some(placed) => Lone::Done(placed.receipt(topic, 0)),
        None => Lone::Left(Delivery::of_one(topic.clone(), answer)),
    }
}

impl Borrowed<'_> {
    /// Where the record is; `None` if the task has to go on with it.
    async fn send(&mut self, tell: Tell, record: &NewRecord<'_>) -> Option<Placed> {
        let lent = self.lent.as_mut()?;
        let mut builder = BatchBuilder::with_capacity(HEAD_BYTES + record.encoded_len());
        builder.push(record);
        lent.unanswered.hold(&mut builder, tell);
        let Outgoing { id, batch, synced } = lent.unanswered.next()?;
        self.left = Some(Left::Unsent(id));
        let produce = produce(lent.topic, batch, synced);
        match lent.link.start(&produce, Parking::default()).await {
            Ok(call) => self.left = Some(Left::Flying(Flight { id, synced, call })),
            Err(error) => self.left = Some(Left::Failed(id, error)),
        }
        let Some(Left::Flying(flight)) = &mut self.left else {
            return None;
        };
        match flight.await {
            (id, Ok(produced)) => {
                self.left = None;
                let placed = placed(&produced);
                // It is this call that was to be told.
                drop(lent.unanswered.answered(id, placed.is_synced()));
                lent.succeeded = true;
                Some(placed)
            }
            (id, Err(error)) => {
                self.left = Some(Left::Failed(id, error));
                None
            }
        }
    }
}

//! The task behind one topic of a producer: it sends, is answered, and starts over when it must.
//!
//! ```text
//!             trouble, and nothing is in flight any more
//!  sending ------------------------------------------------> recovering
//!     ^                                                        |    |
//!     +-------- connected, registered, in sequence ------------+    | retry_for has passed,
//!     |                                                             | or no retry can help
//!     +-- the producer has left: unregister, end                    v
//!                                                     refusing, until the producer leaves
//! ```
//!
//! It decides when something is sent; what and with which sequence is `sequence`'s. After trouble
//! it waits until every request in flight has its answer or is lost, so that what it sends then
//! arrives in order and meets no straggler of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use logdrive_protocol::operations::{Payload, Produce, Produced, UnregisterProducer};
use logdrive_protocol::{ErrorCode, Outcome, ProducerId, TopicId};
use tokio::sync::{oneshot, watch};

use super::batching::Slot;
use super::delivery::{Acknowledgements, Durability, Placed, Settled, Tally};
use super::lone::{Left, Lent};
use super::register::{Registrar, Wanted};
use super::sequence::{GivenUp, Outgoing, Registration, Unanswered, Verdict, Window};
use crate::backoff::Retry;
use crate::client::follow;
use crate::dialer::Dialer;
use crate::link::{Call, Link, Parking};
use crate::{Error, ErrorKind};

/// Whom to tell what became of a batch.
pub(crate) type Tell = oneshot::Sender<Settled>;

/// One batch in flight.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) id: u64,
    pub(crate) synced: bool,
    pub(crate) call: Call<Produce>,
}

impl Future for Flight {
    type Output = (u64, Result<Produced, Error>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let produced = ready!(Pin::new(&mut self.call).poll(context));
        let produced = produced.and_then(|produced| {
            let less = self.synced && produced.durability != SYNCED;
            if less || produced.durability > ACCEPTED {
                let nonsense = Error::protocol("a batch that is less durable than was asked for");
                self.call.link().distrust(nonsense.clone());
                return Err(nonsense);
            }
            Ok(produced)
        });
        Poll::Ready((self.id, produced))
    }
}

/// The request for a batch.
pub(crate) fn produce(topic: TopicId, batch: Bytes, synced: bool) -> Produce {
    Produce {
        topic,
        leader_epoch: 0,
        ack: if synced { SYNCED } else { ACCEPTED },
        not_before: 0,
        batch: Payload::Shared(batch),
    }
}

/// What an answer says.
pub(crate) fn placed(produced: &Produced) -> Placed {
    Placed {
        base_offset: produced.base_offset,
        append_time: produced.append_time,
        durability: if produced.durability == SYNCED {
            Durability::Synced
        } else {
            Durability::Accepted
        },
    }
}

/// `durability` of an answer: on disk.
const SYNCED: u8 = Produce::SYNCED;
/// `durability` of an answer: staged.
const ACCEPTED: u8 = Produce::ACCEPTED;

/// Batches under way below which another one leaves at once, whatever it holds: one for the disk
/// to write, and one to be there when it has.
const AT_ONCE: usize = 2;

/// What is held while the producer has all of it.
const NO_WINDOW: Window = Window {
    batches: 0,
    bytes: 0,
};

/// Why sending has stopped.
#[derive(Debug)]
struct Trouble {
    /// The first error.
    error: Error,
    /// No retry can help.
    fatal: bool,
    /// The broker does not know the producer any more.
    forgotten: bool,
    /// The sequence that the broker expects, if it said so.
    expected: Option<u64>,
}

/// The task's state. It owns everything but the slot, which it shares with the producer.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) topic: Arc<str>,
    pub(crate) id: TopicId,
    pub(crate) dialer: Dialer,
    pub(crate) link: Link,
    pub(crate) registrar: Registrar,
    pub(crate) slot: Arc<Slot>,
    pub(crate) unanswered: Unanswered<Tell>,
    pub(crate) acknowledgements: Acknowledgements,
    pub(crate) tally: watch::Sender<Tally>,
}

/// What changes while it runs.
struct Running {
    flights: FuturesUnordered<Flight>,
    trouble: Option<Trouble>,
    retry: Retry,
    /// An answer has come since a batch was last taken.
    freed: bool,
}

impl Task {
    /// Runs until the producer has left and everything has its answer, or was given up.
    pub(crate) async fn run(mut self) {
        let mut running = Running {
            flights: FuturesUnordered::new(),
            trouble: None,
            retry: Retry::new(self.dialer.options()),
            freed: false,
        };
        match self.serve(&mut running).await {
            Ok(()) => self.unregister().await,
            Err(error) => self.refuse(error).await,
        }
    }

    async fn serve(&mut self, running: &mut Running) -> Result<(), Error> {
        loop {
            if running.flights.is_empty()
                && let Some(trouble) = running.trouble.take()
            {
                self.recover(trouble, &mut running.retry).await?;
            }
            self.take_open(running);
            self.send(running).await;
            if running.flights.is_empty() && running.trouble.is_some() {
                continue;
            }
            if running.flights.is_empty() && self.unanswered.is_answered() && self.slot.has_left() {
                // The producer left after its last record, so this look at the slot is the last.
                match self.slot.take(false) {
                    None => return Ok(()),
                    Some(mut open) => self.unanswered.hold(&mut open.builder, open.settle),
                }
                continue;
            }
            if running.flights.is_empty() && self.unanswered.is_answered() {
                self.rest(running).await;
                continue;
            }
            tokio::select! {
                biased;
                Some((id, produced)) = running.flights.next(), if !running.flights.is_empty() => {
                    self.landed(running, id, produced);
                }
                () = self.slot.filled() => {}
            }
        }
    }

    /// Lets the producer send by itself until it needs the task, and takes over what it has left.
    async fn rest(&mut self, running: &mut Running) {
        self.unanswered.rest();
        let nothing = Unanswered::new(Registration::default(), NO_WINDOW, true);
        let lent = Lent {
            topic: self.id,
            link: self.link.clone(),
            unanswered: std::mem::replace(&mut self.unanswered, nothing),
            succeeded: false,
            left: None,
        };
        let lent = self.slot.lend(Box::new(lent)).await;
        self.unanswered = lent.unanswered;
        if lent.succeeded {
            running.retry.succeeded();
        }
        match lent.left {
            None => {}
            Some(Left::Unsent(id)) => self.unanswered.failed(id, Outcome::NotDone),
            Some(Left::Flying(flight)) => running.flights.push(flight),
            Some(Left::Failed(id, error)) => self.failed(running, id, error),
        }
    }

    /// Takes the open batch if it is time for it to leave.
    fn take_open(&mut self, running: &mut Running) {
        while running.trouble.is_none() && self.unanswered.has_room() {
            let idle = self.unanswered.under_way() < AT_ONCE;
            if !idle && !running.freed && !self.slot.is_urgent() {
                return;
            }
            running.freed = false;
            let Some(mut open) = self.slot.take(idle) else {
                return;
            };
            self.unanswered.hold(&mut open.builder, open.settle);
        }
    }

    /// Sends what waits, in order, as long as all goes well.
    async fn send(&mut self, running: &mut Running) {
        while running.trouble.is_none()
            && let Some(Outgoing { id, batch, synced }) = self.unanswered.next()
        {
            let produce = produce(self.id, batch, synced);
            match self.link.start(&produce, Parking::default()).await {
                Ok(call) => running.flights.push(Flight { id, synced, call }),
                Err(error) => self.failed(running, id, error),
            }
        }
    }

    fn landed(&mut self, running: &mut Running, id: u64, produced: Result<Produced, Error>) {
        running.freed = true;
        let produced = match produced {
            Ok(produced) => produced,
            Err(error) => return self.failed(running, id, error),
        };
        running.retry.succeeded();
        let placed = placed(&produced);
        let Some((tell, count)) = self.unanswered.answered(id, placed.is_synced()) else {
            return;
        };
        // Counted first: whoever has a receipt finds its record among the acknowledged ones.
        self.acknowledgements.add(count.into());
        self.tally
            .send_modify(|tally| tally.settled += u64::from(count));
        // Whoever does not wait for it reads the counts.
        let _ = tell.send(Ok(placed));
    }

    /// One batch failed: notes what kind of trouble that is.
    fn failed(&mut self, running: &mut Running, id: u64, error: Error) {
        let registered = self.registrar.is_registered();
        let outcome = error.outcome();
        let code = error.code();
        let mut trouble = Trouble {
            fatal: !can_recover(&error),
            forgotten: false,
            expected: None,
            error,
        };
        if !registered && outcome == Outcome::Unknown {
            // Sent again it might be stored twice.
            trouble.fatal = false;
            let given_up = self.unanswered.give_up(id).map(|it| GivenUp {
                unknown: true,
                ..it
            });
            self.tell(given_up, &trouble.error);
        } else {
            match code {
                Some(ErrorCode::OutOfSequence) if registered => {
                    trouble.expected = trouble.error.failure().map(|failure| failure.first);
                    let passed = trouble.expected > self.unanswered.sequence_of(id);
                    // Younger ones are out of sequence because an older one failed.
                    trouble.fatal = passed && self.unanswered.is_oldest_unanswered(id);
                }
                Some(ErrorCode::ProducerNotFound) if registered => {
                    (trouble.forgotten, trouble.fatal) = (true, false);
                }
                _ => {}
            }
            let passed = trouble.fatal && trouble.expected.is_some();
            let outcome = if passed { Outcome::Unknown } else { outcome };
            self.unanswered.failed(id, outcome);
        }
        match &mut running.trouble {
            None => running.trouble = Some(trouble),
            Some(first) => {
                if trouble.fatal && !first.fatal {
                    first.error = trouble.error;
                }
                first.fatal |= trouble.fatal;
                first.forgotten |= trouble.forgotten;
                first.expected = first.expected.max(trouble.expected);
            }
        }
    }

    /// Pauses, connects, registers, until sending can go on; nothing is in flight.
    async fn recover(&mut self, mut trouble: Trouble, retry: &mut Retry) -> Result<(), Error> {
        loop {
            if trouble.fatal {
                return Err(trouble.error);
            }
            let Some(pause) = retry.failed_now(&trouble.error) else {
                let limit = retry.limit();
                return Err(trouble
                    .error
                    .after(format!("not acknowledged within {limit:?} of retries")));
            };
            tracing::debug!(topic = %self.topic, error = %trouble.error, ?pause, "producing again");
            tokio::time::sleep(pause).await;
            match self.resume(&trouble).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    trouble.fatal = !can_recover(&error);
                    trouble.error = error;
                }
            }
        }
    }

    async fn resume(&mut self, trouble: &Trouble) -> Result<(), Error> {
        follow(&self.dialer, &self.link, &trouble.error).await;
        let link = self.dialer.link().await?;
        let moved = !link.same_as(&self.link);
        if !self.registrar.is_registered() {
            self.link = link;
            return Ok(());
        }
        let known = self.unanswered.registration();
        if trouble.forgotten {
            return self.register_anew(link, &trouble.error).await;
        }
        let mut expected = trouble.expected;
        if moved {
            // The same instance gives the same epoch, and tells what the broker has.
            let found = self
                .registrar
                .register(&link, Wanted::Same(known.producer))
                .await;
            match found {
                Ok(found) if found.registration.epoch == known.epoch => {
                    expected = Some(found.registration.next_sequence);
                }
                Ok(_) => return self.register_anew(link, &trouble.error).await,
                Err(error) if error.code() == Some(ErrorCode::ProducerNotFound) => {
                    return self.register_anew(link, &error).await;
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(next) = expected
            && let Verdict::Lost { from, to } = self.unanswered.follow_from(next)
        {
            let registration = self
                .registrar
                .register(&link, Wanted::NewEpoch(known.producer))
                .await?
                .registration;
            self.report_lost(from, to);
            self.unanswered.begin_again(registration);
        }
        self.link = link;
        Ok(())
    }

    /// The id is gone: what was sent under it is never sent again.
    async fn register_anew(&mut self, link: Link, error: &Error) -> Result<(), Error> {
        let sent = self.unanswered.give_up_sent();
        self.tell(sent, error);
        let found = self.registrar.register(&link, Wanted::New).await?;
        self.id = found.topic;
        self.unanswered.begin_again(found.registration);
        self.link = link;
        Ok(())
    }

    fn report_lost(&self, from: u64, to: u64) {
        tracing::warn!(topic = %self.topic, from, to, "the broker has lost acknowledged records");
        let error = Error::new(
            ErrorKind::Lost,
            format!(
                "topic \"{}\" has lost {} acknowledged records, sequences {from} to {to}",
                self.topic,
                to - from
            ),
        )
        .with_hint("was the broker's data directory replaced or restored?");
        self.tally.send_modify(|tally| {
            tally.lost = tally.lost.saturating_add(to - from);
            tally.error.get_or_insert(error);
        });
    }

    /// Tells of batches that are given up because of `error`.
    fn tell(&self, given_up: impl IntoIterator<Item = GivenUp<Tell>>, error: &Error) {
        for it in given_up {
            let error = if it.unknown {
                let what = "records may have been stored or not, and are not sent again";
                Error::new(ErrorKind::OutcomeUnknown, error.message())
                    .after(what)
                    .with_hint(error.hint())
            } else {
                error.clone()
            };
            self.tally.send_modify(|tally| {
                let count = u64::from(it.count);
                tally.settled += count;
                tally.failed += count;
                tally.unknown += if it.unknown { count } else { 0 };
                tally.error.get_or_insert_with(|| error.clone());
            });
            // Whoever does not wait for it reads the counts.
            let _ = it.tag.send(Err(error));
        }
    }

    /// Gives everything up, and whatever still comes.
    async fn refuse(mut self, error: Error) {
        tracing::debug!(topic = %self.topic, %error, "producing has ended");
        // Before anybody is told: whoever has learned of the end can hand nothing more over.
        self.slot.die(error.clone());
        let all = self.unanswered.give_up_all();
        self.tell(all, &error);
        loop {
            while let Some(open) = self.slot.take(true) {
                let count = u32::try_from(open.builder.count()).unwrap_or(u32::MAX);
                let unsent = GivenUp {
                    tag: open.settle,
                    count,
                    unknown: false,
                };
                self.tell([unsent], &error);
            }
            if self.slot.has_left() {
                return;
            }
            self.slot.filled().await;
        }
    }

    /// Ends a registration that nobody can take up again.
    async fn unregister(self) {
        let registration = self.unanswered.registration();
        if registration.producer == ProducerId::NONE || self.registrar.is_named() {
            return;
        }
        let unregister = UnregisterProducer {
            topic: self.id,
            producer: registration.producer,
            epoch: registration.epoch,
        };
        if let Err(error) = self.link.ask(&unregister, Parking::default()).await {
            // The broker forgets it by itself after a day.
            tracing::debug!(topic = %self.topic, %error, "not unregistered");
        }
    }
}

/// Whether trying again can help. A broker that talked nonsense gets another connection.
fn can_recover(error: &Error) -> bool {
    error.is_retryable() || error.kind() == ErrorKind::Protocol
}

//! The batches of one topic that have no durable answer, and what may be done with each.
//!
//! ```text
//!            next()              answered(synced)
//!  Waiting ----------> Flying --------------------> gone, with all Accepted before it
//!     ^                 |  \   answered(accepted)
//!     |     failed()    |   +---------------------> Accepted
//!     +-----------------+                              |
//!     +---- follow_from(next): it was lost ------------+
//! ```
//!
//! Plain logic: no socket, no clock, no task. It keeps order and sequences, and never decides to
//! wait. `T` is whatever is told what became of a batch; each is given back exactly once.
//!
//! Sequences are as *Producers* in PROTOCOL.md says: they count records, and a batch that is sent
//! again has the same one, so that the broker recognizes it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use logdrive_protocol::batch::{self, BatchBuilder, Origin, Packer};
use logdrive_protocol::{Outcome, ProducerId};

/// The part of the window after which one batch is asked to be synced, so that those before it,
/// accepted only, need not be held any longer.
const SYNC_EVERY: usize = 4;

/// What a registration gives to go on from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) producer: ProducerId,
    pub(crate) epoch: u32,
    pub(crate) next_sequence: u64,
}

/// How much may be held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) batches: usize,
    /// Reached or exceeded by the last batch that is taken in.
    pub(crate) bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be sent, maybe again.
    Waiting,
    Flying,
    /// Answered, but not durable as far as is known.
    Accepted,
    /// Durable; gone as soon as all before it are.
    Done,
}

#[derive(Debug)]
struct Held<T> {
    id: u64,
    sequence: u64,
    count: u32,
    batch: Bytes,
    state: State,
    /// Whether it was ever sent.
    sent: bool,
    /// Whether an attempt may have taken effect without an answer.
    unknown: bool,
    tag: Option<T>,
}

/// A batch to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) id: u64,
    pub(crate) batch: Bytes,
    /// Whether its answer must mean that it is durable.
    pub(crate) synced: bool,
}

/// A batch that is given up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GivenUp<T> {
    pub(crate) tag: T,
    pub(crate) count: u32,
    /// Whether it may have been stored.
    pub(crate) unknown: bool,
}

/// What the broker's next sequence means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What has no answer is to be sent, in order.
    Resend,
    /// The broker lacks records that are not held any more.
    Lost {
        /// Sequence of the first.
        from: u64,
        /// Sequence after the last.
        to: u64,
    },
}

/// Batches without a durable answer, in the order of their sequences.
#[derive(Debug)]
pub(crate) struct Unanswered<T> {
    registration: Registration,
    next_sequence: u64,
    next_id: u64,
    /// Ever taken in.
    records: u64,
    held: VecDeque<Held<T>>,
    bytes: usize,
    window: Window,
    /// What packs the records of batches.
    packer: Option<Packer>,
    always_synced: bool,
    /// Sent since the last that was to be synced.
    unsynced: usize,
    unsynced_bytes: usize,
}

impl<T> Unanswered<T> {
    pub(crate) fn new(registration: Registration, window: Window, always_synced: bool) -> Self {
        Self {
            registration,
            next_sequence: registration.next_sequence,
            next_id: 0,
            records: 0,
            held: VecDeque::new(),
            bytes: 0,
            window,
            packer: None,
            always_synced,
            unsynced: 0,
            unsynced_bytes: 0,
        }
    }

    /// Nothing is to be held for a while.
    pub(crate) fn rest(&mut self) {
        if let Some(packer) = &mut self.packer {
            packer.release();
        }
    }

    /// Packs the records of the batches that are taken in from now on.
    pub(crate) fn packing(self, packer: Option<Packer>) -> Self {
        Self { packer, ..self }
    }

    pub(crate) fn registration(&self) -> Registration {
        self.registration
    }

    fn is_registered(&self) -> bool {
        !self.registration.producer.is_none()
    }

    /// Records that were ever taken in.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Whether one more batch may be held.
    pub(crate) fn has_room(&self) -> bool {
        self.held.len() < self.window.batches && self.bytes < self.window.bytes
    }

    /// Whether every batch has had an answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.held.iter().all(|it| it.state == State::Accepted)
    }

    /// Batches that have had no answer.
    pub(crate) fn under_way(&self) -> usize {
        let waits = |it: &&Held<T>| matches!(it.state, State::Waiting | State::Flying);
        self.held.iter().filter(waits).count()
    }

    /// Takes in the records of `builder`, which must be some, as the next batch.
    pub(crate) fn hold(&mut self, builder: &mut BatchBuilder, tag: T) {
        let count = u32::try_from(builder.count()).unwrap_or(u32::MAX);
        let origin = self.origin(self.next_sequence);
        let batch = match &mut self.packer {
            Some(packer) => builder.finish_packed(origin, packer),
            None => builder.finish(origin),
        };
        let batch = batch.freeze();
        self.bytes += batch.len();
        self.held.push_back(Held {
            id: self.next_id,
            sequence: self.next_sequence,
            count,
            batch,
            state: State::Waiting,
            sent: false,
            unknown: false,
            tag: Some(tag),
        });
        self.next_id += 1;
        self.next_sequence += u64::from(count);
        self.records += u64::from(count);
    }

    fn origin(&self, sequence: u64) -> Origin {
        Origin {
            producer: self.registration.producer,
            epoch: self.registration.epoch,
            sequence: if self.is_registered() { sequence } else { 0 },
        }
    }

    /// The next batch to be sent, in order.
    pub(crate) fn next(&mut self) -> Option<Outgoing> {
        let waits = |it: &&mut Held<T>| it.state == State::Waiting;
        let next = self.held.iter_mut().find(waits)?;
        next.state = State::Flying;
        next.sent = true;
        self.unsynced += 1;
        self.unsynced_bytes += next.batch.len();
        let synced = self.always_synced
            || self.unsynced * SYNC_EVERY >= self.window.batches
            || self.unsynced_bytes * SYNC_EVERY >= self.window.bytes;
        if synced {
            (self.unsynced, self.unsynced_bytes) = (0, 0);
        }
        Some(Outgoing {
            id: next.id,
            batch: next.batch.clone(),
            synced,
        })
    }

    fn find(&self, id: u64) -> Option<usize> {
        self.held.iter().position(|it| it.id == id)
    }

    /// A batch was answered; gives whom to tell (nobody, if that was done before) and its records.
    pub(crate) fn answered(&mut self, id: u64, durable: bool) -> Option<(T, u32)> {
        let index = self.find(id)?;
        let told = {
            let it = &mut self.held[index];
            it.state = if durable {
                State::Done
            } else {
                State::Accepted
            };
            it.unknown = false;
            it.tag.take().map(|tag| (tag, it.count))
        };
        if durable {
            // One topic commits in order: what was staged before is durable too.
            for earlier in self.held.range_mut(..index) {
                if earlier.state == State::Accepted {
                    earlier.state = State::Done;
                }
            }
        }
        let done = self
            .held
            .iter()
            .take_while(|it| it.state == State::Done)
            .count();
        self.bytes -= self
            .held
            .drain(..done)
            .map(|it| it.batch.len())
            .sum::<usize>();
        told
    }

    /// A batch failed and is to be sent again.
    pub(crate) fn failed(&mut self, id: u64, outcome: Outcome) {
        if let Some(index) = self.find(id) {
            let it = &mut self.held[index];
            it.state = State::Waiting;
            it.unknown |= outcome == Outcome::Unknown;
        }
    }

    /// Whether nothing older than this batch waits for an answer.
    pub(crate) fn is_oldest_unanswered(&self, id: u64) -> bool {
        let unanswered = |it: &&Held<T>| matches!(it.state, State::Waiting | State::Flying);
        self.held
            .iter()
            .find(unanswered)
            .is_some_and(|it| it.id == id)
    }

    /// The sequence of a batch that is held.
    pub(crate) fn sequence_of(&self, id: u64) -> Option<u64> {
        Some(self.held[self.find(id)?].sequence)
    }

    /// The broker expects `next`; nothing may be in flight. What it should have and has not is
    /// sent again as far as it is held.
    pub(crate) fn follow_from(&mut self, next: u64) -> Verdict {
        let oldest = self
            .held
            .front()
            .map_or(self.next_sequence, |it| it.sequence);
        if next < oldest {
            return Verdict::Lost {
                from: next,
                to: oldest,
            };
        }
        for it in &mut self.held {
            if it.state == State::Accepted && it.sequence >= next {
                it.state = State::Waiting;
            }
        }
        if self.held.is_empty() {
            self.next_sequence = next;
        }
        Verdict::Resend
    }

    /// A new epoch or a new id: what is held is numbered anew and sent again.
    ///
    /// Only right for batches that the broker is known not to have.
    pub(crate) fn begin_again(&mut self, registration: Registration) {
        self.registration = registration;
        self.next_sequence = registration.next_sequence;
        self.bytes = 0;
        for index in 0..self.held.len() {
            let origin = self.origin(self.next_sequence);
            let it = &mut self.held[index];
            it.batch = stamped(&it.batch, origin);
            it.sequence = self.next_sequence;
            it.state = State::Waiting;
            self.next_sequence += u64::from(it.count);
            self.bytes += it.batch.len();
        }
    }

    /// Gives up one batch.
    pub(crate) fn give_up(&mut self, id: u64) -> Option<GivenUp<T>> {
        let held = self.held.remove(self.find(id)?)?;
        self.bytes -= held.batch.len();
        given_up(held)
    }

    /// Gives up what was ever sent: the broker may have it, and nobody can tell.
    pub(crate) fn give_up_sent(&mut self) -> Vec<GivenUp<T>> {
        let (sent, unsent) = self.held.drain(..).partition(|it| it.sent);
        self.held = unsent;
        self.bytes = self.held.iter().map(|it| it.batch.len()).sum();
        let sent: VecDeque<Held<T>> = sent;
        sent.into_iter()
            .filter_map(given_up)
            .map(|it| GivenUp {
                unknown: true,
                ..it
            })
            .collect()
    }

    /// Gives up everything.
    pub(crate) fn give_up_all(&mut self) -> Vec<GivenUp<T>> {
        self.bytes = 0;
        self.held.drain(..).filter_map(given_up).collect()
    }
}

/// `None` if whom it concerns was told before.
fn given_up<T>(held: Held<T>) -> Option<GivenUp<T>> {
    Some(GivenUp {
        tag: held.tag?,
        count: held.count,
        unknown: held.unknown,
    })
}

/// The same records as a batch of another origin.
fn stamped(batch: &[u8], origin: Origin) -> Bytes {
    let mut batch = BytesMut::from(batch);
    batch::sign_anew(&mut batch, origin);
    batch.freeze()
}

#[cfg(test)]
#[path = "sequence_tests.rs"]
mod tests;

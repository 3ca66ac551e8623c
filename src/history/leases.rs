//! What workers note of their leases, and consumers of the gaps that they were told.
//!
//! Owns the notes and their merging; never judges them (that is [`leasing`](super::leasing) and
//! [`gaps`](super::gaps)). Times are microseconds of one clock that all who record share.
//!
//! ```text
//!   asked ──── given by the broker ──── received ─── sent ──── answered
//!   '─ noted        not known            noted       an ack or a nack
//! ```

use std::ops::Range;

use super::recorder::{Read, merge};

/// Records that one answer lent to one worker.
#[derive(Debug, Clone, Copy)]
pub struct Lease<'a> {
    /// The topic that was read.
    pub topic: &'a str,
    /// The consumer that the records were taken for.
    pub consumer: &'a str,
    /// Who holds it.
    pub worker: u64,
    /// Its number, as the answer gave it; increasing in the order in which leases are given.
    pub number: u64,
    /// A time before the broker gave it: when the worker asked, at the latest.
    pub asked: u64,
    /// When the answer was there.
    pub received: u64,
    /// Microseconds for which it was asked.
    pub lasts: u64,
}

/// A record under a lease.
#[derive(Debug, Clone, Copy)]
pub struct Lent {
    /// The record.
    pub read: Read,
    /// How often it was delivered before, as the answer said.
    pub deliveries: u32,
    /// Its key, where the consumer keeps the order of keys; else 0.
    pub key: u64,
}

/// What became of an attempt to settle a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The ack was answered at this time.
    Acked(u64),
    /// An ack without an answer, or one of several of which not all were taken.
    AckUnknown,
    /// The ack was refused, at this time, because the lease was over.
    AckRefused(u64),
    /// The record was given back, and that was answered.
    Nacked,
    /// Giving it back was not answered, or was refused.
    NackUnknown,
}

/// A record that was given up.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetter<'a> {
    /// The topic that the record was in.
    pub topic: &'a str,
    /// The consumer that gave it up.
    pub consumer: &'a str,
    /// Where it was, and what the dead letter holds.
    pub read: Read,
    /// How often it was delivered, as the dead letter says.
    pub deliveries: u32,
}

/// All notes of one consumer's leases.
#[derive(Debug, Default)]
pub(super) struct Leases {
    pub(super) answers: Vec<Answered>,
    pub(super) reads: Vec<Read>,
    /// Of each read: deliveries before, and the key.
    pub(super) marks: Vec<(u32, u64)>,
    pub(super) settled: Vec<Settled>,
    /// Lease, and the end that it has at the earliest.
    pub(super) extended: Vec<(u64, u64)>,
    /// Worker, and when what it holds may be given to others.
    pub(super) gone: Vec<(u64, u64)>,
    /// What dead letters hold; `letters` are their counts.
    pub(super) given_up: Vec<Read>,
    pub(super) letters: Vec<u32>,
}

/// One run of reads under one lease.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub(super) number: u64,
    pub(super) worker: u64,
    pub(super) asked: u64,
    pub(super) received: u64,
    pub(super) lasts: u64,
    pub(super) reads: Range<usize>,
}

/// An attempt to settle one record of one lease.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settled {
    pub(super) lease: u64,
    pub(super) offset: u64,
    pub(super) sent: u64,
    pub(super) verdict: Verdict,
}

impl Leases {
    pub(super) fn push(&mut self, lease: Lease<'_>, lent: Lent) {
        let at = self.reads.len();
        self.reads.push(lent.read);
        self.marks.push((lent.deliveries, lent.key));
        match self.answers.last_mut() {
            Some(last) if (last.number, last.worker) == (lease.number, lease.worker) => {
                last.reads.end = at + 1;
                last.asked = last.asked.min(lease.asked);
                last.received = last.received.min(lease.received);
            }
            _ => self.answers.push(Answered {
                number: lease.number,
                worker: lease.worker,
                asked: lease.asked,
                received: lease.received,
                lasts: lease.lasts,
                reads: at..at + 1,
            }),
        }
    }

    pub(super) fn absorb(&mut self, mut other: Self) {
        let shift = self.reads.len();
        for answer in &mut other.answers {
            answer.reads = answer.reads.start + shift..answer.reads.end + shift;
        }
        merge(&mut self.answers, &mut other.answers);
        merge(&mut self.reads, &mut other.reads);
        merge(&mut self.marks, &mut other.marks);
        merge(&mut self.settled, &mut other.settled);
        merge(&mut self.extended, &mut other.extended);
        merge(&mut self.gone, &mut other.gone);
        merge(&mut self.given_up, &mut other.given_up);
        merge(&mut self.letters, &mut other.letters);
    }
}

/// A gap that a consumer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// The first offset.
    pub from: u64,
    /// After the last.
    pub to: u64,
    /// Records removed.
    pub records: u64,
}

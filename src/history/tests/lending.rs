//! A queue that lends its records and makes no mistake, and what its workers saw of it, at random.
//!
//! ```text
//!   free ─ lent ─┬─ acked
//!    ^           ├─ given back, over ─┬─ given up, after so many deliveries
//!    └───────────┴────────────────────┘   worker gone: not counted
//! ```
//!
//! Owns the model, its clock and its notes, so that a fault planted by
//! [`planted_leases`](super::planted_leases) is the only one. Decides nothing about faults.

use fastrand::Rng;

use super::watched::{any, print_of};
use crate::history::{DeadLetter, Lease, Lent, Origin, Read, Recorder, Told, Verdict};

const CONSUMER: &str = "L";
const PRODUCER: &str = "P1";
const WORKERS: u64 = 4;
/// How long leases last.
pub(super) const LASTS: u64 = 400;
/// A worker that is gone gives back after so long.
const RECLAIM: u64 = 60;
/// Deliveries after which a record is given up.
const MOST: u32 = 3;
/// Offsets are even, so that a fault finds room between any two.
const STEP: u64 = 2;

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Free,
    Lent {
        lease: usize,
        until: u64,
        counts: bool,
    },
    Settled,
}

/// An answer with a lease.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) worker: u64,
    pub(super) number: u64,
    pub(super) asked: u64,
    pub(super) received: u64,
    pub(super) lent: Vec<Lent>,
}

/// What became of a record under one lease: index of the answer, offset, sent, verdict.
pub(super) type Settled = (usize, u64, u64, Verdict);

/// What the workers saw.
#[derive(Default)]
pub(super) struct Lending {
    pub(super) last: Vec<Read>,
    pub(super) log_start: u64,
    pub(super) answers: Vec<Answer>,
    pub(super) settled: Vec<Settled>,
    pub(super) gone: Vec<(u64, u64)>,
    pub(super) letters: Vec<(Read, u32)>,
    pub(super) gaps: Vec<Told>,
    pub(super) size: u64,
    /// Whether the order of keys was broken.
    pub(super) is_broken: bool,
}

/// The queue, under way.
struct Queue<'a> {
    rng: &'a mut Rng,
    now: u64,
    places: Vec<Place>,
    counts: Vec<u32>,
    keys: Vec<u64>,
    seen: Lending,
    /// Whether the order of keys is to be broken, once.
    breaks: bool,
    /// The record that was in the way when it was.
    in_the_way: Option<usize>,
}

/// Everything lent until it is settled. With `breaks`, the order of keys is broken once.
pub(super) fn clean(rng: &mut Rng, keyed: bool, breaks: bool) -> Lending {
    let records = rng.usize(30..90);
    let mut seen = Lending {
        log_start: STEP * rng.u64(3..8),
        ..Lending::default()
    };
    for index in 0..records as u64 {
        seen.last.push(Read {
            offset: seen.log_start + STEP * index,
            fingerprint: print_of(PRODUCER, seen.log_start / STEP + index),
        });
    }
    let removed = seen.log_start / STEP;
    let told = rng.u64(1..removed) * STEP;
    for (from, to) in [(0, told), (told, seen.log_start)] {
        let records = (to - from) / STEP;
        seen.gaps.push(Told { from, to, records });
    }
    let key = |rng: &mut Rng| if keyed { rng.u64(1..6) } else { 0 };
    let mut queue = Queue {
        now: 1000,
        places: vec![Place::Free; records],
        counts: vec![0; records],
        keys: (0..records).map(|_| key(rng)).collect(),
        rng,
        seen,
        breaks,
        in_the_way: None,
    };
    while queue.places.iter().any(|it| *it != Place::Settled) {
        queue.now += queue.rng.u64(1..20);
        queue.end_leases();
        match queue.rng.u8(..8) {
            0..3 => queue.lend(),
            3..7 => queue.settle(),
            _ => queue.lose_worker(),
        }
    }
    // One that is given up at last tells nothing about when it was settled.
    let letters = &queue.seen.letters;
    queue.seen.is_broken = queue.in_the_way.is_some_and(|at| {
        let offset = queue.seen.last[at].offset;
        letters.iter().all(|(read, _)| read.offset != offset)
    });
    queue.seen
}

impl Queue<'_> {
    /// A little time, such as a request or an answer takes.
    fn noise(&mut self) -> u64 {
        self.rng.u64(..12)
    }

    fn lent_by(&self, wanted: impl Fn(usize) -> bool) -> Vec<(usize, usize)> {
        let lent = self.places.iter().enumerate();
        lent.filter_map(|(at, place)| match place {
            Place::Lent { lease, .. } if wanted(*lease) => Some((at, *lease)),
            _ => None,
        })
        .collect()
    }

    fn end_leases(&mut self) {
        for at in 0..self.places.len() {
            if let Place::Lent { until, counts, .. } = self.places[at]
                && until <= self.now
            {
                self.give_back(at, counts);
            }
        }
    }

    fn give_back(&mut self, at: usize, counts: bool) {
        self.counts[at] += u32::from(counts);
        self.places[at] = Place::Free;
        if self.counts[at] >= MOST {
            self.places[at] = Place::Settled;
            let letter = (self.seen.last[at], self.counts[at]);
            self.seen.letters.push(letter);
        }
    }

    /// Whether nothing of its key is before it, but what is given with it.
    fn is_its_turn(&self, at: usize, with: &[usize]) -> bool {
        let key = self.keys[at];
        let earlier = (0..self.places.len()).filter(|&it| self.keys[it] == key);
        let is_open = |it: usize| match self.places[it] {
            Place::Free => it < at && !with.contains(&it),
            Place::Lent { .. } => true,
            Place::Settled => false,
        };
        key == 0 || !earlier.into_iter().any(is_open)
    }

    fn lend(&mut self) {
        let most = self.rng.usize(1..7);
        let mut given: Vec<usize> = Vec::new();
        for at in 0..self.places.len() {
            if given.len() < most && self.places[at] == Place::Free && self.is_its_turn(at, &given)
            {
                given.push(at);
            }
        }
        let worker = self.rng.u64(..WORKERS);
        if std::mem::take(&mut self.breaks) {
            if let Some((held, at)) = self.out_of_turn(worker) {
                self.in_the_way = Some(held);
                // Long before and long after everything else, so that it cannot be mistaken.
                self.now += 30;
                self.give(worker, &[at]);
                self.now += 30;
                return;
            }
            self.breaks = true;
        }
        if !given.is_empty() {
            self.give(worker, &given);
        }
    }

    /// A record whose key another worker has, which has not tried to settle what it has.
    fn out_of_turn(&self, worker: u64) -> Option<(usize, usize)> {
        let untouched = |lease: usize, at: usize| {
            let offset = self.seen.last[at].offset;
            let mut tried = self.seen.settled.iter();
            !tried.any(|it| it.1 == offset) && self.seen.answers[lease].worker != worker
        };
        let held = self.lent_by(|_| true);
        let held = held.into_iter().filter(|&(at, lease)| untouched(lease, at));
        let mut keys = held.map(|(at, _)| (at, self.keys[at]));
        keys.find_map(|(held, key)| {
            let mut later = held + 1..self.places.len();
            let free = later.find(|&at| self.keys[at] == key && self.places[at] == Place::Free)?;
            Some((held, free))
        })
    }

    fn give(&mut self, worker: u64, given: &[usize]) {
        let lease = self.seen.answers.len();
        let lent = |&at: &usize| Lent {
            read: self.seen.last[at],
            deliveries: self.counts[at],
            key: self.keys[at],
        };
        let lent = given.iter().map(lent).collect();
        let number = self.seen.answers.last().map_or(0, |it| it.number) + self.rng.u64(10..20);
        let (before, after) = (self.noise(), self.noise());
        self.seen.answers.push(Answer {
            worker,
            number,
            asked: self.now - before,
            received: self.now + after,
            lent,
        });
        for &at in given {
            self.places[at] = Place::Lent {
                lease,
                until: self.now + LASTS,
                counts: true,
            };
        }
    }

    /// A worker acks or gives back some of one lease.
    fn settle(&mut self) {
        let held = self.lent_by(|_| true);
        if held.is_empty() {
            return;
        }
        let (_, chosen) = held[any(self.rng, &held)];
        for (at, _) in self.lent_by(|lease| lease == chosen) {
            let offset = self.seen.last[at].offset;
            let (before, after) = (self.noise(), self.noise());
            let verdict = match self.rng.u8(..12) {
                0 => {
                    self.give_back(at, true);
                    Verdict::Nacked
                }
                1 => {
                    if self.rng.bool() {
                        self.give_back(at, true);
                    }
                    Verdict::NackUnknown
                }
                2 => {
                    if self.rng.bool() {
                        self.places[at] = Place::Settled;
                    }
                    Verdict::AckUnknown
                }
                3..6 => continue,
                _ => {
                    self.places[at] = Place::Settled;
                    Verdict::Acked(self.now + after)
                }
            };
            let settled = (chosen, offset, self.now - before, verdict);
            self.seen.settled.push(settled);
        }
    }

    /// A worker ends without a word; another of the same number may come.
    fn lose_worker(&mut self) {
        if self.rng.u8(..4) > 0 {
            return;
        }
        let worker = self.rng.u64(..WORKERS);
        let from = self.now + RECLAIM;
        self.seen.gone.push((worker, from));
        let answers: Vec<u64> = self.seen.answers.iter().map(|it| it.worker).collect();
        for (at, _) in self.lent_by(|lease| answers[lease] == worker) {
            if let Place::Lent { until, counts, .. } = &mut self.places[at]
                && from < *until
            {
                (*until, *counts) = (from, false);
            }
        }
    }
}

impl Lending {
    /// The notes of one answer as the checker takes them.
    fn lease<'a>(&self, topic: &'a str, at: usize) -> Lease<'a> {
        let answer = &self.answers[at];
        Lease {
            topic,
            consumer: CONSUMER,
            worker: answer.worker,
            number: answer.number,
            asked: answer.asked,
            received: answer.received,
            lasts: LASTS,
        }
    }

    /// The record of the last answer is acked, which was answered.
    pub(super) fn ack_last(&mut self, offset: u64, answered: u64) {
        let last = self.answers.len() - 1;
        let settled = (last, offset, answered, Verdict::Acked(answered));
        self.settled.push(settled);
    }

    /// Spreads the notes over clients that each saw a part.
    pub(super) fn record(&self, topic: &str, clients: &mut [Recorder]) {
        let count = clients.len();
        let mut client = (0..count).cycle();
        let mut some = || client.next().unwrap();
        let stored = self.last.len() as u64 + self.log_start / STEP;
        for sequence in 0..stored {
            let origin = Origin {
                topic,
                producer: PRODUCER,
                sequence,
            };
            clients[some()].sent(origin, print_of(PRODUCER, sequence));
            clients[some()].acknowledged(origin, sequence * STEP);
        }
        for &read in &self.last {
            clients[some()].finally_read(topic, read);
        }
        clients[some()].removed(topic, self.log_start);
        for at in 0..self.answers.len() {
            let client = &mut clients[some()];
            for &lent in &self.answers[at].lent {
                client.lent(self.lease(topic, at), lent);
            }
        }
        for &(at, offset, sent, verdict) in &self.settled {
            clients[some()].settled(self.lease(topic, at), offset, sent, verdict);
        }
        for &(worker, from) in &self.gone {
            clients[some()].gone(topic, CONSUMER, worker, from);
        }
        for &(read, deliveries) in &self.letters {
            clients[some()].given_up(DeadLetter {
                topic,
                consumer: CONSUMER,
                read,
                deliveries,
            });
        }
        for &gap in &self.gaps {
            clients[some()].told(topic, CONSUMER, gap);
        }
        clients[some()].sized(topic, CONSUMER, self.size);
    }
}

//! A queue that makes no mistake, and what its clients saw of it, at random.
//!
//! Owns the model and its changes that keep everything else consistent, so that a fault planted by
//! [`planted`](super::planted) is the only one. Decides nothing about faults.

use fastrand::Rng;

use crate::history::{Answer, Origin, Read, Recorder, fingerprint};

pub(super) const PRODUCERS: [&str; 4] = ["P1", "P2", "P3", "P4"];
const CONSUMERS: [&str; 3] = ["C1", "C2", "C3"];

/// One answer: worker, number, records.
pub(super) type Given = (u64, u64, Vec<Read>);

/// What the clients of one topic saw.
#[derive(Default)]
pub(super) struct Watched {
    pub(super) sent: Vec<(&'static str, u64)>,
    pub(super) acknowledged: Vec<(&'static str, u64, u64)>,
    pub(super) unknown: Vec<(&'static str, u64)>,
    pub(super) reported_lost: Vec<(&'static str, u64)>,
    pub(super) last: Vec<Read>,
    pub(super) consumers: Vec<Vec<Given>>,
    pub(super) sizes: Vec<u64>,
    pub(super) fetches: Vec<Given>,
}

pub(super) fn print_of(producer: &str, sequence: u64) -> u64 {
    fingerprint(producer, sequence, b"content")
}

/// Anything of a slice.
pub(super) fn any<T>(rng: &mut Rng, from: &[T]) -> usize {
    rng.usize(..from.len())
}

/// A topic that made no mistake. Offsets are even, so that a fault finds room between any two.
pub(super) fn clean(rng: &mut Rng) -> Watched {
    let mut watched = Watched::default();
    let mut next = [0_u64; PRODUCERS.len()];
    let mut offset = 0;
    for _ in 0..rng.usize(30..120) {
        let at = any(rng, &PRODUCERS);
        // Sequences may have holes, too.
        next[at] += rng.u64(1..3);
        let (producer, sequence) = (PRODUCERS[at], next[at]);
        watched.sent.push((producer, sequence));
        let stored = match rng.u8(..20) {
            0 => false,
            1 => true,
            outcome @ 2..4 => {
                watched.unknown.push((producer, sequence));
                outcome == 2
            }
            4 => {
                watched.reported_lost.push((producer, sequence));
                false
            }
            _ => {
                watched.acknowledged.push((producer, sequence, offset));
                true
            }
        };
        if stored {
            watched.last.push(Read {
                offset,
                fingerprint: print_of(producer, sequence),
            });
            offset += if rng.u8(..8) == 0 { 10 } else { 2 };
        }
    }
    for _ in CONSUMERS {
        let given = match rng.u8(..4) {
            0 => rng.usize(4..watched.last.len()),
            _ => watched.last.len(),
        };
        let workers = rng.u64(1..4);
        let mut numbers = [0; 4];
        let mut answers = Vec::new();
        let mut rest = &watched.last[..given];
        while !rest.is_empty() {
            // The first answers are long enough for every fault.
            let long = if answers.is_empty() {
                4
            } else {
                rng.usize(1..7)
            };
            let (answer, after) = rest.split_at(long.min(rest.len()));
            let worker = rng.u64(..workers);
            numbers[usize::try_from(worker).unwrap()] += 1;
            answers.push((
                worker,
                numbers[usize::try_from(worker).unwrap()],
                answer.to_vec(),
            ));
            rest = after;
        }
        watched.consumers.push(answers);
    }
    for number in 0..6 {
        let from = rng.usize(..watched.last.len() - 4);
        let to = (from + rng.usize(4..9)).min(watched.last.len());
        watched
            .fetches
            .push((rng.u64(..2), number, watched.last[from..to].to_vec()));
    }
    watched.sizes = watched.left();
    watched
}

impl Watched {
    /// What is left for each consumer.
    fn left(&self) -> Vec<u64> {
        let left = |answers: &Vec<Given>| {
            let given = answers
                .iter()
                .flat_map(|answer| &answer.2)
                .map(|read| read.offset)
                .max();
            self.last
                .iter()
                .filter(|read| given.is_none_or(|given| read.offset > given))
                .count()
        };
        self.consumers
            .iter()
            .map(|answers| left(answers) as u64)
            .collect()
    }

    /// Every read, wherever it was seen.
    pub(super) fn all_reads(&mut self) -> impl Iterator<Item = &mut Read> {
        let consumed = self.consumers.iter_mut().flatten();
        let delivered = consumed
            .chain(&mut self.fetches)
            .flat_map(|answer| &mut answer.2);
        self.last.iter_mut().chain(delivered)
    }

    /// Puts a record where none was, for everybody who came past.
    pub(super) fn insert(&mut self, new: Read) {
        self.last.push(new);
        for answers in &mut self.consumers {
            let passed = answers
                .iter()
                .any(|answer| answer.2.iter().any(|r| r.offset > new.offset));
            let home = answers
                .iter_mut()
                .rfind(|answer| answer.2[0].offset < new.offset);
            if let (true, Some((_, _, reads))) = (passed, home) {
                reads.push(new);
                reads.sort_unstable();
            }
        }
        for (_, _, reads) in &mut self.fetches {
            if reads[0].offset < new.offset && reads[reads.len() - 1].offset > new.offset {
                reads.push(new);
                reads.sort_unstable();
            }
        }
        self.sizes = self.left();
    }

    /// Takes a record away from the final read, and from everybody else if `everywhere`.
    pub(super) fn remove(&mut self, offset: u64, everywhere: bool) {
        self.last.retain(|read| read.offset != offset);
        if everywhere {
            for (_, _, reads) in self.consumers.iter_mut().flatten().chain(&mut self.fetches) {
                reads.retain(|read| read.offset != offset);
            }
        }
        self.sizes = self.left();
    }

    /// Spreads the notes over clients that each saw a part.
    pub(super) fn record(&self, topic: &str, clients: &mut [Recorder]) {
        let count = clients.len();
        let mut client = (0..count).cycle();
        let mut some = || client.next().unwrap();
        for &(producer, sequence) in &self.sent {
            let origin = Origin {
                topic,
                producer,
                sequence,
            };
            clients[some()].sent(origin, print_of(producer, sequence));
        }
        for &(producer, sequence, offset) in &self.acknowledged {
            clients[some()].acknowledged(
                Origin {
                    topic,
                    producer,
                    sequence,
                },
                offset,
            );
        }
        for &(producer, sequence) in &self.unknown {
            clients[some()].unknown(Origin {
                topic,
                producer,
                sequence,
            });
        }
        for &(producer, sequence) in &self.reported_lost {
            clients[some()].reported_lost(Origin {
                topic,
                producer,
                sequence,
            });
        }
        for &read in &self.last {
            clients[some()].finally_read(topic, read);
        }
        let consumers = self.consumers.iter().zip(CONSUMERS);
        for (answers, name) in consumers
            .map(|(answers, name)| (answers, Some(name)))
            .chain([(&self.fetches, None)])
        {
            for (worker, number, reads) in answers {
                // A worker is one client.
                let client = &mut clients[usize::try_from(*worker).unwrap() % count];
                let answer = Answer {
                    topic,
                    consumer: name,
                    worker: *worker,
                    number: *number,
                };
                for &read in reads {
                    client.delivered(answer, read);
                }
            }
        }
        for (&size, consumer) in self.sizes.iter().zip(CONSUMERS) {
            clients[some()].sized(topic, consumer, size);
        }
    }
}

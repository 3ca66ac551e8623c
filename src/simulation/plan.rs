//! Who takes part in a simulation, and what a record looks like: all from one seed.
//!
//! ```text
//!  P1 named    one at a time, restarts ──► A B      A ──► C1 C2 L1, a follower
//!  P2          pipelined               ──► A        B ──► C1 C3 L2, somebody who seeks
//!  P3          unregistered            ──► B        T ──► C4 L3, and somebody purges it
//!  P4 named    pipelined               ──► T        dead letters of L2 ──► D
//!  P5 named    A and B together
//! ```
//!
//! Pure.

use std::time::Duration;

use fastrand::Rng;

use crate::history::fingerprint;

/// All topics that are produced to.
pub(super) const TOPICS: [&str; 3] = ["A", "B", TRIMMED];
/// The topic whose records are removed, and how many it keeps.
pub(super) const TRIMMED: &str = "T";
pub(super) const KEPT: &str = "40";
/// Who produces to several topics, all or none.
pub(super) const TOGETHER: &str = "P5";
/// Where the dead letters are.
pub(super) const DEAD: &str = "D";

/// How a producer goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// `send().await`, one after the other; now and then the program starts again.
    OneByOne,
    /// Many on their way.
    Pipelined,
    /// Pipelined, without a producer id: never sent again.
    Unregistered,
    /// A record to each topic, all of them or none.
    Together,
}

/// A producer.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProducerPlan {
    pub(super) name: &'static str,
    pub(super) is_named: bool,
    pub(super) manner: Manner,
    pub(super) topics: &'static [&'static str],
    pub(super) host: usize,
}

const fn producer(
    name: &'static str,
    is_named: bool,
    manner: Manner,
    topics: &'static [&'static str],
    host: usize,
) -> ProducerPlan {
    ProducerPlan {
        name,
        is_named,
        manner,
        topics,
        host,
    }
}

/// All producers.
pub(super) const PRODUCERS: [ProducerPlan; 5] = [
    producer("P1", true, Manner::OneByOne, &["A", "B"], 1),
    producer("P2", false, Manner::Pipelined, &["A"], 2),
    producer("P3", false, Manner::Unregistered, &["B"], 1),
    producer("P4", true, Manner::Pipelined, &[TRIMMED], 2),
    producer(TOGETHER, true, Manner::Together, &["A", "B"], 2),
];

/// A consumer without leases.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConsumerPlan {
    pub(super) name: &'static str,
    pub(super) workers: usize,
    pub(super) topics: &'static [&'static str],
    /// Records at a time; 0 for no limit.
    pub(super) max_records: u32,
    /// Asks one answer ahead and takes one event at a time.
    pub(super) prefetch: bool,
    /// Milliseconds that it rests after each answer, at most.
    pub(super) pause: u64,
    pub(super) host: usize,
}

/// All consumers without leases.
pub(super) const CONSUMERS: [ConsumerPlan; 4] = [
    ConsumerPlan {
        name: "C1",
        workers: 1,
        topics: &["A", "B"],
        max_records: 0,
        prefetch: false,
        pause: 0,
        host: 2,
    },
    ConsumerPlan {
        name: "C2",
        workers: 2,
        topics: &["A"],
        max_records: 7,
        prefetch: false,
        pause: 20,
        host: 1,
    },
    ConsumerPlan {
        name: "C3",
        workers: 1,
        topics: &["B"],
        max_records: 0,
        prefetch: true,
        pause: 0,
        host: 2,
    },
    ConsumerPlan {
        name: "C4",
        workers: 1,
        topics: &[TRIMMED],
        max_records: 10,
        prefetch: false,
        pause: 900,
        host: 1,
    },
];

/// A consumer with leases.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeasePlan {
    pub(super) name: &'static str,
    pub(super) workers: usize,
    pub(super) topics: &'static [&'static str],
    pub(super) settings: &'static [(&'static str, &'static str)],
    /// How long its leases last.
    pub(super) lease: Duration,
    /// How often each of its workers crashes, at most.
    pub(super) crashes: u32,
    /// Of so many records one can never be processed; 0 for none.
    pub(super) poison: u64,
    pub(super) host: usize,
}

impl LeasePlan {
    /// Whether it keeps the order of keys.
    pub(super) fn is_keyed(&self) -> bool {
        self.settings.contains(&("order", "key"))
    }
}

/// All consumers with leases.
pub(super) const LEASED: [LeasePlan; 3] = [
    LeasePlan {
        name: "L1",
        workers: 2,
        topics: &["A"],
        settings: &[("order", "key")],
        lease: Duration::from_secs(2),
        crashes: 1,
        poison: 0,
        host: 2,
    },
    LeasePlan {
        name: "L2",
        workers: 2,
        topics: &["B"],
        settings: &[("max_deliveries", "3"), ("dead_letter_topic", DEAD)],
        lease: Duration::from_millis(1500),
        crashes: 1,
        poison: 16,
        host: 1,
    },
    LeasePlan {
        name: "L3",
        workers: 1,
        topics: &[TRIMMED],
        settings: &[],
        lease: Duration::from_secs(1),
        crashes: 1,
        poison: 0,
        host: 2,
    },
];

/// How many keys there are.
const KEYS: u64 = 6;

/// The key of a producer's record.
pub(super) fn key(sequence: u64) -> [u8; 1] {
    [u8::try_from(sequence % KEYS).unwrap_or_default()]
}

/// The dice of one player: the same for the same seed, whatever the others do.
pub(super) fn dice(seed: u64, player: &str) -> Rng {
    Rng::with_seed(fingerprint(player, seed, b""))
}

/// The value of a record: who sent it, its number, and so many random bytes.
pub(super) fn value(dice: &mut Rng, name: &str, sequence: u64, length: usize) -> Vec<u8> {
    let mut value = format!("{name} {sequence:06} ").into_bytes();
    let head = value.len();
    value.resize(head + length, 0);
    dice.fill(&mut value[head..]);
    value
}

/// The number of a record, as its value says.
pub(super) fn sequence_of(value: &[u8]) -> Option<u64> {
    let number = value.split(|&byte| byte == b' ').nth(1)?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// What a value is to the checker; one that no producer can have sent is like nothing else.
pub(super) fn fingerprint_of(value: &[u8]) -> u64 {
    let parts = || {
        let mut parts = value.splitn(3, |&byte| byte == b' ');
        let name = std::str::from_utf8(parts.next()?).ok()?;
        let sequence = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        Some((name, sequence, parts.next()?))
    };
    match parts() {
        Some((name, sequence, rest)) => fingerprint(name, sequence, rest),
        None => fingerprint("", 0, value),
    }
}

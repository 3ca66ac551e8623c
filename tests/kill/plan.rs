//! Who takes part, what a record looks like, and when the broker is killed: all from one seed.
//!
//! ```text
//!  P1 named    one at a time ──► T-1 T-2        T-1 ──► C1 C2 C4, a follower
//!  P2          one at a time ──► T-1            T-2 ──► C1 C2 C3
//!  P3 named    pipelined     ──► T-1 T-2 T-3    T-3 ──► C1 C3 C4
//!  P4          pipelined     ──► T-2
//!  P5 named    bursts        ──► T-1 T-3        C1  one worker,  whole answers
//!  P6 named    accepted      ──► T-1 T-3        C2  two workers, few records at a time
//!  P7          unregistered  ──► T-2            C3  one worker,  event by event, one answer ahead
//!  P8          typed         ──► T-1            C4  two workers, few bytes at a time
//!  P9 named    pipelined     ──► T-4            C5  one worker,  slower than what is removed
//!
//!  With leases:            T-1 T-2 ──► L1  two workers that always come back, for a long time
//!                              T-2 ──► L2  two workers that crash
//!                              T-3 ──► L3  three workers that crash, in the order of keys
//!                              T-1 ──► L4  two workers that fail, until the dead letter in T-dead
//!                              T-4 ──► L5  two workers, slower than what is removed
//! ```
//!
//! T-4 keeps few records, and is purged now and then.
//!
//! Pure but for the environment: `LOGDRIVE_SEED` and `LOGDRIVE_KILLS`.

use std::time::Duration;

use fastrand::Rng;
use logdrive::history::fingerprint;

/// All topics that are produced to.
pub(crate) const TOPICS: [&str; 4] = ["T-1", "T-2", "T-3", TRIMMED];
/// The topic whose records are removed, and how many it keeps.
pub(crate) const TRIMMED: &str = "T-4";
pub(crate) const KEPT: &str = "300";
/// Where the dead letters are.
pub(crate) const DEAD: &str = "T-dead";
/// The topic that somebody follows without a consumer.
pub(crate) const FOLLOWED: &str = TOPICS[0];

/// How a producer goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// `send().await`, one after the other.
    OneByOne,
    /// Many on their way.
    Pipelined,
    /// Large records at once, more than one chunk of storage holds, then nothing for a while.
    Bursts,
    /// Pipelined, answered when staged.
    Accepted,
    /// Pipelined, without a producer id: never sent again.
    Unregistered,
}

/// A producer that uses the client. (The ninth, [`TYPED`], types.)
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProducerPlan {
    pub(crate) name: &'static str,
    pub(crate) is_named: bool,
    pub(crate) manner: Manner,
    pub(crate) topics: &'static [&'static str],
}

const fn producer(
    name: &'static str,
    is_named: bool,
    manner: Manner,
    topics: &'static [&'static str],
) -> ProducerPlan {
    ProducerPlan {
        name,
        is_named,
        manner,
        topics,
    }
}

/// The producers that use the client.
pub(crate) const PRODUCERS: [ProducerPlan; 8] = [
    producer("P1", true, Manner::OneByOne, &["T-1", "T-2"]),
    producer("P2", false, Manner::OneByOne, &["T-1"]),
    producer("P3", true, Manner::Pipelined, &["T-1", "T-2", "T-3"]),
    producer("P4", false, Manner::Pipelined, &["T-2"]),
    producer("P5", true, Manner::Bursts, &["T-1", "T-3"]),
    producer("P6", true, Manner::Accepted, &["T-1", "T-3"]),
    producer("P7", false, Manner::Unregistered, &["T-2"]),
    producer("P9", true, Manner::Pipelined, &[TRIMMED]),
];
/// The producer that types, and its topic.
pub(crate) const TYPED: (&str, &str) = ("P8", "T-1");

/// A consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConsumerPlan {
    pub(crate) name: &'static str,
    pub(crate) workers: usize,
    pub(crate) topics: &'static [&'static str],
    /// Records at a time; 0 for no limit.
    pub(crate) max_records: u32,
    /// Bytes at a time.
    pub(crate) max_bytes: u32,
    /// Asks one answer ahead and takes one event at a time.
    pub(crate) prefetch: bool,
    /// Acknowledgements of anybody that it waits for after each answer.
    pub(crate) pause: u64,
}

/// All consumers.
pub(crate) const CONSUMERS: [ConsumerPlan; 5] = [
    ConsumerPlan {
        name: "C1",
        workers: 1,
        topics: &["T-1", "T-2", "T-3"],
        max_records: 0,
        max_bytes: 1 << 20,
        prefetch: false,
        pause: 0,
    },
    ConsumerPlan {
        name: "C2",
        workers: 2,
        topics: &["T-1", "T-2"],
        max_records: 60,
        max_bytes: 1 << 20,
        prefetch: false,
        pause: 0,
    },
    ConsumerPlan {
        name: "C3",
        workers: 1,
        topics: &["T-2", "T-3"],
        max_records: 0,
        max_bytes: 4 << 20,
        prefetch: true,
        pause: 0,
    },
    ConsumerPlan {
        name: "C4",
        workers: 2,
        topics: &["T-1", "T-3"],
        max_records: 0,
        max_bytes: 8 << 10,
        prefetch: false,
        pause: 0,
    },
    ConsumerPlan {
        name: "C5",
        workers: 1,
        topics: &[TRIMMED],
        max_records: 100,
        max_bytes: 1 << 20,
        prefetch: false,
        pause: 600,
    },
];

/// A consumer with leases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeasePlan {
    pub(crate) name: &'static str,
    pub(crate) workers: usize,
    pub(crate) topics: &'static [&'static str],
    pub(crate) settings: &'static [(&'static str, &'static str)],
    /// How long its leases last.
    pub(crate) lease: Duration,
    /// How often each of its workers crashes, at most.
    pub(crate) crashes: u32,
    /// Of so many records one can never be processed; 0 for none.
    pub(crate) poison: u64,
    /// As in [`ConsumerPlan`].
    pub(crate) pause: u64,
}

impl LeasePlan {
    /// Whether it keeps the order of keys.
    pub(crate) fn is_keyed(&self) -> bool {
        self.settings.contains(&("order", "key"))
    }
}

const PLAIN: LeasePlan = LeasePlan {
    name: "",
    workers: 2,
    topics: &[],
    settings: &[],
    lease: Duration::from_secs(2),
    crashes: 0,
    poison: 0,
    pause: 0,
};

/// All consumers with leases.
pub(crate) const LEASED: [LeasePlan; 5] = [
    LeasePlan {
        name: "L1",
        topics: &["T-1", "T-2"],
        lease: Duration::from_mins(10),
        ..PLAIN
    },
    LeasePlan {
        name: "L2",
        topics: &["T-2"],
        crashes: 12,
        ..PLAIN
    },
    LeasePlan {
        name: "L3",
        workers: 3,
        topics: &["T-3"],
        settings: &[("order", "key")],
        crashes: 12,
        ..PLAIN
    },
    LeasePlan {
        name: "L4",
        topics: &["T-1"],
        settings: &[("max_deliveries", "3"), ("dead_letter_topic", DEAD)],
        crashes: 6,
        poison: 32,
        ..PLAIN
    },
    LeasePlan {
        name: "L5",
        topics: &[TRIMMED],
        pause: 600,
        ..PLAIN
    },
];

/// How many keys there are.
const KEYS: u64 = 24;

/// The key of a producer's record.
pub(crate) fn key(sequence: u64) -> [u8; 1] {
    [u8::try_from(sequence % KEYS).unwrap_or_default()]
}

/// A number from the environment, which must be one if it is there.
pub(crate) fn environment(name: &str) -> Option<u64> {
    let given = std::env::var(name).ok()?;
    let number = given.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={given} is not a number")))
}

/// The dice of one player: the same for the same seed, whatever the others do.
pub(crate) fn dice(seed: u64, player: &str) -> Rng {
    Rng::with_seed(fingerprint(player, seed, b""))
}

/// A number from 0 to 2^`most`, of every magnitude as often as of any other.
pub(crate) fn magnitude(dice: &mut Rng, most: u32) -> u64 {
    let magnitude = dice.u32(0..=most);
    dice.u64(0..=1 << magnitude)
}

/// How long a client of this trial waits for an answer.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than that, and than the shorter leases.
pub(crate) const LONG_STOP: Duration = Duration::from_millis(2_500);

/// What is waited for before the broker is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    /// So many records more are acknowledged.
    Acknowledged(u64),
    /// So many answers more have reached consumers.
    Answered(u64),
    /// A burst has been handed over.
    Burst,
    /// Nothing: the broker, just started, is not ready.
    Starting,
}

/// When the broker is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) moment: Moment,
    /// How often the processor is offered to others afterwards.
    pub(crate) yields: u64,
    /// Whether it is stopped first, with SIGSTOP, and what then.
    pub(crate) stop: Stop,
}

/// What becomes of a broker at such a point, before it is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// It runs until it is killed.
    None,
    /// It stands still for so long, then runs on until the next point, where it is killed.
    For(Duration),
    /// It is killed as it stands.
    UntilKilled,
}

impl Point {
    /// The next one.
    pub(crate) fn choose(dice: &mut Rng) -> Self {
        let moment = match dice.u32(0..10) {
            0..5 => Moment::Acknowledged(magnitude(dice, 12)),
            5..8 => Moment::Answered(magnitude(dice, 6)),
            8 => Moment::Burst,
            _ => Moment::Starting,
        };
        let most = if matches!(moment, Moment::Starting) {
            17
        } else {
            12
        };
        let stop = match dice.u32(0..12) {
            // Leases end meanwhile, clients give requests up, and the broker then does what it was
            // asked on connections that are gone.
            0 => Stop::For(LONG_STOP),
            1 | 2 => Stop::For(Duration::from_millis(magnitude(dice, 9))),
            3 => Stop::UntilKilled,
            _ => Stop::None,
        };
        Self {
            moment,
            yields: magnitude(dice, most),
            stop,
        }
    }
}

/// Bytes of values that are seldom longer.
const SMALL: u32 = 8;
/// Bytes of values that sometimes are.
const MEDIUM: u32 = 14;
/// Bytes of a burst's values.
const LARGE: std::ops::Range<usize> = 60_000..400_000;

/// How long the rest of the next value is.
pub(crate) fn length(dice: &mut Rng, manner: Manner) -> usize {
    let most = if dice.u32(0..16) == 0 { MEDIUM } else { SMALL };
    match manner {
        Manner::Bursts => dice.usize(LARGE),
        _ => usize::try_from(magnitude(dice, most)).unwrap(),
    }
}

/// The value of a record: who sent it, its number, and so many random bytes.
pub(crate) fn value(dice: &mut Rng, name: &str, sequence: u64, length: usize) -> Vec<u8> {
    let mut value = format!("{name} {sequence:06} ").into_bytes();
    let head = value.len();
    value.resize(head + length, 0);
    dice.fill(&mut value[head..]);
    value
}

/// The same for a line of text.
pub(crate) fn line(dice: &mut Rng, name: &str, sequence: u64) -> String {
    let letters = 0..magnitude(dice, SMALL);
    let rest: String = letters.map(|_| dice.alphanumeric()).collect();
    format!("{name} {sequence:06} {rest}")
}

/// The number of a record, as its value says.
pub(crate) fn sequence_of(value: &[u8]) -> Option<u64> {
    let number = value.split(|&byte| byte == b' ').nth(1)?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// What a value is to the checker; one that no producer can have sent is like nothing else.
pub(crate) fn fingerprint_of(value: &[u8]) -> u64 {
    let parts = || {
        let mut parts = value.splitn(3, |&byte| byte == b' ');
        let name = std::str::from_utf8(parts.next()?).ok()?;
        let sequence = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        Some((name, sequence, parts.next()?))
    };
    let Some((name, sequence, rest)) = parts() else {
        return fingerprint("", 0, value);
    };
    // The checksum of the content, because hashing large values takes most of a slow build's time.
    let content = (rest.len() as u64) << 32 | u64::from(crc32c::crc32c(rest));
    fingerprint(name, sequence, &content.to_le_bytes())
}

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
//! ```
//!
//! Pure but for the environment: `LOGDRIVE_SEED` and `LOGDRIVE_KILLS`.

use fastrand::Rng;
use logdrive::history::fingerprint;

/// All topics.
pub(crate) const TOPICS: [&str; 3] = ["T-1", "T-2", "T-3"];
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

/// A producer that uses the client. (The eighth, [`TYPED`], types.)
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
pub(crate) const PRODUCERS: [ProducerPlan; 7] = [
    producer("P1", true, Manner::OneByOne, &["T-1", "T-2"]),
    producer("P2", false, Manner::OneByOne, &["T-1"]),
    producer("P3", true, Manner::Pipelined, &["T-1", "T-2", "T-3"]),
    producer("P4", false, Manner::Pipelined, &["T-2"]),
    producer("P5", true, Manner::Bursts, &["T-1", "T-3"]),
    producer("P6", true, Manner::Accepted, &["T-1", "T-3"]),
    producer("P7", false, Manner::Unregistered, &["T-2"]),
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
}

/// All consumers.
pub(crate) const CONSUMERS: [ConsumerPlan; 4] = [
    ConsumerPlan {
        name: "C1",
        workers: 1,
        topics: &["T-1", "T-2", "T-3"],
        max_records: 0,
        max_bytes: 1 << 20,
        prefetch: false,
    },
    ConsumerPlan {
        name: "C2",
        workers: 2,
        topics: &["T-1", "T-2"],
        max_records: 60,
        max_bytes: 1 << 20,
        prefetch: false,
    },
    ConsumerPlan {
        name: "C3",
        workers: 1,
        topics: &["T-2", "T-3"],
        max_records: 0,
        max_bytes: 4 << 20,
        prefetch: true,
    },
    ConsumerPlan {
        name: "C4",
        workers: 2,
        topics: &["T-1", "T-3"],
        max_records: 0,
        max_bytes: 8 << 10,
        prefetch: false,
    },
];

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
        Self {
            moment,
            yields: magnitude(dice, most),
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

//! The verdict: what was seen, how often each promise was broken, and the first cases in words.
//!
//! Owns the closed list of faults and their wording; never looks at a history. Filled by the rules
//! in [`topic`](super::topic), [`readers`](super::readers), [`leasing`](super::leasing) and
//! [`gaps`](super::gaps).

use std::fmt;

/// How many anomalies of each fault a report keeps in words; all are counted.
pub const ANOMALIES_KEPT: u64 = 16;

/// The promises that a log queue can break.
///
/// Where one event breaks several, each is counted: an acknowledged record whose offset went to
/// another one is `Lost` and `OffsetReused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A record that was acknowledged, or that somebody read, is not in the final read.
    Lost,
    /// Two reads of one offset gave different records.
    TwoValues,
    /// One sequence of a producer is at two offsets.
    Duplicated,
    /// A record was read, or acknowledged, that nobody sent, or whose loss was reported.
    Phantom,
    /// A producer's sequences do not increase with the offsets, or the offsets of an answer, or of a
    /// worker's answers, do not increase.
    OutOfOrder,
    /// A consumer was given later records but neither this one nor word of its removal, or the
    /// answer to a fetch left it out.
    Skipped,
    /// A consumer's workers were given one offset more than once, without leases or under one, or the
    /// answer to a fetch holds it twice.
    Repeated,
    /// The offset that one record was acknowledged at holds, or was acknowledged for, another.
    OffsetReused,
    /// A consumer's final size is not the number of records that it had not been given, or with
    /// leases had not acked.
    SizeWrong,
    /// A record was lent again, or given up, although its ack had been answered.
    AckLost,
    /// A record was lent while somebody's lease of it could not be over.
    HeldTwice,
    /// An ack was refused while the lease could not be over.
    CutShort,
    /// How often a record was delivered went back, or did not count that it was given back.
    CountWrong,
    /// A record was lent while an earlier one of its key was not settled, and not with it.
    KeyOrder,
    /// A gap was told twice, of records that are there, or with a wrong number of records.
    GapWrong,
}

impl Fault {
    /// Every fault, in the order of a report.
    pub const ALL: [Self; 15] = [
        Self::Lost,
        Self::TwoValues,
        Self::Duplicated,
        Self::Phantom,
        Self::OutOfOrder,
        Self::Skipped,
        Self::Repeated,
        Self::OffsetReused,
        Self::SizeWrong,
        Self::AckLost,
        Self::HeldTwice,
        Self::CutShort,
        Self::CountWrong,
        Self::KeyOrder,
        Self::GapWrong,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Lost => "lost",
            Self::TwoValues => "two values",
            Self::Duplicated => "duplicated",
            Self::Phantom => "phantom",
            Self::OutOfOrder => "out of order",
            Self::Skipped => "skipped",
            Self::Repeated => "repeated",
            Self::OffsetReused => "offset reused",
            Self::SizeWrong => "size wrong",
            Self::AckLost => "ack lost",
            Self::HeldTwice => "held twice",
            Self::CutShort => "lease cut short",
            Self::CountWrong => "count wrong",
            Self::KeyOrder => "key order broken",
            Self::GapWrong => "gap wrong",
        })
    }
}

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anomaly {
    /// Which promise.
    pub fault: Fault,
    /// The topic that it was seen in.
    pub topic: String,
    /// What was seen, as a clause without a full stop.
    pub words: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.fault, self.topic, self.words)
    }
}

/// What a history showed. Records are counted once, however often they were sent or noted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Records sent.
    pub sent: u64,
    /// Of those, records acknowledged as synced.
    pub acknowledged: u64,
    /// Of those, records whose outcome nobody knows; they may be stored or not.
    pub unknown: u64,
    /// Of those, records whose producer was told that they are not stored.
    pub reported_lost: u64,
    /// Offsets in the final reads.
    pub finally_read: u64,
    /// Deliveries of fetches.
    pub fetched: u64,
    /// Deliveries of all consumers together.
    pub consumed: u64,
    /// Of those, records that were lent.
    pub lent: u64,
    /// Of those, records that had been lent before.
    pub lent_again: u64,
    /// Records that were acked, each once.
    pub acked: u64,
    /// Records that were given up.
    pub given_up: u64,
    /// Gaps that consumers were told.
    pub gaps: u64,
    /// Final sizes noted.
    pub sizes: u64,
    /// Of those, sizes other than zero; not a fault where a consumer stopped early.
    pub sizes_not_zero: u64,
    counts: [u64; Fault::ALL.len()],
    anomalies: Vec<Anomaly>,
}

impl Report {
    /// How often the promise was broken.
    pub fn count(&self, fault: Fault) -> u64 {
        self.counts[fault as usize]
    }

    /// Whether no promise was broken.
    pub fn is_clean(&self) -> bool {
        self.counts.iter().all(|&count| count == 0)
    }

    /// Whether there were final sizes and all were zero.
    pub fn sizes_zero(&self) -> bool {
        self.sizes > 0 && self.sizes_not_zero == 0
    }

    /// The first [`ANOMALIES_KEPT`] anomalies of each fault, topic by topic.
    pub fn anomalies(&self) -> &[Anomaly] {
        &self.anomalies
    }

    /// Counts an anomaly; `words` is called only while there is room to keep it.
    pub(super) fn add(&mut self, fault: Fault, topic: &str, words: impl FnOnce() -> String) {
        let count = &mut self.counts[fault as usize];
        *count += 1;
        if *count <= ANOMALIES_KEPT {
            self.anomalies.push(Anomaly {
                fault,
                topic: topic.to_owned(),
                words: words(),
            });
        }
    }
}

/// Two lines of counts, a third with leases or gaps, then a line for each anomaly kept and one for what was not kept.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "sent {}, acknowledged {}, unknown {}, reported lost {}",
            self.sent, self.acknowledged, self.unknown, self.reported_lost
        )?;
        writeln!(
            f,
            "finally read {}, fetched {}, consumed {}, sizes {} ({} not zero)",
            self.finally_read, self.fetched, self.consumed, self.sizes, self.sizes_not_zero
        )?;
        if self.lent + self.gaps > 0 {
            writeln!(
                f,
                "lent {} ({} of them again), acked {}, given up {}, gaps {}",
                self.lent, self.lent_again, self.acked, self.given_up, self.gaps
            )?;
        }
        for fault in Fault::ALL {
            for anomaly in self
                .anomalies
                .iter()
                .filter(|anomaly| anomaly.fault == fault)
            {
                writeln!(f, "{anomaly}")?;
            }
            let more = self.count(fault).saturating_sub(ANOMALIES_KEPT);
            if more > 0 {
                writeln!(f, "{fault}: {more} more")?;
            }
        }
        if self.is_clean() {
            writeln!(f, "no anomalies")?;
        }
        Ok(())
    }
}

//! A checker of histories: did a log queue keep its promises to the clients that watched it?
//!
//! Owns the notes that clients take ([`Recorder`]), the rules that those notes must obey
//! ([`Fault`]) and the verdict ([`Report`]). Pure: no I/O, no clock, no runtime, and it knows
//! nothing of the broker, the client or the wire, so that it cannot share their mistakes. Its
//! neighbours are the tests that kill a broker and `logdrive demo`, which record and print.
//!
//! ```text
//!   a client's thread                 at the end
//!   Recorder: sent, acknowledged ─┐
//!   Recorder: delivered ──────────┼─► check ─► per topic: records sent ─┐
//!   Recorder: finally_read, sized ┘                       offsets read ─┴─► rules ─► Report
//! ```
//!
//! Two tables of a topic are held against each other: what was *sent*, by (producer, sequence),
//! and what was *read*, by offset, from the final read and all deliveries together. Acknowledgements
//! tie the two; deliveries and sizes are held against the offsets.
//!
//! # What a history must be
//!
//! - A [`fingerprint`] stands for one record alone. Equal fingerprints are equal records, which is
//!   why a read needs no producer and no sequence: they are those of the send.
//! - The final read of each topic is complete and comes after everything else; where something was
//!   removed, the offset before which it was is noted.
//! - A consumer's records are all lent or none, and none is delivered again on request.
//! - Consumers begin at offset 0 and are never moved by a seek.
//! - Offsets may have holes.
//!
//! # Time
//!
//! Only leases have to do with time: two workers may hold a record one after the other, and where one
//! ends and the other begins only the broker knows. The rules blame it only where every order of
//! events that fits the notes is wrong: a lease begins no earlier than it was asked for, and ends no
//! earlier than its duration after that. Leases of one consumer are given in the order of their
//! numbers, so that the notes of each narrow down all others.
//!
//! # Memory
//!
//! A send, an acknowledgement and a read take 16 bytes each, an answer 24 more; `check` works on one
//! topic at a time. Measured with a million acknowledged records of one topic and two consumers
//! (five million notes): 81 MB of notes, 144 MB at the peak of the check. Vectors may hold twice
//! their content while they grow.

mod gaps;
mod keys;
mod leases;
mod leasing;
mod readers;
mod recorder;
mod report;
mod sends;
mod spans;
mod table;
#[cfg(test)]
mod tests;
mod topic;

use std::hash::{DefaultHasher, Hash, Hasher};

pub use leases::{DeadLetter, Lease, Lent, Told, Verdict};
pub use recorder::{Answer, Origin, Read, Recorder};
pub use report::{ANOMALIES_KEPT, Anomaly, Fault, Report};

use recorder::{Named, Notes};

/// Merges what all clients recorded, in any order, and checks it.
///
/// Takes the time of sorting the notes once; it blocks for that long and does nothing else.
pub fn check(recorders: impl IntoIterator<Item = Recorder>) -> Report {
    let mut topics: Named<Notes> = Named::default();
    for recorder in recorders {
        for (name, notes) in recorder.into_topics() {
            topics.get(&name).absorb(notes);
        }
    }
    let mut report = Report::default();
    for (name, notes) in topics.into_pairs() {
        topic::check(&name, notes, &mut report);
    }
    report
}

/// The fingerprint of one record: its producer, its sequence and its content.
///
/// The reader takes producer and sequence from what it read, so that two equal lines of a log are
/// two records. Comparable only between runs of one binary.
pub fn fingerprint(producer: &str, sequence: u64, content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (producer, sequence, content).hash(&mut hasher);
    hasher.finish()
}

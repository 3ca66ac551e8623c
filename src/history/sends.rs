//! The records that were sent to one topic, found by origin or by fingerprint.
//!
//! Owns what is known of each record: its outcome, and where it was read. Applies no rule; filled
//! from the notes of [`recorder`](super::recorder), asked and marked by [`topic`](super::topic).

use super::recorder::{Acknowledged, Producer, Read};

/// What a record's producer was told, weakest first: the strongest word counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Unanswered,
    /// Weaker than `Unknown`: a late refusal does not undo an earlier try that may have succeeded.
    ReportedLost,
    Unknown,
    /// Unknown as well, and without a place in its producer's order.
    Abandoned,
    Acknowledged,
}

/// One record: one sequence of one producer, however often it was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) sequence: u64,
    /// The lowest offset at which it was read; means nothing while `places` is 0.
    pub(super) offset: u64,
    /// Index into [`Sends::names`].
    pub(super) producer: u32,
    /// At how many offsets it was read.
    pub(super) places: u32,
    pub(super) outcome: Outcome,
    /// Whether the final read holds it.
    pub(super) kept: bool,
}

/// All records of a topic.
pub(super) struct Sends {
    pub(super) names: Vec<String>,
    /// Ascending by (producer, sequence).
    pub(super) records: Vec<Sent>,
    /// (fingerprint, index into `records`), ascending.
    by_fingerprint: Vec<(u64, u32)>,
}

/// The acknowledgements of one producer.
pub(super) struct Acknowledgements {
    pub(super) producer: u32,
    pub(super) rows: Vec<Acknowledged>,
}

impl Sends {
    /// Gathers what all producers sent, with their outcomes; the acknowledged offsets are handed
    /// back, without repetitions, to be checked when the reads are known.
    pub(super) fn gather(
        producers: impl IntoIterator<Item = (String, Producer)>,
    ) -> (Self, Vec<Acknowledgements>) {
        let mut sends = Self {
            names: Vec::new(),
            records: Vec::new(),
            by_fingerprint: Vec::new(),
        };
        let mut acknowledgements = Vec::new();
        for (producer, (name, mut notes)) in (0..).zip(producers) {
            sends.names.push(name);
            sends.add(producer, std::mem::take(&mut notes.sends));
            for &sequence in &notes.unknown {
                sends.learn(producer, sequence, Outcome::Unknown);
            }
            for &sequence in &notes.abandoned {
                sends.learn(producer, sequence, Outcome::Abandoned);
            }
            for &sequence in &notes.reported_lost {
                sends.learn(producer, sequence, Outcome::ReportedLost);
            }
            let mut rows = notes.acknowledged;
            rows.sort_unstable();
            rows.dedup();
            for row in &rows {
                sends.learn(producer, row.sequence, Outcome::Acknowledged);
            }
            acknowledgements.push(Acknowledgements { producer, rows });
        }
        sends.by_fingerprint.sort_unstable();
        sends.by_fingerprint.dedup();
        (sends, acknowledgements)
    }

    /// The record with this origin.
    pub(super) fn find(&self, producer: u32, sequence: u64) -> Option<u32> {
        let index = self
            .records
            .binary_search_by_key(&(producer, sequence), |sent| (sent.producer, sent.sequence));
        index.ok().and_then(|index| u32::try_from(index).ok())
    }

    /// The record with this content.
    pub(super) fn recognise(&self, fingerprint: u64) -> Option<u32> {
        let from = self
            .by_fingerprint
            .partition_point(|&(known, _)| known < fingerprint);
        let &(known, index) = self.by_fingerprint.get(from)?;
        (known == fingerprint).then_some(index)
    }

    /// What is stored before `log_start` according to these acknowledgements.
    pub(super) fn acknowledged_before(
        &self,
        log_start: u64,
        acknowledgements: &[Acknowledgements],
    ) -> Vec<Read> {
        if log_start == 0 {
            return Vec::new();
        }
        let mut fingerprints = vec![0; self.records.len()];
        for &(fingerprint, index) in &self.by_fingerprint {
            fingerprints[index as usize] = fingerprint;
        }
        let mut reads = Vec::new();
        for Acknowledgements { producer, rows } in acknowledgements {
            for row in rows.iter().filter(|row| row.offset < log_start) {
                let index = self.find(*producer, row.sequence);
                reads.extend(index.map(|index| Read {
                    offset: row.offset,
                    fingerprint: fingerprints[index as usize],
                }));
            }
        }
        reads
    }

    /// The record at an index that `find` or `recognise` gave.
    pub(super) fn get(&self, index: u32) -> &Sent {
        &self.records[index as usize]
    }

    /// Notes that the record was read at `offset`; to be called upwards by offset.
    pub(super) fn place(&mut self, index: u32, offset: u64, kept: bool) {
        let sent = &mut self.records[index as usize];
        if sent.places == 0 {
            sent.offset = offset;
        }
        sent.places = sent.places.saturating_add(1);
        sent.kept |= kept;
    }

    /// A record in words.
    pub(super) fn words(&self, sent: &Sent) -> String {
        format!(
            "record {} of {}",
            sent.sequence, self.names[sent.producer as usize]
        )
    }

    /// What was read, in words.
    pub(super) fn content_words(&self, fingerprint: u64) -> String {
        match self.recognise(fingerprint) {
            Some(index) => self.words(self.get(index)),
            None => format!("content {fingerprint:#018x}, which nobody sent"),
        }
    }

    fn add(&mut self, producer: u32, mut sends: Vec<super::recorder::Send>) {
        sends.sort_unstable();
        self.records.reserve(sends.len());
        self.by_fingerprint.reserve(sends.len());
        for send in sends {
            let known = self
                .records
                .last()
                .is_some_and(|last| last.producer == producer && last.sequence == send.sequence);
            if !known {
                self.records.push(Sent {
                    sequence: send.sequence,
                    offset: 0,
                    producer,
                    places: 0,
                    outcome: Outcome::Unanswered,
                    kept: false,
                });
            }
            // An index past u32 cannot be kept; such a record is reported as a phantom, not missed.
            if let Ok(index) = u32::try_from(self.records.len() - 1) {
                self.by_fingerprint.push((send.fingerprint, index));
            }
        }
    }

    fn learn(&mut self, producer: u32, sequence: u64, outcome: Outcome) {
        if let Some(index) = self.find(producer, sequence) {
            let sent = &mut self.records[index as usize];
            sent.outcome = sent.outcome.max(outcome);
        }
    }
}

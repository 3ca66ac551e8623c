//! The rules that tie what was sent to what was read, for one topic.
//!
//! Decides Lost, `TwoValues`, Duplicated, Phantom, `OffsetReused` and a producer's order; what
//! consumers and fetchers were given is judged by [`readers`]
//! and [`leasing`]. Never does I/O.

use super::gaps::Gaps;
use super::recorder::Notes;
use super::report::{Fault, Report};
use super::sends::{Acknowledgements, Outcome, Sends};
use super::table::Table;
use super::{leasing, readers};

/// Checks one topic and adds what it finds to the report.
pub(super) fn check(name: &str, notes: Notes, report: &mut Report) {
    let Notes {
        producers,
        consumers,
        fetches,
        last,
        log_start,
    } = notes;
    let consumers: Vec<_> = consumers.into_pairs().collect();
    let (sends, acknowledgements) = Sends::gather(producers.into_pairs());
    // What was removed before anybody read it is known from its acknowledgement alone.
    let removed = sends.acknowledged_before(log_start, &acknowledgements);
    let lent = consumers
        .iter()
        .flat_map(|(_, it)| [it.deliveries.reads(), &it.leases.reads, &it.leases.given_up]);
    let table = Table::new(last, log_start, lent.chain([fetches.reads(), &removed]));
    let mut topic = Topic {
        name,
        sends,
        table,
        report,
    };

    topic.recognise();
    topic.contradicted();
    topic.duplicated();
    topic.acknowledged(&acknowledgements);
    topic.outcomes();
    topic.ordered();

    let Topic { table, report, .. } = topic;
    readers::check_fetches(name, &table, &fetches, report);
    for (consumer, notes) in &consumers {
        let gaps = Gaps::of(&notes.gaps);
        gaps.check(name, &table, consumer, report);
        let of = Of {
            topic: name,
            table: &table,
            consumer,
            gaps: &gaps,
        };
        if notes.leases.answers.is_empty() {
            readers::check_consumer(&of, notes, report);
        } else {
            leasing::check_consumer(&of, notes, report);
        }
    }
}

/// The consumer that a rule is about.
pub(super) struct Of<'a> {
    pub(super) topic: &'a str,
    pub(super) table: &'a Table,
    pub(super) consumer: &'a str,
    pub(super) gaps: &'a Gaps,
}

struct Topic<'a> {
    name: &'a str,
    sends: Sends,
    table: Table,
    report: &'a mut Report,
}

impl Topic<'_> {
    /// Ties each row to the record that it holds; content that nobody sent is a phantom.
    fn recognise(&mut self) {
        for row in &mut self.table.rows {
            row.record = self.sends.recognise(row.fingerprint);
            if let Some(index) = row.record {
                self.sends.place(index, row.offset, row.kept || row.removed);
            } else {
                self.report.add(Fault::Phantom, self.name, || {
                    format!(
                        "offset {}: {}",
                        row.offset,
                        self.sends.content_words(row.fingerprint)
                    )
                });
            }
            self.report.finally_read += u64::from(row.kept);
        }
        for read in &self.table.contradictions {
            if self.sends.recognise(read.fingerprint).is_none() {
                self.report.add(Fault::Phantom, self.name, || {
                    format!(
                        "offset {}: {}",
                        read.offset,
                        self.sends.content_words(read.fingerprint)
                    )
                });
            }
        }
    }

    /// Two values, once per offset, however many readers saw them.
    fn contradicted(&mut self) {
        let mut finder = self.table.finder();
        for others in self
            .table
            .contradictions
            .chunk_by(|a, b| a.offset == b.offset)
        {
            let other = others[0];
            let Some(row) = finder.find(other.offset).map(|row| &self.table.rows[row]) else {
                continue;
            };
            self.report.add(Fault::TwoValues, self.name, || {
                format!(
                    "offset {}: {} and {}",
                    row.offset,
                    self.sends.content_words(row.fingerprint),
                    self.sends.content_words(other.fingerprint)
                )
            });
        }
    }

    fn duplicated(&mut self) {
        for row in &self.table.rows {
            let Some(sent) = row.record.map(|index| self.sends.get(index)) else {
                continue;
            };
            if sent.offset != row.offset {
                self.report.add(Fault::Duplicated, self.name, || {
                    let words = self.sends.words(sent);
                    format!(
                        "{words}: at offset {} and again at {}",
                        sent.offset, row.offset
                    )
                });
            }
        }
    }

    /// Holds each acknowledged offset against what was read there.
    fn acknowledged(&mut self, acknowledgements: &[Acknowledgements]) {
        // Acknowledged at offsets that nobody read; nothing but each other is left to compare with.
        let mut unread = Vec::new();
        for Acknowledgements { producer, rows } in acknowledgements {
            let mut finder = self.table.finder();
            for row in rows {
                let offset = row.offset;
                let Some(index) = self.sends.find(*producer, row.sequence) else {
                    self.report.add(Fault::Phantom, self.name, || {
                        let name = &self.sends.names[*producer as usize];
                        let sequence = row.sequence;
                        format!("record {sequence} of {name}: acknowledged but never sent")
                    });
                    continue;
                };
                let sent = self.sends.get(index);
                match finder.find(offset).map(|row| &self.table.rows[row]) {
                    Some(held) if held.record == Some(index) => {}
                    Some(held) => self.report.add(Fault::OffsetReused, self.name, || {
                        let words = self.sends.words(sent);
                        let held = self.sends.content_words(held.fingerprint);
                        format!("offset {offset}: acknowledged for {words}, holds {held}")
                    }),
                    None if sent.places > 0 => {
                        self.report.add(Fault::Duplicated, self.name, || {
                            let words = self.sends.words(sent);
                            format!(
                                "{words}: acknowledged at offset {offset}, at {}",
                                sent.offset
                            )
                        });
                    }
                    None => unread.push((offset, index)),
                }
            }
        }
        unread.sort_unstable();
        for pair in unread.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            self.report.add(Fault::OffsetReused, self.name, || {
                let [one, other] =
                    [pair[0].1, pair[1].1].map(|i| self.sends.words(self.sends.get(i)));
                format!(
                    "offset {}: acknowledged for {one} and for {other}",
                    pair[0].0
                )
            });
        }
    }

    /// Counts outcomes, and holds each against whether the record is there.
    fn outcomes(&mut self) {
        for sent in &self.sends.records {
            let words = || self.sends.words(sent);
            let read = sent.places > 0;
            self.report.sent += 1;
            match sent.outcome {
                Outcome::Acknowledged => self.report.acknowledged += 1,
                Outcome::Unanswered | Outcome::Unknown | Outcome::Abandoned => {
                    self.report.unknown += 1;
                }
                Outcome::ReportedLost => self.report.reported_lost += 1,
            }
            if sent.outcome == Outcome::Acknowledged && !sent.kept {
                self.report.add(Fault::Lost, self.name, || {
                    format!("{}: acknowledged, not in the final read", words())
                });
            } else if read && !sent.kept {
                self.report.add(Fault::Lost, self.name, || {
                    format!(
                        "{}: read at offset {}, not in the final read",
                        words(),
                        sent.offset
                    )
                });
            }
            if sent.outcome == Outcome::ReportedLost && read {
                self.report.add(Fault::Phantom, self.name, || {
                    format!(
                        "{}: reported lost, but is at offset {}",
                        words(),
                        sent.offset
                    )
                });
            }
        }
    }

    /// A producer's order, once per step backwards. Duplicates are left out: they are reported as
    /// such, and say nothing about the order of the others. Nor do those that were abandoned.
    fn ordered(&mut self) {
        let mut previous: Vec<Option<(u64, u64)>> = vec![None; self.sends.names.len()];
        for row in &self.table.rows {
            let Some(sent) = row.record.map(|index| self.sends.get(index)) else {
                continue;
            };
            if sent.places > 1 || sent.outcome == Outcome::Abandoned {
                continue;
            }
            let before = previous[sent.producer as usize].replace((sent.sequence, row.offset));
            if let Some((sequence, offset)) = before
                && sequence > sent.sequence
            {
                self.report.add(Fault::OutOfOrder, self.name, || {
                    let words = self.sends.words(sent);
                    format!(
                        "{words}: at offset {}, after {sequence} at {offset}",
                        row.offset
                    )
                });
            }
        }
    }
}

//! The rules for what a consumer with leases was lent, acked, gave back and gave up.
//!
//! Decides `AckLost`, `HeldTwice`, `CutShort`, `CountWrong`, and for such a consumer Skipped,
//! Repeated, `SizeWrong` and the order of an answer; [`keys`](super::keys) decides `KeyOrder`, and
//! [`spans`](super::spans) when leases begin and end. Never does I/O.
//!
//! ```text
//!   leases, in the order of their numbers ──► a row: lent by ─ again by ─ ... ─ last lent by
//!   acks, whenever they were answered ──────► a row: acked, at the latest at
//! ```

use std::collections::HashMap;

use super::gaps::is_expected;
use super::keys::Keys;
use super::leases::{Leases, Settled, Verdict};
use super::readers::{check_sizes, end_of, skipped};
use super::recorder::Consumer;
use super::report::{Fault, Report};
use super::spans::{Span, Spans};
use super::topic::Of;

/// What was tried with one record under one lease; the earliest of each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried {
    /// Whether an ack was answered, or may have been.
    is_acked: bool,
    /// Since when it may have been given back.
    back: Option<u64>,
    /// Whether giving it back was answered.
    is_back: bool,
}

/// What is known of one row, as far as leases have been looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lot {
    /// Who has it, or had it last.
    pub(super) span: Option<usize>,
    /// Who has it last of all.
    pub(super) last: usize,
    deliveries: u32,
    /// When some ack of it had been answered, at the latest.
    acked: Option<u64>,
    /// When some ack of it had been sent that was not refused.
    pub(super) tried: Option<u64>,
    /// Dead letters.
    pub(super) letters: u32,
    is_reported: bool,
}

/// A consumer with leases: every record lent until it is acked, to one worker at a time.
pub(super) fn check_consumer(of: &Of<'_>, notes: &Consumer, report: &mut Report) {
    let spans = Spans::of(&notes.leases);
    let mut lots = vec![Lot::default(); of.table.rows.len()];
    let tried = try_all(of, &notes.leases, &mut lots);
    for (at, span) in spans.iter().enumerate() {
        for (row, ..) in reads(of, &notes.leases, span) {
            lots[row].last = at;
        }
    }
    let mut walk = Walk {
        of,
        spans,
        tried,
        lots,
        keys: Keys::default(),
        report,
    };
    for at in 0..walk.spans.len() {
        walk.lend(at, &notes.leases);
    }
    walk.refused(&notes.leases.settled);
    walk.give_up(&notes.leases);
    walk.settle();
    walk.leave(&notes.sizes);
}

/// Rows, deliveries and keys of one lease, as they stood in the answer.
fn reads<'a>(
    of: &'a Of<'_>,
    leases: &'a Leases,
    span: &Span,
) -> impl Iterator<Item = (usize, u32, u64)> + use<'a> {
    let run = span.reads.clone();
    let mut finder = of.table.finder();
    let reads = leases.reads[run.clone()].iter().zip(&leases.marks[run]);
    reads.filter_map(move |(read, &(deliveries, key))| {
        Some((finder.find(read.offset)?, deliveries, key))
    })
}

/// Gathers what was tried with each record, by lease and offset, and over all leases.
fn try_all(of: &Of<'_>, leases: &Leases, lots: &mut [Lot]) -> HashMap<(u64, u64), Tried> {
    let earlier = |before: Option<u64>, at: u64| Some(before.map_or(at, |it| it.min(at)));
    let mut tried: HashMap<(u64, u64), Tried> = HashMap::new();
    let mut finder = of.table.finder();
    for settled in &leases.settled {
        let one = tried.entry((settled.lease, settled.offset)).or_default();
        let Some(lot) = finder.find(settled.offset).map(|row| &mut lots[row]) else {
            continue;
        };
        match settled.verdict {
            Verdict::Acked(answered) => {
                one.is_acked = true;
                lot.acked = earlier(lot.acked, answered);
                lot.tried = earlier(lot.tried, settled.sent);
            }
            Verdict::AckUnknown => {
                one.is_acked = true;
                lot.tried = earlier(lot.tried, settled.sent);
            }
            Verdict::AckRefused(_) => {}
            Verdict::Nacked | Verdict::NackUnknown => {
                one.back = earlier(one.back, settled.sent);
                one.is_back |= settled.verdict == Verdict::Nacked;
            }
        }
    }
    for read in &leases.given_up {
        if let Some(row) = finder.find(read.offset) {
            lots[row].letters += 1;
        }
    }
    tried
}

struct Walk<'a> {
    of: &'a Of<'a>,
    spans: Spans,
    tried: HashMap<(u64, u64), Tried>,
    lots: Vec<Lot>,
    keys: Keys,
    report: &'a mut Report,
}

impl Walk<'_> {
    fn tried(&self, span: &Span, offset: u64) -> Tried {
        let tried = self.tried.get(&(span.number, offset));
        tried.copied().unwrap_or_default()
    }

    /// When the lease of this record may be over, at the earliest.
    fn end(&self, span: &Span, offset: u64) -> u64 {
        let back = self.tried(span, offset).back;
        back.map_or(span.end, |back| back.min(span.end))
    }

    /// Looks at one lease, after all that were given before it.
    fn lend(&mut self, at: usize, leases: &Leases) {
        let span = self.spans[at].clone();
        let mut before = None;
        for (row, deliveries, key) in reads(self.of, leases, &span) {
            let offset = self.of.table.rows[row].offset;
            self.report.consumed += 1;
            self.report.lent += 1;
            if let Some(after) = before.replace(offset).filter(|&before| before > offset) {
                let consumer = self.of.consumer;
                self.report.add(Fault::OutOfOrder, self.of.topic, || {
                    format!("offset {offset}: lent to {consumer} after {after}")
                });
            }
            let lot = self.lots[row];
            if let Some(earlier) = lot.span {
                self.report.lent_again += 1;
                if self.spans[earlier].number == span.number {
                    self.repeated(earlier, &span, offset);
                    continue;
                }
                self.lend_again(row, (earlier, &span), deliveries);
            }
            if key != 0 {
                let (spans, lots) = (&self.spans, &self.lots);
                self.keys
                    .lend((at, row, key), (spans, lots), self.of, self.report);
            }
            self.lots[row].span = Some(at);
            self.lots[row].deliveries = deliveries;
        }
    }

    /// One lease holds a record twice.
    fn repeated(&mut self, earlier: usize, span: &Span, offset: u64) {
        let (consumer, number) = (self.of.consumer, span.number);
        let other = self.spans[earlier].worker;
        if other == span.worker {
            self.report.add(Fault::Repeated, self.of.topic, || {
                format!("offset {offset}: lent to {consumer} twice under lease {number}")
            });
        } else {
            self.report.add(Fault::HeldTwice, self.of.topic, || {
                let worker = span.worker;
                format!(
                    "offset {offset}: lease {number} of {consumer} is of workers {other} and \
                     {worker}"
                )
            });
        }
    }

    fn lend_again(&mut self, row: usize, (earlier, span): (usize, &Span), deliveries: u32) {
        let Lot {
            acked,
            deliveries: known,
            ..
        } = self.lots[row];
        let offset = self.of.table.rows[row].offset;
        let (topic, consumer, number) = (self.of.topic, self.of.consumer, span.number);
        let earlier = &self.spans[earlier];
        let is_back = self.tried(earlier, offset).is_back;
        if acked.is_some_and(|acked| acked <= span.after) {
            self.lots[row].is_reported = true;
            self.report.add(Fault::AckLost, topic, || {
                format!("offset {offset}: acked, and lent to {consumer} again by lease {number}")
            });
            return;
        }
        if self.end(earlier, offset) > span.before {
            let words = format!(
                "offset {offset}: lent to {consumer} by lease {number} while lease {} of worker {} \
                 is not over",
                earlier.number, earlier.worker
            );
            self.report.add(Fault::HeldTwice, topic, || words);
        }
        let least = known + u32::from(is_back);
        if deliveries < least {
            self.report.add(Fault::CountWrong, topic, || {
                format!(
                    "offset {offset}: lease {number} of {consumer} says {deliveries} deliveries, \
                     after {least}"
                )
            });
        }
    }

    /// Refused acks: the lease must have been over.
    fn refused(&mut self, settled: &[Settled]) {
        for it in settled {
            let Verdict::AckRefused(at) = it.verdict else {
                continue;
            };
            let Some(span) = self.spans.iter().find(|span| span.number == it.lease) else {
                continue;
            };
            if at < self.end(span, it.offset) {
                let (offset, lease) = (it.offset, it.lease);
                let consumer = self.of.consumer;
                self.report.add(Fault::CutShort, self.of.topic, || {
                    format!("offset {offset}: an ack under lease {lease} of {consumer} was refused")
                });
            }
        }
    }

    /// Dead letters: one for each record, of one that was not acked, with all its deliveries.
    fn give_up(&mut self, leases: &Leases) {
        let (topic, consumer) = (self.of.topic, self.of.consumer);
        let mut finder = self.of.table.finder();
        for (read, &said) in leases.given_up.iter().zip(&leases.letters) {
            let offset = read.offset;
            let Some(row) = finder.find(offset) else {
                continue;
            };
            self.report.given_up += 1;
            let lot = self.lots[row];
            let least = lot.span.map_or(0, |_| lot.deliveries + 1);
            if said < least {
                self.report.add(Fault::CountWrong, topic, || {
                    format!("offset {offset}: {consumer} gave it up after {said} deliveries, not {least}")
                });
            }
            if let (Some(acked), Some(span)) = (lot.acked, lot.span)
                && acked < self.end(&self.spans[span], offset)
            {
                self.lots[row].is_reported = true;
                self.report.add(Fault::AckLost, topic, || {
                    format!("offset {offset}: acked, and given up by {consumer}")
                });
            }
        }
        for (row, lot) in self.of.table.rows.iter().zip(&self.lots) {
            if lot.letters > 1 {
                self.report.add(Fault::Repeated, topic, || {
                    format!("offset {}: given up by {consumer} twice", row.offset)
                });
            }
        }
    }

    /// Acks that were answered: under the last lease, or because that was acked, or because the record
    /// was removed after it was given back: then nobody is lent it again, and nothing is left to ack.
    fn settle(&mut self) {
        for (row, lot) in self.of.table.rows.iter().zip(&self.lots) {
            let (Some(_), Some(last)) = (lot.acked, lot.span) else {
                continue;
            };
            self.report.acked += 1;
            if lot.letters > 0 || lot.is_reported || row.removed {
                continue;
            }
            let last = &self.spans[last];
            if !self.tried(last, row.offset).is_acked {
                let (offset, number, consumer) = (row.offset, last.number, self.of.consumer);
                self.report.add(Fault::AckLost, self.of.topic, || {
                    format!(
                        "offset {offset}: acked under an earlier lease, and had last by lease \
                         {number} of {consumer}"
                    )
                });
            }
        }
    }

    /// What was never given, and what is left.
    fn leave(&mut self, sizes: &[u64]) {
        let of = self.of;
        let end = end_of(of, |row| self.lots[row].span.is_some());
        let (mut left, mut unsure) = (0, 0);
        for (at, (row, lot)) in of.table.rows.iter().zip(&self.lots).enumerate() {
            let is_told = of.gaps.tell_of(row.offset);
            if !is_expected(row) || is_told || lot.letters > 0 || lot.acked.is_some() {
                continue;
            }
            match lot.span {
                None if at < end => skipped(of, row, self.report),
                None => left += u64::from(row.kept),
                Some(_) if lot.tried.is_some() || row.removed => unsure += 1,
                Some(_) => left += 1,
            }
        }
        check_sizes(of, sizes, left..=left + unsure, self.report);
    }
}

//! When the leases of one consumer began and ended, as far as it can be known.
//!
//! Judges nothing; filled from the notes of [`leases`](super::leases), asked by
//! [`leasing`](super::leasing) and [`keys`](super::keys).
//!
//! ```text
//!   lease 4    asked ----------------- received          given between `after` and `before`:
//!   lease 5             asked -- received                lease 4 before lease 5 was received,
//!   lease 6    asked --------------------------- received     lease 6 after lease 5 was asked for
//! ```

use std::collections::HashMap;
use std::ops::{Deref, Range};

use super::leases::Leases;

/// One lease.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) number: u64,
    pub(super) worker: u64,
    /// It was given at this time or later.
    pub(super) after: u64,
    /// It was given before this time.
    pub(super) before: u64,
    /// It was not over before this time, unless the record was settled.
    pub(super) end: u64,
    /// Which of the notes it is about.
    pub(super) reads: Range<usize>,
}

/// All leases of a consumer, in the order in which they were given.
pub(super) struct Spans(Vec<Span>);

impl Spans {
    pub(super) fn of(leases: &Leases) -> Self {
        let mut answers = leases.answers.clone();
        answers.sort_by_key(|answer| (answer.number, answer.worker, answer.reads.start));
        let mut spans: Vec<Span> = Vec::with_capacity(answers.len());
        let mut asked = 0;
        for answer in &answers {
            asked = asked.max(answer.asked);
            spans.push(Span {
                number: answer.number,
                worker: answer.worker,
                after: asked,
                before: answer.received,
                end: asked.saturating_add(answer.lasts),
                reads: answer.reads.clone(),
            });
        }
        let mut received = u64::MAX;
        for span in spans.iter_mut().rev() {
            received = received.min(span.before);
            span.before = received;
        }
        let mut extended: HashMap<u64, u64> = HashMap::new();
        for &(number, end) in &leases.extended {
            let known = extended.entry(number).or_default();
            *known = end.max(*known);
        }
        for span in &mut spans {
            let end = extended.get(&span.number).copied().unwrap_or_default();
            span.end = span.end.max(end);
            for &(_, from) in leases.gone.iter().filter(|gone| gone.0 == span.worker) {
                if span.after < from {
                    span.end = span.end.min(from);
                }
            }
        }
        Self(spans)
    }
}

impl Deref for Spans {
    type Target = [Span];

    fn deref(&self) -> &[Span] {
        &self.0
    }
}

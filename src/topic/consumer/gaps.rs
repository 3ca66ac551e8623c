//! What was removed before a consumer read it, until it has been told.
//!
//! Pure. There is a bounded number of gaps: those that abut each other and have one reason are
//! one, and beyond the bound the last one takes in what comes, with exact sums. Its neighbour:
//! [`Consumer`](super::Consumer) owns it.

use std::collections::BTreeMap;

use logdrive_protocol::operations::Gap;
use logdrive_protocol::{ConsumerId, TopicId};

use super::super::rows;
use crate::limits::MAX_GAPS;
use crate::storage::Row;

/// The gaps of one consumer, by their first offset.
#[derive(Clone, Debug, Default)]
pub struct Gaps(BTreeMap<u64, Gap>);

impl Gaps {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes up a stored one.
    pub fn load(&mut self, gap: Gap) {
        self.0.insert(gap.from, gap);
    }

    /// Adds one that overlaps no other.
    pub fn add(&mut self, topic: TopicId, consumer: ConsumerId, gap: Gap, changed: &mut Vec<Row>) {
        let full = self.0.len() >= MAX_GAPS;
        let before = self.0.range_mut(..=gap.from).next_back();
        let joined = before
            .map(|(_, before)| before)
            .filter(|before| full || (before.to == gap.from && before.reason == gap.reason));
        let gap = match joined {
            Some(before) => {
                before.to = before.to.max(gap.to);
                before.records += gap.records;
                before.bytes += gap.bytes;
                before.last_time = gap.last_time.max(before.last_time);
                before.clone()
            }
            None => gap,
        };
        changed.push(rows::gap(topic, consumer, &gap));
        self.0.insert(gap.from, gap);
    }

    /// All of them, in order; from here on they are told.
    pub fn tell(
        &mut self,
        topic: TopicId,
        consumer: ConsumerId,
        changed: &mut Vec<Row>,
    ) -> Vec<Gap> {
        let gaps: Vec<Gap> = std::mem::take(&mut self.0).into_values().collect();
        let forgotten = gaps
            .iter()
            .map(|gap| rows::forget_gap(topic, consumer, gap.from));
        changed.extend(forgotten);
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(from: u64, to: u64, reason: u8) -> Gap {
        Gap {
            from,
            to,
            records: to - from,
            bytes: 10 * (to - from),
            first_time: from,
            last_time: to,
            reason,
        }
    }

    fn check(added: &[Gap], expected: &str) {
        let mut gaps = Gaps::default();
        let mut changed = Vec::new();
        for gap in added {
            gaps.add(TopicId(1), ConsumerId(2), gap.clone(), &mut changed);
        }
        assert!(gaps.len() <= MAX_GAPS);
        let told: Vec<_> = gaps
            .tell(TopicId(1), ConsumerId(2), &mut changed)
            .iter()
            .map(|it| format!("{}..{} {} {}", it.from, it.to, it.records, it.bytes))
            .collect();
        assert_eq!(told.join(", "), expected);
        assert!(gaps.is_empty());
    }

    #[test]
    fn gaps_that_abut_for_one_reason_are_one() {
        check(
            &[gap(0, 4, 0), gap(4, 6, 0), gap(6, 7, 1), gap(9, 10, 1)],
            "0..6 6 60, 6..7 1 10, 9..10 1 10",
        );
    }

    #[test]
    fn beyond_the_bound_sums_stay_exact() {
        let mut gaps = Gaps::default();
        for from in 0..1_000 {
            gaps.add(
                TopicId(1),
                ConsumerId(2),
                gap(2 * from, 2 * from + 1, 0),
                &mut Vec::new(),
            );
        }
        assert_eq!(gaps.len(), MAX_GAPS);
        let told = gaps.tell(TopicId(1), ConsumerId(2), &mut Vec::new());
        assert_eq!(told.iter().map(|gap| gap.records).sum::<u64>(), 1_000);
        assert_eq!(told.last().map(|gap| gap.to), Some(1_999));
    }
}

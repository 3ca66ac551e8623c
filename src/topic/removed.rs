//! What was removed at the beginning of a topic's log, and why.
//!
//! Pure. Ranges abut from offset 0 to the log's start; those of one reason that follow each other
//! are one, and beyond [`MAX_RANGES`] the two oldest become one, so it is a small row. Its
//! neighbour: [`State`](super::state::State) adds to it with every trim and asks it for gaps.

use logdrive_protocol::operations::Gap;

/// Ranges that are told apart at most.
pub const MAX_RANGES: usize = 16;

/// The removed ranges, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    ranges: Vec<Gap>,
}

impl Removed {
    /// Takes up the row of a topic at a start.
    pub fn load(ranges: Vec<Gap>) -> Self {
        Self { ranges }
    }

    /// What the row holds.
    pub fn ranges(&self) -> &[Gap] {
        &self.ranges
    }

    /// Adds what a trim removes; it begins where the last range ends.
    pub fn push(&mut self, gap: Gap) {
        match self.ranges.last_mut() {
            Some(last) if last.reason == gap.reason => join(last, &gap),
            _ => self.ranges.push(gap),
        }
        if self.ranges.len() > MAX_RANGES {
            let oldest = self.ranges.remove(0);
            let mut joined = oldest;
            join(&mut joined, &self.ranges[0]);
            self.ranges[0] = joined;
        }
    }

    /// What was removed of `from..start`, one gap for each reason; the ranges may go on behind
    /// `start`, with what is not removed durably yet.
    ///
    /// Records are exact. Bytes and the first time are known of whole ranges alone, and 0 where
    /// `from` lies within one.
    pub fn gaps(&self, from: u64, start: u64) -> Vec<Gap> {
        let met = (self.ranges.iter()).filter(|range| range.to.min(start) > range.from.max(from));
        met.map(|range| {
            let whole = from <= range.from && range.to <= start;
            let (from, to) = (range.from.max(from), range.to.min(start));
            if whole {
                return range.clone();
            }
            Gap {
                from,
                to,
                records: to - from,
                bytes: 0,
                first_time: 0,
                last_time: if to == range.to { range.last_time } else { 0 },
                reason: range.reason,
            }
        })
        .collect()
    }
}

/// Lets `gap` follow; of two reasons the later one stays.
fn join(range: &mut Gap, gap: &Gap) {
    range.to = gap.to;
    range.records += gap.records;
    range.bytes += gap.bytes;
    range.last_time = gap.last_time;
    range.reason = gap.reason;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(from: u64, to: u64, reason: u8) -> Gap {
        Gap {
            from,
            to,
            records: to - from,
            bytes: (to - from) * 10,
            first_time: from + 100,
            last_time: to + 99,
            reason,
        }
    }

    fn check(removed: &Removed, from: u64, start: u64, expected: &str) {
        let gaps = removed.gaps(from, start);
        let texts: Vec<String> = gaps
            .iter()
            .map(|it| {
                let (first, last) = (it.first_time, it.last_time);
                let (from, to, records) = (it.from, it.to, it.records);
                format!(
                    "{from}..{to} {records}r {}b {first}-{last} why {}",
                    it.bytes, it.reason
                )
            })
            .collect();
        assert_eq!(texts.join("; "), expected);
    }

    #[test]
    fn a_gap_says_what_is_known_and_why_each_part_is_gone() {
        let mut removed = Removed::default();
        for it in [gap(0, 4, 0), gap(4, 10, 0), gap(10, 12, 1), gap(12, 20, 0)] {
            removed.push(it);
        }
        check(
            &removed,
            0,
            20,
            "0..10 10r 100b 100-109 why 0; 10..12 2r 20b 110-111 why 1; 12..20 8r 80b 112-119 why 0",
        );
        check(&removed, 3, 10, "3..10 7r 0b 0-109 why 0");
        check(&removed, 19, 20, "19..20 1r 0b 0-119 why 0");
        check(&removed, 20, 20, "");
    }

    /// While a trim was on its way to the disk, who asked for a record that it would take was told of
    /// a gap that ended before it began, and of nearly 2^64 records in it.
    #[test]
    fn what_is_not_removed_yet_is_no_gap() {
        let mut removed = Removed::default();
        removed.push(gap(0, 20, 0));
        check(&removed, 15, 12, "");
        check(&removed, 3, 12, "3..12 9r 0b 0-0 why 0");
    }

    #[test]
    fn the_list_is_bounded_and_still_reaches_back_to_the_beginning() {
        let mut removed = Removed::default();
        for at in 0..100 {
            removed.push(gap(at, at + 1, u8::from(at % 2 == 0)));
        }
        assert_eq!(removed.ranges().len(), MAX_RANGES);
        let gaps = removed.gaps(0, 100);
        assert_eq!(gaps[0].from, 0);
        assert_eq!(gaps.iter().map(|it| it.records).sum::<u64>(), 100);
        assert!(gaps.windows(2).all(|pair| pair[0].to == pair[1].from));
    }
}

//! Records as they are handed to the caller: slices of the answer that brought them, not copies.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use logdrive_protocol::operations::{Delivered, DeliveredRecord, Gap};

/// A record of a topic. Its bytes are slices of the answer, which lives as long as they do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Its position in the topic.
    pub offset: u64,
    /// When the broker took it, in microseconds since 1970 UTC.
    pub append_time: u64,
    /// The producer's time, in microseconds since 1970 UTC.
    pub timestamp: u64,
    /// OpenTelemetry's `SeverityNumber`; 0 = not given, 1 to 24.
    pub severity: u8,
    /// What records that belong together share.
    pub key: Option<Bytes>,
    /// Names and values, in the producer's order.
    pub headers: Vec<(String, Bytes)>,
    /// The record itself.
    pub value: Bytes,
}

/// What a consumer is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A record.
    Record(Record),
    /// Records that were removed before this consumer read them.
    Gap {
        /// The topic's name.
        topic: Arc<str>,
        /// Which records, and why.
        gap: Gap,
    },
}

/// What one answer delivered of one topic: whole batches, checked, and which of their records are
/// meant.
#[derive(Clone, Debug)]
pub struct Portion {
    topic: Arc<str>,
    delivered: Delivered,
}

impl Portion {
    /// `delivered` must have passed its check.
    pub(crate) fn new(topic: Arc<str>, delivered: Delivered) -> Self {
        Self { topic, delivered }
    }

    /// Drops what is at or after `end`.
    pub(crate) fn end_before(&mut self, end: u64) {
        self.delivered.ranges.retain_mut(|range| {
            range.to = range.to.min(end);
            range.from < range.to
        });
        self.delivered.gaps.retain(|gap| gap.from < end);
        self.delivered.next = self.delivered.next.min(end);
    }

    /// Drops all but the first `most` records.
    pub(crate) fn limit(&mut self, mut most: u64) {
        self.delivered.ranges.retain_mut(|range| {
            range.to = range.to.min(range.from.saturating_add(most));
            most -= range.to - range.from;
            range.from < range.to
        });
        if let (0, Some(last)) = (most, self.delivered.ranges.last()) {
            self.delivered.next = last.to;
        }
    }

    /// What is left of it when only these of its events are.
    pub(crate) fn rest(mut self, events: &VecDeque<Event>) -> Self {
        let gaps = events.iter().filter(|it| matches!(it, Event::Gap { .. }));
        let told = self.delivered.gaps.len() - gaps.count().min(self.delivered.gaps.len());
        self.delivered.gaps.drain(..told);
        let first = events.iter().find_map(|event| match event {
            Event::Record(record) => Some(record.offset),
            Event::Gap { .. } => None,
        });
        let first = first.unwrap_or(u64::MAX);
        self.delivered.ranges.retain_mut(|range| {
            range.from = range.from.max(first);
            range.from < range.to
        });
        self
    }

    /// The topic's name.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Its records, borrowed, in the order of their offsets: the fast way.
    pub fn records(&self) -> impl Iterator<Item = DeliveredRecord<'_>> {
        self.delivered.records()
    }

    /// How many records it has at most: offsets may have holes.
    pub fn record_count(&self) -> u64 {
        self.delivered.record_count()
    }

    /// What was removed before it was read; before the records.
    pub fn gaps(&self) -> &[Gap] {
        &self.delivered.gaps
    }

    /// The offset after it.
    pub fn next_offset(&self) -> u64 {
        self.delivered.next
    }

    /// Offset after the last visible record of the topic, when this was read.
    pub fn high_watermark(&self) -> u64 {
        self.delivered.high_watermark
    }

    /// Offset of the first record that the topic kept, when this was read.
    pub fn log_start(&self) -> u64 {
        self.delivered.log_start
    }

    /// Gaps, then records, as slices of the answer.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        let gaps = self.delivered.gaps.iter().map(|gap| Event::Gap {
            topic: self.topic.clone(),
            gap: gap.clone(),
        });
        gaps.chain(
            self.records()
                .map(|record| Event::Record(self.owned(&record))),
        )
    }

    /// One of its records, as slices of the answer.
    pub fn owned(&self, delivered: &DeliveredRecord<'_>) -> Record {
        let slice = |part: &[u8]| delivered.batch.slice_ref(part);
        let record = &delivered.record;
        Record {
            topic: self.topic.clone(),
            offset: delivered.offset,
            append_time: delivered.append_time,
            timestamp: delivered.timestamp,
            severity: record.severity,
            key: record.key.map(slice),
            headers: record
                .headers
                .clone()
                .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), slice(value)))
                .collect(),
            value: slice(record.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logdrive_protocol::operations::Range;

    /// A portion with gap 2..4 and these ranges, changed; what is left of it as text.
    fn check(ranges: &[(u64, u64)], change: impl FnOnce(&mut Portion), expected: &str) {
        let range = |&(from, to)| Range {
            from,
            to,
            ..Range::default()
        };
        let gap = Gap {
            from: 2,
            to: 4,
            ..Gap::default()
        };
        let mut portion = Portion::new(
            "app".into(),
            Delivered {
                next: 20,
                gaps: vec![gap],
                ranges: ranges.iter().map(range).collect(),
                ..Delivered::default()
            },
        );
        change(&mut portion);
        let mut left: Vec<String> = portion
            .gaps()
            .iter()
            .map(|it| format!("gap {}", it.from))
            .collect();
        left.extend(
            portion
                .delivered
                .ranges
                .iter()
                .map(|it| format!("{}..{}", it.from, it.to)),
        );
        left.push(format!("next {}", portion.next_offset()));
        assert_eq!(left.join(" "), expected);
    }

    #[test]
    fn a_portion_ends_before_an_offset() {
        let ranges = [(4, 8), (10, 20)];
        check(&ranges, |it| it.end_before(30), "gap 2 4..8 10..20 next 20");
        check(&ranges, |it| it.end_before(12), "gap 2 4..8 10..12 next 12");
        check(&ranges, |it| it.end_before(9), "gap 2 4..8 next 9");
        check(&ranges, |it| it.end_before(2), "next 2");
    }

    #[test]
    fn a_portion_is_limited_to_its_first_records() {
        let ranges = [(4, 8), (10, 20)];
        check(&ranges, |it| it.limit(100), "gap 2 4..8 10..20 next 20");
        check(&ranges, |it| it.limit(6), "gap 2 4..8 10..12 next 12");
        check(&ranges, |it| it.limit(4), "gap 2 4..8 next 8");
    }
}

//! Records as they are handed to the caller: slices of the answer that brought them, not copies.

use std::sync::Arc;

use bytes::Bytes;
use logdrive_protocol::batch::{Head, Records};
use logdrive_protocol::operations::{Delivered, DeliveredRecord, Gap, Range, Settled};

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
    /// How often it was delivered before; 0 without leases.
    pub deliveries: u32,
    /// What acks it, gives it back or keeps it for longer; none without leases.
    pub lease: Option<Lease>,
    /// OpenTelemetry's `SeverityNumber`; 0 = not given, 1 to 24.
    pub severity: u8,
    /// What records that belong together share.
    pub key: Option<Bytes>,
    /// Names and values, in the producer's order.
    pub headers: Vec<(String, Bytes)>,
    /// The record itself.
    pub value: Bytes,
}

/// Names the records that one answer leased; each delivery of a record has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease(pub(crate) u64);

impl Lease {
    pub(crate) fn of(number: u64) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }

    /// Its number, for diagnostics.
    pub fn number(self) -> u64 {
        self.0
    }
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

    /// The lease of its records; none without leases.
    pub fn lease(&self) -> Option<Lease> {
        Lease::of(self.delivered.ranges.first()?.lease)
    }

    /// Its records, as an ack names them: one element for each lease.
    pub(crate) fn settled(&self) -> Vec<Settled> {
        let mut settled: Vec<Settled> = Vec::new();
        for &Range {
            from, to, lease, ..
        } in &self.delivered.ranges
        {
            match settled.last_mut() {
                Some(last) if last.lease == lease => last.to = to,
                _ if lease == 0 => {}
                _ => settled.push(Settled { lease, from, to }),
            }
        }
        settled
    }

    /// Its ranges and their leases.
    pub(crate) fn leased(&self) -> impl Iterator<Item = &Range> {
        self.delivered.ranges.iter().filter(|it| it.lease != 0)
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
    pub fn events(&self) -> impl Iterator<Item = Event> + use<> {
        Events::new(self.clone())
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
            deliveries: delivered.deliveries,
            lease: Lease::of(delivered.lease),
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

/// The events of a portion, one by one: each is decoded when it is asked for.
#[derive(Debug)]
pub(crate) struct Events {
    portion: Portion,
    /// Gaps that were handed out.
    told: usize,
    /// The batch that is being read, and its head.
    batch: usize,
    head: Option<Head>,
    /// Bytes of its records that are left.
    remaining: usize,
    /// The range that the next record is in, or before.
    range: usize,
    /// After the last record that was handed out.
    next: u64,
}

impl Events {
    pub(crate) fn new(portion: Portion) -> Self {
        Self {
            portion,
            told: 0,
            batch: 0,
            head: None,
            remaining: 0,
            range: 0,
            next: 0,
        }
    }

    /// Whether nothing is left.
    pub(crate) fn is_done(&self) -> bool {
        let end = self.portion.delivered.ranges.last().map_or(0, |it| it.to);
        self.told == self.portion.delivered.gaps.len() && self.next >= end
    }

    /// Records that are left, at most: offsets may have holes.
    pub(crate) fn record_count(&self) -> u64 {
        let ranges = self.portion.delivered.ranges.iter();
        ranges
            .map(|range| range.to.saturating_sub(range.from.max(self.next)))
            .sum()
    }

    /// What is left.
    pub(crate) fn into_portion(self) -> Portion {
        let mut portion = self.portion;
        portion.delivered.gaps.drain(..self.told);
        portion.delivered.batches.drain(..self.batch);
        portion.delivered.ranges.retain_mut(|range| {
            range.from = range.from.max(self.next);
            range.from < range.to
        });
        portion
    }

    fn next_gap(&mut self) -> Option<Event> {
        let gap = self.portion.delivered.gaps.get(self.told)?.clone();
        self.told += 1;
        let topic = self.portion.topic.clone();
        Some(Event::Gap { topic, gap })
    }

    fn next_record(&mut self) -> Option<Record> {
        let delivered = &self.portion.delivered;
        loop {
            let batch = delivered.batches.get(self.batch)?;
            let head = if let Some(head) = self.head {
                head
            } else {
                self.remaining = Records::of(batch).remaining();
                *self.head.insert(Head::parse(batch)?)
            };
            let mut records = Records::last_of(batch, self.remaining);
            let Some(Some(record)) = records.next() else {
                (self.batch, self.head) = (self.batch + 1, None);
                continue;
            };
            self.remaining = records.remaining();
            let offset = head.base_offset.saturating_add(record.offset_delta);
            while delivered
                .ranges
                .get(self.range)
                .is_some_and(|range| range.to <= offset)
            {
                self.range += 1;
            }
            let range = delivered.ranges.get(self.range)?;
            if range.from > offset {
                continue;
            }
            self.next = offset + 1;
            return Some(self.portion.owned(&DeliveredRecord {
                offset,
                append_time: head.append_time,
                timestamp: head.lowest_timestamp.saturating_add(record.timestamp_delta),
                deliveries: range.deliveries,
                lease: range.lease,
                record,
                batch,
            }));
        }
    }
}

impl Iterator for Events {
    type Item = Event;

    /// Gaps, then records.
    fn next(&mut self) -> Option<Event> {
        self.next_gap()
            .or_else(|| self.next_record().map(Event::Record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logdrive_protocol::TopicId;
    use logdrive_protocol::batch::{self, BatchBuilder, NewRecord, Origin, Place};

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

    fn batch(base_offset: u64, count: usize) -> Bytes {
        let mut builder = BatchBuilder::default();
        for _ in 0..count {
            builder.push(&NewRecord {
                value: b"line",
                ..NewRecord::default()
            });
        }
        let mut batch = builder.finish(Origin::default());
        let place = Place {
            topic: TopicId(3),
            base_offset,
            append_time: 1,
            leader_epoch: 0,
        };
        batch::place(&mut batch, place);
        batch.freeze()
    }

    /// What comes of batches 0..4 and 4..8 with gap 0..1 and these ranges; after `taken` of it the
    /// rest is made a portion again, behind a bar.
    fn check_events(ranges: &[(u64, u64)], taken: usize, expected: &str) {
        let range = |&(from, to)| Range {
            from,
            to,
            ..Range::default()
        };
        let gap = Gap {
            from: 0,
            to: 1,
            ..Gap::default()
        };
        let delivered = Delivered {
            gaps: vec![gap],
            ranges: ranges.iter().map(range).collect(),
            batches: vec![batch(0, 4), batch(4, 4)],
            ..Delivered::default()
        };
        let mut events = Events::new(Portion::new("app".into(), delivered));
        let said = |event: Event| match event {
            Event::Gap { gap, .. } => format!("gap {}", gap.from),
            Event::Record(record) => record.offset.to_string(),
        };
        let mut got: Vec<String> = events.by_ref().take(taken).map(said).collect();
        got.push(format!("| {} left:", events.record_count()));
        assert_eq!(events.is_done(), events.record_count() == 0 && taken > 0);
        let rest = events.into_portion();
        got.extend(rest.events().map(said));
        assert_eq!(rest.records().count() as u64, rest.record_count());
        assert_eq!(got.join(" "), expected);
    }

    #[test]
    fn events_come_one_by_one_and_the_rest_is_a_portion() {
        let ranges = [(1, 3), (5, 8)];
        check_events(&ranges, 0, "| 5 left: gap 0 1 2 5 6 7");
        check_events(&ranges, 1, "gap 0 | 5 left: 1 2 5 6 7");
        check_events(&ranges, 3, "gap 0 1 2 | 3 left: 5 6 7");
        check_events(&ranges, 4, "gap 0 1 2 5 | 2 left: 6 7");
        check_events(&ranges, 6, "gap 0 1 2 5 6 7 | 0 left:");
        check_events(&[(2, 8)], 6, "gap 0 2 3 4 5 6 | 1 left: 7");
    }
}

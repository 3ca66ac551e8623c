//! The log of a topic: which offsets are given, which are visible, and the newest batches in memory.
//!
//! ```text
//!   start                      tail                high watermark        end
//!     |-- on disk only ----------|-- also in memory ----|-- staged --------|
//! ```
//!
//! Pure. Staged batches stand in the tail too; they are handed out only to who waits for a commit
//! that comes after theirs. Its neighbours: [`State`](super::state::State) owns it; what is not in
//! the tail is read from the storage by whoever asks.

mod placing;
mod slice;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use logdrive_protocol::TopicId;
use logdrive_protocol::batch::Head;

pub use self::placing::{Placed, Tip};
pub use self::slice::Slice;
use super::content::{self, Contents};
use super::rows::ExtentRow;
use crate::storage::Totals;

/// A position with the topic's sums before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The offset.
    pub offset: u64,
    /// Records and bytes of the topic before it.
    pub totals: Totals,
}

/// Offsets, sums and the tail of one topic.
#[derive(Debug, Default)]
pub struct Log {
    /// The first record that is kept.
    start: Mark,
    /// The same as staged, and when that record was appended; 0 if not known.
    staged_start: (Mark, u64),
    /// The high watermark: everything before it is durable.
    visible: Mark,
    /// Where the next batch goes.
    end: Mark,
    last_append_time: u64,
    digest: u64,
    tail: VecDeque<Kept>,
    tail_bytes: usize,
    contents: Contents,
}

/// A batch in memory.
#[derive(Clone, Debug)]
struct Kept {
    head: Head,
    bytes: Bytes,
    before: Totals,
}

impl Log {
    /// Takes up the row of a topic at a start: everything in it is durable.
    pub fn load(row: &ExtentRow) -> Self {
        let mark = |offset, records, bytes| Mark {
            offset,
            totals: Totals { records, bytes },
        };
        let end = mark(row.end, row.end_records, row.end_bytes);
        let start = mark(row.start, row.start_records, row.start_bytes);
        Self {
            start,
            staged_start: (start, row.start_time),
            visible: end,
            end,
            last_append_time: row.last_append_time,
            digest: row.digest,
            ..Self::default()
        }
    }

    /// The row that belongs to everything appended so far.
    pub fn row(&self) -> ExtentRow {
        self.row_at(&Tip::of(self))
    }

    /// The first record that is kept.
    pub fn start(&self) -> Mark {
        self.start
    }

    /// The first record that is kept once everything staged is durable, and when it was appended,
    /// in microseconds; 0 if not known.
    pub fn staged_start(&self) -> (Mark, u64) {
        self.staged_start
    }

    /// Stages that the log begins at `to`, whose record was appended at `time`; 0 if not known.
    pub fn trim(&mut self, to: Mark, time: u64) {
        self.staged_start = (to, time);
    }

    /// Takes in when the first record was appended, if that was not known.
    pub fn learn_start_time(&mut self, time: u64) {
        if self.staged_start.1 == 0 {
            self.staged_start.1 = time;
        }
    }

    /// The log begins at `to`, durably: memory gives up what is before.
    pub fn commit_trim(&mut self, to: Mark) {
        self.start = to;
        while let Some(oldest) = self.tail.front() {
            if oldest.head.end_offset() > to.offset {
                break;
            }
            self.tail_bytes -= oldest.bytes.len();
            self.tail.pop_front();
        }
    }

    /// The high watermark.
    pub fn visible(&self) -> Mark {
        self.visible
    }

    /// The end of what is staged.
    pub fn end(&self) -> Mark {
        self.end
    }

    /// Append time of the last batch, in microseconds; 0 if there was none.
    pub fn last_append_time(&self) -> u64 {
        self.last_append_time
    }

    /// Bytes that the tail holds.
    pub fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    /// The place at the end that a checked batch would get; nothing changes by it.
    ///
    /// `now` is in microseconds; the append time never runs back.
    pub fn place(&self, topic: TopicId, batch: BytesMut, head: &Head, now: u64) -> Placed {
        Tip::of(self).place(topic, batch, head, now)
    }

    /// Takes a batch at its place: it is staged, not visible.
    pub fn append(&mut self, placed: Placed) {
        let Placed { kept, tip } = placed;
        debug_assert_eq!(kept.head.base_offset, self.end.offset);
        if self.staged_start.0.offset == self.end.offset {
            self.staged_start.1 = kept.head.append_time;
        }
        self.digest = tip.digest;
        self.last_append_time = tip.last_append_time;
        self.end = tip.end;
        self.tail_bytes += kept.bytes.len();
        self.tail.push_back(kept);
    }

    /// The row that belongs to everything up to `tip`.
    pub fn row_at(&self, tip: &Tip) -> ExtentRow {
        let (start, start_time) = self.staged_start;
        let is_first = start.offset == self.end.offset && tip.end.offset > start.offset;
        ExtentRow {
            start: start.offset,
            start_records: start.totals.records,
            start_bytes: start.totals.bytes,
            end: tip.end.offset,
            end_records: tip.end.totals.records,
            end_bytes: tip.end.totals.bytes,
            last_append_time: tip.last_append_time,
            digest: tip.digest,
            start_time: if is_first {
                tip.last_append_time
            } else {
                start_time
            },
        }
    }

    /// Moves the high watermark: everything before `mark` is durable.
    pub fn commit(&mut self, mark: Mark) {
        self.visible = mark;
    }

    /// Drops the oldest visible batches from memory until the tail holds at most `limit` bytes.
    pub fn shrink_tail(&mut self, limit: usize) {
        while self.tail_bytes > limit {
            match self.tail.front() {
                Some(oldest) if oldest.head.end_offset() <= self.visible.offset => {
                    self.tail_bytes -= oldest.bytes.len();
                    self.tail.pop_front();
                }
                _ => break,
            }
        }
    }

    /// Drops what is staged from memory after a failed write: nobody may see it.
    pub fn drop_staged(&mut self) {
        while let Some(newest) = self.tail.back() {
            if newest.head.end_offset() <= self.visible.offset {
                break;
            }
            self.tail_bytes -= newest.bytes.len();
            self.tail.pop_back();
        }
    }

    fn kept(&self, offset: u64) -> Option<(usize, &Kept)> {
        let index = self
            .tail
            .partition_point(|kept| kept.head.end_offset() <= offset);
        let kept = self.tail.get(index)?;
        (kept.head.base_offset <= offset).then_some((index, kept))
    }

    /// Visible records from `from`, if the tail holds that one; limits as in [`Slice::of`].
    pub fn read(&self, from: u64, max_records: u32, max_bytes: usize) -> Option<Slice> {
        self.read_before(self.visible.offset, from, max_records, max_bytes)
    }

    /// The same with staged records, which nobody may see before they are durable.
    pub fn read_staged(&self, from: u64, max_records: u32, max_bytes: usize) -> Option<Slice> {
        self.read_before(self.end.offset, from, max_records, max_bytes)
    }

    fn read_before(
        &self,
        end: u64,
        from: u64,
        max_records: u32,
        max_bytes: usize,
    ) -> Option<Slice> {
        let (index, _) = self.kept(from)?;
        let batches = self.tail.range(index..).map(|kept| kept.bytes.clone());
        Some(Slice::of(from, end, max_records, max_bytes, batches))
    }

    /// Visible batches from the one with the record at `from`, if the tail holds that one, without
    /// those whose head is not `wanted`: looked at without their bytes, at most `most` of them. And
    /// the offset up to which they are all.
    ///
    /// At the end there are none.
    pub fn candidates(
        &self,
        from: u64,
        most: usize,
        wanted: impl Fn(&Head) -> bool,
    ) -> Option<(Vec<Bytes>, u64)> {
        let end = self.visible.offset;
        if from >= end {
            return Some((Vec::new(), from));
        }
        let (index, _) = self.kept(from)?;
        let mut next = from;
        let mut batches = Vec::new();
        for kept in self.tail.range(index..).take(most) {
            if kept.head.base_offset >= end {
                break;
            }
            next = kept.head.end_offset();
            if wanted(&kept.head) {
                batches.push(kept.bytes.clone());
            }
        }
        Some((batches, next))
    }

    /// Key, headers and values of the records that a slice means, in bytes.
    pub fn content(&mut self, slice: &Slice) -> u64 {
        let (from, to) = (slice.from, slice.to);
        let heads = slice
            .batches
            .iter()
            .filter_map(|it| Some((it, Head::parse(it)?)));
        heads
            .map(|(bytes, head)| self.contents.between(bytes, &head, from, to))
            .sum()
    }

    /// The sums before `offset`, where memory knows them.
    pub fn mark(&self, offset: u64) -> Option<Mark> {
        if let Some(known) = [self.visible, self.start]
            .into_iter()
            .find(|mark| mark.offset == offset)
        {
            return Some(known);
        }
        let (_, kept) = self.kept(offset)?;
        let content = content::between(&kept.bytes, &kept.head, kept.head.base_offset, offset);
        let totals = Totals {
            records: kept.before.records + (offset - kept.head.base_offset),
            bytes: kept.before.bytes + content,
        };
        Some(Mark { offset, totals })
    }

    /// Append time of the record at `offset`, where memory knows it.
    pub fn append_time(&self, offset: u64) -> Option<u64> {
        self.kept(offset).map(|(_, kept)| kept.head.append_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Appended;
    use logdrive_protocol::TopicId;
    use logdrive_protocol::batch;
    use logdrive_protocol::batch::{BatchBuilder, NewRecord, Origin};

    const TOPIC: TopicId = TopicId(3);

    fn append(log: &mut Log, values: &[&str], now: u64) -> Appended {
        let mut builder = BatchBuilder::default();
        for value in values {
            builder.push(&NewRecord {
                value: value.as_bytes(),
                ..NewRecord::default()
            });
        }
        let batch = builder.finish(Origin::default());
        let head = Head::parse(&batch).unwrap();
        let placed = log.place(TOPIC, batch, &head, now);
        let appended = placed.appended();
        log.append(placed);
        appended
    }

    /// Two batches of three records, the second one staged.
    fn sample() -> Log {
        let mut log = Log::default();
        append(&mut log, &["a", "bb", "ccc"], 50);
        log.commit(log.end());
        append(&mut log, &["d", "ee", "fff"], 40);
        log
    }

    fn check(slice: Option<Slice>, expected: &str) {
        let got = slice.map_or_else(
            || "not in memory".to_owned(),
            |it| {
                let (from, to, batches) = (it.from, it.to, it.batches.len());
                let content = Log::default().content(&it);
                format!("{from}..{to} {content} bytes in {batches}")
            },
        );
        assert_eq!(got, expected);
    }

    #[test]
    fn what_is_staged_is_not_visible_until_it_is_committed() {
        let mut log = sample();
        check(log.read(1, 0, 1 << 20), "1..3 5 bytes in 1");
        check(log.read(3, 0, 1 << 20), "3..3 0 bytes in 0");
        check(log.read_staged(1, 0, 1 << 20), "1..6 11 bytes in 2");
        check(log.read_staged(3, 1, 1 << 20), "3..4 1 bytes in 1");
        log.commit(log.end());
        check(log.read(1, 0, 1 << 20), "1..6 11 bytes in 2");
    }

    #[test]
    fn limits_cut_records_exactly_and_bytes_at_batches_but_never_the_first() {
        let mut log = sample();
        log.commit(log.end());
        check(log.read(1, 1, 1 << 20), "1..2 2 bytes in 1");
        check(log.read(1, 3, 1 << 20), "1..4 6 bytes in 2");
        check(log.read(1, 0, 1), "1..3 5 bytes in 1");
    }

    #[test]
    fn sums_are_exact_in_the_middle_of_a_batch() {
        let mut log = sample();
        log.commit(log.end());
        for (offset, bytes) in [(0, 0), (1, 1), (2, 3), (3, 6), (4, 7), (5, 9), (6, 12)] {
            let expected = Mark {
                offset,
                totals: Totals {
                    records: offset,
                    bytes,
                },
            };
            assert_eq!(log.mark(offset), Some(expected));
        }
    }

    #[test]
    fn the_content_of_parts_of_packed_batches_is_exact_in_any_order() {
        let mut log = Log::default();
        let lengths = |at: u64| 20 + at % 5;
        for _ in 0..2 {
            let mut builder = BatchBuilder::default();
            for at in 0..100 {
                builder.push(&NewRecord {
                    value: &[b'x'; 30][..usize::try_from(lengths(at)).unwrap()],
                    ..NewRecord::default()
                });
            }
            let mut packer = batch::Packer::new(batch::Codec::Zstd);
            let batch = builder.finish_packed(Origin::default(), &mut packer);
            let head = Head::parse(&batch).unwrap();
            assert!(head.is_packed());
            let placed = log.place(TOPIC, batch, &head, 1);
            log.append(placed);
        }
        log.commit(log.end());
        for (from, count) in [
            (0, 10),
            (10, 85),
            (95, 10),
            (105, 95),
            (3, 1),
            (150, 9),
            (99, 2),
        ] {
            let slice = log.read(from, count, 1 << 20).unwrap();
            let to = from + u64::from(count);
            let expected: u64 = (from..to).map(|at| lengths(at % 100)).sum();
            assert_eq!(log.content(&slice), expected, "{from}..{to}");
            assert_eq!(log.content(&slice), expected, "again");
            let mark = log.mark(to).unwrap().totals.bytes;
            assert_eq!(mark, (0..to).map(|at| lengths(at % 100)).sum::<u64>());
        }
    }

    #[test]
    fn append_times_never_run_back_and_stored_batches_pass_their_check() {
        let mut log = sample();
        log.commit(log.end());
        assert_eq!(log.append_time(3), Some(50), "the clock said 40");
        for bytes in log.read(0, 0, 1 << 20).unwrap().batches {
            batch::check_stored(&bytes, TOPIC).unwrap();
        }
        assert_eq!(Log::load(&log.row()).row(), log.row());
    }

    #[test]
    fn memory_gives_way_but_never_what_is_staged() {
        let mut log = sample();
        log.shrink_tail(0);
        check(log.read(0, 0, 1), "not in memory");
        assert!(log.tail_bytes() > 0, "the staged batch stays");
        log.commit(log.end());
        check(log.read(3, 0, 1), "3..6 6 bytes in 1");
        append(&mut log, &["g"], 60);
        log.drop_staged();
        assert_eq!(log.append_time(6), None);
        log.shrink_tail(0);
        assert_eq!(log.tail_bytes(), 0);
    }
}

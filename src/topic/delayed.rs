//! Batches that wait for their time: the delay log of a topic and its due index.
//!
//! ```text
//!  Produce{not_before} --> delay log: a topic of the storage's, with offsets of its own
//!                          due index: (due time, offset) -> records, bytes     rows of the topic
//!                                |
//!                                | the time has come: read back, given offsets and an append time
//!                                v
//!                          the topic's log; the index row goes, in one transaction
//! ```
//!
//! The batches are not state: only the index is, a row of a few bytes for each. The delay log is
//! stored under the topic's id with the highest bit set, which no topic ever gets. When nothing
//! waits, it is removed as a whole; its offsets go on.
//!
//! Pure: no clock, no I/O. Its neighbours: [`State`](super::state::State) owns it; `due`
//! reads what falls due and has it appended.

use std::collections::BTreeMap;

use bytes::BytesMut;
use logdrive_protocol::batch::Head;
use logdrive_protocol::{ErrorCode, Failure, TopicId};

use super::log::{Mark, Placed, Tip};
use super::rows::{self, DelayLogRow, DueRow};
use crate::clock::micros;
use crate::limits::{
    CLEAR_DELAY_LOG_BYTES, MAX_DELAY, MAX_DELAYED_BATCHES, MAX_DELAYED_BYTES, MAX_DUE_BATCHES,
    MAX_DUE_BYTES,
};
use crate::storage::{Row, Totals};

/// The storage's topic that holds the batches which wait for theirs.
pub fn delay_log(topic: TopicId) -> TopicId {
    TopicId(topic.0 | 1 << 63)
}

/// When a batch falls due, in microseconds, and its offset in the delay log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// The time.
    pub time: u64,
    /// The offset of its first record.
    pub offset: u64,
}

/// A batch that waits.
#[derive(Debug)]
struct Waiting {
    row: DueRow,
    /// It is durable with this ticket.
    ticket: u64,
    /// Not before this time: it could not be read.
    not_before: u64,
}

/// Where the delay log begins.
#[derive(Clone, Copy, Debug, Default)]
struct Start {
    offset: u64,
    /// Key, headers and values of the records before it, in bytes.
    bytes: u64,
}

/// What waits for its time in one topic.
#[derive(Debug, Default)]
pub struct Delayed {
    waiting: BTreeMap<Due, Waiting>,
    /// Everything before it is removed.
    start: Start,
    tip: Tip,
    durable_end: u64,
    /// Bytes of the batches that wait.
    bytes: u64,
    /// Records that wait, durably.
    records: u64,
}

impl Delayed {
    /// Takes up where the delay log begins and ends.
    pub fn load(&mut self, row: &DelayLogRow) {
        self.start = Start {
            offset: row.start,
            bytes: row.start_bytes,
        };
        let totals = Totals {
            records: row.end_records,
            bytes: row.end_bytes,
        };
        let end = Mark {
            offset: row.end,
            totals,
        };
        self.durable_end = row.end;
        self.tip = Tip::new(end, row.last_append_time, row.digest);
    }

    /// Takes up a row of the index.
    pub fn load_due(&mut self, due: Due, row: DueRow) {
        self.bytes += u64::from(row.bytes);
        self.records += u64::from(row.records);
        let waiting = Waiting {
            row,
            ticket: 0,
            not_before: 0,
        };
        self.waiting.insert(due, waiting);
    }

    /// Bytes of the batches that wait.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records that wait, durably.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the delay log holds anything on disk.
    pub fn is_stored(&self) -> bool {
        self.start.offset < self.tip.end().offset
    }

    /// Whether a batch of so many bytes may wait until `time`.
    ///
    /// # Errors
    /// `INVALID_DELAY`, `LIMIT_REACHED`.
    pub fn check(&self, time: u64, bytes: usize, now: u64) -> Result<(), Failure> {
        if time <= now || time - now > micros(MAX_DELAY) {
            let message = if time <= now {
                "`not_before` lies in the past".to_owned()
            } else {
                let days = MAX_DELAY.as_secs() / 86_400;
                format!("`not_before` lies more than {days} days ahead")
            };
            return Err(Failure::new(ErrorCode::InvalidDelay, message)
                .numbers(now, 0)
                .hint("count from the broker's clock, which ping shows, or produce without it"));
        }
        let bytes = self.bytes.saturating_add(bytes as u64);
        if self.waiting.len() >= MAX_DELAYED_BATCHES || bytes > MAX_DELAYED_BYTES {
            let message = format!(
                "{MAX_DELAYED_BATCHES} batches or {} MiB wait for their time in this topic",
                MAX_DELAYED_BYTES >> 20
            );
            return Err(Failure::new(ErrorCode::LimitReached, message)
                .hint("put more records into a batch, or use another topic for those far ahead"));
        }
        Ok(())
    }

    /// The place in the delay log that a checked batch gets.
    pub fn place(&self, topic: TopicId, batch: BytesMut, head: &Head, now: u64) -> Placed {
        self.tip.place(delay_log(topic), batch, head, now)
    }

    /// Lets a batch wait that has its place; the rows to stage with it.
    pub fn schedule(
        &mut self,
        topic: TopicId,
        time: u64,
        placed: &Placed,
        ticket: u64,
    ) -> [Row; 2] {
        let head = placed.head();
        let row = DueRow {
            records: head.count,
            bytes: head.length,
        };
        let due = Due {
            time,
            offset: head.base_offset,
        };
        self.tip = placed.tip();
        self.bytes += u64::from(row.bytes);
        let waiting = Waiting {
            row: row.clone(),
            ticket,
            not_before: 0,
        };
        self.waiting.insert(due, waiting);
        [
            rows::delay_log(topic, &self.row()),
            rows::due(topic, due, &row),
        ]
    }

    /// So many records that wait are durable now, and the delay log up to `end`.
    pub fn scheduled(&mut self, records: u64, end: u64) {
        self.records += records;
        self.durable_end = end;
    }

    /// The delay log is durable up to this offset.
    pub fn durable_end(&self) -> u64 {
        self.durable_end
    }

    /// So many records are in the topic, durably, and do not wait any more.
    pub fn delivered(&mut self, records: u64) {
        self.records = self.records.saturating_sub(records);
    }

    /// What may be taken at `now`: durable batches whose time has come, in the order of their
    /// times, with their number of records.
    pub fn ready(&self, now: u64, committed: u64) -> Vec<(Due, u32)> {
        let mut bytes = 0;
        self.waiting
            .iter()
            .take_while(|(due, _)| due.time <= now)
            .filter(|(_, it)| it.ticket <= committed && it.not_before <= now)
            .take_while(|(_, it)| {
                let first = bytes == 0;
                bytes += it.row.bytes as usize;
                first || bytes <= MAX_DUE_BYTES
            })
            .take(MAX_DUE_BATCHES)
            .map(|(due, it)| (*due, it.row.records))
            .collect()
    }

    /// When to look for what is ready again; what is not durable yet is not counted.
    pub fn next(&self, committed: u64) -> Option<u64> {
        let mut next: Option<u64> = None;
        for (due, it) in &self.waiting {
            if next.is_some_and(|next| next <= due.time) {
                break;
            }
            if it.ticket <= committed {
                let at = due.time.max(it.not_before);
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        next
    }

    /// It cannot be read: it is tried again at `time`, and holds back nothing meanwhile.
    pub fn set_aside(&mut self, due: Due, time: u64) {
        if let Some(waiting) = self.waiting.get_mut(&due) {
            waiting.not_before = time;
        }
    }

    /// Takes a batch out of the index; the row to stage with its place in the topic, and its
    /// records. `None` if it does not wait any more.
    pub fn take(&mut self, topic: TopicId, due: Due) -> Option<(Row, u32)> {
        let waiting = self.waiting.remove(&due)?;
        self.bytes -= u64::from(waiting.row.bytes);
        Some((rows::due_taken(topic, due), waiting.row.records))
    }

    /// Whether the delay log is worth removing: nothing waits, and it holds enough, or has been
    /// `idle` for long.
    pub fn is_spent(&self, idle: bool) -> bool {
        let stored = self.tip.end().totals.bytes - self.start.bytes;
        let enough = stored >= CLEAR_DELAY_LOG_BYTES;
        self.is_empty() && self.is_stored() && (enough || idle)
    }

    /// The delay log is removed as a whole; the row to stage with that.
    pub fn clear(&mut self, topic: TopicId) -> Row {
        let end = self.tip.end();
        self.start = Start {
            offset: end.offset,
            bytes: end.totals.bytes,
        };
        rows::delay_log(topic, &self.row())
    }

    /// The offset before which nothing waits any more, where it is worth removing that.
    pub fn spent_before(&self) -> Option<u64> {
        let lowest = self.waiting.keys().map(|due| due.offset).min()?;
        let stored = self.tip.end().totals.bytes - self.start.bytes;
        let enough = stored.saturating_sub(self.bytes) >= CLEAR_DELAY_LOG_BYTES;
        (enough && lowest > self.start.offset).then_some(lowest)
    }

    /// The delay log is removed up to an offset; the row to stage with that, and where it ends.
    pub fn trim(&mut self, topic: TopicId, before: u64) -> (Row, u64) {
        let end = self.tip.end();
        self.start = Start {
            offset: before,
            // Nobody knows how many are left, but no fewer than those that wait.
            bytes: end.totals.bytes.saturating_sub(self.bytes),
        };
        (rows::delay_log(topic, &self.row()), end.offset)
    }

    fn row(&self) -> DelayLogRow {
        let end = self.tip.end();
        DelayLogRow {
            start: self.start.offset,
            start_bytes: self.start.bytes,
            end: end.offset,
            end_records: end.totals.records,
            end_bytes: end.totals.bytes,
            last_append_time: self.tip.last_append_time(),
            digest: self.tip.digest(),
        }
    }
}

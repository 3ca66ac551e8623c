//! A topic as a state machine: requests in, changes to stage out, commits in.
//!
//! Pure: no actor, no runtime, no clock; time is an argument, and the same changes in the same
//! order give the same state. It is what a replicated log would apply. Its neighbours: the
//! [actor](super::actor) translates messages; [`Log`], [`Producers`] and [`Consumers`] each own
//! their part.

mod appending;
mod consuming;

use std::collections::VecDeque;
use std::sync::Arc;

use logdrive_protocol::operations::{
    ConsumerSummary, Gap, Measured, RegisterProducer, Setting, TopicDescribed, TopicSummary,
};
use logdrive_protocol::{ConsumerId, ErrorCode, Failure, Position, ProducerId, TopicId};

pub use self::appending::{Append, Plan, Planned, Receipt, Schedule, Scheduled};
pub use self::consuming::Acks;
use super::consumer::Standing;
use super::consumers::Consumers;
use super::delayed::Delayed;
use super::log::{Log, Mark};
use super::producers::{Producers, Registration};
use super::removed::Removed;
use super::retention::{self, Retention};
use super::rows::{self, Decoded, RemovedRow, TopicRow};
use super::settings;
use crate::limits::STORED_RECORD_BYTES;
use crate::storage::{Appended, JobKind, Row, Totals};

/// Everything that a topic knows, durable and staged.
#[derive(Debug)]
pub struct State {
    /// Which topic.
    pub id: TopicId,
    row: TopicRow,
    max_record_bytes: u32,
    retention: Retention,
    /// What was removed, as staged.
    removed: Arc<Removed>,
    /// Where records are.
    pub log: Log,
    /// Who produces.
    pub producers: Producers,
    /// Who consumes.
    pub consumers: Consumers,
    /// What waits for its time.
    pub delayed: Delayed,
    /// The ticket that was given last.
    ticket: u64,
    /// The last ticket that is durable.
    committed: u64,
    /// What becomes durable with which ticket, where that is more than rows.
    staged: VecDeque<(u64, Effect)>,
    /// The rows of the topic's creation, to be part of its first change.
    birth: Vec<Row>,
}

/// What a commit does besides making rows durable.
#[derive(Clone, Copy, Debug)]
enum Effect {
    Visible(Mark),
    Trimmed(Mark),
    Moved(ConsumerId),
    /// So many records wait for their time, up to this offset of the delay log.
    Scheduled {
        records: u64,
        end: u64,
    },
    /// So many records that waited are in the topic, up to the mark.
    Delivered {
        records: u64,
        to: Mark,
    },
}

/// Batches and rows that become durable together.
#[derive(Debug)]
pub struct Change {
    /// The topic's number of this change.
    pub ticket: u64,
    /// New batches.
    pub batches: Vec<Appended>,
    /// New and deleted rows.
    pub rows: Vec<Row>,
}

/// Where a position is, or how to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// This offset, with the sums before it where memory knows them.
    Offset(u64, Option<Mark>),
    /// The first record appended at or after this time: the storage knows.
    Time(u64),
}

impl State {
    /// A topic that is about to be created: its rows join its first change.
    pub fn newborn(id: TopicId, row: TopicRow) -> Self {
        let birth = vec![rows::topic(id, &row)];
        Self {
            birth,
            ..Self::with(id, row, Log::default())
        }
    }

    fn with(id: TopicId, row: TopicRow, log: Log) -> Self {
        Self {
            id,
            max_record_bytes: settings::max_record_bytes(&row.settings),
            // Checked when they were given.
            retention: Retention::of(&row.settings).unwrap_or_default(),
            removed: Arc::default(),
            row,
            log,
            producers: Producers::default(),
            consumers: Consumers::default(),
            delayed: Delayed::default(),
            ticket: 0,
            committed: 0,
            staged: VecDeque::new(),
            birth: Vec::new(),
        }
    }

    /// Takes up a topic from its rows: everything in them is durable.
    ///
    /// # Errors
    /// A row cannot be read, or the one that says what the topic is, is missing.
    pub fn load(id: TopicId, stored: &[(Vec<u8>, Vec<u8>)]) -> anyhow::Result<Self> {
        let mut topic = None;
        let mut state = Self::with(id, TopicRow::default(), Log::default());
        for (key, value) in stored {
            match rows::decode(key, value)? {
                Decoded::Topic(row) => topic = Some(row),
                Decoded::Extent(row) => state.log = Log::load(&row),
                Decoded::Producer(id, row) => state.producers.load(id, row),
                Decoded::Remembered(id, block, batches) => {
                    state.producers.load_remembered(id, block, &batches);
                }
                Decoded::Consumer(of, row) => state.consumers.load(id, of, row),
                Decoded::Worker(id, worker, row) => state.consumers.load_worker(id, worker, row),
                Decoded::Fate(id, parcel, row) => state.consumers.load_fate(id, parcel, row),
                Decoded::Parcel(id, parcel, row) => {
                    state.consumers.load_parcel(id, parcel, &row)?;
                }
                Decoded::Left(id, parcel, block, set) => {
                    state.consumers.load_left(id, parcel, block, &set)?;
                }
                Decoded::Gap(id, gap) => state.consumers.load_gap(id, gap),
                Decoded::Copy(id, offset, row) => state.consumers.load_copy(id, offset, row),
                Decoded::DelayLog(row) => state.delayed.load(&row),
                Decoded::Due(due, row) => state.delayed.load_due(due, row),
                Decoded::Removed(row) => state.removed = Arc::new(Removed::load(row.ranges)),
                Decoded::Unknown => {}
            }
        }
        state.producers.loaded();
        let row = topic.ok_or_else(|| anyhow::anyhow!("topic {id} has no row of its own"))?;
        state.set_row(row);
        Ok(state)
    }

    /// Takes the place of `before` after a failed write: tickets go on, so that no old notice fits.
    #[must_use]
    pub fn succeeding(mut self, before: &Self) -> Self {
        self.ticket = before.ticket;
        self.committed = before.ticket;
        self
    }

    fn set_row(&mut self, row: TopicRow) {
        self.max_record_bytes = settings::max_record_bytes(&row.settings);
        self.retention = Retention::of(&row.settings).unwrap_or_default();
        self.row = row;
    }

    /// What is kept of it.
    pub fn retention(&self) -> Retention {
        self.retention
    }

    /// What there is of it, as far as retention is concerned.
    pub fn extent(&self) -> retention::Extent {
        let (start, start_time) = self.log.staged_start();
        retention::Extent {
            start,
            start_time,
            end: self.log.visible(),
            consumed: (self.retention.is_until_consumed())
                .then(|| self.consumed())
                .flatten()
                .map(|(_, cursor)| {
                    // Offsets count records; how many bytes they have nobody asks.
                    let records = cursor;
                    let totals = Totals { records, bytes: 0 };
                    Mark {
                        offset: cursor,
                        totals,
                    }
                }),
        }
    }

    /// The consumer that is furthest behind, and its cursor.
    fn consumed(&self) -> Option<(&str, u64)> {
        let names = self.consumers.names();
        let cursors = names.filter_map(|(name, id)| {
            let consumer = self.consumers.get(id).ok()?;
            Some((name, consumer.cursor()))
        });
        cursors.min_by_key(|(_, cursor)| *cursor)
    }

    /// The consumer for which records are kept that retention would let go otherwise.
    fn held_by(&self) -> String {
        let behind = self.consumed().filter(|(_, cursor)| {
            self.retention.is_until_consumed() && *cursor < self.log.visible().offset
        });
        behind.map(|(name, _)| name.to_owned()).unwrap_or_default()
    }

    /// Changes settings.
    ///
    /// # Errors
    /// `INVALID_CONFIG`: nothing is done.
    pub fn alter(&mut self, set: &[Setting], unset: &[String]) -> Result<Change, Failure> {
        let settings = settings::altered(&self.row.settings, set, unset)?;
        self.set_row(TopicRow {
            settings,
            ..self.row.clone()
        });
        let row = rows::topic(self.id, &self.row);
        Ok(self.stage(vec![row]))
    }

    /// Removes what is before `to`, whose record was appended at `time`; `gap` says of it when it
    /// was appended and why it goes. `None` if there is nothing to remove.
    pub fn trim(&mut self, to: Mark, time: u64, gap: &Gap) -> Option<(Change, JobKind)> {
        let (start, _) = self.log.staged_start();
        if to.offset <= start.offset || to.offset > self.log.visible().offset {
            return None;
        }
        let gap = Gap {
            from: start.offset,
            to: to.offset,
            records: to.totals.records - start.totals.records,
            bytes: to.totals.bytes - start.totals.bytes,
            ..gap.clone()
        };
        self.log.trim(to, time);
        Arc::make_mut(&mut self.removed).push(gap.clone());
        let ranges = self.removed.ranges().to_vec();
        let mut changed = vec![
            rows::extent(self.id, &self.log.row()),
            rows::removed(self.id, &RemovedRow { ranges }),
        ];
        let (concerned, told) = (self.consumers).trim(to, &gap, &self.removed, self.ticket + 1);
        changed.extend(told);
        let change = self.stage(changed);
        self.staged.push_back((change.ticket, Effect::Trimmed(to)));
        for id in concerned {
            self.staged.push_back((change.ticket, Effect::Moved(id)));
        }
        let kind = JobKind::Trim {
            before: to.offset,
            end: self.log.end().offset,
        };
        Some((change, kind))
    }

    /// All rows are taken up: leases run anew from `now`.
    pub fn begin_consumers(&mut self, now: u64) {
        let start = self.log.start().offset;
        self.consumers.begin(now, start, &self.removed);
    }

    /// What is missing between an offset and the log's start.
    pub fn gaps(&self, from: u64) -> Vec<Gap> {
        self.removed.gaps(from, self.log.start().offset)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.row.name
    }

    /// What it is.
    pub fn row(&self) -> &TopicRow {
        &self.row
    }

    /// The ticket that was given last.
    pub fn last_ticket(&self) -> u64 {
        self.ticket
    }

    /// Whether its first change, which creates it, is still to be staged.
    pub fn is_unborn(&self) -> bool {
        !self.birth.is_empty()
    }

    /// The last ticket that is durable.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// Gives rows a ticket; a topic's first change carries the rows of its creation.
    pub fn stage(&mut self, mut changed: Vec<Row>) -> Change {
        self.ticket += 1;
        changed.append(&mut self.birth);
        Change {
            ticket: self.ticket,
            batches: Vec::new(),
            rows: changed,
        }
    }

    /// Registers a producer, or takes a registration up again.
    pub fn register_producer(
        &mut self,
        request: &RegisterProducer,
        fresh: ProducerId,
        now: u64,
    ) -> Result<(Registration, Change), Failure> {
        let (registration, changed) = self.producers.register(self.id, request, fresh, now)?;
        Ok((registration, self.stage(changed)))
    }

    /// All changes up to `ticket` are durable; whether there is more to see.
    pub fn commit(&mut self, ticket: u64) -> bool {
        let mut more = false;
        while let Some((_, effect)) = self.staged.pop_front_if(|(staged, _)| *staged <= ticket) {
            match effect {
                Effect::Visible(mark) => {
                    self.log.commit(mark);
                    more = true;
                }
                Effect::Trimmed(to) => self.log.commit_trim(to),
                Effect::Moved(consumer) => self.consumers.commit(consumer, ticket),
                Effect::Scheduled { records, end } => self.delayed.scheduled(records, end),
                Effect::Delivered { records, to } => {
                    self.delayed.delivered(records);
                    self.log.commit(to);
                    more = true;
                }
            }
        }
        self.committed = self.committed.max(ticket);
        more
    }

    /// Where a position is. An offset before the start is the start; `now` is in microseconds.
    ///
    /// # Errors
    /// `OFFSET_OUT_OF_RANGE`, `NOT_SUPPORTED`.
    pub fn resolve(&self, position: Position, now: u64) -> Result<Resolved, Failure> {
        let (start, end) = (self.log.start().offset, self.log.visible().offset);
        let offset = match position {
            Position::Earliest => start,
            Position::Latest => end,
            Position::Offset(offset) if offset > end => {
                return Err(Failure::new(
                    ErrorCode::OffsetOutOfRange,
                    format!(
                        "offset {offset} is beyond the end of \"{}\", {end}",
                        self.row.name
                    ),
                )
                .numbers(end, 0)
                .hint("use latest to wait for what comes next"));
            }
            Position::Offset(offset) => offset.max(start),
            Position::Last(count) => end.saturating_sub(count).max(start),
            Position::Time(time) => return Ok(Resolved::Time(time)),
            Position::Ago(age) => return Ok(Resolved::Time(now.saturating_sub(age))),
            Position::Unknown(kind) => {
                return Err(Failure::new(
                    ErrorCode::NotSupported,
                    format!("there is no position of kind {kind}"),
                ));
            }
        };
        Ok(Resolved::Offset(offset, self.log.mark(offset)))
    }

    /// What is left for a consumer, and the offset of the oldest record of it.
    ///
    /// The age is left to the caller, who may have to ask the storage for an append time.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn size(&self, consumer: ConsumerId) -> Result<(Measured, u64), Failure> {
        let consumer = self.consumers.get(consumer)?;
        let Standing { next, left } = consumer.committed();
        let visible = self.log.visible().totals;
        let measured = Measured {
            records: visible.records.saturating_sub(next.totals.records) + left.records,
            bytes: visible.bytes.saturating_sub(next.totals.bytes) + left.bytes,
            leased: consumer.outstanding.leased(),
            gaps: consumer.gaps(),
            delayed: self.delayed.records(),
            ..Measured::default()
        };
        Ok((measured, consumer.cursor()))
    }

    /// What it keeps, in bytes as they count for its owner: key, headers and values of all records, of
    /// those that wait for their time their batches as they came, and something for each record.
    pub fn kept_bytes(&self) -> u64 {
        let (start, _) = self.log.staged_start();
        let end = self.log.end().totals;
        let records = end.records - start.totals.records + self.delayed.records();
        let bytes = end.bytes - start.totals.bytes + self.delayed.bytes();
        bytes + records * STORED_RECORD_BYTES
    }

    /// What a list says of it.
    pub fn summary(&self) -> TopicSummary {
        let (start, visible) = (self.log.start(), self.log.visible());
        TopicSummary {
            name: self.row.name.clone(),
            topic: self.id,
            log_start: start.offset,
            high_watermark: visible.offset,
            records: visible.totals.records - start.totals.records,
            bytes: visible.totals.bytes - start.totals.bytes,
        }
    }

    /// A description with the consumers after `after`, at most `limit` of them.
    pub fn describe(&self, after: &str, limit: usize) -> TopicDescribed {
        let summary = self.summary();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let mut names = self.consumers.names().filter(|(name, _)| *name > after);
        let consumers: Vec<_> = names
            .by_ref()
            .take(limit)
            .filter_map(|(name, id)| {
                let consumer = self.consumers.get(id).ok()?;
                let (measured, _) = self.size(id).ok()?;
                Some(ConsumerSummary {
                    name: name.to_owned(),
                    consumer: id,
                    cursor: consumer.cursor(),
                    records: measured.records,
                    bytes: measured.bytes,
                    workers: count(consumer.workers.count()),
                })
            })
            .collect();
        TopicDescribed {
            topic: self.id,
            name: summary.name,
            settings: self.row.settings.clone(),
            created_at: self.row.created_at,
            log_start: summary.log_start,
            high_watermark: summary.high_watermark,
            records: summary.records,
            bytes: summary.bytes,
            last_append_time: self.log.last_append_time(),
            producers: count(self.producers.count()),
            consumer_count: count(self.consumers.count()),
            consumers,
            more: names.next().is_some(),
            held_by: self.held_by(),
            owner: self.row.owner.clone(),
        }
    }
}

//! One consumer: where it is, what it was given, and what it has not been told.
//!
//! ```text
//!   acked ..... cursor ... acked, leased, waiting ... next ... never given ... high watermark
//! ```
//!
//! Pure: time is an argument, changes come out as rows. What is staged is seen at once by the next
//! request; sizes are measured from what is durable. Its neighbours: [`taking`]
//! chooses, [`Outstanding`] and [`Workers`] keep what was given, the
//! [consumers](super::consumers) of a topic own it.

pub mod config;
pub mod copies;
pub mod gaps;
pub mod keys;
mod missing;
pub mod outstanding;
pub mod parcel;
mod settling;
pub mod taking;
pub mod workers;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use logdrive_protocol::operations::{self, Gap, LeaseSummary, Setting};
use logdrive_protocol::{ConsumerId, Failure, TopicId, WorkerId};

use self::config::ConsumerConfig;
use self::copies::Copies;
use self::gaps::Gaps;
use self::outstanding::Outstanding;
use self::parcel::{Entry, Fate, Lease, Parcel};
use self::taking::{Bounds, Found, Looks, Pick};
use self::workers::{Taker, Workers};
use super::filter::Filter;
use super::log::Mark;
use super::removed::Removed;
use super::requeue::Letter;
use super::rows::{self, ConsumerRow, CopyRow, WorkerRow};
use crate::reply::ConnectionId;
use crate::storage::{Row, Totals};

/// One consumer.
#[derive(Clone, Debug, Default)]
pub struct Consumer {
    topic: TopicId,
    id: ConsumerId,
    row: ConsumerRow,
    config: ConsumerConfig,
    looks: Looks,
    pub(super) outstanding: Outstanding,
    pub(super) workers: Workers,
    gaps: Gaps,
    copies: Copies,
    /// As committed: what sizes are measured from.
    committed: Standing,
    /// Changes that are staged, by ticket.
    moves: VecDeque<(u64, Standing)>,
    /// The connection on which a worker spoke last, where it holds leases.
    speakers: HashMap<WorkerId, ConnectionId>,
    /// The first record of the topic that is kept.
    log_start: u64,
    /// What was removed before it, and why.
    removed: Arc<Removed>,
}

/// Where a consumer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Behind everything that was ever given.
    pub next: Mark,
    /// Of that, what is not acked.
    pub left: Totals,
}

/// What a consume request is entitled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The next records.
    Next {
        /// Behind everything that was ever given.
        next: u64,
    },
    /// The answer of before, whose move is durable with this ticket.
    Again {
        /// The first offset.
        from: u64,
        /// After the last.
        to: u64,
        /// The lease of what it gave; 0 where that was taken for good.
        lease: u64,
        /// The ticket of the move.
        ticket: u64,
    },
}

/// What there is for a consumer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Records from this offset on are to be read.
    Read(u64),
    /// The record of this offset is to be read from its dead letter.
    Copy(u64),
    /// Gaps alone.
    Tell,
    /// Something is left, and may not be given now.
    Held,
    /// Nothing is left.
    Empty,
}

/// What was read for a request.
#[derive(Clone, Debug)]
pub struct Seen {
    /// These offsets.
    pub window: Range<u64>,
    /// Key, headers and values of their records, in bytes; known where all of them are taken.
    pub content: u64,
    /// The records from the consumer's `next` on; `None` where all that was read is taken for good.
    pub found: Option<Vec<Found>>,
}

/// How a request wants what it takes.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// At most so many records; 0 for no limit.
    pub max_records: u32,
    /// For how long, in microseconds; 0 takes them for good.
    pub lease: u64,
    /// On whose behalf.
    pub connection: ConnectionId,
}

/// What a request is given.
#[derive(Debug, Default)]
pub struct Taken {
    /// Which offsets.
    pub ranges: Vec<operations::Range>,
    /// What was removed before.
    pub gaps: Vec<Gap>,
    /// What is to be stored.
    pub rows: Vec<Row>,
}

impl Taken {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.gaps.is_empty()
    }
}

/// The ids of parcels of a topic: each is given once.
#[derive(Debug, Default)]
pub struct ParcelIds(u64);

impl ParcelIds {
    /// Never gives `id` or one before it.
    pub fn pass(&mut self, id: u64) {
        self.0 = self.0.max(id);
    }

    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

impl Consumer {
    /// A consumer as its row says.
    pub fn of(topic: TopicId, id: ConsumerId, row: ConsumerRow) -> Self {
        // Both were checked when they were stored.
        let config = ConsumerConfig::of(&row.settings).unwrap_or_default();
        let filter = Filter::among(&row.settings).ok().flatten();
        let mut consumer = Self {
            topic,
            id,
            outstanding: Outstanding::of(topic, id),
            looks: Looks {
                keyed: config.key_order,
                filter: filter.map(Arc::new),
            },
            config,
            row,
            ..Self::default()
        };
        consumer.committed = consumer.standing();
        consumer
    }

    /// Everything that was stored of it is taken up: leases run anew from `now`.
    pub fn loaded(&mut self, now: u64, log_start: u64, removed: &Arc<Removed>) {
        self.log_start = log_start;
        self.removed = Arc::clone(removed);
        self.outstanding.loaded();
        let leases: Vec<_> = self
            .outstanding
            .leases()
            .map(|(id, lease, _)| (id, *lease))
            .collect();
        for (id, lease) in leases {
            let deadline = now.saturating_add(lease.duration);
            let fate = Fate::Leased(Lease { deadline, ..lease });
            self.outstanding.turn_out(id, fate, false);
        }
        self.committed = self.standing();
    }

    /// Takes up the dead letter that stands for a record.
    pub fn load_copy(&mut self, offset: u64, row: CopyRow) {
        self.copies.load(offset, row);
    }

    /// The dead letter that stands for a record.
    pub fn copy(&self, offset: u64) -> Option<&CopyRow> {
        self.copies.get(offset)
    }

    /// Whether retention has taken a record, and its dead letter stands for it.
    pub fn stands_by_copy(&self, offset: u64) -> bool {
        offset < self.log_start && self.copies.get(offset).is_some()
    }

    /// Takes up a stored gap.
    pub fn load_gap(&mut self, gap: Gap) {
        self.gaps.load(gap);
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.row.name
    }

    /// Its settings.
    pub fn settings(&self) -> &[Setting] {
        &self.row.settings
    }

    /// What they mean.
    pub fn config(&self) -> &ConsumerConfig {
        &self.config
    }

    /// Whether it gives no records.
    pub fn is_paused(&self) -> bool {
        self.row.paused
    }

    /// Gaps that it was not told of.
    pub fn gaps(&self) -> u64 {
        self.gaps.len() as u64
    }

    /// Behind everything that was ever given, as it is staged.
    pub fn next(&self) -> Mark {
        Mark {
            offset: self.row.next,
            totals: self.row.totals(),
        }
    }

    /// The first offset that is not acked.
    pub fn cursor(&self) -> u64 {
        let next = self.committed.next.offset;
        self.outstanding.first().map_or(next, |it| it.min(next))
    }

    /// As it is durable.
    pub fn committed(&self) -> Standing {
        self.committed
    }

    fn standing(&self) -> Standing {
        Standing {
            next: self.next(),
            left: self.outstanding.totals(),
        }
    }

    /// What a request is entitled to now; asked when it is served, not when it arrives.
    ///
    /// # Errors
    /// `STALE_SEQUENCE`, `WORKER_FORGOTTEN`, `TOO_MANY_WORKERS`.
    pub fn turn(&self, taker: Taker, now: u64) -> Result<Turn, Failure> {
        let next = Turn::Next {
            next: self.row.next,
        };
        Ok(match self.workers.answer_of(taker, now)? {
            Some((last, ticket)) => Turn::Again {
                from: last.from,
                to: last.to,
                lease: last.lease,
                ticket,
            },
            None => next,
        })
    }

    fn holds(&self, lease: u64) -> bool {
        self.outstanding.lease(lease).is_some()
    }

    /// What there is for a request now, with records before `end`.
    pub fn plan(&self, end: u64, leased: bool, now: u64) -> Plan {
        let has_room = !leased || self.outstanding.delivered() < self.config.max_leased;
        let looks_ahead = !self.config.key_order || taking::has_room(self.outstanding.aside());
        let is_new = self.row.next < end && has_room && looks_ahead;
        match self.outstanding.first_ready(now, has_room) {
            _ if self.row.paused => self.rest(end),
            Some(ready) if ready < self.log_start => Plan::Copy(ready),
            Some(ready) => Plan::Read(ready),
            None if is_new => Plan::Read(self.row.next),
            None if !self.gaps.is_empty() => Plan::Tell,
            None => self.rest(end),
        }
    }

    fn rest(&self, end: u64) -> Plan {
        if self.outstanding.is_empty() && self.row.next >= end {
            Plan::Empty
        } else {
            Plan::Held
        }
    }

    /// Why nothing is given although something is left: a text, and the record that is in the way.
    pub fn in_the_way(&self, end: u64, now: u64) -> (String, Option<u64>) {
        if self.row.paused {
            return ("the consumer is paused".to_owned(), None);
        }
        if self.plan(end, true, now) != Plan::Held {
            return (String::new(), None);
        }
        if let Some((_, parcel)) = self.outstanding.doomed(u64::MAX).next() {
            let text = "records wait to be given up: the dead-letter topic has not taken them yet";
            return (text.to_owned(), parcel.first());
        }
        let aside = self.outstanding.aside();
        if self.config.key_order && aside.records > 0 {
            let text = if taking::has_room(aside) {
                "records wait for their keys"
            } else {
                "the look-ahead is full of records that wait for their keys"
            };
            return (text.to_owned(), self.outstanding.first_aside());
        }
        if self.outstanding.delivered() >= self.config.max_leased {
            let text = format!(
                "max_leased={} records are not acked",
                self.config.max_leased
            );
            return (text, self.outstanding.first());
        }
        let text = "what is left is leased, or waits for its back-off";
        (text.to_owned(), self.outstanding.first())
    }

    /// Whether a request needs to see each record that was read.
    pub fn looks_closely(&self, leased: bool) -> bool {
        let filters = self.looks.filter.is_some();
        leased || self.config.key_order || filters || !self.outstanding.is_empty()
    }

    /// How it looks at records.
    pub fn looks(&self) -> &Looks {
        &self.looks
    }

    /// Gives what was read, as far as this request may have it.
    pub fn take(
        &mut self,
        taker: Taker,
        wish: Wish,
        seen: &Seen,
        now: u64,
        ticket: u64,
        ids: &mut ParcelIds,
    ) -> Taken {
        let mut given = Taken::default();
        let (ranges, lease) = match &seen.found {
            None => {
                self.row.next = seen.window.end;
                self.row.records += seen.window.end - seen.window.start;
                self.row.bytes += seen.content;
                (vec![range(seen.window.clone(), 0)], 0)
            }
            Some(found) => {
                let bounds = Bounds {
                    max_records: wish.max_records,
                    leased: wish.lease > 0,
                    now,
                };
                let (next, window) = (self.row.next, &seen.window);
                let (out, config) = (&self.outstanding, &self.config);
                let pick = taking::pick(out, config, next, window, found, bounds);
                self.carry_out(pick, taker, wish, now, ids, &mut given.rows)
            }
        };
        given.ranges = ranges.into_iter().filter(|it| it.to > it.from).collect();
        given.gaps = self.gaps.tell(self.topic, self.id, &mut given.rows);
        if !given.is_empty() {
            let from = given.ranges.first().map_or(self.row.next, |it| it.from);
            let row = WorkerRow {
                sequence: taker.sequence,
                from,
                to: given.ranges.last().map_or(from, |it| it.to),
                used_at: now,
                lease,
                gaps: given.gaps.clone(),
            };
            let noted = self.workers.note(self.topic, taker, row, ticket);
            given.rows.extend(noted);
        }
        self.stage(ticket, ids, &mut given.rows);
        given
    }

    /// Does what was picked; the ranges to give, and the lease that they are under.
    fn carry_out(
        &mut self,
        pick: Pick,
        taker: Taker,
        wish: Wish,
        now: u64,
        ids: &mut ParcelIds,
        changed: &mut Vec<Row>,
    ) -> (Vec<operations::Range>, u64) {
        let mut by_parcel: BTreeMap<u64, Vec<Range<u64>>> = BTreeMap::new();
        for (entry, parcel) in &pick.again {
            push_offset(by_parcel.entry(*parcel).or_default(), entry.offset);
        }
        for (parcel, offsets) in by_parcel {
            self.outstanding.settle(parcel, &offsets, changed);
            self.outstanding.keep_rest(parcel, || ids.next(), changed);
        }
        self.row.next = pick.next;
        self.row.records += pick.passed.records;
        self.row.bytes += pick.passed.bytes;
        if !pick.aside.is_empty() {
            let parcel = Parcel::new(&pick.aside, Fate::Aside);
            self.outstanding.insert(ids.next(), parcel, changed);
        }
        let again = pick.again.into_iter().map(|(entry, _)| entry);
        let given: Vec<Entry> = again.chain(pick.new).collect();
        if wish.lease == 0 {
            for entry in &given {
                changed.extend(self.copies.remove(self.topic, self.id, entry.offset));
            }
        }
        if wish.lease == 0 || given.is_empty() {
            return (ranges_of(&given, 0), 0);
        }
        let id = ids.next();
        let lease = Lease {
            worker: taker.worker,
            duration: wish.lease,
            deadline: now.saturating_add(wish.lease),
            connection: Some(wish.connection),
            leaving: None,
        };
        self.speaks(taker.worker, wish.connection);
        let parcel = Parcel::new(&given, Fate::Leased(lease));
        self.outstanding.insert(id, parcel, changed);
        (ranges_of(&given, id), id)
    }

    /// What is left of an answer under a lease.
    pub fn ranges_of_lease(&self, lease: u64) -> Vec<operations::Range> {
        let left = self.outstanding.lease(lease);
        let left = left.map(|(_, parcel)| parcel.within(0..u64::MAX).collect::<Vec<_>>());
        ranges_of(&left.unwrap_or_default(), lease)
    }

    /// The gaps that a worker's last answer told.
    pub fn gaps_told(&self, taker: Taker, now: u64) -> Vec<Gap> {
        let last = self.workers.answer_of(taker, now).ok().flatten();
        last.map(|(row, _)| row.gaps.clone()).unwrap_or_default()
    }

    /// Notes that everything so far becomes durable with `ticket`.
    fn stage(&mut self, ticket: u64, ids: &ParcelIds, changed: &mut Vec<Row>) {
        self.row.last_parcel = ids.0;
        changed.push(rows::consumer(self.topic, self.id, &self.row));
        self.moves.push_back((ticket, self.standing()));
    }

    /// All changes up to `ticket` are durable.
    pub fn commit(&mut self, ticket: u64) {
        while let Some((_, standing)) = self.moves.pop_front_if(|(staged, _)| *staged <= ticket) {
            self.committed = standing;
        }
    }

    /// Stages what [`Consumer::expire`] or [`Consumer::trim`] has changed.
    pub fn staged(&mut self, ticket: u64, ids: &ParcelIds, changed: &mut Vec<Row>) {
        self.stage(ticket, ids, changed);
    }

    /// Moves it elsewhere: what is outstanding counts as acked, workers keep their sequences.
    pub fn seek(&mut self, to: Mark, ticket: u64, ids: &ParcelIds) -> Vec<Row> {
        let mut changed = self.outstanding.clear();
        changed.extend(self.copies.clear(self.topic, self.id));
        self.row.next = to.offset;
        self.row.records = to.totals.records;
        self.row.bytes = to.totals.bytes;
        self.stage(ticket, ids, &mut changed);
        changed
    }

    /// Has other settings, and is paused or not.
    pub fn alter(&mut self, settings: Vec<Setting>, config: ConsumerConfig, paused: bool) -> Row {
        self.row.settings = settings;
        self.row.paused = paused;
        self.config = config;
        self.judge_anew();
        rows::consumer(self.topic, self.id, &self.row)
    }

    /// Puts records in again that were acked or given up; how many were not there already.
    pub fn requeue(
        &mut self,
        letters: &[Letter],
        ticket: u64,
        ids: &mut ParcelIds,
    ) -> (u64, Vec<Row>) {
        let (next, keyed) = (self.row.next, self.config.key_order);
        let missing: Vec<Entry> = letters
            .iter()
            .map(|letter| letter.entry)
            .filter(|entry| entry.offset < next && !self.outstanding.holds(entry.offset))
            .map(|entry| Entry {
                key: if keyed { entry.key } else { 0 },
                ..entry
            })
            .collect();
        let mut changed = Vec::new();
        for letter in letters {
            let offset = letter.entry.offset;
            // Used once retention has taken the record itself.
            if missing
                .binary_search_by_key(&offset, |it| it.offset)
                .is_ok()
            {
                let at = letter.at.clone();
                changed.push(self.copies.add(self.topic, self.id, offset, at));
            }
        }
        if !missing.is_empty() {
            let parcel = Parcel::new(&missing, Fate::Free { due: 0 });
            self.outstanding.insert(ids.next(), parcel, &mut changed);
        }
        self.stage(ticket, ids, &mut changed);
        (missing.len() as u64, changed)
    }

    /// Everything of it is forgotten; the rows that do so.
    pub fn remove(mut self) -> Vec<Row> {
        let mut changed = self.outstanding.clear();
        changed.extend(self.copies.clear(self.topic, self.id));
        changed.extend(self.workers.clear(self.topic, self.id));
        self.gaps.tell(self.topic, self.id, &mut changed);
        changed.push(rows::forget_consumer(self.topic, self.id));
        changed
    }

    /// Its leases with ids above `after`, at most `limit` of them, and whether there are more.
    pub fn leases(&self, after: u64, limit: usize, now: u64) -> (Vec<LeaseSummary>, bool) {
        let mut leases = self.outstanding.leases().filter(|(id, ..)| *id > after);
        let page = leases.by_ref().take(limit);
        let page = page.map(|(id, lease, parcel)| LeaseSummary {
            lease: id,
            worker: lease.worker,
            records: parcel.totals().records,
            from: parcel.first().unwrap_or_default(),
            left_ms: lease.deadline.saturating_sub(now) / 1000,
        });
        (page.collect(), leases.next().is_some())
    }
}

fn range(offsets: Range<u64>, lease: u64) -> operations::Range {
    operations::Range {
        from: offsets.start,
        to: offsets.end,
        deliveries: 0,
        lease,
    }
}

/// Ascending records as ranges to deliver.
pub(super) fn ranges_of(entries: &[Entry], lease: u64) -> Vec<operations::Range> {
    let mut ranges: Vec<operations::Range> = Vec::new();
    for entry in entries {
        match ranges.last_mut() {
            Some(last) if last.to == entry.offset && last.deliveries == entry.deliveries => {
                last.to += 1;
            }
            _ => ranges.push(operations::Range {
                deliveries: entry.deliveries,
                ..range(entry.offset..entry.offset + 1, lease)
            }),
        }
    }
    ranges
}

fn push_offset(ranges: &mut Vec<Range<u64>>, offset: u64) {
    match ranges.last_mut() {
        Some(last) if last.end == offset => last.end += 1,
        _ => ranges.push(offset..offset + 1),
    }
}

//! Consumers of a topic, by id and by name.
//!
//! Pure: registration, and what concerns all of them. Reading the records and the order of
//! requests are the actor's. Its neighbours: [`State`](super::state::State) owns it, each
//! [`Consumer`] knows itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use logdrive_protocol::body::Malformed;
use logdrive_protocol::operations::{Gap, Setting, Settled};
use logdrive_protocol::{ConsumerId, ErrorCode, Failure, TopicId, WorkerId};

use super::consumer::config::ConsumerConfig;
use super::consumer::parcel::{Fate, Lease, Parcel};
use super::consumer::workers::Taker;
use super::consumer::{Consumer, ParcelIds, Seen, Taken, Turn, Wish};
use super::log::Mark;
use super::removed::Removed;
use super::requeue::Letter;
use super::rows::{self, ConsumerRow, CopyRow, FateRow, ParcelRow, WorkerRow};
use crate::limits::MAX_CONSUMERS;
use crate::reply::ConnectionId;
use crate::storage::Row;

/// All consumers of one topic.
#[derive(Debug, Default)]
pub struct Consumers {
    by_id: BTreeMap<ConsumerId, Consumer>,
    by_name: BTreeMap<String, ConsumerId>,
    parcels: ParcelIds,
    /// When something changes by itself, with whom.
    agenda: BTreeSet<(u64, ConsumerId)>,
    /// Fates that were read before their parcels.
    fates: BTreeMap<(ConsumerId, u64), FateRow>,
}

impl Consumers {
    /// Takes up a row at a start.
    pub fn load(&mut self, topic: TopicId, id: ConsumerId, row: ConsumerRow) {
        self.by_name.insert(row.name.clone(), id);
        self.parcels.pass(row.last_parcel);
        self.by_id.insert(id, Consumer::of(topic, id, row));
    }

    /// Takes up a worker's row at a start; consumers' own rows come first.
    pub fn load_worker(&mut self, id: ConsumerId, worker: WorkerId, row: WorkerRow) {
        if let Some(consumer) = self.by_id.get_mut(&id) {
            consumer.workers.load(worker, row);
        }
    }

    /// Takes up what happens to a parcel; the parcel itself comes later.
    pub fn load_fate(&mut self, id: ConsumerId, parcel: u64, row: FateRow) {
        self.fates.insert((id, parcel), row);
    }

    /// Takes up a parcel; the row of its fate comes first.
    ///
    /// # Errors
    /// The row contradicts itself.
    pub fn load_parcel(
        &mut self,
        id: ConsumerId,
        parcel: u64,
        row: &ParcelRow,
    ) -> Result<(), Malformed> {
        let fate = self.fates.remove(&(id, parcel)).unwrap_or_default();
        let Some(consumer) = self.by_id.get_mut(&id) else {
            return Ok(());
        };
        let fate = if fate.duration > 0 {
            Fate::Leased(Lease {
                worker: fate.worker,
                duration: fate.duration,
                deadline: 0,
                connection: None,
                leaving: None,
            })
        } else if fate.aside {
            Fate::Aside
        } else {
            Fate::Free { due: fate.due }
        };
        let mut loaded = Parcel::load(row, fate)?;
        if let Fate::Free { due } = fate
            && consumer.config().is_too_many(loaded.least_deliveries())
        {
            loaded.fate = Fate::Doomed { due };
        }
        self.parcels.pass(parcel);
        consumer.outstanding.load(parcel, loaded);
        Ok(())
    }

    /// Takes up one block of what is left of a parcel; the parcel comes first.
    ///
    /// # Errors
    /// The set is none.
    pub fn load_left(
        &mut self,
        id: ConsumerId,
        parcel: u64,
        block: u16,
        set: &Bytes,
    ) -> Result<(), Malformed> {
        match self.by_id.get_mut(&id) {
            Some(consumer) => consumer.outstanding.load_block(parcel, block, set),
            None => Ok(()),
        }
    }

    /// Takes up a gap.
    pub fn load_gap(&mut self, id: ConsumerId, gap: Gap) {
        if let Some(consumer) = self.by_id.get_mut(&id) {
            consumer.load_gap(gap);
        }
    }

    /// Takes up the dead letter that stands for a record.
    pub fn load_copy(&mut self, id: ConsumerId, offset: u64, row: CopyRow) {
        if let Some(consumer) = self.by_id.get_mut(&id) {
            consumer.load_copy(offset, row);
        }
    }

    /// All rows are taken up: leases run anew from `now`.
    pub fn begin(&mut self, now: u64, log_start: u64, removed: &Arc<Removed>) {
        for consumer in self.by_id.values_mut() {
            consumer.loaded(now, log_start, removed);
        }
        let ids: Vec<_> = self.ids().collect();
        for id in ids {
            self.reschedule(id, |_| ());
        }
    }

    /// How many are registered.
    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// The ids that are registered.
    pub fn ids(&self) -> impl Iterator<Item = ConsumerId> {
        self.by_id.keys().copied()
    }

    /// All names in order, for lists and suggestions.
    pub fn names(&self) -> impl Iterator<Item = (&str, ConsumerId)> {
        self.by_name.iter().map(|(name, id)| (name.as_str(), *id))
    }

    /// The consumer of an id.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn get(&self, id: ConsumerId) -> Result<&Consumer, Failure> {
        self.by_id.get(&id).ok_or_else(|| not_found(id))
    }

    /// Changes a consumer, and notes when something of it changes by itself next.
    fn change<T>(
        &mut self,
        id: ConsumerId,
        change: impl FnOnce(&mut Consumer, &mut ParcelIds) -> T,
    ) -> Result<T, Failure> {
        let ids = &mut self.parcels;
        let consumer = self.by_id.get_mut(&id).ok_or_else(|| not_found(id))?;
        let before = consumer.outstanding.next_at();
        let result = change(consumer, ids);
        let after = consumer.outstanding.next_at();
        if before != after {
            if let Some(at) = before {
                self.agenda.remove(&(at, id));
            }
            self.agenda.extend(after.map(|at| (at, id)));
        }
        Ok(result)
    }

    fn reschedule(&mut self, id: ConsumerId, change: impl FnOnce(&mut Consumer)) {
        self.agenda.retain(|(_, of)| *of != id);
        if let Some(consumer) = self.by_id.get_mut(&id) {
            change(consumer);
            let at = consumer.outstanding.next_at();
            self.agenda.extend(at.map(|at| (at, id)));
        }
    }

    /// When something changes by itself next, in microseconds.
    pub fn next_at(&self) -> Option<u64> {
        self.agenda.first().map(|(at, _)| *at)
    }

    /// The consumer of a name; given settings must be its own.
    ///
    /// # Errors
    /// `CONSUMER_EXISTS` if it has other settings than those given.
    pub fn find(&self, name: &str, settings: &[Setting]) -> Result<Option<ConsumerId>, Failure> {
        let Some(&id) = self.by_name.get(name) else {
            return Ok(None);
        };
        if !settings.is_empty() && self.get(id)?.settings() != settings {
            return Err(Failure::new(
                ErrorCode::ConsumerExists,
                format!("consumer \"{name}\" exists with another configuration"),
            )
            .hint("register it without settings, or under another name"));
        }
        Ok(Some(id))
    }

    /// Registers a new consumer at `from`.
    ///
    /// # Errors
    /// `LIMIT_REACHED`.
    pub fn create(
        &mut self,
        topic: TopicId,
        id: ConsumerId,
        name: &str,
        settings: Vec<Setting>,
        from: Mark,
        log_start: u64,
    ) -> Result<Vec<Row>, Failure> {
        if self.by_id.len() >= MAX_CONSUMERS {
            return Err(Failure::new(
                ErrorCode::LimitReached,
                format!("the topic has {MAX_CONSUMERS} consumers"),
            )
            .hint("unregister those that are done; any number of workers may share one"));
        }
        let row = ConsumerRow {
            name: name.to_owned(),
            settings,
            next: from.offset,
            records: from.totals.records,
            bytes: from.totals.bytes,
            ..ConsumerRow::default()
        };
        let rows = vec![rows::consumer(topic, id, &row)];
        self.load(topic, id, row);
        if let Some(consumer) = self.by_id.get_mut(&id) {
            // Nothing that went before was ever given to it.
            consumer.loaded(0, log_start, &Arc::default());
        }
        Ok(rows)
    }

    /// Removes a consumer with all that is known of it.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn remove(&mut self, id: ConsumerId) -> Result<Vec<Row>, Failure> {
        let consumer = self.by_id.remove(&id).ok_or_else(|| not_found(id))?;
        self.by_name.remove(consumer.name());
        self.agenda.retain(|(_, of)| *of != id);
        Ok(consumer.remove())
    }

    /// Forgets a worker that has ended; nothing to stage for one that is not known.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn forget_worker(
        &mut self,
        topic: TopicId,
        id: ConsumerId,
        worker: WorkerId,
    ) -> Result<Vec<Row>, Failure> {
        self.change(id, |consumer, _| {
            let forgotten = consumer.workers.forget(topic, id, worker);
            forgotten.into_iter().collect()
        })
    }

    /// What a request is entitled to now; asked when it is served, not when it arrives.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`, `STALE_SEQUENCE`, `WORKER_FORGOTTEN`, `TOO_MANY_WORKERS`.
    pub fn turn(&self, taker: Taker, now: u64) -> Result<Turn, Failure> {
        self.get(taker.consumer)?.turn(taker, now)
    }

    /// Gives a request what was read for it.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn take(
        &mut self,
        taker: Taker,
        wish: Wish,
        seen: &Seen,
        now: u64,
        ticket: u64,
    ) -> Result<Taken, Failure> {
        self.change(taker.consumer, |consumer, ids| {
            consumer.take(taker, wish, seen, now, ticket, ids)
        })
    }

    /// Moves a consumer elsewhere; workers keep their sequences.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn seek(
        &mut self,
        id: ConsumerId,
        to: Mark,
        damage: Option<Gap>,
        ticket: u64,
    ) -> Result<Vec<Row>, Failure> {
        self.change(id, |consumer, ids| {
            let mut changed = consumer.seek(to, ticket, ids);
            if let Some(damage) = damage {
                consumer.note_damage(damage, &mut changed);
            }
            changed
        })
    }

    /// Whether a worker may ack or give back what `settled` says.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`, `WRONG_CONSUMER`, `LEASE_LOST`, `NOT_LEASED`, `OFFSET_OUT_OF_RANGE`.
    pub fn check_settled(
        &self,
        id: ConsumerId,
        worker: WorkerId,
        settled: &[Settled],
        visible: u64,
    ) -> Result<(), Failure> {
        let consumer = self.get(id)?;
        self.check_owners(id, settled)?;
        consumer.check_settled(worker, settled, visible)
    }

    /// Whether none of these leases is another consumer's.
    ///
    /// # Errors
    /// `WRONG_CONSUMER`.
    pub fn check_owners(&self, id: ConsumerId, settled: &[Settled]) -> Result<(), Failure> {
        let mut leases = settled.iter().map(|it| it.lease);
        leases.try_for_each(|lease| self.check_owner(id, lease))
    }

    /// A consumer as it will be when it has acked, by itself.
    pub fn acked(
        &self,
        mut consumer: Consumer,
        settled: &[Settled],
        ticket: u64,
    ) -> (u64, Consumer, Vec<Row>) {
        let (count, changed) = consumer.ack(settled, ticket, &self.parcels);
        (count, consumer, changed)
    }

    /// The same of records that were given up, whose parcels stand for leases.
    ///
    /// # Errors
    /// `LEASE_LOST` if they are not to be given up any more.
    pub fn bury(
        &self,
        mut consumer: Consumer,
        settled: &[Settled],
        ticket: u64,
    ) -> Result<(u64, Consumer, Vec<Row>), Failure> {
        let (count, changed) = consumer.bury(settled, ticket, &self.parcels)?;
        Ok((count, consumer, changed))
    }

    /// A consumer is from here on as it was planned.
    pub fn replace(&mut self, id: ConsumerId, planned: Consumer) {
        drop(self.change(id, |consumer, _| *consumer = planned));
    }

    /// Lets one record that is given up wait until `due`, apart from the others.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn put_off(
        &mut self,
        id: ConsumerId,
        parcel: u64,
        offset: u64,
        due: u64,
        ticket: u64,
    ) -> Result<Vec<Row>, Failure> {
        self.change(id, |consumer, ids| {
            consumer.put_off(parcel, offset, due, ticket, ids)
        })
    }

    /// Acks records that are given up, because their dead letters are there already.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`; `LEASE_LOST` if they are not to be given up any more.
    pub fn bury_here(
        &mut self,
        id: ConsumerId,
        settled: &[Settled],
        ticket: u64,
    ) -> Result<Vec<Row>, Failure> {
        let buried = self.change(id, |consumer, ids| consumer.bury(settled, ticket, ids))?;
        buried.map(|(_, changed)| changed)
    }

    fn check_owner(&self, id: ConsumerId, lease: u64) -> Result<(), Failure> {
        let owns = |consumer: &Consumer| consumer.outstanding.lease(lease).is_some();
        if self.by_id.get(&id).is_some_and(owns) {
            return Ok(());
        }
        match self.by_id.iter().find(|(_, consumer)| owns(consumer)) {
            None => Ok(()),
            Some((owner, consumer)) => {
                let what = format!("lease {lease} is one of consumer \"{}\"", consumer.name());
                Err(Failure::new(ErrorCode::WrongConsumer, what)
                    .numbers(owner.0, 0)
                    .hint("name the consumer that the records were taken for"))
            }
        }
    }

    /// Gives up records that cannot be read, as a gap; what comes behind them stays as it is.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn skip_damage(
        &mut self,
        id: ConsumerId,
        damaged: &Range<u64>,
        ticket: u64,
    ) -> Result<Vec<Row>, Failure> {
        self.change(id, |consumer, ids| {
            let mut changed = consumer.skip_damage(damaged);
            consumer.staged(ticket, ids, &mut changed);
            changed
        })
    }

    /// Acks records, which were checked; how many, and the rows.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn ack(
        &mut self,
        id: ConsumerId,
        settled: &[Settled],
        ticket: u64,
    ) -> Result<(u64, Vec<Row>), Failure> {
        self.change(id, |consumer, ids| consumer.ack(settled, ticket, ids))
    }

    /// Gives records back, which were checked; how many, and the rows.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn nack(
        &mut self,
        id: ConsumerId,
        settled: &[Settled],
        due: Option<u64>,
        now: u64,
        ticket: u64,
    ) -> Result<(u64, Vec<Row>), Failure> {
        self.change(id, |consumer, ids| {
            consumer.nack(settled, due, now, ticket, ids)
        })
    }

    /// Lets a lease run for `duration` microseconds from now.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`, `WRONG_CONSUMER`, `LEASE_LOST`, `NOT_LEASED`.
    pub fn extend(
        &mut self,
        id: ConsumerId,
        worker: WorkerId,
        lease: u64,
        duration: u64,
        now: u64,
    ) -> Result<Vec<Row>, Failure> {
        self.check_owner(id, lease)?;
        match self.get(id)?.outstanding.lease(lease) {
            Some((held, _)) if held.worker != worker => {
                let what = format!("lease {lease} is held by another worker");
                return Err(Failure::new(ErrorCode::NotLeased, what));
            }
            Some(_) => {}
            None => {
                let what = format!("lease {lease} is over");
                return Err(Failure::new(ErrorCode::LeaseLost, what)
                    .hint("drop its records: those that are not acked are delivered again"));
            }
        }
        self.change(id, |consumer, _| consumer.extend(lease, duration, now))
    }

    /// A worker spoke for a lease on a connection.
    pub fn heard(
        &mut self,
        id: ConsumerId,
        worker: WorkerId,
        lease: u64,
        connection: ConnectionId,
    ) {
        // One that is not there has nothing to be reclaimed.
        drop(self.change(id, |consumer, _| consumer.heard(worker, lease, connection)));
    }

    /// A connection is gone: what was leased on it is given back at `at`.
    pub fn leave(&mut self, connection: ConnectionId, at: u64) {
        let ids: Vec<_> = self.ids().collect();
        for id in ids {
            drop(self.change(id, |consumer, _| consumer.leave(connection, at)));
        }
    }

    /// Ends what is over by `now`; whose it was, and the rows of each.
    pub fn expire(&mut self, now: u64) -> Vec<(ConsumerId, Vec<Row>)> {
        let mut expired = Vec::new();
        while let Some((at, id)) = self.agenda.first().copied().filter(|(at, _)| *at <= now) {
            let changed = self.change(id, |consumer, ids| consumer.expire(now, ids));
            // Whatever became of it, this appointment is over.
            self.agenda.remove(&(at, id));
            if let Ok((true, changed)) = changed {
                expired.push((id, changed));
            }
        }
        expired
    }

    /// Notes that rows of [`Consumers::expire`] become durable with `ticket`.
    pub fn staged(&mut self, id: ConsumerId, ticket: u64, changed: &mut Vec<Row>) {
        drop(self.change(id, |consumer, ids| consumer.staged(ticket, ids, changed)));
    }

    /// Everything before `start` is removed: each consumer notes what it had not read. `gap` says
    /// when and why, and is the last of `removed`; whom it concerned, and the rows.
    pub fn trim(
        &mut self,
        start: Mark,
        gap: &Gap,
        removed: &Arc<Removed>,
        ticket: u64,
    ) -> (Vec<ConsumerId>, Vec<Row>) {
        let ids: Vec<_> = self.ids().collect();
        let (mut concerned, mut rows) = (Vec::new(), Vec::new());
        for id in ids {
            let changed = self.change(id, |consumer, ids| {
                let mut changed = consumer.trim(start, gap, removed);
                if !changed.is_empty() {
                    consumer.staged(ticket, ids, &mut changed);
                }
                changed
            });
            let changed = changed.unwrap_or_default();
            if !changed.is_empty() {
                concerned.push(id);
                rows.extend(changed);
            }
        }
        (concerned, rows)
    }

    /// The dead letter that stood for a record is gone: the consumer is told of a gap.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn lose_copy(
        &mut self,
        id: ConsumerId,
        offset: u64,
        ticket: u64,
    ) -> Result<Vec<Row>, Failure> {
        self.change(id, |consumer, ids| {
            let mut changed = Vec::new();
            consumer.lose_copy(offset, &mut changed);
            consumer.staged(ticket, ids, &mut changed);
            changed
        })
    }

    /// The consumer that holds back what all have acked, and how far it has.
    pub fn hindmost(&self) -> Option<(&str, u64)> {
        let cursors = self.by_id.values().map(|it| (it.name(), it.cursor()));
        cursors.min_by_key(|(_, cursor)| *cursor)
    }

    /// Changes settings, and pauses or resumes.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn alter(
        &mut self,
        id: ConsumerId,
        settings: Vec<Setting>,
        config: ConsumerConfig,
        paused: bool,
    ) -> Result<Row, Failure> {
        self.change(id, |consumer, _| consumer.alter(settings, config, paused))
    }

    /// Puts records in again; how many were not there already, and the rows.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn requeue(
        &mut self,
        id: ConsumerId,
        letters: &[Letter],
        ticket: u64,
    ) -> Result<(u64, Vec<Row>), Failure> {
        self.change(id, |consumer, ids| consumer.requeue(letters, ticket, ids))
    }

    /// All moves up to `ticket` are durable.
    pub fn commit(&mut self, id: ConsumerId, ticket: u64) {
        if let Some(consumer) = self.by_id.get_mut(&id) {
            consumer.commit(ticket);
        }
    }
}

fn not_found(id: ConsumerId) -> Failure {
    Failure::new(
        ErrorCode::ConsumerNotFound,
        format!("the topic has no consumer {id}"),
    )
    .hint("register it again by name")
}

#[cfg(test)]
mod tests;

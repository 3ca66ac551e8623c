//! What a consumer was given and has not acked, and what waits to be given again.
//!
//! ```text
//!            cursor                           next
//!   acked ...  |  #   #  parcels   #   #   #   |  never given
//!                 '-- leased, free or doomed
//!
//!   free --take--> leased --ack--> gone
//!    ^               |
//!    '--- nack, deadline, connection gone (after so many deliveries: doomed --dead letter--> gone)
//! ```
//!
//! Pure: time is an argument, and what must be stored comes out as rows. Everything before `next`
//! that is in no parcel is acked; so its size is bounded by what may be leased, however far the
//! cursor lags. Its neighbours: [`Parcel`] knows one lot of records, [`Keys`] the order of keys;
//! the [consumer](super) owns it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use logdrive_protocol::body::Malformed;
use logdrive_protocol::{ConsumerId, TopicId};

use super::super::rows::{self, FateRow};
use super::keys::Keys;
use super::parcel::{BLOCK_RANKS, Entry, Fate, Lease, Parcel};
use crate::reply::ConnectionId;
use crate::storage::{Row, Totals};

/// All parcels of a consumer.
#[derive(Clone, Debug, Default)]
pub struct Outstanding {
    topic: TopicId,
    consumer: ConsumerId,
    parcels: BTreeMap<u64, Parcel>,
    /// All parcels, by the first offset that is left.
    firsts: BTreeSet<(u64, u64)>,
    /// Those that nobody has, likewise.
    free: BTreeSet<(u64, u64)>,
    /// When fates change by themselves.
    agenda: BTreeSet<(u64, u64)>,
    keys: Keys,
    leased: Totals,
    /// Given back after a delivery.
    returned: Totals,
    /// Never delivered: set aside because their keys were busy.
    aside: Totals,
}

fn add(sum: &mut Totals, more: Totals) {
    sum.records += more.records;
    sum.bytes += more.bytes;
}

fn subtract(sum: &mut Totals, less: Totals) {
    sum.records -= less.records;
    sum.bytes -= less.bytes;
}

impl Outstanding {
    /// Nothing, of this consumer.
    pub fn of(topic: TopicId, consumer: ConsumerId) -> Self {
        Self {
            topic,
            consumer,
            ..Self::default()
        }
    }

    /// Records and bytes that are not acked.
    pub fn totals(&self) -> Totals {
        let mut sum = self.leased;
        add(&mut sum, self.returned);
        add(&mut sum, self.aside);
        sum
    }

    /// Records that are leased.
    pub fn leased(&self) -> u64 {
        self.leased.records
    }

    /// Records that were delivered and are not acked: what `max_leased` bounds.
    pub fn delivered(&self) -> u64 {
        self.leased.records + self.returned.records
    }

    /// What was set aside: what the look-ahead bounds.
    pub fn aside(&self) -> Totals {
        self.aside
    }

    /// Whether the records of a parcel were never given.
    pub fn is_aside(&self, id: u64) -> bool {
        let parcel = self.parcels.get(&id);
        parcel.is_some_and(|it| matches!(it.fate, Fate::Aside))
    }

    /// The first record that was set aside.
    pub fn first_aside(&self) -> Option<u64> {
        let aside = self.free.iter().find(|(_, id)| self.is_aside(*id));
        aside.map(|(first, _)| *first)
    }

    /// Whether everything before `next` is acked.
    pub fn is_empty(&self) -> bool {
        self.parcels.is_empty()
    }

    /// The first offset that is not acked.
    pub fn first(&self) -> Option<u64> {
        self.firsts.first().map(|(first, _)| *first)
    }

    /// When something changes by itself next, in microseconds.
    pub fn next_at(&self) -> Option<u64> {
        self.agenda.first().map(|(at, _)| *at)
    }

    /// A parcel.
    pub fn get(&self, id: u64) -> Option<&Parcel> {
        self.parcels.get(&id)
    }

    /// The leases, in the order of their ids.
    pub fn leases(&self) -> impl Iterator<Item = (u64, &Lease, &Parcel)> {
        self.parcels
            .iter()
            .filter_map(|(id, parcel)| match &parcel.fate {
                Fate::Leased(lease) => Some((*id, lease, parcel)),
                _ => None,
            })
    }

    /// The lease of an id.
    pub fn lease(&self, id: u64) -> Option<(&Lease, &Parcel)> {
        match self.parcels.get(&id) {
            Some(parcel) => match &parcel.fate {
                Fate::Leased(lease) => Some((lease, parcel)),
                _ => None,
            },
            None => None,
        }
    }

    /// Parcels that nobody has: what happens to them next, and how often each of their records was
    /// delivered at least.
    pub fn unleased(&self) -> Vec<(u64, Fate, u32)> {
        let parcels = self.parcels.iter();
        parcels
            .filter(|(_, parcel)| !matches!(parcel.fate, Fate::Leased(_)))
            .map(|(id, parcel)| (*id, parcel.fate, parcel.least_deliveries()))
            .collect()
    }

    /// Parcels that were delivered too often, and whose time has come.
    pub fn doomed(&self, now: u64) -> impl Iterator<Item = (u64, &Parcel)> {
        self.parcels
            .iter()
            .filter(move |(_, parcel)| matches!(parcel.fate, Fate::Doomed { due } if due <= now))
            .map(|(id, parcel)| (*id, parcel))
    }

    /// Whether anything of these offsets is in one of the parcels from `id` on: records that leave
    /// a parcel go into later ones.
    pub fn touches(&self, id: u64, offsets: &Range<u64>) -> bool {
        let mut parcels = self.parcels.range(id..);
        parcels.any(|(_, parcel)| parcel.touches(offsets.clone()))
    }

    /// Whether this record is not acked.
    pub fn holds(&self, offset: u64) -> bool {
        self.touches(0, &(offset..offset.saturating_add(1)))
    }

    /// The first record that was given back or set aside and may be given now.
    ///
    /// What was set aside only where there is `room` for records that were never given.
    pub fn first_ready(&self, now: u64, room: bool) -> Option<u64> {
        let is_due = |parcel: &Parcel, now| {
            is_due(parcel, now) && (room || !matches!(parcel.fate, Fate::Aside))
        };
        let unkeyed = self.free.iter().find_map(|(_, id)| {
            let parcel = self.parcels.get(id).filter(|it| is_due(it, now))?;
            let mut left = parcel.within(0..u64::MAX);
            left.find(|entry| entry.key == 0).map(|it| it.offset)
        });
        let mut turns = self.keys.turns();
        let keyed = turns.find(|(_, id)| self.parcels.get(id).is_some_and(|it| is_due(it, now)));
        unkeyed.into_iter().chain(keyed.map(|it| it.0)).min()
    }

    /// Records within these offsets that may be given now, ascending, with their parcels.
    pub fn ready(&self, offsets: &Range<u64>, now: u64) -> Vec<(Entry, u64)> {
        let mut ready = Vec::new();
        for (_, id) in self.free.range(..(offsets.end, 0)) {
            let Some(parcel) = self.parcels.get(id).filter(|it| is_due(it, now)) else {
                continue;
            };
            let unkeyed = parcel.within(offsets.clone()).filter(|it| it.key == 0);
            ready.extend(unkeyed.map(|entry| (entry, *id)));
        }
        for turn in self.keys.turns() {
            // One after the other of the same key, as far as they are due.
            let mut next = Some(turn).filter(|(offset, _)| *offset >= offsets.start);
            while let Some((offset, id)) = next.filter(|(offset, _)| *offset < offsets.end) {
                let parcel = self.parcels.get(&id).filter(|it| is_due(it, now));
                let Some(entry) = parcel.and_then(|it| it.get(offset)) else {
                    break;
                };
                ready.push((entry, id));
                next = self.keys.next_of(entry.key, offset);
            }
        }
        ready.sort_unstable_by_key(|(entry, _)| entry.offset);
        ready
    }

    /// Whether a record that comes after all of these may be given now.
    pub fn is_free(&self, key: u64) -> bool {
        self.keys.is_free(key)
    }

    /// Takes up a stored parcel.
    pub fn load(&mut self, id: u64, parcel: Parcel) {
        self.parcels.insert(id, parcel);
        self.count(id);
    }

    /// All parcels are loaded, and what is left of each is known: only now is it clear which of them
    /// holds a record, and what waits for its key.
    pub fn loaded(&mut self) {
        self.keys = Keys::default();
        let ids: Vec<u64> = self.parcels.keys().copied().collect();
        for id in ids {
            self.count_keys(id, true);
        }
    }

    /// Takes up one stored block of what is left of a parcel.
    ///
    /// # Errors
    /// The block is none of this parcel's.
    pub fn load_block(&mut self, id: u64, block: u16, set: &[u8]) -> Result<(), Malformed> {
        self.uncount(id);
        let loaded = match self.parcels.get_mut(&id) {
            Some(parcel) => parcel.load_block(block, set),
            None => Ok(()),
        };
        self.count(id);
        loaded
    }

    /// Puts a new parcel in.
    pub fn insert(&mut self, id: u64, parcel: Parcel, changed: &mut Vec<Row>) {
        changed.push(self.fate_row(id, &parcel.fate));
        changed.push(rows::parcel(self.topic, self.consumer, id, &parcel.row()));
        self.load(id, parcel);
        self.count_keys(id, true);
    }

    /// Takes records out of a parcel, because they are acked or put into another; the ranges of
    /// offsets ascend.
    pub fn settle(
        &mut self,
        id: u64,
        offsets: &[Range<u64>],
        changed: &mut Vec<Row>,
    ) -> Vec<Entry> {
        self.uncount(id);
        let (Some(parcel), [first, ..]) = (self.parcels.get_mut(&id), offsets) else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        for range in offsets {
            taken.extend(parcel.settle(range.clone()));
        }
        let leased = matches!(parcel.fate, Fate::Leased(_));
        let end = offsets.iter().map(|it| it.end).max().unwrap_or(first.end);
        let blocks = parcel.blocks(&(first.start..end));
        let is_empty = parcel.is_empty();
        for entry in &taken {
            if leased {
                self.keys.unlease(*entry);
            } else {
                self.keys.unwait(*entry);
            }
        }
        if is_empty {
            changed.extend(self.forget(id));
        } else {
            let (topic, consumer) = (self.topic, self.consumer);
            let lefts = blocks.into_iter();
            changed.extend(lefts.map(|(at, set)| rows::left(topic, consumer, id, at, set)));
            self.count(id);
        }
        taken
    }

    /// A lease is over, in memory: a restart brings it back, as long as nothing was taken of it.
    pub fn lapse(&mut self, id: u64, due: u64, counts: bool) {
        self.turn_out(id, Fate::Free { due }, counts);
        if let Some(parcel) = self.parcels.get_mut(&id) {
            parcel.lapsed = true;
        }
    }

    /// Something was taken of a parcel: if its lease had lapsed in memory alone, the rest goes into
    /// a new one, or a restart would bring the old lease back beside the new one.
    pub fn keep_rest(&mut self, id: u64, new_id: impl FnOnce() -> u64, changed: &mut Vec<Row>) {
        let Some(parcel) = self.parcels.get(&id).filter(|it| it.lapsed) else {
            return;
        };
        let fate = parcel.fate;
        let all = 0..u64::MAX;
        let rest = self.settle(id, std::slice::from_ref(&all), changed);
        self.insert(new_id(), Parcel::new(&rest, fate), changed);
    }

    /// Changes what happens to a parcel next, in memory.
    pub fn turn_out(&mut self, id: u64, fate: Fate, counts: bool) {
        self.uncount(id);
        self.count_keys(id, false);
        if let Some(parcel) = self.parcels.get_mut(&id) {
            parcel.fate = fate;
            if counts {
                parcel.count_delivery();
            }
        }
        self.count(id);
        self.count_keys(id, true);
    }

    /// The same, also on disk.
    pub fn decide(&mut self, id: u64, fate: Fate, changed: &mut Vec<Row>) {
        self.turn_out(id, fate, false);
        changed.push(self.fate_row(id, &fate));
    }

    /// The leases whose worker spoke last on this connection end at `at`, unless it speaks again.
    pub fn leave(&mut self, connection: ConnectionId, at: u64) {
        self.change_leases(|_, lease| {
            let left = lease.connection == Some(connection);
            left.then_some(Lease {
                leaving: Some(at),
                ..*lease
            })
        });
    }

    /// A worker has spoken, or the one that holds `only` this lease: they are that connection's.
    pub fn reclaim(&mut self, meant: impl Fn(u64, &Lease) -> bool, connection: ConnectionId) {
        self.change_leases(|id, lease| {
            let stays = lease.connection == Some(connection) && lease.leaving.is_none();
            (!stays && meant(id, lease)).then_some(Lease {
                connection: Some(connection),
                leaving: None,
                ..*lease
            })
        });
    }

    /// Who holds this lease, and is no worker with a memory, has spoken on a connection.
    pub fn reclaim_one(&mut self, id: u64, connection: ConnectionId) {
        let Some(Parcel {
            fate: Fate::Leased(lease),
            ..
        }) = self.parcels.get(&id)
        else {
            return;
        };
        if lease.worker.is_none() {
            let lease = Lease {
                connection: Some(connection),
                leaving: None,
                ..*lease
            };
            self.set_lease(id, lease);
        }
    }

    /// Neither sums nor keys depend on these.
    fn set_lease(&mut self, id: u64, lease: Lease) {
        if let Some(parcel) = self.parcels.get_mut(&id) {
            self.agenda.remove(&(parcel.fate.at(), id));
            parcel.fate = Fate::Leased(lease);
            self.agenda.insert((parcel.fate.at(), id));
        }
    }

    fn change_leases(&mut self, change: impl Fn(u64, &Lease) -> Option<Lease>) {
        let changed: Vec<_> = self
            .leases()
            .filter_map(|(id, lease, _)| Some((id, change(id, lease)?)))
            .collect();
        for (id, lease) in changed {
            self.set_lease(id, lease);
        }
    }

    /// Takes out what was due to happen by now.
    pub fn due(&mut self, now: u64) -> Vec<(u64, Fate)> {
        let mut due = Vec::new();
        while let Some((at, id)) = self.agenda.first().copied().filter(|(at, _)| *at <= now) {
            self.agenda.remove(&(at, id));
            due.extend(self.parcels.get(&id).map(|parcel| (id, parcel.fate)));
        }
        due
    }

    /// Takes out what nobody has leased of these offsets; the records, for they are lost.
    pub fn drop_unleased(&mut self, offsets: &Range<u64>, changed: &mut Vec<Row>) -> Vec<Entry> {
        let free = self.parcels.iter().filter(|(_, parcel)| {
            !matches!(parcel.fate, Fate::Leased(_)) && parcel.touches(offsets.clone())
        });
        let ids: Vec<u64> = free.map(|(id, _)| *id).collect();
        let mut dropped: Vec<Entry> = Vec::new();
        for id in ids {
            dropped.extend(self.settle(id, std::slice::from_ref(offsets), changed));
        }
        dropped.sort_unstable_by_key(|entry| entry.offset);
        dropped
    }

    /// Forgets everything; the rows that do so on disk.
    pub fn clear(&mut self) -> Vec<Row> {
        let ids: Vec<u64> = self.parcels.keys().copied().collect();
        let rows = ids.into_iter().flat_map(|id| self.forget(id)).collect();
        *self = Self::of(self.topic, self.consumer);
        rows
    }

    fn forget(&mut self, id: u64) -> Vec<Row> {
        let ranks = self.parcels.remove(&id).map_or(0, |parcel| parcel.ranks());
        let blocks = u16::try_from(ranks.div_ceil(BLOCK_RANKS)).unwrap_or(u16::MAX);
        rows::forget_parcel(self.topic, self.consumer, id, blocks).collect()
    }

    fn fate_row(&self, id: u64, fate: &Fate) -> Row {
        let row = match fate {
            Fate::Leased(lease) => FateRow {
                worker: lease.worker,
                duration: lease.duration,
                ..FateRow::default()
            },
            Fate::Free { due } | Fate::Doomed { due } => FateRow {
                due: *due,
                ..FateRow::default()
            },
            Fate::Aside => FateRow {
                aside: true,
                ..FateRow::default()
            },
        };
        rows::fate(self.topic, self.consumer, id, &row)
    }

    fn count(&mut self, id: u64) {
        self.sum(id, add);
        if let Some(parcel) = self.parcels.get(&id) {
            let at = parcel.fate.at();
            self.firsts.extend(parcel.first().map(|first| (first, id)));
            if matches!(parcel.fate, Fate::Free { .. } | Fate::Aside) {
                self.free.extend(parcel.first().map(|first| (first, id)));
            }
            if at > 0 {
                self.agenda.insert((at, id));
            }
        }
    }

    fn uncount(&mut self, id: u64) {
        self.sum(id, subtract);
        if let Some(parcel) = self.parcels.get(&id) {
            self.agenda.remove(&(parcel.fate.at(), id));
            if let Some(first) = parcel.first() {
                self.free.remove(&(first, id));
                self.firsts.remove(&(first, id));
            }
        }
    }

    fn sum(&mut self, id: u64, apply: fn(&mut Totals, Totals)) {
        let Some(parcel) = self.parcels.get(&id) else {
            return;
        };
        let sum = match parcel.fate {
            Fate::Leased(_) => &mut self.leased,
            Fate::Aside => &mut self.aside,
            _ => &mut self.returned,
        };
        apply(sum, parcel.totals());
    }

    fn count_keys(&mut self, id: u64, there: bool) {
        let Some(parcel) = self.parcels.get(&id).filter(|it| it.has_keys()) else {
            return;
        };
        let leased = matches!(parcel.fate, Fate::Leased(_));
        for entry in parcel.within(0..u64::MAX) {
            match (leased, there) {
                (true, true) => self.keys.lease(entry),
                (true, false) => self.keys.unlease(entry),
                (false, true) => self.keys.wait(entry, id),
                (false, false) => self.keys.unwait(entry),
            }
        }
    }
}

/// Whether a parcel that nobody has may be given now.
fn is_due(parcel: &Parcel, now: u64) -> bool {
    match parcel.fate {
        Fate::Free { due } => due <= now,
        Fate::Aside => true,
        Fate::Leased(_) | Fate::Doomed { .. } => false,
    }
}

//! What becomes of leased records: acked, given back, given up, or their time is over.
//!
//! Pure. Its neighbours: the [consumer](super) owns the parcels, [`Outstanding`] moves records
//! between them.
//!
//! [`Outstanding`]: super::outstanding::Outstanding

use std::collections::BTreeMap;
use std::ops::Range;

use logdrive_protocol::operations::Settled;
use logdrive_protocol::{ErrorCode, Failure, WorkerId};

use super::parcel::{Entry, Fate, Lease, Parcel};
use super::{Consumer, ParcelIds};
use crate::reply::ConnectionId;
use crate::storage::Row;

impl Consumer {
    /// A worker speaks on a connection: its leases are that connection's.
    pub(super) fn speaks(&mut self, worker: WorkerId, connection: ConnectionId) {
        let before = self.speakers.insert(worker, connection);
        if before != Some(connection) {
            let its_own = |_, lease: &Lease| lease.worker == worker && !worker.is_none();
            self.outstanding.reclaim(its_own, connection);
        }
    }

    /// A connection is gone: the leases of those who spoke on it end at `at` unless they speak
    /// again.
    pub fn leave(&mut self, connection: ConnectionId, at: u64) {
        self.speakers.retain(|_, on| *on != connection);
        self.outstanding.leave(connection, at);
    }

    /// The leases of a worker are what `settled` says they are.
    ///
    /// # Errors
    /// `OFFSET_OUT_OF_RANGE`, `LEASE_LOST`, `NOT_LEASED`.
    pub fn check_settled(
        &self,
        worker: WorkerId,
        settled: &[Settled],
        visible: u64,
    ) -> Result<(), Failure> {
        for &Settled { lease, from, to } in settled {
            if from >= to || to > visible {
                return Err(Failure::new(
                    ErrorCode::OffsetOutOfRange,
                    format!(
                        "records {from} up to {to} are not all there: the topic ends at {visible}"
                    ),
                )
                .numbers(visible, 0)
                .hint("name the offsets that an answer gave"));
            }
            let offsets = from..to;
            let not_leased = |what: &str| {
                Err(Failure::new(ErrorCode::NotLeased, what)
                    .numbers(from, to)
                    .hint("name the lease and the offsets as the answer gave them"))
            };
            match self.outstanding.lease(lease) {
                Some((held, _)) if held.worker != worker => {
                    return not_leased(&format!("lease {lease} is held by another worker"));
                }
                Some((_, parcel)) if parcel.touches(offsets.clone()) => {}
                Some((_, parcel))
                    if to > self.row.next || self.has_left(lease, parcel, &offsets) =>
                {
                    let what = format!("lease {lease} does not hold records {from} up to {to}");
                    return not_leased(&what);
                }
                None if lease == 0 || lease > self.row.last_parcel => {
                    return not_leased(&format!("this consumer never gave a lease {lease}"));
                }
                None if self.outstanding.touches(lease, &offsets) => {
                    let what = format!("lease {lease} is over, and others may have its records");
                    return Err(Failure::new(ErrorCode::LeaseLost, what)
                        .numbers(from, to)
                        .hint("drop them: they are delivered again; ask for a longer lease, or extend it"));
                }
                None if to > self.row.next => {
                    return not_leased(&format!("records {from} up to {to} were never given out"));
                }
                // They are acked already.
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    /// Each element, which was checked, takes records out of a lease that is held now.
    ///
    /// A lease that holds nothing any more is forgotten: whether its own worker acked the records,
    /// or another one to whom they went next, is not known.
    ///
    /// # Errors
    /// `LEASE_LOST`.
    pub fn check_held(&self, settled: &[Settled]) -> Result<(), Failure> {
        let takes = |it: &&Settled| {
            let lease = self.outstanding.lease(it.lease);
            lease.is_some_and(|(_, parcel)| parcel.touches(it.from..it.to))
        };
        match settled.iter().find(|it| !takes(it)) {
            None => Ok(()),
            Some(Settled { lease, from, to }) => {
                let what = format!(
                    "lease {lease} holds no records from {from} up to {to} any more: they are acked, \
                     or others have them"
                );
                Err(Failure::new(ErrorCode::LeaseLost, what)
                    .numbers(*from, *to)
                    .hint("drop the batches: this was done before, or others do it"))
            }
        }
    }

    /// Whether records that a lease once held among these are in a later parcel.
    fn has_left(&self, lease: u64, parcel: &Parcel, offsets: &Range<u64>) -> bool {
        let own = parcel.span();
        let offsets = offsets.start.max(own.start)..offsets.end.min(own.end);
        self.outstanding.touches(lease + 1, &offsets)
    }

    /// Takes what `settled` says, which was checked, out of its leases.
    fn settle(&mut self, settled: &[Settled], changed: &mut Vec<Row>) -> Vec<Entry> {
        let mut by_lease: BTreeMap<u64, Vec<Range<u64>>> = BTreeMap::new();
        for Settled { lease, from, to } in settled {
            by_lease.entry(*lease).or_default().push(*from..*to);
        }
        let mut taken = Vec::new();
        for (lease, mut offsets) in by_lease {
            if self.holds(lease) {
                offsets.sort_unstable_by_key(|it| it.start);
                taken.extend(self.outstanding.settle(lease, &offsets, changed));
            }
        }
        taken
    }

    /// Acks records, which were checked; how many, and the rows.
    pub fn ack(&mut self, settled: &[Settled], ticket: u64, ids: &ParcelIds) -> (u64, Vec<Row>) {
        let mut changed = Vec::new();
        let acked = self.settle(settled, &mut changed);
        for entry in &acked {
            changed.extend(self.copies.remove(self.topic, self.id, entry.offset));
        }
        self.stage(ticket, ids, &mut changed);
        (acked.len() as u64, changed)
    }

    /// Takes records that were given up out of their parcels; how many, and the rows.
    ///
    /// # Errors
    /// `LEASE_LOST` if there are none.
    pub fn bury(
        &mut self,
        settled: &[Settled],
        ticket: u64,
        ids: &ParcelIds,
    ) -> Result<(u64, Vec<Row>), Failure> {
        for Settled { lease, .. } in settled {
            let parcel = self.outstanding.get(*lease);
            if !parcel.is_some_and(|it| matches!(it.fate, Fate::Doomed { .. })) {
                let what = "the records are not to be given up any more";
                return Err(Failure::new(ErrorCode::LeaseLost, what));
            }
        }
        let mut changed = Vec::new();
        let mut by_parcel: BTreeMap<u64, Vec<Range<u64>>> = BTreeMap::new();
        for Settled { lease, from, to } in settled {
            by_parcel.entry(*lease).or_default().push(*from..*to);
        }
        let mut count = 0;
        for (parcel, offsets) in by_parcel {
            for entry in self.outstanding.settle(parcel, &offsets, &mut changed) {
                count += 1;
                changed.extend(self.copies.remove(self.topic, self.id, entry.offset));
            }
        }
        self.stage(ticket, ids, &mut changed);
        Ok((count, changed))
    }

    /// Puts one doomed record into a parcel of its own, to be given up from `due` on.
    pub fn put_off(
        &mut self,
        parcel: u64,
        offset: u64,
        due: u64,
        ticket: u64,
        ids: &mut ParcelIds,
    ) -> Vec<Row> {
        let mut changed = Vec::new();
        let one = offset..offset.saturating_add(1);
        let taken = self
            .outstanding
            .settle(parcel, std::slice::from_ref(&one), &mut changed);
        if !taken.is_empty() {
            let alone = Parcel::new(&taken, Fate::Doomed { due });
            self.outstanding.insert(ids.next(), alone, &mut changed);
        }
        self.stage(ticket, ids, &mut changed);
        changed
    }

    /// Gives records back, which were checked, to be delivered again from `due` on, or when their
    /// back-off is over, counted from `now`.
    pub fn nack(
        &mut self,
        settled: &[Settled],
        due: Option<u64>,
        now: u64,
        ticket: u64,
        ids: &mut ParcelIds,
    ) -> (u64, Vec<Row>) {
        let mut changed = Vec::new();
        let mut back = self.settle(settled, &mut changed);
        back.sort_unstable_by_key(|entry| entry.offset);
        let count = back.len() as u64;
        self.give_back(back, due, now, ids, &mut changed);
        self.lose_removed(&mut changed);
        self.stage(ticket, ids, &mut changed);
        (count, changed)
    }

    /// Puts records that were delivered once more into parcels of their own.
    fn give_back(
        &mut self,
        entries: Vec<Entry>,
        due: Option<u64>,
        now: u64,
        ids: &mut ParcelIds,
        changed: &mut Vec<Row>,
    ) {
        let mut doomed = Vec::new();
        let mut free: BTreeMap<u64, Vec<Entry>> = BTreeMap::new();
        for entry in entries {
            let entry = Entry {
                deliveries: entry.deliveries.saturating_add(1),
                ..entry
            };
            if self.config.is_too_many(entry.deliveries) {
                doomed.push(entry);
                continue;
            }
            let due = due.unwrap_or_else(|| self.due_after(entry.deliveries, now));
            free.entry(due).or_default().push(entry);
        }
        let free = free.into_iter().map(|(due, it)| (it, Fate::Free { due }));
        let doomed = (doomed, Fate::Doomed { due: 0 });
        for (entries, fate) in free.chain([doomed]).filter(|(it, _)| !it.is_empty()) {
            let parcel = Parcel::new(&entries, fate);
            self.outstanding.insert(ids.next(), parcel, changed);
        }
    }

    /// The number of deliveries after which records are given up has changed.
    pub(super) fn judge_anew(&mut self) {
        for (id, fate, deliveries) in self.outstanding.unleased() {
            match fate {
                Fate::Doomed { .. } if !self.config.is_too_many(deliveries) => {
                    self.outstanding.turn_out(id, Fate::Free { due: 0 }, false);
                }
                // There may be another place for them.
                Fate::Doomed { .. } => {
                    self.outstanding
                        .turn_out(id, Fate::Doomed { due: 0 }, false);
                }
                Fate::Free { due } if self.config.is_too_many(deliveries) => {
                    self.outstanding.turn_out(id, Fate::Doomed { due }, false);
                }
                _ => {}
            }
        }
    }

    /// When a record that was delivered so often may be delivered again.
    fn due_after(&self, deliveries: u32, now: u64) -> u64 {
        match self.config.wait_after(deliveries) {
            0 => 0,
            wait => now.saturating_add(wait),
        }
    }

    /// Lets a lease, which was checked, run for `duration` microseconds from now at least.
    pub fn extend(&mut self, id: u64, duration: u64, now: u64) -> Vec<Row> {
        let mut changed = Vec::new();
        if let Some((lease, _)) = self.outstanding.lease(id) {
            let deadline = now.saturating_add(duration);
            // One that comes late, after a longer one, takes nothing away.
            let lease = if deadline > lease.deadline {
                Lease {
                    duration,
                    deadline,
                    leaving: None,
                    ..*lease
                }
            } else {
                Lease {
                    leaving: None,
                    ..*lease
                }
            };
            self.outstanding
                .decide(id, Fate::Leased(lease), &mut changed);
        }
        changed
    }

    /// A request of a worker for this lease, or any of its own, came on a connection.
    pub fn heard(&mut self, worker: WorkerId, lease: u64, connection: ConnectionId) {
        if worker.is_none() {
            self.outstanding.reclaim_one(lease, connection);
        } else if self.workers.knows(worker) {
            self.speaks(worker, connection);
        }
    }

    /// Ends the leases whose time is over; whether anything came of it, and the rows to store.
    pub fn expire(&mut self, now: u64, ids: &mut ParcelIds) -> (bool, Vec<Row>) {
        let due = self.outstanding.due(now);
        let any = !due.is_empty();
        let mut changed = Vec::new();
        for (id, fate) in due {
            if let Fate::Leased(lease) = fate {
                self.lapse(id, now >= lease.deadline, now, ids, &mut changed);
            }
        }
        self.lose_removed(&mut changed);
        (any, changed)
    }

    /// Ends a lease; `counts` if it has run its time.
    fn lapse(
        &mut self,
        id: u64,
        counts: bool,
        now: u64,
        ids: &mut ParcelIds,
        changed: &mut Vec<Row>,
    ) {
        let Some(parcel) = self.outstanding.get(id) else {
            return;
        };
        let deliveries = parcel.most_deliveries().saturating_add(1);
        if counts && self.config.is_too_many(deliveries) {
            let all = 0..u64::MAX;
            let one = std::slice::from_ref(&all);
            let entries = self.outstanding.settle(id, one, changed);
            self.give_back(entries, None, now, ids, changed);
        } else {
            let due = if counts {
                self.due_after(deliveries, now)
            } else {
                0
            };
            // Not stored: should the broker restart, the lease runs anew.
            self.outstanding.lapse(id, due, counts);
        }
    }
}

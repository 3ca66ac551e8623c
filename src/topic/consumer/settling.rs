//! What becomes of leased records: acked, given back, given up, or their time is over.
//!
//! Pure. Its neighbours: the [consumer](super) owns the parcels, [`Outstanding`] moves records
//! between them.
//!
//! [`Outstanding`]: super::outstanding::Outstanding

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
                Some(_) if self.outstanding.touches(&offsets) || to > self.row.next => {
                    let what = format!("lease {lease} does not hold records {from} up to {to}");
                    return not_leased(&what);
                }
                None if self.outstanding.touches(&offsets) => {
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

    /// Takes what `settled` says, which was checked, out of its leases.
    fn settle(&mut self, settled: &[Settled], changed: &mut Vec<Row>) -> Vec<Entry> {
        let mut taken = Vec::new();
        for Settled { lease, from, to } in settled {
            if self.holds(*lease) {
                let offsets = *from..*to;
                let one = std::slice::from_ref(&offsets);
                taken.extend(self.outstanding.settle(*lease, one, changed));
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
        let mut changed = Vec::new();
        let mut count = 0;
        for Settled { lease, from, to } in settled {
            let parcel = self.outstanding.get(*lease);
            if !parcel.is_some_and(|it| matches!(it.fate, Fate::Doomed { .. })) {
                let what = "the records are not to be given up any more";
                return Err(Failure::new(ErrorCode::LeaseLost, what));
            }
            let offsets = *from..*to;
            let one = std::slice::from_ref(&offsets);
            count += self.outstanding.settle(*lease, one, &mut changed).len() as u64;
        }
        self.stage(ticket, ids, &mut changed);
        Ok((count, changed))
    }

    /// Gives records back, which were checked, to be delivered again from `due` on.
    pub fn nack(
        &mut self,
        settled: &[Settled],
        due: u64,
        ticket: u64,
        ids: &mut ParcelIds,
    ) -> (u64, Vec<Row>) {
        let mut changed = Vec::new();
        let mut back = self.settle(settled, &mut changed);
        back.sort_unstable_by_key(|entry| entry.offset);
        let count = back.len() as u64;
        self.give_back(back, due, ids, &mut changed);
        self.lose_removed(&mut changed);
        self.stage(ticket, ids, &mut changed);
        (count, changed)
    }

    /// Puts records that were delivered once more into parcels of their own.
    fn give_back(
        &mut self,
        entries: Vec<Entry>,
        due: u64,
        ids: &mut ParcelIds,
        changed: &mut Vec<Row>,
    ) {
        let delivered = entries.into_iter().map(|entry| Entry {
            deliveries: entry.deliveries.saturating_add(1),
            ..entry
        });
        let (doomed, free): (Vec<Entry>, Vec<Entry>) =
            delivered.partition(|entry| self.config.is_too_many(entry.deliveries));
        for (entries, fate) in [
            (doomed, Fate::Doomed { due: 0 }),
            (free, Fate::Free { due }),
        ] {
            if !entries.is_empty() {
                let parcel = Parcel::new(&entries, fate);
                self.outstanding.insert(ids.next(), parcel, changed);
            }
        }
    }

    /// Lets a lease, which was checked, run for `duration` microseconds from now.
    pub fn extend(&mut self, id: u64, duration: u64, now: u64) -> Vec<Row> {
        let mut changed = Vec::new();
        if let Some((lease, _)) = self.outstanding.lease(id) {
            let lease = Lease {
                duration,
                deadline: now.saturating_add(duration),
                leaving: None,
                ..*lease
            };
            self.outstanding
                .decide(id, Fate::Leased(lease), &mut changed);
        }
        changed
    }

    /// A request of a worker for this lease, or any of its own, came on a connection.
    pub fn heard(&mut self, worker: WorkerId, lease: u64, connection: ConnectionId) {
        if worker.is_none() {
            let that_one = |id, lease_of: &Lease| id == lease && lease_of.worker.is_none();
            self.outstanding.reclaim(that_one, connection);
        } else {
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
        let due = match self.config.wait_after(deliveries) {
            wait if counts && wait > 0 => now.saturating_add(wait),
            _ => 0,
        };
        if counts && self.config.is_too_many(deliveries) {
            let all = 0..u64::MAX;
            let one = std::slice::from_ref(&all);
            let entries = self.outstanding.settle(id, one, changed);
            self.give_back(entries, due, ids, changed);
        } else {
            // Not stored: should the broker restart, the lease runs anew.
            self.outstanding.turn_out(id, Fate::Free { due }, counts);
        }
    }
}

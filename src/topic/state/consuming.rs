//! Consuming: what consumers take, ack and give back, as changes of the topic.
//!
//! Its neighbours: [`Consumers`](super::Consumers) knows each of them, [`appending`](super::appending)
//! plans what is acked in one transaction with batches.

use std::ops::Range;

use logdrive_protocol::operations::{Consumed, Gap, Settled};
use logdrive_protocol::{ConsumerId, ErrorCode, Failure, WorkerId};

use super::{Change, Effect, Plan, State};
use crate::limits::MAX_OUTSTANDING;
use crate::storage::Row;
use crate::topic::consumer::workers::Taker;
use crate::topic::consumer::{Seen, Taken, Wish};
use crate::topic::log::Mark;
use crate::topic::requeue::Letter;

/// What a transaction acks records for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// For nothing else: what was acked before is no error.
    Alone,
    /// For new batches, which must not be stored unless this request acks the records.
    WithBatches,
    /// The broker gives the records up.
    OfDeadLetters,
}

impl State {
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
    ) -> Result<(Taken, Change), Failure> {
        let ticket = self.ticket + 1;
        let mut given = self.consumers.take(taker, wish, seen, now, ticket)?;
        let rows = std::mem::take(&mut given.rows);
        Ok((given, self.stage_move(taker.consumer, rows)))
    }

    /// Moves a consumer elsewhere; `damage` is what it could not read before.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn seek(
        &mut self,
        consumer: ConsumerId,
        to: Mark,
        damage: Option<Gap>,
    ) -> Result<Change, Failure> {
        // What is before the start is on its way out, whoever found a place there before.
        let (start, _) = self.log.staged_start();
        let to = if to.offset < start.offset { start } else { to };
        let changed = self.consumers.seek(consumer, to, damage, self.ticket + 1)?;
        Ok(self.stage_move(consumer, changed))
    }

    /// Acks records of a worker's leases; how many.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`, `WRONG_CONSUMER`, `LEASE_LOST`, `NOT_LEASED`, `OFFSET_OUT_OF_RANGE`:
    /// nothing is done.
    pub fn ack(
        &mut self,
        consumer: ConsumerId,
        worker: WorkerId,
        settled: &[Settled],
    ) -> Result<(u64, Change), Failure> {
        let visible = self.log.visible().offset;
        self.consumers
            .check_settled(consumer, worker, settled, visible)?;
        let (count, changed) = self.consumers.ack(consumer, settled, self.ticket + 1)?;
        Ok((count, self.stage_move(consumer, changed)))
    }

    /// Gives records of a worker's leases back, to be delivered again from `due` on, or after their
    /// back-off; how many.
    ///
    /// # Errors
    /// As those of [`State::ack`].
    pub fn nack(
        &mut self,
        consumer: ConsumerId,
        worker: WorkerId,
        settled: &[Settled],
        due: Option<u64>,
        now: u64,
    ) -> Result<(u64, Change), Failure> {
        let visible = self.log.visible().offset;
        self.consumers
            .check_settled(consumer, worker, settled, visible)?;
        let (count, changed) = self
            .consumers
            .nack(consumer, settled, due, now, self.ticket + 1)?;
        Ok((count, self.stage_move(consumer, changed)))
    }

    /// Puts records in again for a consumer; how many were not there already.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn requeue(
        &mut self,
        consumer: ConsumerId,
        letters: &[Letter],
    ) -> Result<(u64, Change), Failure> {
        let waiting = self.consumers.get(consumer)?.outstanding.totals().records;
        if waiting + letters.len() as u64 > MAX_OUTSTANDING {
            let what = format!("{waiting} records of this consumer are not acked");
            let failure = Failure::new(ErrorCode::LimitReached, what);
            return Err(failure.hint("requeue the others when these are done"));
        }
        let (count, changed) = self.consumers.requeue(consumer, letters, self.ticket + 1)?;
        Ok((count, self.stage_move(consumer, changed)))
    }

    /// The dead letter that stood for a record is gone: its consumer is told of a gap.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn lose_copy(&mut self, consumer: ConsumerId, offset: u64) -> Result<Change, Failure> {
        let changed = self
            .consumers
            .lose_copy(consumer, offset, self.ticket + 1)?;
        Ok(self.stage_move(consumer, changed))
    }

    /// Lets one record that is given up wait until `due`, apart from the others.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn put_off(
        &mut self,
        consumer: ConsumerId,
        parcel: u64,
        offset: u64,
        due: u64,
    ) -> Result<Change, Failure> {
        let ticket = self.ticket + 1;
        let changed = self
            .consumers
            .put_off(consumer, parcel, offset, due, ticket)?;
        Ok(self.stage_move(consumer, changed))
    }

    /// Acks records that are given up, because their dead letters are there already.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`; `LEASE_LOST` if they are not to be given up any more.
    pub fn bury_here(
        &mut self,
        consumer: ConsumerId,
        settled: &[Settled],
    ) -> Result<Change, Failure> {
        let ticket = self.ticket + 1;
        let changed = self.consumers.bury_here(consumer, settled, ticket)?;
        Ok(self.stage_move(consumer, changed))
    }

    /// Gives up records that cannot be read, as a gap.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn skip_damage(
        &mut self,
        consumer: ConsumerId,
        damaged: &Range<u64>,
    ) -> Result<Change, Failure> {
        let ticket = self.ticket + 1;
        let changed = self.consumers.skip_damage(consumer, damaged, ticket)?;
        Ok(self.stage_move(consumer, changed))
    }

    /// Ends leases that are over; whose they were, and what is to be stored.
    pub fn expire(&mut self, now: u64) -> Vec<(ConsumerId, Option<Change>)> {
        let mut expired = Vec::new();
        for (consumer, mut changed) in self.consumers.expire(now) {
            let change = if changed.is_empty() {
                None
            } else {
                self.consumers
                    .staged(consumer, self.ticket + 1, &mut changed);
                Some(self.stage_move(consumer, changed))
            };
            expired.push((consumer, change));
        }
        expired
    }

    fn stage_move(&mut self, consumer: ConsumerId, changed: Vec<Row>) -> Change {
        let change = self.stage(changed);
        self.staged
            .push_back((change.ticket, Effect::Moved(consumer)));
        change
    }

    /// Adds acks to what is planned, under the topic's next ticket; how many records.
    ///
    /// # Errors
    /// As [`State::ack`].
    pub fn plan_ack(
        &self,
        plan: &mut Plan,
        consumed: &Consumed,
        acks: Acks,
    ) -> Result<u64, Failure> {
        let (id, settled) = (consumed.consumer, &consumed.settled);
        let planned = plan.acked.iter().position(|(planned, _)| *planned == id);
        let before = match planned {
            Some(at) => plan.acked.swap_remove(at).1,
            None => self.consumers.get(id)?.clone(),
        };
        let ticket = self.ticket + 1;
        let (count, after, changed) = if acks == Acks::OfDeadLetters {
            self.consumers.bury(before, settled, ticket)?
        } else {
            let visible = self.log.visible().offset;
            self.consumers.check_owners(id, settled)?;
            before.check_settled(consumed.worker, settled, visible)?;
            if acks == Acks::WithBatches {
                before.check_held(settled)?;
            }
            self.consumers.acked(before, settled, ticket)
        };
        plan.changed.extend(changed);
        plan.acked.push((id, after));
        Ok(count)
    }
}

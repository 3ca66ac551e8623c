//! What callers say of records that were leased to them: processed, given back, kept for longer.
//!
//! Owns the meaning of a record, a portion and "all up to" as leases and offsets; the task behind
//! [`Leases`](super::leases::Leases) tells the broker.

use std::time::Duration;

use logdrive_protocol::operations::Settled;
use tokio::time::timeout;

use super::leases::{Answer, Leases, Order, What};
use super::settling::{Verdict, millis};
use super::{Consumer, GOODBYE_WAIT};
use crate::{Error, ErrorKind, Portion, Record};

impl Consumer {
    /// Says that a record was processed; returns when that is durable. Acks that are under way at
    /// the same time leave together, also those of [`ack_later`](Self::ack_later).
    ///
    /// It is repeated through lost connections; an ack of what is acked is a success.
    ///
    /// # Errors
    /// `LEASE_LOST`: the lease was over before, and others may have the record. It stays unacked.
    pub async fn ack(&self, record: &Record) -> Result<(), Error> {
        self.settle(Verdict::Ack, self.one(record)?).await
    }

    /// Says that a record was processed, and returns at once: [`settled`](Self::settled) waits for
    /// all of these, and says what became of them.
    pub async fn ack_later(&self, record: &Record) -> Result<(), Error> {
        let (site, what) = self.one(record)?;
        let order = Order::Settle {
            site,
            verdict: Verdict::Ack,
            what,
            answer: None,
        };
        self.leases()?.room().await?.send(order);
        Ok(())
    }

    /// Waits until all that was acked and given back is durable.
    ///
    /// # Errors
    /// The first one of [`ack_later`](Self::ack_later) that was not told yet.
    pub async fn settled(&self) -> Result<(), Error> {
        self.leases()?.ask(Order::Settled).await
    }

    /// Says that all records of its topic up to this one were processed, in the order in which they
    /// were handed out.
    ///
    /// # Errors
    /// As [`ack`](Self::ack); what could be acked is acked. Earlier records whose lease is over are
    /// not acked and no error: they come again.
    pub async fn ack_up_to(&self, record: &Record) -> Result<(), Error> {
        let what = What::UpTo {
            lease: lease_of(record)?,
            to: record.offset + 1,
        };
        self.settle(Verdict::Ack, (self.site(&record.topic)?, what))
            .await
    }

    /// Says that all records of a portion were processed.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn ack_portion(&self, portion: &Portion) -> Result<(), Error> {
        self.settle(Verdict::Ack, self.all_of(portion)?).await
    }

    /// Says that all that was handed out so far was processed, of all topics.
    ///
    /// # Errors
    /// As [`ack_up_to`](Self::ack_up_to).
    pub async fn ack_all(&self) -> Result<(), Error> {
        let mut first_error = None;
        for (site, topic) in self.topics.iter().enumerate() {
            if let Some((lease, to)) = topic.handed_out {
                let what = What::UpTo { lease, to };
                let result = self.settle(Verdict::Ack, (site, what)).await;
                first_error = first_error.or(result.err());
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Gives a record back, to be delivered again when `delay` has passed; zero is at once, or when
    /// the consumer's back-off says. Returns when that is durable.
    ///
    /// # Errors
    /// `LEASE_LOST`: the lease was over before. The record comes again in any case.
    pub async fn nack(&self, record: &Record, delay: Duration) -> Result<(), Error> {
        let delay_ms = millis(delay);
        self.settle(Verdict::Nack { delay_ms }, self.one(record)?)
            .await
    }

    /// Gives all records of a portion back, as [`nack`](Self::nack) does with one.
    ///
    /// # Errors
    /// As [`nack`](Self::nack).
    pub async fn nack_portion(&self, portion: &Portion, delay: Duration) -> Result<(), Error> {
        let delay_ms = millis(delay);
        self.settle(Verdict::Nack { delay_ms }, self.all_of(portion)?)
            .await
    }

    /// Keeps a record, and all others of its lease, for so long from now on.
    ///
    /// # Errors
    /// `LEASE_LOST`, and `INVALID_LEASE` for a duration of zero or over 12 hours.
    pub async fn extend(&self, record: &Record, lasts: Duration) -> Result<(), Error> {
        let (site, lease) = (self.site(&record.topic)?, lease_of(record)?);
        let order = |answer: Answer| Order::Extend {
            site,
            lease,
            lasts,
            answer,
        };
        self.leases()?.ask(order).await
    }

    /// Whether the last answer of some topic said that records are left which cannot be given now:
    /// they are leased to others, wait for their time or their key, or the consumer is paused.
    pub fn is_held(&self) -> bool {
        self.topics.iter().any(|it| it.held)
    }

    /// Tells the task that keeps leases what an answer brought, before any of it is handed out.
    pub(super) async fn tell(&mut self, site: usize) -> Result<(), Error> {
        let Some(leases) = &self.leases else {
            return Ok(());
        };
        if self.topics[site].untold.is_empty() {
            return Ok(());
        }
        let room = leases.room().await?;
        let ranges = std::mem::take(&mut self.topics[site].untold);
        room.send(Order::Taken { site, ranges });
        Ok(())
    }

    /// Waits for acks that are under way, then gives back all that is held.
    pub(super) async fn give_back(&mut self) {
        for index in 0..self.topics.len() {
            if self.tell(index).await.is_err() {
                return;
            }
        }
        let Some(leases) = &self.leases else {
            return;
        };
        if leases.ask(Order::Settled).await.is_ok() {
            // Only courtesy: what is not given back comes again when its lease is over.
            drop(timeout(GOODBYE_WAIT, leases.ask(Order::GiveBack)).await);
        }
    }

    fn leases(&self) -> Result<&Leases, Error> {
        self.leases.as_ref().ok_or_else(not_leased)
    }

    async fn settle(&self, verdict: Verdict, (site, what): (usize, What)) -> Result<(), Error> {
        let order = |answer| Order::Settle {
            site,
            verdict,
            what,
            answer: Some(answer),
        };
        self.leases()?.ask(order).await
    }

    fn one(&self, record: &Record) -> Result<(usize, What), Error> {
        let settled = Settled {
            lease: lease_of(record)?,
            from: record.offset,
            to: record.offset + 1,
        };
        Ok((self.site(&record.topic)?, What::These(vec![settled])))
    }

    fn all_of(&self, portion: &Portion) -> Result<(usize, What), Error> {
        Ok((self.site(portion.topic())?, What::These(portion.settled())))
    }

    /// Which of the consumer's topics it is.
    fn site(&self, topic: &str) -> Result<usize, Error> {
        let found = self.topics.iter().position(|it| &*it.topic == topic);
        found.ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                format!("topic \"{topic}\" is none of this consumer's"),
            )
        })
    }
}

fn lease_of(record: &Record) -> Result<u64, Error> {
    record
        .lease
        .map(crate::Lease::number)
        .ok_or_else(not_leased)
}

fn not_leased() -> Error {
    Error::new(
        ErrorKind::Invalid,
        "these records were taken without a lease",
    )
    .with_hint("set ConsumerOptions::lease")
}

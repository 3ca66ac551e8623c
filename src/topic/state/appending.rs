//! Appending: a batch is planned, then carried out; or it waits for its time and is delivered.
//!
//! ```text
//! produce   = plan, carry out         a transaction: plan ... all others agree ... carry out
//! schedule  = into the delay log      deliver: from there into the topic
//! ```
//!
//! A plan changes nothing, so that it can be dropped; it is valid until the next change is staged.
//! Its neighbours: [`Log`](super::Log) gives places, [`Producers`](super::Producers) recognizes
//! retries.

use bytes::BytesMut;
use logdrive_protocol::batch::{Head, check_produced};
use logdrive_protocol::limits::{MAX_BATCH_BYTES, MAX_RECORD_BYTES};
use logdrive_protocol::operations::Produced;
use logdrive_protocol::{ConsumerId, Failure};

use super::{Change, Effect, State};
use crate::limits::DEAD_LETTER_HEAD_BYTES;
use crate::planted::{self, Bug};
use crate::storage::{Appended, Row};
use crate::topic::consumer::Consumer;
use crate::topic::delayed::Due;
use crate::topic::log::Placed;
use crate::topic::producers::Verdict;
use crate::topic::rows::{self, Remembered};

/// Marks the offset of a remembered batch as one of the delay log.
const SCHEDULED: u64 = 1 << 63;

/// What became of a batch.
#[derive(Debug)]
pub enum Append {
    /// It is to be staged.
    New(Receipt, Change),
    /// It is staged already, under this ticket.
    Staged(Receipt, u64),
    /// It is durable already.
    Durable(Receipt),
}

/// What would become of a batch.
#[derive(Debug)]
pub enum Planned {
    /// It would be staged.
    New(Box<Plan>),
    /// It is staged already, under this ticket.
    Staged(Receipt, u64),
    /// It is durable already.
    Durable(Receipt),
}

/// A batch that was checked and has its place, before anything is changed by it.
#[derive(Debug, Default)]
pub struct Plan {
    placed: Option<Placed>,
    pub(super) changed: Vec<Row>,
    /// Consumers as they will be, once they have acked.
    pub(super) acked: Vec<(ConsumerId, Consumer)>,
}

impl Plan {
    /// Where the batch will be.
    pub fn receipt(&self) -> Receipt {
        let head = self.placed.as_ref().map(Placed::head);
        Receipt {
            base_offset: head.map_or(0, |head| head.base_offset),
            append_time: head.map_or(0, |head| head.append_time),
            scheduled: false,
        }
    }

    /// The consumers for whom records are acked.
    pub fn consumers(&self) -> impl Iterator<Item = ConsumerId> {
        self.acked.iter().map(|(id, _)| *id)
    }

    /// What [`State::carry_out`] will stage, as the topic's change of this number.
    pub fn change(&self, ticket: u64) -> Change {
        Change {
            ticket,
            batches: self.placed.iter().map(Placed::appended).collect(),
            rows: self.changed.clone(),
        }
    }
}

/// Where a batch went, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Offset of its first record.
    pub base_offset: u64,
    /// Microseconds since 1970 UTC.
    pub append_time: u64,
    /// It waits for its time, or did when it came: it has no offset of its own yet.
    pub scheduled: bool,
}

impl Receipt {
    /// The answer, for a batch that is as durable as said.
    pub fn produced(self, durability: u8) -> Produced {
        Produced {
            base_offset: self.base_offset,
            append_time: self.append_time,
            durability: if self.scheduled {
                Produced::SCHEDULED
            } else {
                durability
            },
            leader_epoch: 0,
        }
    }
}

/// A batch that waits for its time, as it is staged.
#[derive(Debug)]
pub struct Scheduled {
    /// What is answered.
    pub receipt: Receipt,
    /// Rows of the topic.
    pub change: Change,
    /// The batch, for the delay log.
    pub appended: Appended,
}

/// What becomes of a batch that is to wait.
#[derive(Debug)]
pub enum Schedule {
    /// It is to be staged.
    New(Box<Scheduled>),
    /// It is there already: staged under this ticket, or durable.
    Known(Receipt, Option<u64>),
}

impl State {
    /// Checks a batch, recognizes a retry, gives it offsets.
    ///
    /// `now` is in microseconds.
    ///
    /// # Errors
    /// Those of a batch, those of a producer's sequence: nothing is done.
    pub fn produce(&mut self, batch: BytesMut, now: u64) -> Result<Append, Failure> {
        Ok(match self.plan(batch, now)? {
            Planned::New(plan) => Append::New(plan.receipt(), self.carry_out(*plan)),
            Planned::Staged(receipt, ticket) => Append::Staged(receipt, ticket),
            Planned::Durable(receipt) => Append::Durable(receipt),
        })
    }

    /// Checks a batch, recognizes a retry, and says what appending it would change: it is valid
    /// until the next change is staged.
    ///
    /// # Errors
    /// As [`State::produce`].
    pub fn plan(&self, batch: BytesMut, now: u64) -> Result<Planned, Failure> {
        self.plan_within(batch, now, self.max_record_bytes)
    }

    /// The same for dead letters, which are longer than the records that they were made of.
    ///
    /// # Errors
    /// As [`State::produce`].
    pub fn plan_dead_letters(&self, batch: BytesMut, now: u64) -> Result<Planned, Failure> {
        let longer = match self.max_record_bytes {
            MAX_RECORD_BYTES => DEAD_LETTER_HEAD_BYTES,
            _ => 0,
        };
        self.plan_within(batch, now, self.max_record_bytes + longer)
    }

    fn plan_within(
        &self,
        batch: BytesMut,
        now: u64,
        record_limit: u32,
    ) -> Result<Planned, Failure> {
        let head = check_produced(&batch, MAX_BATCH_BYTES, record_limit)?;
        if !head.producer.is_none()
            && let Verdict::Retry(known) = self.producers.judge(&head)?
        {
            return Ok(self.repeat(&known));
        }
        let placed = self.log.place(self.id, batch, &head, now);
        let mut changed = vec![rows::extent(self.id, &self.log.row_at(&placed.tip()))];
        let remembered = remembered(placed.head());
        changed.extend(
            self.producers
                .remembered_row(self.id, head.producer, remembered),
        );
        Ok(Planned::New(Box::new(Plan {
            placed: Some(placed),
            changed,
            acked: Vec::new(),
        })))
    }

    /// Does what was planned, nothing having been staged since.
    pub fn carry_out(&mut self, plan: Plan) -> Change {
        let Plan {
            placed,
            changed,
            acked,
        } = plan;
        let mut change = self.stage(changed);
        if let Some(placed) = placed {
            let head = *placed.head();
            self.producers.remember(head.producer, remembered(&head));
            change.batches.push(placed.appended());
            self.log.append(placed);
            self.staged
                .push_back((change.ticket, Effect::Visible(self.log.end())));
        }
        for (id, consumer) in acked {
            self.consumers.replace(id, consumer);
            // Commits that were heard of while the topic kept still are the planned one's too.
            self.consumers.commit(id, self.committed);
            self.staged.push_back((change.ticket, Effect::Moved(id)));
        }
        change
    }

    fn repeat(&self, known: &Remembered) -> Planned {
        let scheduled = known.base_offset & SCHEDULED != 0;
        let base_offset = known.base_offset & !SCHEDULED;
        let end = base_offset + u64::from(known.count);
        let receipt = Receipt {
            base_offset: if scheduled {
                0
            } else {
                base_offset + u64::from(planted::is(Bug::OffsetOffByOne))
            },
            append_time: known.append_time,
            scheduled,
        };
        let holds = |effect: &Effect| match effect {
            Effect::Visible(to) | Effect::Delivered { to, .. } => !scheduled && to.offset >= end,
            Effect::Scheduled { end: to, .. } => scheduled && *to >= end,
            Effect::Moved(_) | Effect::Trimmed(_) => false,
        };
        let durable = if scheduled {
            self.delayed.durable_end()
        } else {
            self.log.visible().offset
        };
        match self.staged.iter().find(|(_, effect)| holds(effect)) {
            Some((ticket, _)) if end > durable => Planned::Staged(receipt, *ticket),
            _ => Planned::Durable(receipt),
        }
    }

    /// Checks a batch, recognizes a retry, and lets it wait until `time`.
    ///
    /// # Errors
    /// Those of a batch, those of a producer's sequence, `INVALID_DELAY`, `LIMIT_REACHED`: nothing
    /// is done.
    pub fn schedule(&mut self, batch: BytesMut, time: u64, now: u64) -> Result<Schedule, Failure> {
        let head = check_produced(&batch, MAX_BATCH_BYTES, self.max_record_bytes)?;
        if !head.producer.is_none()
            && let Verdict::Retry(known) = self.producers.judge(&head)?
        {
            // Also when the time has come meanwhile: the retry is not late, its answer was lost.
            return Ok(match self.repeat(&known) {
                Planned::Staged(receipt, ticket) => Schedule::Known(receipt, Some(ticket)),
                Planned::Durable(receipt) => Schedule::Known(receipt, None),
                Planned::New(plan) => Schedule::Known(plan.receipt(), None),
            });
        }
        self.delayed.check(time, batch.len(), now)?;
        let placed = self.delayed.place(self.id, batch, &head, now);
        let remembered = Remembered {
            base_offset: placed.head().base_offset | SCHEDULED,
            ..remembered(placed.head())
        };
        let remembered_row = self
            .producers
            .remembered_row(self.id, head.producer, remembered);
        self.producers.remember(head.producer, remembered);
        let rows = self
            .delayed
            .schedule(self.id, time, &placed, self.ticket + 1);
        let change = self.stage(rows.into_iter().chain(remembered_row).collect());
        let effect = Effect::Scheduled {
            records: head.count.into(),
            end: placed.tip().end().offset,
        };
        self.staged.push_back((change.ticket, effect));
        Ok(Schedule::New(Box::new(Scheduled {
            receipt: Receipt {
                base_offset: 0,
                append_time: placed.head().append_time,
                scheduled: true,
            },
            change,
            appended: placed.appended(),
        })))
    }

    /// Gives batches whose time has come their places in the topic; `None` if none of them waits.
    pub fn deliver(&mut self, due: Vec<(Due, BytesMut)>, now: u64) -> Option<Change> {
        let (mut changed, mut batches, mut records) = (Vec::new(), Vec::new(), 0);
        for (due, batch) in due {
            let Some(head) = Head::parse(&batch) else {
                continue;
            };
            let Some((taken, count)) = self.delayed.take(self.id, due) else {
                continue;
            };
            let placed = self.log.place(self.id, batch, &head, now);
            batches.push(placed.appended());
            self.log.append(placed);
            changed.push(taken);
            records += u64::from(count);
        }
        if batches.is_empty() {
            return None;
        }
        changed.push(rows::extent(self.id, &self.log.row()));
        let mut change = self.stage(changed);
        change.batches = batches;
        let to = self.log.end();
        self.staged
            .push_back((change.ticket, Effect::Delivered { records, to }));
        Some(change)
    }
}

/// What is kept of a batch so that its retry is recognized.
fn remembered(head: &Head) -> Remembered {
    Remembered {
        sequence: head.sequence,
        count: head.count,
        crc: head.producer_crc,
        base_offset: head.base_offset,
        append_time: head.append_time,
    }
}

//! Several topics in one transaction: who visits them, and how they keep still meanwhile.
//!
//! ```text
//!  traveller --> topic 3 -----> topic 7 -----> topic 9, the last: submits all jobs at once
//!                 checks,        checks,        checks            |
//!                 reserves       reserves                         |
//!                    ^              ^-------------- go -----------+
//!                    '----------------------------- go -----------'
//!  a check that fails, the deadline, or the traveller's end: drop, and nothing was done
//! ```
//!
//! A topic that has reserved something for a traveller stages nothing else until it is told how that
//! ended, so that offsets, ticket and rows of the job stay true: what would stage waits
//! behind, in order; fetches and sizes go on. Topics are visited in ascending id, so no two travellers ever
//! wait for each other. Only the last topic decides, and a dropped [`Traveller`] says so to all that
//! it has visited: no topic ever decides alone. The request is answered when the last topic hears
//! of the commit; as the storage tells topics in ascending id, all others have heard by then.
//! Its neighbours: a [`journey`](super::journey) leads here, and
//! [`State::plan`](super::state::State::plan) says what a part would change.

use std::collections::VecDeque;

use actix::{AsyncContext, Context, Handler};
use bytes::BytesMut;
use logdrive_protocol::batch::Head;
use logdrive_protocol::operations::{Consumed, Produce, Request, Settled};
use logdrive_protocol::{ErrorCode, Failure};
use tokio::time::Instant;

use super::actor::{Parked, Then, Topic, not_found, storage_failed};
use super::journey::{Errand, Returned, Traveller, Visit, too_late};
use super::messages::Call;
use super::serving::Waiter;
use super::state::{Acks, Change, Plan, Planned};
use crate::limits::{COPY_BATCH_BYTES, MAX_BEHIND_TRAVELLER};
use crate::reply::{ConnectionId, Reply};
use crate::storage::{Job, JobKind};

/// What a topic keeps for a traveller, and what waits meanwhile.
#[derive(Debug, Default)]
pub struct Reserve {
    current: Option<Reserved>,
    behind: VecDeque<Behind>,
    /// How often something was reserved.
    count: u64,
    /// There were new records meanwhile, and not all that wait for them were served.
    serve_again: bool,
}

/// What is done when the traveller returns with go.
#[derive(Debug)]
struct Reserved {
    number: u64,
    /// The last one that it will have used.
    ticket: u64,
    share: Share,
}

/// What one topic will stage for a traveller.
#[derive(Debug, Default)]
struct Share {
    append: Option<Box<Plan>>,
    /// The same as the topic's changes, one ticket after the other.
    changes: Vec<Change>,
}

impl Share {
    /// The last ticket that it uses; there is at least one change.
    fn ticket(&self) -> u64 {
        self.changes.last().map_or(0, |change| change.ticket)
    }
}

/// What must wait until the traveller has returned.
enum Behind {
    Call(Box<Call>),
    Visit(Box<Traveller>),
    Then(Then),
}

impl std::fmt::Debug for Behind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Call(_) => "Call",
            Self::Visit(_) => "Visit",
            Self::Then(_) => "Then",
        })
    }
}

impl Reserve {
    /// What waits is told that the topic is gone.
    pub(super) fn fail_all(&mut self, failure: &Failure) {
        self.current = None;
        for behind in self.behind.drain(..) {
            match behind {
                Behind::Call(call) => call.reply.fail(failure.clone()),
                Behind::Visit(traveller) => traveller.fail(failure.clone()),
                Behind::Then(_) => {}
            }
        }
    }

    fn is_full(&self) -> bool {
        self.behind.len() >= MAX_BEHIND_TRAVELLER
    }

    fn fail_late(&mut self) {
        let is_late = |it: &Behind| matches!(it, Behind::Visit(traveller) if traveller.is_late());
        let (late, others) = self.behind.drain(..).partition(is_late);
        self.behind = others;
        let late: VecDeque<Behind> = late;
        for behind in late {
            if let Behind::Visit(traveller) = behind {
                traveller.fail(too_late());
            }
        }
    }
}

/// Whether a request stages nothing, so that it need not wait for a traveller.
fn only_reads(request: &Request) -> bool {
    matches!(
        request,
        Request::Fetch(_)
            | Request::Size(_)
            | Request::DescribeTopic(_)
            | Request::DescribeConsumer(_)
            | Request::Stats(_)
    )
}

/// What one topic makes of its errand.
enum Prepared {
    /// To be staged with all others.
    New(Share),
    /// It is on its way to the disk, under this ticket.
    Staged(u64),
    /// It is there.
    Durable,
}

impl Topic {
    /// Whether nothing may be staged now, because a traveller relies on it.
    pub(super) fn keeps_still(&self) -> bool {
        self.reserve.current.is_some()
    }

    /// Lets something happen that stages: now, or when the topic may go on.
    pub(super) fn when_free(&mut self, then: Then, ctx: &mut Context<Self>) {
        if self.keeps_still() {
            self.reserve.behind.push_back(Behind::Then(then));
        } else {
            then(self, ctx);
        }
    }

    /// Takes a request that must wait; gives back one that need not.
    pub(super) fn wait_behind(&mut self, call: Call) -> Option<Call> {
        if !self.keeps_still() || only_reads(&call.request) {
            return Some(call);
        }
        if self.reserve.is_full() {
            let message = format!("{MAX_BEHIND_TRAVELLER} requests wait for a transaction to end");
            let failure = Failure::new(ErrorCode::Unavailable, message);
            call.reply.fail(failure.hint("nothing was done; retry"));
        } else {
            self.reserve.behind.push_back(Behind::Call(Box::new(call)));
        }
        None
    }

    /// The waiting requests that may be served now; the others are served when the topic goes on.
    pub(super) fn servable(&mut self) -> Vec<Waiter> {
        if !self.keeps_still() {
            return self.waiting.take_all();
        }
        self.reserve.serve_again = true;
        let is_fetch = |waiter: &Waiter| matches!(waiter, Waiter::Fetch(..));
        self.waiting.take_if(is_fetch)
    }

    fn visited(&mut self, mut traveller: Box<Traveller>, ctx: &mut Context<Self>) {
        if self.keeps_still() {
            if self.reserve.is_full() {
                return traveller.fail(too_late());
            }
            let left = traveller.until.saturating_duration_since(Instant::now());
            ctx.run_later(left, |topic, _| topic.reserve.fail_late());
            return self.reserve.behind.push_back(Behind::Visit(traveller));
        }
        if traveller.is_late() {
            return traveller.fail(too_late());
        }
        let Some(stop) = traveller.stops.pop_front() else {
            return;
        };
        match self.prepare(stop.errand, &mut traveller) {
            Ok(Prepared::New(share)) if traveller.stops.is_empty() => {
                self.decide(share, traveller, ctx);
            }
            Ok(Prepared::New(share)) => {
                self.reserve_for(share, &mut traveller, ctx);
                traveller.travel();
            }
            Ok(Prepared::Staged(ticket)) => self.park(ticket, Parked::Traveller(traveller)),
            Ok(Prepared::Durable) => traveller.travel(),
            Err((id, failure)) => match traveller.reply.take() {
                Some(reply) => self.refuse(id, failure, reply),
                None => drop(traveller),
            },
        }
    }

    /// Checks everything; an error comes with the id that it is about.
    fn prepare(
        &mut self,
        errand: Errand,
        traveller: &mut Traveller,
    ) -> Result<Prepared, (u64, Failure)> {
        let refused = |failure| (0, failure);
        if self.state.is_unborn() {
            return Err(refused(not_found(self.state.id)));
        }
        self.check_room().map_err(refused)?;
        let generation = self.generation();
        if *traveller.generation.get_or_insert(generation) != generation {
            return Err(refused(storage_failed()));
        }
        let mut prepared = match traveller.known {
            Some(true) => Prepared::Durable,
            _ => Prepared::New(Share::default()),
        };
        let ticket = self.state.last_ticket() + 1;
        if let Some((index, batch)) = errand.part {
            let mut batch = batch.into_mut();
            if batch.len() < COPY_BATCH_BYTES {
                batch = BytesMut::from(&batch[..]);
            }
            let producer = Head::parse(&batch).map_or(0, |it| it.producer.0);
            let now = self.clock.now();
            let by = traveller.reply.as_ref().map(Reply::connection);
            let planned = if by == Some(ConnectionId::BROKER) {
                self.state.plan_dead_letters(batch, now)
            } else {
                self.state.plan(batch, now)
            };
            let planned = planned.map_err(|failure| {
                let message = format!("topic {}: {}", self.state.id, failure.message);
                (producer, Failure { message, ..failure })
            })?;
            // Dead letters that find no room come again, as long as their records are kept.
            if matches!(planned, Planned::New(_)) {
                self.check_quota().map_err(refused)?;
            }
            let (receipt, found) = match planned {
                Planned::New(plan) => {
                    let (receipt, changes) = (plan.receipt(), vec![plan.change(ticket)]);
                    let append = Some(plan);
                    (receipt, Prepared::New(Share { append, changes }))
                }
                Planned::Staged(receipt, ticket) => (receipt, Prepared::Staged(ticket)),
                Planned::Durable(receipt) => (receipt, Prepared::Durable),
            };
            prepared = found;
            let known = !matches!(prepared, Prepared::New(_));
            traveller.agree(known, self.state.id).map_err(refused)?;
            if let Some(refused) = traveller.unless_known.take_if(|_| !known) {
                return Err(refused);
            }
            if let Some(place) = traveller.produced.get_mut(index) {
                *place = receipt.produced(Produce::SYNCED);
            }
        }
        // What was acked together with a batch that is stored already is acked.
        if let Prepared::New(share) = &mut prepared
            && !errand.consumed.is_empty()
        {
            let planned = self.plan_acks(&errand.consumed, share, traveller);
            if let Err(refused) = planned {
                // A retry's leases are settled, so they are no reason against it.
                if !traveller.will_know() {
                    return Err(refused);
                }
                traveller.unless_known.get_or_insert(refused);
                prepared = Prepared::Durable;
            }
        }
        Ok(prepared)
    }

    /// Adds to a share what acking changes. Nothing changes by it: the same is done when the share
    /// is [carried out](Self::carry_out).
    fn plan_acks(
        &mut self,
        consumed: &[Consumed],
        share: &mut Share,
        traveller: &mut Traveller,
    ) -> Result<(), (u64, Failure)> {
        let by = traveller.reply.as_ref().map(Reply::connection);
        let acks = if by == Some(ConnectionId::BROKER) {
            Acks::OfDeadLetters
        } else if traveller.produced.is_empty() {
            Acks::Alone
        } else {
            Acks::WithBatches
        };
        let mut plan = share.append.take().unwrap_or_default();
        for consumed in consumed {
            let (id, worker) = (consumed.consumer, consumed.worker);
            if let Some(connection) = by.filter(|_| acks != Acks::OfDeadLetters) {
                for Settled { lease, .. } in &consumed.settled {
                    self.state.consumers.heard(id, worker, *lease, connection);
                }
            }
            let planned = self.state.plan_ack(&mut plan, consumed, acks);
            traveller.acked += planned.map_err(|failure| {
                let message = format!("topic {}: {}", self.state.id, failure.message);
                (id.0, Failure { message, ..failure })
            })?;
        }
        share.changes = vec![plan.change(self.state.last_ticket() + 1)];
        share.append = Some(plan);
        Ok(())
    }

    /// Keeps still until the traveller returns.
    fn reserve_for(&mut self, mut share: Share, traveller: &mut Traveller, ctx: &Context<Self>) {
        self.reserve.count += 1;
        let (number, ticket) = (self.reserve.count, share.ticket());
        traveller.jobs.extend(self.jobs_of(&mut share));
        traveller.reserved.push((ctx.address(), number));
        self.reserve.current = Some(Reserved {
            number,
            ticket,
            share,
        });
    }

    fn jobs_of(&self, share: &mut Share) -> Vec<Job> {
        let changes = std::mem::take(&mut share.changes).into_iter();
        changes
            .filter_map(|change| self.job(change, JobKind::Change))
            .collect()
    }

    /// Every topic has agreed: all jobs go to the storage at once.
    fn decide(&mut self, mut share: Share, mut traveller: Box<Traveller>, ctx: &mut Context<Self>) {
        let ticket = share.ticket();
        let mut jobs = std::mem::take(&mut traveller.jobs);
        jobs.extend(self.jobs_of(&mut share));
        self.carry_out(share, ctx);
        let answer = traveller.answer();
        if let Some(reply) = traveller.reply.take() {
            self.park(ticket, Parked::Answer(reply, answer));
        }
        // Before the others go on: what they submit next must come after it.
        self.around.storage.submit_together(jobs);
        for (topic, number) in traveller.reserved.drain(..) {
            topic.do_send(Returned { number, go: true });
        }
        self.serve_takers(ctx);
    }

    /// Does what the share's jobs say; they are on their way to the storage.
    fn carry_out(&mut self, share: Share, ctx: &mut Context<Self>) {
        if let Some(plan) = share.append {
            let before = self.state.log.tail_bytes();
            let consumers: Vec<_> = plan.consumers().collect();
            let change = self.state.carry_out(*plan);
            self.around
                .budget
                .count_tail(before, self.state.log.tail_bytes());
            self.counts.batches += change.batches.len() as u64;
            // What they may have now, they are given when the topic goes on.
            for id in consumers {
                let wake = move |topic: &mut Self, (), ctx: &mut _| topic.wake(id, ctx);
                Self::spawn_then(ctx, std::future::ready(()), wake);
            }
        }
    }

    /// A commit may be heard of before the traveller's return: then it says the same.
    pub(super) fn committed_meanwhile(&mut self, ticket: u64, ctx: &mut Context<Self>) {
        if let Some(reserved) = self.reserve.current.take_if(|it| it.ticket <= ticket) {
            self.carry_out(reserved.share, ctx);
            self.go_on(ctx);
        }
    }

    /// A write failed: what was reserved is void, whatever the traveller says.
    pub(super) fn failed_meanwhile(&mut self, ctx: &mut Context<Self>) {
        self.reserve.current = None;
        self.reserve.serve_again = false;
        self.go_on(ctx);
    }

    /// Goes on with what has waited, up to the next traveller.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        if std::mem::take(&mut self.reserve.serve_again) {
            self.serve_waiting(ctx);
        }
        while !self.keeps_still() {
            match self.reserve.behind.pop_front() {
                Some(Behind::Call(call)) => self.take_call(*call, ctx),
                Some(Behind::Visit(traveller)) => self.visited(traveller, ctx),
                Some(Behind::Then(then)) => then(self, ctx),
                None => return,
            }
        }
    }
}

impl Handler<Visit> for Topic {
    type Result = ();

    fn handle(&mut self, Visit(traveller): Visit, ctx: &mut Context<Self>) {
        self.visited(traveller, ctx);
    }
}

impl Handler<Returned> for Topic {
    type Result = ();

    fn handle(&mut self, Returned { number, go }: Returned, ctx: &mut Context<Self>) {
        let is_meant = |it: &mut Reserved| it.number == number;
        if let Some(reserved) = self.reserve.current.take_if(is_meant) {
            if go {
                self.carry_out(reserved.share, ctx);
                self.serve_takers(ctx);
            }
            self.go_on(ctx);
        }
    }
}

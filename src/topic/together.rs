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
//! [behind](Behind), in order; fetches and sizes go on. Topics are visited in ascending id, so no two travellers ever
//! wait for each other. Only the last topic decides, and a dropped [`Traveller`] says so to all that
//! it has visited: no topic ever decides alone. The request is answered when the last topic hears
//! of the commit; as the storage tells topics in ascending id, all others have heard by then.
//! Its neighbours: connections and the broker let a [`Journey`] [depart](Journey::depart);
//! [`State::plan`](super::state::State::plan) says what a part would change.

use std::collections::{BTreeMap, VecDeque};

use actix::{Addr, AsyncContext, Context, Handler, Message};
use bytes::BytesMut;
use logdrive_protocol::batch::Head;
use logdrive_protocol::limits::MAX_PARTS;
use logdrive_protocol::operations::{
    Answer, Consumed, Part, Payload, Produce, ProduceAll, Produced, ProducedAll, Request,
};
use logdrive_protocol::{ErrorCode, Failure, TopicId};
use tokio::time::Instant;

use super::actor::{Call, Parked, Then, Topic, not_found, storage_failed};
use super::requests::unsupported;
use super::serving::Waiter;
use super::state::{Plan, Planned};
use crate::limits::{COPY_BATCH_BYTES, MAX_BEHIND_TRAVELLER, TRAVEL_WAIT};
use crate::reply::Reply;
use crate::storage::{Job, JobKind};

/// What a request asks of each topic, by ascending id.
#[derive(Debug)]
pub struct Journey {
    errands: BTreeMap<TopicId, Errand>,
    parts: usize,
}

/// What is to be done in one topic.
#[derive(Debug, Default)]
struct Errand {
    /// A batch to append, and which part of the request it is.
    part: Option<(usize, Payload)>,
    /// Records to ack.
    consumed: Vec<Consumed>,
}

impl Journey {
    /// Sorts a request by topic.
    ///
    /// # Errors
    /// `INVALID_PARTS`, `LIMIT_REACHED`.
    pub fn of(request: ProduceAll) -> Result<Self, Failure> {
        let ProduceAll { parts, consumed } = request;
        if parts.is_empty() && consumed.is_empty() {
            return Err(invalid("the request has no parts", "name what to produce"));
        }
        if parts.len() > MAX_PARTS || consumed.len() > MAX_PARTS {
            let message = format!(
                "{} parts and {} consumers are over the limit of {MAX_PARTS} each",
                parts.len(),
                consumed.len()
            );
            return Err(Failure::new(ErrorCode::LimitReached, message)
                .numbers(MAX_PARTS as u64, 0)
                .hint("name fewer topics; one batch may hold many records"));
        }
        let mut journey = Self {
            errands: BTreeMap::new(),
            parts: parts.len(),
        };
        let mut registered = None;
        for (index, Part { topic, batch }) in parts.into_iter().enumerate() {
            let producer = Head::parse(batch.as_slice()).is_some_and(|it| !it.producer.is_none());
            if *registered.get_or_insert(producer) != producer {
                return Err(invalid(
                    "some parts are of registered producers, others of none: a retry could not be \
                     recognized",
                    "register a producer for each topic, or for none",
                ));
            }
            let errand = journey.errands.entry(topic).or_default();
            if errand.part.replace((index, batch)).is_some() {
                return Err(invalid(
                    format!("topic {topic} stands in two parts"),
                    "put the records of a topic into one batch",
                ));
            }
        }
        for consumed in consumed {
            let errand = journey.errands.entry(consumed.topic).or_default();
            errand.consumed.push(consumed);
        }
        Ok(journey)
    }

    /// The topics that are visited.
    pub fn topics(&self) -> impl Iterator<Item = TopicId> {
        self.errands.keys().copied()
    }

    /// Sets out; `address` says where a topic lives.
    pub fn depart(self, address: impl Fn(TopicId) -> Option<Addr<Topic>>, reply: Reply) {
        let mut stops = VecDeque::new();
        for (topic, errand) in self.errands {
            match address(topic) {
                Some(address) => stops.push_back(Stop {
                    topic,
                    address,
                    errand,
                }),
                None => return reply.fail(not_found(topic)),
            }
        }
        let traveller = Traveller {
            reply: Some(reply),
            stops,
            reserved: Vec::new(),
            jobs: Vec::new(),
            produced: vec![Produced::default(); self.parts],
            known: None,
            generation: None,
            until: Instant::now() + TRAVEL_WAIT,
        };
        Box::new(traveller).travel();
    }
}

fn invalid(message: impl Into<String>, hint: &str) -> Failure {
    Failure::new(ErrorCode::InvalidParts, message).hint(hint)
}

/// A topic that is still to be visited.
#[derive(Debug)]
struct Stop {
    topic: TopicId,
    address: Addr<Topic>,
    errand: Errand,
}

/// A request on its way through its topics; dropping it lets those that it has visited go on as if
/// it had never come.
#[derive(Debug)]
pub struct Traveller {
    reply: Option<Reply>,
    stops: VecDeque<Stop>,
    /// Who keeps still for it, and under which number.
    reserved: Vec<(Addr<Topic>, u64)>,
    /// What they will have staged.
    jobs: Vec<Job>,
    /// Where each part goes.
    produced: Vec<Produced>,
    /// Whether the parts are a retry; the first one says it for all.
    known: Option<bool>,
    /// The storage's generation, which must be the same for all jobs: else some would be refused.
    generation: Option<u64>,
    /// Its deadline, up to the decision.
    until: Instant,
}

impl Traveller {
    /// Goes to the next topic, or is answered where there is none.
    pub(super) fn travel(mut self: Box<Self>) {
        let Some(stop) = self.stops.front() else {
            return self.arrive();
        };
        if stop.address.connected() {
            let address = stop.address.clone();
            address.do_send(Visit(self));
        } else {
            let gone = not_found(stop.topic);
            self.fail(gone);
        }
    }

    /// All parts were stored before: nothing is staged, and what is reserved is given up.
    fn arrive(&mut self) {
        let answer = self.answer();
        if let Some(reply) = self.reply.take() {
            reply.answer(answer);
        }
    }

    fn answer(&mut self) -> Answer {
        Answer::ProduceAll(ProducedAll {
            parts: std::mem::take(&mut self.produced),
            acked: 0,
        })
    }

    fn fail(mut self: Box<Self>, failure: Failure) {
        if let Some(reply) = self.reply.take() {
            reply.fail(failure);
        }
    }

    fn is_late(&self) -> bool {
        self.until <= Instant::now()
    }

    /// Whether all parts so far are retries, or none is.
    fn agree(&mut self, known: bool, topic: TopicId) -> Result<(), Failure> {
        if *self.known.get_or_insert(known) == known {
            return Ok(());
        }
        let (this, others) = if known {
            ("is stored already", "are new")
        } else {
            ("is new", "are stored already")
        };
        let message = format!("the part of topic {topic} {this}, and those before it {others}");
        Err(Failure::new(ErrorCode::PartlyStored, message)
            .hint("retry with the same parts, or produce each of them by itself"))
    }
}

impl Drop for Traveller {
    fn drop(&mut self) {
        for (topic, number) in self.reserved.drain(..) {
            topic.do_send(Returned { number, go: false });
        }
    }
}

/// A traveller comes to a topic.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Visit(Box<Traveller>);

/// How it ended, for a topic that has reserved something.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Returned {
    /// The topic's number of what it has reserved.
    number: u64,
    /// Whether the job was submitted.
    go: bool,
}

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
    ticket: u64,
    plan: Option<Box<Plan>>,
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

fn too_late() -> Failure {
    let message = format!("the topics were busy with other requests for {TRAVEL_WAIT:?}");
    Failure::new(ErrorCode::Unavailable, message).hint("nothing was done; retry")
}

/// Whether a request stages nothing, so that it need not wait for a traveller.
fn only_reads(request: &Request) -> bool {
    matches!(
        request,
        Request::Fetch(_) | Request::Size(_) | Request::DescribeTopic(_) | Request::Stats(_)
    )
}

/// What one topic makes of its errand.
enum Prepared {
    /// To be staged with all others.
    New(Option<Box<Plan>>),
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
            Ok(Prepared::New(plan)) if traveller.stops.is_empty() => {
                self.decide(plan, traveller, ctx);
            }
            Ok(Prepared::New(plan)) => {
                self.reserve_for(plan, &mut traveller, ctx);
                traveller.travel();
            }
            Ok(Prepared::Staged(ticket)) => self.park(ticket, Parked::Traveller(traveller)),
            Ok(Prepared::Durable) => traveller.travel(),
            Err((producer, failure)) => match traveller.reply.take() {
                Some(reply) => self.refuse(producer, failure, reply),
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
            _ => Prepared::New(None),
        };
        if let Some((index, batch)) = errand.part {
            let mut batch = batch.into_mut();
            if batch.len() < COPY_BATCH_BYTES {
                batch = BytesMut::from(&batch[..]);
            }
            let producer = Head::parse(&batch).map_or(0, |it| it.producer.0);
            let now = self.clock.now();
            let planned = self.state.plan(batch, now).map_err(|failure| {
                let message = format!("topic {}: {}", self.state.id, failure.message);
                (producer, Failure { message, ..failure })
            })?;
            let (receipt, found) = match planned {
                Planned::New(plan) => (plan.receipt(), Prepared::New(Some(plan))),
                Planned::Staged(receipt, ticket) => (receipt, Prepared::Staged(ticket)),
                Planned::Durable(receipt) => (receipt, Prepared::Durable),
            };
            prepared = found;
            let known = !matches!(prepared, Prepared::New(_));
            traveller.agree(known, self.state.id).map_err(refused)?;
            if let Some(place) = traveller.produced.get_mut(index) {
                *place = receipt.produced(Produce::SYNCED);
            }
        }
        // What was acked together with a batch that is stored already is acked.
        if !errand.consumed.is_empty() && traveller.known != Some(true) {
            return Err(refused(unsupported(
                "records are not acked within a transaction in this version",
            )));
        }
        Ok(prepared)
    }

    /// Keeps still until the traveller returns.
    fn reserve_for(
        &mut self,
        plan: Option<Box<Plan>>,
        traveller: &mut Traveller,
        ctx: &Context<Self>,
    ) {
        self.reserve.count += 1;
        let number = self.reserve.count;
        let ticket = self.state.last_ticket() + 1;
        if let Some(plan) = &plan {
            traveller
                .jobs
                .extend(self.job(plan.change(ticket), JobKind::Change));
        }
        traveller.reserved.push((ctx.address(), number));
        self.reserve.current = Some(Reserved {
            number,
            ticket,
            plan,
        });
    }

    /// Every topic has agreed: all jobs go to the storage at once.
    fn decide(
        &mut self,
        plan: Option<Box<Plan>>,
        mut traveller: Box<Traveller>,
        ctx: &mut Context<Self>,
    ) {
        let ticket = self.state.last_ticket() + 1;
        let mut jobs = std::mem::take(&mut traveller.jobs);
        if let Some(plan) = &plan {
            jobs.extend(self.job(plan.change(ticket), JobKind::Change));
        }
        self.carry_out(plan);
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

    fn carry_out(&mut self, plan: Option<Box<Plan>>) {
        if let Some(plan) = plan {
            let before = self.state.log.tail_bytes();
            self.state.carry_out(*plan);
            self.around
                .budget
                .count_tail(before, self.state.log.tail_bytes());
            self.counts.batches += 1;
        }
    }

    /// A commit may be heard of before the traveller's return: then it says the same.
    pub(super) fn committed_meanwhile(&mut self, ticket: u64, ctx: &mut Context<Self>) {
        if let Some(reserved) = self.reserve.current.take_if(|it| it.ticket <= ticket) {
            self.carry_out(reserved.plan);
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

impl Traveller {
    /// It waits for something that is on its way to the disk.
    pub(super) fn staged(&mut self) {
        if let Some(reply) = &mut self.reply {
            reply.staged();
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
                self.carry_out(reserved.plan);
                self.serve_takers(ctx);
            }
            self.go_on(ctx);
        }
    }
}

//! The actor around a topic's state: translates messages, parks replies, hears of commits.
//!
//! Owns the order of requests and who waits for which ticket. It decides nothing about records:
//! that is [`State`]'s. Nothing is answered as durable before `Committed` names its ticket, and
//! nothing is staged behind a delete. Its neighbours: connections and the broker send [`Call`]s,
//! the storage thread sends notices; requests are carried out in `requests`,
//! records are given in [`serving`](super::serving).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, Recipient, SpawnHandle};
use logdrive_protocol::operations::{Answer, Counter, Fetch, TopicSummary};
use logdrive_protocol::{ConsumerId, ErrorCode, Failure, TopicId};
use tokio::time::Instant;

use super::consuming::Line;
use super::due::Watch;
use super::giving_up::GivingUp;
use super::journey::Traveller;
use super::messages::{Call, Gone, Summarize, Told};
use super::serving::Waiter;
use super::state::{Change, State};
use super::together::Reserve;
use super::trimming::Retaining;
use super::waiting::Waiting;
use crate::account::Account;
use crate::clock::Clock;
use crate::limits::TAIL_IDLE;
use crate::pool::Pool;
use crate::reply::Reply;
use crate::storage::{Announce, Condition, Handle, Job, JobKind, Notice};
use crate::window::{Budget, Permit};

/// What all topics share.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where changes go.
    pub storage: Handle,
    /// Where cold reads run.
    pub pool: Pool,
    /// What says the time.
    pub clock: Clock,
    /// What tails are counted against.
    pub budget: Arc<Budget>,
    /// Who maps names and ids.
    pub broker: Recipient<Told>,
    /// The account of who created the topic, if somebody was logged in.
    pub account: Option<Arc<Account>>,
}

/// A notice of the storage thread.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Noted(Notice);

/// Goes on in the topic with what was done beside it.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Proceed(pub(super) Then);

/// The rest of a piece of work, which needs the topic.
pub(super) type Then = Box<dyn FnOnce(&mut Topic, &mut Context<Topic>) + Send>;

/// What is answered or given back when a ticket is durable.
#[derive(Debug)]
pub enum Parked {
    /// An answer.
    Answer(Reply, Answer),
    /// An accepted batch has only its permit left.
    Accepted(Option<Permit>),
    /// Something to be told to the broker.
    Told(Told),
    /// A retry in several topics, which goes on to the next one.
    Traveller(Box<Traveller>),
    /// A fetch of what is being removed: it is told of the gap when that is durable.
    Fetch(Fetch, Option<Instant>, Reply),
}

impl Parked {
    /// Answers who waits for it; the rest is void.
    fn fail(self, failure: Failure) {
        match self {
            Self::Answer(reply, _) | Self::Fetch(_, _, reply) => reply.fail(failure),
            Self::Traveller(traveller) => traveller.fail(failure),
            Self::Accepted(_) | Self::Told(_) => {}
        }
    }
}

/// What the topic has done since the broker started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Batches appended.
    pub batches: u64,
    /// Batches recognized as retries.
    pub retries: u64,
    /// Records given to fetches.
    pub fetched: u64,
    /// Records given to consumers.
    pub consumed: u64,
    /// Reads that went to the disk.
    pub cold_reads: u64,
}

/// One topic.
#[derive(Debug)]
pub struct Topic {
    pub(super) state: State,
    pub(super) around: Surroundings,
    pub(super) clock: Clock,
    pub(super) counts: Counts,
    /// Requests of each consumer that change its cursor, in order.
    pub(super) lines: BTreeMap<ConsumerId, Line>,
    pub(super) waiting: Waiting<Waiter>,
    pub(super) reserve: Reserve,
    pub(super) due: Watch,
    pub(super) retaining: Retaining,
    generation: u64,
    /// A write failed and the store has not recovered.
    failed: bool,
    /// Whether the topic's creation is durable.
    born: bool,
    /// The ticket of the topic's deletion, once it is staged.
    dying: Option<u64>,
    /// What came in behind the deletion.
    behind: Vec<Call>,
    parked: VecDeque<(u64, Parked)>,
    timer: Option<(Instant, SpawnHandle)>,
    /// When leases are looked at next, by the topic's clock.
    pub(super) lease_timer: Option<(u64, SpawnHandle)>,
    /// Consumers that give records up at this moment, and how long they wait if that fails.
    pub(super) giving_up: HashMap<ConsumerId, GivingUp>,
    /// What each consumer found that it cannot read.
    pub(super) damaged: HashMap<ConsumerId, Range<u64>>,
    tail_timer: Option<SpawnHandle>,
    announce: Option<Announce>,
    /// Jobs that go to the storage together, while they gather.
    held: Option<Vec<Job>>,
    /// Bytes of it that are counted in its owner's account.
    counted: u64,
}

impl Topic {
    /// A topic as it was stored.
    pub fn stored(state: State, generation: u64, around: Surroundings) -> Self {
        Self {
            born: true,
            ..Self::newborn(state, generation, around)
        }
    }

    /// A topic that its first change will create.
    pub fn newborn(state: State, generation: u64, around: Surroundings) -> Self {
        Self {
            state,
            clock: around.clock.clone(),
            around,
            counts: Counts::default(),
            lines: BTreeMap::new(),
            waiting: Waiting::default(),
            reserve: Reserve::default(),
            due: Watch::default(),
            retaining: Retaining::default(),
            generation,
            failed: false,
            born: false,
            dying: None,
            behind: Vec::new(),
            parked: VecDeque::new(),
            timer: None,
            lease_timer: None,
            giving_up: HashMap::new(),
            damaged: HashMap::new(),
            tail_timer: None,
            announce: None,
            held: None,
            counted: 0,
        }
    }

    /// Counts what the topic keeps in its owner's account.
    fn count_stored(&mut self) {
        if let Some(account) = &self.around.account {
            let kept = self.state.kept_bytes();
            account.count_stored(self.counted, kept);
            self.counted = kept;
        }
    }

    /// Refuses what would be stored beyond the quota of who created the topic.
    pub(super) fn check_quota(&self) -> Result<(), Failure> {
        match &self.around.account {
            Some(account) => account.check_stored(),
            None => Ok(()),
        }
    }

    /// Whether the topic's creation is durable.
    pub(super) fn is_born(&self) -> bool {
        self.born
    }

    /// The storage's generation that this state belongs to.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Carries a request out, unless it must wait for the topic's end.
    pub(super) fn take_call(&mut self, call: Call, ctx: &mut Context<Self>) {
        if self.dying.is_some() {
            self.behind.push(call);
        } else {
            self.request(call, ctx);
        }
    }

    /// Refuses what would commit while nothing can be written.
    ///
    /// Nothing may be staged behind a delete either: what was read meanwhile is not taken.
    pub(super) fn check_writable(&self) -> Result<(), Failure> {
        if self.dying.is_some() {
            let failure = Failure::new(ErrorCode::Unavailable, "the topic is being deleted");
            return Err(failure.hint("retry: it is gone, or it stays"));
        }
        if self.failed || self.around.storage.health().condition() == Condition::Failed {
            return Err(storage_failed());
        }
        Ok(())
    }

    /// Refuses what would take space while there is little, or while nothing can be written.
    pub(super) fn check_room(&self) -> Result<(), Failure> {
        self.check_writable()?;
        check_space(&self.around.storage)
    }

    /// A change as the storage is given it.
    pub(super) fn job(&self, change: Change, kind: JobKind) -> Option<Job> {
        Some(Job {
            topic: self.state.id,
            generation: self.generation,
            ticket: change.ticket,
            batches: change.batches,
            rows: change.rows,
            announce: self.announce.clone()?,
            kind,
        })
    }

    /// Hands a change to the storage.
    pub(super) fn submit(&mut self, change: Change, kind: JobKind) {
        if let Some(job) = self.job(change, kind) {
            self.submit_job(job);
        }
    }

    /// Hands a job to the storage, or lets it gather with others.
    pub(super) fn submit_job(&mut self, job: Job) {
        self.count_stored();
        match &mut self.held {
            Some(jobs) => jobs.push(job),
            None => self.around.storage.submit(job),
        }
    }

    /// Hands all changes that `stage` makes to the storage at once: one sync is theirs.
    pub(super) fn submit_together(&mut self, stage: impl FnOnce(&mut Self)) {
        self.held = Some(Vec::new());
        stage(self);
        if let Some(jobs) = self.held.take().filter(|jobs| !jobs.is_empty()) {
            self.around.storage.submit_together(jobs);
        }
    }

    /// Lets something happen when `ticket` is durable. Tickets may come out of order only for
    /// retries, which find their place.
    pub(super) fn park(&mut self, ticket: u64, mut parked: Parked) {
        debug_assert!(
            !self.failed,
            "no commit is heard of before the store has recovered"
        );
        match &mut parked {
            Parked::Answer(reply, _) => reply.staged(),
            Parked::Traveller(traveller) => traveller.staged(),
            Parked::Accepted(_) | Parked::Told(_) | Parked::Fetch(..) => {}
        }
        let at = self.parked.partition_point(|(other, _)| *other <= ticket);
        self.parked.insert(at, (ticket, parked));
    }

    /// Lets something happen when all that others have staged is durable.
    ///
    /// What was staged before a write failed is never heard of again: who waited for it would be
    /// woken by a later commit, which says nothing about it.
    pub(super) fn park_behind(&mut self, parked: Parked) {
        if self.failed {
            parked.fail(storage_failed());
        } else {
            self.park(self.state.last_ticket(), parked);
        }
    }

    /// Stages a change whose answer hangs on its commit.
    pub(super) fn commit_then(&mut self, change: Change, reply: Reply, answer: Answer) {
        self.park(change.ticket, Parked::Answer(reply, answer));
        self.submit(change, JobKind::Change);
    }

    /// Answers when `ticket` is durable.
    pub(super) fn park_answer(&mut self, ticket: u64, reply: Reply, answer: Answer) {
        self.park(ticket, Parked::Answer(reply, answer));
    }

    pub(super) fn delete(&mut self, reply: Reply, answer: Answer) {
        let change = self.state.stage(Vec::new());
        self.dying = Some(change.ticket);
        // The broker is told first: who was answered finds the name free.
        self.park(change.ticket, Parked::Told(Told::Died(self.state.id)));
        self.park(change.ticket, Parked::Answer(reply, answer));
        let delay_log = self.state.delayed.is_stored();
        let delay_log =
            delay_log.then(|| self.to_delay_log(change.ticket, Vec::new(), JobKind::Delete));
        self.submit_together(|topic| {
            if let Some(job) = delay_log {
                topic.submit_job(job);
            }
            topic.submit(change, JobKind::Delete);
        });
    }

    fn committed(&mut self, ticket: u64, ctx: &mut Context<Self>) {
        if !self.born {
            self.born = true;
            self.around.broker.do_send(Told::Born(self.state.id));
        }
        let more = self.state.commit(ticket);
        self.count_stored();
        while let Some((_, parked)) = self.parked.pop_front_if(|(parked, _)| *parked <= ticket) {
            match parked {
                Parked::Answer(reply, answer) => reply.answer(self.up_to_date(answer)),
                Parked::Accepted(permit) => drop(permit),
                Parked::Told(told) => self.around.broker.do_send(told),
                Parked::Traveller(traveller) => traveller.travel(),
                Parked::Fetch(fetch, until, reply) => self.fetch(&fetch, until, reply, ctx),
            }
        }
        if self.dying.is_some_and(|dying| dying <= ticket) {
            self.died(ctx);
            return;
        }
        self.limit_tail(self.around.budget.tail_limit());
        // What waits when the topic is being deleted is told so when that is durable.
        if more && self.dying.is_none() {
            self.serve_waiting(ctx);
            self.watch_tail(ctx);
        }
        if self.dying.is_none() {
            self.watch_due(ctx);
        }
        if self.dying.is_none() && (more || self.state.retention().is_until_consumed()) {
            self.consider_retention(ctx);
        }
    }

    /// An answer with records says how far the topic goes now, not when they were read.
    fn up_to_date(&self, mut answer: Answer) -> Answer {
        if let Answer::Consume(delivered) = &mut answer {
            delivered.high_watermark = self.state.log.visible().offset;
        }
        answer
    }

    fn died(&mut self, ctx: &mut Context<Self>) {
        let gone = not_found(self.state.id);
        for waiter in self.waiting.take_all() {
            waiter.into_reply().fail(gone.clone());
        }
        for line in std::mem::take(&mut self.lines).into_values() {
            line.fail_all(&gone);
        }
        self.reserve.fail_all(&gone);
        for call in self.behind.drain(..) {
            call.reply.fail(gone.clone());
        }
        if let Some(account) = self.around.account.take() {
            account.count_stored(self.counted, 0);
        }
        ctx.stop();
    }

    fn failed(&mut self, generation: u64) {
        self.generation = generation;
        self.failed = true;
        self.dying = None;
        let before = self.state.log.tail_bytes();
        self.state.log.drop_staged();
        self.around
            .budget
            .count_tail(before, self.state.log.tail_bytes());
        // Dropping a reply that was staged answers OUTCOME_UNKNOWN.
        self.parked.clear();
        for call in self.behind.drain(..) {
            call.reply.fail(storage_failed());
        }
    }

    fn reloaded(
        &mut self,
        generation: u64,
        rows: Option<&[(Vec<u8>, Vec<u8>)]>,
        ctx: &mut Context<Self>,
    ) {
        self.generation = generation;
        let Some(rows) = rows else {
            self.around.broker.do_send(Told::Died(self.state.id));
            return self.died(ctx);
        };
        match State::load(self.state.id, rows) {
            Ok(state) => {
                let tail = self.state.log.tail_bytes();
                self.around.budget.count_tail(tail, 0);
                self.state = state.succeeding(&self.state);
                self.count_stored();
                self.failed = false;
                self.born = true;
                self.around.broker.do_send(Told::Born(self.state.id));
                self.tell_registered();
                self.begin_leases(ctx);
                self.serve_waiting(ctx);
                self.serve_all_lines(ctx);
                self.watch_due(ctx);
                self.consider_retention(ctx);
            }
            Err(error) => {
                tracing::error!(topic = %self.state.id, %error, "cannot take up a topic again");
            }
        }
    }

    fn tell_registered(&self) {
        let producers = self.state.producers.ids().map(|id| id.0);
        let ids = producers
            .chain(self.state.consumers.ids().map(|id| id.0))
            .collect();
        self.around
            .broker
            .do_send(Told::Registered(self.state.id, ids));
    }

    /// Counts the tail and keeps it within `limit` bytes.
    fn limit_tail(&mut self, limit: usize) {
        let before = self.state.log.tail_bytes();
        self.state.log.shrink_tail(limit);
        self.around
            .budget
            .count_tail(before, self.state.log.tail_bytes());
    }

    /// Gives the tail back when nothing is appended for a while.
    fn watch_tail(&mut self, ctx: &mut Context<Self>) {
        if self.tail_timer.is_some() {
            return;
        }
        let end = self.state.log.end().offset;
        self.tail_timer = Some(ctx.run_later(TAIL_IDLE, move |topic, ctx| {
            topic.tail_timer = None;
            if topic.state.log.end().offset == end {
                topic.limit_tail(0);
            } else {
                topic.watch_tail(ctx);
            }
        }));
    }

    /// Sets the timer to the first deadline of those that wait.
    pub(super) fn watch_deadlines(&mut self, ctx: &mut Context<Self>) {
        let next = self.waiting.next_deadline();
        if self.timer.as_ref().map(|(at, _)| *at) == next {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.timer = next.map(|at| {
            let after = at.saturating_duration_since(Instant::now());
            let timer = ctx.run_later(after, |topic, ctx| {
                topic.timer = None;
                for waiter in topic.waiting.take_expired(Instant::now()) {
                    topic.answer_empty(waiter);
                }
                topic.watch_deadlines(ctx);
            });
            (at, timer)
        });
    }

    pub(super) fn counters(&self) -> Vec<Counter> {
        let counter = |name: &str, value| Counter {
            name: name.to_owned(),
            value,
        };
        let counts = &self.counts;
        vec![
            counter("batches_appended", counts.batches),
            counter("batches_retried", counts.retries),
            counter("records_fetched", counts.fetched),
            counter("records_consumed", counts.consumed),
            counter("cold_reads", counts.cold_reads),
            counter("tail_bytes", self.state.log.tail_bytes() as u64),
            counter("requests_waiting", self.waiting.count() as u64),
            counter("producers", self.state.producers.count() as u64),
            counter("consumers", self.state.consumers.count() as u64),
            counter("records_delayed", self.state.delayed.records()),
        ]
    }
}

impl Actor for Topic {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // The bound of this mailbox is the permits of the connections: `do_send` ignores any other.
        let topic = ctx.address();
        let announce = Announce::new(move |notice| topic.do_send(Noted(notice)));
        self.around.storage.attach(self.state.id, announce.clone());
        self.announce = Some(announce);
        self.count_stored();
        self.tell_registered();
        self.begin_leases(ctx);
        self.watch_due(ctx);
        self.consider_retention(ctx);
    }

    fn stopped(&mut self, _ctx: &mut Context<Self>) {
        self.around
            .budget
            .count_tail(self.state.log.tail_bytes(), 0);
    }
}

impl Handler<Call> for Topic {
    type Result = ();

    fn handle(&mut self, call: Call, ctx: &mut Context<Self>) {
        if let Some(call) = self.wait_behind(call) {
            self.take_call(call, ctx);
        }
    }
}

impl Handler<Noted> for Topic {
    type Result = ();

    fn handle(&mut self, Noted(notice): Noted, ctx: &mut Context<Self>) {
        match notice {
            Notice::Committed { generation, ticket } if generation == self.generation => {
                self.committed_meanwhile(ticket, ctx);
                self.committed(ticket, ctx);
            }
            Notice::Committed { .. } => {}
            Notice::Failed { generation } => {
                self.failed(generation);
                self.failed_meanwhile(ctx);
            }
            Notice::Reloaded { generation, rows } => {
                self.reloaded(generation, rows.as_deref(), ctx);
            }
        }
    }
}

impl Handler<Proceed> for Topic {
    type Result = ();

    fn handle(&mut self, Proceed(then): Proceed, ctx: &mut Context<Self>) {
        self.when_free(then, ctx);
    }
}

impl Handler<Gone> for Topic {
    type Result = ();

    fn handle(&mut self, Gone(connection, why): Gone, ctx: &mut Context<Self>) {
        let gone = |waiter: &Waiter| waiter.connection() == connection;
        for waiter in self.waiting.take_if(gone) {
            waiter.withdraw(why);
        }
        self.watch_deadlines(ctx);
        self.leave_leases(connection, ctx);
    }
}

impl Handler<Summarize> for Topic {
    type Result = Option<TopicSummary>;

    fn handle(&mut self, _: Summarize, _ctx: &mut Context<Self>) -> Option<TopicSummary> {
        self.born.then(|| self.state.summary())
    }
}

/// What is answered while the last write has failed.
pub fn storage_failed() -> Failure {
    Failure::new(
        ErrorCode::StorageFailed,
        "the last write to disk failed; the store recovers",
    )
    .hint("retry: nothing was done; reads go on; the broker's log names the cause")
}

/// Refuses what would take space while there is little.
pub fn check_space(storage: &Handle) -> Result<(), Failure> {
    if storage.health().condition() == Condition::LowSpace {
        let message = format!(
            "the disk is nearly full: less than {} MiB is free",
            storage.health().low_mark() >> 20
        );
        return Err(Failure::new(ErrorCode::LowSpace, message).hint(
            "free space on the broker's disk or delete topics; consuming goes on, and so does \
                 this when twice as much is free",
        ));
    }
    Ok(())
}

/// The topic is not there any more.
pub fn not_found(topic: TopicId) -> Failure {
    Failure::new(
        ErrorCode::TopicNotFound,
        format!("there is no topic with id {topic}"),
    )
    .hint("look the name up again")
}

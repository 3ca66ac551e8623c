//! The task that keeps a consumer's leases: it acks, gives back, extends, and speaks up after a
//! reconnection before the broker gives to others what was leased here.
//!
//! ```text
//!  Consumer --Order--> +--------+ --Ack, Nack, Extend--> broker
//!           <--result- | Holder | <------- answers ------
//!                      +--------+ --all that is held: Extend, at once, after a lost connection
//! ```
//!
//! For each topic one request to settle is under way; what is ordered meanwhile leaves together in
//! the next one. It never takes records and never decides which are settled.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use logdrive_protocol::limits::MAX_SETTLED;
use logdrive_protocol::operations::{Range, Settled};
use logdrive_protocol::{ConsumerId, ErrorCode, TopicId, WorkerId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::held::Held;
use super::settling::{Extension, Verdict, extend, is_over, link_again, settle};
use crate::dialer::Dialer;
use crate::link::Link;
use crate::{Error, ErrorKind};

/// Orders that wait for the task; who has more waits for room.
const ORDERS: usize = 256;
/// Parts that wait for the request before them; beyond that no orders are taken.
const PARTS: usize = 16 * MAX_SETTLED;

/// What becomes of an order.
pub(crate) type Answer = oneshot::Sender<Result<(), Error>>;

/// One topic as its worker names it in requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    pub(crate) topic: TopicId,
    pub(crate) consumer: ConsumerId,
    pub(crate) worker: WorkerId,
}

/// What the task is told; `site` counts the consumer's topics.
#[derive(Debug)]
pub(crate) enum Order {
    /// An answer brought these.
    Taken { site: usize, ranges: Vec<Range> },
    /// Settle this; without an answer, whoever asks for [`Order::Settled`] hears of it.
    Settle {
        site: usize,
        verdict: Verdict,
        what: What,
        answer: Option<Answer>,
    },
    /// Let a lease last for so long from now on.
    Extend {
        site: usize,
        lease: u64,
        lasts: Duration,
        answer: Answer,
    },
    /// Say when all that was ordered before is settled; the first error that nobody heard of.
    Settled(Answer),
    /// Give back all that is held, once what was ordered before is settled.
    GiveBack(Answer),
}

/// What to settle.
#[derive(Debug)]
pub(crate) enum What {
    These(Vec<Settled>),
    /// All of earlier leases, and of this one what is before `to`.
    UpTo {
        lease: u64,
        to: u64,
    },
}

/// The way to the task, which ends with it once all that was ordered is settled.
#[derive(Debug)]
pub(crate) struct Leases {
    orders: mpsc::Sender<Order>,
}

impl Leases {
    /// Begins the task; `link` is the connection on which the consumer begins.
    pub(crate) fn begin(
        dialer: Dialer,
        link: Link,
        sites: Vec<Site>,
        lasts: Duration,
        auto_extend: bool,
    ) -> Self {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let holder = Holder {
            dialer,
            lasts,
            auto_extend,
            sites: sites.into_iter().map(Kept::new).collect(),
            link: Some(link),
            dialing: false,
            work: JoinSet::new(),
            calls: HashMap::new(),
            next_call: 0,
            unheard: None,
            waiting: Vec::new(),
            giving_back: None,
        };
        tokio::spawn(holder.run(inbox));
        Self { orders }
    }

    /// Room for one order: dropping the future of this loses nothing.
    pub(crate) async fn room(&self) -> Result<mpsc::Permit<'_, Order>, Error> {
        self.orders.reserve().await.map_err(|_| ended())
    }

    /// Orders something and waits for what becomes of it.
    pub(crate) async fn ask(&self, order: impl FnOnce(Answer) -> Order) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        self.room().await?.send(order(answer));
        answered.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Closed, "the consumer's lease task has ended")
}

/// Something to settle by one element of a request, for one call.
#[derive(Clone, Debug)]
struct Part {
    call: u64,
    verdict: Verdict,
    settled: Settled,
}

/// One order to settle: it is answered when its last part is.
#[derive(Debug)]
struct Call {
    parts: usize,
    error: Option<Error>,
    answer: Option<Answer>,
}

/// What is kept of one topic.
#[derive(Debug)]
struct Kept {
    site: Site,
    held: Held,
    queue: VecDeque<Part>,
    /// What the request under way settles; none if none is.
    asked: Vec<Part>,
}

impl Kept {
    fn new(site: Site) -> Self {
        Self {
            site,
            held: Held::default(),
            queue: VecDeque::new(),
            asked: Vec::new(),
        }
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.asked.is_empty()
    }

    /// Moves what the next request may hold from the queue: one verdict, not too many elements.
    fn gather(&mut self) -> Option<Verdict> {
        let verdict = self.queue.front()?.verdict;
        let fits = |part: &Part| part.verdict == verdict;
        let count = self
            .queue
            .iter()
            .take(MAX_SETTLED)
            .take_while(|it| fits(it));
        let count = count.count();
        self.asked = self.queue.drain(..count).collect();
        Some(verdict)
    }
}

/// What a task of [`Holder::work`] has done.
enum Done {
    Settled(usize, Vec<Result<(), Error>>),
    Extended(usize, Vec<Extension>, Option<Answer>),
    Linked(Result<Link, Error>),
}

struct Holder {
    dialer: Dialer,
    lasts: Duration,
    auto_extend: bool,
    sites: Vec<Kept>,
    /// The connection on which the broker last heard of what is held; none after its end.
    link: Option<Link>,
    /// Whether a new one is being made.
    dialing: bool,
    work: JoinSet<Done>,
    calls: HashMap<u64, Call>,
    next_call: u64,
    /// The first error of a call that nobody waits for.
    unheard: Option<Error>,
    /// Who waits until all is settled.
    waiting: Vec<Answer>,
    giving_back: Option<Answer>,
}

impl Holder {
    async fn run(mut self, mut inbox: mpsc::Receiver<Order>) {
        let mut open = true;
        while open || !self.calls.is_empty() {
            let takes = open && self.sites.iter().all(|it| it.queue.len() < PARTS);
            let held = self.sites.iter().any(|it| !it.held.is_empty());
            let due = self
                .sites
                .iter()
                .filter_map(|it| it.held.due(self.auto_extend));
            let due = due.min();
            // What is done and what is due come first: both end by themselves.
            tokio::select! {
                biased;
                Some(done) = self.work.join_next() => {
                    if let Ok(done) = done {
                        self.done(done);
                    }
                }
                () = lost(self.link.as_ref()), if held && self.link.is_some() => {
                    self.link = None;
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.keep_time();
                }
                order = inbox.recv(), if takes => match order {
                    Some(order) => self.take(order),
                    None => open = false,
                },
            }
            self.go_on();
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Taken { site, ranges } => {
                let now = Instant::now();
                for Range {
                    from, to, lease, ..
                } in ranges
                {
                    let held = &mut self.sites[site].held;
                    held.take(lease, from, to, now, self.lasts);
                }
            }
            Order::Settle {
                site,
                verdict,
                what,
                answer,
            } => {
                let settled = match what {
                    What::These(settled) => settled,
                    What::UpTo { lease, to } => self.sites[site].held.up_to(lease, to),
                };
                let call = self.call(settled.len(), answer);
                self.queue(site, call, verdict, settled);
            }
            Order::Extend {
                site,
                lease,
                lasts,
                answer,
            } => {
                self.sites[site].held.extend(lease, lasts);
                self.extend(site, vec![(lease, lasts)], Some(answer));
            }
            Order::Settled(answer) => self.waiting.push(answer),
            Order::GiveBack(answer) => self.giving_back = Some(answer),
        }
    }

    fn call(&mut self, parts: usize, answer: Option<Answer>) -> u64 {
        self.next_call += 1;
        let call = Call {
            parts,
            error: None,
            answer,
        };
        if parts == 0 {
            self.finish(call);
        } else {
            self.calls.insert(self.next_call, call);
        }
        self.next_call
    }

    fn queue(&mut self, site: usize, call: u64, verdict: Verdict, settled: Vec<Settled>) {
        let part = |settled| Part {
            call,
            verdict,
            settled,
        };
        self.sites[site].queue.extend(settled.into_iter().map(part));
    }

    /// Sends what can be sent, and answers who waits for the end.
    fn go_on(&mut self) {
        let held = self.sites.iter().any(|it| !it.held.is_empty());
        if held && self.link.is_none() && !self.dialing {
            self.dialing = true;
            let dialer = self.dialer.clone();
            let linked = async move { Done::Linked(link_again(&dialer).await) };
            self.work.spawn(linked);
        }
        for (index, kept) in self.sites.iter_mut().enumerate() {
            if !kept.asked.is_empty() {
                continue;
            }
            if let Some(verdict) = kept.gather() {
                let (dialer, site) = (self.dialer.clone(), kept.site);
                let asked: Vec<_> = kept.asked.iter().map(|it| it.settled.clone()).collect();
                self.work.spawn(async move {
                    Done::Settled(index, settle(&dialer, site, verdict, &asked).await)
                });
            }
        }
        if !self.sites.iter().all(Kept::is_idle) {
            return;
        }
        for answer in self.waiting.drain(..) {
            let heard = self.unheard.take().map_or(Ok(()), Err);
            // Who does not wait any more does not want to know.
            let _ = answer.send(heard);
        }
        if let Some(answer) = self.giving_back.take() {
            let held: Vec<_> = self.sites.iter().map(|it| it.held.all()).collect();
            let call = self.call(held.iter().map(Vec::len).sum(), Some(answer));
            for (index, held) in held.into_iter().enumerate() {
                self.queue(index, call, Verdict::Nack { delay_ms: 0 }, held);
            }
            if self.sites.iter().any(|it| !it.is_idle()) {
                self.go_on();
            }
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Settled(site, results) => {
                let asked = std::mem::take(&mut self.sites[site].asked);
                for (part, result) in asked.into_iter().zip(results) {
                    if result.as_ref().map_or_else(is_over, |()| true) {
                        self.sites[site].held.settle(&part.settled);
                    }
                    self.settled(part.call, result.err());
                }
            }
            Done::Extended(site, extensions, answer) => {
                let now = Instant::now();
                let mut failed = None;
                for (lease, lasts, result) in extensions {
                    let held = &mut self.sites[site].held;
                    match result {
                        Ok(()) => held.extended(lease, now, lasts),
                        Err(error) => {
                            // What was refused for its duration alone still lasts.
                            if error.code() == Some(ErrorCode::InvalidLease) {
                                held.refused(lease);
                            } else {
                                held.end(lease);
                            }
                            failed = Some(error);
                        }
                    }
                }
                if let Some(answer) = answer {
                    let _ = answer.send(failed.map_or(Ok(()), Err));
                }
            }
            Done::Linked(Ok(link)) => {
                self.dialing = false;
                self.link = Some(link);
                for index in 0..self.sites.len() {
                    let leases = self.sites[index].held.extend_all();
                    self.extend(index, leases, None);
                }
            }
            Done::Linked(Err(error)) => {
                self.dialing = false;
                tracing::debug!(%error, "leases are given up");
                for kept in &mut self.sites {
                    kept.held.clear();
                }
            }
        }
    }

    /// One part of a call is at its end.
    fn settled(&mut self, number: u64, error: Option<Error>) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        call.parts -= 1;
        if call.error.is_none() {
            call.error = error;
        }
        if call.parts == 0
            && let Some(call) = self.calls.remove(&number)
        {
            self.finish(call);
        }
    }

    fn finish(&mut self, call: Call) {
        match call.answer {
            Some(answer) => {
                let _ = answer.send(call.error.map_or(Ok(()), Err));
            }
            None if self.unheard.is_none() => self.unheard = call.error,
            None => {}
        }
    }

    fn keep_time(&mut self) {
        let now = Instant::now();
        for index in 0..self.sites.len() {
            if self.auto_extend {
                // Also one that should be over: only the broker knows whether it is.
                let leases = self.sites[index].held.extend_due(now);
                self.extend(index, leases, None);
            } else {
                self.sites[index].held.expire(now);
            }
        }
    }

    fn extend(&mut self, index: usize, leases: Vec<(u64, Duration)>, answer: Option<Answer>) {
        if leases.is_empty() {
            return;
        }
        let (dialer, site) = (self.dialer.clone(), self.sites[index].site);
        self.work.spawn(async move {
            Done::Extended(index, extend(&dialer, site, leases).await, answer)
        });
    }
}

/// When the connection has ended.
async fn lost(link: Option<&Link>) {
    match link {
        Some(link) => link.ended().await,
        None => std::future::pending().await,
    }
}

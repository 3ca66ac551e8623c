//! Consuming: a worker for each topic, and the sequence that makes a lost answer come again.
//!
//! ```text
//!            ask(sequence n)             answer with records
//!  idle ---------------------> asked ---------------------------> ready ---> handed out, n + 1
//!    ^                          | ^  \ lost: ask(sequence n) again
//!    +------ empty -------------+ +---+
//! ```
//!
//! A topic is asked only when all that it gave was handed out (one answer earlier with
//! `prefetch`), so that what a consumer that dies takes with it is at most its last answer. With a
//! lease nothing is taken until it is acked: `leasing` is what callers say of their records,
//! `leases` the task that tells the broker.

mod held;
mod leases;
mod leasing;
mod settling;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::{Stream, stream};
use logdrive_protocol::operations::{Consume, Delivered, Range, UnregisterWorker};
use logdrive_protocol::{ConsumerId, ErrorCode, TopicId, WorkerId};
use tokio::time::{Instant, timeout};

use self::leases::{Leases, Site};
use self::settling::millis;
use crate::dialer::Dialer;
use crate::link::Parking;
use crate::reading::{self, LONG_POLL, Landed, Pending};
use crate::record::Events;
use crate::{Client, ConsumerOptions, Error, ErrorKind, Event, Portion};

/// Takes records for one consumer name from one or several topics.
///
/// The broker moves the consumer's cursor durably before it answers. A lost connection is a pause:
/// the same answer is asked for again, also after a restart of the broker. Dropping a consumer
/// loses what it has taken and not handed out: at most one answer for each topic, two with
/// `prefetch`; [`Consumer::close`] says how many records that is. Dropping the future of any
/// method loses nothing, and after an error the next call goes on.
///
/// With [`lease`](crate::ConsumerOptions::lease) records are only lent: [`ack`](Self::ack) takes
/// them for good, [`nack`](Self::nack) gives them back, and what is neither comes again, to this
/// worker or to another, when the lease is over. After a lost connection the consumer tells the
/// broker at once that it still holds its leases.
#[derive(Debug)]
pub struct Consumer {
    dialer: Dialer,
    options: ConsumerOptions,
    topics: Vec<Source>,
    /// Which topic is looked at first, so that none starves.
    turn: usize,
    /// What keeps the leases, with [`ConsumerOptions::lease`].
    leases: Option<Leases>,
}

/// How long to wait for a first event.
#[derive(Clone, Copy, Debug)]
enum Patience {
    /// Only for what is there now.
    None,
    Until(Instant),
    Endless,
}

impl Patience {
    fn of(wait: Option<Duration>) -> Self {
        match wait {
            None => Self::Endless,
            Some(Duration::ZERO) => Self::None,
            Some(wait) => Self::Until(Instant::now() + wait),
        }
    }

    fn long_poll(self) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Until(deadline) => LONG_POLL.min(deadline.duration_since(Instant::now())),
            Self::Endless => LONG_POLL,
        }
    }
}

impl Consumer {
    pub(crate) async fn open(
        client: &Client,
        name: &str,
        topics: &[&str],
        options: ConsumerOptions,
    ) -> Result<Self, Error> {
        if topics.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "a consumer needs a topic"));
        }
        if options.lease.is_some_and(|lease| millis(lease) == 0) {
            return Err(
                Error::new(ErrorKind::Invalid, "a lease lasts at least a millisecond")
                    .with_hint("leave it out to take records for good"),
            );
        }
        let mut sources = Vec::with_capacity(topics.len());
        for topic in topics {
            let found = client
                .register(topic, name, options.from, &options.settings, options.create)
                .await?;
            sources.push(Source {
                topic: (*topic).into(),
                id: found.topic,
                consumer: found.consumer,
                worker: options.worker.unwrap_or_else(random_worker),
                sequence: 1,
                uncertain: false,
                arrived: None,
                pending: None,
                asked_for: Duration::ZERO,
                held: false,
                untold: Vec::new(),
                handed_out: None,
            });
        }
        let dialer = client.dialer().clone();
        let leases = match options.lease {
            None => None,
            Some(lasts) => {
                let link = dialer.link().await?;
                let sites = sources.iter().map(Source::site).collect();
                let extends = options.auto_extend;
                Some(Leases::begin(dialer.clone(), link, sites, lasts, extends))
            }
        };
        Ok(Self {
            dialer,
            options,
            topics: sources,
            turn: 0,
            leases,
        })
    }

    /// The next record or gap of any topic, waiting for one as long as
    /// [`max_wait`](crate::ConsumerOptions::max_wait) says; `None` when that has passed.
    pub async fn get_next(&mut self) -> Result<Option<Event>, Error> {
        self.next_event(Patience::of(self.options.max_wait)).await
    }

    /// The next record or gap, or `None` when `wait` has passed without one.
    pub async fn get_next_within(&mut self, wait: Duration) -> Result<Option<Event>, Error> {
        self.next_event(Patience::of(Some(wait))).await
    }

    /// The next record or gap, or `None` when nothing is left now in any topic.
    pub async fn try_next(&mut self) -> Result<Option<Event>, Error> {
        self.next_event(Patience::None).await
    }

    /// All that one answer brought, the fast way; `wait` as in
    /// [`get_next_within`](Self::get_next_within), zero as in [`try_next`](Self::try_next), `None`
    /// waits as long as it takes.
    pub async fn get_batch(&mut self, wait: Option<Duration>) -> Result<Option<Portion>, Error> {
        let Some(index) = self.ready(Patience::of(wait)).await? else {
            return Ok(None);
        };
        self.tell(index).await?;
        Ok(self.topics[index].take_portion())
    }

    /// Changes how many records are taken at a time, from the next request on; 0 is no limit.
    pub fn set_max_records(&mut self, max_records: u32) {
        self.options.max_records = max_records;
    }

    /// Records that were taken from the broker, have arrived, and were not handed out yet.
    pub fn buffered(&self) -> u64 {
        self.topics.iter().map(Source::buffered).sum()
    }

    /// All events as a stream; it ends when [`get_next`](Self::get_next) gives `None`, and after
    /// an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Event, Error>> + Send {
        stream::try_unfold(self, |mut consumer| async move {
            let event = consumer.get_next().await?;
            Ok(event.map(|event| (event, consumer)))
        })
    }

    /// Ends it; gives the number of records that were taken and never handed out.
    ///
    /// With a lease nothing is lost, and the number is 0: acks that are under way are waited for,
    /// and all that is neither acked nor given back is given back. Its workers are unregistered, so
    /// that others find room; where the broker cannot be reached it forgets them by itself, an hour
    /// later.
    pub async fn close(mut self) -> u64 {
        let mut records = self.buffered();
        for topic in &mut self.topics {
            if let Some(pending) = topic.pending.take_if(|it| it.is_finished())
                && let Ok(delivered) = reading::joined(pending.await).result
            {
                records += delivered.record_count();
                topic.untold.extend(delivered.ranges);
            }
            topic.pending = None;
        }
        if self.leases.is_some() {
            self.give_back().await;
            records = 0;
        }
        for topic in &self.topics {
            let goodbye = UnregisterWorker {
                topic: topic.id,
                consumer: topic.consumer,
                worker: topic.worker,
            };
            let parking = Parking {
                wait: Duration::ZERO,
                topic: None,
            };
            let dialer = &self.dialer;
            let said = async { dialer.link().await?.ask(&goodbye, parking).await };
            // Only courtesy: whatever becomes of it, the consumer is at its end.
            drop(timeout(GOODBYE_WAIT, said).await);
        }
        records
    }

    async fn next_event(&mut self, patience: Patience) -> Result<Option<Event>, Error> {
        // Most events have arrived: they need not pass what follows.
        while let Some(index) = self.arrived() {
            if !self.topics[index].untold.is_empty() {
                self.tell(index).await?;
            }
            if let Some(event) = self.topics[index].take_event() {
                return Ok(Some(event));
            }
        }
        while let Some(index) = self.ready(patience).await? {
            self.tell(index).await?;
            if let Some(event) = self.topics[index].take_event() {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Which topic has something that has arrived.
    fn arrived(&mut self) -> Option<usize> {
        let count = self.topics.len();
        let mut order = (self.turn..count).chain(0..self.turn);
        let index = order.find(|&index| self.topics[index].is_ready())?;
        self.turn = if index + 1 == count { 0 } else { index + 1 };
        Some(index)
    }

    /// Which topic has something to hand out.
    async fn ready(&mut self, patience: Patience) -> Result<Option<usize>, Error> {
        if let Some(index) = self.arrived() {
            return Ok(Some(index));
        }
        let count = self.topics.len();
        for index in 0..count {
            let waits = self.topics[index].pending.as_ref();
            // A parked request would not say that nothing is left; asking again with the same
            // sequence replaces it, and gives its records again if it has just been served. One
            // that has come to its end may say what was left long ago: see below.
            let parked = waits.is_some_and(|it| !it.is_finished());
            if waits.is_none() || (parked && matches!(patience, Patience::None)) {
                self.ask(index, patience.long_poll());
            }
        }
        loop {
            let (index, landed) = match patience {
                Patience::Until(deadline) => {
                    match tokio::time::timeout_at(deadline, self.landed()).await {
                        Ok(landed) => landed,
                        Err(_) => return Ok(None),
                    }
                }
                Patience::None if self.topics.iter().all(|it| it.pending.is_none()) => {
                    return Ok(None);
                }
                Patience::None | Patience::Endless => self.landed().await,
            };
            match self.topics[index].accept(landed, self.leases.is_some())? {
                Accepted::Something => {
                    if self.options.prefetch {
                        self.ask(index, LONG_POLL);
                    }
                    self.turn = (index + 1) % count;
                    return Ok(Some(index));
                }
                Accepted::Nothing
                    if matches!(patience, Patience::None)
                        && self.topics[index].asked_for == Duration::ZERO => {}
                Accepted::Nothing | Accepted::Unsaid => self.ask(index, patience.long_poll()),
            }
        }
    }

    /// The first request that has come to its end; dropping this loses nothing.
    async fn landed(&mut self) -> (usize, Landed) {
        let (topics, first) = (&mut self.topics, self.turn);
        let count = topics.len();
        poll_fn(|context| {
            for index in (first..count).chain(0..first) {
                let Some(pending) = &mut topics[index].pending else {
                    continue;
                };
                if let Poll::Ready(landed) = Pin::new(pending).poll(context) {
                    topics[index].pending = None;
                    return Poll::Ready((index, reading::joined(landed)));
                }
            }
            Poll::Pending
        })
        .await
    }

    fn ask(&mut self, index: usize, wait: Duration) {
        let topic = &mut self.topics[index];
        let consume = Consume {
            topic: topic.id,
            consumer: topic.consumer,
            worker: topic.worker,
            sequence: topic.sequence,
            max_records: self.options.max_records,
            max_bytes: self.options.max_bytes,
            max_wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            lease_ms: self.options.lease.map_or(0, millis),
            leader_epoch: 0,
        };
        let parking = Parking {
            wait,
            topic: Some(topic.id),
        };
        topic.uncertain |= topic.pending.is_some();
        topic.asked_for = wait;
        topic.pending = Some(reading::begin(&self.dialer, consume, None, parking));
    }
}

/// How long a consumer that ends waits for the broker to take note.
const GOODBYE_WAIT: Duration = Duration::from_secs(1);

/// Any but [`WorkerId::NONE`].
fn random_worker() -> WorkerId {
    WorkerId(fastrand::u64(1..))
}

/// What an answer meant.
enum Accepted {
    Something,
    Nothing,
    /// Not what is left: the worker was forgotten and begins again, what was leased to it is over,
    /// or what was looked through is not for this consumer.
    Unsaid,
}

/// One topic of a consumer.
#[derive(Debug)]
struct Source {
    topic: Arc<str>,
    id: TopicId,
    consumer: ConsumerId,
    worker: WorkerId,
    /// Of the next request, or of the one under way.
    sequence: u64,
    /// Whether a request of this sequence may have been served without its answer arriving.
    uncertain: bool,
    /// What is left of the last answer, as long as something is.
    arrived: Option<Events>,
    pending: Option<Pending>,
    /// How long the last request was to wait for records.
    asked_for: Duration,
    /// Whether the last answer said that records are left and cannot be given now.
    held: bool,
    /// Leased offsets of the last answer, as long as the task that keeps leases has not heard.
    untold: Vec<Range>,
    /// The lease of the last record that was handed out, and the offset after it.
    handed_out: Option<(u64, u64)>,
}

impl Source {
    fn is_ready(&self) -> bool {
        self.arrived.is_some()
    }

    fn site(&self) -> Site {
        Site {
            topic: self.id,
            consumer: self.consumer,
            worker: self.worker,
        }
    }

    /// Takes an answer; `leases` is whether its records come again if they are not acked.
    fn accept(&mut self, landed: Landed, leases: bool) -> Result<Accepted, Error> {
        self.uncertain |= landed.uncertain;
        match landed.result {
            Ok(delivered) => {
                self.uncertain = false;
                self.held = delivered.status == Delivered::HELD;
                if matches!(delivered.status, Delivered::EMPTY | Delivered::HELD) {
                    return Ok(Accepted::Nothing);
                }
                if delivered.status != Delivered::SOME {
                    return Ok(Accepted::Unsaid);
                }
                self.sequence += 1;
                if delivered.ranges.is_empty() && delivered.gaps.is_empty() {
                    return Ok(Accepted::Unsaid);
                }
                let portion = Portion::new(self.topic.clone(), delivered);
                self.untold = portion.leased().cloned().collect();
                self.arrived = Some(Events::new(portion));
                Ok(Accepted::Something)
            }
            Err(error) if error.code() == Some(ErrorCode::WorkerForgotten) => {
                // Idle for too long: it begins again, and misses nothing unless an answer is out.
                self.sequence = 1;
                if std::mem::take(&mut self.uncertain) && !leases {
                    return Err(Error::new(
                        ErrorKind::OutcomeUnknown,
                        format!(
                            "an answer of topic \"{}\" was lost and the broker has forgotten \
                             whose it was: its records may be missing",
                            self.topic
                        ),
                    ));
                }
                Ok(Accepted::Unsaid)
            }
            Err(error) => Err(error),
        }
    }

    fn take_event(&mut self) -> Option<Event> {
        let events = self.arrived.as_mut()?;
        let event = events.next();
        if event.is_none() || events.is_done() {
            self.arrived = None;
        }
        if let Some(Event::Record(record)) = &event
            && let Some(lease) = record.lease
        {
            self.handed_out = Some((lease.number(), record.offset + 1));
        }
        event
    }

    fn take_portion(&mut self) -> Option<Portion> {
        let portion = self.arrived.take()?.into_portion();
        if let Some(last) = portion.leased().last() {
            self.handed_out = Some((last.lease, last.to));
        }
        Some(portion)
    }

    fn buffered(&self) -> u64 {
        self.arrived.as_ref().map_or(0, Events::record_count)
    }
}

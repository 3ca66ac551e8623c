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
//! `prefetch`), so that what a consumer that dies takes with it is at most its last answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::{Stream, stream};
use logdrive_protocol::operations::{Consume, Delivered, UnregisterWorker};
use logdrive_protocol::{ConsumerId, ErrorCode, TopicId, WorkerId};
use tokio::time::{Instant, timeout};

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
#[derive(Debug)]
pub struct Consumer {
    dialer: Dialer,
    options: ConsumerOptions,
    topics: Vec<Source>,
    /// Which topic is looked at first, so that none starves.
    turn: usize,
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
        let mut sources = Vec::with_capacity(topics.len());
        for topic in topics {
            let found = client
                .register_consumer(topic, name, options.from, options.create)
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
            });
        }
        Ok(Self {
            dialer: client.dialer().clone(),
            options,
            topics: sources,
            turn: 0,
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
        let ready = self.ready(Patience::of(wait)).await?;
        Ok(ready.and_then(|index| self.topics[index].take_portion()))
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
    /// Its workers are unregistered, so that others find room; where the broker cannot be reached
    /// it forgets them by itself, an hour later.
    pub async fn close(mut self) -> u64 {
        let mut records = self.buffered();
        for topic in &mut self.topics {
            if let Some(pending) = topic.pending.take_if(|it| it.is_finished())
                && let Ok(delivered) = reading::joined(pending.await).result
            {
                records += delivered.record_count();
            }
            let goodbye = UnregisterWorker {
                topic: topic.id,
                consumer: topic.consumer,
                worker: topic.worker,
            };
            topic.pending = None;
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
            if let Some(event) = self.topics[index].take_event() {
                return Ok(Some(event));
            }
        }
        while let Some(index) = self.ready(patience).await? {
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
            match self.topics[index].accept(landed)? {
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
                Accepted::Nothing | Accepted::Forgotten => self.ask(index, patience.long_poll()),
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
            lease_ms: 0,
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
    /// The broker does not know the worker any more; it begins again.
    Forgotten,
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
}

impl Source {
    fn is_ready(&self) -> bool {
        self.arrived.is_some()
    }

    /// Takes an answer.
    fn accept(&mut self, landed: Landed) -> Result<Accepted, Error> {
        self.uncertain |= landed.uncertain;
        match landed.result {
            Ok(delivered) => {
                self.uncertain = false;
                if delivered.status == Delivered::EMPTY {
                    return Ok(Accepted::Nothing);
                }
                self.sequence += 1;
                self.arrived = Some(Events::new(Portion::new(self.topic.clone(), delivered)));
                Ok(Accepted::Something)
            }
            Err(error) if error.code() == Some(ErrorCode::WorkerForgotten) => {
                // Idle for too long: it begins again, and misses nothing unless an answer is out.
                self.sequence = 1;
                if std::mem::take(&mut self.uncertain) {
                    return Err(Error::new(
                        ErrorKind::OutcomeUnknown,
                        format!(
                            "an answer of topic \"{}\" was lost and the broker has forgotten \
                             whose it was: its records may be missing",
                            self.topic
                        ),
                    ));
                }
                Ok(Accepted::Forgotten)
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
        event
    }

    fn take_portion(&mut self) -> Option<Portion> {
        Some(self.arrived.take()?.into_portion())
    }

    fn buffered(&self) -> u64 {
        self.arrived.as_ref().map_or(0, Events::record_count)
    }
}

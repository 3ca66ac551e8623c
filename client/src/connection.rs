//! One connection: a task that owns the socket's read half; others reach it by links.
//!
//! ```text
//!  Link --Asked--> +------------+ ---frames---> broker
//!  Call <--frame-- | Connection | <---frames---
//!  Call --Order--> +------------+
//!
//!  Link --takes the pen, writes, puts it back--> broker      (while nothing else is under way)
//! ```
//!
//! The task writes requests in the order in which they came, matches answers to them, and ends
//! with the socket, with the last link, or with the first thing that the protocol does not allow.
//! It never connects again (that is the dialer's) and never looks into a body. A lone request is
//! written by whoever asks, with the [`Pen`], and wakes the task only with its answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use logdrive_protocol::body::Body;
use logdrive_protocol::frame::{self, CRITICAL_FLAGS, FLAG_ERROR, Frame, FrameDecoder, FrameError};
use logdrive_protocol::operations::{Cancel, GoingAway, Operation, Ping};
use logdrive_protocol::preface::Limits;
use logdrive_protocol::{Failure, TopicId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::codec::FramedRead;

use crate::alarm::Alarm;
use crate::arrivals::{Arrival, Arrivals, Beginning};
use crate::net::{ReadHalf, Socket, halves};
use crate::pen::{Desk, Pen};
use crate::{Error, ErrorKind};

/// Requests that wait for the task, apart from those that it has queued for writing.
const REQUESTS: usize = 64;
/// Orders that wait for the task; one that finds no room is not needed for being correct.
const ORDERS: usize = 256;
/// Bytes queued for writing at which the task takes no further request.
const QUEUE_BYTES: usize = 4 << 20;
/// Requests without an answer at which the task takes no further request.
const UNANSWERED: usize = 4096;
/// Longest frame that is taken, whatever the broker says its limit is (64 MiB).
const LONGEST_FRAME_BYTES: u32 = 64 << 20;
/// Marks the correlation ids of the task's own cancels, so that links never give out the same.
pub(crate) const CANCEL_BIT: u32 = 1 << 31;
/// The correlation id of a Ping that says only that the client is there: as that of a cancel, but of
/// no request.
const BEAT: u32 = CANCEL_BIT;
/// A client that has heard nothing for two thirds of the broker's idle time says that it is there.
const BEAT_SHARE: (u32, u32) = (2, 3);
/// Room for reading at first; it follows the frames.
const READ_BYTES: usize = 64 << 10;

/// What an answer is: a frame whose body the asker decodes.
pub(crate) type Answered = Result<Frame, Error>;

/// A request on its way to the task.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Not 0, without [`CANCEL_BIT`], and of no other request that waits.
    pub(crate) correlation: u32,
    /// The frame.
    pub(crate) parts: Vec<Bytes>,
    pub(crate) waiting: Waiting,
}

/// Who waits for an answer, and until when.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) opcode: u8,
    /// The operation's name.
    pub(crate) name: &'static str,
    /// `None` once it was told that its time is up.
    pub(crate) answer: Option<oneshot::Sender<Answered>>,
    /// Gets the first bytes of an answer that is long.
    pub(crate) beginning: Option<oneshot::Sender<Beginning>>,
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
}

impl Waiting {
    /// Whether nobody waits any more.
    fn is_gone(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Nobody may wait for it any more: then it is of no use to anybody.
    fn tell(self, answer: Answered) {
        if let Some(waits) = self.answer {
            let _ = waits.send(answer);
        }
    }
}

/// What a link tells the task besides requests.
#[derive(Debug)]
pub(crate) enum Order {
    /// Nobody waits for this answer any more, which the topic may be holding back.
    Withdraw { correlation: u32, parked: TopicId },
    /// A request has waited too long: if nothing arrived since it was sent, the broker is gone.
    Silent { since: Instant },
    /// An answer was nonsense: end.
    End(Error),
}

/// What a connection's links hold of it.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    pub(crate) requests: mpsc::Sender<Asked>,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) desk: Arc<Desk>,
}

/// Begins a connection on a socket whose prefaces were exchanged; `rest` came after them.
pub(crate) fn begin(
    socket: Socket,
    rest: &BytesMut,
    limits: &Limits,
    address: Arc<str>,
    timeout: Duration,
) -> Mailbox {
    let (requests, asked) = mpsc::channel(REQUESTS);
    let (orders, ordered) = mpsc::channel(ORDERS);
    let (read, writer) = halves(socket);
    let decoder = FrameDecoder::new(limits.frame_bytes.min(LONGEST_FRAME_BYTES));
    let mut reader = FramedRead::with_capacity(read, Arrivals::new(decoder), READ_BYTES);
    reader.read_buffer_mut().extend_from_slice(rest);
    let desk = Arc::new(Desk::default());
    let connection = Connection {
        reader,
        desk: desk.clone(),
        pen: Some(Box::new(Pen::new(writer))),
        requests: asked,
        orders: ordered,
        waiting: BTreeMap::new(),
        alarm: Alarm::default(),
        heard: Instant::now(),
        beat: (limits.idle_ms > 0).then(|| {
            let idle = Duration::from_millis(limits.idle_ms.into());
            idle * BEAT_SHARE.0 / BEAT_SHARE.1
        }),
        beating: None,
        address,
        timeout,
    };
    tokio::spawn(connection.run());
    Mailbox {
        requests,
        orders,
        desk,
    }
}

struct Connection {
    reader: FramedRead<ReadHalf, Arrivals>,
    desk: Arc<Desk>,
    /// With the task as long as it has something to write, or knows of a request without an
    /// answer; else on the desk.
    pen: Option<Box<Pen>>,
    requests: mpsc::Receiver<Asked>,
    orders: mpsc::Receiver<Order>,
    /// By correlation id; an entry stays until its answer comes, even if nobody waits for it, so
    /// that every answer is one to a known request.
    /// In order, because all of them are told of an end.
    waiting: BTreeMap<u32, Waiting>,
    /// Goes off no later than the first deadline among `waiting` and the pen's.
    alarm: Alarm,
    /// When something arrived last.
    heard: Instant,
    /// How long nothing may be heard before the client says that it is there; `None` for ever.
    beat: Option<Duration>,
    /// Where the answer to that arrives. Nobody waits for it, but one that does not come is missed.
    beating: Option<oneshot::Receiver<Answered>>,
    address: Arc<str>,
    /// How long an answer may take, for messages.
    timeout: Duration,
}

async fn write(pen: Option<&mut Box<Pen>>) -> std::io::Result<()> {
    match pen {
        Some(pen) => pen.write().await,
        None => std::future::pending().await,
    }
}

enum Event {
    Asked(Option<Asked>),
    Ordered(Order),
    Wrote(std::io::Result<()>),
    Arrived(Option<Result<Arrival, FrameError>>),
    /// A link has written with the pen, and something of that needs the task.
    Left,
    Alarmed,
}

/// How to go on after an event.
enum Pace {
    On,
    Gather,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Whoever was left with the pen learns that there is no task any more.
        self.desk.clear();
    }
}

impl Connection {
    async fn run(mut self) {
        self.watch_silence();
        let end = loop {
            self.lay_down();
            let event = self.next_event().await;
            self.pick_up().await;
            match self.process(event) {
                // Others who are about to ask leave with the same write.
                Ok(Pace::Gather) => tokio::task::yield_now().await,
                Ok(Pace::On) => {}
                Err(end) => break end,
            }
        };
        tracing::debug!(address = %self.address, %end, "connection ended");
        // Whoever asks from now on finds neither pen nor task; what is queued behind was never
        // sent.
        self.requests.close();
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            waiting.tell(Err(end.clone()));
        }
        while let Some(asked) = self.requests.recv().await {
            let unsent = Error::new(ErrorKind::Unreachable, end.message());
            asked.waiting.tell(Err(unsent));
        }
    }

    /// Puts the pen on the desk while there is nothing to do with it.
    fn lay_down(&mut self) {
        if self.waiting.is_empty()
            && let Some(mut pen) = self.pen.take_if(|pen| pen.is_done())
        {
            pen.watched_at = self.alarm.at();
            self.desk.put(pen);
        }
    }

    /// Takes the pen, and over what was written with it.
    async fn pick_up(&mut self) {
        if self.pen.is_none() {
            let mut pen = self.desk.take().await;
            if let Some((correlation, waiting)) = pen.lone.take() {
                self.alarm.set_by(waiting.deadline);
                self.waiting.insert(correlation, waiting);
            }
            self.pen = Some(pen);
        }
    }

    async fn next_event(&mut self) -> Event {
        let room = self.has_room();
        let pen = self.pen.as_mut().filter(|pen| !pen.is_done());
        let writes = pen.is_some();
        // In this order nobody starves: requests come as long as there is room, which only arrivals
        // make, and arrivals are answers to requests, or notices, after which the alarm is looked
        // at. What is ready leaves before anything else is read, so that the broker works
        // meanwhile. Dice would make two runs of one simulation differ.
        tokio::select! {
            biased;
            Some(order) = self.orders.recv() => Event::Ordered(order),
            asked = self.requests.recv(), if room => Event::Asked(asked),
            wrote = write(pen), if writes => Event::Wrote(wrote),
            arrival = self.reader.next() => Event::Arrived(arrival),
            () = self.desk.left() => Event::Left,
            () = self.alarm.rings() => Event::Alarmed,
        }
    }

    fn process(&mut self, event: Event) -> Result<Pace, Error> {
        match event {
            Event::Asked(Some(asked)) => return self.enqueue(asked),
            Event::Asked(None) => Err(Error::new(ErrorKind::Closed, "the client was closed")),
            Event::Ordered(order) => self.obey(order),
            Event::Wrote(Ok(())) | Event::Left => Ok(()),
            Event::Wrote(Err(error)) | Event::Arrived(Some(Err(FrameError::Io(error)))) => {
                Err(self.lost(&error.to_string()))
            }
            Event::Arrived(None) => Err(self.lost("the broker closed it")),
            Event::Arrived(Some(Err(fault))) => Err(Error::protocol(fault)),
            Event::Arrived(Some(Ok(Arrival::Whole(frame)))) => self.arrived(frame),
            Event::Arrived(Some(Ok(Arrival::Begun {
                correlation,
                beginning,
            }))) => {
                self.begun(correlation, beginning);
                Ok(())
            }
            Event::Alarmed => self.look_for_late(),
        }
        .map(|()| Pace::On)
    }

    fn lost(&self, why: &str) -> Error {
        Error::new(
            ErrorKind::ConnectionLost,
            format!("the connection to {} was lost: {why}", self.address),
        )
    }

    fn enqueue(&mut self, asked: Asked) -> Result<Pace, Error> {
        let many = !self.waiting.is_empty();
        self.put(asked)?;
        // What came meanwhile leaves with the same write.
        while self.has_room() {
            match self.requests.try_recv() {
                Ok(asked) => self.put(asked)?,
                Err(_) => return Ok(if many { Pace::Gather } else { Pace::On }),
            }
        }
        Ok(Pace::On)
    }

    fn has_room(&self) -> bool {
        self.pen
            .as_ref()
            .is_none_or(|pen| pen.queued() < QUEUE_BYTES)
            && self.waiting.len() < UNANSWERED
    }

    fn put(&mut self, asked: Asked) -> Result<(), Error> {
        let Asked {
            correlation,
            parts,
            waiting,
        } = asked;
        // Where nobody waits any more, nothing is sent.
        let sends = !waiting.is_gone();
        if sends {
            self.alarm.set_by(waiting.deadline);
            self.expect(correlation, waiting)?;
            self.write(parts);
        }
        self.desk.arrived();
        Ok(())
    }

    fn expect(&mut self, correlation: u32, waiting: Waiting) -> Result<(), Error> {
        match self.waiting.insert(correlation, waiting) {
            None => Ok(()),
            Some(_) => Err(self.lost("its correlation ids are used up")),
        }
    }

    fn write(&mut self, parts: Vec<Bytes>) {
        // Every event is processed with the pen in hand.
        if let Some(pen) = &mut self.pen {
            pen.enqueue(parts);
        }
    }

    /// Tells those whose time is up, and ends the connection if nothing came since they asked.
    fn look_for_late(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        self.alarm.clear();
        let mut silent = false;
        for waiting in self.waiting.values_mut().filter(|it| !it.is_gone()) {
            if waiting.deadline > now {
                self.alarm.set_by(waiting.deadline);
                continue;
            }
            silent |= self.heard < waiting.started;
            let late = too_late(
                waiting.name,
                "was not answered",
                self.timeout,
                &self.address,
            );
            if let Some(answer) = waiting.answer.take() {
                let _ = answer.send(Err(late));
            }
        }
        if silent {
            return Err(self.lost("the broker has fallen silent"));
        }
        self.break_silence(now)
    }

    /// Looks again when nothing may have been heard for too long. A connection that is in use costs
    /// nothing more, and one that is not is woken once in that time.
    fn watch_silence(&mut self) {
        if let Some(beat) = self.beat {
            self.alarm.set_by(self.heard + beat);
        }
    }

    /// Says that the client is there, if nothing was heard for long and nothing is waited for.
    fn break_silence(&mut self, now: Instant) -> Result<(), Error> {
        let Some(beat) = self.beat.filter(|beat| self.heard + *beat <= now) else {
            self.watch_silence();
            return Ok(());
        };
        self.alarm.set_by(now + beat);
        if !self.waiting.is_empty() {
            // What waits at the broker keeps the connection, and its answer will be heard.
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            opcode: Ping::OPCODE,
            name: Ping::NAME,
            answer: Some(answer),
            beginning: None,
            started: now,
            deadline: now + self.timeout,
        };
        self.beating = Some(answered);
        self.alarm.set_by(waiting.deadline);
        self.expect(BEAT, waiting)?;
        self.write(frame::encode(Ping::OPCODE, 0, BEAT, &Ping {}));
        Ok(())
    }

    fn obey(&mut self, order: Order) -> Result<(), Error> {
        match order {
            Order::Withdraw {
                correlation,
                parked,
            } if self.waiting.contains_key(&correlation) => self.cancel(parked, correlation),
            Order::Silent { since } if self.heard < since => {
                Err(self.lost("the broker has fallen silent"))
            }
            Order::Withdraw { .. } | Order::Silent { .. } => Ok(()),
            Order::End(error) => Err(error),
        }
    }

    /// Withdraws a request that may be parked at the broker, which answers it all the same.
    fn cancel(&mut self, topic: TopicId, correlation: u32) -> Result<(), Error> {
        let cancel = Cancel { topic, correlation };
        let own = correlation | CANCEL_BIT;
        let now = Instant::now();
        let nobody = Waiting {
            opcode: Cancel::OPCODE,
            name: Cancel::NAME,
            answer: None,
            beginning: None,
            started: now,
            deadline: now,
        };
        self.expect(own, nobody)?;
        self.write(frame::encode(Cancel::OPCODE, 0, own, &cancel));
        Ok(())
    }

    fn begun(&mut self, correlation: u32, beginning: Beginning) {
        self.heard = Instant::now();
        let waiting = self.waiting.get_mut(&correlation);
        if let Some(eager) = waiting.and_then(|it| it.beginning.take()) {
            // Nobody needs it for being correct.
            let _ = eager.send(beginning);
        }
    }

    fn arrived(&mut self, frame: Frame) -> Result<(), Error> {
        self.heard = Instant::now();
        if frame.flags & CRITICAL_FLAGS & !FLAG_ERROR != 0 {
            return Err(Error::protocol(format!(
                "flags {:#04x} are not known",
                frame.flags
            )));
        }
        let failed = frame.flags & FLAG_ERROR != 0;
        if frame.correlation == frame::NOTICE {
            self.noticed(frame, failed)?;
            // No request bounds how many come, and while they do nobody looks at the alarm.
            return match self.alarm.at() {
                Some(at) if at <= self.heard => self.look_for_late(),
                _ => Ok(()),
            };
        }
        let Some(waiting) = self.waiting.remove(&frame.correlation) else {
            return Err(Error::protocol(format!(
                "an answer to request {}, which has none outstanding",
                frame.correlation
            )));
        };
        let answer = if failed {
            let failure = Failure::from_bytes(frame.body).map_err(Error::protocol);
            match failure {
                Ok(failure) => Err(Error::from(failure)),
                Err(nonsense) => {
                    waiting.tell(Err(nonsense.clone()));
                    return Err(nonsense);
                }
            }
        } else if frame.opcode == waiting.opcode {
            Ok(frame)
        } else {
            let nonsense = Error::protocol(format!(
                "operation {:#04x} answered with {:#04x}",
                waiting.opcode, frame.opcode
            ));
            waiting.tell(Err(nonsense.clone()));
            return Err(nonsense);
        };
        waiting.tell(answer);
        Ok(())
    }

    fn noticed(&self, frame: Frame, failed: bool) -> Result<(), Error> {
        if failed {
            let failure = Failure::from_bytes(frame.body).map_err(Error::protocol)?;
            return Err(self.lost(&failure.to_string()));
        }
        if frame.opcode == GoingAway::OPCODE {
            let notice = GoingAway::from_bytes(frame.body).map_err(Error::protocol)?;
            tracing::debug!(address = %self.address, reason = %notice.reason, "broker is going away");
        }
        // Other notices, those of later versions among them, need no answer.
        Ok(())
    }
}

/// A request whose time is up.
pub(crate) fn too_late(name: &str, what: &str, timeout: Duration, address: &str) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!("{name} {what} within {timeout:?} by the broker at {address}"),
    )
}

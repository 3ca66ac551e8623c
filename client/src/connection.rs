//! One connection: a task that owns the socket; others reach it by links.
//!
//! ```text
//!  Link --Asked--> +------------+ ---frames---> broker
//!  Call <--frame-- | Connection | <---frames---
//!  Call --Order--> +------------+
//! ```
//!
//! The task writes requests in the order in which they came, matches answers to them, and ends
//! with the socket, with the last link, or with the first thing that the protocol does not allow.
//! It never connects again (that is the dialer's) and never looks into a body.

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use logdrive_protocol::body::Body;
use logdrive_protocol::frame::{self, CRITICAL_FLAGS, FLAG_ERROR, Frame, FrameDecoder, FrameError};
use logdrive_protocol::operations::{Cancel, GoingAway, Operation};
use logdrive_protocol::preface::Limits;
use logdrive_protocol::{Failure, TopicId};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::codec::FramedRead;

use crate::{Error, ErrorKind};

/// Requests that wait for the task, apart from those that it has queued for writing.
const REQUESTS: usize = 64;
/// Orders that wait for the task; one that finds no room is not needed for being correct.
const ORDERS: usize = 256;
/// Bytes queued for writing at which the task takes no further request.
const QUEUE_BYTES: usize = 4 << 20;
/// Requests without an answer at which the task takes no further request.
const UNANSWERED: usize = 4096;
/// Pieces handed to one vectored write.
const SLICES: usize = 64;
/// Longest frame that is taken, whatever the broker says its limit is (64 MiB).
const LONGEST_FRAME_BYTES: u32 = 64 << 20;
/// Marks the correlation ids of the task's own cancels, so that links never give out the same.
pub(crate) const CANCEL_BIT: u32 = 1 << 31;
/// Room for reading at first; it follows the frames.
const READ_BYTES: usize = 64 << 10;

/// What an answer is: a frame whose body the asker decodes.
pub(crate) type Answered = Result<Frame, Error>;

/// A request on its way to the task.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) opcode: u8,
    /// Not 0, without [`CANCEL_BIT`], and of no other request that waits.
    pub(crate) correlation: u32,
    /// The frame.
    pub(crate) parts: Vec<Bytes>,
    pub(crate) answer: oneshot::Sender<Answered>,
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

/// The two ends of a connection's mailbox that its links hold.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    pub(crate) requests: mpsc::Sender<Asked>,
    pub(crate) orders: mpsc::Sender<Order>,
}

/// Begins a connection on a socket whose prefaces were exchanged; `rest` came after them.
pub(crate) fn begin(
    socket: TcpStream,
    rest: &BytesMut,
    limits: &Limits,
    address: Arc<str>,
) -> Mailbox {
    let (requests, asked) = mpsc::channel(REQUESTS);
    let (orders, ordered) = mpsc::channel(ORDERS);
    let (read, writer) = socket.into_split();
    let decoder = FrameDecoder::new(limits.frame_bytes.min(LONGEST_FRAME_BYTES));
    let mut reader = FramedRead::with_capacity(read, decoder, READ_BYTES);
    reader.read_buffer_mut().extend_from_slice(rest);
    let connection = Connection {
        reader,
        writer,
        requests: asked,
        orders: ordered,
        waiting: HashMap::new(),
        queue: VecDeque::new(),
        queued: 0,
        heard: Instant::now(),
        address,
    };
    tokio::spawn(connection.run());
    Mailbox { requests, orders }
}

struct Waiting {
    opcode: u8,
    answer: oneshot::Sender<Answered>,
}

struct Connection {
    reader: FramedRead<OwnedReadHalf, FrameDecoder>,
    writer: OwnedWriteHalf,
    requests: mpsc::Receiver<Asked>,
    orders: mpsc::Receiver<Order>,
    /// By correlation id; an entry stays until its answer comes, even if nobody waits for it, so
    /// that every answer is one to a known request.
    waiting: HashMap<u32, Waiting>,
    queue: VecDeque<Bytes>,
    queued: usize,
    /// When something arrived last.
    heard: Instant,
    address: Arc<str>,
}

/// Writes of the queue as much as the socket takes; nothing is lost if it is dropped.
async fn write_some(
    writer: &mut OwnedWriteHalf,
    queue: &VecDeque<Bytes>,
) -> std::io::Result<usize> {
    let slices: [IoSlice<'_>; SLICES] = std::array::from_fn(|index| {
        IoSlice::new(queue.get(index).map_or(&[][..], |part| &part[..]))
    });
    writer
        .write_vectored(&slices[..queue.len().min(SLICES)])
        .await
}

enum Event {
    Asked(Option<Asked>),
    Ordered(Order),
    Wrote(std::io::Result<usize>),
    Arrived(Option<Result<Frame, FrameError>>),
}

impl Connection {
    async fn run(mut self) {
        let end = loop {
            let event = self.next_event().await;
            if let Err(end) = self.process(event) {
                break end;
            }
        };
        tracing::debug!(address = %self.address, %end, "connection ended");
        // Whoever asks from now on finds it closed; what is queued behind was never sent.
        self.requests.close();
        for (_, waiting) in self.waiting.drain() {
            let _ = waiting.answer.send(Err(end.clone()));
        }
        while let Some(asked) = self.requests.recv().await {
            let unsent = Error::new(ErrorKind::Unreachable, end.message());
            let _ = asked.answer.send(Err(unsent));
        }
    }

    async fn next_event(&mut self) -> Event {
        let room = self.queued < QUEUE_BYTES && self.waiting.len() < UNANSWERED;
        tokio::select! {
            asked = self.requests.recv(), if room => Event::Asked(asked),
            Some(order) = self.orders.recv() => Event::Ordered(order),
            wrote = write_some(&mut self.writer, &self.queue), if !self.queue.is_empty() => {
                Event::Wrote(wrote)
            }
            frame = self.reader.next() => Event::Arrived(frame),
        }
    }

    fn process(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Asked(Some(asked)) => self.enqueue(asked),
            Event::Asked(None) => Err(Error::new(ErrorKind::Closed, "the client was closed")),
            Event::Ordered(order) => self.obey(order),
            Event::Wrote(Ok(0)) => Err(self.lost("nothing more can be written")),
            Event::Wrote(Ok(written)) => {
                self.wrote(written);
                Ok(())
            }
            Event::Wrote(Err(error)) | Event::Arrived(Some(Err(FrameError::Io(error)))) => {
                Err(self.lost(&error.to_string()))
            }
            Event::Arrived(None) => Err(self.lost("the broker closed it")),
            Event::Arrived(Some(Err(fault))) => Err(Error::protocol(fault)),
            Event::Arrived(Some(Ok(frame))) => self.arrived(frame),
        }
    }

    fn lost(&self, why: &str) -> Error {
        Error::new(
            ErrorKind::ConnectionLost,
            format!("the connection to {} was lost: {why}", self.address),
        )
    }

    fn enqueue(&mut self, asked: Asked) -> Result<(), Error> {
        self.put(asked)?;
        // What came meanwhile leaves with the same write.
        while self.queued < QUEUE_BYTES && self.waiting.len() < UNANSWERED {
            match self.requests.try_recv() {
                Ok(asked) => self.put(asked)?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn put(&mut self, asked: Asked) -> Result<(), Error> {
        if asked.answer.is_closed() {
            // Nobody waits any more, and nothing was sent.
            return Ok(());
        }
        let waiting = Waiting {
            opcode: asked.opcode,
            answer: asked.answer,
        };
        if self.waiting.insert(asked.correlation, waiting).is_some() {
            return Err(self.lost("its correlation ids are used up"));
        }
        for part in asked.parts {
            self.queued += part.len();
            self.queue.push_back(part);
        }
        Ok(())
    }

    fn wrote(&mut self, mut written: usize) {
        self.queued -= written;
        while let Some(front) = self.queue.front_mut() {
            if written < front.len() {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.queue.pop_front();
        }
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
        let (answer, _nobody) = oneshot::channel();
        let waiting = Waiting {
            opcode: Cancel::OPCODE,
            answer,
        };
        if self.waiting.insert(own, waiting).is_some() {
            return Err(self.lost("its correlation ids are used up"));
        }
        for part in frame::encode(Cancel::OPCODE, 0, own, &cancel) {
            self.queued += part.len();
            self.queue.push_back(part);
        }
        Ok(())
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
            return self.noticed(frame, failed);
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
                    let _ = waiting.answer.send(Err(nonsense.clone()));
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
            let _ = waiting.answer.send(Err(nonsense.clone()));
            return Err(nonsense);
        };
        // Nobody may wait for it any more: then it is of no use to anybody.
        let _ = waiting.answer.send(answer);
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

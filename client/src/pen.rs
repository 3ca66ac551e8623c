//! The pen: the right to write to a connection's socket, and the desk on which it lies while
//! nothing is under way.
//!
//! ```text
//!  link: take the pen from the desk, leave who waits for the answer with it, write, put it back
//!  task: take the pen and who was left with it; keep it while anything is to be written or awaited
//! ```
//!
//! Whoever has the pen owns it, so there is nothing to lock, and frames never mix. A link writes
//! only when nobody waits for anything: then it saves the way through the task, and otherwise the
//! task writes what has gathered in one go. Whoever is left with the pen stands there before a byte
//! is written, so that no answer meets a task that does not know who asked.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use bytes::{Buf, Bytes};
use crossbeam_utils::atomic::AtomicCell;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::either::Either;

use crate::connection::{Asked, Waiting};
use crate::net::WriteHalf;

/// Pieces handed to one vectored write.
const SLICES: usize = 64;

/// The write half of a socket, and what is still to be written to it.
pub(crate) struct Pen {
    writer: WriteHalf,
    queue: VecDeque<Bytes>,
    queued: usize,
    /// The writer may hold back what it took, because it encrypts.
    held: bool,
    /// Who waits for the answer to what a link has written.
    pub(crate) lone: Option<(u32, Waiting)>,
    /// When the task looks for answers that are late, if it does.
    pub(crate) watched_at: Option<Instant>,
}

impl Pen {
    pub(crate) fn new(writer: WriteHalf) -> Self {
        Self {
            writer,
            queue: VecDeque::new(),
            queued: 0,
            held: false,
            lone: None,
            watched_at: None,
        }
    }

    /// Whether all is written.
    pub(crate) fn is_done(&self) -> bool {
        self.queue.is_empty() && !self.held
    }

    /// Bytes that are still to be written.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Lets a frame be written after those before it.
    pub(crate) fn enqueue(&mut self, parts: Vec<Bytes>) {
        for part in parts {
            self.queued += part.len();
            self.queue.push_back(part);
        }
    }

    /// Writes as much as the socket takes; nothing is lost if the future is dropped.
    pub(crate) async fn write(&mut self) -> io::Result<()> {
        if self.queue.is_empty() {
            self.writer.flush().await?;
            self.held = false;
            return Ok(());
        }
        let written = self.writer.write_vectored(&slices(&self.queue)).await?;
        self.held = matches!(self.writer, Either::Right(_));
        self.wrote(written)
    }

    /// Writes what the socket takes at once. What is left, errors too, is the task's, and so is all
    /// where a socket cannot be tried.
    fn write_now(&mut self) {
        if let Either::Left(tcp) = &self.writer
            && let Ok(written) = tcp.try_write_vectored(&slices(&self.queue))
        {
            // An end of the socket stays one, and the task meets it.
            drop(self.wrote(written));
        }
    }

    fn wrote(&mut self, mut written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.queued -= written;
        while let Some(front) = self.queue.front_mut() {
            if written < front.len() {
                front.advance(written);
                break;
            }
            written -= front.len();
            self.queue.pop_front();
        }
        Ok(())
    }
}

/// Slices beyond the queue's end are empty: writing them writes nothing.
fn slices(queue: &VecDeque<Bytes>) -> [IoSlice<'_>; SLICES] {
    std::array::from_fn(|index| IoSlice::new(queue.get(index).map_or(&[][..], |part| &part[..])))
}

/// Where the pen lies while nothing is under way.
#[derive(Default)]
pub(crate) struct Desk {
    pen: AtomicCell<Option<Box<Pen>>>,
    /// The task waits for the pen.
    wanted: AtomicBool,
    /// Requests that are on their way to the task: none may be overtaken.
    sending: AtomicUsize,
    for_task: Notify,
}

impl Desk {
    /// Writes a request at once if nothing at all is under way; else gives it back.
    pub(crate) fn write_lone(&self, asked: Asked) -> Result<(), Asked> {
        if self.sending.load(Ordering::Acquire) > 0 {
            return Err(asked);
        }
        let Some(mut pen) = self.pen.take() else {
            return Err(asked);
        };
        if pen.lone.is_some() || !pen.is_done() {
            self.put(pen);
            return Err(asked);
        }
        let Asked {
            correlation,
            parts,
            waiting,
        } = asked;
        let watched = pen.watched_at.is_some_and(|at| at <= waiting.deadline);
        pen.lone = Some((correlation, waiting));
        pen.enqueue(parts);
        pen.write_now();
        let needs_task = !watched || !pen.is_done();
        self.put(pen);
        if needs_task {
            self.for_task.notify_one();
        }
        Ok(())
    }

    /// Counts a request that is on its way to the task, until it is dropped without having arrived.
    pub(crate) fn sending(&self) -> Sending<'_> {
        self.sending.fetch_add(1, Ordering::AcqRel);
        Sending(self)
    }

    /// A request has arrived: its frame stands in the queue. Only the task calls this.
    pub(crate) fn arrived(&self) {
        self.sending.fetch_sub(1, Ordering::AcqRel);
    }

    /// Lays the pen down.
    pub(crate) fn put(&self, pen: Box<Pen>) {
        self.pen.store(Some(pen));
        // Either the task's next look at the desk sees the pen, or this sees that it looked.
        fence(Ordering::SeqCst);
        if self.wanted.swap(false, Ordering::SeqCst) {
            self.for_task.notify_one();
        }
    }

    /// Takes the pen, which is away for the moment of a write at most. Only the task calls this.
    pub(crate) async fn take(&self) -> Box<Pen> {
        loop {
            if let Some(pen) = self.pen.take() {
                return pen;
            }
            self.wanted.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if let Some(pen) = self.pen.take() {
                self.wanted.store(false, Ordering::SeqCst);
                return pen;
            }
            self.for_task.notified().await;
        }
    }

    /// Waits until something that a link has written needs the task, or for nothing.
    pub(crate) async fn left(&self) {
        self.for_task.notified().await;
    }

    /// Takes the pen away for good: the connection has ended.
    pub(crate) fn clear(&self) {
        drop(self.pen.take());
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The pen cannot be looked at without taking it.
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// A request on its way to the task.
pub(crate) struct Sending<'a>(&'a Desk);

impl Sending<'_> {
    /// It is in the task's mailbox, and the task counts it off.
    pub(crate) fn sent(self) {
        std::mem::forget(self);
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.0.arrived();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::net::{TcpListener, TcpStream};

    /// A desk with a pen, and the other end of its socket.
    async fn desk() -> (Desk, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (socket, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_, writer) = socket.unwrap().into_split();
        let desk = Desk::default();
        desk.put(Box::new(Pen::new(Either::Left(writer))));
        (desk, accepted.unwrap().0)
    }

    fn asked(correlation: u32, text: &'static str) -> Asked {
        let now = Instant::now();
        Asked {
            correlation,
            parts: vec![Bytes::from_static(text.as_bytes())],
            waiting: Waiting {
                opcode: 2,
                name: "Ping",
                answer: None,
                beginning: None,
                started: now,
                deadline: now + Duration::from_secs(30),
            },
        }
    }

    #[tokio::test]
    async fn a_lone_request_is_written_at_once_and_the_next_is_the_tasks() {
        let (desk, peer) = desk().await;
        peer.writable().await.unwrap();
        assert!(desk.write_lone(asked(1, "lone")).is_ok());
        assert!(desk.write_lone(asked(2, "second")).is_err());
        peer.readable().await.unwrap();
        let mut read = [0; 16];
        assert_eq!(peer.try_read(&mut read).unwrap(), 4);
        assert_eq!(&read[..4], b"lone");
        let mut pen = desk.take().await;
        assert_eq!(pen.lone.take().unwrap().0, 1);
        desk.put(pen);
        assert!(desk.write_lone(asked(3, "third")).is_ok());
    }

    #[tokio::test]
    async fn no_request_overtakes_one_that_is_on_its_way_to_the_task() {
        let (desk, _peer) = desk().await;
        let sending = desk.sending();
        assert!(desk.write_lone(asked(1, "fast")).is_err());
        sending.sent();
        assert!(
            desk.write_lone(asked(1, "fast")).is_err(),
            "not written yet"
        );
        desk.arrived();
        drop(desk.sending());
        assert!(desk.write_lone(asked(1, "fast")).is_ok());
    }

    #[tokio::test]
    async fn the_task_waits_for_a_pen_that_is_in_use() {
        let (desk, _peer) = desk().await;
        let pen = desk.take().await;
        let (taken, ()) = tokio::join!(desk.take(), async {
            tokio::task::yield_now().await;
            desk.put(pen);
        });
        assert!(taken.is_done());
    }
}

//! The duty to answer, as a value.
//!
//! A [`Reply`] is made with a request and handed to whoever finishes the work. Answering consumes
//! it; dropping it answers too: `UNAVAILABLE`, or `OUTCOME_UNKNOWN` once [`Reply::staged`] was said. So
//! every request is answered exactly once, nobody waits for anybody, and stopping is dropping. It
//! never touches a socket: its neighbours are the connection's writer and whoever works.

use std::sync::Arc;

use logdrive_protocol::operations::Answer;
use logdrive_protocol::{ErrorCode, Failure};
use tokio::sync::{mpsc, oneshot};

use crate::account::Account;
use crate::planted::{self, Bug};
use crate::window::{Permit, Share, Window};

/// Which connection, as long as the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    /// No connection: the broker itself asks.
    pub const BROKER: Self = Self(u64::MAX);
}

/// An answer on its way to the socket.
#[derive(Debug)]
pub struct Outgoing {
    /// The opcode of the request.
    pub opcode: u8,
    /// The request's correlation id.
    pub correlation: u32,
    /// What to say.
    pub result: Result<Answer, Failure>,
    /// Given back when the answer is on the wire.
    pub permits: [Option<Permit>; 2],
}

/// Where an answer goes.
#[derive(Debug)]
pub enum Sink {
    /// To a connection's writer, as a frame. Boxed: the queue keeps room for 32 of them, also when
    /// the connection is idle.
    Frame(mpsc::UnboundedSender<Box<Outgoing>>),
    /// To who waits for it within the broker: a text session, or a topic.
    Within(oneshot::Sender<Result<Answer, Failure>>),
}

/// The duty to answer one request.
#[derive(Debug)]
pub struct Reply {
    sink: Option<Sink>,
    connection: ConnectionId,
    opcode: u8,
    correlation: u32,
    window: Window,
    request: Option<Permit>,
    share: Option<Share>,
    staged: bool,
}

impl Reply {
    /// The duty that comes with a request; `permit` is held until the answer is on the wire.
    pub fn new(
        sink: Sink,
        connection: ConnectionId,
        opcode: u8,
        correlation: u32,
        window: Window,
        permit: Permit,
    ) -> Self {
        Self {
            sink: Some(sink),
            connection,
            opcode,
            correlation,
            window,
            request: Some(permit),
            share: None,
            staged: false,
        }
    }

    /// The duty that comes with a request of the broker's own, and where its answer arrives.
    ///
    /// Its permit is that of the request which led to it.
    pub fn within() -> (Self, oneshot::Receiver<Result<Answer, Failure>>) {
        let (answer, answered) = oneshot::channel();
        let reply = Self {
            sink: Some(Sink::Within(answer)),
            connection: ConnectionId::BROKER,
            opcode: 0,
            correlation: 0,
            window: Window::new(Arc::default()),
            request: None,
            share: None,
            staged: false,
        };
        (reply, answered)
    }

    /// The connection that waits.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The request's number on that connection.
    pub fn correlation(&self) -> u32 {
        self.correlation
    }

    /// The account of who asks, if he is logged in.
    pub fn account(&self) -> Option<&Arc<Account>> {
        self.window.account()
    }

    /// Whether nobody waits any more: what would change something is not worth doing.
    pub fn is_gone(&self) -> bool {
        match &self.sink {
            Some(Sink::Frame(writer)) => writer.is_closed(),
            Some(Sink::Within(session)) => session.is_closed(),
            None => true,
        }
    }

    /// Whether the request may wait for records: its peer has not sent its last byte.
    pub fn may_wait(&self) -> bool {
        !self.window.is_finished()
    }

    /// From here on the request may have been done: dropping says so.
    pub fn staged(&mut self) {
        self.staged = true;
    }

    /// Takes the answer's share of the window, if it is there.
    pub fn try_reserve(&mut self, bytes: usize) -> bool {
        if self.share.is_none() {
            self.share = self.window.try_reserve(bytes);
        }
        self.share.is_some()
    }

    /// Waits for the answer's share of the window; false if nobody waits for the answer any more, or
    /// it was given because a quota is used up.
    pub async fn reserve(&mut self, bytes: usize) -> bool {
        if self.share.is_none() {
            match self.window.reserve(bytes).await {
                Ok(share) => self.share = share,
                Err(failure) => self.send(Err(failure)),
            }
        }
        self.share.is_some()
    }

    /// Gives the answer's share back, because there is nothing to send yet.
    pub fn release_share(&mut self) {
        self.share = None;
    }

    /// Answers.
    pub fn answer(mut self, answer: Answer) {
        self.send(Ok(answer));
    }

    /// Answers with an error.
    pub fn fail(mut self, failure: Failure) {
        self.send(Err(failure));
    }

    /// Answers before the work is durable; the request's permit is held by the caller until it is.
    pub fn accept(mut self, answer: Answer) -> Option<Permit> {
        let permit = self.request.take();
        self.send(Ok(answer));
        permit
    }

    fn send(&mut self, result: Result<Answer, Failure>) {
        let share = self.settled(&result);
        match self.sink.take() {
            Some(Sink::Frame(writer)) => {
                let permits = [self.request.take(), share];
                let (opcode, correlation) = (self.opcode, self.correlation);
                // A closed writer means that the connection is gone, and with it who asked.
                let _ = writer.send(Box::new(Outgoing {
                    opcode,
                    correlation,
                    result,
                    permits,
                }));
            }
            Some(Sink::Within(session)) => {
                let _ = session.send(result);
            }
            None => {}
        }
    }
}

impl Reply {
    /// The answer's share, of which what it does not need is given back.
    fn settled(&mut self, result: &Result<Answer, Failure>) -> Option<Permit> {
        let bytes = if self.window.is_counted() {
            records_in(result)
        } else {
            0
        };
        match self.share.take() {
            Some(share) => Some(share.settle(bytes)),
            None if bytes > 0 => {
                self.window.charge(bytes);
                None
            }
            None => None,
        }
    }
}

/// Bytes of the batches in an answer.
fn records_in(result: &Result<Answer, Failure>) -> usize {
    match result {
        Ok(Answer::Fetch(delivered) | Answer::Consume(delivered)) => {
            delivered.batches.iter().map(bytes::Bytes::len).sum()
        }
        _ => 0,
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.sink.is_none() {
            return;
        }
        let failure = if self.staged && !planted::is(Bug::TimeoutTakenForFailure) {
            Failure::new(
                ErrorCode::OutcomeUnknown,
                "the broker stopped or failed while this was being written",
            )
            .hint("retry with the same producer and sequence: it is stored once")
        } else {
            Failure::new(
                ErrorCode::Unavailable,
                "the broker could not take this; nothing was done",
            )
            .hint("retry")
        };
        self.send(Err(failure));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logdrive_protocol::operations::Pinged;

    async fn answered(work: impl FnOnce(Reply)) -> String {
        let (writer, mut answers) = mpsc::unbounded_channel();
        let window = Window::new(Arc::default());
        let permit = window.admit(1).await.unwrap();
        work(Reply::new(
            Sink::Frame(writer),
            ConnectionId(1),
            2,
            7,
            window,
            permit,
        ));
        let only = answers.recv().await.unwrap();
        assert!(answers.recv().await.is_none(), "answered twice");
        match only.result {
            Ok(_) => "answered".to_owned(),
            Err(failure) => failure.code.to_string(),
        }
    }

    #[tokio::test]
    async fn every_request_is_answered_exactly_once_also_when_it_is_dropped() {
        let answer = || Answer::Ping(Pinged::default());
        assert_eq!(answered(|reply| reply.answer(answer())).await, "answered");
        assert_eq!(answered(drop).await, "UNAVAILABLE");
        let drop_staged = |mut reply: Reply| {
            reply.staged();
            drop(reply);
        };
        assert_eq!(answered(drop_staged).await, "OUTCOME_UNKNOWN");
    }
}

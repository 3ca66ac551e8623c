//! Links and calls: how one request is handed to a connection, and its answer awaited.
//!
//! A link is one connection's address, not a way to any other: what was sent over it and not
//! answered is lost with it, and whoever sent it decides what that means.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use logdrive_protocol::TopicId;
use logdrive_protocol::body::Body;
use logdrive_protocol::frame;
use logdrive_protocol::operations::Operation;
use logdrive_protocol::preface::Limits;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::arrivals::Beginning;
use crate::connection::{self, Answered, Asked, CANCEL_BIT, Mailbox, Order, Waiting, too_late};
use crate::net::Socket;
use crate::{Error, ErrorKind};

/// The way to one connection; cheap to clone. The connection ends with its last link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    mailbox: Mailbox,
    correlations: Arc<AtomicU32>,
    limits: Limits,
    address: Arc<str>,
    timeout: Duration,
}

/// How long an answer may take, and what withdraws the request if nobody waits any more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parking {
    /// What the request itself asks to wait.
    pub(crate) wait: Duration,
    /// The topic that parks it.
    pub(crate) topic: Option<TopicId>,
}

impl Link {
    /// Begins a connection on a socket whose prefaces were exchanged; `rest` came after them.
    pub(crate) fn begin(
        socket: Socket,
        rest: &BytesMut,
        limits: Limits,
        address: &str,
        timeout: Duration,
    ) -> Self {
        let address: Arc<str> = address.into();
        Self {
            mailbox: connection::begin(socket, rest, &limits, address.clone(), timeout),
            correlations: Arc::new(AtomicU32::new(1)),
            limits,
            address,
            timeout,
        }
    }

    /// What the broker accepts.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether the connection goes on, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        !self.mailbox.requests.is_closed()
    }

    /// When the connection has ended.
    pub(crate) async fn ended(&self) {
        self.mailbox.requests.closed().await;
    }

    /// Whether both are the same connection.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.mailbox.requests.same_channel(&other.mailbox.requests)
    }

    /// Ends the connection because of what the broker sent on it.
    pub(crate) fn distrust(&self, nonsense: Error) {
        self.order(Order::End(nonsense));
    }

    /// Tells the task something; where it has no room for that, it does without.
    fn order(&self, order: Order) {
        let _ = self.mailbox.orders.try_send(order);
    }

    /// Hands a request over and waits only for room in the queue. Requests that were started one
    /// after another leave in that order.
    ///
    /// # Errors
    /// Nothing was sent.
    pub(crate) async fn start<O: Operation>(
        &self,
        request: &O,
        parking: Parking,
    ) -> Result<Call<O>, Error> {
        self.start_eagerly(request, parking, None).await
    }

    /// The same for who can go on with the first bytes of a long answer.
    async fn start_eagerly<O: Operation>(
        &self,
        request: &O,
        parking: Parking,
        beginning: Option<oneshot::Sender<Beginning>>,
    ) -> Result<Call<O>, Error> {
        let started = Instant::now();
        let correlation = self.next_correlation();
        let parts = frame::encode(O::OPCODE, 0, correlation, request);
        let length = parts.iter().map(Bytes::len).sum::<usize>() - frame::LENGTH_BYTES;
        if length > self.limits.frame_bytes as usize {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "a request of {length} bytes is over the broker's limit of {}",
                    self.limits.frame_bytes
                ),
            ));
        }
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            correlation,
            parts,
            waiting: Waiting {
                opcode: O::OPCODE,
                name: O::NAME,
                answer: Some(answer),
                beginning,
                started,
                deadline: started + self.timeout + parking.wait,
            },
        };
        if let Err(asked) = self.mailbox.desk.write_lone(asked) {
            self.hand_over(asked).await?;
        }
        Ok(Call {
            answered,
            link: self.clone(),
            correlation,
            parked: parking.topic,
            done: false,
            operation: PhantomData,
        })
    }

    /// Gives a request to the task, which writes it after those before it.
    async fn hand_over(&self, asked: Asked) -> Result<(), Error> {
        let (name, started) = (asked.waiting.name, asked.waiting.started);
        let sending = self.mailbox.desk.sending();
        let sent = tokio::time::timeout(self.timeout, self.mailbox.requests.send(asked)).await;
        match sent {
            Ok(Ok(())) => {
                sending.sent();
                Ok(())
            }
            Ok(Err(_)) => Err(Error::new(
                ErrorKind::Unreachable,
                format!("the connection to {} has ended", self.address),
            )),
            Err(_) => {
                self.order(Order::Silent { since: started });
                let what = "was not even sent";
                Err(too_late(name, what, self.timeout, &self.address))
            }
        }
    }

    /// Starts a request and waits for its answer; its first bytes, if it is long, leave before.
    pub(crate) async fn ask_eagerly<O: Operation>(
        &self,
        request: &O,
        parking: Parking,
        beginning: Option<oneshot::Sender<Beginning>>,
    ) -> Result<O::Answer, Error> {
        self.start_eagerly(request, parking, beginning).await?.await
    }

    /// Starts a request and waits for its answer.
    pub(crate) async fn ask<O: Operation>(
        &self,
        request: &O,
        parking: Parking,
    ) -> Result<O::Answer, Error> {
        self.start(request, parking).await?.await
    }

    /// Correlation ids count up and begin again long after their last use.
    fn next_correlation(&self) -> u32 {
        loop {
            let next = self.correlations.fetch_add(1, Ordering::Relaxed) & !CANCEL_BIT;
            if next != frame::NOTICE {
                return next;
            }
        }
    }
}

/// A request that was started: a future of its answer. Dropping it withdraws the request.
#[derive(Debug)]
pub(crate) struct Call<O: Operation> {
    answered: oneshot::Receiver<Answered>,
    link: Link,
    correlation: u32,
    parked: Option<TopicId>,
    done: bool,
    operation: PhantomData<fn() -> O>,
}

impl<O: Operation> Call<O> {
    /// The connection that it went over.
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }
}

impl<O: Operation> Future for Call<O> {
    type Output = Result<O::Answer, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(answered) = Pin::new(&mut self.answered).poll(context) {
            self.done = true;
            let Ok(answered) = answered else {
                return Poll::Ready(Err(Error::new(
                    ErrorKind::Closed,
                    "the client's connection task has ended",
                )));
            };
            return Poll::Ready(answered.and_then(|frame| {
                O::Answer::from_bytes(frame.body).map_err(|fault| {
                    let nonsense = Error::protocol(format!("answer to {}: {fault}", O::NAME));
                    self.link.distrust(nonsense.clone());
                    nonsense
                })
            }));
        }
        Poll::Pending
    }
}

impl<O: Operation> Drop for Call<O> {
    fn drop(&mut self) {
        if let (false, Some(parked)) = (self.done, self.parked) {
            // The receiver goes with this value, so the connection drops the answer as it comes.
            let correlation = self.correlation;
            self.link.order(Order::Withdraw {
                correlation,
                parked,
            });
        }
    }
}

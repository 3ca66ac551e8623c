//! The dialer: a task that knows which connection is the current one, and makes a new one on demand.
//!
//! It connects when somebody asks for a link and there is none that is open; it never retries by
//! itself and never pauses. Whoever gets an error decides when to ask again.

use std::sync::Arc;

use bytes::BytesMut;
use logdrive_protocol::body::Body;
use logdrive_protocol::frame::{FLAG_ERROR, FrameDecoder};
use logdrive_protocol::operations::Hello;
use logdrive_protocol::preface::{BrokerPreface, ClientPreface};
use logdrive_protocol::{ErrorCode, Failure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::Decoder;

use crate::credentials::{Derived, log_in};
use crate::link::{Link, Parking};
use crate::{Addresses, Error, ErrorKind, Options};
use crate::{net, tls};

/// Longest frame in which a broker says why it does not let a client in.
const REFUSAL_BYTES: u32 = 4 << 10;
/// Callers that wait for the dialer; more wait for their turn.
const CALLERS: usize = 64;

enum Wish {
    /// The current connection, or a new one.
    Link(oneshot::Sender<Result<Link, Error>>),
    /// This broker is to be tried first from now on, and `from` is not the current one any more.
    Redirect { to: String, from: Link },
    /// Nothing more.
    Close(oneshot::Sender<()>),
}

/// The way to the dialer; cheap to clone. The task ends with the last of them.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    wishes: mpsc::Sender<Wish>,
    options: Arc<Options>,
}

impl Dialer {
    /// Begins with no connection.
    pub(crate) fn begin(addresses: Addresses, options: Options) -> Result<Self, Error> {
        if addresses.0.is_empty() {
            return Err(
                Error::new(ErrorKind::Invalid, "no address of a broker was given")
                    .with_hint("give host:port, for example 127.0.0.1:7440"),
            );
        }
        let options = Arc::new(options);
        let (wishes, inbox) = mpsc::channel(CALLERS);
        let dialing = Dialing {
            addresses: addresses.0,
            redirected: None,
            current: None,
            derived: Derived::default(),
            options: options.clone(),
        };
        tokio::spawn(dialing.run(inbox));
        Ok(Self { wishes, options })
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// A connection that is open as far as is known.
    pub(crate) async fn link(&self) -> Result<Link, Error> {
        let (answer, answered) = oneshot::channel();
        if self.wishes.send(Wish::Link(answer)).await.is_err() {
            return Err(closed());
        }
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Follows a broker that named another one.
    pub(crate) async fn redirect(&self, from: &Link, to: &str) {
        let wish = Wish::Redirect {
            to: to.to_owned(),
            from: from.clone(),
        };
        // Without a dialer the next request for a link says so.
        let _ = self.wishes.send(wish).await;
    }

    /// Ends the dialer; links that are out stay usable until they are dropped.
    pub(crate) async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        if self.wishes.send(Wish::Close(answer)).await.is_ok() {
            let _ = answered.await;
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the client was closed")
}

struct Dialing {
    addresses: Vec<String>,
    redirected: Option<String>,
    current: Option<Link>,
    /// Keys of the password, from the last time that they were needed.
    derived: Derived,
    options: Arc<Options>,
}

impl Dialing {
    async fn run(mut self, mut inbox: mpsc::Receiver<Wish>) {
        while let Some(wish) = inbox.recv().await {
            match wish {
                Wish::Link(answer) => {
                    let link = self.link().await;
                    let failed = link.as_ref().err().cloned();
                    let _ = answer.send(link);
                    if let Some(error) = failed {
                        // Those who asked while this attempt ran get its result, not one each.
                        self.share(&mut inbox, &error);
                    }
                }
                Wish::Redirect { to, from } => self.redirect(to, &from),
                Wish::Close(answer) => {
                    inbox.close();
                    self.current = None;
                    let _ = answer.send(());
                    return;
                }
            }
        }
    }

    fn share(&mut self, inbox: &mut mpsc::Receiver<Wish>, error: &Error) {
        for _ in 0..inbox.len() {
            match inbox.try_recv() {
                Ok(Wish::Link(answer)) => {
                    let _ = answer.send(Err(error.clone()));
                }
                Ok(Wish::Redirect { to, from }) => self.redirect(to, &from),
                Ok(Wish::Close(answer)) => {
                    inbox.close();
                    let _ = answer.send(());
                }
                Err(_) => return,
            }
        }
    }

    fn redirect(&mut self, to: String, from: &Link) {
        if self.current.as_ref().is_some_and(|link| link.same_as(from)) {
            self.current = None;
            self.redirected = Some(to);
        }
    }

    async fn link(&mut self) -> Result<Link, Error> {
        if let Some(link) = self.current.as_ref().filter(|link| link.is_open()) {
            return Ok(link.clone());
        }
        let mut first_error = None;
        for address in self.redirected.take().iter().chain(&self.addresses) {
            match connect(address, &self.options, &mut self.derived).await {
                Ok(link) => {
                    self.current = Some(link.clone());
                    return Ok(link);
                }
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or_else(closed))
    }
}

/// One attempt, handshake and login included.
async fn connect(address: &str, options: &Options, derived: &mut Derived) -> Result<Link, Error> {
    let limit = options.connect_timeout;
    let connecting = async {
        let link = open(address, options).await?;
        if let Some(credentials) = &options.credentials {
            log_in(&link, credentials, derived).await?;
        }
        Ok(link)
    };
    let link = tokio::time::timeout(limit, connecting).await;
    let link = link.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Unreachable,
            format!("cannot reach {address}: no answer within {limit:?}"),
        )
        .with_hint("is the address right, and does nothing on the way drop connections to it?"))
    })?;
    if !options.client_name.is_empty() {
        let hello = Hello {
            client: options.client_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let greeting = link.start(&hello, Parking::default()).await?;
        // Only the broker's diagnostics want it, so nobody waits for the answer.
        tokio::spawn(greeting);
    }
    Ok(link)
}

async fn open(address: &str, options: &Options) -> Result<Link, Error> {
    let unreachable = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                "is the broker running? start it with: logdrive serve"
            }
            std::io::ErrorKind::InvalidInput => "an address is host:port, like 127.0.0.1:7440",
            _ => "is the address right, and the broker running?",
        };
        let kind = ErrorKind::Unreachable;
        // What the broker thinks of a client's certificate may come behind the handshake.
        tls::fault(address, &error).unwrap_or_else(|| {
            Error::new(kind, format!("cannot reach {address}: {}", plain(&error))).with_hint(hint)
        })
    };
    let socket = net::connect(address, options.connector.as_ref()).await;
    let mut socket = socket.map_err(unreachable)?;
    if let Some(tls) = &options.tls {
        socket = tls.connect(address, socket).await?;
    }
    let mut preface = BytesMut::new();
    ClientPreface::default().encode(&mut preface);
    socket.write_all(&preface).await.map_err(unreachable)?;
    socket.flush().await.map_err(unreachable)?;
    preface.clear();
    let strange = |failure: Failure| {
        Error::new(
            ErrorKind::Protocol,
            format!("{address}: {}", failure.message),
        )
        .with_hint(failure.hint)
    };
    loop {
        // A preface begins with another byte.
        let decoded = if preface.first() == Some(&0) {
            match refusal(&preface).map_err(strange)? {
                Some(failure) => return Err(Error::from(failure).after(address)),
                None => None,
            }
        } else {
            BrokerPreface::decode(&mut preface).map_err(strange)?
        };
        if let Some(broker) = decoded {
            tracing::debug!(address, "connected");
            return Ok(Link::begin(
                socket,
                &preface,
                broker.limits,
                address,
                options.request_timeout,
            ));
        }
        if socket.read_buf(&mut preface).await.map_err(unreachable)? == 0 {
            return Err(Error::new(
                ErrorKind::Unreachable,
                format!("cannot reach {address}: the connection was closed in the handshake"),
            )
            .with_hint("is this a logdrive broker, and is it still taking connections?"));
        }
    }
}

/// What a broker says in place of its preface if it does not let the client in: nothing as long as
/// it has not come in whole.
fn refusal(input: &BytesMut) -> Result<Option<Failure>, Failure> {
    let nonsense = || Failure::new(ErrorCode::BadPreface, "the other side is not logdrive");
    let frame = FrameDecoder::new(REFUSAL_BYTES).decode(&mut input.clone());
    match frame.map_err(|_| nonsense())? {
        None => Ok(None),
        Some(frame) if frame.flags & FLAG_ERROR == 0 => Err(nonsense()),
        Some(frame) => Failure::from_bytes(frame.body)
            .map(Some)
            .map_err(|_| nonsense()),
    }
}

/// The cause without the operating system's number, where Rust has words of its own for it.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::ConnectionReset => "the connection was reset".to_owned(),
        _ => error.to_string(),
    }
}

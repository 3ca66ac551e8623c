//! How a client reaches a broker: the socket types, in one place.
//!
//! A TCP socket keeps its own halves, without a lock and a layer between them; whatever else speaks
//! bytes in both directions is boxed.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::either::Either;

/// Bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// What a connection reads from.
pub(crate) type ReadHalf = Either<OwnedReadHalf, Box<dyn AsyncRead + Send + Unpin>>;

/// What a connection writes to.
pub(crate) type WriteHalf = Either<OwnedWriteHalf, Box<dyn AsyncWrite + Send + Unpin>>;

/// A socket that is connected.
pub(crate) type Socket = Either<TcpStream, Box<dyn Duplex>>;

type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Duplex>>> + Send>>;

/// Another way to an address than TCP: a tunnel, a proxy, a simulated network; cheap to clone.
///
/// It is called once for each attempt to connect, with the address as it was given.
#[derive(Clone)]
pub struct Connector(Arc<dyn Fn(String) -> Connecting + Send + Sync>);

impl Connector {
    /// Calls `connect` for each attempt.
    pub fn new<F, D>(connect: impl Fn(String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<D>> + Send + 'static,
        D: Duplex + 'static,
    {
        Self(Arc::new(move |address| {
            let connecting = connect(address);
            Box::pin(async move { Ok(Box::new(connecting.await?) as Box<dyn Duplex>) })
        }))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

/// One attempt, without a handshake.
pub(crate) async fn connect(address: &str, connector: Option<&Connector>) -> io::Result<Socket> {
    if let Some(Connector(connect)) = connector {
        return Ok(Either::Right(connect(address.to_owned()).await?));
    }
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(Either::Left(socket))
}

/// The halves of a socket.
pub(crate) fn halves(socket: Socket) -> (ReadHalf, WriteHalf) {
    match socket {
        Either::Left(tcp) => {
            let (read, write) = tcp.into_split();
            (Either::Left(read), Either::Left(write))
        }
        Either::Right(other) => {
            let (read, write) = split(other);
            (
                Either::Right(Box::new(read)),
                Either::Right(Box::new(write)),
            )
        }
    }
}

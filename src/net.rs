//! The socket types, in one place, so that TLS and a simulated network can stand in for TCP.
//!
//! A TCP socket keeps its own halves, without a lock and a layer between them; whatever else speaks
//! bytes in both directions is boxed.

use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
pub use tokio::net::{TcpListener, TcpStream};
use tokio_util::either::Either;

/// Bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// What a connection reads from.
pub type ReadHalf = Either<OwnedReadHalf, Box<dyn AsyncRead + Send + Unpin>>;

/// What a connection's writer writes to.
pub type WriteHalf = Either<OwnedWriteHalf, Box<dyn AsyncWrite + Send + Unpin>>;

/// The halves of a TCP socket.
pub fn split_tcp(socket: TcpStream) -> (ReadHalf, WriteHalf) {
    let (read, write) = socket.into_split();
    (Either::Left(read), Either::Left(write))
}

/// The halves of anything else.
pub fn split_duplex(socket: impl Duplex + 'static) -> (ReadHalf, WriteHalf) {
    let (read, write) = split(socket);
    (
        Either::Right(Box::new(read)),
        Either::Right(Box::new(write)),
    )
}

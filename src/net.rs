//! The socket types, in one place, so that TLS and a simulated network can stand in for TCP.
//!
//! A TCP socket keeps its own halves, without a lock and a layer between them; whatever else speaks
//! bytes in both directions is boxed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, split};
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

/// A reader that was read from already: what was read comes first.
#[derive(Debug)]
pub struct Rewound<R> {
    begun: BytesMut,
    rest: R,
}

impl<R> Rewound<R> {
    /// Gives `begun`, then what `rest` gives.
    pub fn new(begun: BytesMut, rest: R) -> Self {
        Self { begun, rest }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Rewound<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.begun.is_empty() {
            return Pin::new(&mut self.rest).poll_read(context, buffer);
        }
        let taken = self.begun.len().min(buffer.remaining());
        buffer.put_slice(&self.begun.split_to(taken));
        if self.begun.is_empty() {
            // Its memory is not needed for the rest of the connection.
            self.begun = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn what_was_read_already_comes_first() {
        let mut rewound = Rewound::new(BytesMut::from(&b"first, "[..]), &b"then"[..]);
        let mut few = [0; 3];
        rewound.read_exact(&mut few).await.unwrap();
        let mut rest = String::new();
        rewound.read_to_string(&mut rest).await.unwrap();
        assert_eq!((&few[..], rest.as_str()), (&b"fir"[..], "st, then"));
    }
}

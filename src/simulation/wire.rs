//! The wire between clients and the broker: turmoil's sockets, watched, and with scissors.
//!
//! Everything that a client sends or receives goes into the [`trace`]. A host's connections can all
//! be cut at once, as a router does that forgets them. Its neighbours: the client's connector, and
//! whoever chooses faults.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use logdrive_client::Connector;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::TcpStream;

use super::trace;

thread_local! {
    static OPEN: RefCell<Vec<(usize, Arc<Cord>)>> = RefCell::default();
    static LAST: Cell<u64> = const { Cell::new(0) };
}

/// What ends a connection from outside.
#[derive(Debug, Default)]
struct Cord {
    is_cut: AtomicBool,
    reader: AtomicWaker,
}

/// A client's end of a connection.
#[derive(Debug)]
struct Wire {
    socket: TcpStream,
    number: u64,
    cord: Arc<Cord>,
}

/// How a player on a host reaches the broker.
pub(super) fn connector(host: usize, player: &str) -> Connector {
    let player: Arc<str> = player.into();
    Connector::new(move |address| {
        let player = player.clone();
        async move {
            let socket = TcpStream::connect(address).await?;
            let number = LAST.get() + 1;
            LAST.set(number);
            trace::note("connected", number, player.as_bytes());
            let cord = Arc::new(Cord::default());
            OPEN.with_borrow_mut(|open| open.push((host, cord.clone())));
            Ok(Wire {
                socket,
                number,
                cord,
            })
        }
    })
}

/// Forgets the connections of a simulation that has ended.
pub(super) fn begin() {
    OPEN.set(Vec::new());
    LAST.set(0);
}

/// Cuts all connections of a host.
pub(super) fn cut(host: usize) {
    let all = OPEN.take();
    let (cut, left) = all.into_iter().partition(|(of, _)| *of == host);
    OPEN.set(left);
    let cut: Vec<(usize, Arc<Cord>)> = cut;
    for (_, cord) in cut {
        cord.is_cut.store(true, Ordering::Relaxed);
        cord.reader.wake();
    }
}

impl Wire {
    fn check(&self) -> io::Result<()> {
        if self.cord.is_cut.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        self.cord.reader.register(cx.waker());
        let before = buf.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        if let Poll::Ready(read) = &read {
            let what = if read.is_ok() { "received on" } else { "lost" };
            trace::note(what, self.number, &buf.filled()[before..]);
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let wrote = Pin::new(&mut self.socket).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &wrote {
            trace::note("sent on", self.number, &bytes[..*count]);
        }
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

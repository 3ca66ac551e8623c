//! A socket with a buffer on each side: what the hand-written clients of peers share.
//!
//! Owns reading and writing of bytes, and never looks at them; what they mean is for
//! [`resp`](super::resp) and [`nats_wire`](super::nats_wire). A server that sends more than is
//! asked for is cut off rather than believed.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Room that is made for a read; also what a socket gives at most at a time.
const READ_BYTES: usize = 256 << 10;
/// Bytes that may wait for the rest of their item: far more than an item of the comparison has.
const MAX_UNREAD: usize = 16 << 20;

/// A connection to a peer.
#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    /// What has arrived and was not taken yet.
    pub(super) input: BytesMut,
    /// What [`flush`](Self::flush) sends.
    pub(super) output: BytesMut,
}

impl Link {
    /// Connects, without delay for small writes.
    pub(super) async fn connect(at: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
        })
    }

    /// Sends what was put into `output`.
    pub(super) async fn flush(&mut self) -> Result<()> {
        self.stream.write_all_buf(&mut self.output).await?;
        Ok(())
    }

    /// Waits for more input; loses nothing if it is dropped meanwhile.
    pub(super) async fn more(&mut self) -> Result<()> {
        if self.input.len() > MAX_UNREAD {
            bail!("the server sent {MAX_UNREAD} bytes that make no item");
        }
        self.input.reserve(READ_BYTES);
        let read = self.stream.read_buf(&mut self.input).await;
        if read.context("the connection was lost")? == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }
}

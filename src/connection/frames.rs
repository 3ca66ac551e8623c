//! Frames off a socket, and the memory that reading them takes.
//!
//! ```text
//!  nothing begun:  socket -> scratch on the stack -> as many bytes as came -> frames
//!  frame begun:    socket -> the frame's own buffer, which grows with what has arrived
//! ```
//!
//! A connection that is silent holds no buffer: room is taken only for bytes that are there. It
//! never looks into a body. Its neighbours: the connection's actor takes the frames.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use logdrive_protocol::frame::{Frame, FrameDecoder, FrameError};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::codec::Decoder;
use tokio_util::io::poll_read_buf;

use crate::limits::READ_SCRATCH_BYTES;

/// The frames that a peer sends.
#[derive(Debug)]
pub(super) struct Frames<R> {
    socket: R,
    /// Longest frame, in bytes: short before somebody is logged in.
    limit: Arc<AtomicU32>,
    /// What has arrived of frames that were not taken yet.
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// Frames of at most `limit` bytes; `begun` was read before, and comes first.
    pub(super) fn new(socket: R, begun: &[u8], limit: Arc<AtomicU32>) -> Self {
        Self {
            socket,
            limit,
            buffer: begun.into(),
        }
    }

    /// The next frame; `None` when the peer has left between two frames. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    /// The boundary between frames is lost, or the socket.
    pub(super) async fn next(&mut self) -> Option<Result<Frame, FrameError>> {
        loop {
            let limit = self.limit.load(Ordering::Acquire);
            match FrameDecoder::new(limit).decode(&mut self.buffer) {
                Ok(Some(frame)) => return Some(Ok(frame)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
            match poll_fn(|context| self.poll_fill(context)).await {
                Ok(0) if self.buffer.is_empty() => return None,
                Ok(0) => return Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
                Ok(_) => {}
                Err(error) => return Some(Err(error.into())),
            }
        }
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let socket = Pin::new(&mut self.socket);
        if !self.buffer.is_empty() {
            // The decoder has made room for more of the frame that is begun.
            return poll_read_buf(socket, context, &mut self.buffer);
        }
        // The last frame's memory is its own from here on.
        self.buffer = BytesMut::new();
        let mut scratch = [MaybeUninit::uninit(); READ_SCRATCH_BYTES];
        let mut scratch = ReadBuf::uninit(&mut scratch);
        ready!(socket.poll_read(context, &mut scratch))?;
        self.buffer.put_slice(scratch.filled());
        Poll::Ready(Ok(scratch.filled().len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use logdrive_protocol::frame;
    use logdrive_protocol::operations::{Payload, Produce};
    use tokio::io::AsyncWriteExt;

    fn limit() -> Arc<AtomicU32> {
        Arc::new(AtomicU32::new(1 << 20))
    }

    fn written(lengths: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (correlation, length) in (1..).zip(lengths) {
            let produce = Produce {
                batch: Payload::Shared(Bytes::from(vec![7; *length])),
                ..Produce::default()
            };
            bytes.extend(frame::encode(0x22, 0, correlation, &produce).concat());
        }
        bytes
    }

    /// Frames with bodies of about these lengths, of which `begun` bytes come first and the rest in
    /// pieces of `piece`; the correlation ids that come out, and how it ends.
    async fn check(lengths: &[usize], begun: usize, piece: usize, expected: &str) {
        let bytes = written(lengths);
        let (mut peer, socket) = tokio::io::duplex(piece);
        let mut frames = Frames::new(socket, &bytes[..begun], limit());
        let rest = bytes[begun..].to_vec();
        tokio::spawn(async move {
            peer.write_all(&rest).await.unwrap();
        });
        let mut got = Vec::new();
        loop {
            match frames.next().await {
                Some(Ok(frame)) => got.push(frame.correlation.to_string()),
                Some(Err(error)) => got.push(error.to_failure().code.to_string()),
                None => break,
            }
            if got.len() > lengths.len() {
                break;
            }
        }
        assert_eq!(got.join(" "), expected);
        assert_eq!(
            frames.buffer.capacity(),
            0,
            "a silent connection holds nothing"
        );
    }

    #[tokio::test]
    async fn frames_come_out_whole_however_they_arrive() {
        for piece in [1, 13, 4096, 1 << 20] {
            check(&[10, 0, 100_000, 3], 0, piece, "1 2 3 4").await;
        }
    }

    #[tokio::test]
    async fn what_came_with_the_preface_comes_first() {
        check(&[10, 20], 5, 64, "1 2").await;
        let both = written(&[10, 20]).len();
        check(&[10, 20], both, 64, "1 2").await;
    }

    #[tokio::test]
    async fn a_frame_that_is_cut_off_is_an_error() {
        let bytes = written(&[100]);
        let mut frames = Frames::new(&bytes[..50], &[], limit());
        let end = frames.next().await;
        assert!(matches!(end, Some(Err(FrameError::Io(_)))), "{end:?}");
    }
}

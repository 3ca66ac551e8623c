//! Frames off a socket, and the memory that reading them takes.
//!
//! ```text
//!  nothing begun:  socket -> scratch on the stack -> as many bytes as came -> frames
//!  frame begun:    socket -> the frame's own buffer, which grows with what has arrived
//! ```
//!
//! A connection that is silent holds no buffer: room is taken only for bytes that are there, and for
//! the body of a long frame only as far as all such frames together may take it. A frame that was begun
//! must [go on](Pace), and a connection on which nobody says anything ends after its
//! idle time: one timer, looked at when it rings, never for each frame. It never looks into a body.
//! Its neighbours: the connection's actor takes the frames.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use logdrive_protocol::frame::{Frame, FrameDecoder, FrameError, HEADER_BYTES};
use logdrive_protocol::{ErrorCode, Failure};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::codec::Decoder;
use tokio_util::io::poll_read_buf;

use super::pace::Pace;
use crate::limits::{FRAME_WAIT, LONG_FRAME_BYTES, LONG_FRAME_WAIT, READ_SCRATCH_BYTES};
use crate::window::{Arriving, Window};

/// What an idle time of zero means, as good as never.
const NEVER: Duration = Duration::from_hours(24 * 365 * 30);

/// Why no further frame comes.
#[derive(Debug)]
pub(super) enum Fault {
    /// The boundary between frames is lost, or the socket.
    Frame(FrameError),
    /// A frame was begun and did not go on.
    Stalled,
    /// There was no room for the rest of a long frame.
    Crowded,
    /// Nobody has said anything for so long.
    Idle(Duration),
}

impl Fault {
    /// What the last frame before the end says.
    pub(super) fn to_failure(&self) -> Failure {
        match self {
            Self::Frame(error) => error.to_failure(),
            Self::Stalled => {
                let what = format!("a frame was begun and did not go on for {FRAME_WAIT:?}");
                Failure::new(ErrorCode::FrameTimeout, what)
                    .hint("send a frame at once, or in pieces that follow each other")
            }
            Self::Crowded => crowded(),
            Self::Idle(idle) => {
                let what = format!("nothing was said for {idle:?}");
                Failure::new(ErrorCode::IdleTimeout, what)
                    .hint("reconnect when there is something to say, or send a Ping in time")
            }
        }
    }
}

/// What is said to who sends something long while others hold all room.
pub(super) fn crowded() -> Failure {
    let what = format!("long requests of others have held all room for {FRAME_WAIT:?}");
    Failure::new(ErrorCode::FrameTimeout, what).hint("connect again, and send it again")
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Frame(error.into())
    }
}

/// A whole frame.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) frame: Frame,
    /// Holds its room: to be dropped when the request has its own permit.
    pub(super) begun: Begun,
}

/// What was settled when a frame's header was there.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// A quota does not let it through.
    pub(super) refused: Option<Failure>,
    long: Option<Long>,
}

/// What a long frame takes while it arrives.
#[derive(Debug)]
struct Long {
    bytes: usize,
    room: Arriving,
    /// How fast it must come while others wait for room.
    pace: Pace,
}

/// The frames that a peer sends.
#[derive(Debug)]
pub(super) struct Frames<R> {
    socket: R,
    /// Longest frame, in bytes: short before somebody is logged in.
    limit: Arc<AtomicU32>,
    /// What has arrived of frames that were not taken yet.
    buffer: BytesMut,
    window: Window,
    idle: Duration,
    /// Since when it was looked whether anybody says anything.
    silent_since: Instant,
    /// Something has arrived since then.
    heard: bool,
    /// How the frame that is begun goes on.
    pace: Option<Pace>,
    /// Of the frame at the front of the buffer, once its header is there.
    begun: Option<Begun>,
    /// Rings no later than the first of these is to be looked at.
    alarm: Pin<Box<Sleep>>,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// Frames of at most `limit` bytes; `begun` was read before, and comes first. Zero `idle` is no
    /// limit.
    pub(super) fn new(
        socket: R,
        begun: &[u8],
        limit: Arc<AtomicU32>,
        window: Window,
        idle: Duration,
    ) -> Self {
        let idle = if idle.is_zero() { NEVER } else { idle };
        let now = Instant::now();
        Self {
            socket,
            limit,
            buffer: begun.into(),
            window,
            idle,
            silent_since: now,
            heard: true,
            pace: None,
            begun: None,
            alarm: Box::pin(sleep_until(now + idle)),
        }
    }

    /// The next frame, when its principal's quotas let it through; `None` when the peer has left
    /// between two frames. Dropping the future loses nothing but a place in a queue.
    ///
    /// # Errors
    /// Those of [`Fault`]; nothing follows.
    pub(super) async fn next(&mut self) -> Option<Result<Arrived, Fault>> {
        loop {
            let mut decoder = FrameDecoder::new(self.limit.load(Ordering::Acquire));
            if self.begun.is_none()
                && let Some((opcode, bytes)) = decoder.peek(&self.buffer)
            {
                self.begun = Some(self.begin(opcode, bytes).await);
                // The time that this took is not the peer's.
                self.pace = None;
            }
            match decoder.decode(&mut self.buffer) {
                Ok(Some(frame)) => {
                    // Nor is the time until the next one is asked for.
                    self.pace = None;
                    let begun = self.begun.take().unwrap_or_default();
                    return Some(Ok(Arrived { frame, begun }));
                }
                Ok(None) => {}
                Err(error) => return Some(Err(error.into())),
            }
            if self.make_room().await.is_err() {
                return Some(Err(Fault::Crowded));
            }
            match poll_fn(|context| self.poll_fill(context)).await {
                Ok(0) if self.buffer.is_empty() => return None,
                Ok(0) => return Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
                Ok(count) => {
                    self.heard = true;
                    if let Some(pace) = &mut self.pace {
                        pace.count(count);
                    }
                    if let Some(long) = self.long() {
                        long.pace.count(count);
                    }
                }
                Err(fault) => return Some(Err(fault)),
            }
        }
    }

    /// Waits before anything more of a frame is read: so quotas push back.
    async fn begin(&self, opcode: u8, bytes: usize) -> Begun {
        let refused = self.window.pace(opcode, bytes).await.err();
        let long = || Long {
            bytes: bytes.saturating_add(HEADER_BYTES),
            room: self.window.arriving(),
            pace: Pace::of_wanted(LONG_FRAME_WAIT, Instant::now()),
        };
        Begun {
            refused,
            long: (bytes > LONG_FRAME_BYTES).then(long),
        }
    }

    /// Waits before more of a long frame is read: so what is there of all of them is bounded, however
    /// many connections send them.
    async fn make_room(&mut self) -> Result<(), Elapsed> {
        let arrived = self.buffer.len();
        let Some(long) = self.begun.as_mut().and_then(|it| it.long.as_mut()) else {
            return Ok(());
        };
        if long.room.grow(arrived, long.bytes).await? {
            // The time that this took is not the peer's.
            long.pace = Pace::of_wanted(LONG_FRAME_WAIT, Instant::now());
            self.pace = None;
        }
        Ok(())
    }

    fn long(&mut self) -> Option<&mut Long> {
        self.begun.as_mut()?.long.as_mut()
    }

    /// Reads what there is; what has arrived counts before the time that it took.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<Result<usize, Fault>> {
        if let Poll::Ready(read) = self.poll_read(context) {
            return Poll::Ready(read.map_err(Fault::from));
        }
        if self.pace.is_none() && !self.buffer.is_empty() {
            self.pace = Some(Pace::new(FRAME_WAIT, Instant::now()));
        }
        loop {
            let due = self.due();
            if self.alarm.deadline() > due {
                self.alarm.as_mut().reset(due);
            }
            ready!(self.alarm.as_mut().poll(context));
            self.look(Instant::now())?;
            let due = self.due();
            self.alarm.as_mut().reset(due);
        }
    }

    /// When it is to be looked at the peer next.
    fn due(&self) -> Instant {
        let Some(pace) = self.pace else {
            return self.silent_since + self.idle;
        };
        let long = self.begun.as_ref().and_then(|it| it.long.as_ref());
        let wanted = long.map(|long| long.pace.deadline());
        wanted.unwrap_or(pace.deadline()).min(pace.deadline())
    }

    /// Whether the peer is too slow, or silent for too long.
    fn look(&mut self, now: Instant) -> Result<(), Fault> {
        if let Some(pace) = &mut self.pace {
            let goes_on = pace.goes_on(now);
            let is_fast = self.long().is_none_or(|long| long.pace.goes_on(now));
            return if goes_on && (is_fast || !self.window.delays_others()) {
                Ok(())
            } else {
                Err(Fault::Stalled)
            };
        }
        if now < self.silent_since + self.idle {
            return Ok(());
        }
        // Both are asked, so that both begin anew.
        let heard = std::mem::take(&mut self.heard);
        if self.window.is_in_use() || heard {
            self.silent_since = now;
            return Ok(());
        }
        Err(Fault::Idle(self.idle))
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
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
    use std::sync::Arc;
    use tokio::io::AsyncWriteExt;

    fn frames_of<R: AsyncRead + Unpin>(socket: R, begun: &[u8], idle: Duration) -> Frames<R> {
        let limit = Arc::new(AtomicU32::new(1 << 20));
        Frames::new(socket, begun, limit, Window::new(Arc::default()), idle)
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
        let mut frames = frames_of(socket, &bytes[..begun], Duration::ZERO);
        let rest = bytes[begun..].to_vec();
        tokio::spawn(async move {
            peer.write_all(&rest).await.unwrap();
        });
        let mut got = Vec::new();
        loop {
            match frames.next().await {
                Some(Ok(arrived)) => got.push(arrived.frame.correlation.to_string()),
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
        let mut frames = frames_of(&bytes[..50], &[], Duration::ZERO);
        let end = frames.next().await;
        assert!(
            matches!(end, Some(Err(Fault::Frame(FrameError::Io(_))))),
            "{end:?}"
        );
    }

    #[tokio::test]
    async fn a_connection_is_idle_only_when_nothing_is_said_and_nothing_waits() {
        let (mut peer, socket) = tokio::io::duplex(4096);
        let mut frames = frames_of(socket, &[], Duration::from_millis(20));
        let window = frames.window.clone();
        let asked = window.admit(1).await.unwrap();
        peer.write_all(&written(&[3])).await.unwrap();
        assert!(matches!(frames.next().await, Some(Ok(_))));
        // A request waits: the connection stays, for as long as that takes.
        let waits = tokio::time::timeout(Duration::from_millis(200), frames.next());
        assert!(waits.await.is_err());
        drop(asked);
        let end = frames.next().await;
        assert!(matches!(end, Some(Err(Fault::Idle(_)))), "{end:?}");
    }
}

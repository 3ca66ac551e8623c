//! Lines off a socket: LF or CRLF, bounded, with telnet's negotiation swallowed.

use bytes::{Buf, BytesMut};
use logdrive_protocol::{ErrorCode, Failure};
use tokio::io::AsyncReadExt;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use super::super::frames::crowded;
use super::super::handshake::IAC;
use super::super::pace::Pace;
use crate::limits::{LINE_WAIT, LONG_FRAME_BYTES, LONG_FRAME_WAIT, MAX_LINE_BYTES, TEXT_IDLE};
use crate::net::ReadHalf;
use crate::window::{Arriving, Window};

/// Room for each read, at least.
const READ_BYTES: usize = 1 << 10;
/// Telnet: a subnegotiation begins; IAC SE ends it.
const SB: u8 = 250;
/// Telnet: a subnegotiation ends.
const SE: u8 = 240;
/// Telnet: WILL, WONT, DO and DONT take one more byte.
const OPTIONS: std::ops::RangeInclusive<u8> = 251..=254;

/// The lines that a peer sends.
pub(in super::super) struct Lines {
    read: ReadHalf,
    buffer: BytesMut,
    /// Bytes of the buffer that hold no line end.
    searched: usize,
    telnet: bool,
    /// Longest line, in bytes.
    limit: usize,
    window: Window,
    /// Of a long line, until the next one is asked for.
    room: Option<Arriving>,
}

impl Lines {
    pub(in super::super) fn new(
        read: ReadHalf,
        buffer: BytesMut,
        telnet: bool,
        window: Window,
    ) -> Self {
        Self {
            read,
            buffer,
            searched: 0,
            telnet,
            limit: MAX_LINE_BYTES,
            window,
            room: None,
        }
    }

    /// Refuses longer lines from now on.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The next line without its end; `None` when the peer has left.
    ///
    /// # Errors
    /// `LINE_TOO_LONG`, `SYNTAX` for a last line without an end, `FRAME_TIMEOUT` for one that does
    /// not go on, and `IDLE_TIMEOUT` after a long silence: the session ends.
    pub(super) async fn next(&mut self) -> Result<Option<BytesMut>, Failure> {
        let (mut pace, mut wanted): (Option<Pace>, Option<Pace>) = (None, None);
        if self.buffer.len() <= LONG_FRAME_BYTES {
            self.room = None;
        }
        loop {
            if let Some(line) = self.take() {
                if line.len() > self.limit {
                    return Err(self.too_long());
                }
                return Ok(Some(line));
            }
            if self.buffer.len() > self.limit {
                return Err(self.too_long());
            }
            if self.make_room().await.map_err(|_| crowded())? {
                // The time that this took is not the peer's.
                (pace, wanted) = (None, None);
            }
            self.buffer.reserve(READ_BYTES);
            if pace.is_none() && !self.buffer.is_empty() {
                pace = Some(Pace::new(LINE_WAIT, Instant::now()));
            }
            if wanted.is_none() && self.room.is_some() {
                wanted = Some(Pace::of_wanted(LONG_FRAME_WAIT, Instant::now()));
            }
            let begun = pace.map_or_else(|| Instant::now() + TEXT_IDLE, |pace| pace.deadline());
            let deadline = wanted.map_or(begun, |wanted| wanted.deadline().min(begun));
            let read = timeout_at(deadline, self.read.read_buf(&mut self.buffer)).await;
            match read {
                Ok(Ok(0)) if self.buffer.is_empty() => return Ok(None),
                // A value that was cut off with its connection must not be stored as a whole one.
                Ok(Ok(0)) => {
                    self.buffer.clear();
                    let message = "the last line has no end: nothing was done";
                    return Err(Failure::new(ErrorCode::Syntax, message)
                        .hint("try: end each command with LF"));
                }
                Ok(Ok(count)) => {
                    for pace in [&mut pace, &mut wanted].into_iter().flatten() {
                        pace.count(count);
                    }
                }
                Ok(Err(_)) => return Ok(None),
                // What was typed meanwhile was read: only now is it looked at the time.
                Err(_) => {
                    let now = Instant::now();
                    let is_fast = wanted.as_mut().is_none_or(|it| it.goes_on(now));
                    let goes_on = pace.as_mut().is_some_and(|it| it.goes_on(now));
                    if !goes_on || (!is_fast && self.window.delays_others()) {
                        return Err(too_late(pace.is_some()));
                    }
                }
            }
        }
    }

    /// Waits before more of a long line is read, as for a long frame; whether it had to.
    async fn make_room(&mut self) -> Result<bool, Elapsed> {
        let (arrived, most) = (self.buffer.len(), self.limit + READ_BYTES);
        if arrived < LONG_FRAME_BYTES {
            return Ok(false);
        }
        let room = self.room.get_or_insert_with(|| self.window.arriving());
        room.grow(arrived, most).await
    }

    fn too_long(&self) -> Failure {
        let message = format!("a command has at most {} bytes", self.limit);
        let hint = if self.limit < MAX_LINE_BYTES {
            "log in first: AUTH TOKEN token, or AUTH name password"
        } else {
            "send large records with a client, or with: logdrive produce"
        };
        Failure::new(ErrorCode::LineTooLong, message).hint(hint)
    }

    /// Returns when the peer has closed its side; reads ahead meanwhile, as much as needs no room.
    pub(super) async fn closed(&mut self) {
        while self.buffer.len() <= LONG_FRAME_BYTES.min(self.limit) {
            match self.read.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        // A peer that talks on is there.
        std::future::pending::<()>().await;
    }

    fn take(&mut self) -> Option<BytesMut> {
        let unseen = self.buffer.get(self.searched..)?;
        let Some(at) = unseen.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let mut line = self.buffer.split_to(self.searched + at);
        self.buffer.advance(1);
        self.searched = 0;
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        Some(self.cleaned(line))
    }

    /// The line without telnet's negotiation. Only a peer that began with it is believed to be
    /// telnet: elsewhere the byte is part of a value.
    fn cleaned(&self, line: BytesMut) -> BytesMut {
        if self.telnet {
            without_negotiation(&line)
        } else {
            line
        }
    }
}

/// A line that was begun did not go on, or none was begun for long.
fn too_late(is_begun: bool) -> Failure {
    if is_begun {
        let message = format!("a line was begun and did not go on for {LINE_WAIT:?}");
        return Failure::new(ErrorCode::FrameTimeout, message)
            .hint("nothing was done: type it again");
    }
    let message = format!("nothing was typed for {TEXT_IDLE:?}");
    Failure::new(ErrorCode::IdleTimeout, message)
}

fn without_negotiation(line: &[u8]) -> BytesMut {
    let mut clean = BytesMut::with_capacity(line.len());
    let mut rest = line.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != IAC {
            clean.extend([byte]);
            continue;
        }
        match rest.next() {
            Some(IAC) => clean.extend([IAC]),
            Some(SB) => {
                let mut last = 0;
                for byte in rest.by_ref() {
                    if last == IAC && byte == SE {
                        break;
                    }
                    last = byte;
                }
            }
            Some(option) if OPTIONS.contains(&option) => {
                rest.next();
            }
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiation_is_swallowed_and_the_command_stays() {
        for (line, expected) in [
            (&[0xff, 0xfd, 0x03, b'P', b'I'][..], &b"PI"[..]),
            (&[b'a', 0xff, 0xff, b'b'], &[b'a', 0xff, b'b']),
            (&[0xff, 0xfa, 1, 2, 0xff, 0xf0, b'x'], b"x"),
            (&[0xff, 0xf1, b'y', 0xff], b"y"),
        ] {
            assert_eq!(&without_negotiation(line)[..], expected, "{line:02x?}");
        }
    }
}

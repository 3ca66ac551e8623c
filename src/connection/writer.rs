//! The write half of a connection: answers and notices, in the order in which they are ready.
//!
//! Owns the socket's write half. Small heads and shared bodies go out in one vectored write; a
//! peer that reads nothing for too long loses its connection. Permits go back when the bytes are
//! on the wire. Its neighbours: replies send to it, the news of the broker's state reach it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use logdrive_protocol::body::Writer;
use logdrive_protocol::frame::{self, FLAG_ERROR, NOTICE};
use logdrive_protocol::operations::{GoingAway, StateChanged};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Instant, timeout};
use tokio_util::either::Either;

use super::News;
use super::pace::Pace;
use crate::counters::Counters;
use crate::limits::{
    LONG_ANSWER_BYTES, STOP_WAIT, WRITE_BATCH, WRITE_PIECE_BYTES, WRITE_STALL, WRITE_STALL_STEP,
    WRITE_STALL_WANTED,
};
use crate::net::WriteHalf;
use crate::planted::{self, Bug};
use crate::reply::Outgoing;
use crate::window::{Permit, Window};

/// Bytes to be written, as the pieces they were made of.
#[derive(Debug)]
pub(super) struct Pieces {
    bytes: VecDeque<Bytes>,
    remaining: usize,
    /// Bytes of the next write, at most.
    room: usize,
}

impl From<Vec<Bytes>> for Pieces {
    fn from(pieces: Vec<Bytes>) -> Self {
        Self {
            remaining: pieces.iter().map(Bytes::len).sum(),
            bytes: pieces.into(),
            room: WRITE_PIECE_BYTES,
        }
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.bytes
            .iter()
            .find(|piece| !piece.is_empty())
            .map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = self.bytes.iter().filter(|piece| !piece.is_empty());
        let (mut count, mut room) = (0, self.room);
        for (slice, piece) in slices.iter_mut().zip(filled) {
            let taken = piece.len().min(room);
            *slice = IoSlice::new(&piece[..taken]);
            count += 1;
            room -= taken;
            if room == 0 {
                break;
            }
        }
        count
    }

    fn advance(&mut self, mut written: usize) {
        self.remaining -= written;
        while let Some(piece) = self.bytes.front_mut() {
            if piece.len() > written {
                piece.advance(written);
                return;
            }
            written -= piece.len();
            self.bytes.pop_front();
        }
    }
}

/// What there is to write next.
enum Next {
    News(News),
    Answer(Box<Outgoing>),
    /// Nobody is left who could answer.
    End,
}

/// Writes until nobody is left who could answer, or the peer is gone. Holds no buffer while there
/// is nothing to write.
pub(super) async fn write(
    mut socket: WriteHalf,
    mut answers: mpsc::UnboundedReceiver<Box<Outgoing>>,
    mut news: watch::Receiver<News>,
    counters: Arc<Counters>,
    window: Window,
) {
    loop {
        let mut out = Writer::default();
        let mut permits = Vec::new();
        match next(&mut answers, &mut news).await {
            Next::End => break,
            Next::News(news) => encode_notice(&mut out, news),
            Next::Answer(mut first) => {
                if planted::is(Bug::WrongCorrelation)
                    && let Ok(mut second) = answers.try_recv()
                {
                    if first.opcode == second.opcode {
                        std::mem::swap(&mut first.correlation, &mut second.correlation);
                    }
                    encode(&mut out, second, &mut permits, &counters);
                }
                encode(&mut out, first, &mut permits, &counters);
                while permits.len() < WRITE_BATCH
                    && let Ok(more) = answers.try_recv()
                {
                    encode(&mut out, more, &mut permits, &counters);
                }
            }
        }
        let pieces = Pieces::from(out.into_parts());
        Counters::add(&counters.answers, permits.len());
        Counters::add(&counters.sent_bytes, pieces.remaining);
        window.note_written();
        if let Err(error) = write_all(&mut socket, pieces, &window).await {
            if error.kind() == io::ErrorKind::TimedOut {
                Counters::add(&counters.readers_late, 1);
            }
            // What encrypts would have to send the rest before it could say goodbye.
            tracing::debug!(%error, "the peer does not read");
            return;
        }
        window.note_written();
    }
    // A peer that still writes should not be reset before it has read the last answer.
    let _ = timeout(WRITE_STALL, socket.shutdown()).await;
}

/// News first: it is rare, and the last of it must not be lost to the end of answers.
async fn next(
    answers: &mut mpsc::UnboundedReceiver<Box<Outgoing>>,
    news: &mut watch::Receiver<News>,
) -> Next {
    tokio::select! {
        biased;
        Ok(()) = news.changed() => Next::News(*news.borrow_and_update()),
        answer = answers.recv() => answer.map_or(Next::End, Next::Answer),
    }
}

/// A peer that reads too slowly is given up after a while, and one that reads nothing sooner when
/// what it holds of the budget is what others wait for.
pub(super) async fn write_all(
    socket: &mut WriteHalf,
    mut pieces: Pieces,
    window: &Window,
) -> io::Result<()> {
    let long = (pieces.remaining > LONG_ANSWER_BYTES).then(|| window.begin_long_answer());
    let mut stalled = Duration::ZERO;
    let mut pace = Pace::new(WRITE_STALL, Instant::now());
    // A socket has sent what it took; what encrypts may hold it back.
    let mut held = matches!(socket, Either::Right(_));
    while pieces.has_remaining() || held {
        let mut turn = None;
        if let Some(long) = &long {
            (turn, pieces.room) = long.turn().await;
        }
        // Most is taken at once, and needs no timer.
        let at_once = step(socket, &mut pieces, &mut held).now_or_never();
        let wrote = if let Some(wrote) = at_once {
            Ok(wrote)
        } else {
            drop(turn);
            timeout(WRITE_STALL_STEP, step(socket, &mut pieces, &mut held)).await
        };
        match wrote {
            Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(Ok(count)) => {
                stalled = Duration::ZERO;
                pace.count(count);
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                stalled += WRITE_STALL_STEP;
                let wanted = stalled >= WRITE_STALL_WANTED && window.is_wanted();
                if wanted || stalled >= WRITE_STALL {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
        if pieces.has_remaining() {
            if !pace.goes_on(Instant::now()) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Writes what one write takes; how many bytes that was, or 1 when nothing is `held` back any more.
async fn step(socket: &mut WriteHalf, pieces: &mut Pieces, held: &mut bool) -> io::Result<usize> {
    if pieces.has_remaining() {
        return socket.write_buf(pieces).await;
    }
    socket.flush().await?;
    *held = false;
    Ok(1)
}

fn encode(
    out: &mut Writer,
    outgoing: Box<Outgoing>,
    permits: &mut Vec<[Option<Permit>; 2]>,
    counters: &Counters,
) {
    let Outgoing {
        opcode,
        correlation,
        result,
        permits: held,
    } = *outgoing;
    match result {
        Ok(answer) => answer.append(out, correlation),
        Err(failure) => {
            Counters::add(&counters.errors, 1);
            frame::append(out, opcode, FLAG_ERROR, correlation, &failure);
        }
    }
    permits.push(held);
}

fn encode_notice(out: &mut Writer, news: News) {
    if news.going_away {
        let deadline_ms = u32::try_from(STOP_WAIT.as_millis()).unwrap_or(u32::MAX);
        let reason = "the broker stops".to_owned();
        let going = GoingAway {
            deadline_ms,
            reason,
        };
        return frame::append(out, GoingAway::OPCODE, 0, NOTICE, &going);
    }
    let changed = StateChanged {
        state: news.state,
        ..StateChanged::default()
    };
    frame::append(out, StateChanged::OPCODE, 0, NOTICE, &changed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_written_in_order_from_any_cut() {
        let whole = b"head, body and tail";
        for cut in 0..=whole.len() {
            let mut pieces = Pieces::from(vec![
                Bytes::from_static(b"head, "),
                Bytes::new(),
                Bytes::from_static(b"body and"),
                Bytes::from_static(b" tail"),
            ]);
            pieces.advance(cut);
            assert_eq!(pieces.copy_to_bytes(pieces.remaining()), whole[cut..]);
        }
    }
}

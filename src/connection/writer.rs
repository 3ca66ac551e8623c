//! The write half of a connection: answers and notices, in the order in which they are ready.
//!
//! Owns the socket's write half. Small heads and shared bodies go out in one vectored write; a
//! peer that reads nothing for too long loses its connection. Permits go back when the bytes are
//! on the wire. Its neighbours: replies send to it, the news of the broker's state reach it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use logdrive_protocol::frame::{self, FLAG_ERROR, NOTICE};
use logdrive_protocol::operations::{GoingAway, StateChanged};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, timeout};

use super::News;
use crate::counters::Counters;
use crate::limits::{STOP_WAIT, WRITE_BATCH, WRITE_STALL, WRITE_STALL_STEP, WRITE_STALL_WANTED};
use crate::net::OwnedWriteHalf;
use crate::reply::Outgoing;
use crate::window::Window;

/// Bytes to be written, as the pieces they were made of.
#[derive(Debug, Default)]
struct Pieces {
    pieces: VecDeque<Bytes>,
    remaining: usize,
}

impl Pieces {
    fn extend(&mut self, pieces: Vec<Bytes>) {
        for piece in pieces {
            self.remaining += piece.len();
            self.pieces.push_back(piece);
        }
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.pieces
            .iter()
            .find(|piece| !piece.is_empty())
            .map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = self.pieces.iter().filter(|piece| !piece.is_empty());
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(filled) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut written: usize) {
        self.remaining -= written;
        while let Some(piece) = self.pieces.front_mut() {
            if piece.len() > written {
                piece.advance(written);
                return;
            }
            written -= piece.len();
            self.pieces.pop_front();
        }
    }
}

/// Writes until nobody is left who could answer, or the peer is gone.
pub(super) async fn write(
    mut socket: OwnedWriteHalf,
    mut answers: mpsc::UnboundedReceiver<Outgoing>,
    mut news: watch::Receiver<News>,
    counters: Arc<Counters>,
    window: Window,
) {
    let mut batch = Vec::with_capacity(WRITE_BATCH);
    let mut news_end = false;
    loop {
        let mut pieces = Pieces::default();
        let mut permits = Vec::with_capacity(WRITE_BATCH);
        tokio::select! {
            // News first: it is rare, and the last of it must not be lost to the end of answers.
            biased;
            changed = news.changed(), if !news_end => match changed {
                Ok(()) => pieces.extend(notice(*news.borrow_and_update())),
                Err(_) => news_end = true,
            },
            count = answers.recv_many(&mut batch, WRITE_BATCH) => {
                if count == 0 {
                    break;
                }
                Counters::add(&counters.answers, count);
            }
        }
        for outgoing in batch.drain(..) {
            if outgoing.result.is_err() {
                Counters::add(&counters.errors, 1);
            }
            pieces.extend(encode(&outgoing));
            permits.push(outgoing.permits);
        }
        Counters::add(&counters.sent_bytes, pieces.remaining);
        if let Err(error) = write_all(&mut socket, pieces, &window).await {
            tracing::debug!(%error, "the peer does not read");
            break;
        }
    }
    // A peer that still writes should not be reset before it has read the last answer.
    let _ = timeout(WRITE_STALL, socket.shutdown()).await;
}

/// A peer that reads nothing is given up after a while, and sooner when what it holds of the budget
/// is what others wait for.
async fn write_all(
    socket: &mut OwnedWriteHalf,
    mut pieces: Pieces,
    window: &Window,
) -> io::Result<()> {
    let mut stalled = Duration::ZERO;
    while pieces.has_remaining() {
        match timeout(WRITE_STALL_STEP, socket.write_buf(&mut pieces)).await {
            Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(Ok(_)) => stalled = Duration::ZERO,
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                stalled += WRITE_STALL_STEP;
                let wanted = stalled >= WRITE_STALL_WANTED && window.is_wanted();
                if wanted || stalled >= WRITE_STALL {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
    }
    Ok(())
}

fn encode(outgoing: &Outgoing) -> Vec<Bytes> {
    match &outgoing.result {
        Ok(answer) => answer.encode(outgoing.correlation),
        Err(failure) => frame::encode(outgoing.opcode, FLAG_ERROR, outgoing.correlation, failure),
    }
}

fn notice(news: News) -> Vec<Bytes> {
    if news.going_away {
        let deadline_ms = u32::try_from(STOP_WAIT.as_millis()).unwrap_or(u32::MAX);
        let reason = "the broker stops".to_owned();
        return frame::encode(
            GoingAway::OPCODE,
            0,
            NOTICE,
            &GoingAway {
                deadline_ms,
                reason,
            },
        );
    }
    let changed = StateChanged {
        state: news.state,
        ..StateChanged::default()
    };
    frame::encode(StateChanged::OPCODE, 0, NOTICE, &changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_written_in_order_from_any_cut() {
        let whole = b"head, body and tail";
        for cut in 0..=whole.len() {
            let mut pieces = Pieces::default();
            pieces.extend(vec![
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

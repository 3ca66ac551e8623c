//! Frames off the socket, and the first bytes of a long one before the rest has arrived.
//!
//! Who waits for a long answer may go on with what its first bytes say, while the broker still
//! sends. They are no promise: the answer may yet break off, or turn out to be nonsense.

use bytes::{Buf, BytesMut};
use logdrive_protocol::frame::{Frame, FrameDecoder, FrameError, HEADER_BYTES, LENGTH_BYTES};
use tokio_util::codec::Decoder;

/// The first bytes of a frame's body.
pub(crate) type Beginning = [u8; BEGINNING_BYTES];

/// Enough for the first fields of every answer: five numbers at their longest.
const BEGINNING_BYTES: usize = 64;

/// Something that has arrived.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A frame that is longer than what is here of it; it comes [whole](Self::Whole) later.
    Begun {
        correlation: u32,
        beginning: Beginning,
    },
    Whole(Frame),
}

/// Cuts a byte stream into frames; shows each long one twice.
#[derive(Debug)]
pub(crate) struct Arrivals {
    frames: FrameDecoder,
    /// The frame that is under way was shown.
    shown: bool,
}

impl Arrivals {
    pub(crate) fn new(frames: FrameDecoder) -> Self {
        Self {
            frames,
            shown: false,
        }
    }
}

impl Decoder for Arrivals {
    type Item = Arrival;
    type Error = FrameError;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Arrival>, FrameError> {
        if let Some(frame) = self.frames.decode(input)? {
            self.shown = false;
            return Ok(Some(Arrival::Whole(frame)));
        }
        let Some((mut header, body)) = input.split_at_checked(HEADER_BYTES) else {
            return Ok(None);
        };
        let Some(beginning) = body.first_chunk().filter(|_| !self.shown) else {
            return Ok(None);
        };
        self.shown = true;
        header.advance(LENGTH_BYTES + 2);
        Ok(Some(Arrival::Begun {
            correlation: header.get_u32(),
            beginning: *beginning,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use logdrive_protocol::frame;
    use logdrive_protocol::operations::Delivered;

    fn frame(correlation: u32, next: u64, bytes: usize) -> Vec<u8> {
        let delivered = Delivered {
            next,
            batches: vec![Bytes::from(vec![7; bytes])],
            ..Delivered::default()
        };
        frame::encode(0x30, 0, correlation, &delivered).concat()
    }

    /// What comes out when bytes come in pieces of so many.
    fn arriving(bytes: &[u8], piece: usize) -> String {
        let mut arrivals = Arrivals::new(FrameDecoder::new(1 << 20));
        let (mut input, mut out) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            input.extend_from_slice(piece);
            while let Some(arrival) = arrivals.decode(&mut input).unwrap() {
                out.push(match arrival {
                    Arrival::Begun {
                        correlation,
                        beginning,
                    } => format!("{correlation}: {:?}", Delivered::next_of(&beginning)),
                    Arrival::Whole(frame) => format!("{}", frame.correlation),
                });
            }
        }
        out.join(", ")
    }

    #[test]
    fn a_long_frame_is_shown_once_before_it_is_there() {
        let bytes = [
            frame(1, 500, 1000),
            frame(2, 3, 10),
            frame(3, u64::MAX, 900),
        ]
        .concat();
        let expected = "1: Some(500), 1, 2, 3: Some(18446744073709551615), 3";
        for piece in [1, 7, 74, 75, 200] {
            assert_eq!(arriving(&bytes, piece), expected, "pieces of {piece}");
        }
        assert_eq!(arriving(&bytes, bytes.len()), "1, 2, 3");
    }
}

//! Frames: a fixed header of ten bytes, then a body.
//!
//! ```text
//!  0        4      5      6            10
//! +--------+------+-----+-------------+----------------+
//! | length |opcode|flags| correlation | body           |
//! | u32    | u8   | u8  | u32         | length-6 bytes |
//! +--------+------+-----+-------------+----------------+
//! ```
//!
//! Numbers are big-endian. `length` counts what follows it. See *Frames* in PROTOCOL.md.

use bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::Decoder;

use crate::body::{Body, Writer};
use crate::error::{ErrorCode, Failure};

/// Bytes of the length field.
pub const LENGTH_BYTES: usize = 4;
/// Bytes of the whole header.
pub const HEADER_BYTES: usize = 10;
/// Header bytes that the length field counts.
const COUNTED_HEADER_BYTES: u32 = 6;

/// Answer flag: the body is a [`Failure`]. Critical.
pub const FLAG_ERROR: u8 = 0x80;
/// Flags that must be understood: a frame with an unknown one of these is refused.
pub const CRITICAL_FLAGS: u8 = 0xf0;

/// Room that a frame gets beyond the bytes of it that have arrived, as their multiple: a long frame
/// is hardly copied while it grows, and a length field alone buys nothing. Room that was never
/// written to is not yet memory.
pub const GROWTH: usize = 64;

/// The correlation id of notices, which no request may use.
pub const NOTICE: u32 = 0;

/// One frame, its body not yet decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which operation; the answer repeats it.
    pub opcode: u8,
    /// [`FLAG_ERROR`], others reserved.
    pub flags: u8,
    /// Chosen by the client, repeated in the answer; 0 marks a notice.
    pub correlation: u32,
    /// The operation's fields.
    pub body: BytesMut,
}

/// Why the boundary between frames is lost; the connection ends after this.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length field is over the limit.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    TooLarge {
        /// What the length field said.
        length: u32,
        /// What is allowed.
        limit: u32,
        /// The frame's correlation id, where its header had arrived.
        correlation: u32,
    },
    /// The length field is less than the header that it counts.
    #[error("a frame of {length} bytes is shorter than its own header of 6")]
    TooShort {
        /// What the length field said.
        length: u32,
    },
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl FrameError {
    /// What the last frame before the end says.
    pub fn to_failure(&self) -> Failure {
        let code = match self {
            Self::TooLarge { .. } => ErrorCode::FrameTooLarge,
            Self::TooShort { .. } => ErrorCode::BadFrame,
            Self::Io(_) => ErrorCode::Unavailable,
        };
        Failure::new(code, self.to_string())
    }
}

/// Cuts a byte stream into frames.
///
/// Memory follows the bytes that have arrived, at most [`GROWTH`] times as many: never the length
/// field.
#[derive(Debug)]
pub struct FrameDecoder {
    limit: u32,
}

impl FrameDecoder {
    /// Refuses frames whose length field is over `limit`.
    pub fn new(limit: u32) -> Self {
        Self { limit }
    }
}

impl FrameDecoder {
    /// The opcode of the frame that begins here, and the bytes of its body; `None` before its header
    /// is there, and for one that is not taken.
    pub fn peek(&self, input: &[u8]) -> Option<(u8, usize)> {
        let mut header = input.get(..HEADER_BYTES)?;
        let length = header.get_u32();
        let body = length.checked_sub(COUNTED_HEADER_BYTES)?;
        (length <= self.limit).then(|| (header.get_u8(), body as usize))
    }
}

impl Decoder for FrameDecoder {
    type Item = Frame;
    type Error = FrameError;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(mut header) = input.get(..LENGTH_BYTES) else {
            return Ok(None);
        };
        let length = header.get_u32();
        if length < COUNTED_HEADER_BYTES {
            return Err(FrameError::TooShort { length });
        }
        if length > self.limit {
            let correlation = input
                .get(6..HEADER_BYTES)
                .map_or(NOTICE, |mut id| id.get_u32());
            return Err(FrameError::TooLarge {
                length,
                limit: self.limit,
                correlation,
            });
        }
        let whole = LENGTH_BYTES + length as usize;
        if input.len() < whole {
            input.reserve((whole - input.len()).min(input.len() * GROWTH));
            return Ok(None);
        }
        let mut frame = input.split_to(whole);
        frame.advance(LENGTH_BYTES);
        let opcode = frame.get_u8();
        let flags = frame.get_u8();
        let correlation = frame.get_u32();
        Ok(Some(Frame {
            opcode,
            flags,
            correlation,
            body: frame,
        }))
    }
}

/// Encodes a frame as the pieces of a vectored write; shared bytes in the body stay shared.
pub fn encode(opcode: u8, flags: u8, correlation: u32, body: &impl Body) -> Vec<Bytes> {
    let mut out = Writer::default();
    append(&mut out, opcode, flags, correlation, body);
    out.into_parts()
}

/// Encodes a frame behind what was written before, as [`encode`] does.
pub fn append(out: &mut Writer, opcode: u8, flags: u8, correlation: u32, body: &impl Body) {
    let mark = out.begin(HEADER_BYTES);
    let before = out.len();
    body.encode(out);
    let length = u32::try_from(out.len() - before).unwrap_or(u32::MAX);
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&length.saturating_add(COUNTED_HEADER_BYTES).to_be_bytes());
    header[4] = opcode;
    header[5] = flags;
    header[6..].copy_from_slice(&correlation.to_be_bytes());
    out.complete(mark, &header);
}

//! Packing the records section of a batch, and unpacking it within bounds.
//!
//! ```text
//!   head, 96 bytes | records ...                        codec 0
//!   head, 96 bytes | one lz4 block                      codec 1, of the same records
//!   head, 96 bytes | one zstd frame, no dictionary      codec 2, of the same records
//! ```
//!
//! Owns both codecs, their levels and their bounds. It looks at no record: what comes out of
//! unpacking may be anything, and is checked by its neighbours [`check`](super::check) and
//! [`open`](super::open()).

use std::fmt;

use bytes::{BufMut, BytesMut};
use zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd_safe::{CCtx, CParameter, DCtx};

use super::{BatchError, HEAD_BYTES, Head};
use crate::limits::MAX_UNPACKED_BYTES;

/// A section that is shorter is not packed: it would save less than storing it costs.
const LEAST_SECTION_BYTES: usize = 1 << 10;
/// A packed section is kept if it has at most one byte for so many of the plain one. Logs have one
/// for five and more; letters at random have three for four, which no reader should unpack.
const LEAST_RATIO: usize = 2;
/// Sections that are passed over at most, after those that did not pack well.
const MOST_PASSED: u32 = 63;
/// The level at which zstd packs: the fastest of its ordinary ones.
const ZSTD_LEVEL: i32 = 1;
/// Room that unpacking begins with, whatever arrived.
const FIRST_ROOM: usize = 64 << 10;
/// Room that unpacking begins with at most, for each byte that arrived: lines of a log that repeat
/// themselves pack so well.
const FIRST_RATIO: usize = 64;
/// How much more room there is at each further attempt.
const GROWTH: usize = 4;
/// Bytes of a records section that a head allows for each record, beside its content.
const BYTES_PER_RECORD: u64 = 64;
/// Bytes of a records section that a head allows for each byte of content: the shortest header has
/// one byte of content and takes three.
const BYTES_PER_CONTENT: u64 = 3;

/// How the records section of a batch is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// One lz4 block.
    Lz4,
    /// One zstd frame, without a dictionary.
    Zstd,
}

impl Codec {
    /// The value of the attribute.
    pub fn number(self) -> u16 {
        match self {
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    /// The codec of attributes; `None` for records that stand there as they are.
    ///
    /// # Errors
    /// A codec of a newer version.
    pub fn of(attributes: u16) -> Result<Option<Self>, BatchError> {
        match attributes & super::ATTRIBUTE_CODEC {
            0 => Ok(None),
            1 => Ok(Some(Self::Lz4)),
            2 => Ok(Some(Self::Zstd)),
            _ => Err(BatchError::NotSupported(
                "the batch is packed with a codec that this version does not know",
            )),
        }
    }
}

/// Packs records sections, one after the other; keeps the memory that this takes.
///
/// Where sections do not pack well, only every second, fourth and so on is tried, until one does.
pub struct Packer {
    codec: Codec,
    /// Made with the first section that is packed with zstd.
    zstd: Option<CCtx<'static>>,
    /// As long as the longest section needed.
    room: Vec<u8>,
    /// Sections that were passed over last, and how many of the next are.
    passed: u32,
    passing: u32,
}

impl Packer {
    /// Takes memory only when it packs.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            zstd: None,
            room: Vec::new(),
            passed: 0,
            passing: 0,
        }
    }

    /// Gives back the memory that packing has taken, until something is packed again.
    pub fn release(&mut self) {
        self.zstd = None;
        self.room = Vec::new();
    }

    /// What it packs with.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The packed section behind room for a head; `None` if it stays as it is.
    pub(super) fn pack(&mut self, section: &[u8]) -> Option<BytesMut> {
        if section.len() < LEAST_SECTION_BYTES {
            return None;
        }
        if self.passing > 0 {
            self.passing -= 1;
            return None;
        }
        let packed = self.pack_well(section);
        self.passed = match packed {
            Some(_) => 0,
            None => (2 * self.passed + 1).min(MOST_PASSED),
        };
        self.passing = self.passed;
        packed
    }

    /// The same, whatever became of others.
    fn pack_well(&mut self, section: &[u8]) -> Option<BytesMut> {
        let longest = match self.codec {
            Codec::Lz4 => lz4_flex::block::get_maximum_output_size(section.len()),
            Codec::Zstd => zstd_safe::compress_bound(section.len()),
        };
        if self.room.len() < longest {
            self.room.resize(longest, 0);
        }
        let room = &mut self.room[..];
        let length = match self.codec {
            Codec::Lz4 => lz4_flex::block::compress_into(section, room).ok()?,
            Codec::Zstd => {
                if self.zstd.is_none() {
                    let mut made = CCtx::try_create()?;
                    let level = CParameter::CompressionLevel(ZSTD_LEVEL);
                    made.set_parameter(level).ok()?;
                    self.zstd = Some(made);
                }
                self.zstd.as_mut()?.compress2(room, section).ok()?
            }
        };
        if length > section.len() / LEAST_RATIO {
            return None;
        }
        let mut packed = BytesMut::with_capacity(HEAD_BYTES + length);
        packed.put_bytes(0, HEAD_BYTES);
        packed.put_slice(&self.room[..length]);
        Some(packed)
    }
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer")
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}

/// The longest records section that a head allows, and what a longer one is refused with.
fn bound(head: &Head) -> (usize, BatchError) {
    let allowed = u64::from(head.count) * BYTES_PER_RECORD
        + u64::from(head.content_bytes) * BYTES_PER_CONTENT;
    match usize::try_from(allowed) {
        Ok(allowed) if allowed < MAX_UNPACKED_BYTES as usize => (
            allowed,
            BatchError::Corrupt("the records unpack to more than the batch's head allows"),
        ),
        _ => (
            MAX_UNPACKED_BYTES as usize,
            BatchError::UnpacksTooLarge {
                limit: MAX_UNPACKED_BYTES,
            },
        ),
    }
}

/// Why one attempt at unpacking failed.
enum Failed {
    /// There is more of it than room.
    NoRoom,
    Garbage,
}

/// The records of a packed section, behind so many zeros.
///
/// Memory grows with what really comes out, never with what a field claims, and never beyond what
/// the head allows and [`MAX_UNPACKED_BYTES`].
pub(super) fn unpack(
    codec: Codec,
    head: &Head,
    section: &[u8],
    lead: usize,
) -> Result<Vec<u8>, BatchError> {
    const GARBAGE: BatchError = BatchError::Corrupt("the records do not unpack");
    let (most, beyond) = bound(head);
    // No record counts its content twice, so this is known before anything is unpacked.
    if u64::from(head.content_bytes) > u64::from(MAX_UNPACKED_BYTES) {
        return Err(beyond);
    }
    if codec == Codec::Zstd && zstd_safe::find_frame_compressed_size(section) != Ok(section.len()) {
        return Err(GARBAGE);
    }
    let first = section.len().saturating_mul(FIRST_RATIO).max(FIRST_ROOM);
    // What the head leads to expect is a bound here, and no more than that.
    let mut room = first.min(head.plain_len()).min(most);
    loop {
        let mut out = vec![0; lead + room];
        match unpack_into(codec, section, &mut out[lead..]) {
            Ok(length) => {
                out.truncate(lead + length);
                return Ok(out);
            }
            Err(Failed::Garbage) => return Err(GARBAGE),
            Err(Failed::NoRoom) if room == most => return Err(beyond),
            Err(Failed::NoRoom) => room = room.saturating_mul(GROWTH).min(most),
        }
    }
}

fn unpack_into(codec: Codec, section: &[u8], out: &mut [u8]) -> Result<usize, Failed> {
    match codec {
        Codec::Lz4 => lz4_flex::block::decompress_into(section, out).map_err(|error| match error {
            lz4_flex::block::DecompressError::OutputTooSmall { .. } => Failed::NoRoom,
            _ => Failed::Garbage,
        }),
        Codec::Zstd => {
            let mut context = DCtx::try_create().ok_or(Failed::Garbage)?;
            context.decompress(out, section).map_err(|code| {
                let no_room = ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall;
                if zstd_safe::is_error_kind(code, no_room) {
                    Failed::NoRoom
                } else {
                    Failed::Garbage
                }
            })
        }
    }
}

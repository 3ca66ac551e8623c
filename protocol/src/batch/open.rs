//! Opening batches: the one way from a batch, whatever its codec, to its records.
//!
//! Owns no check of what the records say; that is [`check`](super::check)'s. How a section is
//! unpacked is [`packing`](super::packing)'s.

use std::borrow::Cow;

use bytes::Bytes;

use super::packing::{Codec, unpack};
use super::{ATTRIBUTE_CODEC, BatchError, HEAD_BYTES, Head, Records};

/// Where the attributes stand in a head.
const ATTRIBUTES_AT: usize = 48;

/// The records section of a batch as it was before it was packed.
///
/// It borrows from a batch that is not packed, and costs nothing then.
#[derive(Clone, Debug)]
pub struct Opened<'a>(Cow<'a, [u8]>);

impl Opened<'_> {
    /// The records, one by one.
    pub fn records(&self) -> Records<'_> {
        Records::in_section(&self.0)
    }
}

/// Makes the records of a batch readable, whatever its codec; looks at none of them.
///
/// # Errors
/// The records do not unpack, or to more than the head and
/// [`MAX_UNPACKED_BYTES`](crate::limits::MAX_UNPACKED_BYTES) allow.
pub fn open(batch: &[u8]) -> Result<Opened<'_>, BatchError> {
    let head = parse(batch)?;
    let section = &batch[HEAD_BYTES..];
    match Codec::of(head.attributes)? {
        None => Ok(Opened(Cow::Borrowed(section))),
        Some(codec) => unpack(codec, &head, section, 0).map(|it| Opened(Cow::Owned(it))),
    }
}

/// The same batch with records that are not packed: itself, if they are not.
///
/// Its length and attributes say what it is now, its checksums what it was: check it before.
///
/// # Errors
/// Those of [`open`].
pub fn unpacked(batch: &Bytes) -> Result<Bytes, BatchError> {
    let head = parse(batch)?;
    let Some(codec) = Codec::of(head.attributes)? else {
        return Ok(batch.clone());
    };
    let mut plain = unpack(codec, &head, &batch[HEAD_BYTES..], HEAD_BYTES)?;
    plain[..HEAD_BYTES].copy_from_slice(&batch[..HEAD_BYTES]);
    let length = u32::try_from(plain.len()).unwrap_or(u32::MAX);
    plain[4..8].copy_from_slice(&length.to_be_bytes());
    let attributes = head.attributes & !ATTRIBUTE_CODEC;
    plain[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    Ok(plain.into())
}

fn parse(batch: &[u8]) -> Result<Head, BatchError> {
    Head::parse(batch).ok_or(BatchError::Corrupt("the batch is shorter than its head"))
}

//! Checking batches: once when they arrive, and again on every read from disk or wire.

use bytes::Bytes;

use super::{
    ATTRIBUTE_CODEC, ATTRIBUTE_REBUILT, BROKER_HEAD_BYTES, CRITICAL_ATTRIBUTES, Codec, HEAD_BYTES,
    Head, LAYOUT, RecordView, Records, open, unpacked,
};
use crate::error::{ErrorCode, Failure};
use crate::ids::TopicId;

/// Highest `SeverityNumber` of OpenTelemetry.
const MAX_SEVERITY: u8 = 24;

/// Why a batch is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Its parts contradict each other or their checksums.
    #[error("{0}")]
    Corrupt(&'static str),
    /// It is longer than the limit.
    #[error("a batch of {length} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its length.
        length: usize,
        /// What is allowed.
        limit: u32,
    },
    /// Its records unpack to more than the limit.
    #[error("the records of the batch unpack to more than {limit} bytes")]
    UnpacksTooLarge {
        /// What is allowed.
        limit: u32,
    },
    /// It is one of an answer's batches, which unpack to more than the limit.
    #[error("the batches of an answer unpack to more than {limit} bytes")]
    AnswerUnpacksTooLarge {
        /// What is allowed.
        limit: u32,
    },
    /// One of its records is larger than the limit.
    #[error("record {index} of the batch has {length} bytes, the limit is {limit}")]
    RecordTooLarge {
        /// Which one, from 0.
        index: u32,
        /// Key, headers and value.
        length: usize,
        /// What is allowed.
        limit: u32,
    },
    /// It asks for something that this version does not do.
    #[error("{0}")]
    NotSupported(&'static str),
}

impl From<BatchError> for Failure {
    fn from(error: BatchError) -> Self {
        let message = error.to_string();
        match error {
            BatchError::Corrupt(_) => Self::new(ErrorCode::BatchCorrupt, message)
                .hint("build the batch again and resend it with the same sequence"),
            BatchError::TooLarge { limit, .. }
            | BatchError::UnpacksTooLarge { limit }
            | BatchError::AnswerUnpacksTooLarge { limit } => {
                Self::new(ErrorCode::BatchTooLarge, message)
                    .numbers(u64::from(limit), 0)
                    .hint("put fewer records into a batch")
            }
            BatchError::RecordTooLarge { limit, .. } => {
                Self::new(ErrorCode::RecordTooLarge, message)
                    .numbers(u64::from(limit), 0)
                    .hint("split the record, or store it elsewhere and produce a reference")
            }
            BatchError::NotSupported(_) => Self::new(ErrorCode::NotSupported, message),
        }
    }
}

fn head_of(batch: &[u8]) -> Result<Head, BatchError> {
    let head =
        Head::parse(batch).ok_or(BatchError::Corrupt("the batch is shorter than its head"))?;
    if head.length as usize != batch.len() {
        return Err(BatchError::Corrupt(
            "the batch's length field is not its length",
        ));
    }
    if head.layout != LAYOUT {
        return Err(BatchError::NotSupported(
            "the batch has a layout of another version",
        ));
    }
    if crc32c::crc32c(&batch[BROKER_HEAD_BYTES..]) != head.producer_crc {
        return Err(BatchError::Corrupt("the producer's CRC-32C does not match"));
    }
    Ok(head)
}

/// Checks everything about a batch that a producer has sent, so that nothing malformed is stored.
///
/// `batch_limit` and `record_limit` are in bytes, as in [`Limits`](crate::preface::Limits).
pub fn check_produced(
    batch: &[u8],
    batch_limit: u32,
    record_limit: u32,
) -> Result<Head, BatchError> {
    if batch.len() > batch_limit as usize {
        return Err(BatchError::TooLarge {
            length: batch.len(),
            limit: batch_limit,
        });
    }
    let head = head_of(batch)?;
    Codec::of(head.attributes)?;
    // The broker keeps these bytes as they are, so a later version may rely on their being zero.
    if head.attributes & !ATTRIBUTE_CODEC != 0
        || batch[51] != 0
        || batch[45..BROKER_HEAD_BYTES] != [0; 3]
    {
        return Err(BatchError::NotSupported(
            "an attribute or a reserved byte is set that producers may not set",
        ));
    }
    if head.count == 0 {
        return Err(BatchError::Corrupt("the batch has no records"));
    }
    let mut seen = Seen::default();
    for record in open(batch)?.records() {
        let record = record.ok_or(BatchError::Corrupt("a record's boundaries are broken"))?;
        seen.add(&record, record_limit)?;
    }
    seen.compare(&head)?;
    Ok(head)
}

/// What the records say, to be compared with what the head says.
#[derive(Default)]
struct Seen {
    count: u32,
    content: u64,
    severity: u8,
    lowest_delta: Option<u64>,
    highest_delta: u64,
}

impl Seen {
    fn add(&mut self, record: &RecordView<'_>, record_limit: u32) -> Result<(), BatchError> {
        if record.offset_delta != u64::from(self.count) {
            return Err(BatchError::Corrupt("offset deltas do not count up from 0"));
        }
        if record.severity > MAX_SEVERITY {
            return Err(BatchError::Corrupt("a severity is above 24"));
        }
        let length = record.content_len();
        if length > record_limit as usize {
            return Err(BatchError::RecordTooLarge {
                index: self.count,
                length,
                limit: record_limit,
            });
        }
        let mut names = record.headers.clone().map(|(name, _)| name);
        if names.any(|name| std::str::from_utf8(name).is_err()) {
            return Err(BatchError::Corrupt("a header's name is not UTF-8"));
        }
        self.count += 1;
        self.content += length as u64;
        self.severity = self.severity.max(record.severity);
        self.highest_delta = self.highest_delta.max(record.timestamp_delta);
        let lowest = self
            .lowest_delta
            .unwrap_or(u64::MAX)
            .min(record.timestamp_delta);
        self.lowest_delta = Some(lowest);
        Ok(())
    }

    fn compare(&self, head: &Head) -> Result<(), BatchError> {
        if self.count != head.count {
            return Err(BatchError::Corrupt(
                "the count is not the number of records",
            ));
        }
        if self.content != u64::from(head.content_bytes) {
            return Err(BatchError::Corrupt(
                "the content bytes are not the sum of the records",
            ));
        }
        if self.severity != head.severity {
            return Err(BatchError::Corrupt(
                "the severity is not the highest of the records",
            ));
        }
        let highest = head.lowest_timestamp.checked_add(self.highest_delta);
        if self.lowest_delta != Some(0) || highest != Some(head.highest_timestamp) {
            return Err(BatchError::Corrupt(
                "the timestamps are not those of the records",
            ));
        }
        Ok(())
    }
}

/// Checks the two checksums and the topic of a batch that was stored: on every read of it.
pub fn check_stored(batch: &[u8], topic: TopicId) -> Result<Head, BatchError> {
    let head = head_of(batch)?;
    if crc32c::crc32c(&batch[4..BROKER_HEAD_BYTES]) != head.broker_crc {
        return Err(BatchError::Corrupt("the broker's CRC-32C does not match"));
    }
    if head.topic != topic {
        return Err(BatchError::Corrupt("the batch belongs to another topic"));
    }
    debug_assert!(batch.len() >= HEAD_BYTES);
    Ok(head)
}

/// Checks a stored batch before its records are given to a reader; the offset after its last record.
///
/// Beyond [`check_stored`]: it needs nothing that this version cannot read, it unpacks, and its
/// records are whole, as many as the head says, with ascending offsets.
pub fn check_delivered(batch: &[u8], topic: TopicId) -> Result<(Head, u64), BatchError> {
    let head = check_readable(batch, topic)?;
    let end = check_records(&head, open(batch)?.records())?;
    Ok((head, end))
}

/// The same, and the batch with records that are not packed, unpacked once for both.
pub fn open_delivered(batch: &Bytes, topic: TopicId) -> Result<(Head, u64, Bytes), BatchError> {
    let head = check_readable(batch, topic)?;
    let plain = unpacked(batch)?;
    let end = check_records(&head, Records::of(&plain))?;
    Ok((head, end, plain))
}

fn check_readable(batch: &[u8], topic: TopicId) -> Result<Head, BatchError> {
    let head = check_stored(batch, topic)?;
    let known = ATTRIBUTE_CODEC | ATTRIBUTE_REBUILT;
    if head.attributes & CRITICAL_ATTRIBUTES & !known != 0 {
        return Err(BatchError::NotSupported(
            "the batch has an attribute that this version cannot read",
        ));
    }
    Ok(head)
}

/// The offset after the last record.
fn check_records(head: &Head, records: Records<'_>) -> Result<u64, BatchError> {
    let rebuilt = head.attributes & ATTRIBUTE_REBUILT != 0;
    let (mut count, mut next_delta): (u32, u64) = (0, 0);
    for record in records {
        let record = record.ok_or(BatchError::Corrupt("a record's boundaries are broken"))?;
        // A rebuilt batch leaves records out, the others keep their offsets.
        let in_place = record.offset_delta == next_delta;
        if !in_place && (!rebuilt || record.offset_delta < next_delta) {
            return Err(BatchError::Corrupt("the offset deltas are not in order"));
        }
        next_delta = record.offset_delta.saturating_add(1);
        count = count.saturating_add(1);
    }
    if count != head.count {
        return Err(BatchError::Corrupt(
            "the count is not the number of records",
        ));
    }
    head.base_offset
        .checked_add(next_delta)
        .ok_or(BatchError::Corrupt("the offsets exceed 64 bits"))
}

//! Fetch, and the answer that fetch and consume share: whole batches, and which of their records
//! are meant.

use bytes::Bytes;

use crate::Position;
use crate::batch::{self, BatchError, Head, RecordView, Records};
use crate::body::{Reader, bodies};
use crate::ids::TopicId;
use crate::limits::MAX_UNPACKED_ANSWER_BYTES;

use super::topic::Setting;

bodies! {
    /// Reads from a position; changes nothing.
    pub struct Fetch {
        /// The topic.
        pub topic: TopicId,
        /// Where to begin.
        pub from: Position,
        /// At most so many records; 0 for no limit.
        pub max_records: u32,
        /// At most so many bytes, but always one batch; 0 for 1 MiB.
        pub max_bytes: u32,
        /// How long to wait for a first record, in milliseconds.
        pub max_wait_ms: u32,
        /// Epoch of the leader, as the client knows it; 0 without a cluster.
        pub leader_epoch: u64,
        /// What a record must fulfil to be delivered: see *Filters* in PROTOCOL.md.
        pub filter: Vec<Setting>,
    }

    /// Records, for a fetch or a consume.
    pub struct Delivered {
        /// 0 = there are records or gaps, 1 = empty: nothing is left, 2 = held: something is left
        /// and cannot be given now, 3 = passed: what was looked through matches no filter, and it
        /// goes on at `next`.
        pub status: u8,
        /// Epoch of the leader; 0 without a cluster.
        pub leader_epoch: u64,
        /// Offset after the last visible record of the topic.
        pub high_watermark: u64,
        /// Offset of the first record that is kept.
        pub log_start: u64,
        /// The offset to fetch next, or the consumer's cursor.
        pub next: u64,
        /// What was removed before it was read; before the records.
        pub gaps: Vec<Gap>,
        /// The offsets that are delivered, ascending; records of the batches outside them are not
        /// meant.
        pub ranges: Vec<Range>,
        /// Whole stored batches, ascending; packed or not.
        pub batches: Vec<Bytes>,
    }

    /// Offsets that are delivered.
    pub struct Range {
        /// The first.
        pub from: u64,
        /// After the last.
        pub to: u64,
        /// How often they were delivered before; 0 without leases.
        pub deliveries: u32,
        /// Names the lease in ack, nack and extend; 0 without leases.
        pub lease: u64,
    }

    /// Offsets that were removed before they were read.
    pub struct Gap {
        /// The first.
        pub from: u64,
        /// After the last.
        pub to: u64,
        /// Records removed.
        pub records: u64,
        /// Their keys, headers and values, in bytes.
        pub bytes: u64,
        /// Append time of the first, in microseconds; 0 if not known.
        pub first_time: u64,
        /// Append time of the last, in microseconds; 0 if not known.
        pub last_time: u64,
        /// 0 = retention, 1 = purge, 2 = deletion, 3 = damage.
        pub reason: u8,
    }
}

impl Gap {
    /// [`Gap::reason`]: the topic's rule removed it.
    pub const RETENTION: u8 = 0;
    /// [`Gap::reason`]: somebody removed it.
    pub const PURGE: u8 = 1;
    /// [`Gap::reason`]: the topic was deleted.
    pub const DELETION: u8 = 2;
    /// [`Gap::reason`]: it could not be read, and was given up.
    pub const DAMAGE: u8 = 3;
}

/// Bytes of a varint of 64 bits at its longest.
const LONGEST_NUMBER_BYTES: usize = 10;

impl Delivered {
    /// [`Delivered::status`]: there is something.
    pub const SOME: u8 = 0;
    /// [`Delivered::status`]: nothing is left.
    pub const EMPTY: u8 = 1;
    /// [`Delivered::status`]: something is left, and all of it is leased to others, waits for its
    /// time or for its key, or the consumer is paused.
    pub const HELD: u8 = 2;
    /// [`Delivered::status`]: what was looked through matches no filter; it goes on at `next`.
    pub const PASSED: u8 = 3;

    /// [`Delivered::next`], from the first bytes of an answer's body; `None` if it has no records,
    /// or if these bytes, fewer than 41, may not reach so far.
    ///
    /// It stands before the batches, so that the next request can leave while they arrive.
    pub fn next_of(beginning: &[u8]) -> Option<u64> {
        if beginning.len() < 1 + 4 * LONGEST_NUMBER_BYTES {
            return None;
        }
        let mut body = Reader::new(beginning.into());
        let status = body.u8("status").ok()?;
        for field in ["leader_epoch", "high_watermark", "log_start"] {
            body.u64(field).ok()?;
        }
        let next = body.u64("next").ok()?;
        (status == Self::SOME).then_some(next)
    }

    /// Records that are delivered.
    pub fn record_count(&self) -> u64 {
        self.ranges
            .iter()
            .map(|range| range.to.saturating_sub(range.from))
            .sum()
    }

    /// Checks every batch with its records and its topic, and that the batches ascend: what came
    /// over a wire may be anything. Packed batches stand there unpacked then, which is done once,
    /// up to [`MAX_UNPACKED_ANSWER_BYTES`] in all.
    pub fn check(&mut self, topic: TopicId) -> Result<(), BatchError> {
        let (mut end, mut unpacked) = (0, 0);
        for bytes in &mut self.batches {
            let (head, batch_end, plain) = batch::open_delivered(bytes, topic)?;
            if head.base_offset < end {
                return Err(BatchError::Corrupt("the batches of an answer overlap"));
            }
            end = batch_end;
            replace(bytes, plain, &head, &mut unpacked)?;
        }
        Ok(())
    }

    /// Unpacks the packed batches of an answer that needs no check.
    pub fn unpack(&mut self) -> Result<(), BatchError> {
        let mut unpacked = 0;
        for bytes in &mut self.batches {
            if let Some(head) = Head::parse(bytes) {
                let plain = batch::unpacked(bytes)?;
                replace(bytes, plain, &head, &mut unpacked)?;
            }
        }
        Ok(())
    }

    /// The delivered records in the order of their offsets; call [`Delivered::check`] before, or
    /// [`Delivered::unpack`]: what is packed has no records here.
    pub fn records(&self) -> impl Iterator<Item = DeliveredRecord<'_>> {
        self.batches
            .iter()
            .filter_map(|bytes| Some((bytes, Head::parse(bytes)?)))
            .filter(|(_, head)| !head.is_packed())
            .flat_map(|(bytes, head)| {
                Records::of(bytes)
                    .flatten()
                    .map(move |record| DeliveredRecord {
                        offset: head.base_offset.saturating_add(record.offset_delta),
                        append_time: head.append_time,
                        timestamp: head.lowest_timestamp.saturating_add(record.timestamp_delta),
                        deliveries: 0,
                        lease: 0,
                        record,
                        batch: bytes,
                    })
            })
            .filter_map(|record| {
                let index = self
                    .ranges
                    .partition_point(|range| range.to <= record.offset);
                let range = self.ranges.get(index)?;
                (range.from <= record.offset).then_some(DeliveredRecord {
                    deliveries: range.deliveries,
                    lease: range.lease,
                    ..record
                })
            })
    }
}

/// Puts the plain batch in the packed one's place, if it was packed.
fn replace(
    bytes: &mut Bytes,
    plain: Bytes,
    head: &Head,
    unpacked: &mut usize,
) -> Result<(), BatchError> {
    if head.is_packed() {
        *unpacked += plain.len();
        if *unpacked > MAX_UNPACKED_ANSWER_BYTES as usize {
            return Err(BatchError::AnswerUnpacksTooLarge {
                limit: MAX_UNPACKED_ANSWER_BYTES,
            });
        }
        *bytes = plain;
    }
    Ok(())
}

/// A delivered record, borrowed from its batch.
#[derive(Clone, Debug)]
pub struct DeliveredRecord<'a> {
    /// Its position in the topic.
    pub offset: u64,
    /// When the broker took its batch, in microseconds.
    pub append_time: u64,
    /// The producer's time, in microseconds.
    pub timestamp: u64,
    /// How often it was delivered before; 0 without leases.
    pub deliveries: u32,
    /// Its lease; 0 without one.
    pub lease: u64,
    /// The rest of it.
    pub record: RecordView<'a>,
    /// The batch that holds it, to take slices from.
    pub batch: &'a Bytes,
}

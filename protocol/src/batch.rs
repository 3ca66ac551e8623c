//! Record batches: the unit that is produced, stored, and sent, as the same bytes all the way.
//!
//! ```text
//!      0          4          8                   16                  24
//!    0 +----------+----------+-------------------+-------------------+
//!      |broker CRC| length   | topic id          | base offset       |  the broker's part,
//!   24 +----------+----------+-------------------+-----+-------------+  under the broker's
//!      | append time         | leader epoch      | CRC | 1 | 0 0 0   |  CRC-32C (bytes 4..48)
//!   48 +-----+-+-+-----------+-------------------+-----+-------------+
//!      |attr.|S|0| count     | lowest timestamp  | highest timestamp |  the producer's part,
//!   72 +-----+-+-+-----------+-------------------+-------------------+  under the producer's
//!      | content  | epoch    | producer id       | sequence          |  CRC-32C (bytes 48..),
//!   96 +----------+----------+-------------------+-------------------+  which stands at 40
//!      | records ...                                                 |
//!      +-------------------------------------------------------------+
//! ```
//!
//! Numbers are big-endian, times microseconds since 1970 UTC. `length` is the whole batch.
//! `content` counts key, headers and value of all records, uncompressed. A producer leaves the
//! broker's part zero but for `length`, the layout (1, at 44) and its own CRC. See *Record batch*
//! in PROTOCOL.md.
//!
//! The records may stand packed, as one piece; `open` gives them whatever their codec.

mod builder;
mod check;
mod open;
mod packing;
mod rebuilt;
mod records;

use bytes::{Buf, BytesMut};

pub use builder::{BatchBuilder, NewRecord, Origin, sign_anew};
pub use check::{BatchError, check_delivered, check_produced, check_stored, open_delivered};
pub use open::{Opened, open, unpacked};
pub use packing::{Codec, Packer};
pub use rebuilt::rebuild;
pub use records::{Headers, RecordView, Records};

use crate::ids::{ProducerId, TopicId};

/// Bytes of the broker's part of the head.
pub const BROKER_HEAD_BYTES: usize = 48;
/// Bytes of the whole head; records follow.
pub const HEAD_BYTES: usize = 96;
/// The layout that this version writes.
pub const LAYOUT: u8 = 1;

/// Attribute bits that name the codec; 0 none, 1 lz4, 2 zstd.
pub const ATTRIBUTE_CODEC: u16 = 0x0007;
/// Attribute: made by the broker from parts of stored batches.
pub const ATTRIBUTE_REBUILT: u16 = 0x0040;
/// Attributes that have a meaning reserved for them and are refused until then.
pub const RESERVED_ATTRIBUTES: &[(u16, &str)] = &[
    (0x0008, "tombstone"),
    (0x0010, "control"),
    (0x0020, "encrypted"),
];
/// Attributes that a reader must understand; the others may be ignored.
pub const CRITICAL_ATTRIBUTES: u16 = 0x00ff;

/// Bytes of a record beside its content, as they are counted ahead: most have fewer.
const RECORD_FIELDS_BYTES: usize = 16;

/// The fixed head of a batch, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// CRC-32C of the broker's part.
    pub broker_crc: u32,
    /// The whole batch, in bytes.
    pub length: u32,
    /// The topic that holds it.
    pub topic: TopicId,
    /// Offset of the record with delta 0.
    pub base_offset: u64,
    /// When the broker took it, in microseconds.
    pub append_time: u64,
    /// Epoch of the leader that took it; 0 without a cluster.
    pub leader_epoch: u64,
    /// CRC-32C of the producer's part.
    pub producer_crc: u32,
    /// Layout of all this.
    pub layout: u8,
    /// Codec and flags.
    pub attributes: u16,
    /// Highest severity of its records, 0 to 24.
    pub severity: u8,
    /// Records.
    pub count: u32,
    /// Lowest timestamp of its records, in microseconds.
    pub lowest_timestamp: u64,
    /// Highest timestamp of its records, in microseconds.
    pub highest_timestamp: u64,
    /// Key, headers and value of all records, in bytes, uncompressed.
    pub content_bytes: u32,
    /// The producer's epoch.
    pub producer_epoch: u32,
    /// The producer; none if unregistered.
    pub producer: ProducerId,
    /// The producer's sequence of the first record.
    pub sequence: u64,
}

impl Head {
    /// Decodes the first [`HEAD_BYTES`] without checking any of them; `None` if there are fewer.
    pub fn parse(batch: &[u8]) -> Option<Self> {
        let mut head = batch.get(..HEAD_BYTES)?;
        let broker_crc = head.get_u32();
        let length = head.get_u32();
        let topic = TopicId(head.get_u64());
        let base_offset = head.get_u64();
        let append_time = head.get_u64();
        let leader_epoch = head.get_u64();
        let producer_crc = head.get_u32();
        let layout = head.get_u8();
        head.advance(3);
        let attributes = head.get_u16();
        let severity = head.get_u8();
        head.advance(1);
        Some(Self {
            broker_crc,
            length,
            topic,
            base_offset,
            append_time,
            leader_epoch,
            producer_crc,
            layout,
            attributes,
            severity,
            count: head.get_u32(),
            lowest_timestamp: head.get_u64(),
            highest_timestamp: head.get_u64(),
            content_bytes: head.get_u32(),
            producer_epoch: head.get_u32(),
            producer: ProducerId(head.get_u64()),
            sequence: head.get_u64(),
        })
    }

    /// Whether its records stand packed.
    pub fn is_packed(&self) -> bool {
        self.attributes & ATTRIBUTE_CODEC != 0
    }

    /// About how long the batch is when it is not packed, in bytes, from what the head says.
    pub fn plain_len(&self) -> usize {
        let fields = (self.count as usize).saturating_mul(RECORD_FIELDS_BYTES);
        fields.saturating_add(HEAD_BYTES + self.content_bytes as usize)
    }

    /// Bytes that the batch counts where an answer is limited: what it takes to read it, however
    /// well it is packed.
    pub fn counted_len(&self) -> usize {
        let length = self.length as usize;
        if self.is_packed() {
            length.max(self.plain_len())
        } else {
            length
        }
    }

    /// The offset after the last record.
    pub fn end_offset(&self) -> u64 {
        self.base_offset.saturating_add(u64::from(self.count))
    }
}

/// What the broker writes into a batch's head before it stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The topic.
    pub topic: TopicId,
    /// Offset of the first record.
    pub base_offset: u64,
    /// The broker's clock, in microseconds.
    pub append_time: u64,
    /// Epoch of the leader; 0 without a cluster.
    pub leader_epoch: u64,
}

/// Writes the broker's part over a batch that [`check_produced`] has passed.
pub fn place(batch: &mut BytesMut, place: Place) {
    batch[8..16].copy_from_slice(&place.topic.0.to_be_bytes());
    batch[16..24].copy_from_slice(&place.base_offset.to_be_bytes());
    batch[24..32].copy_from_slice(&place.append_time.to_be_bytes());
    batch[32..40].copy_from_slice(&place.leader_epoch.to_be_bytes());
    let crc = crc32c::crc32c(&batch[4..BROKER_HEAD_BYTES]);
    batch[..4].copy_from_slice(&crc.to_be_bytes());
}

/// The running digest of a topic after `head`: equal logs have equal digests at equal offsets.
///
/// Defined over the heads in offset order, so that it does not depend on how batches met in chunks.
pub fn next_digest(digest: u64, head: &Head) -> u64 {
    // Two rounds of the splitmix64 finalizer over what identifies the batch.
    let mix = |mut word: u64| {
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    let content = (u64::from(head.producer_crc) << 32) | u64::from(head.count);
    mix(mix(digest ^ head.base_offset).wrapping_add(content))
}

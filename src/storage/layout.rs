//! The bytes inside a segment: tables, keys, row heads and the format's version.
//!
//! Owns every layout of the storage, so that nothing else counts bytes. It never touches a disk.
//! Its neighbours: the [writer](super::writer) and [recovery](super::recovery) encode with it, the
//! [reader](super::reader) decodes.
//!
//! ```text
//! meta     "format" u32, "segment" u64, "cluster" 16 bytes, "node" u64, "features" u32,
//!          "birth" u64: what tells the segment from any other that has its number,
//!          "journal" u64: how long the journal is, in bytes
//!
//! index    key    topic u64 | first offset u64
//!          value  log number u64 | row head (64 bytes)
//!
//! log      key    log number u64, growing by one
//!          value  the batches of a chunk, back to back; a batch too large for one value goes on
//!                 under the numbers that follow (the row head says how many)
//!
//! state    key    topic u64 | kind u8 | rest
//!          value  the row's own bytes | CRC-32C over key and bytes
//! ```
//!
//! The batches stand apart from the keys because redb keeps neighbours in one page: a chunk of 1 MiB
//! in the midst of a tree takes 2 MiB with a small neighbour, and is copied when that is written. In
//! the log every chunk is put at the right edge. Four chunks of 1 MiB in a flush, 256 topics: 913
//! MB/s and 1.00 bytes of disk per byte, against 267 MB/s and 1.92 with the batches in the index.
//! A table per topic would take a page or more for each of 10,000 topics.
//!
//! Log numbers begin at 0 in each segment. The [writer](super::writer) counts on and never asks the
//! table, since it only goes on in segments that it made itself; a number is used again only if its
//! transaction was not committed.
//!
//! A chunk's row head; its CRC-32C also covers key and log number, so that a swapped row is noticed
//! (the batches have their own):
//!
//! ```text
//!      0         4       6   8         12               16                  24
//!    0 +---------+-------+---+---------+----------------+-------------------+
//!      | CRC-32C | parts | 0 | records | batches, bytes | first append time |
//!   24 +---------+-------+---+---------+----------------+-------------------+
//!      | last append time    | records before           | bytes before      |
//!   48 +---------------------+--------------------------+-------------------+
//!      | term (0)            | digest at the end        |
//!   64 +---------------------+--------------------------+
//! ```
//!
//! Kinds 0xF0 to 0xFF of state rows are the storage's own:
//!
//! ```text
//! topic | F0 | first offset   extent: from here on the topic is in segment u64;
//!                             first append time u64, records and bytes before u64 each; of a
//!                             sealed segment also the topic's batches there in bytes u64
//! 0     | F1 | segment        catalogue: batches in bytes u64, first and last append time u64, birth u64
//! 0     | F2                  flush: number u64, the active segment's batches in bytes u64, first
//!                             and last append time u64, then (topic u64, first offset u64) of what
//!                             the last durable commit appended
//! ```
//!
//! Format 3: extents say how many bytes they stand for, and there are [merged](super::merge)
//! segments, numbered from [`FIRST_MERGED`] on, whose state is empty. A segment has a birth, which
//! the catalogue, the [journal](super::journal) and the file [newest](super::newest) know, so that
//! another store's file in its place is noticed, and says how long the journal is, so that a lost
//! end of it is; segments without a birth are not told apart. Format 2
//! has none of these: a bit of
//! the meta row "features" says that the [journal](super::journal) goes on where the segment's last
//! durable commit ends. Format 1 has no journal either.
//!
//! # Changing the format
//!
//! 1. Raise [`FORMAT`], and say here what changed.
//! 2. Teach the decoder the older layout too: sealed segments keep theirs for years.
//! 3. A start carries state into a new segment, so state needs no other migration.
//! 4. Add a data directory of the older format to the tests, as it was written.

use std::ops::{Range, RangeInclusive};

use logdrive_protocol::TopicId;
use redb::TableDefinition;

use super::job::Totals;

/// The format that this version writes; it reads this one and all before it.
pub(super) const FORMAT: u32 = 3;

/// The number of the first segment that was merged; what is or was active has a lower one.
pub(super) const FIRST_MERGED: u64 = 10_000_000_000_000_000_000;

/// Bytes of batches in a chunk that fills 1 MiB: a page of redb's less what it adds.
pub(super) const FULL_CHUNK_BYTES: usize = (1 << 20) - PAGE_HEAD_BYTES;

/// What redb adds to a value of the log that has a page to itself: 8 bytes, and the key of 8.
const PAGE_HEAD_BYTES: usize = 64;

/// Key of a chunk in the index.
pub(super) type IndexKey = [u8; 16];
/// A [`RowHead`] as it is stored, the log number in front.
pub(super) type IndexValue = [u8; 72];

pub(super) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const INDEX: TableDefinition<'static, &IndexKey, &IndexValue> =
    TableDefinition::new("index");
pub(super) const LOG: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("log");
pub(super) const STATE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("state");

pub(super) const META_FORMAT: &str = "format";
pub(super) const META_SEGMENT: &str = "segment";
pub(super) const META_CLUSTER: &str = "cluster";
pub(super) const META_NODE: &str = "node";
pub(super) const META_FEATURES: &str = "features";
pub(super) const META_JOURNAL: &str = "journal";
pub(super) const META_BIRTH: &str = "birth";
pub(super) const META_JOURNAL_ID: &str = "journal_id";

/// The last flushes of a segment may be in the journal alone.
pub(super) const FEATURE_JOURNAL: u32 = 1;

/// The first kind of state row that topics may not use.
pub(super) const OWN_KINDS: u8 = 0xF0;
const EXTENT: u8 = 0xF0;
const CATALOGUE: u8 = 0xF1;
const FLUSH: u8 = 0xF2;

/// Stored bytes that are not what was written; the text says which.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Damage(pub(super) String);

pub(super) fn index_key(topic: TopicId, first: u64) -> IndexKey {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&topic.0.to_be_bytes());
    key[8..].copy_from_slice(&first.to_be_bytes());
    key
}

/// The chunks of a topic that begin at or after an offset.
pub(super) fn index_range(topic: TopicId, first: u64) -> RangeInclusive<IndexKey> {
    index_key(topic, first)..=index_key(topic, u64::MAX)
}

/// The topic of a chunk.
pub(super) fn topic_of(key: &IndexKey) -> TopicId {
    TopicId(u64_at(key, 0))
}

/// The offset at which a chunk begins.
pub(super) fn first_offset(key: &IndexKey) -> u64 {
    u64_at(key, 8)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_be_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_be_bytes)
}

/// What the index says about a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RowHead {
    /// Where in the log its batches begin.
    pub(super) log: u64,
    /// Rows of the log that they take.
    pub(super) parts: u16,
    pub(super) records: u32,
    /// Bytes of all batches, over all parts.
    pub(super) payload: u32,
    pub(super) first_time: u64,
    pub(super) last_time: u64,
    pub(super) before: Totals,
    pub(super) digest: u64,
}

impl RowHead {
    pub(super) fn encode(&self, key: &IndexKey) -> IndexValue {
        let mut out = [0; 72];
        out[..8].copy_from_slice(&self.log.to_be_bytes());
        let head = &mut out[8..];
        head[4..6].copy_from_slice(&self.parts.to_be_bytes());
        head[8..12].copy_from_slice(&self.records.to_be_bytes());
        head[12..16].copy_from_slice(&self.payload.to_be_bytes());
        let words = [
            self.first_time,
            self.last_time,
            self.before.records,
            self.before.bytes,
            0,
            self.digest,
        ];
        for (slot, word) in head[16..].chunks_exact_mut(8).zip(words) {
            slot.copy_from_slice(&word.to_be_bytes());
        }
        Self::signed(key, out)
    }

    /// The value with the checksum that fits it.
    pub(super) fn signed(key: &IndexKey, mut value: IndexValue) -> IndexValue {
        let crc = Self::crc(key, &value);
        value[8..12].copy_from_slice(&crc.to_be_bytes());
        value
    }

    pub(super) fn decode(key: &IndexKey, value: &IndexValue) -> Result<Self, Damage> {
        let head = &value[8..];
        if Self::crc(key, value) != u32_at(head, 0) {
            return Err(Damage(
                "the CRC-32C of a chunk's row head does not match".into(),
            ));
        }
        Ok(Self {
            log: u64_at(value, 0),
            parts: u16::from_be_bytes([head[4], head[5]]),
            records: u32_at(head, 8),
            payload: u32_at(head, 12),
            first_time: u64_at(head, 16),
            last_time: u64_at(head, 24),
            before: Totals {
                records: u64_at(head, 32),
                bytes: u64_at(head, 40),
            },
            digest: u64_at(head, 56),
        })
    }

    /// Over the key, the log number, and the head after the CRC itself.
    fn crc(key: &IndexKey, value: &IndexValue) -> u32 {
        let crc = crc32c::crc32c_append(crc32c::crc32c(key), &value[..8]);
        crc32c::crc32c_append(crc, &value[12..])
    }

    /// The rows of the log that hold the batches.
    pub(super) fn log_numbers(&self) -> Range<u64> {
        self.log..self.log.saturating_add(u64::from(self.parts))
    }
}

/// The topic and kind of a state row's key; `None` for a key that is too short to have them.
pub(super) fn parse_state_key(key: &[u8]) -> Option<(TopicId, u8)> {
    Some((TopicId(u64_at(key.get(..8)?, 0)), *key.get(8)?))
}

/// The smallest key of a topic's state, and the smallest after it.
///
/// The last topic id there could be has no successor: nothing is ever called that.
pub(super) fn state_range(topic: TopicId) -> Range<[u8; 8]> {
    topic.0.to_be_bytes()..topic.0.saturating_add(1).to_be_bytes()
}

/// Bytes that [`seal`] adds to a state row.
pub(super) const SEAL_BYTES: usize = 4;

/// Writes a state row's bytes as they are stored into `out`, [`SEAL_BYTES`] longer than `value`.
pub(super) fn seal(key: &[u8], value: &[u8], out: &mut [u8]) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), value);
    let (body, tail) = out.split_at_mut(value.len());
    body.copy_from_slice(value);
    tail.copy_from_slice(&crc.to_be_bytes());
}

/// A state row's own bytes, checked.
pub(super) fn unseal<'a>(key: &[u8], stored: &'a [u8]) -> Result<&'a [u8], Damage> {
    let damage = || {
        Damage(format!(
            "the CRC-32C of a state row does not match (key {key:02x?})"
        ))
    };
    let (value, crc) = stored
        .len()
        .checked_sub(SEAL_BYTES)
        .map(|at| stored.split_at(at))
        .ok_or_else(damage)?;
    if crc32c::crc32c_append(crc32c::crc32c(key), value) != u32_at(crc, 0) {
        return Err(damage());
    }
    Ok(value)
}

/// Which of the storage's own rows a key names; `None` for a topic's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnRow {
    Extent,
    Catalogue {
        segment: u64,
    },
    Flush,
    /// Of a kind that this version does not write: carried along as it is.
    Other,
}

pub(super) fn own_row(key: &[u8]) -> Option<OwnRow> {
    match parse_state_key(key)? {
        (_, kind) if kind < OWN_KINDS => None,
        (_, EXTENT) => Some(OwnRow::Extent),
        (TopicId(0), CATALOGUE) => Some(OwnRow::Catalogue {
            segment: u64_at(key, 9),
        }),
        (TopicId(0), FLUSH) => Some(OwnRow::Flush),
        _ => Some(OwnRow::Other),
    }
}

/// From which offset on a topic's chunks are in which segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) first: u64,
    pub(super) segment: u64,
    pub(super) first_time: u64,
    pub(super) before: Totals,
    /// Bytes of batches, once the segment is sealed; older formats do not say.
    pub(super) payload: Option<u64>,
}

impl Extent {
    pub(super) fn key(topic: TopicId, first: u64) -> [u8; 17] {
        own_key(topic, EXTENT, first)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = words(&[
            self.segment,
            self.first_time,
            self.before.records,
            self.before.bytes,
        ]);
        out.extend(
            self.payload
                .iter()
                .flat_map(|payload| payload.to_be_bytes()),
        );
        out
    }

    pub(super) fn decode(key: &[u8], stored: &[u8]) -> Result<Self, Damage> {
        let value = unseal(key, stored)?;
        Ok(Self {
            first: u64_at(key, 9),
            segment: u64_at(value, 0),
            first_time: u64_at(value, 8),
            before: Totals {
                records: u64_at(value, 16),
                bytes: u64_at(value, 24),
            },
            payload: (value.len() >= 40).then(|| u64_at(value, 32)),
        })
    }
}

/// What the catalogue says about a sealed segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// Bytes of batches.
    pub(super) payload: u64,
    pub(super) first_time: u64,
    pub(super) last_time: u64,
    /// Of the segment; 0 where it has none, and for the active one, whose own meta table says it.
    pub(super) birth: u64,
}

impl Contents {
    pub(super) fn key(segment: u64) -> [u8; 17] {
        own_key(TopicId(0), CATALOGUE, segment)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        words(&[self.payload, self.first_time, self.last_time, self.birth])
    }

    /// Reads a catalogue row's own bytes.
    pub(super) fn decode(value: &[u8]) -> Self {
        Self {
            payload: u64_at(value, 0),
            first_time: u64_at(value, 8),
            last_time: u64_at(value, 16),
            birth: u64_at(value, 24),
        }
    }

    /// Counts a chunk in.
    pub(super) fn add(&mut self, payload: usize, first_time: u64, last_time: u64) {
        if self.payload == 0 {
            self.first_time = first_time;
        }
        self.first_time = self.first_time.min(first_time);
        self.last_time = self.last_time.max(last_time);
        self.payload += payload as u64;
    }
}

/// What the last durable flush of a segment was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FlushRow {
    /// Counts the flushes of this data directory.
    pub(super) number: u64,
    pub(super) contents: Contents,
    /// Each topic appended to since the durable commit before, with the first offset of that.
    pub(super) appended: Vec<(TopicId, u64)>,
}

impl FlushRow {
    pub(super) fn key() -> [u8; 9] {
        let mut key = [0; 9];
        key[8] = FLUSH;
        key
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let Contents {
            payload,
            first_time,
            last_time,
            birth: _,
        } = self.contents;
        let mut out = words(&[self.number, payload, first_time, last_time]);
        for (topic, first) in &self.appended {
            out.extend_from_slice(&topic.0.to_be_bytes());
            out.extend_from_slice(&first.to_be_bytes());
        }
        out
    }

    pub(super) fn decode(stored: &[u8]) -> Result<Self, Damage> {
        let value = unseal(&Self::key(), stored)?;
        let contents = Contents {
            payload: u64_at(value, 8),
            first_time: u64_at(value, 16),
            last_time: u64_at(value, 24),
            birth: 0,
        };
        let pairs = value.get(32..).unwrap_or_default().chunks_exact(16);
        let appended = pairs
            .map(|pair| (TopicId(u64_at(pair, 0)), u64_at(pair, 8)))
            .collect();
        Ok(Self {
            number: u64_at(value, 0),
            contents,
            appended,
        })
    }
}

fn own_key(topic: TopicId, kind: u8, number: u64) -> [u8; 17] {
    let mut key = [0; 17];
    key[..8].copy_from_slice(&topic.0.to_be_bytes());
    key[8] = kind;
    key[9..].copy_from_slice(&number.to_be_bytes());
    key
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// The file name of a segment.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:020}.redb")
}

/// The file name of a segment that is not born yet.
pub(super) fn unborn_name(number: u64) -> String {
    format!("{number:020}.new")
}

/// What a file name in the data directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Segment(u64),
    Unborn(u64),
    Other,
}

pub(super) fn file_kind(name: &str) -> FileKind {
    let number = |digits: &str| {
        (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
            .then(|| digits.parse().ok())
            .flatten()
    };
    let parts = name
        .split_once('.')
        .map(|(digits, kind)| (number(digits), kind));
    match parts {
        Some((Some(number), "redb")) => FileKind::Segment(number),
        Some((Some(number), "new")) => FileKind::Unborn(number),
        _ => FileKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_head_survives_encoding_and_notices_another_key_and_every_flipped_bit() {
        let head = RowHead {
            log: 19,
            parts: 3,
            records: 7,
            payload: 9,
            first_time: 11,
            last_time: 13,
            before: Totals {
                records: 15,
                bytes: 17,
            },
            digest: u64::MAX,
        };
        let key = index_key(TopicId(5), 6);
        let bytes = head.encode(&key);
        assert_eq!(RowHead::decode(&key, &bytes).unwrap(), head);
        assert_eq!(head.log_numbers(), 19..22);
        assert_eq!(first_offset(&key), 6);
        assert!(RowHead::decode(&index_key(TopicId(5), 7), &bytes).is_err());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(RowHead::decode(&key, &flipped).is_err(), "bit {bit}");
        }
    }

    fn sealed(key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut out = vec![0; value.len() + SEAL_BYTES];
        seal(key, value, &mut out);
        out
    }

    #[test]
    fn every_flipped_bit_of_a_state_row_is_noticed() {
        let key = Extent::key(TopicId(9), 4);
        let stored = sealed(&key, b"value");
        assert_eq!(unseal(&key, &stored).unwrap(), b"value");
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(&key, &flipped).is_err(), "bit {bit}");
        }
        assert!(unseal(&key, b"abc").is_err());
    }

    #[test]
    fn own_rows_survive_encoding() {
        let before = Totals {
            records: 1,
            bytes: 2,
        };
        let extent = Extent {
            first: 3,
            segment: 4,
            first_time: 5,
            before,
            payload: None,
        };
        let key = Extent::key(TopicId(7), 3);
        assert_eq!(
            Extent::decode(&key, &sealed(&key, &extent.encode())).unwrap(),
            extent
        );
        let extent = Extent {
            payload: Some(6),
            ..extent
        };
        assert_eq!(
            Extent::decode(&key, &sealed(&key, &extent.encode())).unwrap(),
            extent
        );
        assert_eq!(own_row(&key), Some(OwnRow::Extent));

        let contents = Contents {
            payload: 6,
            first_time: 7,
            last_time: 8,
            birth: 0,
        };
        let appended = vec![(TopicId(1), 2), (TopicId(3), 4)];
        let flush = FlushRow {
            number: 5,
            contents,
            appended,
        };
        let stored = sealed(&FlushRow::key(), &flush.encode());
        assert_eq!(FlushRow::decode(&stored).unwrap(), flush);
        assert_eq!(own_row(&FlushRow::key()), Some(OwnRow::Flush));
        let contents = Contents {
            birth: 9,
            ..contents
        };
        assert_eq!(Contents::decode(&contents.encode()), contents);
        // As it was written before there were births.
        let birth = Contents::decode(&contents.encode()[..24]).birth;
        assert_eq!(birth, 0);
        assert_eq!(
            own_row(&Contents::key(8)),
            Some(OwnRow::Catalogue { segment: 8 })
        );
        assert_eq!(own_row(&[0, 0, 0, 0, 0, 0, 0, 1, 0xEF]), None);
    }

    #[test]
    fn file_names_are_what_they_are_called() {
        assert_eq!(file_kind(&segment_name(12)), FileKind::Segment(12));
        assert_eq!(file_kind(&unborn_name(12)), FileKind::Unborn(12));
        for name in [
            "LOCK",
            "12.redb",
            "ballast",
            "00000000000000000012.redb.bak",
            "",
        ] {
            assert_eq!(file_kind(name), FileKind::Other, "{name}");
        }
    }
}

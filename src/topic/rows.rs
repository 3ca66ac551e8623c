//! The state of a topic as rows: what is written with every change and read back at a start.
//!
//! ```text
//! key = topic id (8) | kind (1) | rest            value, by the rules of bodies
//!   01                                            Topic       name, settings, creation
//!   02                                            Extent      where the log begins and ends
//!   03  producer id (8)                           Producer    name, epoch, instance
//!   04  producer id (8) | block (1)               so many times 32 bytes: remembered batches
//!   05  consumer id (8)                           Consumer    name, settings, cursor
//!   06  consumer id (8) | worker id (8)           Worker      sequence and range of its last answer
//!   20                                            Removed     what was removed, and why
//! ```
//!
//! Numbers in keys are big-endian. Topic 0 is the broker: kind 01 is the lowest id never handed
//! out. Values grow at their end, as bodies do; a kind is never given another meaning.

use bytes::{Buf, BufMut, BytesMut};
use logdrive_protocol::body::{Body, Malformed, Writer};
use logdrive_protocol::operations::{Gap, Setting};
use logdrive_protocol::{ConsumerId, ProducerId, TopicId, WorkerId, bodies};

use crate::storage::{Row, Totals};

const KIND_AT: usize = 8;
const TOPIC: u8 = 0x01;
const EXTENT: u8 = 0x02;
const PRODUCER: u8 = 0x03;
const REMEMBERED: u8 = 0x04;
const CONSUMER: u8 = 0x05;
const WORKER: u8 = 0x06;
const REMOVED: u8 = 0x20;
/// The broker's own row: the lowest id never handed out.
const NEXT_ID: u8 = 0x01;

/// Remembered batches in one row: a produce rewrites one row of this many.
pub const REMEMBERED_PER_ROW: usize = 8;
/// Rows of remembered batches: one more than 64 batches need, because the newest row replaces the
/// oldest one as a whole.
pub const REMEMBERED_ROWS: u8 = 9;
const REMEMBERED_BYTES: usize = 32;

bodies! {
    /// What a topic is.
    pub struct TopicRow {
        /// Its name.
        pub name: String,
        /// Settings other than the defaults.
        pub settings: Vec<Setting>,
        /// When it was created, in microseconds.
        pub created_at: u64,
    }

    /// Where a topic's log begins and ends.
    pub struct ExtentRow {
        /// Offset of the first record that is kept.
        pub start: u64,
        /// Records before that.
        pub start_records: u64,
        /// Their bytes.
        pub start_bytes: u64,
        /// Offset after the last record.
        pub end: u64,
        /// Records before that.
        pub end_records: u64,
        /// Their bytes.
        pub end_bytes: u64,
        /// Append time of the last record, in microseconds.
        pub last_append_time: u64,
        /// Running digest at the end.
        pub digest: u64,
        /// Append time of the first record that is kept, in microseconds; 0 if not known.
        pub start_time: u64,
    }

    /// What was removed before the log's start.
    pub struct RemovedRow {
        /// Ranges that abut, the oldest first.
        pub ranges: Vec<Gap>,
    }

    /// A registered producer.
    pub struct ProducerRow {
        /// Its name; may be empty.
        pub name: String,
        /// The epoch in force.
        pub epoch: u32,
        /// The instance that has it.
        pub instance: u64,
        /// When it last registered, in microseconds.
        pub registered_at: u64,
        /// The sequence to go on from when no batch is remembered.
        pub first_sequence: u64,
    }

    /// A registered consumer.
    pub struct ConsumerRow {
        /// Its name.
        pub name: String,
        /// Settings other than the defaults.
        pub settings: Vec<Setting>,
        /// Offset of the next record for it.
        pub cursor: u64,
        /// Records of the topic before the cursor.
        pub records: u64,
        /// Their bytes.
        pub bytes: u64,
    }

    /// A worker's last answer.
    pub struct WorkerRow {
        /// Its sequence.
        pub sequence: u64,
        /// The first offset that it gave.
        pub from: u64,
        /// After the last.
        pub to: u64,
        /// When, in microseconds.
        pub used_at: u64,
    }
}

impl ConsumerRow {
    /// The topic's sums at the cursor.
    pub fn totals(&self) -> Totals {
        Totals {
            records: self.records,
            bytes: self.bytes,
        }
    }
}

/// A batch that a producer may retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The producer's sequence of its first record.
    pub sequence: u64,
    /// Its records.
    pub count: u32,
    /// The producer's CRC.
    pub crc: u32,
    /// Where it went.
    pub base_offset: u64,
    /// When, in microseconds.
    pub append_time: u64,
}

impl Remembered {
    /// The sequence after its last record.
    pub fn end(&self) -> u64 {
        self.sequence.saturating_add(u64::from(self.count))
    }
}

/// One row, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the rows above")]
pub enum Decoded {
    Topic(TopicRow),
    Extent(ExtentRow),
    Producer(ProducerId, ProducerRow),
    Remembered(ProducerId, u8, Vec<Remembered>),
    Consumer(ConsumerId, ConsumerRow),
    Worker(ConsumerId, WorkerId, WorkerRow),
    Removed(RemovedRow),
    /// A kind of a newer version, left as it is.
    Unknown,
}

/// Decodes a row of a topic.
///
/// # Errors
/// The row is not what this version or an older one writes: its checksum held, so this is a fault
/// of the program that wrote it.
pub fn decode(key: &[u8], value: &[u8]) -> Result<Decoded, Malformed> {
    let mut rest = key.get(KIND_AT..).unwrap_or_default();
    let Some((&kind, tail)) = rest.split_first() else {
        return Ok(Decoded::Unknown);
    };
    rest = tail;
    let mut id = || rest.try_get_u64().unwrap_or_default();
    let value = BytesMut::from(value);
    Ok(match kind {
        TOPIC => Decoded::Topic(TopicRow::from_bytes(value)?),
        EXTENT => Decoded::Extent(ExtentRow::from_bytes(value)?),
        PRODUCER => Decoded::Producer(ProducerId(id()), ProducerRow::from_bytes(value)?),
        REMEMBERED => {
            let producer = ProducerId(id());
            let block = key.last().copied().unwrap_or_default();
            Decoded::Remembered(producer, block, decode_remembered(&value))
        }
        CONSUMER => Decoded::Consumer(ConsumerId(id()), ConsumerRow::from_bytes(value)?),
        WORKER => {
            let (consumer, worker) = (ConsumerId(id()), WorkerId(id()));
            Decoded::Worker(consumer, worker, WorkerRow::from_bytes(value)?)
        }
        REMOVED => Decoded::Removed(RemovedRow::from_bytes(value)?),
        _ => Decoded::Unknown,
    })
}

fn key(topic: TopicId, kind: u8, ids: &[u64]) -> Vec<u8> {
    let mut key = Vec::with_capacity(KIND_AT + 1 + ids.len() * 8);
    key.put_u64(topic.0);
    key.put_u8(kind);
    for id in ids {
        key.put_u64(*id);
    }
    key
}

fn row(key: Vec<u8>, value: &impl Body) -> Row {
    let mut out = Writer::default();
    value.encode(&mut out);
    Row {
        key,
        value: Some(out.into_bytes().to_vec()),
    }
}

/// The row of what a topic is.
pub fn topic(topic: TopicId, value: &TopicRow) -> Row {
    row(key(topic, TOPIC, &[]), value)
}

/// The row of a topic's extent.
pub fn extent(topic: TopicId, value: &ExtentRow) -> Row {
    row(key(topic, EXTENT, &[]), value)
}

/// The row of what was removed from a topic.
pub fn removed(topic: TopicId, value: &RemovedRow) -> Row {
    row(key(topic, REMOVED, &[]), value)
}

/// The row of a producer.
pub fn producer(topic: TopicId, id: ProducerId, value: &ProducerRow) -> Row {
    row(key(topic, PRODUCER, &[id.0]), value)
}

/// The row of a consumer.
pub fn consumer(topic: TopicId, id: ConsumerId, value: &ConsumerRow) -> Row {
    row(key(topic, CONSUMER, &[id.0]), value)
}

/// The row of a worker.
pub fn worker(topic: TopicId, consumer: ConsumerId, id: WorkerId, value: &WorkerRow) -> Row {
    row(key(topic, WORKER, &[consumer.0, id.0]), value)
}

/// The row of one block of a producer's remembered batches.
pub fn remembered(topic: TopicId, id: ProducerId, block: u8, batches: &[Remembered]) -> Row {
    let mut value = Vec::with_capacity(batches.len() * REMEMBERED_BYTES);
    for batch in batches {
        value.put_u64(batch.sequence);
        value.put_u32(batch.count);
        value.put_u32(batch.crc);
        value.put_u64(batch.base_offset);
        value.put_u64(batch.append_time);
    }
    Row {
        key: remembered_key(topic, id, block),
        value: Some(value),
    }
}

fn remembered_key(topic: TopicId, id: ProducerId, block: u8) -> Vec<u8> {
    let mut key = key(topic, REMEMBERED, &[id.0]);
    key.push(block);
    key
}

fn decode_remembered(mut value: &[u8]) -> Vec<Remembered> {
    let mut batches = Vec::new();
    while value.len() >= REMEMBERED_BYTES {
        batches.push(Remembered {
            sequence: value.get_u64(),
            count: value.get_u32(),
            crc: value.get_u32(),
            base_offset: value.get_u64(),
            append_time: value.get_u64(),
        });
    }
    batches
}

/// Deletes a producer and what is remembered of it.
pub fn forget_producer(topic: TopicId, id: ProducerId) -> Vec<Row> {
    let keys = (0..REMEMBERED_ROWS).map(|block| remembered_key(topic, id, block));
    keys.chain([key(topic, PRODUCER, &[id.0])])
        .map(deleted)
        .collect()
}

/// Deletes a consumer and its workers.
pub fn forget_consumer(
    topic: TopicId,
    id: ConsumerId,
    workers: impl Iterator<Item = WorkerId>,
) -> Vec<Row> {
    let keys = workers.map(|worker| key(topic, WORKER, &[id.0, worker.0]));
    keys.chain([key(topic, CONSUMER, &[id.0])])
        .map(deleted)
        .collect()
}

/// Deletes one worker.
pub fn forget_worker(topic: TopicId, consumer: ConsumerId, id: WorkerId) -> Row {
    deleted(key(topic, WORKER, &[consumer.0, id.0]))
}

fn deleted(key: Vec<u8>) -> Row {
    Row { key, value: None }
}

/// The broker's row of the lowest id never handed out.
pub fn next_id(next: u64) -> Row {
    Row {
        key: key(TopicId::NONE, NEXT_ID, &[]),
        value: Some(next.to_be_bytes().to_vec()),
    }
}

/// What [`next_id`] holds, if `key` is its key.
pub fn decode_next_id(row_key: &[u8], mut value: &[u8]) -> Option<u64> {
    if row_key == key(TopicId::NONE, NEXT_ID, &[]) {
        value.try_get_u64().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    fn check(row: &Row, expected_key: &str, expected_value: &str, decoded: &Decoded) {
        let value = row.value.as_deref().unwrap();
        assert_eq!(
            (hex(&row.key).as_str(), hex(value).as_str()),
            (expected_key, expected_value)
        );
        assert_eq!(&decode(&row.key, value).unwrap(), decoded);
    }

    #[test]
    fn rows_are_for_ever() {
        let topic_row = TopicRow {
            name: "app".into(),
            settings: vec![],
            created_at: 5,
        };
        check(
            &topic(TopicId(1), &topic_row),
            "000000000000000101",
            "036170700005",
            &Decoded::Topic(topic_row.clone()),
        );
        let extent_row = ExtentRow {
            end: 300,
            end_records: 300,
            end_bytes: 9,
            ..ExtentRow::default()
        };
        check(
            &extent(TopicId(1), &extent_row),
            "000000000000000102",
            "000000ac02ac0209000000",
            &Decoded::Extent(extent_row.clone()),
        );
        let worker_row = WorkerRow {
            sequence: 3,
            from: 4,
            to: 6,
            used_at: 7,
        };
        check(
            &worker(TopicId(1), ConsumerId(2), WorkerId(0xff), &worker_row),
            "000000000000000106000000000000000200000000000000ff",
            "03040607",
            &Decoded::Worker(ConsumerId(2), WorkerId(0xff), worker_row.clone()),
        );
    }

    #[test]
    fn remembered_batches_are_32_bytes_each() {
        let batch = Remembered {
            sequence: 1,
            count: 2,
            crc: 3,
            base_offset: 4,
            append_time: 5,
        };
        check(
            &remembered(TopicId(1), ProducerId(2), 7, &[batch, batch]),
            "000000000000000104000000000000000207",
            &"0000000000000001000000020000000300000000000000040000000000000005".repeat(2),
            &Decoded::Remembered(ProducerId(2), 7, vec![batch, batch]),
        );
    }

    #[test]
    fn a_kind_of_a_newer_version_is_left_alone() {
        assert_eq!(
            decode(&key(TopicId(1), 0x70, &[]), b"?"),
            Ok(Decoded::Unknown)
        );
    }
}

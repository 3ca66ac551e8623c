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
//!   07  consumer id (8) | parcel (8)              Fate        who has the records of a parcel, until when
//!   08  consumer id (8) | parcel (8)              Parcel      which records those are
//!   09  consumer id (8) | parcel (8) | block (2)  Left        a set of ranks: what is left of them
//!   0a  consumer id (8) | first offset (8)        Gap         removed, and the consumer not told yet
//!   0b  consumer id (8) | offset (8)              Copy        the dead letter that stands for a record
//!   10                                            DelayLog    where the delay log begins and ends
//!   11  due time (8) | offset there (8)           Due         a batch that waits for its time
//!   20                                            Removed     what was removed, and why
//! ```
//!
//! A remembered batch that waited when it was remembered has the highest bit set in its offset,
//! which is one of the delay log. Numbers in keys are big-endian. Topic 0 is the broker: kind 01 is the lowest id never handed
//! out. Values grow at their end, as bodies do; a kind is never given another meaning.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use logdrive_protocol::body::{Body, Malformed, Writer};
use logdrive_protocol::operations::{Gap, Setting};
use logdrive_protocol::{ConsumerId, ProducerId, TopicId, WorkerId, bodies};

use super::delayed::Due;
use crate::storage::{Row, Totals};

const KIND_AT: usize = 8;
const TOPIC: u8 = 0x01;
const EXTENT: u8 = 0x02;
const PRODUCER: u8 = 0x03;
const REMEMBERED: u8 = 0x04;
const CONSUMER: u8 = 0x05;
const WORKER: u8 = 0x06;
const FATE: u8 = 0x07;
const PARCEL: u8 = 0x08;
const LEFT: u8 = 0x09;
const GAP: u8 = 0x0a;
const COPY: u8 = 0x0b;
const DELAY_LOG: u8 = 0x10;
const DUE: u8 = 0x11;
const REMOVED: u8 = 0x20;
/// The broker's own row: the lowest id never handed out.
const NEXT_ID: u8 = 0x01;

/// Remembered batches in one row: a produce rewrites one row of this many.
pub const REMEMBERED_PER_ROW: usize = 8;
/// Rows of remembered batches: one more than 64 batches need, because the newest row replaces the
/// oldest one as a whole.
pub const REMEMBERED_ROWS: u8 = 9;
const REMEMBERED_BYTES: usize = 32;

impl TopicRow {
    /// Who created it.
    pub fn owner(&self) -> (String, u64) {
        (self.owner.clone(), self.owner_created_at)
    }
}

bodies! {
    /// What a topic is.
    pub struct TopicRow {
        /// Its name.
        pub name: String,
        /// Settings other than the defaults.
        pub settings: Vec<Setting>,
        /// When it was created, in microseconds.
        pub created_at: u64,
        /// The principal that created it; empty if nobody was logged in.
        pub owner: String,
        /// When that principal was created, in microseconds: another one of its name is somebody else.
        pub owner_created_at: u64,
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
        /// Offset of the first record that was never given to anybody.
        pub next: u64,
        /// Records of the topic before that one.
        pub records: u64,
        /// Their bytes.
        pub bytes: u64,
        /// The parcel that was made last; its ids are the topic's, and leases are called by them.
        pub last_parcel: u64,
        /// Whether it gives no records.
        pub paused: bool,
    }

    /// Where a topic's delay log begins and ends, in offsets of its own.
    pub struct DelayLogRow {
        /// Everything before this offset is removed.
        pub start: u64,
        /// Key, headers and values of the records before that, in bytes.
        pub start_bytes: u64,
        /// Offset after the last record.
        pub end: u64,
        /// Records before that.
        pub end_records: u64,
        /// Their bytes.
        pub end_bytes: u64,
        /// When the last batch came, in microseconds.
        pub last_append_time: u64,
        /// Running digest at the end.
        pub digest: u64,
    }

    /// A batch in the delay log that waits for its time.
    pub struct DueRow {
        /// Its records.
        pub records: u32,
        /// The whole batch, in bytes.
        pub bytes: u32,
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
        /// The lease of what it gave; 0 where that was taken for good.
        pub lease: u64,
        /// The gaps that it told.
        pub gaps: Vec<Gap>,
    }

    /// What happens to a parcel next.
    pub struct FateRow {
        /// Who has leased it; 0 for a worker without memory.
        pub worker: WorkerId,
        /// For how long, in microseconds; 0 for records that nobody has.
        pub duration: u64,
        /// From when on those may be delivered, in microseconds.
        pub due: u64,
        /// Whether they were never delivered.
        pub aside: bool,
    }

    /// The records of a parcel, as it was made.
    pub struct ParcelRow {
        /// Which offsets.
        pub runs: Vec<RunRow>,
        /// The size of each record, as varints: key, headers and value, in bytes.
        pub bytes: Bytes,
        /// What stands for the key of each, 8 bytes; empty where none is known.
        pub keys: Bytes,
    }

    /// Where the dead letter of a record is that retention has taken.
    pub struct CopyRow {
        /// The topic that holds it.
        pub topic: TopicId,
        /// Its offset there.
        pub offset: u64,
    }

    /// Offsets that follow each other.
    pub struct RunRow {
        /// The first.
        pub from: u64,
        /// How many.
        pub count: u32,
        /// How often each was delivered before.
        pub deliveries: u32,
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
    Fate(ConsumerId, u64, FateRow),
    Parcel(ConsumerId, u64, ParcelRow),
    Left(ConsumerId, u64, u16, Bytes),
    Gap(ConsumerId, Gap),
    Copy(ConsumerId, u64, CopyRow),
    DelayLog(DelayLogRow),
    Due(Due, DueRow),
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
        EXTENT => {
            let row = ExtentRow::from_bytes(value)?;
            in_order("start", row.start, row.end)?;
            in_order("start_records", row.start_records, row.end_records)?;
            in_order("start_bytes", row.start_bytes, row.end_bytes)?;
            Decoded::Extent(row)
        }
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
        FATE => Decoded::Fate(ConsumerId(id()), id(), FateRow::from_bytes(value)?),
        PARCEL => Decoded::Parcel(ConsumerId(id()), id(), ParcelRow::from_bytes(value)?),
        LEFT => {
            let (consumer, parcel) = (ConsumerId(id()), id());
            let block = rest.try_get_u16().unwrap_or_default();
            Decoded::Left(consumer, parcel, block, value.freeze())
        }
        GAP => Decoded::Gap(ConsumerId(id()), Gap::from_bytes(value)?),
        COPY => Decoded::Copy(ConsumerId(id()), id(), CopyRow::from_bytes(value)?),
        DELAY_LOG => {
            let row = DelayLogRow::from_bytes(value)?;
            in_order("start", row.start, row.end)?;
            Decoded::DelayLog(row)
        }
        DUE => {
            let (time, offset) = (id(), id());
            Decoded::Due(Due { time, offset }, DueRow::from_bytes(value)?)
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

/// The row of where a delay log begins and ends.
pub fn delay_log(topic: TopicId, value: &DelayLogRow) -> Row {
    row(key(topic, DELAY_LOG, &[]), value)
}

/// The row of a batch that waits for its time.
pub fn due(topic: TopicId, due: Due, value: &DueRow) -> Row {
    row(key(topic, DUE, &[due.time, due.offset]), value)
}

/// Deletes the row of a batch that waits no more.
pub fn due_taken(topic: TopicId, due: Due) -> Row {
    deleted(key(topic, DUE, &[due.time, due.offset]))
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

/// What begins after its end contradicts itself.
fn in_order(field: &'static str, start: u64, end: u64) -> Result<(), Malformed> {
    let fault = "lies behind the end";
    (start <= end)
        .then_some(())
        .ok_or(Malformed { field, fault })
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

/// The row of a parcel's fate.
pub fn fate(topic: TopicId, consumer: ConsumerId, parcel: u64, value: &FateRow) -> Row {
    row(key(topic, FATE, &[consumer.0, parcel]), value)
}

/// The row of a parcel's records.
pub fn parcel(topic: TopicId, consumer: ConsumerId, parcel: u64, value: &ParcelRow) -> Row {
    row(key(topic, PARCEL, &[consumer.0, parcel]), value)
}

/// The row of one block of what is left of a parcel.
pub fn left(topic: TopicId, consumer: ConsumerId, parcel: u64, block: u16, set: Vec<u8>) -> Row {
    Row {
        key: left_key(topic, consumer, parcel, block),
        value: Some(set),
    }
}

fn left_key(topic: TopicId, consumer: ConsumerId, parcel: u64, block: u16) -> Vec<u8> {
    let mut key = key(topic, LEFT, &[consumer.0, parcel]);
    key.put_u16(block);
    key
}

/// Deletes a parcel with `blocks` blocks of what is left of it.
pub fn forget_parcel(
    topic: TopicId,
    consumer: ConsumerId,
    parcel: u64,
    blocks: u16,
) -> impl Iterator<Item = Row> {
    let lefts = (0..blocks).map(move |block| left_key(topic, consumer, parcel, block));
    let others = [FATE, PARCEL].map(|kind| key(topic, kind, &[consumer.0, parcel]));
    lefts.chain(others).map(deleted)
}

/// The row of a gap that a consumer has not been told of.
pub fn gap(topic: TopicId, consumer: ConsumerId, value: &Gap) -> Row {
    row(key(topic, GAP, &[consumer.0, value.from]), value)
}

/// Deletes a gap.
pub fn forget_gap(topic: TopicId, consumer: ConsumerId, from: u64) -> Row {
    deleted(key(topic, GAP, &[consumer.0, from]))
}

/// The row of the dead letter that stands for a record.
pub fn copy(topic: TopicId, consumer: ConsumerId, offset: u64, value: &CopyRow) -> Row {
    row(key(topic, COPY, &[consumer.0, offset]), value)
}

/// Deletes it.
pub fn forget_copy(topic: TopicId, consumer: ConsumerId, offset: u64) -> Row {
    deleted(key(topic, COPY, &[consumer.0, offset]))
}

/// Deletes a consumer's own row.
pub fn forget_consumer(topic: TopicId, id: ConsumerId) -> Row {
    deleted(key(topic, CONSUMER, &[id.0]))
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
mod tests;

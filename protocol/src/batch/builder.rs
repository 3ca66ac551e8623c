//! Building batches in their stored form.

use bytes::{BufMut, BytesMut};

use super::{BROKER_HEAD_BYTES, HEAD_BYTES, LAYOUT, Packer, Records};
use crate::ids::ProducerId;
use crate::varint;

/// A record that is to be produced.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// Microseconds since 1970 UTC.
    pub timestamp: u64,
    /// OpenTelemetry's `SeverityNumber`; 0 = not given, 1 to 24.
    pub severity: u8,
    /// What records that belong together share.
    pub key: Option<&'a [u8]>,
    /// Names and values.
    pub headers: &'a [(String, Vec<u8>)],
    /// The record itself.
    pub value: &'a [u8],
}

impl NewRecord<'_> {
    /// Bytes of key, headers and value: what limits and sizes count.
    pub fn content_len(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        self.key.map_or(0, <[u8]>::len) + headers + self.value.len()
    }

    /// Bytes that the record adds to a batch, at most.
    pub fn encoded_len(&self) -> usize {
        // Length, two deltas, severity, key length, header count, value length.
        const FIELDS: usize = 6 * varint::MAX_LEN + 1;
        self.content_len() + FIELDS + self.headers.len() * 2 * varint::MAX_LEN
    }
}

/// Who produced a batch: what makes a retry recognizable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The registered producer; none if unregistered.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: u32,
    /// Its sequence of the first record.
    pub sequence: u64,
}

/// Collects records and writes them as one batch.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    /// Room for the head, then the records.
    bytes: BytesMut,
    /// In the order of the records: deltas are written against the first and mended at the end if
    /// a lower one came later.
    timestamps: Vec<u64>,
    content: usize,
    severity: u8,
}

impl BatchBuilder {
    /// An empty batch with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            bytes: BytesMut::with_capacity(capacity),
            ..Self::default()
        }
    }

    /// Records so far.
    pub fn count(&self) -> usize {
        self.timestamps.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Bytes of the batch so far.
    pub fn len(&self) -> usize {
        self.bytes.len().max(HEAD_BYTES)
    }

    /// Appends a record.
    pub fn push(&mut self, record: &NewRecord<'_>) {
        if self.bytes.is_empty() {
            self.bytes.put_bytes(0, HEAD_BYTES);
        }
        let first = self.timestamps.first().copied().unwrap_or(record.timestamp);
        let delta = record.timestamp.saturating_sub(first);
        put_record(&mut self.bytes, self.timestamps.len() as u64, delta, record);
        self.timestamps.push(record.timestamp);
        self.content += record.content_len();
        self.severity = self.severity.max(record.severity);
    }

    /// The finished batch; the builder is empty again. An empty builder gives an empty buffer.
    pub fn finish(&mut self, origin: Origin) -> BytesMut {
        self.finish_as(origin, None)
    }

    /// The same with packed records, unless there is one record only, or they do not pack well.
    pub fn finish_packed(&mut self, origin: Origin, packer: &mut Packer) -> BytesMut {
        self.finish_as(origin, Some(packer))
    }

    fn finish_as(&mut self, origin: Origin, packer: Option<&mut Packer>) -> BytesMut {
        let timestamps = std::mem::take(&mut self.timestamps);
        let (content, severity) = (
            std::mem::take(&mut self.content),
            std::mem::take(&mut self.severity),
        );
        let mut batch = self.bytes.split();
        let (Some(&first), Some(&lowest), Some(&highest)) = (
            timestamps.first(),
            timestamps.iter().min(),
            timestamps.iter().max(),
        ) else {
            return batch;
        };
        if lowest < first {
            batch = rebase(&batch, &timestamps, lowest);
        }
        let mut attributes = 0;
        if let Some(packer) = packer
            && timestamps.len() > 1
            && let Some(packed) = packer.pack(&batch[HEAD_BYTES..])
        {
            (batch, attributes) = (packed, packer.codec().number());
        }
        let mut head = BytesMut::with_capacity(HEAD_BYTES);
        head.put_u32(0);
        head.put_u32(as_u32(batch.len()));
        head.put_bytes(0, 32);
        head.put_u32(0);
        head.put_u8(LAYOUT);
        head.put_bytes(0, 3);
        head.put_u16(attributes);
        head.put_u8(severity);
        head.put_u8(0);
        head.put_u32(as_u32(timestamps.len()));
        head.put_u64(lowest);
        head.put_u64(highest);
        head.put_u32(as_u32(content));
        head.put_u32(origin.epoch);
        head.put_u64(origin.producer.0);
        head.put_u64(origin.sequence);
        batch[..HEAD_BYTES].copy_from_slice(&head);
        let crc = crc32c::crc32c(&batch[BROKER_HEAD_BYTES..]);
        batch[40..44].copy_from_slice(&crc.to_be_bytes());
        batch
    }
}

/// Writes another origin into a finished batch and signs it again; its records stay as they are.
pub fn sign_anew(batch: &mut [u8], origin: Origin) {
    let Some((head, _)) = batch.split_at_mut_checked(HEAD_BYTES) else {
        return;
    };
    head[76..80].copy_from_slice(&origin.epoch.to_be_bytes());
    head[80..88].copy_from_slice(&origin.producer.0.to_be_bytes());
    head[88..96].copy_from_slice(&origin.sequence.to_be_bytes());
    let crc = crc32c::crc32c(&batch[BROKER_HEAD_BYTES..]);
    batch[40..44].copy_from_slice(&crc.to_be_bytes());
}

/// Batches are bounded far below 4 GiB; a longer one is refused by its length field.
fn as_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn put_record(out: &mut BytesMut, offset_delta: u64, timestamp_delta: u64, record: &NewRecord<'_>) {
    let bytes_len = |len: usize| varint::len(len as u64) + len;
    let headers: usize = record
        .headers
        .iter()
        .map(|(name, value)| bytes_len(name.len()) + bytes_len(value.len()))
        .sum();
    let key_len = record
        .key
        .map_or(1, |key| varint::len(key.len() as u64 + 1) + key.len());
    let length = varint::len(offset_delta)
        + varint::len(timestamp_delta)
        + 1
        + key_len
        + varint::len(record.headers.len() as u64)
        + headers
        + bytes_len(record.value.len());
    out.reserve(length + varint::MAX_LEN);
    varint::put(out, length as u64);
    varint::put(out, offset_delta);
    varint::put(out, timestamp_delta);
    out.put_u8(record.severity);
    match record.key {
        None => varint::put(out, 0),
        Some(key) => {
            varint::put(out, key.len() as u64 + 1);
            out.put_slice(key);
        }
    }
    varint::put(out, record.headers.len() as u64);
    for (name, value) in record.headers {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value);
    }
    put_bytes(out, record.value);
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Writes the records again with deltas against `lowest`: only for batches whose first record is
/// not the oldest.
fn rebase(batch: &BytesMut, timestamps: &[u64], lowest: u64) -> BytesMut {
    let mut out = BytesMut::with_capacity(batch.len() + timestamps.len() * varint::MAX_LEN);
    out.put_bytes(0, HEAD_BYTES);
    for (record, timestamp) in Records::of(batch).flatten().zip(timestamps) {
        let headers: Vec<(String, Vec<u8>)> = record
            .headers
            .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.to_vec()))
            .collect();
        let again = NewRecord {
            timestamp: *timestamp,
            severity: record.severity,
            key: record.key,
            headers: &headers,
            value: record.value,
        };
        put_record(&mut out, record.offset_delta, timestamp - lowest, &again);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{BatchError, Head, check_produced};
    use super::*;
    use proptest::prelude::*;

    const LIMIT: u32 = 1 << 20;

    fn built(records: &[NewRecord<'_>]) -> BytesMut {
        let mut builder = BatchBuilder::default();
        for record in records {
            builder.push(record);
        }
        builder.finish(Origin {
            producer: ProducerId(7),
            epoch: 2,
            sequence: 40,
        })
    }

    fn sample() -> BytesMut {
        let headers = [("host".to_owned(), b"web-1".to_vec())];
        built(&[
            NewRecord {
                timestamp: 1_000,
                severity: 9,
                key: Some(b"k"),
                headers: &headers,
                value: b"one",
            },
            NewRecord {
                timestamp: 1_250,
                value: b"two",
                ..NewRecord::default()
            },
        ])
    }

    #[test]
    fn a_built_batch_passes_the_check_and_says_what_it_holds() {
        let batch = sample();
        let head = check_produced(&batch, LIMIT, LIMIT).unwrap();
        assert_eq!((head.count, head.content_bytes, head.severity), (2, 16, 9));
        assert_eq!(
            (head.lowest_timestamp, head.highest_timestamp),
            (1_000, 1_250)
        );
        assert_eq!(
            (head.producer, head.producer_epoch, head.sequence),
            (ProducerId(7), 2, 40)
        );
        let values: Vec<_> = Records::of(&batch)
            .map(|record| record.unwrap().value)
            .collect();
        assert_eq!(values, [b"one", b"two"]);
    }

    #[test]
    fn a_record_older_than_the_first_moves_the_lowest_timestamp() {
        let batch = built(&[
            NewRecord {
                timestamp: 500,
                value: b"late",
                ..NewRecord::default()
            },
            NewRecord {
                timestamp: 200,
                value: b"early",
                ..NewRecord::default()
            },
        ]);
        let head = check_produced(&batch, LIMIT, LIMIT).unwrap();
        assert_eq!((head.lowest_timestamp, head.highest_timestamp), (200, 500));
        let deltas: Vec<_> = Records::of(&batch)
            .map(|r| r.unwrap().timestamp_delta)
            .collect();
        assert_eq!(deltas, [300, 0]);
    }

    #[test]
    fn every_single_flipped_bit_is_noticed() {
        let batch = sample();
        // The broker's own fields are zero in what a producer sends, and not the producer's to say.
        for byte in (4..8).chain(40..batch.len()) {
            for bit in 0..8 {
                let mut flipped = batch.clone();
                flipped[byte] ^= 1 << bit;
                assert!(
                    check_produced(&flipped, LIMIT, LIMIT).is_err(),
                    "byte {byte} bit {bit}"
                );
            }
        }
    }

    #[test]
    fn limits_name_the_record_and_the_limit() {
        let batch = sample();
        assert_eq!(
            check_produced(&batch, LIMIT, 12).unwrap_err().to_string(),
            "record 0 of the batch has 13 bytes, the limit is 12"
        );
        assert_eq!(
            check_produced(&batch, 100, 12),
            Err(BatchError::TooLarge {
                length: batch.len(),
                limit: 100
            })
        );
    }

    /// Sets a field of the producer's part and signs it again: what a faulty client would send.
    fn forged(at: usize, bytes: &[u8]) -> Result<Head, BatchError> {
        let mut batch = sample();
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = crc32c::crc32c(&batch[BROKER_HEAD_BYTES..]);
        batch[40..44].copy_from_slice(&crc.to_be_bytes());
        check_produced(&batch, LIMIT, LIMIT)
    }

    #[test]
    fn a_head_that_contradicts_its_records_is_refused_even_when_signed() {
        for (at, bytes, expected) in [
            (
                50,
                &[10][..],
                "the severity is not the highest of the records",
            ),
            (52, &[0, 0, 0, 3], "the count is not the number of records"),
            (52, &[0, 0, 0, 0], "the batch has no records"),
            (56, &[0; 8], "the timestamps are not those of the records"),
            (
                72,
                &[0, 0, 0, 1],
                "the content bytes are not the sum of the records",
            ),
            (48, &[0, 1], "the records do not unpack"),
            (48, &[0, 2], "the records do not unpack"),
            (
                48,
                &[0, 3],
                "the batch is packed with a codec that this version does not know",
            ),
            (
                48,
                &[0, 0x40],
                "an attribute or a reserved byte is set that producers may not set",
            ),
            (96, &[0x7f], "a record's boundaries are broken"),
            (97, &[1], "offset deltas do not count up from 0"),
            (99, &[25], "a severity is above 24"),
        ] {
            assert_eq!(
                forged(at, bytes).unwrap_err().to_string(),
                expected,
                "byte {at}"
            );
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_pass_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(check_produced(&bytes, LIMIT, LIMIT).is_err());
        }

        #[test]
        fn records_of_random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            bytes.splice(0..0, [0; HEAD_BYTES]);
            for record in Records::of(&bytes).flatten() {
                prop_assert!(record.content_len() <= bytes.len());
                for (name, value) in record.headers {
                    prop_assert!(name.len() + value.len() <= bytes.len());
                }
            }
        }
    }
}

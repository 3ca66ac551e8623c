//! Rebuilt batches: some records of a stored batch, for a reader that wants few of them.
//!
//! ```text
//! stored   head | 0 | 1 | 2 | 3 | 4 |        count 5
//! rebuilt  head |     1     |     4 |        count 2, the attribute, CRCs of its own
//! ```
//!
//! Records are copied as they stand, so offsets and timestamps count from the same base.

use bytes::{BufMut, BytesMut};

use super::{
    ATTRIBUTE_CODEC, ATTRIBUTE_REBUILT, BROKER_HEAD_BYTES, HEAD_BYTES, Head, Place, Records, place,
};

/// A batch of those records of a stored batch, which was checked and [unpacked](super::unpacked),
/// whose offset delta is `wanted`.
///
/// Its head says what the stored one says, but for length, count, content bytes and checksums.
/// `None` if none is wanted, or where the batch is broken.
pub fn rebuild(batch: &[u8], wanted: impl Fn(u64) -> bool) -> Option<BytesMut> {
    let head = Head::parse(batch)?;
    let mut out = BytesMut::new();
    out.put_slice(&batch[..HEAD_BYTES]);
    let (mut count, mut content): (u32, u32) = (0, 0);
    let mut records = Records::of(batch);
    loop {
        let before = records.remaining();
        let Some(record) = records.next() else { break };
        let record = record?;
        if wanted(record.offset_delta) {
            let end = batch.len() - records.remaining();
            out.put_slice(&batch[batch.len() - before..end]);
            count += 1;
            content += u32::try_from(record.content_len()).ok()?;
        }
    }
    if count == 0 {
        return None;
    }
    let length = u32::try_from(out.len()).ok()?;
    let attributes = head.attributes & !ATTRIBUTE_CODEC | ATTRIBUTE_REBUILT;
    out[4..8].copy_from_slice(&length.to_be_bytes());
    out[48..50].copy_from_slice(&attributes.to_be_bytes());
    out[52..56].copy_from_slice(&count.to_be_bytes());
    out[72..76].copy_from_slice(&content.to_be_bytes());
    let crc = crc32c::crc32c(&out[BROKER_HEAD_BYTES..]);
    out[40..44].copy_from_slice(&crc.to_be_bytes());
    place(
        &mut out,
        Place {
            topic: head.topic,
            base_offset: head.base_offset,
            append_time: head.append_time,
            leader_epoch: head.leader_epoch,
        },
    );
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, NewRecord, Origin, check_delivered};
    use super::*;
    use crate::ids::TopicId;

    const TOPIC: TopicId = TopicId(3);

    /// A stored batch of five records from offset 10, timestamps 100, 101 and so on.
    fn stored() -> BytesMut {
        let mut builder = BatchBuilder::default();
        for (value, timestamp) in ["a", "bb", "ccc", "dddd", "eeeee"].into_iter().zip(100..) {
            builder.push(&NewRecord {
                timestamp,
                severity: 9,
                key: Some(b"k"),
                value: value.as_bytes(),
                ..NewRecord::default()
            });
        }
        let mut batch = builder.finish(Origin::default());
        let at = Place {
            topic: TOPIC,
            base_offset: 10,
            append_time: 7,
            leader_epoch: 0,
        };
        place(&mut batch, at);
        batch
    }

    fn check(wanted: &[u64], expected: &str) {
        let Some(batch) = rebuild(&stored(), |delta| wanted.contains(&delta)) else {
            assert_eq!("nothing", expected);
            return;
        };
        let (head, end) = check_delivered(&batch, TOPIC).unwrap();
        let mut words = vec![format!("{} of {} bytes", head.count, head.content_bytes)];
        for record in Records::of(&batch) {
            let record = record.unwrap();
            words.push(format!(
                "{}@{}:{}",
                head.base_offset + record.offset_delta,
                head.lowest_timestamp + record.timestamp_delta,
                String::from_utf8_lossy(record.value)
            ));
        }
        words.push(format!("end {end}"));
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn records_that_are_kept_keep_their_offsets_and_times() {
        check(&[1, 3], "2 of 8 bytes 11@101:bb 13@103:dddd end 14");
        check(&[0], "1 of 2 bytes 10@100:a end 11");
        check(&[4], "1 of 6 bytes 14@104:eeeee end 15");
        check(&[], "nothing");
    }
}

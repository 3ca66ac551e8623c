//! How much content a part of a batch has: what cursors and sizes are summed up from.
//!
//! Pure. It opens packed batches, and keeps the sums of the last one, because whoever takes a batch
//! in many parts asks about it as often. Its neighbour: [`Log`](super::log::Log) owns it.

use logdrive_protocol::batch::{self, Head};

/// Records of a batch whose sums are kept, at most: 256 KiB while a topic is taken in parts.
const MOST_SUMS: u32 = 1 << 16;

/// The sums of the packed batch of which a part was asked for last.
#[derive(Debug, Default)]
pub(super) struct Contents {
    last: Option<Sums>,
}

/// Content of the records of a packed batch, summed up.
#[derive(Debug)]
struct Sums {
    base_offset: u64,
    crc: u32,
    /// Key, headers and values of all records before each, in bytes; one more than records.
    before: Vec<u32>,
}

impl Sums {
    /// Unpacks the batch.
    fn of(batch: &[u8], head: &Head) -> Option<Self> {
        let opened = batch::open(batch).ok()?;
        let mut sum = 0;
        let mut before = vec![0];
        for record in opened.records() {
            sum += u32::try_from(record?.content_len()).ok()?;
            before.push(sum);
        }
        Some(Self {
            base_offset: head.base_offset,
            crc: head.producer_crc,
            before,
        })
    }

    fn is_of(&self, head: &Head) -> bool {
        (self.base_offset, self.crc) == (head.base_offset, head.producer_crc)
    }

    /// Of the records `from..to`, as far as the batch has them.
    fn between(&self, from: u64, to: u64) -> u64 {
        let before = |offset: u64| {
            let index = usize::try_from(offset.saturating_sub(self.base_offset));
            let sum = index.ok().and_then(|index| self.before.get(index));
            u64::from(*sum.or(self.before.last()).unwrap_or(&0))
        };
        before(to).saturating_sub(before(from))
    }
}

impl Contents {
    /// As [`between`]; a packed batch that is taken part by part is unpacked once.
    pub(super) fn between(&mut self, batch: &[u8], head: &Head, from: u64, to: u64) -> u64 {
        let whole = from <= head.base_offset && to >= head.end_offset();
        if whole || !head.is_packed() || head.count > MOST_SUMS {
            return between(batch, head, from, to);
        }
        let kept = self.last.take().filter(|sums| sums.is_of(head));
        let Some(sums) = kept.or_else(|| Sums::of(batch, head)) else {
            return 0;
        };
        let content = sums.between(from, to);
        // Behind its end nobody comes back for it.
        self.last = (to < head.end_offset()).then_some(sums);
        content
    }
}

/// Key, headers and values of the records `from..to` of a batch, in bytes. A packed batch is
/// unpacked for a part of it alone.
pub(super) fn between(batch: &[u8], head: &Head, from: u64, to: u64) -> u64 {
    if from <= head.base_offset && to >= head.end_offset() {
        return u64::from(head.content_bytes);
    }
    if from >= to || from >= head.end_offset() || to <= head.base_offset {
        return 0;
    }
    let wanted = |delta: u64| (from..to).contains(&(head.base_offset + delta));
    // It was checked when it was taken, and is checked again on every read.
    let Ok(opened) = batch::open(batch) else {
        return 0;
    };
    opened
        .records()
        .flatten()
        .filter(|record| wanted(record.offset_delta))
        .map(|record| record.content_len() as u64)
        .sum()
}

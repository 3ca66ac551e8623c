//! Parts of a log that are given to readers: whole batches, and which of their records are meant.

use bytes::Bytes;
use logdrive_protocol::batch::Head;
use logdrive_protocol::varint;

/// Whole batches and which of their records are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// The first record that is meant.
    pub from: u64,
    /// After the last record that is meant.
    pub to: u64,
    /// The batches that hold them.
    pub batches: Vec<Bytes>,
}

impl Slice {
    /// Nothing, at an offset.
    pub fn at(offset: u64) -> Self {
        Self {
            from: offset,
            to: offset,
            ..Self::default()
        }
    }

    /// Bytes of the batches.
    pub fn stored_bytes(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }

    /// Takes batches from the front of `batches` that hold `from..end`, as the limits allow: at
    /// most `max_records` records (0 = no limit), at most `max_bytes` with the batches' length
    /// fields, which many small ones have many of, but always one batch. A packed batch counts what
    /// it unpacks to: whoever asked has to hold that.
    pub fn of(
        from: u64,
        end: u64,
        max_records: u32,
        max_bytes: usize,
        batches: impl Iterator<Item = Bytes>,
    ) -> Self {
        let last = match max_records {
            0 => end,
            count => end.min(from.saturating_add(u64::from(count))),
        };
        let mut slice = Self {
            from,
            to: from,
            ..Self::default()
        };
        let mut len = 0;
        for bytes in batches {
            let Some(head) = Head::parse(&bytes) else {
                break;
            };
            len += varint::len(bytes.len() as u64) + head.counted_len();
            let fits = slice.batches.is_empty() || len <= max_bytes;
            if slice.to >= last || !fits {
                break;
            }
            let to = head.end_offset().min(last);
            slice.to = to;
            slice.batches.push(bytes);
        }
        slice
    }
}

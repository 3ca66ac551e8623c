//! Walking the records of a batch that is not packed, without copying.
//!
//! ```text
//! record   := varint length, then so many bytes:
//!             varint offset delta, varint timestamp delta, byte severity,
//!             key, varint header count, header..., varint value length, value
//! key      := 00, or varint (length + 1) and the key
//! header   := varint name length, name, varint value length, value
//! ```
//!
//! Bytes after the value are skipped, so that records can grow.

use crate::varint;

/// One record of a batch, borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its offset less the batch's base offset.
    pub offset_delta: u64,
    /// Its timestamp less the batch's lowest, in microseconds.
    pub timestamp_delta: u64,
    /// OpenTelemetry's `SeverityNumber`; 0 = not given, 1 to 24.
    pub severity: u8,
    /// What records that belong together share.
    pub key: Option<&'a [u8]>,
    /// Names and values.
    pub headers: Headers<'a>,
    /// The record itself.
    pub value: &'a [u8],
}

impl RecordView<'_> {
    /// Bytes of key, headers and value: what sizes count.
    pub fn content_len(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.headers.content + self.value.len()
    }
}

/// The headers of a record, in the order in which the producer gave them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    count: u64,
    content: usize,
}

impl Headers<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        usize::try_from(self.count).unwrap_or(usize::MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.count == 0 {
            return None;
        }
        let name = take_bytes(&mut self.bytes)?;
        let value = take_bytes(&mut self.bytes)?;
        self.count -= 1;
        self.content -= name.len() + value.len();
        Some((name, value))
    }
}

/// Iterates over the records section of a batch; yields `None` as an item where it is broken.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// The records of `batch`, which includes its head and is not packed: of any other batch
    /// [`open`](super::open()) gives them.
    pub fn of(batch: &'a [u8]) -> Self {
        Self::in_section(batch.get(super::HEAD_BYTES..).unwrap_or_default())
    }

    /// The records of a section that stands behind no head, or was unpacked.
    pub(super) fn in_section(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// The last records of `batch`, which take so many bytes: see [`Records::remaining`].
    pub fn last_of(batch: &'a [u8], remaining: usize) -> Self {
        let from = batch.len().saturating_sub(remaining);
        Self {
            rest: &batch[from..],
        }
    }

    /// Bytes of the records that are still to come.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Records<'a> {
    /// A record, or `None` once where the bytes are none; nothing follows that.
    type Item = Option<RecordView<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = take_bytes(&mut self.rest).and_then(parse);
        if record.is_none() {
            self.rest = &[];
        }
        Some(record)
    }
}

#[inline]
fn take_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(varint::take(input)?).ok()?;
    let (taken, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(taken)
}

#[inline]
fn parse(mut record: &[u8]) -> Option<RecordView<'_>> {
    let input = &mut record;
    let offset_delta = varint::take(input)?;
    let timestamp_delta = varint::take(input)?;
    let (&severity, rest) = input.split_first()?;
    *input = rest;
    let key = match varint::take(input)? {
        0 => None,
        len => {
            let (key, rest) = input.split_at_checked(usize::try_from(len - 1).ok()?)?;
            *input = rest;
            Some(key)
        }
    };
    let count = varint::take(input)?;
    let bytes = *input;
    let mut content = 0;
    for _ in 0..count {
        content += take_bytes(input)?.len() + take_bytes(input)?.len();
    }
    let headers = Headers {
        bytes: &bytes[..bytes.len() - input.len()],
        count,
        content,
    };
    let value = take_bytes(input)?;
    Some(RecordView {
        offset_delta,
        timestamp_delta,
        severity,
        key,
        headers,
        value,
    })
}

//! Every chunk of one segment, read as a reader would and compared with its neighbours.
//!
//! Owns what is known of a segment when all of it was read. It never knows what is needed of it. Its
//! neighbours: [`scan`](super::super::scan) lends its checks, [`verify`](super) compares the outcome
//! with what the extents say.

use std::collections::BTreeMap;

use logdrive_protocol::TopicId;
use logdrive_protocol::batch::{Head, check_stored, next_digest};
use redb::ReadableTable;

use crate::storage::job::Totals;
use crate::storage::layout::{self, Extent, RowHead};
use crate::storage::scan::{self, Chunks, LoadError, chunk_end};
use crate::storage::segment::{Segment, SegmentError, guarded};

/// A place of a topic and what is wrong there.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) topic: TopicId,
    pub(super) from: u64,
    /// Exclusive; where it is not known, only the beginning is wrong for certain.
    pub(super) to: Option<u64>,
    pub(super) what: String,
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) batches: u64,
    /// Ranges of intact records of each topic, in order; neighbours that abut are one.
    pub(super) intact: BTreeMap<TopicId, Vec<(u64, u64)>>,
    pub(super) faults: Vec<Fault>,
    /// The sums and the digest where a topic was said to end.
    pub(super) ends: BTreeMap<TopicId, (Totals, u64)>,
}

impl Seen {
    fn intact(&mut self, topic: TopicId, from: u64, to: u64) {
        let ranges = self.intact.entry(topic).or_default();
        match ranges.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => ranges.push((from, to)),
        }
    }

    fn fault(&mut self, topic: TopicId, (from, to): (u64, Option<u64>), what: impl Into<String>) {
        let what = what.into();
        self.faults.push(Fault {
            topic,
            from,
            to,
            what,
        });
    }
}

/// What the next chunk must go on from.
#[derive(Clone, Copy, Debug)]
struct Tip {
    topic: TopicId,
    end: u64,
    totals: Totals,
    digest: u64,
    last_time: u64,
}

/// What the state says of what a segment holds.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// By where they begin.
    pub(super) extents: BTreeMap<(TopicId, u64), Extent>,
    /// Where topics end that do so here.
    pub(super) ends: BTreeMap<TopicId, u64>,
}

/// Reads all of a segment; an error when that did not come to its end.
pub(super) fn walk(
    segment: &Segment,
    expected: &Expected,
    seen: &mut Seen,
) -> Result<(), SegmentError> {
    guarded(|| {
        let txn = segment.begin_read()?;
        let chunks = Chunks::open(&txn)?;
        let mut tip = None;
        for row in chunks.index.iter()? {
            let (key, value) = row?;
            let (key, value) = (key.value(), value.value());
            let topic = layout::topic_of(key);
            let first = layout::first_offset(key);
            tip = match RowHead::decode(key, value) {
                Ok(head) => chunk(&chunks, topic, (first, head), tip, seen)?,
                Err(damage) => {
                    seen.fault(topic, (first, None), damage.0);
                    None
                }
            };
            let Some(tip) = tip else { continue };
            if expected.ends.get(&topic) == Some(&tip.end) {
                seen.ends.insert(topic, (tip.totals, tip.digest));
            }
            if let (Some(extent), Ok(head)) = (
                expected.extents.get(&(topic, first)),
                RowHead::decode(key, value),
            ) && (extent.before, extent.first_time) != (head.before, head.first_time)
            {
                let what = "the sums or the time of a chunk are not those of its extent";
                seen.fault(topic, (first, Some(tip.end)), what);
            }
        }
        Ok(())
    })
}

/// Reads a chunk; where it ends, if all of it is intact.
fn chunk(
    chunks: &Chunks,
    topic: TopicId,
    (first, head): scan::IndexRow,
    before: Option<Tip>,
    seen: &mut Seen,
) -> Result<Option<Tip>, SegmentError> {
    let end = chunk_end(first, &head);
    let loaded = match scan::load(chunks, (first, head)) {
        Ok(loaded) => loaded,
        Err(LoadError::Damage(what)) => {
            seen.fault(topic, (first, Some(end)), what);
            return Ok(None);
        }
        Err(LoadError::Segment(error)) => return Err(error),
    };
    let before = before.filter(|tip| tip.topic == topic && tip.end == first);
    let mut sums = Sums {
        totals: head.before,
        digest: before.map(|tip| tip.digest),
        times: None,
    };
    let whole = batches(loaded.batches(), topic, (first, end), &mut sums, seen);
    if !whole {
        return Ok(None);
    }
    let times = sums.times.unwrap_or_default();
    let said = (head.first_time, head.last_time);
    let what = if times != said || before.is_some_and(|tip| tip.last_time > head.first_time) {
        "the times of a chunk are not those of its batches"
    } else if before.is_some_and(|tip| tip.totals != head.before) {
        "the sums of a chunk do not go on from those of the one before it"
    } else if sums.digest.is_some_and(|digest| digest != head.digest) {
        "the running digest of a chunk is not that of its batches"
    } else {
        return Ok(Some(Tip {
            topic,
            end,
            totals: sums.totals,
            digest: head.digest,
            last_time: head.last_time,
        }));
    };
    seen.fault(topic, (first, Some(end)), what);
    Ok(None)
}

/// What the batches of a chunk add up to.
#[derive(Debug)]
struct Sums {
    totals: Totals,
    /// `None` where it is not known before the chunk.
    digest: Option<u64>,
    /// Of the first batch and of the last one.
    times: Option<(u64, u64)>,
}

impl Sums {
    fn add(&mut self, head: &Head) {
        self.totals.records += u64::from(head.count);
        self.totals.bytes += u64::from(head.content_bytes);
        self.digest = self.digest.map(|digest| next_digest(digest, head));
        let first = self.times.map_or(head.append_time, |(first, _)| first);
        self.times = Some((first, head.append_time));
    }
}

/// Reads the batches of a chunk; whether all of them are intact, and nothing else is there.
fn batches(
    bytes: &[u8],
    topic: TopicId,
    (first, end): (u64, u64),
    sums: &mut Sums,
    seen: &mut Seen,
) -> bool {
    let (mut at, mut offset, mut whole) = (0, first, true);
    while offset < end {
        let head = match scan::batch_at(bytes, at, topic, offset) {
            Ok(head) => head,
            Err(what) => {
                seen.fault(topic, (offset, Some(end)), what);
                return false;
            }
        };
        let range = at..at + head.length as usize;
        let next = head.end_offset().min(end);
        match check_stored(&bytes[range.clone()], topic) {
            Ok(_) => {
                seen.batches += 1;
                seen.intact(topic, offset, next);
                sums.add(&head);
            }
            Err(error) => {
                whole = false;
                seen.fault(topic, (offset, Some(next)), error.to_string());
            }
        }
        (at, offset) = (range.end, next);
    }
    if whole && at != bytes.len() {
        seen.fault(
            topic,
            (first, Some(end)),
            "a chunk holds more than its batches",
        );
        return false;
    }
    whole
}

//! Batches that are durable in the journal and in no segment yet, for whoever reads.
//!
//! Owns what is published of them: it changes before they are announced and after they are saved,
//! so that a reader who looks here first and at the segments then misses nothing. It is bounded by
//! the journal. Its neighbours: the [writer](super::writer) publishes, the
//! [reader](super::reader) looks.

use std::collections::BTreeMap;
use std::sync::Arc;

use logdrive_protocol::TopicId;
use logdrive_protocol::batch::Head;
use tokio::sync::watch;

use super::flush::Flush;
use super::job::{Appended, Totals};
use super::reader::{At, Point, ReadBatches};
use super::scan::{self, ScanError};

/// The batches of all topics; a clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Unsaved(watch::Sender<BTreeMap<TopicId, Arc<Vec<Appended>>>>);

impl Unsaved {
    /// A flush that is about to be announced is in the journal.
    pub(super) fn publish(&self, flush: &Flush) {
        self.0.send_modify(|topics| {
            for (topic, share) in &flush.topics {
                if !share.batches.is_empty() {
                    let batches = Arc::make_mut(topics.entry(*topic).or_default());
                    batches.extend_from_slice(&share.batches);
                }
            }
        });
    }

    /// Everything is in a segment.
    pub(super) fn clear(&self) {
        self.0.send_if_modified(|topics| {
            topics.clear();
            false
        });
    }

    /// What is there of a topic now.
    pub(super) fn of(&self, topic: TopicId) -> Batches {
        let batches = self.0.borrow().get(&topic).cloned().unwrap_or_default();
        Batches { topic, batches }
    }
}

/// One topic's batches, abutting each other and what its segments hold.
#[derive(Debug)]
pub(super) struct Batches {
    topic: TopicId,
    batches: Arc<Vec<Appended>>,
}

impl Batches {
    /// Where the segments' part of a range that ends at `end` ends.
    pub(super) fn first_or(&self, end: u64) -> u64 {
        let first = self.heads().next().map(|(_, head)| head.base_offset);
        first.map_or(end, |first| first.min(end))
    }

    /// Appends whole batches from the one that holds `from`; the first one whatever its length.
    pub(super) fn collect(&self, from: u64, end: u64, out: &mut ReadBatches) {
        for (batch, head) in self.heads() {
            if head.end_offset() <= from {
                continue;
            }
            if head.base_offset >= end || !out.takes(head.counted_len()) {
                break;
            }
            out.push(batch.bytes.clone(), head.counted_len());
        }
    }

    /// Where a place lies among them, before `end`; `None` if there are none.
    pub(super) fn locate(&self, at: At, end: u64) -> Result<Option<Point>, ScanError> {
        let mut beyond = None;
        for (batch, head) in self.heads().filter(|(_, head)| head.base_offset < end) {
            let skip = match at {
                At::Offset(offset) if head.end_offset() > offset => {
                    offset.saturating_sub(head.base_offset)
                }
                At::Time(time) if head.append_time >= time => 0,
                _ => {
                    let totals = Totals {
                        records: batch.totals.records + u64::from(head.count),
                        bytes: batch.totals.bytes + u64::from(head.content_bytes),
                    };
                    beyond = Some(Point::at_end(end, totals));
                    continue;
                }
            };
            let skipped = scan::content_before(&batch.bytes, &head, self.topic, skip)?;
            return Ok(Some(Point {
                offset: head.base_offset + skip,
                totals: Totals {
                    records: batch.totals.records + skip,
                    bytes: batch.totals.bytes + skipped,
                },
                append_time: Some(head.append_time),
            }));
        }
        Ok(beyond)
    }

    fn heads(&self) -> impl Iterator<Item = (&Appended, Head)> {
        let batches = self.batches.iter();
        batches.filter_map(|batch| Some((batch, Head::parse(&batch.bytes)?)))
    }
}

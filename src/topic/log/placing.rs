//! Where the next batch goes: its place is known before anything is changed by it.

use bytes::BytesMut;
use logdrive_protocol::TopicId;
use logdrive_protocol::batch::{self, Head, Place};

use super::{Kept, Log, Mark};
use crate::storage::{Appended, Totals};

/// The end of a log: what the next batch goes on from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tip {
    pub(super) end: Mark,
    pub(super) last_append_time: u64,
    pub(super) digest: u64,
}

impl Tip {
    /// The end of a log that was stored.
    pub fn new(end: Mark, last_append_time: u64, digest: u64) -> Self {
        Self {
            end,
            last_append_time,
            digest,
        }
    }

    /// The end of what is staged.
    pub fn of(log: &Log) -> Self {
        Self::new(log.end, log.last_append_time, log.digest)
    }

    /// Where the next batch goes.
    pub fn end(&self) -> Mark {
        self.end
    }

    /// Append time of the last batch, in microseconds; 0 if there was none.
    pub fn last_append_time(&self) -> u64 {
        self.last_append_time
    }

    /// Running digest.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The place that a checked batch gets behind it.
    pub fn place(&self, topic: TopicId, mut batch: BytesMut, head: &Head, now: u64) -> Placed {
        let append_time = now.max(self.last_append_time);
        let (base_offset, before) = (self.end.offset, self.end.totals);
        batch::place(
            &mut batch,
            Place {
                topic,
                base_offset,
                append_time,
                leader_epoch: 0,
            },
        );
        let head = Head {
            topic,
            base_offset,
            append_time,
            ..*head
        };
        let end = Mark {
            offset: head.end_offset(),
            totals: Totals {
                records: before.records + u64::from(head.count),
                bytes: before.bytes + u64::from(head.content_bytes),
            },
        };
        let tip = Tip {
            end,
            last_append_time: append_time,
            digest: batch::next_digest(self.digest, &head),
        };
        let bytes = batch.freeze();
        let kept = Kept {
            head,
            bytes,
            before,
        };
        Placed { kept, tip }
    }
}

/// A batch with its place, not yet taken.
#[derive(Clone, Debug)]
pub struct Placed {
    pub(super) kept: Kept,
    pub(super) tip: Tip,
}

impl Placed {
    /// Its head, the broker's part filled in.
    pub fn head(&self) -> &Head {
        &self.kept.head
    }

    /// The log's end behind it.
    pub fn tip(&self) -> Tip {
        self.tip
    }

    /// What the storage is given.
    pub fn appended(&self) -> Appended {
        Appended {
            bytes: self.kept.bytes.clone(),
            totals: self.kept.before,
            digest: self.tip.digest,
        }
    }
}

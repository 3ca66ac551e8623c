//! What topics hand to the storage, and what they hear back.
//!
//! Owns the words of that conversation and nothing else. Its neighbours: topics fill in a [`Job`];
//! the [writer](super::writer) puts it on disk and answers with a [`Notice`].

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use logdrive_protocol::TopicId;

/// One change of one topic: atomic, together with all others of its flush.
#[derive(Debug)]
pub struct Job {
    /// Whose records and rows these are.
    pub topic: TopicId,
    /// The storage's generation that the topic believes in; a job of an older one is dropped.
    pub generation: u64,
    /// The topic's running number of this change; [`Notice::Committed`] names the highest.
    pub ticket: u64,
    /// Whole batches in offset order, abutting each other and what was submitted before.
    pub batches: Vec<Appended>,
    /// State to set or delete; within a flush the last word on a key counts.
    pub rows: Vec<Row>,
    /// Where notices about this job go.
    pub announce: Announce,
    /// Whether the topic lives on.
    pub kind: JobKind,
}

/// What a [`Job`] does besides its batches and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// Nothing more.
    Change,
    /// Removes everything of the topic first, records included; the job's own rows come after.
    Delete,
    /// Removes what is stored before an offset, once the job's own batches are stored.
    ///
    /// What a segment, or a chunk of the active one, holds of both sides stays as a whole: who
    /// trims must not read there any more.
    Trim {
        /// The first offset that is kept; at most `end`.
        before: u64,
        /// Where the topic ends with this job.
        end: u64,
    },
}

/// A batch with its place in the topic.
#[derive(Clone, Debug)]
pub struct Appended {
    /// The complete batch, the broker's part of its head filled in.
    pub bytes: Bytes,
    /// Records and bytes of the topic *before* this batch.
    pub totals: Totals,
    /// Running digest of the topic after this batch.
    pub digest: u64,
}

/// A topic's cumulative sums up to some offset; never lowered by a trim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Totals {
    /// Records.
    pub records: u64,
    /// Uncompressed bytes of their keys, headers and values.
    pub bytes: u64,
}

/// A piece of state: `[topic u64 BE][kind u8][rest]`, kinds below 0xF0.
///
/// Topic 0 is the broker's own. A job may write rows of other topics than its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The complete key, topic first.
    pub key: Vec<u8>,
    /// The new value; `None` deletes the row.
    pub value: Option<Vec<u8>>,
}

/// What the storage says to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// All changes of the topic up to this ticket are durable; at most one per topic and flush.
    Committed {
        /// The storage's generation.
        generation: u64,
        /// The highest ticket that the flush held for the topic.
        ticket: u64,
    },
    /// A flush failed: what is staged and not yet committed may or may not be on disk.
    ///
    /// Jobs of older generations are dropped from here on, and [`Notice::Reloaded`] will follow.
    Failed {
        /// The generation that begins.
        generation: u64,
    },
    /// The storage can write again, and this is what it found.
    Reloaded {
        /// The generation in which jobs are accepted.
        generation: u64,
        /// All rows of the topic in key order; `None`: the topic does not live. Topic 0 always
        /// does.
        rows: Option<super::TopicRows>,
    },
}

/// Where notices for one topic go; a cheap clone.
///
/// It is called on the storage thread: it must not block, and should only pass the notice on.
#[derive(Clone)]
pub struct Announce(Arc<dyn Fn(Notice) + Send + Sync>);

impl Announce {
    /// Notices go to `deliver`.
    pub fn new(deliver: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        Self(Arc::new(deliver))
    }

    pub(super) fn send(&self, notice: Notice) {
        (self.0)(notice);
    }
}

impl fmt::Debug for Announce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Announce")
    }
}

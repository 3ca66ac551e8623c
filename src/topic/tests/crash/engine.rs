//! What writes below the topics: the writer in this thread, or the storage with its own two.
//!
//! Inline everything happens in one order, so that a seed gives the same course again. With threads
//! the keeper closes, merges and removes segments while the writer goes on, as in a broker. Its
//! neighbour: the [`store`](super::store) hands it flushes.

use std::sync::Arc;

use logdrive_protocol::TopicId;

use crate::storage::disk::SimDisk;
use crate::storage::{Announce, Condition, Job, Options, Reader, Recovered, Storage, Writer};

/// The storage, one way or the other.
#[derive(Debug)]
pub(super) enum Engine {
    Inline(Box<Writer>),
    Threads(Storage),
}

impl Engine {
    pub(super) fn inline(disk: &SimDisk, options: &Options) -> Result<(Self, Recovered), String> {
        let opened = Writer::open(Arc::new(disk.clone()), options.clone());
        let (writer, recovered) = opened.map_err(|error| format!("refused: {error}"))?;
        Ok((Self::Inline(Box::new(writer)), recovered))
    }

    pub(super) fn threads(disk: &SimDisk, options: &Options) -> Result<(Self, Recovered), String> {
        let opened = Storage::open(Arc::new(disk.clone()), options.clone());
        let (storage, recovered) = opened.map_err(|error| format!("refused: {error}"))?;
        Ok((Self::Threads(storage), recovered))
    }

    pub(super) fn has_threads(&self) -> bool {
        matches!(self, Self::Threads(_))
    }

    pub(super) fn attach(&mut self, topic: TopicId, announce: Announce) {
        match self {
            Self::Inline(writer) => writer.attach(topic, announce),
            Self::Threads(storage) => storage.attach(topic, announce),
        }
    }

    /// Writes one flush; with threads it is written when this returns, or later.
    pub(super) fn commit(&mut self, jobs: Vec<Job>) {
        match self {
            Self::Inline(writer) => writer.commit(jobs),
            Self::Threads(storage) if !jobs.is_empty() => storage.submit_together(jobs),
            Self::Threads(_) => {}
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        match self {
            Self::Inline(writer) => writer.has_failed(),
            Self::Threads(storage) => storage.health().condition() == Condition::Failed,
        }
    }

    /// Tries once to recover; the storage with threads does that by itself.
    pub(super) fn recover(&mut self) -> Result<(), String> {
        match self {
            Self::Inline(writer) => writer.recover().map_err(|error| error.to_string()),
            Self::Threads(_) => Err("a write failed that was not meant to".to_owned()),
        }
    }

    pub(super) fn reader(&self) -> Reader {
        match self {
            Self::Inline(writer) => writer.reader(),
            Self::Threads(storage) => storage.reader(),
        }
    }

    /// The active segment, where that can be known.
    pub(super) fn active(&self) -> Option<u64> {
        match self {
            Self::Inline(writer) => writer.syncs().map(|(number, _)| number),
            Self::Threads(_) => None,
        }
    }

    /// Says what is staged is durable before it is: a fault that must be found.
    pub(super) fn announce_early(&mut self) {
        if let Self::Inline(writer) = self {
            writer.announce_early();
        }
    }

    pub(super) fn close(self) {
        match self {
            Self::Inline(writer) => writer.close(),
            Self::Threads(storage) => storage.close(),
        }
    }
}

//! Who hears what became of changes.
//!
//! Owns the topics' addresses, and which of them has heard of which generation. It never knows why
//! something failed. Its neighbour: the [writer](super::writer).

use std::collections::BTreeMap;

use logdrive_protocol::TopicId;

use super::Rows;
use super::flush::Flush;
use super::job::{Announce, Notice};

/// The topics that are told of failures, whether they have jobs in flight or not.
#[derive(Debug, Default)]
pub(super) struct Audience {
    topics: BTreeMap<TopicId, Listener>,
}

#[derive(Debug)]
struct Listener {
    announce: Announce,
    /// The last generation that it heard of through `Failed`.
    told: u64,
}

impl Audience {
    pub(super) fn attach(&mut self, topic: TopicId, announce: Announce) {
        self.topics.insert(topic, Listener { announce, told: 0 });
    }

    /// Says `Failed` to a topic that has not heard of the generation; answers whether it did.
    pub(super) fn catch_up(
        &mut self,
        topic: TopicId,
        announce: &Announce,
        generation: u64,
    ) -> bool {
        let announce = announce.clone();
        let listener = self
            .topics
            .entry(topic)
            .or_insert(Listener { announce, told: 0 });
        let missed = listener.told < generation;
        if missed {
            listener.told = generation;
            listener.announce.send(Notice::Failed { generation });
        }
        missed
    }

    pub(super) fn committed(&mut self, flush: &Flush, generation: u64) {
        for (topic, share) in &flush.topics {
            share.announce.send(Notice::Committed {
                generation,
                ticket: share.ticket,
            });
            if share.deleted {
                self.topics.remove(topic);
            }
        }
    }

    /// Says `Failed` to all, and to whoever was in the flush.
    pub(super) fn failed(&mut self, flush: &Flush, generation: u64) {
        for (topic, share) in &flush.topics {
            let announce = share.announce.clone();
            self.topics
                .entry(*topic)
                .or_insert(Listener { announce, told: 0 });
        }
        for listener in self.topics.values_mut() {
            listener.told = generation;
            listener.announce.send(Notice::Failed { generation });
        }
    }

    /// Gives each topic its rows; those that do not live are forgotten.
    pub(super) fn reloaded(&mut self, mut rows: Rows, generation: u64) {
        self.topics.retain(|topic, listener| {
            let rows = rows
                .remove(topic)
                .or_else(|| topic.is_none().then(Vec::new));
            let lives = rows.is_some();
            listener
                .announce
                .send(Notice::Reloaded { generation, rows });
            lives
        });
    }

    /// Gives one topic its rows.
    pub(super) fn reloaded_one(
        &mut self,
        topic: TopicId,
        rows: Option<super::TopicRows>,
        generation: u64,
    ) {
        let lives = rows.is_some();
        if let Some(listener) = self.topics.get(&topic) {
            listener
                .announce
                .send(Notice::Reloaded { generation, rows });
        }
        if !lives {
            self.topics.remove(&topic);
        }
    }
}

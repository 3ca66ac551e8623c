//! What the broker says without changing anything: lists, places, counters and itself.

use std::time::Duration;

use futures_util::future::join_all;
use globset::Glob;
use logdrive_protocol::limits::{DEFAULT_LIST, MAX_GLOB_BYTES, MAX_LIST};
use logdrive_protocol::operations::{
    Answer, Counted, Counter, Greeted, ListTopics, Located, Metadata, Node, Pinged, Setting,
    TopicPlace, TopicSummary, TopicsListed,
};
use logdrive_protocol::{ErrorCode, Failure, TopicId};
use tokio::sync::oneshot;

use super::{Broker, Sight, is_visible, state_number};
use crate::limits::{self, MAX_TOPICS};
use crate::reply::Reply;
use crate::topic::Summarize;

impl Broker {
    pub(super) fn list(&self, list: &ListTopics, reply: Reply, sight: &Sight) {
        let glob = if list.glob.is_empty() {
            "*"
        } else {
            &list.glob
        };
        // Measured first: understanding a long one takes more stack than there is.
        let short = Some(glob).filter(|glob| glob.len() <= MAX_GLOB_BYTES);
        let matcher = match short.and_then(|glob| Glob::new(glob).ok()) {
            Some(glob) => glob.compile_matcher(),
            None => {
                return reply.fail(
                    Failure::new(
                        ErrorCode::Malformed,
                        "the glob is too long or not well formed",
                    )
                    .hint("* stands for any characters, ? for one, [ab] for one of these"),
                );
            }
        };
        let limit = match list.limit {
            0 => DEFAULT_LIST,
            limit => limit.min(MAX_LIST),
        };
        let after = (
            std::ops::Bound::Excluded(list.after.clone()),
            std::ops::Bound::Unbounded,
        );
        let mut matching = self
            .names
            .range(after)
            .filter(|(name, id)| self.is_born(**id) && matcher.is_match(name))
            .filter(|(name, _)| is_visible(name, sight))
            .filter_map(|(_, id)| self.topics.get(id));
        let asked: Vec<_> = matching
            .by_ref()
            .take(limit as usize)
            .map(|it| it.topic.send(Summarize))
            .collect();
        let more = matching.next().is_some();
        actix::spawn(async move {
            let topics = join_all(asked)
                .await
                .into_iter()
                .filter_map(|it| it.ok().flatten());
            reply.answer(Answer::ListTopics(TopicsListed {
                topics: topics.collect(),
                more,
            }));
        });
    }

    pub(super) fn summarize(&self, id: TopicId, sender: oneshot::Sender<Option<TopicSummary>>) {
        let asked = self.topics.get(&id).map(|it| it.topic.send(Summarize));
        actix::spawn(async move {
            let summary = match asked {
                Some(asked) => asked.await.ok().flatten(),
                None => None,
            };
            // Who has asked may be gone.
            let _ = sender.send(summary);
        });
    }

    pub(super) fn metadata(&self, metadata: Metadata, reply: Reply, sight: &Sight) {
        if metadata.topics.len() > MAX_LIST as usize {
            let message = format!("{} names are more than {MAX_LIST}", metadata.topics.len());
            return reply.fail(Failure::new(ErrorCode::LimitReached, message));
        }
        let place = |name: String| {
            let id = self
                .names
                .get(&name)
                .copied()
                .filter(|id| self.is_born(*id) && is_visible(&name, sight));
            TopicPlace {
                name,
                id: id.unwrap_or_default(),
                leader: self.about.node,
                leader_epoch: 0,
            }
        };
        reply.answer(Answer::Metadata(Located {
            nodes: vec![Node {
                id: self.about.node,
                address: self.about.address.clone(),
            }],
            topics: metadata.topics.into_iter().map(place).collect(),
        }));
    }

    pub(super) fn count(&self) -> Counted {
        let mut counters = self.counters.list();
        let mut add = |name: &str, value: usize| {
            counters.push(Counter {
                name: name.to_owned(),
                value: value as u64,
            });
        };
        add("topics", self.topics.len());
        add("registrations", self.registered.len());
        add("principals", self.principals.directory().len());
        add("tail_bytes", self.budget.tail_bytes());
        let health = self.storage.health();
        let of_storage = [
            ("flushes", health.flushes()),
            ("written_ahead_bytes", health.ahead_bytes()),
        ];
        counters.extend(of_storage.map(|(name, value)| Counter {
            name: name.to_owned(),
            value,
        }));
        Counted { counters }
    }

    pub(super) fn greet(&self) -> Greeted {
        let limit = |key: &str, value: u64| Setting {
            key: key.to_owned(),
            value: value.to_string(),
        };
        let millis = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let admission = &self.about.admission;
        Greeted {
            broker: "logdrive".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: self.about.cluster,
            node: self.about.node,
            started_at: self.about.started_at,
            limits: vec![
                limit("connections", admission.connections as u64),
                limit("connections_per_address", admission.of_address() as u64),
                limit("silent_connections", limits::MAX_SILENT as u64),
                limit("requests_in_flight", limits::MAX_REQUESTS.into()),
                limit("idle_ms", admission.idle_ms().into()),
                limit("handshake_ms", millis(limits::PREFACE_WAIT)),
                limit("frame_ms", millis(limits::FRAME_WAIT)),
                limit("line_ms", millis(limits::LINE_WAIT)),
                limit("unread_ms", millis(limits::WRITE_STALL)),
                limit("bytes_per_second", limits::SLOWEST_BYTES_PER_SECOND.into()),
                limit("topics", MAX_TOPICS as u64),
                limit("producers_per_topic", limits::MAX_PRODUCERS as u64),
                limit("consumers_per_topic", limits::MAX_CONSUMERS as u64),
                limit("workers_per_consumer", limits::MAX_WORKERS as u64),
                limit("waiting_per_topic", limits::MAX_WAITING as u64),
                limit("line_bytes", limits::MAX_LINE_BYTES as u64),
                limit("principals", limits::MAX_PRINCIPALS as u64),
            ],
        }
    }

    pub(super) fn ping(&mut self) -> Pinged {
        Pinged {
            state: state_number(self.storage.health().condition()),
            now: self.clock.now(),
            free_bytes: self.disk.free_space().unwrap_or_default(),
        }
    }
}

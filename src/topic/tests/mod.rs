//! Topics as actors, over a broker in this thread's system and a simulated disk.

mod crash;
mod delayed;
mod failing;
mod together;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr};
use logdrive_protocol::batch::{BatchBuilder, NewRecord, Origin};
use logdrive_protocol::operations::{Answer, CreateTopic, Fetch, Payload, Produce, Request};
use logdrive_protocol::{Failure, NodeId, Position, TopicId};

use super::{Call, Topic};
use crate::broker::{About, Ask, Broker, Ground, LocateAll};
use crate::clock::Clock;
use crate::limits::Admission;
use crate::pool::Pool;
use crate::reply::Reply;
use crate::storage::disk::SimDisk;
use crate::storage::{Options, Storage};

/// Small enough that a short test rotates.
pub(super) fn options() -> Options {
    Options {
        segment_bytes: 24 << 10,
        chunk_bytes: 3 << 10,
        // A flush takes no second message: what comes in one must not be split all the same.
        flush_bytes: 1,
        journal_bytes: 48 << 10,
        journal_flush_bytes: 1 << 10,
        active_cache_bytes: 256 << 10,
        sealed_cache_bytes: 64 << 10,
        carry_bytes: 8 << 10,
        low_space_bytes: 0,
        ballast_bytes: 0,
        ahead_segments: 0,
        retry_first: Duration::from_millis(1),
        retry_longest: Duration::from_millis(10),
        ..Options::default()
    }
}

/// A broker in this thread's system, over a simulated disk.
pub(super) struct World {
    pub(super) disk: SimDisk,
    pub(super) storage: Storage,
    pub(super) broker: Addr<Broker>,
}

impl World {
    pub(super) fn new(disk: SimDisk) -> Self {
        let shared: Arc<SimDisk> = Arc::new(disk.clone());
        let (storage, recovered) = Storage::open(shared.clone(), options()).unwrap();
        let about = About {
            address: String::new(),
            node: NodeId(1),
            cluster: [0; 16],
            started_at: 0,
            admission: Admission::default(),
        };
        let (budget, counters) = (Arc::default(), Arc::default());
        let ground = Ground {
            disk: shared,
            storage: storage.handle(),
            pool: Pool::default(),
            clock: Clock::default(),
            arbiters: Vec::new(),
        };
        let broker = Broker::new(about, ground, recovered, budget, counters);
        Self {
            disk,
            storage,
            broker: broker.start(),
        }
    }

    pub(super) async fn create(&self, name: &str) -> TopicId {
        let create = CreateTopic {
            name: name.to_owned(),
            ..CreateTopic::default()
        };
        let (reply, answered) = Reply::within();
        self.broker.do_send(Ask(create.into(), reply, None));
        match answered.await.unwrap() {
            Ok(Answer::CreateTopic(created)) => created.topic,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn address(&self, topic: TopicId) -> Addr<Topic> {
        let found = self.broker.send(LocateAll(vec![topic])).await.unwrap();
        found.into_iter().flatten().next().unwrap().topic
    }

    pub(super) async fn values(&self, topic: TopicId) -> Vec<String> {
        let fetch = Fetch {
            topic,
            from: Position::Earliest,
            max_bytes: 4 << 20,
            ..Fetch::default()
        };
        let address = self.address(topic).await;
        let Ok(Answer::Fetch(delivered)) = ask(&address, fetch).await.unwrap() else {
            panic!("not read");
        };
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let records = delivered.records();
        records.map(|it| text(it.record.value)).collect()
    }
}

pub(super) type Ending = tokio::sync::oneshot::Receiver<Result<Answer, Failure>>;

pub(super) fn ask(topic: &Addr<Topic>, request: impl Into<Request>) -> Ending {
    let (reply, answered) = Reply::within();
    topic.do_send(Call {
        request: request.into(),
        reply,
        fresh: 0,
    });
    answered
}

pub(super) fn batch(value: &str) -> Payload {
    let mut builder = BatchBuilder::default();
    builder.push(&NewRecord {
        value: value.as_bytes(),
        ..NewRecord::default()
    });
    Payload::Owned(builder.finish(Origin::default()))
}

pub(super) fn produce(topic: TopicId, value: &str) -> Produce {
    Produce {
        topic,
        batch: batch(value),
        ..Produce::default()
    }
}

/// An ending in one word.
pub(super) async fn said(ending: Ending) -> String {
    match ending.await.unwrap() {
        Ok(_) => "done".to_owned(),
        Err(failure) => failure.code.to_string(),
    }
}

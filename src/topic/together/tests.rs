//! Transactions over topics of a broker in this process: where the disk fails, where a topic on the
//! way does not answer, and for who has no connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter, System};
use logdrive_protocol::batch::{BatchBuilder, NewRecord, Origin};
use logdrive_protocol::operations::{CreateTopic, DeleteTopic, Fetch, Size};
use logdrive_protocol::{NodeId, Position};

use super::*;
use crate::broker::{About, Ask, Broker, LocateAll};
use crate::storage::disk::{Call as DiskCall, SimDisk};
use crate::storage::{Options, Storage};
use crate::topic::Surroundings;
use crate::topic::rows::TopicRow;
use crate::topic::state::State;

/// Small enough that a short test rotates.
fn options() -> Options {
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
struct World {
    disk: SimDisk,
    storage: Storage,
    broker: Addr<Broker>,
}

impl World {
    fn new(disk: SimDisk) -> Self {
        let shared: Arc<SimDisk> = Arc::new(disk.clone());
        let (storage, recovered) = Storage::open(shared.clone(), options()).unwrap();
        let about = About {
            address: String::new(),
            node: NodeId(1),
            cluster: [0; 16],
            started_at: 0,
        };
        let (budget, counters) = (Arc::default(), Arc::default());
        let handle = storage.handle();
        let broker = Broker::new(about, shared, handle, recovered, budget, counters, vec![]);
        Self {
            disk,
            storage,
            broker: broker.start(),
        }
    }

    async fn create(&self, name: &str) -> TopicId {
        let create = CreateTopic {
            name: name.to_owned(),
            ..CreateTopic::default()
        };
        let (reply, answered) = Reply::within();
        self.broker.do_send(Ask(create.into(), reply));
        match answered.await.unwrap() {
            Ok(Answer::CreateTopic(created)) => created.topic,
            other => panic!("{other:?}"),
        }
    }

    async fn address(&self, topic: TopicId) -> Addr<Topic> {
        let found = self.broker.send(LocateAll(vec![topic])).await.unwrap();
        found.into_iter().flatten().next().unwrap()
    }

    /// Hands a transaction over as the broker's own requests are.
    fn depart(&self, request: ProduceAll) -> Ending {
        let (reply, ending) = Reply::within();
        let recipient = self.broker.clone().recipient();
        recipient.do_send(crate::topic::Told::Depart(request, reply));
        ending
    }

    async fn values(&self, topic: TopicId) -> Vec<String> {
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

type Ending = tokio::sync::oneshot::Receiver<Result<Answer, Failure>>;

fn ask(topic: &Addr<Topic>, request: impl Into<Request>) -> Ending {
    let (reply, answered) = Reply::within();
    topic.do_send(Call {
        request: request.into(),
        reply,
        fresh: 0,
    });
    answered
}

fn batch(value: &str) -> Payload {
    let mut builder = BatchBuilder::default();
    builder.push(&NewRecord {
        value: value.as_bytes(),
        ..NewRecord::default()
    });
    Payload::Owned(builder.finish(Origin::default()))
}

fn together(topics: &[TopicId], value: &str) -> ProduceAll {
    let parts = topics.iter().map(|&topic| Part {
        topic,
        batch: batch(value),
    });
    ProduceAll {
        parts: parts.collect(),
        ..ProduceAll::default()
    }
}

fn produce(topic: TopicId, value: &str) -> Produce {
    Produce {
        topic,
        batch: batch(value),
        ..Produce::default()
    }
}

/// An ending in one word.
async fn said(ending: Ending) -> String {
    match ending.await.unwrap() {
        Ok(_) => "done".to_owned(),
        Err(failure) => failure.code.to_string(),
    }
}

/// Transactions while one call of the disk fails; how many of them were not done.
async fn check_failing(failing: u64) -> usize {
    let world = World::new(SimDisk::new(failing));
    let topics = [
        world.create("a").await,
        world.create("b").await,
        world.create("c").await,
    ];
    world.disk.fail_call(world.disk.calls() + failing);
    if failing.is_multiple_of(3) {
        world.disk.fail_next(DiskCall::Sync);
    }
    let mut answered = HashMap::new();
    for number in 0..8 {
        // Long enough for a transaction of the segment, every other time.
        let value = format!("{number} {}", "x".repeat(number % 2 * 2_000));
        let endings = [
            world.depart(together(&topics, &value)),
            world.depart(together(&topics[..2], &format!("{value}+"))),
        ];
        for (ending, value) in endings.into_iter().zip([value.clone(), value + "+"]) {
            answered.insert(value, said(ending).await);
        }
    }
    while said(world.depart(together(&topics, "last"))).await != "done" {}
    let (a, b, c) = (
        world.values(topics[0]).await,
        world.values(topics[1]).await,
        world.values(topics[2]).await,
    );
    assert_eq!(a, b, "failing call {failing}");
    let of_three: Vec<&String> = a.iter().filter(|value| !value.ends_with('+')).collect();
    assert_eq!(
        of_three,
        c.iter().collect::<Vec<_>>(),
        "failing call {failing}"
    );
    for (value, outcome) in &answered {
        let stored = a.iter().filter(|it| *it == value).count();
        match outcome.as_str() {
            "done" => assert_eq!(stored, 1, "failing call {failing}"),
            "OUTCOME_UNKNOWN" => assert!(stored <= 1, "failing call {failing}"),
            "STORAGE_FAILED" | "UNAVAILABLE" => assert_eq!(stored, 0, "failing call {failing}"),
            other => panic!("{other}"),
        }
    }
    world.storage.close();
    answered.values().filter(|it| *it != "done").count()
}

#[test]
fn a_disk_that_fails_leaves_a_transaction_whole_or_away() {
    System::new().block_on(async {
        let mut failed = 0;
        for failing in 1..60 {
            failed += check_failing(failing).await;
        }
        assert!(failed > 20, "only {failed} transactions met a failure");
    });
}

/// A topic whose thread does nothing until the sender is used.
fn stuck(world: &World) -> (Addr<Topic>, mpsc::Sender<()>) {
    let (wake, sleep) = mpsc::channel::<()>();
    let arbiter = Arbiter::new();
    arbiter.spawn_fn(move || {
        let _ = sleep.recv();
    });
    let around = Surroundings {
        storage: world.storage.handle(),
        pool: crate::pool::Pool::default(),
        budget: Arc::default(),
        broker: world.broker.clone().recipient(),
    };
    let state = State::newborn(TopicId(999), TopicRow::default());
    let topic = Topic::newborn(state, 1, around);
    (Topic::start_in_arbiter(&arbiter.handle(), |_| topic), wake)
}

#[test]
fn who_keeps_still_goes_on_reading_and_does_the_rest_in_order_afterwards() {
    System::new().block_on(async {
        let world = World::new(SimDisk::new(1));
        let (a, b) = (world.create("a").await, world.create("b").await);
        let (of_a, of_b) = (world.address(a).await, world.address(b).await);
        let (far, wake) = stuck(&world);
        let (reply, first) = Reply::within();
        let journey = Journey::of(together(&[b, TopicId(999)], "first")).unwrap();
        journey.depart(
            |id| Some(if id == b { of_b.clone() } else { far.clone() }),
            reply,
        );

        // The other topic does not answer: this one keeps still, but reads.
        let waits = ask(&of_b, produce(b, "1"));
        assert_eq!(
            said(ask(
                &of_b,
                Fetch {
                    topic: b,
                    ..Fetch::default()
                }
            ))
            .await,
            "done"
        );
        let nobody = Size {
            topic: b,
            ..Size::default()
        };
        assert_eq!(said(ask(&of_b, nobody)).await, "CONSUMER_NOT_FOUND");
        // A second traveller waits for it, and what it has reserved waits with it, for a while.
        let second = world.depart(together(&[a, b], "second"));
        assert_eq!(said(second).await, "UNAVAILABLE");
        assert_eq!(said(ask(&of_a, produce(a, "1"))).await, "done");
        let deleted = ask(&of_b, DeleteTopic { topic: b });
        let behind = ask(&of_b, produce(b, "2"));

        wake.send(()).unwrap();
        assert_eq!(said(first).await, "UNAVAILABLE", "its time is over");
        assert_eq!(said(waits).await, "done");
        assert_eq!(said(deleted).await, "done");
        assert_eq!(said(behind).await, "TOPIC_NOT_FOUND");
        assert_eq!(world.values(a).await, ["1"]);
        world.storage.close();
    });
}

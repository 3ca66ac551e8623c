//! Transactions: where the disk fails, where a topic on the way does not answer, and for who has no
//! connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc;

use actix::{Actor, Addr, Arbiter, System};
use logdrive_protocol::TopicId;
use logdrive_protocol::operations::{DeleteTopic, Fetch, Part, ProduceAll, Size};

use super::{Ending, World, ask, batch, produce, said};
use crate::reply::Reply;
use crate::storage::disk::{Call as DiskCall, SimDisk};
use crate::topic::rows::TopicRow;
use crate::topic::state::State;
use crate::topic::{Journey, Surroundings, Told, Topic};

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

/// Hands a transaction over as the broker's own requests are.
fn depart(world: &World, request: ProduceAll) -> Ending {
    let (reply, ending) = Reply::within();
    let recipient = world.broker.clone().recipient();
    recipient.do_send(Told::Depart(request, reply));
    ending
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
            depart(&world, together(&topics, &value)),
            depart(&world, together(&topics[..2], &format!("{value}+"))),
        ];
        for (ending, value) in endings.into_iter().zip([value.clone(), value + "+"]) {
            answered.insert(value, said(ending).await);
        }
    }
    while said(depart(&world, together(&topics, "last"))).await != "done" {}
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
        clock: crate::clock::Clock::default(),
        budget: Arc::default(),
        broker: world.broker.clone().recipient(),
        account: None,
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
        let second = depart(&world, together(&[a, b], "second"));
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

//! Requests that arrive between a failed write and the recovery from it.

use actix::System;
use logdrive_protocol::operations::{Answer, CreateTopic, RegisterConsumer, Request, Stats};
use logdrive_protocol::{ErrorCode, Failure, Position};

use super::{Ending, World, ask, produce, said};
use crate::broker::Ask;
use crate::reply::Reply;
use crate::storage::disk::{Call as DiskCall, Disk, SimDisk};

fn register(name: &str, create: bool) -> RegisterConsumer {
    RegisterConsumer {
        topic: "a".to_owned(),
        name: name.to_owned(),
        from: Position::Earliest,
        settings: Vec::new(),
        create,
    }
}

/// Hands a request to the broker, as connections hand those that name a topic.
fn by_name(world: &World, request: impl Into<Request>) -> Ending {
    let (reply, ending) = Reply::within();
    world.broker.do_send(Ask(request.into(), reply, None));
    ending
}

/// The answer that must be there once the topic has answered what was asked after it.
async fn at_once(world: &World, request: impl Into<Request>) -> Result<Answer, Failure> {
    let mut ending = by_name(world, request);
    let topic = Stats {
        topic: "a".to_owned(),
    };
    by_name(world, topic).await.unwrap().unwrap();
    ending
        .try_recv()
        .expect("it waits for a commit that nobody will hear of")
}

/// The next write fails, and so does every attempt to go on.
fn fill(disk: &SimDisk) {
    // The keeper notes the first segment on its own thread: its sync is not the one that shall fail.
    while !disk.list().unwrap().contains(&"newest".to_owned()) {
        std::thread::yield_now();
    }
    disk.set_capacity(Some(0));
    disk.fail_next(DiskCall::Sync);
}

/// On a full disk a consumer was looked up by its name right after a failed produce. The answer
/// waited for the commit of what had failed, so it hung until something else was written; and of a
/// consumer that was never stored it then said that it was there.
#[test]
fn who_asks_while_a_failed_write_is_in_doubt_is_told_so_at_once() {
    System::new().block_on(async {
        let world = World::new(SimDisk::new(1));
        let topic = world.create("a").await;
        let address = world.address(topic).await;
        assert_eq!(said(by_name(&world, register("old", true))).await, "done");
        fill(&world.disk);
        let failed = by_name(&world, register("new", true));
        assert_eq!(said(failed).await, "OUTCOME_UNKNOWN");
        for name in ["old", "new"] {
            let looked_up = at_once(&world, register(name, false)).await;
            let failure = looked_up.unwrap_err();
            assert_eq!(failure.code, ErrorCode::StorageFailed, "{name}: {failure}");
        }

        world.disk.set_capacity(None);
        while said(ask(&address, produce(topic, "last"))).await != "done" {}
        let known = at_once(&world, register("old", false)).await;
        assert!(
            matches!(known, Ok(Answer::RegisterConsumer(_))),
            "{known:?}"
        );
        // It may have been stored, and is then told of as what is stored.
        match at_once(&world, register("new", false)).await {
            Ok(Answer::RegisterConsumer(found)) => assert!(!found.created),
            Ok(other) => panic!("{other:?}"),
            Err(failure) => assert_eq!(failure.code, ErrorCode::ConsumerNotFound),
        }
        world.storage.close();
    });
}

/// The same for a topic whose creation is in doubt.
#[test]
fn who_creates_a_topic_again_while_its_creation_is_in_doubt_is_told_so_at_once() {
    System::new().block_on(async {
        let world = World::new(SimDisk::new(2));
        let create = CreateTopic {
            name: "a".to_owned(),
            if_not_exists: true,
            ..CreateTopic::default()
        };
        world.create("other").await;
        fill(&world.disk);
        let failed = by_name(&world, create.clone());
        assert_eq!(said(failed).await, "OUTCOME_UNKNOWN");
        let again = at_once(&world, create.clone()).await.unwrap_err();
        assert_eq!(again.code, ErrorCode::StorageFailed, "{again}");

        world.disk.set_capacity(None);
        while said(by_name(&world, create.clone())).await != "done" {}
        world.storage.close();
    });
}

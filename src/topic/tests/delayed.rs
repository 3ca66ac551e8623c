//! Batches that wait for their time, where the disk fails.

use std::collections::HashMap;

use actix::{Addr, System};
use logdrive_protocol::operations::{Answer, Produce, Stats};

use super::{World, ask, produce, said};
use crate::clock::Clock;
use crate::storage::disk::{Call as DiskCall, SimDisk};
use crate::topic::Topic;

async fn waiting(topic: &Addr<Topic>) -> u64 {
    let Ok(Answer::Stats(counted)) = ask(topic, Stats::default()).await.unwrap() else {
        panic!("no counters");
    };
    let mut counters = counted.counters.iter();
    counters
        .find(|it| it.name == "records_delayed")
        .unwrap()
        .value
}

/// Batches that fall due while one call of the disk fails; how many of them were not taken.
async fn check_failing(failing: u64) -> usize {
    let world = World::new(SimDisk::new(failing));
    let topic = world.create("a").await;
    let address = world.address(topic).await;
    world.disk.fail_call(world.disk.calls() + failing);
    let mut clock = Clock::default();
    let mut answered = HashMap::new();
    for number in 0..12 {
        if number == 6 && failing.is_multiple_of(3) {
            world.disk.fail_next(DiskCall::Sync);
        }
        let value = format!("{number} {}", "x".repeat(number % 2 * 2_000));
        let scheduled = Produce {
            not_before: clock.now() + 5_000,
            ..produce(topic, &value)
        };
        answered.insert(value, said(ask(&address, scheduled)).await);
    }
    while waiting(&address).await > 0 || said(ask(&address, produce(topic, "last"))).await != "done"
    {
        tokio::task::yield_now().await;
    }
    let values = world.values(topic).await;
    for (value, outcome) in &answered {
        let stored = values.iter().filter(|it| *it == value).count();
        match outcome.as_str() {
            "done" => assert_eq!(stored, 1, "failing call {failing}"),
            "OUTCOME_UNKNOWN" => assert!(stored <= 1, "failing call {failing}"),
            "STORAGE_FAILED" | "INVALID_DELAY" => assert_eq!(stored, 0, "failing call {failing}"),
            other => panic!("{other}"),
        }
    }
    world.storage.close();
    answered.values().filter(|it| *it != "done").count()
}

#[test]
fn a_disk_that_fails_neither_loses_nor_repeats_what_waits() {
    System::new().block_on(async {
        let mut failed = 0;
        for failing in 1..50 {
            failed += check_failing(failing).await;
        }
        assert!(failed > 20, "only {failed} batches met a failure");
    });
}

//! Calls of the disk that fail, one at a time or for as long as the disk is full.

use super::world::{World, append, merging, open, row_key, tiny};
use crate::storage::disk::{Call, SimDisk};
use crate::storage::*;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

/// Flushes of one workload.
const FLUSHES: u64 = 10;

/// How the workload goes on once something has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// In the same process.
    Recovery,
    /// In a new process, which knows nothing of the failure.
    Kill,
}

/// Runs the workload with one failing call; `true` if the call was reached.
fn check(failing: u64, after: After) -> bool {
    println!("failing call {failing}, then {after:?}");
    let mut world = World::trimming(3);
    let mut disk = SimDisk::new(failing);
    disk.fail_call(failing);
    // A failure at the very start is an error, and the next attempt succeeds.
    let (mut writer, recovered) = match open(&disk, &merging()) {
        Ok(opened) => opened,
        Err(_) => open(&disk, &merging()).expect("a failure passes"),
    };
    world.believe(&mut writer, recovered);
    for flush in 0..FLUSHES {
        if flush == 5 {
            disk.fail_next(Call::Sync);
        }
        let jobs = world.stage(&mut writer);
        writer.commit(jobs);
        if writer.has_failed() && after == After::Kill {
            world.hear_only();
            disk = disk.kill();
            writer = world.reopen(&disk, &merging());
        }
        // Two failures are planned, so the third attempt succeeds.
        let heard = (0..3).any(|_| world.hear(&mut writer).is_ok());
        assert!(heard, "it never recovers");
    }
    if disk.calls() < failing {
        return false;
    }
    world.check_records(&writer.reader());
    let disk = disk.power_cut();
    world.reopen(&disk, &merging()).close();
    true
}

#[test]
fn every_failing_call_is_recovered_from_and_a_power_cut_then_loses_nothing() {
    let reached = (1..10_000)
        .take_while(|failing| check(*failing, After::Recovery))
        .count();
    assert!(reached > 200, "only {reached} calls");
}

#[test]
fn a_process_killed_after_a_failed_call_leaves_nothing_that_a_power_cut_can_take_back() {
    // Calls are counted anew in each process: beyond the first kill no further one is reached.
    let reached = (1..10_000)
        .take_while(|failing| check(*failing, After::Kill))
        .count();
    assert!(reached > 100, "only {reached} calls");
}

#[test]
fn a_full_disk_fails_commits_until_there_is_room_again() {
    let mut world = World::new(5);
    let disk = SimDisk::new(5);
    let mut writer = world.reopen(&disk, &tiny());
    world.flush(&mut writer).unwrap();
    disk.set_capacity(Some(1 << 20));
    let mut flushes = 0;
    while world.flush(&mut writer).is_ok() {
        flushes += 1;
    }
    assert!(flushes > 3, "{flushes} flushes fit into 1 MiB");
    assert_eq!(writer.health().condition(), Condition::Failed);
    world.check_records(&writer.reader());
    assert!(world.hear(&mut writer).is_err(), "there still is no room");
    disk.set_capacity(None);
    world.hear(&mut writer).unwrap();
    assert_eq!(writer.health().condition(), Condition::Ok);
    world.flush(&mut writer).unwrap();
    world.check_records(&writer.reader());
    let disk = disk.power_cut();
    world.reopen(&disk, &tiny()).close();
}

/// A broker that was killed on a full disk once did not come back until somebody had made room.
#[test]
fn a_start_on_a_full_disk_reads_and_writes_again_when_there_is_room() {
    let mut world = World::new(9);
    let disk = SimDisk::new(9);
    let mut writer = world.reopen(&disk, &tiny());
    for _ in 0..6 {
        world.flush(&mut writer).unwrap();
    }
    let disk = disk.kill();
    disk.set_capacity(Some(0));
    let mut writer = world.reopen(&disk, &tiny());
    assert_eq!(writer.health().condition(), Condition::Failed);
    world.check_records(&writer.reader());
    assert!(world.hear(&mut writer).is_err(), "there still is no room");
    let names = disk.list().unwrap();
    let unborn = names.iter().find(|name| name.contains(".new"));
    assert_eq!(unborn, None, "what was begun takes no room");
    disk.set_capacity(None);
    world.hear(&mut writer).unwrap();
    assert_eq!(writer.health().condition(), Condition::Ok);
    world.flush(&mut writer).unwrap();
    world.check_records(&writer.reader());
}

#[test]
fn low_space_is_declared_frees_the_ballast_and_ends_when_there_is_room() {
    let mut world = World::new(6);
    let disk = SimDisk::new(6);
    disk.set_capacity(Some(4 << 20));
    let options = Options {
        low_space_bytes: 1 << 20,
        ballast_bytes: 256 << 10,
        space_check_interval: Duration::ZERO,
        ..tiny()
    };
    let mut writer = world.reopen(&disk, &options);
    let has_ballast = || disk.list().unwrap().contains(&"ballast".to_owned());
    assert!(has_ballast());
    while writer.health().condition() == Condition::Ok {
        world.flush(&mut writer).unwrap();
    }
    assert_eq!(writer.health().condition(), Condition::LowSpace);
    assert!(!has_ballast(), "the ballast makes room for acks");
    world.flush(&mut writer).unwrap();
    // Not at the mark, nor a little above it, but at twice as much.
    let used = (4 << 20) - disk.free_space().unwrap();
    for free in [(1 << 20) + 1, (2 << 20) - (1 << 19)] {
        disk.set_capacity(Some(used + free));
        world.flush(&mut writer).unwrap();
        assert_eq!(writer.health().condition(), Condition::LowSpace, "{free}");
        assert!(!has_ballast());
    }
    disk.set_capacity(Some(used + (2 << 20) + (1 << 19)));
    world.flush(&mut writer).unwrap();
    assert_eq!(writer.health().condition(), Condition::Ok);
    assert!(has_ballast());
    world.flush(&mut writer).unwrap();
    let condition = writer.health().condition();
    assert_eq!(
        condition,
        Condition::Ok,
        "the ballast does not count against itself"
    );
}

/// The keeper looks once a second, and a disk of 1 GB/s has written a gigabyte by then: it was full,
/// and commits failed, before space was ever said to be low.
#[test]
fn low_space_is_declared_by_bytes_however_long_ago_the_keeper_has_looked() {
    let mut world = World::new(6);
    let disk = SimDisk::new(6);
    disk.set_capacity(Some(4 << 20));
    let options = Options {
        low_space_bytes: 1 << 20,
        space_check_interval: Duration::from_hours(1),
        ..tiny()
    };
    let mut writer = world.reopen(&disk, &options);
    while writer.health().condition() == Condition::Ok {
        world.flush(&mut writer).unwrap();
    }
    assert_eq!(writer.health().condition(), Condition::LowSpace);
    let free = disk.free_space().unwrap();
    assert!(free > 1 << 19, "{free} bytes are left");
}

fn job(topic: u64, generation: u64, ticket: u64, announce: Announce) -> Job {
    let topic = TopicId(topic);
    let value = Some(ticket.to_be_bytes().to_vec());
    let rows = vec![Row {
        key: row_key(topic, 1),
        value,
    }];
    let kind = JobKind::Change;
    Job {
        topic,
        generation,
        ticket,
        batches: vec![],
        rows,
        announce,
        kind,
    }
}

#[test]
fn the_thread_says_failed_then_reloaded_and_takes_jobs_of_the_new_generation() {
    let disk = SimDisk::new(7);
    let (storage, recovered) = Storage::open(Arc::new(disk.clone()), tiny()).unwrap();
    let (sender, notices) = mpsc::channel();
    let announce = |topic: u64| {
        let sender = sender.clone();
        Announce::new(move |notice| sender.send((topic, notice)).unwrap())
    };
    let generation = recovered.generation;
    storage.attach(TopicId(2), announce(2));
    storage.submit(job(1, generation, 1, announce(1)));
    assert_eq!(
        notices.recv().unwrap(),
        (
            1,
            Notice::Committed {
                generation,
                ticket: 1
            }
        )
    );

    // The keeper notes the new segment on its own thread: its sync is not the one that shall fail.
    while !disk.list().unwrap().contains(&"newest".to_owned()) {
        std::thread::yield_now();
    }
    disk.fail_next(Call::Sync);
    storage.submit(job(1, generation, 2, announce(1)));
    let failed = generation + 1;
    assert_eq!(
        notices.recv().unwrap(),
        (1, Notice::Failed { generation: failed })
    );
    assert_eq!(
        notices.recv().unwrap(),
        (2, Notice::Failed { generation: failed })
    );
    let (
        topic,
        Notice::Reloaded {
            generation,
            rows: Some(rows),
        },
    ) = notices.recv().unwrap()
    else {
        panic!("topic 1 lives");
    };
    assert_eq!((topic, generation), (1, failed));
    assert_eq!(rows.len(), 1);
    let (topic, reloaded) = notices.recv().unwrap();
    assert_eq!(
        (topic, reloaded),
        (
            2,
            Notice::Reloaded {
                generation,
                rows: None
            }
        )
    );

    storage.submit(job(1, generation, 3, announce(1)));
    assert_eq!(
        notices.recv().unwrap(),
        (
            1,
            Notice::Committed {
                generation,
                ticket: 3
            }
        )
    );
    // A stranger that believes in the old generation hears what it missed.
    storage.submit(job(3, generation - 1, 1, announce(3)));
    assert_eq!(notices.recv().unwrap(), (3, Notice::Failed { generation }));
    assert_eq!(
        notices.recv().unwrap(),
        (
            3,
            Notice::Reloaded {
                generation,
                rows: None
            }
        )
    );
    // One that has heard of the new one is not told again.
    storage.submit(job(1, generation - 1, 4, announce(1)));
    storage.submit(job(1, generation, 5, announce(1)));
    assert_eq!(
        notices.recv().unwrap(),
        (
            1,
            Notice::Committed {
                generation,
                ticket: 5
            }
        )
    );
    storage.close();
}

#[test]
fn sealed_and_active_records_are_read_while_nothing_can_be_written() {
    let mut world = World::new(8);
    let disk = SimDisk::new(8);
    let mut writer = world.reopen(&disk, &tiny());
    for _ in 0..12 {
        world.flush(&mut writer).unwrap();
    }
    disk.set_capacity(Some(0));
    assert!(world.flush(&mut writer).is_err());
    world.check_records(&writer.reader());
    let mut log = super::world::Log::default();
    append(&mut log, TopicId(99), &[b"late".to_vec()], 1);
    assert!(writer.reader().read(TopicId(99), 0, 1, 100).is_err());
}

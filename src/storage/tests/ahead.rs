//! Files written ahead: segments live in them and leave them, and nobody's reads suffer.

use std::sync::{Arc, mpsc};

use tokio::sync::watch;

use super::world::{World, tiny};
use crate::storage::disk::{Disk, SimDisk};
use crate::storage::keeper::{Chore, Keeper};
use crate::storage::layout::{FileKind, file_kind};
use crate::storage::segment::{Identity, Segment};
use crate::storage::*;

fn names(disk: &SimDisk, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| wanted(name));
    names.sort();
    names
}

fn segments(disk: &SimDisk) -> Vec<u64> {
    let names = names(disk, |_| true);
    let numbers = names.iter().filter_map(|name| match file_kind(name) {
        FileKind::Segment(number) => Some(number),
        _ => None,
    });
    numbers.collect()
}

fn ahead(disk: &SimDisk) -> Vec<String> {
    names(disk, |name| name.strip_suffix(".ahead").is_some())
}

#[test]
fn segments_are_born_in_files_written_ahead_and_sealed_ones_are_as_long_as_their_content() {
    let mut world = World::new(3);
    let disk = SimDisk::new(3);
    let mut writer = world.reopen(&disk, &tiny());
    assert_eq!(
        ahead(&disk),
        [""; 0],
        "a store that is hardly used has none"
    );
    while segments(&disk).len() < 6 {
        world.flush(&mut writer).unwrap();
    }
    let ready = ahead(&disk);
    assert_eq!(ready.len(), tiny().ahead_segments);
    let bytes = disk.open(&ready[0]).unwrap().len().unwrap();
    assert_eq!(writer.health().ahead_bytes(), 2 * bytes);
    world.check_records(&writer.reader());
    writer.close();
    for number in segments(&disk) {
        // Longer than redb left it, it would need a repair.
        let sealed = Segment::open_sealed(&disk, number, 1 << 20).unwrap();
        assert!(format!("{sealed:?}").contains("Some(Clean)"), "{sealed:?}");
    }
    // What is ready is used after a restart too.
    let mut writer = world.reopen(&disk, &tiny());
    assert_eq!(writer.health().ahead_bytes(), 2 * bytes);
    let disk = disk.power_cut();
    writer.close();
    writer = world.reopen(&disk, &tiny());
    world.flush(&mut writer).unwrap();
}

#[test]
fn a_released_segment_is_written_ahead_again_and_one_that_is_read_is_not() {
    let mut world = World::new(4);
    let disk = SimDisk::new(4);
    let mut writer = world.reopen(&disk, &tiny());
    while segments(&disk).len() < 5 {
        world.flush(&mut writer).unwrap();
    }
    writer.close();
    for name in ahead(&disk) {
        disk.unlink(&name).unwrap();
    }
    let (chores, _kept) = mpsc::channel();
    let mut keeper = Keeper::new(
        Arc::new(disk.clone()),
        tiny(),
        Health::default(),
        Some(chores),
        watch::Sender::default(),
    );
    let (reply, made) = mpsc::channel();
    keeper.perform(Chore::Prepare {
        number: 1000,
        identity: Identity::default(),
        reply,
    });
    drop(made.recv().unwrap().unwrap());

    let [free, read, ..] = segments(&disk)[..] else {
        panic!("too few segments")
    };
    let mut opened = [free, read].map(|number| {
        let (reply, opened) = mpsc::channel();
        keeper.perform(Chore::Open { number, reply });
        Some(opened.recv().unwrap().unwrap())
    });
    opened[0] = None;
    keeper.perform(Chore::Release(vec![free, read]));
    keeper.release_all();
    assert!(!segments(&disk).contains(&free) && !segments(&disk).contains(&read));
    let begun = names(&disk, |name| name.ends_with(".ahead.part"));
    assert_eq!(begun.len(), 1, "the one that nobody reads: {begun:?}");
    opened[1].take().unwrap().begin_read().unwrap();
    assert_eq!(ahead(&disk), [""; 0], "it is not ready before it is zeros");
}

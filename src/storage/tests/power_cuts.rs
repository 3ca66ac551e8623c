//! Power cuts after every single change of the disk, in a workload that rotates, trims, merges
//! and fails commits.
//!
//! `LOGDRIVE_CUTS=all` makes it longer: more workloads, each with several kinds of tearing.

use super::world::{World, merging, open};
use crate::storage::Writer;
use crate::storage::disk::{Call, Disk, SimDisk};
use crate::storage::layout::{self, FIRST_MERGED, FileKind};

/// Flushes of one workload.
const FLUSHES: u64 = 30;

/// The flushes of which a sync fails, one of them in a rotation's neighbourhood.
const FAILING: [u64; 2] = [7, 19];

fn wanted_seeds(short: u64, long: u64) -> std::ops::Range<u64> {
    let all = std::env::var("LOGDRIVE_CUTS").is_ok_and(|value| value == "all");
    0..if all { long } else { short }
}

/// Runs the workload until it ends or the power does; the writer if it came to its end.
fn run(world: &mut World, disk: &SimDisk) -> Option<Writer> {
    let (mut writer, recovered) = open(disk, &merging()).ok()?;
    world.believe(&mut writer, recovered);
    for flush in 0..FLUSHES {
        if FAILING.contains(&flush) {
            disk.fail_next(Call::Sync);
        }
        world.flush(&mut writer).ok()?;
    }
    Some(writer)
}

/// A cut, what is found, some more flushes, and a second cut.
fn check(seed: u64, cut: u64) {
    let mut world = World::trimming(seed);
    let disk = SimDisk::new(seed ^ cut);
    disk.cut_after(cut);
    if let Some(writer) = run(&mut world, &disk) {
        writer.close();
    }
    let disk = disk.power_cut();
    let mut writer = world.reopen(&disk, &merging());
    for _ in 0..3 {
        world.flush(&mut writer).unwrap();
    }
    world.check_records(&writer.reader());
    let disk = disk.power_cut();
    world.reopen(&disk, &merging()).close();
}

fn changes_of(seed: u64) -> u64 {
    let mut world = World::trimming(seed);
    let disk = SimDisk::new(seed);
    let writer = run(&mut world, &disk).expect("without a cut it comes to its end");
    world.check_records(&writer.reader());
    writer.close();
    disk.changes()
}

#[test]
fn nothing_committed_is_lost_by_a_power_cut_after_any_change_of_the_disk() {
    for seed in wanted_seeds(1, 20) {
        let changes = changes_of(seed);
        for cut in 1..=changes {
            println!("seed {seed}, cut after change {cut} of {changes}");
            check(seed, cut);
        }
    }
}

/// A start was killed between the renaming of the journal and the sync of the directory. The next
/// one found the journal, began a segment that says so, and lost the power: the segment had its name
/// and the journal none, and no start came by that.
#[test]
fn a_start_that_is_cut_after_one_that_was_killed_is_no_trouble_for_the_third() {
    for flushes in [0, 3] {
        let (mut world, disk) = (World::trimming(flushes), SimDisk::new(flushes));
        if flushes > 0 {
            let mut writer = world.reopen(&disk, &merging());
            for _ in 0..flushes {
                world.flush(&mut writer).unwrap();
            }
        }
        let mut starts = 0;
        for (killed, first) in starts_cut_anywhere(&disk) {
            for (cut, second) in starts_cut_anywhere(&first) {
                println!("{flushes} flushes, killed after change {killed}, cut after change {cut}");
                for _ in 0..4 {
                    world.reopen(&second.power_cut(), &merging()).close();
                    starts += 1;
                }
            }
        }
        println!("{starts} starts");
    }
}

/// The disk after each number of changes of a start on it, and that number.
fn starts_cut_anywhere(disk: &SimDisk) -> impl Iterator<Item = (u64, SimDisk)> {
    let mut is_whole = false;
    (1..).map_while(move |changes| {
        let disk = disk.kill();
        disk.cut_after(changes);
        let was_whole = std::mem::replace(&mut is_whole, open(&disk, &merging()).is_ok());
        (!was_whole).then_some((changes, disk))
    })
}

fn segments_of(disk: &SimDisk) -> impl Iterator<Item = u64> {
    let names = disk.list().unwrap().into_iter();
    names.filter_map(|name| match layout::file_kind(&name) {
        FileKind::Segment(number) => Some(number),
        _ => None,
    })
}

#[test]
fn the_workload_rotates_and_merges_and_fails_and_recovers() {
    let mut world = World::trimming(0);
    let disk = SimDisk::new(0);
    run(&mut world, &disk);
    assert!(world.generation > 2, "generation {}", world.generation);
    let disk = disk.kill();
    let mut merged = false;
    let mut segments = std::collections::BTreeSet::new();
    let mut writer = world.reopen(&disk, &merging());
    for _ in 0..FLUSHES {
        world.flush(&mut writer).unwrap();
        segments.extend(writer.syncs().map(|(segment, _)| segment));
        merged |= segments_of(&disk).any(|number| number > FIRST_MERGED);
    }
    assert!(merged, "nothing was merged");
    assert!(segments.len() > 4, "{segments:?}");
}

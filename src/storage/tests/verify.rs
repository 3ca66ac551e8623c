//! Looking for damage: nothing is found where nothing is wrong, and every flipped bit is found or
//! was in bytes that nobody reads.
//!
//! `LOGDRIVE_FLIPS=N` flips a bit of every N-th byte, or every N-th bit of what comes first.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::damage::{copy_of, segments};
use super::world::{self, Held, World, merging, open, tiny};
use crate::storage::disk::{Call, Disk, SimDisk};
use crate::storage::header::Trust;
use crate::storage::segment::Segment;
use crate::storage::*;

/// Flips between two lines of progress.
const FLIPS_TO_PROGRESS: u64 = 10_000;

/// What verify finds, of every grade; the logs are those that the flush on disk is known to hold.
pub(super) fn findings(disk: &SimDisk, history: &BTreeMap<u64, Held>) -> Vec<Finding> {
    let interpret = |rows: &Rows| {
        let flush = World::flush_in(rows);
        let Some(held) = history.get(&flush) else {
            return vec![Err(format!("flush {flush} was never staged"))];
        };
        let log = |(topic, log): (&TopicId, &world::Log)| {
            Ok(Log {
                topic: *topic,
                name: topic.to_string(),
                start: log.start,
                end: log.next,
                totals: log.totals,
                digest: log.digest,
            })
        };
        held.logs.iter().map(log).collect()
    };
    let mut found = Vec::new();
    let verified = verify(disk, &tiny(), interpret, &mut |told| {
        if let Told::Found(finding) = told {
            found.push(finding.clone());
        }
    });
    let verified = verified.unwrap();
    let counted: u64 = verified.findings.iter().sum();
    assert_eq!(counted, found.len() as u64);
    found
}

/// Says what is more than a remark.
fn check_whole(disk: &SimDisk, history: &BTreeMap<u64, Held>, also: &[Grade]) {
    let mut found = findings(disk, history);
    found.retain(|it| it.grade != Grade::Remark && !also.contains(&it.grade));
    assert_eq!(found, [], "nothing is wrong");
}

/// A workload that rotates, trims, merges and fails commits.
fn run(world: &mut World, disk: &SimDisk, flushes: u64) -> Option<Writer> {
    let (mut writer, recovered) = open(disk, &merging()).ok()?;
    world.believe(&mut writer, recovered);
    for flush in 0..flushes {
        if flush % 11 == 7 {
            disk.fail_next(Call::Sync);
        }
        world.flush(&mut writer).ok()?;
    }
    Some(writer)
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    for seed in 0..12 {
        println!("seed {seed}");
        let mut world = World::trimming(seed);
        let disk = SimDisk::new(seed);
        let writer = run(&mut world, &disk, 40).unwrap();
        let killed = disk.kill();
        check_whole(&killed, &world.history, &[]);
        drop(writer);
        world.reopen(&killed, &merging()).close();
        check_whole(&killed, &world.history, &[]);
        // And so it stays, a few starts and writes later.
        let mut writer = world.reopen(&killed, &merging());
        for _ in 0..10 {
            world.flush(&mut writer).unwrap();
        }
        writer.close();
        check_whole(&killed, &world.history, &[]);
    }
}

#[test]
fn a_power_cut_leaves_no_damage_but_at_most_a_write_that_nobody_can_judge() {
    for cut in (1..2_000).step_by(13) {
        let mut world = World::trimming(3);
        let disk = SimDisk::new(cut);
        disk.cut_after(cut);
        let ended = run(&mut world, &disk, 25).is_some();
        let disk = disk.power_cut();
        println!("cut {cut}");
        check_whole(&disk, &world.history, &[Grade::Doubtful]);
        world.reopen(&disk, &merging()).close();
        check_whole(&disk, &world.history, &[]);
        if ended {
            return;
        }
    }
}

fn byte_at(disk: &SimDisk, name: &str, at: u64) -> u8 {
    let mut byte = [0];
    disk.open(name).unwrap().read_at(at, &mut byte).unwrap();
    byte[0]
}

/// Flips a bit of every `step`-th byte of a file: found, or provably unused. Gives how many are which.
fn flip_through(
    disk: &SimDisk,
    world: &World,
    name: &str,
    step: usize,
    first: u64,
) -> (usize, usize) {
    let expected = open(&copy_of(disk), &tiny()).unwrap().1.topics;
    let (len, step) = (disk.open(name).unwrap().len().unwrap(), step as u64);
    let flips = len.saturating_sub(first).div_ceil(step);
    let (tried, reported) = (AtomicU64::new(0), AtomicUsize::new(0));
    let history = &world.history;
    let each = || {
        let disk = copy_of(disk);
        loop {
            let flip = tried.fetch_add(1, Ordering::Relaxed);
            if flip >= flips {
                return;
            }
            if flip % FLIPS_TO_PROGRESS == FLIPS_TO_PROGRESS - 1 {
                println!("{name}: {flip} of {flips} flips");
            }
            let at = first + flip * step;
            if is_reported(&disk, history, &expected, name, at, flip % 8) {
                reported.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(each);
        }
    });
    let reported = reported.into_inner();
    let unused = usize::try_from(flips).unwrap() - reported;
    println!("{name}: {reported} reported, {unused} unused");
    (reported, unused)
}

/// Flips a bit and flips it back: whether it was found; if not, it did nothing.
fn is_reported(
    disk: &SimDisk,
    history: &BTreeMap<u64, Held>,
    expected: &Rows,
    name: &str,
    at: u64,
    bit: u64,
) -> bool {
    let file = disk.open(name).unwrap();
    let byte = byte_at(disk, name, at);
    file.write_at(at, &[byte ^ (1 << bit)]).unwrap();
    let reported = !findings(disk, history).is_empty();
    if !reported {
        let (writer, recovered) = open(&copy_of(disk), &tiny())
            .unwrap_or_else(|error| panic!("byte {at} of {name}: not found, but {error}"));
        assert_eq!(recovered.topics, *expected, "byte {at} of {name}");
        let held = history.first_key_value().unwrap().1;
        held.check_records(&writer.reader());
        writer.close();
    }
    file.write_at(at, &[byte]).unwrap();
    reported
}

fn wanted_step(short: usize) -> usize {
    let wanted = std::env::var("LOGDRIVE_FLIPS");
    wanted.map_or(short, |step| short.min(step.parse().expect("a number")))
}

/// A store of several segments with state, records of some topics, and a journal.
fn small(seed: u64) -> (World, SimDisk, Writer) {
    let mut world = World::new(seed);
    let disk = SimDisk::new(seed);
    let mut writer = world.reopen(&disk, &tiny());
    for _ in 0..20 {
        world.flush(&mut writer).unwrap();
    }
    (world, disk, writer)
}

#[test]
fn every_flipped_bit_of_a_stopped_store_is_found_or_was_in_bytes_that_nobody_reads() {
    quiet_guarded_panics();
    let (world, disk, writer) = small(5);
    writer.close();
    check_whole(&disk, &world.history, &[]);
    let names = segments(&disk);
    assert!(names.len() > 1, "{names:?}");
    // Pages that redb has freed hold nothing: files of this size are full of them.
    for name in &names {
        let (reported, _) = flip_through(&disk, &world, name, wanted_step(701), 320);
        assert!(reported > 5, "{reported} in {name}");
    }
    let (note, _) = flip_through(&disk, &world, "newest", 1, 0);
    assert!(note > 15, "{note}");
}

/// Flushes that only the journal has.
fn in_the_journal(disk: &SimDisk) -> u64 {
    let found = recovery::find(disk, &tiny(), &mut 0).unwrap().unwrap();
    let number = found.segment.number;
    let saved = Segment::open_checked(disk, number, 0, Trust::LastWhole).unwrap();
    let last = |segment: &Segment| segment.last_flush().unwrap().number;
    last(&found.segment) - last(&saved.0)
}

#[test]
fn every_flipped_bit_of_a_killed_store_is_found_or_was_in_bytes_that_nobody_reads() {
    quiet_guarded_panics();
    let (mut world, disk, mut writer) = small(6);
    while in_the_journal(&copy_of(&disk)) < 3 {
        world.flush(&mut writer).unwrap();
    }
    let killed = disk.kill();
    check_whole(&killed, &world.history, &[]);
    let names = segments(&killed);
    let newest = names.last().unwrap();
    let (reported, _) = flip_through(&killed, &world, newest, wanted_step(701), 320);
    assert!(reported > 5, "{reported}");
    let (journal, _) = flip_through(&killed, &world, "journal", wanted_step(97), 0);
    assert!(journal > 5, "{journal}");
}

#[test]
fn every_flipped_bit_of_a_segments_first_bytes_is_found_or_does_nothing() {
    quiet_guarded_panics();
    let (world, disk, writer) = small(7);
    writer.close();
    let names = segments(&disk);
    for name in [names.first().unwrap(), names.last().unwrap()] {
        let file = disk.open(name).unwrap();
        let mut head = vec![0; 320];
        file.read_at(0, &mut head).unwrap();
        let copy = copy_of(&disk);
        let short = copy.open(name).unwrap();
        let expected = open(&copy_of(&disk), &tiny()).unwrap().1.topics;
        for bit in (0..320 * 8).step_by(wanted_step(11)) {
            let mut flipped = head.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            short.write_at(0, &flipped).unwrap();
            if findings(&copy, &world.history).is_empty() {
                let (writer, recovered) = open(&copy_of(&copy), &tiny()).unwrap();
                assert_eq!(recovered.topics, expected, "bit {bit} of {name}");
                world.check_records(&writer.reader());
            }
        }
    }
}

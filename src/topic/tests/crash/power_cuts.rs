//! Power cuts under the broker's own store.
//!
//! What is promised: whatever a power cut leaves of what was not synced (any prefix of it, any
//! subset, any sectors of a write, any changes of names), and whenever it comes, also while the
//! store recovers from another one,
//!
//! - the store starts, and everything that was acknowledged is there once, in order, byte for byte;
//! - what is there besides is whole flushes, in the order in which they were staged;
//! - nothing that was trimmed is back: the log begins where the flush that was found says;
//! - a retry of a batch that is there gets its offset and stores nothing, one of a batch that is not
//!   is stored; a worker that asks for its last answer again gets the same;
//! - cursors and acked records are those of the flush that was found, and no acked record is given
//!   again.
//!
//! A workload runs once for each seed, and every moment of its disk is kept. Images are taken of
//! moments by dice, started, compared with what was staged and announced until then, and some of
//! them go on working and are cut again.
//!
//! ```text
//! cargo test -p logdrive --lib power_cuts                                     20,000 images
//! LOGDRIVE_CUTS=1000000 cargo test --release -p logdrive --lib power_cuts     1,000,000 images
//! LOGDRIVE_CUT=7:1234 cargo test -p logdrive --lib one_image                  the one that failed
//! ```
//!
//! The checker itself is checked by two faults that it must find: a disk that ignores three syncs
//! in ten, and a store that announces changes before it writes them.

use std::io::Write;
use std::time::Instant;

use super::images::{Course, Depths, Fault};
use super::wanted_images;
use crate::storage::disk::Disk;

/// Beside them, one in so many of courses with threads.
const THREADED: u64 = 10;
/// Tests that look at a share each, beside each other.
const SHARES: u64 = 4;
/// Numbers of one course at most: then comes the next seed.
const NUMBERS: u64 = 2_000;
/// Courses in which each planted fault must be found.
const CONTROLS: u64 = 8;
/// How often a long run tells how far it is.
const PROGRESS: u64 = 25_000;

/// Looks at the images of every fourth seed, until it has its share.
fn check_share(share: u64) {
    let wanted = wanted_images().div_ceil(SHARES);
    let (began, mut told) = (Instant::now(), 0);
    let mut depths = Depths::default();
    for seed in (0..).filter(|seed| seed % SHARES == share) {
        let course = Course::record(seed, Fault::None);
        for number in 0..NUMBERS {
            match course.check(number) {
                Ok(images) => (depths.iter_mut().zip(images)).for_each(|(sum, it)| *sum += it),
                Err(violation) => panic!("{}", violation.text),
            }
            let checked: u64 = depths.iter().sum();
            if checked >= told + PROGRESS {
                told = checked;
                let seconds = began.elapsed().as_secs_f64();
                // Past the harness, which keeps what a test prints until it fails.
                let _ = writeln!(
                    std::io::stderr(),
                    "share {share}: {checked} of {wanted} images in {seconds:.0} s, seed {seed}"
                );
            }
            if checked >= wanted {
                let took = began.elapsed();
                println!("{checked} images, {depths:?} by depth, in {took:?}");
                return;
            }
        }
    }
}

#[test]
fn what_was_acknowledged_survives_power_cuts_first_share() {
    check_share(0);
}

#[test]
fn what_was_acknowledged_survives_power_cuts_second_share() {
    check_share(1);
}

#[test]
fn what_was_acknowledged_survives_power_cuts_third_share() {
    check_share(2);
}

#[test]
fn what_was_acknowledged_survives_power_cuts_fourth_share() {
    check_share(3);
}

/// The same over the storage with its own threads, where segments are closed, merged and removed
/// while flushes go on. No seed gives such a course again: what fails here is told in full.
#[test]
fn what_was_acknowledged_survives_power_cuts_while_threads_work() {
    let wanted = wanted_images() / THREADED;
    let mut checked = 0;
    for seed in 0.. {
        let course = Course::record_threads(seed);
        for number in 0..NUMBERS / 20 {
            match course.check(number) {
                Ok(images) => checked += images.iter().sum::<u64>(),
                Err(violation) => panic!("with threads, seed {seed}: {}", violation.text),
            }
            if checked >= wanted {
                return;
            }
        }
    }
}

/// `LOGDRIVE_CUT=seed:number` looks at one image again.
#[test]
fn one_image_again() {
    let Ok(which) = std::env::var("LOGDRIVE_CUT") else {
        return;
    };
    let (seed, number) = which.split_once(':').expect("LOGDRIVE_CUT=seed:number");
    let course = Course::record(seed.parse().unwrap(), Fault::None);
    match course.check(number.parse().unwrap()) {
        Ok(images) => println!("sound: {images:?} images by depth"),
        Err(violation) => panic!("{}", violation.text),
    }
}

/// A fault shows in each of some courses, within so many images.
fn check_control(fault: Fault, within: u64) {
    for seed in 0..CONTROLS {
        let course = Course::record(seed, fault);
        let mut checked = 0;
        let found = (0..NUMBERS).find_map(|number| match course.check(number) {
            Ok(images) => {
                checked += images.iter().sum::<u64>();
                (checked >= within).then_some(None)
            }
            Err(violation) => Some(Some(violation.text)),
        });
        let found = found.flatten();
        println!("{fault:?}, seed {seed}: after {checked} images, {found:?}");
        assert!(found.is_some(), "{fault:?} of seed {seed} was not found");
    }
}

#[test]
fn a_disk_that_ignores_three_syncs_in_ten_is_found_out_within_200_images() {
    check_control(Fault::Lies(30), 200);
}

#[test]
fn a_store_that_acknowledges_before_it_commits_is_found_out_within_200_images() {
    check_control(Fault::AnswersEarly, 200);
}

#[test]
fn the_same_seed_gives_the_same_course_and_the_same_images() {
    let content = |course: &Course| {
        let disk = course.last_image();
        let mut names = disk.list().unwrap();
        names.sort();
        let content = names.into_iter().map(|name| {
            let file = disk.open(&name).unwrap();
            let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
            file.read_at(0, &mut bytes).unwrap();
            (name, crc32c::crc32c(&bytes))
        });
        content.collect::<Vec<_>>()
    };
    let (one, other) = (
        Course::record(5, Fault::None),
        Course::record(5, Fault::None),
    );
    assert_eq!(one.changes(), other.changes());
    assert_eq!(content(&one), content(&other));
}

/// A workload that never came by something would prove nothing about it.
#[test]
fn the_workloads_of_a_few_seeds_do_everything_that_is_promised() {
    let mut counts = std::collections::BTreeMap::new();
    for seed in 0..2 * SHARES {
        for (what, count) in Course::record(seed, Fault::None).counts {
            *counts.entry(what).or_insert(0) += count;
        }
    }
    let rare: Vec<_> = EVERYTHING
        .iter()
        .filter(|what| counts.get(*what).is_none_or(|count| *count < 2))
        .collect();
    assert!(rare.is_empty(), "{rare:?} of {counts:?}");
}

const EVERYTHING: [&str; 25] = [
    "produced",
    "retried",
    "taken on lease",
    "taken for good",
    "read from the disk",
    "acked",
    "given back",
    "leases ended",
    "purged",
    "trimmed by the rule",
    "transaction",
    "scheduled",
    "delivered",
    "delay log cleared",
    "producer registered",
    "producer unregistered",
    "consumer registered",
    "consumer unregistered",
    "consumer moved",
    "worker ended",
    "topic created",
    "topic deleted",
    "commit failed",
    "segment born",
    "merged segment seen",
];

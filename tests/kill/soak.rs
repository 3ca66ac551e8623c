//! The trial again and again on one data directory, among strangers, for as long as is wanted; and
//! a look at what the broker holds when nobody is there: it may not grow.
//!
//! Each round is a whole trial with topics of its own names, deleted in the end. Not every round
//! kills: memory is compared within one life of the process, descriptors and the disk over all.
//! `LOGDRIVE_SOAK=7200` is the long form, in seconds.

use std::path::Path;
use std::time::{Duration, Instant};

use fastrand::Rng;
use logdrive::history;

use super::{Broker, Trial};
use crate::plan;

/// Rounds without `LOGDRIVE_SOAK`.
const ROUNDS: u64 = 3;
/// Of so many rounds one has kills; the others stop and resume.
const KILLING: u64 = 4;
/// Kills or stops of a round.
const FAULTS: u64 = 6;
/// Rounds of a life after which its memory has its size.
const WARM: usize = 3;
/// Memory that a life may take beyond what it had when it was warm, in bytes: what allocators keep
/// differs by some of it from round to round.
const MEMORY_BYTES: u64 = 96 << 20;
/// Descriptors that may be open beyond those of the first look: sealed segments come and go.
const DESCRIPTORS: u64 = 40;
/// Disk beyond that of the first look, in bytes: one segment and a file written ahead.
const DISK_BYTES: u64 = 600 << 20;

/// What the broker holds while nobody is there.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Kills before this look.
    life: u64,
    memory: u64,
    descriptors: u64,
    disk: u64,
}

#[test]
fn a_broker_that_goes_through_trial_after_trial_does_not_grow() {
    let seed = plan::environment("LOGDRIVE_SEED").unwrap_or_else(|| fastrand::u64(..));
    let wanted = plan::environment("LOGDRIVE_SOAK").map(Duration::from_secs);
    println!("LOGDRIVE_SEED={seed} LOGDRIVE_SOAK={wanted:?}");
    let (begun, mut dice) = (Instant::now(), Rng::with_seed(seed));
    let mut broker = Broker::start();
    let (mut looks, mut life) = (Vec::new(), 0);
    for round in 1.. {
        let kills = round % KILLING == 0;
        let mut trial = Trial::begin_on(broker, dice.u64(..), true);
        if kills {
            trial.kill_again_and_again(FAULTS);
        } else {
            trial.stop_again_and_again(FAULTS);
        }
        let told = trial.end(kills);
        if kills {
            life += 1;
        }
        let report = history::check(told.notes);
        assert!(
            report.is_clean(),
            "LOGDRIVE_SEED={seed}, round {round}\n{report}"
        );
        assert!(
            report.sizes_zero(),
            "LOGDRIVE_SEED={seed}, round {round}\n{report}"
        );
        broker = trial.clear();
        let held = look(&broker, life);
        println!(
            "round {round}, {:.0?}: life {life}, {} MB of memory, {} descriptors, {} MB of disk",
            begun.elapsed(),
            held.memory >> 20,
            held.descriptors,
            held.disk >> 20,
        );
        looks.push(held);
        compare(&looks);
        let over = wanted.map_or(round >= ROUNDS, |wanted| begun.elapsed() >= wanted);
        if over {
            break;
        }
    }
    broker.stop();
}

fn look(broker: &Broker, life: u64) -> Held {
    let process = format!("/proc/{}", broker.process());
    let process = Path::new(&process);
    let status = std::fs::read_to_string(process.join("status")).unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    Held {
        life,
        memory: kib << 10,
        descriptors: process.join("fd").read_dir().unwrap().count() as u64,
        disk: disk(&broker.data()),
    }
}

/// Bytes of the files of a directory.
fn disk(directory: &Path) -> u64 {
    let files = directory.read_dir().unwrap().filter_map(Result::ok);
    // One may be removed meanwhile.
    files
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .sum()
}

fn compare(looks: &[Held]) {
    let (first, last) = (looks[0], looks[looks.len() - 1]);
    assert!(
        last.descriptors <= first.descriptors + DESCRIPTORS,
        "descriptors grow: {looks:#?}"
    );
    assert!(
        last.disk <= first.disk + DISK_BYTES,
        "the disk fills: {looks:#?}"
    );
    let mut life = looks.iter().filter(|look| look.life == last.life);
    if let Some(warm) = life.nth(WARM) {
        assert!(
            last.memory <= warm.memory + MEMORY_BYTES,
            "memory grows: {looks:#?}"
        );
    }
}

//! Every write, change of length, sync, create, rename, unlink and sync of the directory fails once.
//!
//! What is promised, whichever of them fails and whether with `EIO` or with `ENOSPC`:
//!
//! - nothing is acknowledged in a flush after a call on its file has failed;
//! - the store goes FAILED and comes back by itself, with everything that was acknowledged, once and
//!   in order; besides that, each flush whose outcome is unknown is there whole or not at all;
//! - producers that were not answered send again, and nothing is there twice;
//! - all that holds afterwards, after a kill, and after a power cut that follows.
//!
//! ```text
//! cargo test -p logdrive --lib failing_io                                  every call of 4 seeds
//! LOGDRIVE_CUTS=all cargo test --release -p logdrive --lib failing_io      of 100 seeds
//! ```

use std::sync::Arc;

use fastrand::Rng;

use super::store::Store;
use super::{IMAGES, tiny, wanted_images};
use crate::storage::disk::{Fault, SimDisk};

/// Steps of one workload.
const STEPS: u32 = 24;
/// Seeds, each with every call failing in turn.
const SEEDS: u64 = 4;
/// Seeds at most, whatever `LOGDRIVE_CUTS` says.
const ALL_SEEDS: u64 = 100;
/// A workload has fewer changes of the disk than this.
const MOST_CHANGES: u64 = 100_000;

/// Runs a workload of which one change fails; whether it came that far.
fn check(seed: u64, failing: u64, fault: Fault) -> Result<bool, String> {
    let options = tiny(seed);
    let disk = SimDisk::new(seed ^ failing);
    disk.record();
    disk.fail_change(failing, fault);
    let open = |disk: &SimDisk| {
        let random = Rng::with_seed(seed);
        Store::open(disk, &options, &[Arc::default()], random)
    };
    // A failure at the very start is an error, and the next attempt succeeds.
    let mut store = match open(&disk) {
        Err(_) if disk.changes() >= failing => open(&disk)?,
        other => other?,
    };
    for step in 0..STEPS {
        store
            .step()
            .map_err(|what| format!("step {step}: {what}"))?;
    }
    store.check()?;
    let changes = disk.changes();
    if changes < failing {
        return Ok(false);
    }
    let mut dice = Rng::with_seed(seed ^ failing);
    let (cut, timeline) = (dice.u64(failing..=changes), &store.timeline);
    // Some time after the failure the power goes,
    let image = disk.image(cut, dice.u64(..)).ok_or("no such moment")?;
    let found = Store::open(&image, &options, &timeline.at(cut), dice.fork());
    found.map_err(|what| format!("after a power cut after change {cut}: {what}"))?;
    image.cut_after(0);
    // or the process is killed, the next one knows nothing of it and goes on, and the power goes then.
    let left = disk.killed(cut, dice.u64(..)).ok_or("no such moment")?;
    let next = Store::open(&left, &options, &timeline.at(cut), dice.fork());
    let mut next = next.map_err(|what| format!("after a kill after change {cut}: {what}"))?;
    next.step()?;
    let may_be = next.timeline.at_end();
    let last = left.power_cut();
    let found = Store::open(&last, &options, &may_be, dice.fork());
    found.map_err(|what| format!("after a kill after change {cut} and a power cut: {what}"))?;
    last.cut_after(0);
    Ok(true)
}

/// Every `step`th change from `first` on, of one seed or of many.
fn check_all(fault: Fault, first: u64, step: usize) {
    let seeds = SEEDS * wanted_images() / IMAGES;
    for seed in 0..seeds.clamp(1, ALL_SEEDS) {
        let mut reached = 0;
        for failing in (first..MOST_CHANGES).step_by(step) {
            match check(seed, failing, fault) {
                Ok(true) => reached += 1,
                Ok(false) => break,
                Err(what) => panic!("seed {seed}, change {failing} fails with {fault:?}: {what}"),
            }
        }
        println!("seed {seed}: {reached} changes failed");
        assert!(reached > 40, "only {reached} changes of seed {seed}");
    }
}

#[test]
fn every_odd_change_fails_with_eio() {
    check_all(Fault::Broken, 1, 2);
}

#[test]
fn every_even_change_fails_with_eio() {
    check_all(Fault::Broken, 2, 2);
}

#[test]
fn every_odd_change_fails_with_enospc() {
    check_all(Fault::Full, 1, 2);
}

#[test]
fn every_even_change_fails_with_enospc() {
    check_all(Fault::Full, 2, 2);
}

//! Images of a disk after a power cut, taken from one recorded course of a store.
//!
//! Owns the dice of images: image `n` of seed `s` is always the same, and so are those that are
//! taken below it, of a cut in its recovery or in what came after. Its neighbours: a
//! [`Store`] makes the course and judges what is found, [`power_cuts`](super::power_cuts) says how
//! many.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use fastrand::Rng;

use super::engine::Engine;
use super::store::{Counts, Store};
use super::timeline::Timeline;
use super::tiny;
use crate::storage::disk::{Call, SimDisk};
use crate::storage::{Options, Recovered};

/// Steps of one course.
const STEPS: u32 = 50;
/// One in so many images is recorded in its turn, and gives images of its own recovery.
const DESCENDS: u8 = 8;
/// One in so many is what a killed process leaves; the power goes later.
const KILLED: u8 = 16;
/// Images of one recovery.
const BELOW: u8 = 4;
/// How deep cuts follow upon cuts.
const DEEPEST: usize = 4;
/// Steps after a recovery at most.
const STEPS_AFTER: u32 = 4;

/// How many images were looked at: of the first cut, of a cut after that, and so on.
pub(super) type Depths = [u64; DEEPEST];

/// What is wrong with a store or its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// The disk ignores so many of a hundred syncs.
    Lies(u8),
    /// Changes are announced before they are written.
    AnswersEarly,
}

/// A store's life on a disk of which every moment is kept.
#[derive(Debug)]
pub(super) struct Course {
    seed: u64,
    has_threads: bool,
    options: Options,
    life: Life,
    /// How often what was done in it.
    pub(super) counts: Counts,
}

#[derive(Debug)]
struct Life {
    disk: SimDisk,
    timeline: Timeline,
}

/// What is wrong, and with which image.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) text: String,
}

impl Course {
    /// Runs the workload of a seed once.
    pub(super) fn record(seed: u64, fault: Fault) -> Self {
        let disk = Self::recording(seed, fault);
        let opened = Engine::inline(&disk, &tiny(seed));
        Self::run(seed, fault, disk, opened.unwrap())
    }

    /// The same over the storage with its threads: each time somewhat different.
    pub(super) fn record_threads(seed: u64) -> Self {
        let disk = Self::recording(seed, Fault::None);
        let opened = Engine::threads(&disk, &tiny(seed));
        Self::run(seed, Fault::None, disk, opened.unwrap())
    }

    fn recording(seed: u64, fault: Fault) -> SimDisk {
        let disk = SimDisk::new(seed);
        disk.record();
        if let Fault::Lies(percent) = fault {
            disk.ignore_syncs(percent);
        }
        disk
    }

    fn run(seed: u64, fault: Fault, disk: SimDisk, opened: (Engine, Recovered)) -> Self {
        let has_threads = opened.0.has_threads();
        let fails = fault == Fault::None && !has_threads && seed % 2 == 1;
        let random = Rng::with_seed(seed);
        let mut store = Store::over(opened, &disk, &[Arc::default()], random).unwrap();
        if fault == Fault::AnswersEarly {
            store.answer_early();
        }
        for step in 0..STEPS {
            if fails && matches!(step, 9 | 22) {
                disk.fail_next(Call::Sync);
            }
            let outcome = store.step();
            outcome.unwrap_or_else(|what| panic!("seed {seed}, step {step}: {what}"));
        }
        let (timeline, counts) = store.close();
        Self {
            seed,
            has_threads,
            options: tiny(seed),
            life: Life { disk, timeline },
            counts,
        }
    }

    /// Changes of the disk in the whole course.
    pub(super) fn changes(&self) -> u64 {
        self.life.disk.changes()
    }

    /// The disk after a cut at the end, by one dice.
    pub(super) fn last_image(&self) -> SimDisk {
        self.life.disk.image(self.changes(), 1).unwrap()
    }

    /// Takes the image of a number and those below it, and says how many were looked at.
    pub(super) fn check(&self, number: u64) -> Result<Depths, Violation> {
        // Neighbouring numbers must not give similar dice.
        let mut dice = Rng::with_seed(self.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (mut path, mut depths) = (Vec::new(), Depths::default());
        let checked = catch_unwind(AssertUnwindSafe(|| {
            self.explore(&self.life, &mut dice, &mut path, &mut depths)
        }));
        let checked = checked.unwrap_or_else(|panic| Err(panic_text(&*panic)));
        checked.map(|()| depths).map_err(|what| {
            let (seed, path) = (self.seed, path.join(", then "));
            let again = if self.has_threads {
                "it was with threads, and comes another way each time".to_owned()
            } else {
                format!("LOGDRIVE_CUT={seed}:{number} (see power_cuts.rs)")
            };
            let text = format!("{what}\nafter {path}; to see it again: {again}");
            Violation { text }
        })
    }

    fn explore(
        &self,
        life: &Life,
        dice: &mut Rng,
        path: &mut Vec<String>,
        depths: &mut Depths,
    ) -> Result<(), String> {
        let changes = life.disk.changes();
        let (cut, seed) = (dice.u64(0..=changes), dice.u64(..));
        // A process that is killed leaves what nobody has synced: the next one sees it, and a cut
        // may take it then.
        let is_killed = dice.u8(..KILLED) == 0;
        let what = if is_killed { "a kill" } else { "a cut" };
        path.push(format!(
            "{what} after change {cut} of {changes} (dice {seed})"
        ));
        depths[path.len() - 1] += 1;
        let disk = if is_killed {
            life.disk.killed(cut, seed)
        } else {
            life.disk.image(cut, seed)
        };
        let disk = disk.ok_or("no such moment")?;
        let descends = path.len() < DEEPEST && (is_killed || dice.u8(..DESCENDS) == 0);
        if descends {
            disk.record();
        }
        let may_be = life.timeline.at(cut);
        let mut store = Store::open(&disk, &self.options, &may_be, dice.fork())?;
        if !descends {
            // Closing it would take as long as opening it.
            disk.cut_after(0);
            return Ok(());
        }
        for _ in 0..dice.u32(..=STEPS_AFTER) {
            store.step()?;
        }
        store.check()?;
        let timeline = if dice.bool() {
            store.close().0
        } else {
            // A process that is killed closes nothing.
            disk.cut_after(0);
            store.abandon()
        };
        let below = Life { disk, timeline };
        for _ in 0..BELOW {
            self.explore(&below, dice, path, depths)?;
            path.pop();
        }
        Ok(())
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("it panicked: {}", text.unwrap_or("without a word"))
}

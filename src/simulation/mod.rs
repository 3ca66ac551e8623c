//! Broker, clients and checker in one process, on a simulated network, disk and clock, from a seed.
//!
//! ```text
//!   supervisor ─┐             partitions, holds,           ┌─ broker: server, topics,
//!   host one  ──┼── client ── delays, cuts ── turmoil ─────┤    storage inline ── SimDisk
//!   host two  ──┘  notes ──► history checker               └─ crashes, power cuts, clock steps
//! ```
//!
//! All of it is the real thing but for what it stands on: sockets, disk, clock and threads. It runs
//! on one thread, and whatever is random comes from the seed: the network's delays and losses, the
//! faults and what they leave on the disk, worker ids and pauses of the client, what players do.
//! Equal seeds therefore give equal traces, and a failure is found again by its number.
//!
//! | command | what it does |
//! |---|---|
//! | `cargo test -p logdrive --lib simulation` | 200 seeds, some twice, and all planted bugs |
//! | `LOGDRIVE_SIMULATIONS=100000 cargo test … -- no_promise --nocapture` | so many seeds, with progress |
//! | `LOGDRIVE_FROM=n` | the first of them |
//! | `LOGDRIVE_TWICE=n cargo test … -- the_same` | so many seeds twice |
//! | `LOGDRIVE_SEED=n` | that seed alone, and its last events in words where it fails |
//! | `LOGDRIVE_TRACE=file` | all events of a seed that failed |
//!
//! | module | owns |
//! |---|---|
//! | [`run`] | one simulation from its seed to its verdict |
//! | [`host`] | the machine that the broker runs on |
//! | [`faults`] | what goes wrong, and when |
//! | [`wire`] | the connections |
//! | [`plan`], [`course`] | who takes part; what they share |
//! | [`producers`], [`readers`], [`leases`] | who produces, reads and works with leases |
//! | [`trace`] | the digest, and simulated time |
//!
//! Nothing here judges records: the [history checker](crate::history) does, as where a broker is
//! killed. That it would see what it should is shown with [planted](crate::planted) bugs.
//!
//! # What makes two runs differ
//!
//! An unbiased `select!`, the order of a `HashMap`, several tasks that wait for one `watch` channel
//! (tokio wakes them in a random order), the machine's clock, a thread. None of these may decide
//! what the broker or the client do next.

mod course;
mod faults;
mod host;
mod leases;
mod plan;
mod producers;
mod readers;
mod run;
mod trace;
mod wire;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::planted::Bug;

/// Seeds without `LOGDRIVE_SIMULATIONS`.
const SIMULATIONS: u64 = 200;
/// Seeds that are run twice, without `LOGDRIVE_TWICE`.
const TWICE: u64 = 16;
/// Seeds within which a planted bug must be found.
const SEEDS_TO_A_BUG: u64 = 1_000;
/// How often progress is shown.
const PROGRESS: Duration = Duration::from_secs(10);
/// Events in words that a failure shows.
const LAST_EVENTS: usize = 80;

/// A number from the environment, which must be one if it is there.
fn environment(name: &str) -> Option<u64> {
    let given = std::env::var(name).ok()?;
    let number = given.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={given} is not a number")))
}

/// Runs a seed twice; where both are not the same, shows where they part.
fn check_twice(seed: u64) {
    let (one, words) = (run::run(seed, None, true), trace::words());
    let (other, others) = (run::run(seed, None, true), trace::words());
    if one.digest == other.digest && words == others {
        return;
    }
    let same = words
        .iter()
        .zip(&others)
        .take_while(|(one, other)| one == other);
    let at = same.count();
    for words in [&words, &others] {
        let near = at.saturating_sub(10)..words.len().min(at + 5);
        println!("{}\n", words[near].join("\n"));
    }
    panic!("LOGDRIVE_SEED={seed}: event {at} is another one the second time");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..environment("LOGDRIVE_TWICE").unwrap_or(TWICE) {
        check_twice(seed);
    }
}

#[test]
fn another_seed_gives_another_trace() {
    assert_ne!(
        run::run(1, None, false).digest,
        run::run(2, None, false).digest
    );
}

/// Runs a seed again, and shows how it came to its verdict.
fn show(seed: u64, verdict: &str) {
    let again = run::run(seed, None, true);
    let words = trace::words();
    if let Ok(path) = std::env::var("LOGDRIVE_TRACE") {
        std::fs::write(path, words.join("\n")).unwrap();
    }
    let last = words.len().saturating_sub(LAST_EVENTS);
    println!("{}", words[last..].join("\n"));
    println!("LOGDRIVE_SEED={seed}: {verdict}");
    if again.verdict.as_ref().err().map(String::as_str) != Some(verdict) {
        println!("LOGDRIVE_SEED={seed}: the second time it was {again:?}");
    }
}

/// What all seeds of a run have shown together.
#[derive(Debug, Default)]
struct Sums {
    next: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    acknowledged: AtomicU64,
    starts: AtomicU64,
    simulated_ms: AtomicU64,
    shown_at: AtomicU64,
}

impl Sums {
    fn of(&self, outcome: &run::Outcome) {
        let add = |to: &AtomicU64, more| to.fetch_add(more, Ordering::Relaxed);
        add(&self.done, 1);
        add(&self.acknowledged, outcome.acknowledged);
        add(&self.starts, outcome.starts);
        let simulated = u64::try_from(outcome.simulated.as_millis()).unwrap();
        add(&self.simulated_ms, simulated);
        add(&self.failed, u64::from(outcome.verdict.is_err()));
    }

    fn show(&self, began: Instant) {
        let read = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let took = began.elapsed();
        println!(
            "{} simulations in {took:.0?}, {} failed: {} s simulated, {} records acknowledged, {} \
             starts of a broker",
            read(&self.done),
            read(&self.failed),
            read(&self.simulated_ms) / 1_000,
            read(&self.acknowledged),
            read(&self.starts),
        );
    }
}

#[test]
fn no_promise_is_broken_whatever_fails() {
    let first = environment("LOGDRIVE_SEED").or(environment("LOGDRIVE_FROM"));
    let first = first.unwrap_or(0);
    let count = match environment("LOGDRIVE_SEED") {
        Some(_) => 1,
        None => environment("LOGDRIVE_SIMULATIONS").unwrap_or(SIMULATIONS),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (sums, began) = (Sums::default(), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = sums.next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let outcome = run::run(first + number, None, false);
                    sums.of(&outcome);
                    if count == 1 {
                        println!("{outcome:?}");
                    }
                    if let Err(verdict) = &outcome.verdict {
                        show(first + number, verdict);
                    }
                    let round = began.elapsed().as_secs() / PROGRESS.as_secs();
                    if sums.shown_at.fetch_max(round, Ordering::Relaxed) < round {
                        sums.show(began);
                    }
                }
            });
        }
    });
    sums.show(began);
    assert_eq!(sums.failed.into_inner(), 0, "of {count} seeds from {first}");
}

/// Runs seeds until one of them shows that the broker has the bug.
fn check_bug(bug: Bug) {
    let found = (0..SEEDS_TO_A_BUG).find_map(|seed| {
        let verdict = run::run(seed, Some(bug), false).verdict.err()?;
        Some((seed, verdict))
    });
    let Some((seed, verdict)) = found else {
        panic!("{bug:?}: not found in {SEEDS_TO_A_BUG} seeds");
    };
    println!("{bug:?}: found by seed {seed}: {verdict:.400}");
}

#[test]
fn every_planted_bug_is_found() {
    for bug in Bug::ALL {
        check_bug(bug);
    }
}

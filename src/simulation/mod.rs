//! Broker, clients and checker in one process, on a simulated network, disk and clock.

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

use std::time::Instant;

use run::Outcome;

/// A number from the environment, which must be one if it is there.
fn environment(name: &str) -> Option<u64> {
    let given = std::env::var(name).ok()?;
    let number = given.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={given} is not a number")))
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..40 {
        let (one, words) = (run::run(seed, None, true), trace::words());
        let (other, others) = (run::run(seed, None, true), trace::words());
        if one.digest == other.digest {
            continue;
        }
        let same = words.iter().zip(&others).take_while(|(a, b)| a == b);
        let at = same.count();
        for words in [&words, &others] {
            let near = at.saturating_sub(10)..words.len().min(at + 5);
            println!("{}\n", words[near].join("\n"));
        }
        panic!("LOGDRIVE_SEED={seed}: event {at} is another one");
    }
}

/// Whether a failure shall be shown: once more, in words.
fn show(seed: u64, outcome: &Outcome) {
    let verdict = outcome.verdict.as_ref().unwrap_err();
    let _again = run::run(seed, None, true);
    let words = trace::words();
    if let Ok(path) = std::env::var("LOGDRIVE_TRACE") {
        std::fs::write(path, words.join("\n")).unwrap();
    }
    let last = words.len().saturating_sub(60);
    println!("{}", words[last..].join("\n"));
    println!("LOGDRIVE_SEED={seed}: {verdict}");
}

#[test]
fn no_promise_is_broken_whatever_fails() {
    let only = environment("LOGDRIVE_SEED");
    let count = environment("LOGDRIVE_SIMULATIONS").unwrap_or(200);
    let seeds = only.map_or(0..count, |seed| seed..seed + 1);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    let began = Instant::now();
    let failed = std::sync::atomic::AtomicU64::new(0);
    let done = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = run::run(seed, None, false);
                    if outcome.verdict.is_err() {
                        failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        show(seed, &outcome);
                    }
                    let done = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                    if done % 100 == 0 {
                        println!(
                            "{done} seeds, {:.1} each second",
                            done as f64 / began.elapsed().as_secs_f64()
                        );
                    }
                }
            });
        }
    });
    assert_eq!(failed.into_inner(), 0);
}

#[test]
fn every_planted_bug_is_found() {
    let only = std::env::var("LOGDRIVE_BUG").ok();
    let bugs = crate::planted::Bug::ALL.into_iter();
    for bug in bugs.filter(|it| only.as_ref().is_none_or(|only| *only == format!("{it:?}"))) {
        let began = Instant::now();
        let caught = (0..1_000).find_map(|seed| {
            run::run(seed, Some(bug), false)
                .verdict
                .err()
                .map(|it| (seed, it))
        });
        match caught {
            Some((seed, verdict)) => println!(
                "{bug:?}: seed {seed}, {:?}: {verdict:.600}",
                began.elapsed()
            ),
            None => println!("{bug:?} IS NOT FOUND"),
        }
    }
}

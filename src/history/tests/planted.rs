//! Random clean histories, and the same with exactly one fault planted.
//!
//! Owns one way or several to break each promise of [`watched`](super::watched), which makes no
//! mistake itself. Every seed is printed on failure; `LOGDRIVE_SEED` runs that one alone.

use fastrand::Rng;

use super::watched::{PRODUCERS, Watched, any, clean, print_of};
use crate::history::{Fault, Read, Recorder, Report, check};

const HISTORIES: usize = 200;
const TOPICS: [&str; 3] = ["T-1", "T-2", "T-3"];

/// Breaks one promise, once, in one of several ways.
fn plant(fault: Fault, watched: &mut Watched, rng: &mut Rng) {
    let (acked, stored) = (any(rng, &watched.acknowledged), any(rng, &watched.last));
    let (producer, sequence, offset) = watched.acknowledged[acked];
    let free = watched.last[stored].offset + 1;
    let consumer = any(rng, &watched.consumers);
    let fetch = any(rng, &watched.fetches);
    let first = &mut watched.consumers[consumer][0].2;
    match fault {
        Fault::Lost => watched.remove(offset, rng.bool()),
        Fault::TwoValues => {
            let reads = if rng.bool() {
                first
            } else {
                &mut watched.fetches[fetch].2
            };
            let at = any(rng, reads);
            let (producer, sequence) = watched.sent[any(rng, &watched.sent)];
            // Sent, or the neighbour's where chance chose the record itself.
            let wrong = print_of(producer, sequence);
            let other = reads[(at + 1) % reads.len()].fingerprint;
            reads[at].fingerprint = if wrong == reads[at].fingerprint {
                other
            } else {
                wrong
            };
        }
        Fault::Duplicated => {
            let again = watched.last[any(rng, &watched.last)].fingerprint;
            watched.insert(Read {
                offset: free,
                fingerprint: again,
            });
        }
        Fault::Phantom => match rng.u8(..3) {
            0 => watched.insert(Read {
                offset: free,
                fingerprint: rng.u64(..),
            }),
            1 => watched.acknowledged.push((producer, 1_000_000, free)),
            _ => {
                watched.acknowledged.remove(acked);
                watched.reported_lost.push((producer, sequence));
            }
        },
        Fault::OutOfOrder => match rng.u8(..3) {
            0 => first.swap(1, 2),
            1 => watched.fetches[fetch].2.swap(1, 2),
            _ => swap_producers_records(watched, rng),
        },
        Fault::Skipped => {
            let reads = if rng.bool() {
                first
            } else {
                &mut watched.fetches[fetch].2
            };
            reads.remove(1);
        }
        Fault::Repeated => match rng.u8(..3) {
            0 => {
                let reads = &mut watched.fetches[fetch].2;
                reads.insert(2, reads[rng.usize(..2)]);
            }
            1 => first.push(first[1]),
            _ => {
                let again = first.clone().split_off(3);
                watched.consumers[consumer].push((rng.u64(..4), 1_000_000, again));
            }
        },
        Fault::OffsetReused => {
            let held = watched
                .last
                .iter()
                .filter(|read| read.offset != offset)
                .nth(stored / 2);
            watched.acknowledged[acked].2 = held.unwrap().offset;
        }
        Fault::SizeWrong => {
            let size = &mut watched.sizes[consumer];
            *size = if *size > 0 && rng.bool() {
                0
            } else {
                *size + rng.u64(1..9)
            };
        }
        _ => panic!("{fault} is planted where there are leases"),
    }
}

/// Exchanges two records of one producer that follow each other, for everybody.
fn swap_producers_records(watched: &mut Watched, rng: &mut Rng) {
    let mut of: Vec<_> = PRODUCERS.iter().map(|_| Vec::new()).collect();
    for read in &watched.last {
        let sent = watched
            .sent
            .iter()
            .find(|(p, s)| print_of(p, *s) == read.fingerprint)
            .unwrap();
        of[PRODUCERS.iter().position(|p| *p == sent.0).unwrap()].push(*read);
    }
    of.retain(|reads| reads.len() > 1);
    let reads = &of[any(rng, &of)];
    let at = rng.usize(..reads.len() - 1);
    let [one, other] = [reads[at], reads[at + 1]];
    for read in watched.all_reads() {
        if read.offset == one.offset {
            read.fingerprint = other.fingerprint;
        } else if read.offset == other.offset {
            read.fingerprint = one.fingerprint;
        }
    }
    for (_, _, offset) in &mut watched.acknowledged {
        if *offset == one.offset {
            *offset = other.offset;
        } else if *offset == other.offset {
            *offset = one.offset;
        }
    }
}

pub(super) fn seeds() -> Vec<u64> {
    match std::env::var("LOGDRIVE_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..HISTORIES).map(|_| fastrand::u64(..)).collect(),
    }
}

/// The verdict over three topics, the second one perhaps with a fault.
fn verdict(seed: u64, fault: Option<Fault>) -> Report {
    let mut rng = Rng::with_seed(seed);
    let mut clients: Vec<_> = (0..rng.usize(1..6)).map(|_| Recorder::new()).collect();
    for topic in TOPICS {
        let mut watched = clean(&mut rng);
        if let (Some(fault), "T-2") = (fault, topic) {
            plant(fault, &mut watched, &mut rng);
        }
        watched.record(topic, &mut clients);
    }
    rng.shuffle(&mut clients);
    check(clients)
}

/// The planted fault is reported, in its topic, once, and nothing else is.
#[track_caller]
fn check_planted(fault: Fault) {
    for seed in seeds() {
        let report = verdict(seed, Some(fault));
        let found: Vec<_> = report
            .anomalies()
            .iter()
            .map(|anomaly| (anomaly.fault, &*anomaly.topic))
            .collect();
        assert_eq!(found, [(fault, "T-2")], "LOGDRIVE_SEED={seed}\n{report}");
        let counted: Vec<_> = Fault::ALL
            .iter()
            .map(|&fault| report.count(fault))
            .collect();
        assert_eq!(
            counted.iter().sum::<u64>(),
            1,
            "LOGDRIVE_SEED={seed}\n{report}"
        );
    }
}

#[test]
fn a_clean_history_has_no_anomaly_and_is_not_empty() {
    for seed in seeds() {
        let report = verdict(seed, None);
        assert!(report.is_clean(), "LOGDRIVE_SEED={seed}\n{report}");
        let outcomes = report.acknowledged + report.unknown + report.reported_lost;
        assert_eq!(report.sent, outcomes, "LOGDRIVE_SEED={seed}");
        assert!(
            report.finally_read >= report.acknowledged,
            "LOGDRIVE_SEED={seed}"
        );
        assert!(
            report.consumed > report.finally_read,
            "LOGDRIVE_SEED={seed}"
        );
        assert_eq!(report.sizes, 9, "LOGDRIVE_SEED={seed}");
    }
}

#[test]
fn the_order_of_clients_changes_nothing_in_the_report() {
    for seed in seeds() {
        let mut rng = Rng::with_seed(seed);
        let mut watched = clean(&mut rng);
        plant(Fault::TwoValues, &mut watched, &mut rng);
        let told = |reverse: bool| {
            let mut clients: Vec<_> = (0..4).map(|_| Recorder::new()).collect();
            watched.record("T-1", &mut clients);
            if reverse {
                clients.reverse();
            }
            check(clients)
        };
        assert_eq!(told(false), told(true), "LOGDRIVE_SEED={seed}");
    }
}

#[test]
fn a_planted_loss_is_reported_as_exactly_that() {
    check_planted(Fault::Lost);
}

#[test]
fn planted_two_values_are_reported_as_exactly_that() {
    check_planted(Fault::TwoValues);
}

#[test]
fn a_planted_duplicate_is_reported_as_exactly_that() {
    check_planted(Fault::Duplicated);
}

#[test]
fn a_planted_phantom_is_reported_as_exactly_that() {
    check_planted(Fault::Phantom);
}

#[test]
fn a_planted_step_back_is_reported_as_exactly_that() {
    check_planted(Fault::OutOfOrder);
}

#[test]
fn a_planted_skip_is_reported_as_exactly_that() {
    check_planted(Fault::Skipped);
}

#[test]
fn a_planted_repetition_is_reported_as_exactly_that() {
    check_planted(Fault::Repeated);
}

#[test]
fn a_planted_reuse_of_an_offset_is_reported_as_exactly_that() {
    check_planted(Fault::OffsetReused);
}

#[test]
fn a_planted_wrong_size_is_reported_as_exactly_that() {
    check_planted(Fault::SizeWrong);
}

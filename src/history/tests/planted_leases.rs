//! Random clean histories of leases, and the same with exactly one fault planted.
//!
//! Owns one way or several to break each promise of [`lending`](super::lending), which makes no
//! mistake itself. Every seed is printed on failure; `LOGDRIVE_SEED` runs that one alone.

use fastrand::Rng;

use super::lending::{Answer, LASTS, Lending, clean};
use super::planted::seeds;
use super::watched::any;
use crate::history::{Fault, Recorder, Report, Verdict, check};

const TOPICS: [&str; 3] = ["T-1", "T-2", "T-3"];

/// A record whose only lease ended in time with an answered ack: answer, place in it, and when.
fn acked_at_once(lending: &Lending, rng: &mut Rng) -> Option<(usize, usize, u64)> {
    let mut found = Vec::new();
    for (at, answer) in lending.answers.iter().enumerate() {
        let is_gone = lending.gone.iter().any(|gone| gone.0 == answer.worker);
        for (place, lent) in answer.lent.iter().enumerate() {
            let offset = lent.read.offset;
            let lends = |it: &&Answer| it.lent.iter().any(|lent| lent.read.offset == offset);
            let is_only = lending.answers.iter().filter(lends).count() == 1;
            let mut tried = lending.settled.iter().filter(|it| it.1 == offset);
            if let (Some(&(of, _, _, Verdict::Acked(acked))), None) = (tried.next(), tried.next())
                && (of, is_only, is_gone) == (at, true, false)
                && acked < answer.asked + LASTS / 2
            {
                found.push((at, place, acked));
            }
        }
    }
    (!found.is_empty()).then(|| found[any(rng, &found)])
}

/// Breaks one promise, once, in one of several ways; `None` where chance gave no occasion.
fn plant(fault: Fault, lending: &mut Lending, rng: &mut Rng) -> Option<()> {
    let (at, place, acked) = acked_at_once(lending, rng)?;
    let answer = lending.answers[at].clone();
    let lent = answer.lent[place];
    let offset = lent.read.offset;
    match fault {
        Fault::AckLost if rng.bool() => lending.letters.push((lent.read, 1)),
        Fault::AckLost => {
            let late = 1_000_000;
            lending.answers.push(Answer {
                number: lending.answers.last()?.number + 1,
                asked: late,
                received: late + 10,
                lent: vec![lent],
                ..answer
            });
            if rng.bool() {
                lending.ack_last(offset, late + 20);
            }
        }
        Fault::HeldTwice => {
            lending.answers.push(Answer {
                worker: answer.worker + 100,
                number: answer.number + rng.u64(..2),
                lent: vec![lent],
                ..answer
            });
            lending.ack_last(offset, acked);
        }
        Fault::CutShort => {
            let refused = Verdict::AckRefused(answer.received);
            lending.settled.push((at, offset, answer.received, refused));
        }
        Fault::CountWrong if rng.bool() => lending.letters.first_mut()?.1 = 0,
        Fault::CountWrong => come_again_uncounted(lending)?,
        Fault::GapWrong => match rng.u8(..4) {
            0 => lending.gaps.push(lending.gaps[rng.usize(..2)]),
            1 => lending.gaps[1].to += 1,
            2 => lending.gaps[rng.usize(..2)].records -= 1,
            _ => lending.gaps[rng.usize(..2)].records += 100,
        },
        Fault::Skipped if rng.bool() => {
            lending.gaps[1].from += 2;
            lending.gaps[1].records -= 1;
            (lending.gaps[1].records > 0).then_some(())?;
        }
        Fault::Skipped => {
            (lending.last.last()?.offset != offset).then_some(())?;
            lending.answers[at].lent.remove(place);
            lending.settled.retain(|it| it.1 != offset);
        }
        Fault::Repeated if rng.bool() => lending.letters.push(*lending.letters.first()?),
        Fault::Repeated => lending.answers[at].lent.insert(place, lent),
        Fault::OutOfOrder => {
            (answer.lent.len() > 1).then_some(())?;
            lending.answers[at].lent.swap(0, 1);
        }
        Fault::SizeWrong => lending.size += 1000,
        _ => panic!("{fault} is planted elsewhere"),
    }
    Some(())
}

/// A record that was given back, which was answered, comes again as if it had not been.
fn come_again_uncounted(lending: &mut Lending) -> Option<()> {
    let nacked = lending.settled.iter().filter(|it| it.3 == Verdict::Nacked);
    let nacked: Vec<_> = nacked.map(|it| (it.0, it.1)).collect();
    nacked.into_iter().find_map(|(at, offset)| {
        let mut later = lending.answers[at + 1..]
            .iter_mut()
            .flat_map(|it| &mut it.lent);
        later.find(|lent| lent.read.offset == offset)?.deliveries -= 1;
        Some(())
    })
}

/// The verdict over three topics, the second one perhaps with a fault.
fn verdict(seed: u64, fault: Option<Fault>) -> Report {
    let mut rng = Rng::with_seed(seed);
    let mut clients: Vec<_> = (0..rng.usize(1..6)).map(|_| Recorder::new()).collect();
    for topic in TOPICS {
        let lending = loop {
            let keyed = match fault {
                None => rng.bool(),
                Some(fault) => fault == Fault::KeyOrder,
            };
            let breaks = topic == "T-2" && fault == Some(Fault::KeyOrder);
            let mut lending = clean(&mut rng, keyed, breaks);
            let is_planted = match fault {
                Some(Fault::KeyOrder) if breaks => lending.is_broken,
                Some(fault) if topic == "T-2" => plant(fault, &mut lending, &mut rng).is_some(),
                _ => true,
            };
            if is_planted {
                break lending;
            }
        };
        lending.record(topic, &mut clients);
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
    }
}

#[test]
fn a_clean_history_of_leases_has_no_anomaly_and_is_not_empty() {
    for seed in seeds() {
        let report = verdict(seed, None);
        assert!(report.is_clean(), "LOGDRIVE_SEED={seed}\n{report}");
        let told = [report.lent_again, report.acked, report.gaps];
        assert!(
            told.iter().all(|&it| it > 0),
            "LOGDRIVE_SEED={seed}\n{report}"
        );
        assert_eq!(report.sizes, 3, "LOGDRIVE_SEED={seed}");
    }
}

#[test]
fn a_planted_loss_of_an_ack_is_reported_as_exactly_that() {
    check_planted(Fault::AckLost);
}

#[test]
fn a_planted_second_holder_is_reported_as_exactly_that() {
    check_planted(Fault::HeldTwice);
}

#[test]
fn a_planted_refusal_is_reported_as_exactly_that() {
    check_planted(Fault::CutShort);
}

#[test]
fn a_planted_wrong_count_is_reported_as_exactly_that() {
    check_planted(Fault::CountWrong);
}

#[test]
fn a_planted_key_out_of_turn_is_reported_as_exactly_that() {
    check_planted(Fault::KeyOrder);
}

#[test]
fn a_planted_wrong_gap_is_reported_as_exactly_that() {
    check_planted(Fault::GapWrong);
}

#[test]
fn a_planted_record_that_is_never_lent_or_told_is_reported_as_exactly_that() {
    check_planted(Fault::Skipped);
}

#[test]
fn a_planted_repetition_under_a_lease_is_reported_as_exactly_that() {
    check_planted(Fault::Repeated);
}

#[test]
fn a_planted_step_back_in_an_answer_is_reported_as_exactly_that() {
    check_planted(Fault::OutOfOrder);
}

#[test]
fn a_planted_wrong_size_of_what_is_lent_is_reported_as_exactly_that() {
    check_planted(Fault::SizeWrong);
}

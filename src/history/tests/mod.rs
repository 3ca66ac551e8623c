//! The checker, tested with anomalies that are known.
//!
//! Owns the language in which small histories are written down. Its neighbours: cases about records
//! and cases about deliveries, with their exact words, and random histories with a planted fault.

mod deliveries;
mod planted;
mod records;
mod watched;

use super::{Answer, Origin, Read, Recorder, Report, check, fingerprint};

/// Checks a history written one note a line.
///
/// ```text
///   sent P 1         send P 1 at 0      ... acknowledged at offset 0
///   unknown P 1      lost P 1           acked P 1 at 0
///   final 0 P 1      fetch 7 1 0 P 1    consume C 7 1 0 P 1 (worker 7, answer 1, offset 0)
///   size C 0
/// ```
fn run(history: &str) -> Report {
    let mut recorder = Recorder::new();
    for line in history
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        note(&mut recorder, &line.split(' ').collect::<Vec<_>>());
    }
    check([recorder])
}

fn note(recorder: &mut Recorder, words: &[&str]) {
    let topic = "T";
    let number = |word: &str| word.parse::<u64>().unwrap();
    let origin = |producer, sequence| Origin {
        topic,
        producer,
        sequence: number(sequence),
    };
    let read = |offset, producer, sequence| Read {
        offset: number(offset),
        fingerprint: fingerprint(producer, number(sequence), b"x"),
    };
    match *words {
        ["sent", p, s] => recorder.sent(origin(p, s), fingerprint(p, number(s), b"x")),
        ["send", p, s, "at", offset] => {
            recorder.sent(origin(p, s), fingerprint(p, number(s), b"x"));
            recorder.acknowledged(origin(p, s), number(offset));
        }
        ["acked", p, s, "at", offset] => recorder.acknowledged(origin(p, s), number(offset)),
        ["unknown", p, s] => recorder.unknown(origin(p, s)),
        ["lost", p, s] => recorder.reported_lost(origin(p, s)),
        ["final", offset, p, s] => recorder.finally_read(topic, read(offset, p, s)),
        ["fetch", worker, answer, offset, p, s] => recorder.delivered(
            Answer {
                topic,
                consumer: None,
                worker: number(worker),
                number: number(answer),
            },
            read(offset, p, s),
        ),
        ["consume", c, worker, answer, offset, p, s] => recorder.delivered(
            Answer {
                topic,
                consumer: Some(c),
                worker: number(worker),
                number: number(answer),
            },
            read(offset, p, s),
        ),
        ["size", c, records] => recorder.sized(topic, c, number(records)),
        _ => panic!("no such note: {words:?}"),
    }
}

#[track_caller]
fn check_words(history: &str, expected: &[&str]) {
    let found: Vec<_> = run(history)
        .anomalies()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found, expected);
}

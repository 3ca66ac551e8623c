//! The checker, tested with anomalies that are known.
//!
//! Owns the language in which small histories are written down. Its neighbours: cases about records
//! and cases about deliveries, with their exact words, and random histories with a planted fault.

mod deliveries;
mod leases;
mod lending;
mod planted;
mod planted_leases;
mod records;
mod watched;

use super::{
    Answer, DeadLetter, Lease, Lent, Origin, Read, Recorder, Report, Told, Verdict, check,
    fingerprint,
};

/// Checks a history written one note a line.
///
/// ```text
///   sent P 1         send P 1 at 0      ... acknowledged at offset 0
///   unknown P 1      lost P 1           acked P 1 at 0
///   final 0 P 1      fetch 7 1 0 P 1    consume C 7 1 0 P 1 (worker 7, answer 1, offset 0)
///   size C 0         removed 3          gap C 0..3 records 3
///
///   lease C 7 1 at 10..20 for 100       lease 1 of worker 7, asked at 10, received at 20
///   lent 0 P 1 times 2 [key 5]          ... lends offset 0, which was delivered twice before
///   ack 0 at 30..40                     ... of it is acked: sent at 30, answered at 40
///   ack 0 at 30..?   refused 0 at 30..40   nack 0 at 30   nack? 0 at 30   extend at 30 for 100
///   gone C 7 from 50                    letter C 0 P 1 after 3
/// ```
///
/// What a `lease` begins stands until the next one; `under C 1` goes back to an earlier one.
fn run(history: &str) -> Report {
    let mut recorder = Recorder::new();
    let mut lease = NO_LEASE;
    for line in history
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let words: Vec<_> = line.split(' ').collect();
        if !note_lease(&mut recorder, &mut lease, &words) {
            note(&mut recorder, &words);
        }
    }
    check([recorder])
}

const NO_LEASE: Lease<'static> = Lease {
    topic: "T",
    consumer: "",
    worker: 0,
    number: 0,
    asked: 0,
    received: 0,
    lasts: 0,
};

fn number(word: &str) -> u64 {
    word.parse().unwrap()
}

fn pair(words: &str) -> (u64, u64) {
    let (from, to) = words.split_once("..").unwrap();
    (number(from), number(to))
}

/// Notes a line about leases and gaps, if it is one.
fn note_lease<'a>(recorder: &mut Recorder, lease: &mut Lease<'a>, words: &[&'a str]) -> bool {
    let read = |offset, producer, sequence| Read {
        offset: number(offset),
        fingerprint: fingerprint(producer, number(sequence), b"x"),
    };
    let mut settle = |offset, sent, verdict| {
        recorder.settled(*lease, number(offset), sent, verdict);
    };
    match *words {
        ["lease", consumer, worker, number_of, "at", at, "for", lasts] => {
            let (asked, received) = pair(at);
            *lease = Lease {
                consumer,
                worker: number(worker),
                number: number(number_of),
                asked,
                received,
                lasts: number(lasts),
                ..NO_LEASE
            };
        }
        ["under", consumer, number_of] => {
            (lease.consumer, lease.number) = (consumer, number(number_of));
        }
        ["lent", offset, p, s, "times", times, ref rest @ ..] => {
            let key = if let ["key", key] = rest { key } else { "0" };
            let lent = Lent {
                read: read(offset, p, s),
                deliveries: times.parse().unwrap(),
                key: number(key),
            };
            recorder.lent(*lease, lent);
        }
        ["ack", offset, "at", at] => match at.strip_suffix("..?") {
            Some(sent) => settle(offset, number(sent), Verdict::AckUnknown),
            None => settle(offset, pair(at).0, Verdict::Acked(pair(at).1)),
        },
        ["refused", offset, "at", at] => {
            settle(offset, pair(at).0, Verdict::AckRefused(pair(at).1));
        }
        ["nack", offset, "at", sent] => settle(offset, number(sent), Verdict::Nacked),
        ["nack?", offset, "at", sent] => settle(offset, number(sent), Verdict::NackUnknown),
        ["extend", "at", sent, "for", lasts] => {
            recorder.extended(*lease, number(sent), number(lasts));
        }
        ["gone", consumer, worker, "from", from] => {
            recorder.gone("T", consumer, number(worker), number(from));
        }
        ["letter", consumer, offset, p, s, "after", deliveries] => {
            recorder.given_up(DeadLetter {
                topic: "T",
                consumer,
                read: read(offset, p, s),
                deliveries: deliveries.parse().unwrap(),
            });
        }
        ["gap", consumer, offsets, "records", records] => {
            let (from, to) = pair(offsets);
            let records = number(records);
            recorder.told("T", consumer, Told { from, to, records });
        }
        ["removed", log_start] => recorder.removed("T", number(log_start)),
        _ => return false,
    }
    true
}

fn note(recorder: &mut Recorder, words: &[&str]) {
    let topic = "T";
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
        ["abandoned", p, s] => recorder.abandoned(origin(p, s)),
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

//! Small histories about what was sent and what is there, and the exact words for them.

use super::{check_words, run};
use crate::history::recorder::{Acknowledged, Send};
use crate::history::{ANOMALIES_KEPT, Fault, Origin, Read, Recorder, check, fingerprint};

#[test]
fn a_clean_history_has_no_words() {
    check_words(
        "send P 1 at 0
         send P 2 at 4
         final 0 P 1
         final 4 P 2
         fetch 1 1 4 P 2
         fetch 1 2 0 P 1
         consume C 7 1 0 P 1
         consume C 8 1 4 P 2
         size C 0
         size D 2",
        &[],
    );
}

#[test]
fn nothing_recorded_is_clean_but_does_not_claim_sizes_of_zero() {
    let report = check([Recorder::new(), Recorder::new()]);
    assert!(report.is_clean());
    assert!(!report.sizes_zero());
}

#[test]
fn an_acknowledged_record_that_the_final_read_lacks_is_lost() {
    check_words(
        "send P 1 at 0",
        &["lost: T: record 1 of P: acknowledged, not in the final read"],
    );
}

#[test]
fn a_record_that_was_read_and_is_gone_is_lost_whatever_its_outcome() {
    check_words(
        "sent P 1
         unknown P 1
         fetch 1 1 0 P 1",
        &["lost: T: record 1 of P: read at offset 0, not in the final read"],
    );
}

#[test]
fn an_unknown_outcome_may_appear_not_at_all() {
    check_words("sent P 1\nunknown P 1", &[]);
    check_words("sent P 1", &[]);
}

#[test]
fn an_unknown_outcome_may_appear_once() {
    check_words("sent P 1\nunknown P 1\nfinal 0 P 1", &[]);
    check_words("sent P 1\nfinal 0 P 1", &[]);
}

#[test]
fn an_unknown_outcome_never_appears_twice() {
    let twice = ["duplicated: T: record 1 of P: at offset 0 and again at 3"];
    check_words("sent P 1\nunknown P 1\nfinal 0 P 1\nfinal 3 P 1", &twice);
    check_words("sent P 1\nfinal 0 P 1\nfinal 3 P 1", &twice);
}

#[test]
fn one_sequence_sent_with_two_contents_is_one_record_and_never_appears_twice() {
    let origin = Origin {
        topic: "T",
        producer: "P",
        sequence: 1,
    };
    let mut recorder = Recorder::new();
    for (offset, content) in [(0, b"one"), (1, b"two")] {
        let fingerprint = fingerprint("P", 1, content);
        recorder.sent(origin, fingerprint);
        recorder.finally_read(
            "T",
            Read {
                offset,
                fingerprint,
            },
        );
    }
    let report = check([recorder]);
    assert_eq!(report.sent, 1);
    assert_eq!(report.count(Fault::Duplicated), 1);
    assert_eq!(report.anomalies().len(), 1);
}

#[test]
fn a_record_acknowledged_at_one_offset_and_read_at_another_is_duplicated() {
    check_words(
        "send P 1 at 5
         final 0 P 1",
        &["duplicated: T: record 1 of P: acknowledged at offset 5, at 0"],
    );
}

#[test]
fn a_reported_loss_that_is_read_is_a_phantom() {
    check_words(
        "sent P 1
         lost P 1
         final 0 P 1",
        &["phantom: T: record 1 of P: reported lost, but is at offset 0"],
    );
}

#[test]
fn a_loss_report_does_not_undo_an_unknown_outcome_or_an_acknowledgement() {
    check_words("sent P 1\nunknown P 1\nlost P 1\nfinal 0 P 1", &[]);
    check_words(
        "send P 1 at 0\nlost P 1",
        &["lost: T: record 1 of P: acknowledged, not in the final read"],
    );
}

#[test]
fn an_acknowledgement_of_a_record_that_was_never_sent_is_a_phantom() {
    check_words(
        "acked P 3 at 0",
        &["phantom: T: record 3 of P: acknowledged but never sent"],
    );
}

#[test]
fn content_that_nobody_sent_is_a_phantom_wherever_it_was_read() {
    let unsent = format!(
        "content {:#018x}, which nobody sent",
        fingerprint("Q", 9, b"x")
    );
    check_words("final 0 Q 9", &[&format!("phantom: T: offset 0: {unsent}")]);
    check_words(
        "send P 1 at 0
         final 0 P 1
         fetch 1 1 0 Q 9",
        &[
            &format!("phantom: T: offset 0: {unsent}"),
            &format!("two values: T: offset 0: record 1 of P and {unsent}"),
        ],
    );
}

#[test]
fn two_deliveries_of_an_offset_that_the_final_read_lacks_are_compared_too() {
    let first = [fingerprint("P", 1, b"x"), fingerprint("P", 2, b"x")];
    // Neither is the final read's, so the lower fingerprint speaks first.
    let [one, other] = if first[0] < first[1] { [1, 2] } else { [2, 1] };
    check_words(
        "sent P 1
         sent P 2
         fetch 1 1 0 P 1
         fetch 2 1 0 P 2",
        &[
            &format!("two values: T: offset 0: record {one} of P and record {other} of P"),
            &format!("lost: T: record {one} of P: read at offset 0, not in the final read"),
        ],
    );
}

#[test]
fn an_overwritten_record_is_lost_and_its_offset_reused() {
    check_words(
        "send P 1 at 0
         sent Q 1
         final 0 Q 1",
        &[
            "offset reused: T: offset 0: acknowledged for record 1 of P, holds record 1 of Q",
            "lost: T: record 1 of P: acknowledged, not in the final read",
        ],
    );
}

#[test]
fn an_offset_acknowledged_for_two_records_is_reused_even_if_nobody_read_it() {
    check_words(
        "send P 1 at 0
         send Q 1 at 0",
        &[
            "offset reused: T: offset 0: acknowledged for record 1 of P and for record 1 of Q",
            "lost: T: record 1 of P: acknowledged, not in the final read",
            "lost: T: record 1 of Q: acknowledged, not in the final read",
        ],
    );
}

#[test]
fn one_acknowledgement_noted_twice_is_one() {
    check_words("send P 1 at 0\nacked P 1 at 0\nfinal 0 P 1", &[]);
}

#[test]
fn a_producer_that_steps_back_is_out_of_order_once() {
    check_words(
        "send P 1 at 0
         send P 3 at 1
         send P 2 at 2
         send P 4 at 3
         send Q 1 at 4
         final 0 P 1
         final 1 P 3
         final 2 P 2
         final 3 P 4
         final 4 Q 1",
        &["out of order: T: record 2 of P: at offset 2, after 3 at 1"],
    );
}

#[test]
fn only_an_abandoned_record_may_come_behind_later_ones() {
    let check = |given_up, expected: &[&str]| {
        let course = format!(
            "sent P 1
             send P 2 at 0
             {given_up} P 1
             final 0 P 2
             final 1 P 1"
        );
        check_words(&course, expected);
    };
    check("abandoned", &[]);
    let out_of_order = "out of order: T: record 1 of P: at offset 1, after 2 at 0";
    check("unknown", &[out_of_order]);
}

#[test]
fn a_wrong_acknowledgement_noted_twice_is_one_anomaly() {
    check_words(
        "send P 1 at 0
         send P 2 at 0
         acked P 2 at 0
         final 0 P 1
         final 1 P 2",
        &["offset reused: T: offset 0: acknowledged for record 2 of P, holds record 1 of P"],
    );
}

#[test]
fn a_record_that_moved_after_it_was_delivered_is_duplicated_but_not_lost() {
    check_words(
        "send P 1 at 0
         final 0 P 1
         fetch 1 1 5 P 1",
        &["duplicated: T: record 1 of P: at offset 0 and again at 5"],
    );
}

#[test]
fn two_final_reads_that_differ_are_two_values() {
    let report = run("sent P 1\nsent P 2\nfinal 0 P 1\nfinal 0 P 2\nfinal 0 P 1");
    assert_eq!(report.count(Fault::TwoValues), 1, "{report}");
    assert_eq!(report.anomalies().len(), 1, "{report}");
}

#[test]
fn topics_are_checked_each_for_itself() {
    let mut recorder = Recorder::new();
    let origin = Origin {
        topic: "T-1",
        producer: "P",
        sequence: 1,
    };
    let fingerprint = fingerprint("P", 1, b"x");
    recorder.sent(origin, fingerprint);
    recorder.sent(
        Origin {
            topic: "T-2",
            ..origin
        },
        fingerprint,
    );
    recorder.finally_read(
        "T-1",
        Read {
            offset: 0,
            fingerprint,
        },
    );
    recorder.finally_read(
        "T-2",
        Read {
            offset: 0,
            fingerprint,
        },
    );
    recorder.finally_read(
        "T-3",
        Read {
            offset: 0,
            fingerprint,
        },
    );
    let report = check([recorder]);
    let topics: Vec<_> = report
        .anomalies()
        .iter()
        .map(|anomaly| &*anomaly.topic)
        .collect();
    assert_eq!(topics, ["T-3"], "{report}");
}

#[test]
fn a_flood_of_one_fault_is_counted_but_neither_kept_nor_hides_another() {
    let lost = ANOMALIES_KEPT + 5;
    let lines: Vec<_> = (0..lost).map(|n| format!("send P {n} at {n}\n")).collect();
    let rest = "send Q 1 at 1000\nfinal 1000 Q 1\nconsume C 7 1 1000 Q 1\nsize C 3";
    let report = run(&(lines.concat() + rest));
    assert_eq!(report.count(Fault::Lost), lost);
    assert_eq!(report.anomalies().len() as u64, ANOMALIES_KEPT + 1);
    let text = report.to_string();
    assert!(
        text.starts_with("sent 22, acknowledged 22, unknown 0, reported lost 0\n"),
        "{text}"
    );
    assert!(text.contains("sizes 1 (1 not zero)\n"), "{text}");
    assert!(text.contains("\nlost: 5 more\n"), "{text}");
    assert!(
        text.contains("\nsize wrong: T: size of C: 3, with 0 records left\n"),
        "{text}"
    );
}

#[test]
fn equal_lines_of_two_records_have_two_fingerprints() {
    let lines = [
        fingerprint("P", 1, b"x"),
        fingerprint("P", 2, b"x"),
        fingerprint("Q", 1, b"x"),
        fingerprint("P", 1, b"y"),
    ];
    assert_eq!(
        lines
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        lines.len()
    );
    assert_eq!(lines[0], fingerprint("P", 1, b"x"));
}

#[test]
fn a_send_an_acknowledgement_and_a_read_take_16_bytes_each() {
    assert_eq!(
        [
            size_of::<Send>(),
            size_of::<Acknowledged>(),
            size_of::<Read>()
        ],
        [16; 3]
    );
}

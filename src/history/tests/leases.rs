//! Small histories about leases and gaps, and the exact words for them.

use super::check_words;

const TWO: &str = "send P 1 at 0\nsend P 2 at 1\nfinal 0 P 1\nfinal 1 P 2\n";
/// Worker 7 holds both from between 10 and 20 to 110 at the least.
const LENT: &str = "lease C 7 1 at 10..20 for 100\nlent 0 P 1 times 0\nlent 1 P 2 times 0\n";

#[track_caller]
fn check(rest: &str, expected: &[&str]) {
    check_words(&format!("{TWO}{LENT}{rest}"), expected);
}

#[test]
fn what_is_lent_and_acked_is_no_fault_and_what_is_not_acked_is_left() {
    check("ack 0 at 30..40\nack 1 at 30..40\nsize C 0", &[]);
    check("ack 0 at 30..40\nsize C 1", &[]);
    check("ack 0 at 30..?\nsize C 1", &[]);
    check("ack 0 at 30..?\nsize C 2", &[]);
    check(
        "ack 0 at 30..?\nsize C 0",
        &["size wrong: T: size of C: 0, with 1 to 2 records left"],
    );
    check(
        "ack 0 at 30..40\nsize C 0",
        &["size wrong: T: size of C: 0, with 1 records left"],
    );
}

#[test]
fn a_record_that_is_lent_again_after_its_ack_was_answered_has_lost_it() {
    check(
        "ack 0 at 30..40
         lease C 8 2 at 41..50 for 100
         lent 0 P 1 times 1
         ack 0 at 60..70",
        &["ack lost: T: offset 0: acked, and lent to C again by lease 2"],
    );
    // It was given before the ack; which of the two was first nobody knows, and its own is missing.
    check(
        "ack 0 at 120..140
         lease C 8 2 at 111..150 for 100
         lent 0 P 1 times 1",
        &["ack lost: T: offset 0: acked under an earlier lease, and had last by lease 2 of C"],
    );
    check(
        "ack 0 at 120..140
         lease C 8 2 at 111..150 for 100
         lent 0 P 1 times 1
         ack 0 at 160..170",
        &[],
    );
    // Another lease, of a higher number, was given before this one could be acked: so was this one.
    check(
        "ack 0 at 120..140
         lease C 8 2 at 111..250 for 100
         lent 0 P 1 times 1
         ack 0 at 260..?
         lease C 9 3 at 112..130 for 100
         lent 1 P 2 times 1",
        &[],
    );
    check(
        "ack 0 at 120..140
         lease C 8 3 at 111..250 for 100
         lent 0 P 1 times 1
         ack 0 at 260..270
         lease C 9 2 at 141..160 for 100
         lent 1 P 2 times 1",
        &["ack lost: T: offset 0: acked, and lent to C again by lease 3"],
    );
}

#[test]
fn an_ack_of_what_was_given_back_and_then_removed_says_nothing() {
    let removed = "send P 1 at 0\nsend P 2 at 1\nfinal 1 P 2\nremoved 1\n";
    let again = "lease C 8 2 at 111..130 for 100\nlent 0 P 1 times 1\nnack 0 at 131\n";
    let check = |rest: &str, expected: &[&str]| {
        check_words(&format!("{removed}{LENT}{rest}"), expected);
    };
    check(&format!("{again}ack 0 at 132..150"), &[]);
    // Nor is it lent again: this one was.
    check(
        &format!("ack 0 at 100..110\n{again}"),
        &["ack lost: T: offset 0: acked, and lent to C again by lease 2"],
    );
}

#[test]
fn a_record_that_is_lent_while_another_lease_runs_is_held_twice() {
    let held =
        "held twice: T: offset 0: lent to C by lease 2 while lease 1 of worker 7 is not over";
    let again =
        |from: u64, to: u64| format!("lease C 8 2 at {from}..{to} for 100\nlent 0 P 1 times 1\n");
    check(&again(90, 109), &[held]);
    check(&again(90, 110), &[]);
    check(
        &format!("extend at 50 for 100\n{}", again(90, 149)),
        &[held],
    );
    check(&format!("extend at 50 for 100\n{}", again(90, 150)), &[]);
    check(&format!("nack? 0 at 60\n{}", again(50, 60)), &[]);
    check(&format!("nack? 0 at 60\n{}", again(50, 59)), &[held]);
    check(&format!("gone C 7 from 60\n{}", again(50, 60)), &[]);
    check(&format!("gone C 7 from 60\n{}", again(50, 59)), &[held]);
    check(&format!("gone C 9 from 60\n{}", again(50, 60)), &[held]);
    check(
        "lease C 8 1 at 10..20 for 100\nlent 0 P 1 times 0",
        &["held twice: T: offset 0: lease 1 of C is of workers 7 and 8"],
    );
    check(
        "lent 0 P 1 times 0",
        &[
            "out of order: T: offset 0: lent to C after 1",
            "repeated: T: offset 0: lent to C twice under lease 1",
        ],
    );
}

#[test]
fn an_ack_that_is_refused_while_the_lease_runs_was_cut_short() {
    let cut = "lease cut short: T: offset 0: an ack under lease 1 of C was refused";
    check("refused 0 at 30..109", &[cut]);
    check("refused 0 at 30..110", &[]);
    check("nack 0 at 30\nrefused 0 at 35..40", &[]);
}

#[test]
fn deliveries_count_up_and_what_is_given_back_is_counted() {
    let again = |times: u64| format!("lease C 8 2 at 120..130 for 100\nlent 0 P 1 times {times}\n");
    check(&again(0), &[]);
    check(&again(1), &[]);
    check(&format!("nack? 0 at 60\n{}", again(0)), &[]);
    check(
        &format!("nack 0 at 60\n{}", again(0)),
        &["count wrong: T: offset 0: lease 2 of C says 0 deliveries, after 1"],
    );
    check(
        &format!(
            "{}lease C 8 3 at 240..250 for 100\nlent 0 P 1 times 1",
            again(2)
        ),
        &["count wrong: T: offset 0: lease 3 of C says 1 deliveries, after 2"],
    );
}

#[test]
fn a_record_that_was_given_up_is_settled_and_was_not_acked() {
    check(
        "nack 0 at 30\nletter C 0 P 1 after 1\nack 1 at 30..40\nsize C 0",
        &[],
    );
    check(
        "nack 0 at 30\nletter C 0 P 1 after 0",
        &["count wrong: T: offset 0: C gave it up after 0 deliveries, not 1"],
    );
    check(
        "letter C 0 P 1 after 1\nletter C 0 P 1 after 1",
        &["repeated: T: offset 0: given up by C twice"],
    );
    check(
        "ack 0 at 30..40\nletter C 0 P 1 after 1",
        &["ack lost: T: offset 0: acked, and given up by C"],
    );
    // It came too late to count.
    check("ack 0 at 105..111\nletter C 0 P 1 after 1", &[]);
}

#[test]
fn a_key_is_lent_in_order_and_to_one_worker_at_a_time() {
    let first = "lease C 7 1 at 10..20 for 100\nlent 0 P 1 times 0 key 5\n";
    let second = "lease C 8 2 at 30..40 for 100\nlent 1 P 2 times 0 key 5\n";
    let busy = "key order broken: T: offset 1: lent to C by lease 2 while 0 of the same key is not \
                settled";
    let check =
        |history: &str, expected: &[&str]| check_words(&format!("{TWO}{history}"), expected);
    check(&format!("{first}{second}"), &[busy]);
    check(&format!("{first}ack 0 at 41..50\n{second}"), &[busy]);
    check(&format!("{first}ack 0 at 40..50\n{second}"), &[]);
    check(&format!("{first}nack 0 at 20\n{second}"), &[busy]);
    check(&format!("{first}lent 1 P 2 times 0 key 5"), &[]);
    check(&format!("{first}lent 1 P 2 times 0 key 6"), &[]);
    check(
        &format!(
            "{first}ack 0 at 20..?\n{second}lease C 9 3 at 130..140 for 100\nlent 0 P 1 times 1 key 5"
        ),
        &[busy],
    );
    check(
        &format!("{second}lease C 9 3 at 130..140 for 100\nlent 0 P 1 times 1 key 5"),
        &["key order broken: T: offset 0: lent to C after 1 of the same key"],
    );
}

#[test]
fn a_gap_is_told_once_of_what_was_removed() {
    let removed = "send P 1 at 0\nsend P 2 at 1\nsend P 3 at 2\nfinal 2 P 3\nremoved 2\n";
    let given = "lease C 7 1 at 10..20 for 100\nlent 2 P 3 times 0\nack 2 at 30..40\nsize C 0\n";
    let taken = "consume C 7 1 2 P 3\nsize C 0\n";
    for given in [given, taken] {
        let check = |rest: &str, expected: &[&str]| {
            check_words(&format!("{removed}{given}{rest}"), expected);
        };
        check("gap C 0..2 records 2", &[]);
        check("gap C 0..1 records 1\ngap C 1..2 records 1", &[]);
        check(
            "gap C 0..1 records 1",
            &["skipped: T: offset 1: neither given to C nor told as a gap"],
        );
        check(
            "gap C 0..2 records 2\ngap C 1..2 records 1",
            &["gap wrong: T: offset 1: told as a gap to C twice"],
        );
        check(
            "gap C 0..2 records 2\ngap C 2..3 records 1",
            if given == taken {
                &[
                    "gap wrong: T: offset 2: told as a gap to C, but it is there",
                    "gap wrong: T: offset 2: told as a gap to C, and given to it",
                ]
            } else {
                &["gap wrong: T: offset 2: told as a gap to C, but it is there"]
            },
        );
        check(
            "gap C 0..2 records 1",
            &["gap wrong: T: gap 0..2 of C: 1 records, 2 are known of"],
        );
        check(
            "gap C 0..2 records 3",
            &["gap wrong: T: gap 0..2 of C: 3 records, 2 are known of"],
        );
    }
}

#[test]
fn a_record_that_nobody_was_lent_is_skipped() {
    check_words(
        &format!(
            "{TWO}lease C 7 1 at 10..20 for 100\nlent 1 P 2 times 0\nack 1 at 30..40\nsize C 0"
        ),
        &["skipped: T: offset 0: never given to C"],
    );
    check_words(
        &format!(
            "{TWO}lease C 7 1 at 10..20 for 100\nlent 0 P 1 times 0\nack 0 at 30..40\nsize C 1"
        ),
        &[],
    );
}

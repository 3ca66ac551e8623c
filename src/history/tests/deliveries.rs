//! Small histories about what consumers and fetchers were given, and the exact words for them.

use super::check_words;
use crate::history::fingerprint;

const TWO: &str = "send P 1 at 0\nsend P 2 at 1\nfinal 0 P 1\nfinal 1 P 2\n";

#[test]
fn a_worker_whose_later_answer_is_of_earlier_records_is_out_of_order() {
    check_words(
        &format!("{TWO} consume C 7 1 1 P 2\n consume C 7 2 0 P 1"),
        &["out of order: T: offset 0: given to C after 1"],
    );
    check_words(
        &format!(
            "{TWO} send P 3 at 2
             final 2 P 3
             consume C 7 1 1 P 2
             consume C 8 1 2 P 3
             consume C 7 2 0 P 1"
        ),
        &["out of order: T: offset 0: given to C after 1"],
    );
    // Two workers are not in step with each other.
    check_words(
        &format!("{TWO} consume C 7 1 1 P 2\n consume C 8 1 0 P 1"),
        &[],
    );
}

#[test]
fn what_two_consumers_get_is_not_repeated_but_what_two_workers_get_is() {
    check_words(
        &format!("{TWO} consume C 7 1 0 P 1\n consume D 7 1 0 P 1"),
        &[],
    );
    check_words(
        &format!("{TWO} consume C 7 1 0 P 1\n consume C 8 1 0 P 1"),
        &["repeated: T: offset 0: given to C again"],
    );
}

#[test]
fn a_cursor_that_moved_without_a_delivery_is_seen_by_the_next_record_or_by_the_size() {
    check_words(
        &format!("{TWO} consume C 7 1 1 P 2\n size C 0"),
        &["skipped: T: offset 0: never given to C"],
    );
    check_words(
        &format!("{TWO} consume C 7 1 0 P 1\n size C 0"),
        &["size wrong: T: size of C: 0, with 1 records left"],
    );
    check_words(
        &format!("{TWO} size C 0"),
        &["size wrong: T: size of C: 0, with 2 records left"],
    );
}

#[test]
fn an_offset_that_is_gone_is_lost_but_not_skipped() {
    check_words(
        "send P 1 at 0
         sent P 2
         send P 3 at 2
         final 0 P 1
         final 2 P 3
         fetch 1 1 1 P 2
         fetch 2 1 0 P 1
         fetch 2 1 2 P 3
         consume C 7 1 0 P 1
         consume C 7 1 2 P 3",
        &["lost: T: record 2 of P: read at offset 1, not in the final read"],
    );
}

#[test]
fn the_order_in_which_answers_were_noted_does_not_matter() {
    check_words(
        &format!(
            "{TWO} send P 3 at 2
             final 2 P 3
             consume C 7 3 2 P 3
             consume C 8 1 1 P 2
             consume C 7 1 0 P 1"
        ),
        &[],
    );
}

#[test]
fn a_phantom_that_two_fetchers_saw_is_one_phantom() {
    let unsent = format!(
        "content {:#018x}, which nobody sent",
        fingerprint("Q", 9, b"x")
    );
    check_words(
        &format!("{TWO} fetch 1 1 0 Q 9\n fetch 2 1 0 Q 9"),
        &[
            &format!("phantom: T: offset 0: {unsent}"),
            &format!("two values: T: offset 0: record 1 of P and {unsent}"),
        ],
    );
}

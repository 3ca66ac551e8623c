//! What may be sent when: each test plays a producer's life as a script and compares what leaves.

use super::*;
use logdrive_protocol::batch::{Codec, Head, NewRecord, check_produced, open};
use logdrive_protocol::limits::{MAX_BATCH_BYTES, MAX_RECORD_BYTES};

const WINDOW: Window = Window {
    batches: 8,
    bytes: 1 << 20,
};

fn registration(epoch: u32, next_sequence: u64) -> Registration {
    Registration {
        producer: ProducerId(7),
        epoch,
        next_sequence,
    }
}

fn producer(always_synced: bool) -> Unanswered<char> {
    Unanswered::new(registration(1, 100), WINDOW, always_synced)
}

/// Holds a batch of `count` records, whose deliveries are called `name`.
fn hold(unanswered: &mut Unanswered<char>, name: char, count: usize) {
    let mut builder = BatchBuilder::default();
    for index in 0..count {
        builder.push(&NewRecord {
            timestamp: 500 - index as u64,
            key: Some(b"key"),
            headers: &[("h".to_owned(), b"v".to_vec())],
            value: format!("{name}{index}").as_bytes(),
            ..NewRecord::default()
        });
    }
    unanswered.hold(&mut builder, name);
}

/// All that leaves now: `id@sequence`, and `!` where it is to be synced.
fn leaving(unanswered: &mut Unanswered<char>) -> String {
    let mut all = Vec::new();
    while let Some(out) = unanswered.next() {
        let head = check_produced(&out.batch, MAX_BATCH_BYTES, MAX_RECORD_BYTES).unwrap();
        assert_eq!(head.producer_epoch, unanswered.registration.epoch);
        let synced = if out.synced { "!" } else { "" };
        all.push(format!("{}@{}{synced}", out.id, head.sequence));
    }
    all.join(" ")
}

#[test]
fn batches_leave_once_in_order_with_sequences_that_count_records() {
    let mut it = producer(true);
    hold(&mut it, 'a', 3);
    hold(&mut it, 'b', 2);
    assert_eq!(leaving(&mut it), "0@100! 1@103!");
    hold(&mut it, 'c', 1);
    assert_eq!(leaving(&mut it), "2@105!");
    assert_eq!(it.answered(0, true), Some(('a', 3)));
    assert_eq!(it.answered(0, true), None, "an answer counts once");
    assert_eq!(it.answered(2, true), Some(('c', 1)));
    assert_eq!(it.answered(1, true), Some(('b', 2)));
    assert!(it.is_answered() && it.held.is_empty());
    assert_eq!(it.bytes, 0);
}

#[test]
fn after_a_lost_connection_the_unanswered_leave_again_with_the_same_sequences() {
    let mut it = producer(true);
    for name in ['a', 'b', 'c'] {
        hold(&mut it, name, 2);
    }
    assert_eq!(leaving(&mut it), "0@100! 1@102! 2@104!");
    assert_eq!(it.answered(0, true), Some(('a', 2)));
    it.failed(2, Outcome::Unknown);
    it.failed(1, Outcome::Unknown);
    // The broker has stored both, or one, or none: each is recognized, so all go again.
    for next in [106, 104, 102] {
        assert_eq!(it.follow_from(next), Verdict::Resend);
    }
    hold(&mut it, 'd', 1);
    assert_eq!(leaving(&mut it), "1@102! 2@104! 3@106!");
}

#[test]
fn the_window_counts_from_the_oldest_batch_without_a_durable_answer() {
    let mut it = producer(true);
    for _ in 0..8 {
        assert!(it.has_room());
        hold(&mut it, 'x', 1);
    }
    assert!(!it.has_room());
    leaving(&mut it);
    it.answered(1, true);
    assert!(!it.has_room(), "the oldest is still out");
    it.answered(0, true);
    assert!(it.has_room());
    assert_eq!(it.held.len(), 6);
}

#[test]
fn a_window_in_bytes_is_full_as_soon_as_it_is_reached() {
    let window = Window {
        batches: 8,
        bytes: 100,
    };
    let mut it = Unanswered::new(registration(1, 0), window, true);
    assert!(it.has_room());
    hold(&mut it, 'a', 1);
    assert!(!it.has_room());
}

#[test]
fn accepted_batches_are_held_until_a_later_one_is_synced() {
    let mut it = producer(false);
    for name in ['a', 'b', 'c'] {
        hold(&mut it, name, 1);
    }
    assert_eq!(leaving(&mut it), "0@100 1@101! 2@102");
    assert_eq!(it.answered(0, false), Some(('a', 1)));
    assert_eq!(it.held.len(), 3);
    assert_eq!(it.answered(1, true), Some(('b', 1)));
    assert_eq!(it.answered(2, false), Some(('c', 1)));
    assert_eq!(it.held.len(), 1);
    assert!(it.is_answered());
}

#[test]
fn what_was_accepted_and_lost_is_sent_again_and_nobody_is_told_twice() {
    let mut it = producer(false);
    hold(&mut it, 'a', 5);
    assert_eq!(leaving(&mut it), "0@100");
    assert_eq!(it.answered(0, false), Some(('a', 5)));
    assert_eq!(it.follow_from(105), Verdict::Resend);
    assert_eq!(leaving(&mut it), "", "the broker has it");
    assert_eq!(it.follow_from(100), Verdict::Resend);
    assert_eq!(leaving(&mut it), "0@100!");
    assert_eq!(it.answered(0, true), None);
    assert!(it.held.is_empty());
}

#[test]
fn what_the_broker_lacks_and_nobody_holds_is_lost() {
    let mut it = producer(true);
    hold(&mut it, 'a', 5);
    leaving(&mut it);
    it.answered(0, true);
    assert_eq!(
        it.follow_from(103),
        Verdict::Lost { from: 103, to: 105 },
        "with nothing held"
    );
    hold(&mut it, 'b', 2);
    assert_eq!(leaving(&mut it), "1@105!");
    it.failed(1, Outcome::NotDone);
    assert_eq!(it.follow_from(100), Verdict::Lost { from: 100, to: 105 });
    it.begin_again(registration(2, 100));
    assert_eq!(leaving(&mut it), "1@100!");
    assert_eq!(it.answered(1, true), Some(('b', 2)));
}

#[test]
fn a_packed_batch_is_sent_again_as_the_same_bytes_and_one_record_is_not_packed() {
    let mut it = producer(true).packing(Some(Packer::new(Codec::Zstd)));
    hold(&mut it, 'a', 200);
    hold(&mut it, 'b', 1);
    let first = it.next().unwrap();
    let head = Head::parse(&first.batch).unwrap();
    assert!(head.is_packed() && it.bytes < head.plain_len() / 2);
    it.failed(0, Outcome::Unknown);
    assert_eq!(it.next(), Some(first), "the broker knows it by these bytes");
    let lone = it.next().unwrap();
    assert!(!Head::parse(&lone.batch).unwrap().is_packed());
}

#[test]
fn a_new_epoch_changes_the_stamp_and_nothing_else_of_a_batch() {
    check_new_epoch(None, 3);
    check_new_epoch(Some(Codec::Lz4), 100);
    check_new_epoch(Some(Codec::Zstd), 100);
}

fn check_new_epoch(codec: Option<Codec>, count: usize) {
    let mut it = producer(true).packing(codec.map(Packer::new));
    hold(&mut it, 'a', count);
    let before = it.held[0].batch.clone();
    it.begin_again(registration(9, 4));
    let after = it.held[0].batch.clone();
    let head = check_produced(&after, MAX_BATCH_BYTES, MAX_RECORD_BYTES).unwrap();
    assert_eq!((head.producer_epoch, head.sequence), (9, 4));
    assert_eq!(Codec::of(head.attributes), Ok(codec));
    let records = |batch: &Bytes| -> Vec<String> {
        let lowest = Head::parse(batch).unwrap().lowest_timestamp;
        open(batch)
            .unwrap()
            .records()
            .flatten()
            .map(|it| format!("{} {it:?}", lowest + it.timestamp_delta))
            .collect()
    };
    assert_eq!(records(&before), records(&after));
    assert_eq!(it.bytes, after.len());
}

#[test]
fn a_forgotten_producer_gives_up_what_it_sent_and_keeps_what_it_did_not() {
    let mut it = producer(true);
    hold(&mut it, 'a', 1);
    leaving(&mut it);
    hold(&mut it, 'b', 2);
    it.failed(0, Outcome::NotDone);
    let given_up = it.give_up_sent();
    assert_eq!(given_up.len(), 1);
    assert_eq!((given_up[0].tag, given_up[0].unknown), ('a', true));
    it.begin_again(Registration {
        producer: ProducerId(8),
        epoch: 1,
        next_sequence: 0,
    });
    assert_eq!(leaving(&mut it), "1@0!");
}

#[test]
fn giving_up_says_which_batches_may_have_been_stored() {
    let mut it = producer(true);
    for name in ['a', 'b', 'c'] {
        hold(&mut it, name, 1);
    }
    leaving(&mut it);
    it.failed(0, Outcome::Unknown);
    it.failed(0, Outcome::NotDone);
    it.failed(1, Outcome::NotDone);
    let unknown: Vec<_> = it
        .give_up_all()
        .into_iter()
        .map(|it| (it.tag, it.unknown))
        .collect();
    assert_eq!(unknown, [('a', true), ('b', false), ('c', false)]);
}

#[test]
fn without_a_registration_batches_have_no_sequence() {
    let mut it = Unanswered::new(Registration::default(), WINDOW, true);
    hold(&mut it, 'a', 2);
    hold(&mut it, 'b', 2);
    assert_eq!(leaving(&mut it), "0@0! 1@0!");
    assert_eq!(it.give_up(0).map(|it| it.tag), Some('a'));
    assert_eq!(it.answered(1, true), Some(('b', 2)));
}

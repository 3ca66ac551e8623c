//! A lost answer: the producer sends again, the worker asks again, and nothing happens twice.

use logdrive_protocol::operations::Produce;

use crate::support::asking::{Worker, fetch, origin, produce, produce_accepted};
use crate::support::{Broker, batch_of};

#[test]
fn a_retried_produce_is_stored_once_while_it_is_staged() {
    // The story: a retry that overtakes the commit of the first try finds no trace of it, and the
    // records are stored twice.
    let broker = Broker::start();
    let mut peer = broker.connect();
    let registered = peer.producer("app");
    let topic = registered.topic;
    let batch = |sequence, value: &str| batch_of(origin(&registered, sequence), &[value]);
    let first = produce(topic, batch(0, "a"));
    let accepted = produce_accepted(topic, batch(1, "b"));
    let numbers = peer.send_all(&[
        first.clone(),
        first.clone(),
        accepted.clone(),
        accepted.clone(),
        produce(topic, batch(1, "b")),
        first,
    ]);
    let expected = [0, 0, 1, 1, 1, 0];
    for (number, offset) in numbers.into_iter().zip(expected) {
        assert_eq!(peer.answer::<Produce>(number).unwrap().base_offset, offset);
    }
    peer.check(fetch(topic, 0), "0:a 1:b next=2");
    assert_eq!(peer.counter("app", "batches_appended"), 2);
}

#[test]
fn a_retried_produce_is_stored_once_over_another_connection_and_after_a_kill() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let registered = peer.producer("app");
    let topic = registered.topic;
    let batch = |sequence, values: &[&str]| batch_of(origin(&registered, sequence), values);
    let first = peer.ask(produce(topic, batch(0, &["a", "b"]))).unwrap();
    drop(peer);

    let mut peer = broker.connect();
    let again = peer.ask(produce(topic, batch(0, &["a", "b"]))).unwrap();
    assert_eq!(again, first, "the same answer, to the microsecond");
    peer.check(produce(topic, batch(2, &["c"])), "offset=2 synced");

    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    let again = peer.ask(produce(topic, batch(0, &["a", "b"]))).unwrap();
    assert_eq!(again, first);
    peer.check(produce(topic, batch(2, &["c"])), "offset=2 synced");
    peer.check(produce(topic, batch(3, &["d"])), "offset=3 synced");
    peer.check(fetch(topic, 0), "0:a 1:b 2:c 3:d next=4");
}

#[test]
fn the_last_64_batches_are_recognized_after_a_kill_and_older_ones_are_out_of_line() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let registered = peer.producer("app");
    let topic = registered.topic;
    let at = |sequence: u64| {
        let value = sequence.to_string();
        produce(topic, batch_of(origin(&registered, sequence), &[value]))
    };
    let requests: Vec<_> = (0..70).map(at).collect();
    for number in peer.send_all(&requests) {
        peer.answer::<Produce>(number).unwrap();
    }
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(at(5), "OUT_OF_SEQUENCE 70");
    for sequence in 6..70 {
        peer.check(at(sequence), &format!("offset={sequence} synced"));
    }
    assert_eq!(peer.all(topic).len(), 70);
}

#[test]
fn a_retry_of_what_was_only_accepted_is_answered_when_it_is_durable() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let registered = peer.producer("app");
    let topic = registered.topic;
    let batch = batch_of(origin(&registered, 0), &["a"]);
    peer.check(produce_accepted(topic, batch.clone()), "offset=0 accepted");
    peer.check(produce(topic, batch), "offset=0 synced");
    let broker = broker.killed_and_restarted();
    broker.connect().check(fetch(topic, 0), "0:a next=1");
}

#[test]
fn a_lost_answer_loses_no_record_the_same_sequence_gives_it_again() {
    // The story: the cursor moved when the answer was sent, and the answer was lost. With worker
    // and sequence the same records are given again, whatever the new request's limits are.
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let worker = Worker::of(&peer.consumer("app", "c"), 77);
    peer.produce(topic, &["a", "b", "c"]);
    peer.produce(topic, &["d", "e"]);
    // Sent, and the connection is gone before the answer is read.
    peer.send(&worker.take(1, 2));
    peer.settle(topic);
    drop(peer);

    let mut peer = broker.connect();
    peer.check(worker.take(1, 1), "0:a 1:b next=2");
    peer.check(worker.take(1, 0), "0:a 1:b next=2");
    peer.check(worker.take(2, 2), "2:c 3:d next=4");

    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(worker.take(2, 5), "2:c 3:d next=4");
    peer.check(worker.take(1, 5), "STALE_SEQUENCE 2");
    peer.check(worker.take(4, 5), "STALE_SEQUENCE 2");
    peer.check(worker.size(), "records=1 bytes=1");
    peer.check(worker.take(3, 5), "4:e next=5");
    peer.check(worker.take(4, 5), "empty next=5");
    peer.check(worker.take(3, 5), "4:e next=5");
}

#[test]
fn a_consume_that_is_repeated_before_its_commit_gives_the_same_records() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let worker = Worker::of(&peer.consumer("app", "c"), 77);
    peer.produce(topic, &["a", "b", "c"]);
    let numbers = peer.send_all(&[worker.take(1, 1), worker.take(1, 3), worker.take(2, 1)]);
    for (number, expected) in numbers
        .into_iter()
        .zip(["0:a next=1", "0:a next=1", "1:b next=2"])
    {
        peer.check_answer::<logdrive_protocol::operations::Consume>(number, expected);
    }
}

//! Batches that wait for their time: where they are meanwhile, and what they outlive.

use logdrive_protocol::operations::{DeleteTopic, Produce};

use crate::support::asking::{
    Worker, fetch, fetch_waiting, origin, produce, produce_all, schedule,
};
use crate::support::{Broker, batch, batch_of, until};

/// Soon, in microseconds: after all that a test does before.
const SOON: u64 = 2_000_000;
/// Not while a test runs.
const HOUR: u64 = 3_600_000_000;

#[test]
fn a_batch_gets_its_place_when_its_time_has_come_and_holds_back_nothing() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let worker = Worker::of(&peer.consumer("app", "c"), 7);
    peer.check(produce(topic, batch(&["now"])), "offset=0 synced");
    let at = peer.now() + SOON;
    let much_later = schedule(topic, batch(&["much later"]), at + HOUR);
    peer.check(much_later, "offset=0 scheduled");
    peer.check(worker.size(), "records=1 bytes=3 delayed=1");
    peer.check(
        schedule(topic, batch(&["later", "too"]), at),
        "offset=0 scheduled",
    );

    // It is awaited like any other record.
    peer.check(fetch_waiting(topic, 1), "1:later 2:too next=3");
    assert!(peer.now() >= at, "nobody receives it before");
    peer.check(worker.size(), "records=3 bytes=11 delayed=1");
    peer.check(worker.take(1, 0), "0:now 1:later 2:too next=3");
}

#[test]
fn what_waits_is_in_the_order_of_its_times_not_of_its_arrival() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let at = peer.now() + SOON;
    let requests = [(3, "c"), (1, "a"), (2, "b")]
        .map(|(order, value)| schedule(topic, batch(&[value]), at + order));
    for number in peer.send_all(&requests) {
        peer.check_answer::<Produce>(number, "offset=0 scheduled");
    }
    until("all are there", || peer.all(topic).len() == 3);
    peer.check(fetch(topic, 0), "0:a 1:b 2:c next=3");
}

#[test]
fn what_waits_survives_a_kill_also_where_its_time_comes_meanwhile() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let worker = Worker::of(&peer.consumer("app", "c"), 7);
    let at = peer.now() + SOON;
    peer.check(schedule(topic, batch(&["soon"]), at), "offset=0 scheduled");
    peer.check(
        schedule(topic, batch(&["later"]), at + HOUR),
        "offset=0 scheduled",
    );
    let data = broker.kill();

    let broker = Broker::start_on(data);
    let mut peer = broker.connect();
    peer.check(fetch_waiting(topic, 0), "0:soon next=1");
    peer.check(worker.size(), "records=1 bytes=4 delayed=1");
    // It is there once, however often the broker starts.
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(worker.size(), "records=1 bytes=4 delayed=1");
    peer.check(fetch(topic, 0), "0:soon next=1");
    peer.check(produce(topic, batch(&["after"])), "offset=1 synced");
}

#[test]
fn a_retry_of_what_was_scheduled_is_recognized_before_and_after_its_time() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let registered = peer.producer("app");
    let topic = registered.topic;
    let at = peer.now() + SOON;
    let later = |sequence, value: &str| {
        schedule(topic, batch_of(origin(&registered, sequence), &[value]), at)
    };
    let numbers = peer.send_all(&[later(0, "a"), later(0, "a")]);
    for number in numbers {
        peer.check_answer::<Produce>(number, "offset=0 scheduled");
    }
    peer.check(later(0, "other"), "SEQUENCE_REUSED");
    peer.check(later(2, "c"), "OUT_OF_SEQUENCE 1");
    let next = produce(topic, batch_of(origin(&registered, 1), &["b"]));
    peer.check(next.clone(), "offset=0 synced");

    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(later(0, "a"), "offset=0 scheduled");
    peer.check(fetch_waiting(topic, 1), "1:a next=2");
    // Its time is over now: the retry is not late, its answer was lost.
    peer.check(later(0, "a"), "offset=0 scheduled");
    peer.check(next, "offset=0 synced");
    let together = produce_all([(topic, batch_of(origin(&registered, 0), &["a"]))]);
    let answer = peer.ask(together).unwrap();
    assert_eq!(answer.parts[0].durability, 2, "{answer:?}");
    peer.check(fetch(topic, 0), "0:b 1:a next=2");
}

#[test]
fn times_that_cannot_be_kept_are_refused_and_the_clock_is_named() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let year = 366 * 24 * HOUR;
    let now = peer.now();
    for at in [1, now - HOUR, now, now + year + HOUR, u64::MAX] {
        let failure = peer.ask(schedule(topic, batch(&["x"]), at)).unwrap_err();
        assert_eq!(failure.code.to_string(), "INVALID_DELAY", "{at}");
        assert!(failure.first >= now, "{failure:?}");
    }
    peer.check(
        schedule(topic, batch(&["x"]), now + year - HOUR),
        "offset=0 scheduled",
    );
}

#[test]
fn a_deleted_topic_takes_with_it_what_waits() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let (app, other) = (peer.create("app"), peer.create("other"));
    let at = peer.now() + SOON;
    peer.check(schedule(app, batch(&["a"]), at), "offset=0 scheduled");
    peer.check(schedule(other, batch(&["b"]), at), "offset=0 scheduled");
    peer.ask(DeleteTopic { topic: app }).unwrap();
    let app = peer.create("app");
    peer.check(fetch_waiting(other, 0), "0:b next=1");
    peer.check(fetch(app, 0), "empty next=0");
    let broker = broker.killed_and_restarted();
    broker.connect().check(fetch(app, 0), "empty next=0");
}

#[test]
fn no_more_wait_than_the_limit_allows() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let at = peer.now() + HOUR;
    let requests: Vec<_> = (0..10_001)
        .map(|_| schedule(topic, batch(&["x"]), at))
        .collect();
    let numbers = peer.send_all(&requests);
    let (last, others) = numbers.split_last().unwrap();
    for number in others {
        peer.check_answer::<Produce>(*number, "offset=0 scheduled");
    }
    peer.check_answer::<Produce>(*last, "LIMIT_REACHED");
    assert_eq!(peer.counter("app", "records_delayed"), 10_000);
}

#[test]
fn wherever_the_broker_is_killed_what_waits_comes_once() {
    const COUNT: u64 = 200;
    let mut broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let at = peer.now() + SOON;
    let requests: Vec<_> = (0..COUNT)
        .map(|order| schedule(topic, batch(&[&order.to_string()]), at + order * 5_000))
        .collect();
    for number in peer.send_all(&requests) {
        peer.answer::<Produce>(number).unwrap();
    }
    let mut seen = 0;
    while seen < COUNT {
        let delivered = broker.connect().ask(fetch_waiting(topic, seen)).unwrap();
        seen = delivered.next;
        broker = broker.killed_and_restarted();
    }
    let records = broker.connect().all(topic);
    let values: Vec<String> = records
        .iter()
        .map(|(_, value)| String::from_utf8(value.clone()).unwrap())
        .collect();
    let expected: Vec<String> = (0..COUNT).map(|order| order.to_string()).collect();
    assert_eq!(values, expected);
}

#[test]
fn a_delay_log_that_was_given_up_goes_on_with_what_is_scheduled_next() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let large = "x".repeat(700_000);
    let mut next = 0;
    // Two of them are worth giving their space back, with the last of the two.
    for round in 0..2 {
        let at = peer.now() + SOON / 2;
        for order in 0..2 {
            let request = schedule(topic, batch(&[&large]), at + order);
            peer.check(request, "offset=0 scheduled");
        }
        while next < 2 * (round + 1) {
            next = peer.ask(fetch_waiting(topic, next)).unwrap().next;
        }
    }
    let soon = peer.now() + SOON / 2;
    peer.check(
        schedule(topic, batch(&["last"]), soon),
        "offset=0 scheduled",
    );
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(fetch_waiting(topic, 4), "4:last next=5");
    let values = peer.all(topic).into_iter().map(|(_, value)| value.len());
    assert_eq!(
        values.collect::<Vec<_>>(),
        [700_000, 700_000, 700_000, 700_000, 4]
    );
}

#[test]
fn what_has_fallen_due_gives_its_space_back_beside_what_still_waits() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let large = "x".repeat(700_000);
    let at = peer.now() + SOON;
    for order in 0..3 {
        let request = schedule(topic, batch(&[&large]), at + order);
        peer.check(request, "offset=0 scheduled");
    }
    let later = schedule(topic, batch(&["waits on"]), at + 2 * SOON);
    peer.check(later, "offset=0 scheduled");
    until("three are there", || peer.all(topic).len() == 3);
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(fetch_waiting(topic, 3), "3:waits on next=4");
    let soon = schedule(topic, batch(&["next"]), peer.now() + SOON / 2);
    peer.check(soon, "offset=0 scheduled");
    peer.check(fetch_waiting(topic, 4), "4:next next=5");
}

//! Taking records for a consumer: one cursor, any number of workers.

use std::collections::BTreeMap;

use logdrive_protocol::operations::{
    Cancel, Consume, RegisterConsumer, Setting, UnregisterConsumer,
};
use logdrive_protocol::{ConsumerId, Position};

use crate::support::asking::Worker;
use crate::support::{Broker, until};

#[test]
fn every_consumer_sees_every_record_in_order_from_its_own_position() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    peer.produce(topic, &["a", "b", "c"]);
    let one = Worker::of(&peer.consumer("app", "one"), 1);
    let two = Worker::of(&peer.consumer("app", "two"), 1);
    peer.check(one.take(1, 2), "0:a 1:b next=2");
    peer.check(two.take(1, 1), "0:a next=1");
    peer.check(one.take(2, 0), "2:c next=3");
    peer.check(two.take(2, 0), "1:b 2:c next=3");
}

#[test]
fn an_empty_consume_moves_nothing() {
    // The story: the cursor was moved before it was known whether there is a record, so the next
    // record to arrive was skipped.
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let worker = Worker::of(&peer.consumer("app", "c"), 5);
    for _ in 0..3 {
        peer.check(worker.take(1, 1), "empty next=0");
    }
    peer.check(worker.size(), "records=0 bytes=0");
    peer.produce(topic, &["a"]);
    peer.check(worker.take(1, 1), "0:a next=1");
    peer.check(worker.take(2, 1), "empty next=1");
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(worker.take(2, 1), "empty next=1");
    peer.produce(topic, &["b"]);
    peer.check(worker.take(2, 1), "1:b next=2");
}

#[test]
fn two_workers_of_one_consumer_never_get_the_same_record() {
    // The story: reading and moving the cursor were two steps, and two workers stood at the same
    // place between them.
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let registered = peer.consumer("app", "c");
    let values: Vec<String> = (0..400).map(|it| it.to_string()).collect();
    for values in values.chunks(7) {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        peer.produce(topic, &values);
    }
    let taken: Vec<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..=4)
            .map(|id| {
                let mut peer = broker.connect();
                let worker = Worker::of(&registered, id);
                scope.spawn(move || {
                    let mut taken = Vec::new();
                    for sequence in 1.. {
                        let delivered = peer.ask(worker.take(sequence, 3)).unwrap();
                        if delivered.record_count() == 0 {
                            break;
                        }
                        taken.extend(delivered.records().map(|it| it.offset));
                    }
                    assert!(taken.is_sorted(), "{taken:?}");
                    taken
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|it| it.join().unwrap())
            .collect()
    });
    let mut counted = BTreeMap::new();
    for offset in taken {
        *counted.entry(offset).or_insert(0) += 1;
    }
    let once: BTreeMap<u64, i32> = (0..400).map(|offset| (offset, 1)).collect();
    assert_eq!(counted, once);
}

#[test]
fn a_worker_that_nobody_knows_begins_at_one() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let registered = peer.consumer("app", "c");
    peer.produce(topic, &["a", "b", "c"]);
    let (one, two) = (Worker::of(&registered, 1), Worker::of(&registered, 2));
    peer.check(two.take(2, 1), "WORKER_FORGOTTEN");
    peer.check(one.take(1, 1), "0:a next=1");
    peer.check(two.take(1, 1), "1:b next=2");
    let nobody = Worker::of(&registered, 0);
    peer.check(nobody.take(9, 1), "2:c next=3");
    peer.check(nobody.take(9, 1), "empty next=3");
}

#[test]
fn a_sixty_fifth_worker_is_one_too_many() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let registered = peer.consumer("app", "c");
    peer.produce(topic, &["x"; 66]);
    for id in 1..=64 {
        let expected = format!("{at}:x next={id}", at = id - 1);
        peer.check(Worker::of(&registered, id).take(1, 1), &expected);
    }
    peer.check(Worker::of(&registered, 65).take(1, 1), "TOO_MANY_WORKERS");
    peer.check(Worker::of(&registered, 0).take(0, 1), "64:x next=65");
    peer.check(Worker::of(&registered, 64).take(2, 1), "65:x next=66");
}

#[test]
fn a_consumer_is_one_name_with_one_configuration() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    peer.produce(topic, &["a", "b"]);
    let register = |name: &str, from, description: &str, create| RegisterConsumer {
        topic: "app".into(),
        name: name.into(),
        from,
        settings: [description]
            .iter()
            .filter(|it| !it.is_empty())
            .map(|it| Setting {
                key: "description".into(),
                value: (*it).into(),
            })
            .collect(),
        create,
    };
    let latest = Position::Latest;
    peer.check(register("c", latest, "", false), "CONSUMER_NOT_FOUND");
    peer.check(register("c", latest, "x", true), "cursor=2 created");
    peer.check(register("c", Position::Earliest, "", true), "cursor=2");
    peer.check(register("c", Position::Earliest, "x", false), "cursor=2");
    peer.check(register("c", latest, "y", true), "CONSUMER_EXISTS");
    peer.check(register("bad name", latest, "", true), "INVALID_NAME");
    let beyond = Position::Offset(9);
    peer.check(register("d", beyond, "", true), "OFFSET_OUT_OF_RANGE 2");
    peer.check(
        register("d", Position::Last(1), "", true),
        "cursor=1 created",
    );
    let unknown = RegisterConsumer {
        settings: vec![Setting {
            key: "color".into(),
            value: "red".into(),
        }],
        ..register("e", latest, "", true)
    };
    peer.check(unknown, "INVALID_CONFIG");
    let nowhere = RegisterConsumer {
        topic: "nowhere".into(),
        ..register("c", latest, "", true)
    };
    peer.check(nowhere, "TOPIC_NOT_FOUND");

    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(register("c", Position::Earliest, "x", true), "cursor=2");
    peer.check(register("c", latest, "y", true), "CONSUMER_EXISTS");
}

#[test]
fn a_consumer_belongs_to_one_topic_and_ends_with_its_registration() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let (topic, other) = (peer.create("app"), peer.create("other"));
    let worker = Worker::of(&peer.consumer("app", "c"), 1);
    let elsewhere = Worker {
        topic: other,
        ..worker
    };
    peer.check(elsewhere.take(1, 1), "NOT_REGISTERED_FOR_TOPIC");
    peer.check(elsewhere.size(), "NOT_REGISTERED_FOR_TOPIC");
    let nobody = Worker {
        consumer: ConsumerId(999),
        ..worker
    };
    peer.check(nobody.take(1, 1), "CONSUMER_NOT_FOUND");
    peer.check(nobody.size(), "CONSUMER_NOT_FOUND");

    peer.produce(topic, &["a"]);
    peer.check(worker.take(1, 1), "0:a next=1");
    let waiting = peer.send(&worker.wait(2));
    let unregister = UnregisterConsumer {
        topic,
        consumer: worker.consumer,
    };
    peer.check(unregister.clone(), "done");
    peer.check_answer::<Consume>(waiting, "CONSUMER_NOT_FOUND");
    peer.check(unregister, "CONSUMER_NOT_FOUND");
    peer.check(worker.size(), "CONSUMER_NOT_FOUND");
    let again = peer.consumer("app", "c");
    assert_ne!(again.consumer, worker.consumer, "ids are never reused");
    assert_eq!((again.cursor, again.created), (0, true));
}

#[test]
fn a_consume_that_waits_is_woken_by_a_record() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let worker = Worker::of(&peer.consumer("app", "c"), 1);
    let waiting = peer.send(&worker.wait(1));
    peer.settle(topic);
    broker.connect().produce(topic, &["a", "b"]);
    peer.check_answer::<Consume>(waiting, "0:a next=1");
}

#[test]
fn a_newer_consume_of_the_same_worker_takes_the_place_of_the_one_that_waits() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let worker = Worker::of(&peer.consumer("app", "c"), 1);
    let older = peer.send(&worker.wait(1));
    peer.settle(topic);
    let mut other = broker.connect();
    let newer = other.send(&worker.wait(1));
    peer.check_answer::<Consume>(older, "CANCELLED");
    peer.produce(topic, &["a"]);
    other.check_answer::<Consume>(newer, "0:a next=1");
}

#[test]
fn a_consumer_that_waits_takes_records_in_the_flush_that_stores_them() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let worker = Worker::of(&peer.consumer("app", "c"), 1);
    for (sequence, value) in (1..).zip(["a", "b", "c"]) {
        let waiting = peer.send(&worker.wait(sequence));
        peer.settle(topic);
        let before = peer.counter("", "flushes");
        peer.produce(topic, &[value]);
        let taken = format!("{0}:{value} next={sequence}", sequence - 1);
        peer.check_answer::<Consume>(waiting, &taken);
        assert_eq!(peer.counter("", "flushes"), before + 1);
        // What was answered is durable.
        peer.check(worker.size(), "records=0 bytes=0");
    }
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(worker.size(), "records=0 bytes=0");
    peer.check(worker.take(3, 1), "2:c next=3");
    peer.check(worker.take(4, 1), "empty next=3");
}

#[test]
fn a_cancelled_consume_moves_nothing_and_only_its_own_connection_can_cancel_it() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let worker = Worker::of(&peer.consumer("app", "c"), 1);
    let waiting = peer.send(&worker.wait(1));
    peer.settle(topic);
    let cancel = Cancel {
        topic,
        correlation: waiting,
    };
    broker.connect().check(cancel.clone(), "done");
    assert_eq!(peer.counter("app", "requests_waiting"), 1);
    peer.check(cancel, "done");
    peer.check_answer::<Consume>(waiting, "CANCELLED");
    peer.produce(topic, &["a"]);
    peer.check(worker.size(), "records=1 bytes=1");
    peer.check(worker.take(1, 1), "0:a next=1");
}

#[test]
fn closing_a_connection_withdraws_the_consume_that_waits_on_it() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let nobody = Worker::of(&peer.consumer("app", "c"), 0);
    let mut leaving = broker.connect();
    leaving.send(&nobody.wait(0));
    leaving.settle(topic);
    drop(leaving);
    until("the consume is withdrawn", || {
        peer.counter("app", "requests_waiting") == 0
    });
    peer.produce(topic, &["a"]);
    peer.check(nobody.size(), "records=1 bytes=1");
}

#[test]
fn closing_a_text_session_withdraws_the_consume_that_waits_on_it() {
    // The story: a session that waited for an answer did not look at its socket. Somebody typed
    // CONSUME with a wait and left, and the next record was given to nobody.
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let consumer = Worker::of(&peer.consumer("app", "c"), 0);
    let mut leaving = broker.text();
    leaving.say("CONSUME app c wait=4m");
    until("the consume waits", || {
        peer.counter("app", "requests_waiting") == 1
    });
    drop(leaving);
    until("the consume is withdrawn", || {
        peer.counter("app", "requests_waiting") == 0
    });
    peer.produce(topic, &["a"]);
    peer.check(consumer.size(), "records=1 bytes=1");
}

#[test]
fn a_lease_of_more_than_twelve_hours_is_not_given() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    peer.create("app");
    let worker = Worker::of(&peer.consumer("app", "c"), 1);
    let leased = Consume {
        lease_ms: 43_200_001,
        ..worker.take(1, 1)
    };
    peer.check(leased, "INVALID_LEASE 43200000");
}

//! Several topics in one request: all of it or nothing, whatever comes in between.

use logdrive_protocol::limits::MAX_PARTS;
use logdrive_protocol::operations::{
    Ack, Consume, Consumed, DeleteTopic, Nack, ProduceAll, RegisterProducer, Settled,
};
use logdrive_protocol::{TopicId, WorkerId};

use crate::support::asking::{Worker, fetch, fetch_waiting, origin, produce, produce_all};
use crate::support::binary::frame_of;
use crate::support::{Broker, Connection, batch, batch_of, said, until};

#[test]
fn all_parts_are_there_after_the_answer_and_after_a_kill() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let [a, b, c] = ["a", "b", "c"].map(|name| peer.create(name));
    peer.produce(b, &["before"]);
    // The parts stand in any order; the answers are in theirs.
    let parts = [
        (c, batch(&["3"])),
        (a, batch(&["1"])),
        (b, batch(&["2", "2+"])),
    ];
    peer.check(produce_all(parts), "offsets=0,0,1");
    peer.check(fetch(a, 0), "0:1 next=1");
    peer.check(fetch(b, 0), "0:before 1:2 2:2+ next=3");
    peer.check(fetch(c, 0), "0:3 next=1");
    peer.check(produce(b, batch(&["after"])), "offset=3 synced");

    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(fetch(a, 0), "0:1 next=1");
    peer.check(fetch(b, 0), "0:before 1:2 2:2+ 3:after next=4");
    peer.check(fetch(c, 0), "0:3 next=1");
}

#[test]
fn one_part_that_is_refused_stops_all_and_everybody_goes_on() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let [a, b, c] = ["a", "b", "c"].map(|name| peer.create(name));
    let missing = TopicId(c.0 + 1000);
    let good = |topic| (topic, batch(&["x"]));
    let corrupt = || {
        let mut bytes = batch(&["x"]).into_mut();
        *bytes.last_mut().unwrap() ^= 1;
        logdrive_protocol::operations::Payload::Owned(bytes)
    };
    peer.check(
        produce_all([good(a), good(b), (c, corrupt())]),
        "BATCH_CORRUPT",
    );
    peer.check(
        produce_all([good(a), (b, corrupt()), good(c)]),
        "BATCH_CORRUPT",
    );
    peer.check(produce_all([good(a), good(missing)]), "TOPIC_NOT_FOUND");
    for topic in [a, b, c] {
        peer.check(fetch(topic, 0), "empty next=0");
        peer.check(produce(topic, batch(&["y"])), "offset=0 synced");
    }
}

#[test]
fn what_is_no_transaction_is_refused_with_an_error_of_its_own() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let registered = peer.producer("a");
    let (a, b) = (registered.topic, peer.create("b"));
    let part = |topic| (topic, batch(&["x"]));
    peer.check(ProduceAll::default(), "INVALID_PARTS");
    peer.check(produce_all([part(a), part(b), part(a)]), "INVALID_PARTS");
    let mixed = [(a, batch_of(origin(&registered, 0), &["x"])), part(b)];
    peer.check(produce_all(mixed), "INVALID_PARTS");
    let too_many = (0..=MAX_PARTS as u64).map(|id| part(TopicId(id)));
    peer.check(produce_all(too_many), &format!("LIMIT_REACHED {MAX_PARTS}"));
    peer.check(fetch(a, 0), "empty next=0");
}

#[test]
fn a_retry_of_the_whole_gets_the_same_answer_and_a_part_of_it_is_refused() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let (a, b) = (peer.producer("a"), peer.producer("b"));
    let part = |of, at, value: &str| batch_of(origin(of, at), &[value]);
    let both = |at, value: &str| {
        produce_all([
            (a.topic, part(&a, at, value)),
            (b.topic, part(&b, at, value)),
        ])
    };
    // The second one arrives while the first is on its way, or when it is there: the same answer.
    let numbers = peer.send_all(&[both(0, "1"), both(0, "1")]);
    for number in numbers {
        peer.check_answer::<ProduceAll>(number, "offsets=0,0");
    }
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(both(0, "1"), "offsets=0,0");
    peer.check(both(0, "other"), "SEQUENCE_REUSED");
    peer.check(both(5, "5"), "OUT_OF_SEQUENCE 1");
    for (first, second) in [((0, "1"), (1, "2")), ((1, "2"), (0, "1"))] {
        let mixed = produce_all([
            (a.topic, part(&a, first.0, first.1)),
            (b.topic, part(&b, second.0, second.1)),
        ]);
        peer.check(mixed, "PARTLY_STORED");
    }
    peer.check(both(1, "2"), "offsets=1,1");
    peer.check(fetch(a.topic, 0), "0:1 1:2 next=2");
    peer.check(fetch(b.topic, 0), "0:1 1:2 next=2");
}

#[test]
fn producers_of_elsewhere_are_named_and_nothing_is_stored() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let (a, b) = (peer.producer("a"), peer.producer("b"));
    let swapped = produce_all([
        (a.topic, batch_of(origin(&a, 0), &["x"])),
        (b.topic, batch_of(origin(&a, 1), &["x"])),
    ]);
    peer.check(swapped, "NOT_REGISTERED_FOR_TOPIC");
    peer.check(fetch(a.topic, 0), "empty next=0");
}

#[test]
fn a_retry_of_what_was_produced_and_acked_is_one_as_a_whole() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let orders = peer.create("orders");
    let bills = peer.producer("bills");
    peer.produce(orders, &["17", "18"]);
    let worker = Worker::of(&peer.consumer("orders", "desk"), 7);
    let taken = peer.ask(Consume {
        lease_ms: 60_000,
        ..worker.take(1, 0)
    });
    let lease = taken.unwrap().ranges[0].lease;
    let billed = || ProduceAll {
        consumed: vec![Consumed {
            topic: orders,
            consumer: worker.consumer,
            worker: WorkerId(worker.id),
            settled: vec![Settled {
                lease,
                from: 0,
                to: 1,
            }],
        }],
        ..produce_all([(bills.topic, batch_of(origin(&bills, 0), &["17 billed"]))])
    };
    assert_eq!(peer.ask(billed()).unwrap().acked, 1);
    // The answer was lost: the retry is one as a whole.
    let again = peer.ask(billed()).unwrap();
    assert_eq!((again.parts[0].base_offset, again.acked), (0, 0));

    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(worker.size(), "records=1 bytes=2");
    peer.check(fetch(bills.topic, 0), "0:17 billed next=1");
}

#[test]
fn who_lost_a_lease_stores_nothing_even_when_another_has_acked_the_records() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    // The consumer's topic is visited before the one that knows what is a retry, and after it.
    let early = peer.create("early");
    let bills = ["slow", "quick"].map(|name| {
        let registered = peer.ask(RegisterProducer {
            topic: "bills".to_owned(),
            name: name.to_owned(),
            create_topic: true,
            ..RegisterProducer::default()
        });
        registered.unwrap()
    });
    let late = peer.create("late");
    for (sequence, (name, topic)) in [("early", early), ("late", late)].into_iter().enumerate() {
        let before = 2 * sequence as u64;
        peer.produce(topic, &["17"]);
        let desk = peer.consumer(name, "desk");
        let take = |peer: &mut Connection, id| {
            let worker = Worker::of(&desk, id);
            let lend = Consume {
                lease_ms: 60_000,
                ..worker.take(1, 0)
            };
            peer.ask(lend).unwrap().ranges[0].lease
        };
        let consumed = |worker, lease| Consumed {
            topic,
            consumer: desk.consumer,
            worker: WorkerId(worker),
            settled: vec![Settled {
                lease,
                from: 0,
                to: 1,
            }],
        };
        let billed = |who: usize, lease| {
            let value = format!("17 of {name} billed by {who}");
            let batch = batch_of(origin(&bills[who], sequence as u64), &[value]);
            ProduceAll {
                consumed: vec![consumed(who as u64 + 1, lease)],
                ..produce_all([(bills[who].topic, batch)])
            }
        };
        let slow = take(&mut peer, 1);
        peer.ask(Nack {
            topic,
            consumer: desk.consumer,
            worker: WorkerId(1),
            settled: consumed(1, slow).settled,
            delay_ms: 0,
        })
        .unwrap();
        let quick = take(&mut peer, 2);
        peer.check(billed(0, slow), "LEASE_LOST");
        let done = format!("offsets={before} acked=1");
        peer.check(billed(1, quick), &done);
        peer.check(billed(0, slow), "LEASE_LOST");
        // Its own answer was lost: the retry is known by its batch.
        peer.check(billed(1, quick), &format!("offsets={before}"));
        let nobody = |lease| ProduceAll {
            consumed: vec![consumed(2, lease)],
            ..produce_all([(bills[1].topic, batch(&["again"]))])
        };
        peer.check(nobody(quick), "LEASE_LOST");
        peer.check(
            Ack {
                topic,
                consumer: desk.consumer,
                worker: WorkerId(2),
                settled: consumed(2, quick).settled,
            },
            "acked=0",
        );
        peer.ask(produce(
            bills[0].topic,
            batch_of(origin(&bills[0], sequence as u64), &["end"]),
        ))
        .unwrap();
    }
    let stored = "0:17 of early billed by 1 1:end 2:17 of late billed by 1 3:end next=4";
    peer.check(fetch(bills[0].topic, 0), stored);
}

#[test]
fn what_was_consumed_is_acked_with_what_is_produced_or_not_at_all() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let [a, b] = ["a", "b"].map(|name| peer.create(name));
    peer.produce(b, &["job 1", "job 2"]);
    let worker = Worker::of(&peer.consumer("b", "c"), 1);
    let taken = peer
        .ask(Consume {
            lease_ms: 60_000,
            ..worker.take(1, 0)
        })
        .unwrap();
    let lease = taken.ranges[0].lease;
    let done = |lease, from, to, parts: ProduceAll| ProduceAll {
        consumed: vec![Consumed {
            topic: b,
            consumer: worker.consumer,
            worker: WorkerId(worker.id),
            settled: vec![Settled { lease, from, to }],
        }],
        ..parts
    };
    let result = || produce_all([(a, batch(&["result"]))]);
    peer.check(done(lease + 1, 0, 1, result()), "NOT_LEASED");
    peer.check(worker.size(), "records=2 bytes=10");
    peer.check(fetch(a, 0), "empty next=0");
    peer.check(done(lease, 0, 1, result()), "offsets=0 acked=1");
    peer.check(done(lease, 0, 1, ProduceAll::default()), "offsets=");
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(fetch(a, 0), "0:result next=1");
    peer.check(worker.size(), "records=1 bytes=5");
    peer.check(done(lease, 0, 2, result()), "offsets=1 acked=1");
    peer.check(worker.size(), "records=0 bytes=0");
}

/// Sends so many transactions over the same topics, in an order of its own.
fn cross(peer: &mut Connection, topics: &[TopicId], count: usize, who: usize) {
    let requests: Vec<_> = (0..count)
        .map(|number| {
            let value = format!("{who} {number}");
            let mut parts: Vec<_> = topics.iter().map(|id| (*id, batch(&[&value]))).collect();
            parts.rotate_left((who + number) % topics.len());
            produce_all(parts)
        })
        .collect();
    for number in peer.send_all(&requests) {
        peer.answer::<ProduceAll>(number).unwrap();
    }
}

#[test]
fn transactions_that_cross_all_end_and_stand_in_one_order_everywhere() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topics = ["a", "b", "c", "d"].map(|name| peer.create(name));
    std::thread::scope(|scope| {
        for who in 0..4 {
            let mut peer = broker.connect();
            scope.spawn(move || cross(&mut peer, &topics, 50, who));
        }
        // Others append to one of them, read and consume meanwhile.
        let mut other = broker.connect();
        scope.spawn(move || {
            for _ in 0..100 {
                other.produce(topics[1], &["other"]);
                other.ask(fetch(topics[2], 0)).unwrap();
            }
        });
        let mut consumer = broker.connect();
        scope.spawn(move || {
            let worker = Worker::of(&consumer.consumer("c", "all"), 7);
            for sequence in 1..=200 {
                consumer.ask(worker.wait(sequence)).unwrap();
            }
        });
    });
    let mut values = topics.map(|topic| -> Vec<Vec<u8>> {
        let records = peer.all(topic).into_iter().map(|(_, value)| value);
        records.filter(|value| value != b"other").collect()
    });
    let first = values[0].clone();
    assert_eq!(first.len(), 200);
    for of_topic in &mut values {
        assert_eq!(*of_topic, first);
    }
    assert_eq!(peer.all(topics[1]).len(), 300);
}

#[test]
fn who_waits_for_records_gets_those_of_a_transaction() {
    let broker = Broker::start();
    let (mut peer, mut taker) = (broker.connect(), broker.connect());
    let [a, b] = ["a", "b"].map(|name| peer.create(name));
    let worker = Worker::of(&taker.consumer("a", "c"), 7);
    let number = taker.send(&worker.wait(1));
    let reading = taker.send(&fetch_waiting(b, 0));
    let counter = |peer: &mut Connection, topic| peer.counter(topic, "requests_waiting");
    until("both wait", || {
        counter(&mut peer, "a") + counter(&mut peer, "b") == 2
    });
    peer.check(
        produce_all([(a, batch(&["1"])), (b, batch(&["2"]))]),
        "offsets=0,0",
    );
    taker.check_answer::<logdrive_protocol::operations::Consume>(number, "0:1 next=1");
    taker.check_answer::<logdrive_protocol::operations::Fetch>(reading, "0:2 next=1");
}

#[test]
fn a_topic_deleted_meanwhile_stops_the_transaction_or_goes_after_it() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let a = peer.create("a");
    for round in 0..20 {
        let b = peer.create("b");
        let mut other = broker.connect();
        // Its address is known to this connection before the topic goes.
        other.check(fetch(b, 0), "empty next=0");
        let before = peer.all(a).len();
        let (deleted, transaction) = std::thread::scope(|scope| {
            let request = produce_all([(a, batch(&["1"])), (b, batch(&["2"]))]);
            let asked = scope.spawn(move || said(other.ask(request)));
            let deleted = peer.ask(DeleteTopic { topic: b });
            (deleted, asked.join().unwrap())
        });
        deleted.unwrap();
        let appended = peer.all(a).len() - before;
        match transaction.as_str() {
            "UNAVAILABLE" | "TOPIC_NOT_FOUND" => assert_eq!(appended, 0, "round {round}"),
            _ => assert_eq!(appended, 1, "round {round}: {transaction}"),
        }
        peer.ask(produce(a, batch(&["y"]))).unwrap();
    }
}

/// Kills without `LOGDRIVE_KILLS`.
const KILLS: usize = 4;

/// Sends transactions over the topics, all with values of their own, and hears no answer.
fn send_blindly(peer: &mut Connection, topics: &[TopicId], who: usize, life: usize) {
    for number in 0..2_000 {
        let value = format!("{life} {who} {number}");
        let parts = topics.iter().map(|id| (*id, batch(&[&value])));
        let correlation = peer.number();
        if !peer.try_write(&frame_of(correlation, &produce_all(parts))) {
            return;
        }
    }
}

#[test]
fn a_transaction_is_in_all_of_its_topics_or_in_none_wherever_the_broker_is_killed() {
    let kills = std::env::var("LOGDRIVE_KILLS").ok();
    let kills = kills.and_then(|it| it.parse().ok()).unwrap_or(KILLS);
    let mut broker = Broker::start();
    let topics = ["a", "b", "c"].map(|name| broker.connect().create(name));
    let mut stored = 0;
    for life in 0..kills {
        let mut peers = [0, 1].map(|_| broker.connect());
        let mut watcher = broker.connect();
        broker = std::thread::scope(|scope| {
            for (who, peer) in peers.iter_mut().enumerate() {
                scope.spawn(move || send_blindly(peer, &topics, who, life));
            }
            // Somewhere among them, at another place each time.
            for _ in 0..=(life * 7 % 20) {
                let seen = fetch_waiting(topics[life % 3], stored);
                stored = watcher.ask(seen).unwrap().next;
            }
            broker.killed_and_restarted()
        });
        let mut peer = broker.connect();
        let [a, b, c] = topics.map(|topic| peer.all(topic));
        assert!(a.len() as u64 >= stored, "what was read is still there");
        assert_eq!(a, b);
        assert_eq!(b, c);
        stored = a.len() as u64;
    }
    assert!(stored > 0);
}

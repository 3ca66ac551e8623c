//! Consumers with a filter: limits count what matches, and what does not is passed in large steps.

use logdrive_protocol::operations::{Consume, Delivered, RegisterConsumer, Setting};

use crate::support::asking::Worker;
use crate::support::{Broker, Connection};

/// Worker 1 of a new consumer of topic `app`, which wants values with this text.
fn wants(peer: &mut Connection, name: &str, text: &str) -> Worker {
    let registered = peer.ask(RegisterConsumer {
        topic: "app".to_owned(),
        name: name.to_owned(),
        create: true,
        settings: vec![Setting {
            key: "grep".to_owned(),
            value: text.to_owned(),
        }],
        ..RegisterConsumer::default()
    });
    Worker::of(&registered.unwrap(), 1)
}

#[test]
fn one_match_behind_much_that_does_not_is_found_in_few_steps() {
    // The story: a request for one record looked through one record at a time, and made each step
    // durable, so that it took longer the less it asked for.
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    for _ in 0..30 {
        peer.produce(topic, &["hay"; 1_000]);
    }
    peer.produce(topic, &["needle", "hay"]);
    let check = |peer: &mut Connection, name: &str, lease_ms| {
        let worker = wants(peer, name, "needle");
        let flushes = peer.counter("", "flushes");
        let found = loop {
            let request = Consume {
                lease_ms,
                ..worker.take(1, 1)
            };
            let answer: Delivered = peer.ask(request).unwrap();
            if answer.status != Delivered::PASSED {
                break answer;
            }
            // It uses up no sequence, and what it has passed is acked.
            assert!(answer.ranges.is_empty() && answer.next > 0);
        };
        let offsets: Vec<_> = found.records().map(|it| it.offset).collect();
        assert_eq!(offsets, [30_000]);
        assert_eq!(found.next, 30_001);
        let steps = peer.counter("", "flushes") - flushes;
        assert!(steps < 100, "{steps} flushes for one record");
    };
    check(&mut peer, "one", 0);
    check(&mut peer, "two", 60_000);
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    check(&mut peer, "three", 0);
    check(&mut peer, "four", 60_000);
}

#[test]
fn a_limit_counts_what_matches_and_the_rest_stays() {
    // The story: the limit bounded what was looked through, so that nine asked for gave one.
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    for _ in 0..20 {
        peer.produce(topic, &["a", "b", "c", "needle", "d"]);
    }
    for (name, lease_ms) in [("one", 0), ("two", 60_000)] {
        let worker = wants(&mut peer, name, "needle");
        let mut take = |sequence, max_records| -> (Vec<u64>, u64) {
            let request = Consume {
                lease_ms,
                ..worker.take(sequence, max_records)
            };
            let answer: Delivered = peer.ask(request).unwrap();
            let offsets = answer.records().map(|it| it.offset).collect();
            (offsets, answer.next)
        };
        let nth = |range: std::ops::Range<u64>| range.map(|n| 5 * n + 3).collect::<Vec<_>>();
        assert_eq!(take(1, 9), (nth(0..9), 44));
        assert_eq!(take(1, 9).0, nth(0..9), "the same request gives the same");
        assert_eq!(take(2, 1), (nth(9..10), 49));
        assert_eq!(take(3, 0), (nth(10..20), 100));
    }
}

#[test]
fn few_bytes_are_a_batch_with_a_match_and_those_without_do_not_count() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    for _ in 0..3 {
        peer.produce(topic, &["hay", "hay"]);
        peer.produce(topic, &["needle", "needle"]);
    }
    let worker = wants(&mut peer, "c", "needle");
    for (sequence, expected) in [
        (1, "2:needle 3:needle next=6"),
        (2, "6:needle 7:needle next=10"),
        (3, "10:needle 11:needle next=12"),
    ] {
        let request = Consume {
            max_bytes: 1,
            ..worker.take(sequence, 0)
        };
        peer.check(request, expected);
    }
    peer.check(worker.size(), "records=0 bytes=0");
}

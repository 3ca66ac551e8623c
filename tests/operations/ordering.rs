//! The order of keys: records of one key come in order, to one worker at a time.

use logdrive_protocol::WorkerId;
use logdrive_protocol::batch::{BatchBuilder, NewRecord, Origin};
use logdrive_protocol::operations::{
    Ack, Consume, Delivered, Nack, Payload, RegisterConsumer, Setting, Settled,
};

use crate::support::asking::{Worker, produce};
use crate::support::{Broker, Connection, said};

/// Longer than any test.
const LONG_MS: u32 = 600_000;

/// Leases records; what was said, and what settles all of them.
fn leased(
    peer: &mut Connection,
    worker: &Worker,
    (sequence, max_records): (u64, u32),
    expected: &str,
) -> Vec<Settled> {
    let lend = Consume {
        lease_ms: LONG_MS,
        ..worker.take(sequence, max_records)
    };
    let delivered: Delivered = peer.ask(lend).unwrap();
    assert_eq!(said(Ok(delivered.clone())), expected);
    let ranges = delivered.ranges.iter();
    let settled = ranges.map(|range| Settled {
        lease: range.lease,
        from: range.from,
        to: range.to,
    });
    settled.collect()
}

fn nack(worker: &Worker, settled: Vec<Settled>) -> Nack {
    Nack {
        topic: worker.topic,
        consumer: worker.consumer,
        worker: WorkerId(worker.id),
        settled,
        delay_ms: 0,
    }
}

fn ack(worker: &Worker, settled: Vec<Settled>) -> Ack {
    Ack {
        topic: worker.topic,
        consumer: worker.consumer,
        worker: WorkerId(worker.id),
        settled,
    }
}

/// A broker with records a, b and c of one key in topic `app`, and a worker of a consumer that keeps
/// the order of keys.
fn three_of_one_key() -> (Broker, Connection, Worker) {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let mut builder = BatchBuilder::default();
    for value in [b"a", b"b", b"c"] {
        builder.push(&NewRecord {
            key: Some(b"k"),
            value,
            ..NewRecord::default()
        });
    }
    let batch = builder.finish(Origin::default()).freeze();
    peer.check(produce(topic, Payload::Shared(batch)), "offset=0 synced");
    let registered = peer.ask(RegisterConsumer {
        topic: "app".to_owned(),
        name: "c".to_owned(),
        settings: vec![Setting {
            key: "order".to_owned(),
            value: "key".to_owned(),
        }],
        create: true,
        ..RegisterConsumer::default()
    });
    let worker = Worker::of(&registered.unwrap(), 1);
    (broker, peer, worker)
}

#[test]
fn what_was_given_back_twice_comes_in_the_order_of_its_key_after_a_kill() {
    let (broker, mut peer, worker) = three_of_one_key();
    let all = leased(&mut peer, &worker, (1, 0), "0:a 1:b 2:c next=3");
    peer.check(nack(&worker, all), "nacked=3");
    let first = leased(&mut peer, &worker, (2, 1), "0:a(1) next=3");
    peer.check(nack(&worker, first), "nacked=1");
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    let first = leased(&mut peer, &worker, (3, 1), "0:a(2) next=3");
    peer.check(ack(&worker, first), "acked=1");
    let rest = leased(&mut peer, &worker, (4, 0), "1:b(1) 2:c(1) next=3");
    peer.check(ack(&worker, rest), "acked=2");
    peer.check(worker.size(), "records=0 bytes=0");
}

#[test]
fn what_waits_for_a_busy_key_is_set_aside_in_few_steps_however_few_records_are_asked_for() {
    const WAITING: u32 = 9_000;
    let (_broker, mut peer, worker) = three_of_one_key();
    let first = leased(&mut peer, &worker, (1, 1), "0:a next=1");
    let mut builder = BatchBuilder::default();
    for _ in 0..WAITING {
        builder.push(&NewRecord {
            key: Some(b"k"),
            value: b"x",
            ..NewRecord::default()
        });
    }
    builder.push(&NewRecord {
        key: Some(b"other"),
        value: b"y",
        ..NewRecord::default()
    });
    let batch = builder.finish(Origin::default()).freeze();
    peer.check(
        produce(worker.topic, Payload::Shared(batch)),
        "offset=3 synced",
    );
    let found = leased(&mut peer, &worker, (2, 1), "9003:y next=9004");
    // Each step that sets records aside takes a number of its own.
    let steps = found[0].lease - first[0].lease;
    assert!(steps < u64::from(WAITING) / 100, "{steps} steps");
}

//! Leases in great numbers: what they cost the broker's memory and its disk, and many workers at
//! once.

use std::sync::atomic::{AtomicU64, Ordering};

use logdrive_protocol::batch::Origin;
use logdrive_protocol::operations::{
    Ack, Consume, ConsumerRegistered, Delivered, Produce, RegisterConsumer, Setting, Settled,
};
use logdrive_protocol::{TopicId, WorkerId};

use crate::support::asking::{Worker, batch_of, produce_accepted};
use crate::support::{Broker, Connection};

const MIB: u64 = 1 << 20;
/// As many as may be leased at once.
const MOST: u64 = 100_000;
/// Longer than any test.
const LONG_MS: u32 = 600_000;
/// Records of one batch.
const BATCH: u64 = 1000;
/// Records of which every second one is acked.
const ACKED: u64 = 10_000;

/// Appends so many records; each says which one it is.
fn fill(peer: &mut Connection, topic: TopicId, records: u64) {
    let requests: Vec<Produce> = (0..records / BATCH)
        .map(|batch| {
            let values = (0..BATCH).map(|at| format!("{:020}", batch * BATCH + at));
            let values: Vec<String> = values.collect();
            produce_accepted(topic, batch_of(Origin::default(), &values))
        })
        .collect();
    for some in requests.chunks(16) {
        for number in peer.send_all(some) {
            peer.answer::<Produce>(number).unwrap();
        }
    }
    peer.produce(topic, &["the last one"]);
}

/// A consumer that may lease as much as any may.
fn registered(peer: &mut Connection, topic: &str) -> ConsumerRegistered {
    peer.ask(RegisterConsumer {
        topic: topic.to_owned(),
        name: "c".to_owned(),
        settings: vec![Setting {
            key: "max_leased".to_owned(),
            value: MOST.to_string(),
        }],
        create: true,
        ..RegisterConsumer::default()
    })
    .unwrap()
}

fn lend(worker: &Worker, sequence: u64, max_records: u32) -> Consume {
    Consume {
        max_bytes: u32::MAX,
        lease_ms: LONG_MS,
        ..worker.take(sequence, max_records)
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

/// Takes so many records at a time for as long as there are some; how often it got any.
fn lend_all(peer: &mut Connection, worker: &Worker, max_records: u32) -> u64 {
    for sequence in 1.. {
        let delivered: Delivered = peer.ask(lend(worker, sequence, max_records)).unwrap();
        if delivered.status != Delivered::SOME {
            assert_eq!(delivered.status, Delivered::HELD);
            return sequence - 1;
        }
    }
    unreachable!()
}

#[test]
fn a_consumer_that_never_acks_holds_a_bounded_part_of_the_brokers_memory() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    fill(&mut peer, topic, 3 * MOST);
    let worker = Worker::of(&registered(&mut peer, "app"), 1);
    let before = broker.resident_bytes();
    assert_eq!(lend_all(&mut peer, &worker, 1000), MOST / 1000);
    let size = peer.ask(worker.size()).unwrap();
    assert_eq!((size.records, size.leased), (3 * MOST + 1, MOST));
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 24 * MIB, "{} MiB more", grown / MIB);
    // Others ask in vain, and nothing grows by it.
    for id in 2..60 {
        let other = Worker::of(&peer.consumer("app", "c"), id);
        peer.check(lend(&other, 1, 0), &format!("held next={MOST}"));
    }
    fill(&mut peer, topic, MOST);
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 32 * MIB, "{} MiB more", grown / MIB);
}

#[test]
fn leases_of_one_record_each_cost_less_than_two_kibibytes() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    fill(&mut peer, topic, MOST / 5);
    let worker = Worker::of(&registered(&mut peer, "app"), 1);
    let before = broker.resident_bytes();
    let leases = MOST / 10;
    for first in (1..=leases).step_by(100) {
        let requests: Vec<Consume> = (first..first + 100)
            .map(|sequence| lend(&worker, sequence, 1))
            .collect();
        // One after the other: a worker has one request under way.
        for request in requests {
            let delivered: Delivered = peer.ask(request).unwrap();
            assert_eq!(delivered.record_count(), 1);
        }
    }
    let size = peer.ask(worker.size()).unwrap();
    assert_eq!(size.leased, leases);
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < leases * 2048, "{} bytes each", grown / leases);
}

/// Bytes that the broker writes for an ack of every second one of a hundred times 100 records of a
/// lease: the worst for a set that is stored as ranges, each ack with a transaction of its own.
fn written_for_acks(broker: &Broker, peer: &mut Connection, worker: &Worker, lease: u64) -> u64 {
    let before = broker.written_bytes();
    for first in (0..ACKED).step_by(200) {
        let odd = (first..first + 200).step_by(2);
        let one = |from| Settled {
            lease,
            from,
            to: from + 1,
        };
        peer.check(ack(worker, odd.map(one).collect()), "acked=100");
    }
    (broker.written_bytes() - before) / (ACKED / 200)
}

#[test]
fn a_hundred_thousand_leased_records_survive_a_kill_and_acks_of_them_write_little() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    fill(&mut peer, topic, MOST);
    // What a transaction costs alone: a lease that holds little more than what is acked.
    let small = Worker::of(&peer.consumer("app", "small"), 1);
    let few = u32::try_from(ACKED).unwrap();
    let delivered: Delivered = peer.ask(lend(&small, 1, few)).unwrap();
    let base = written_for_acks(&broker, &mut peer, &small, delivered.ranges[0].lease);

    let worker = Worker::of(&registered(&mut peer, "app"), 1);
    let before = broker.written_bytes();
    let delivered: Delivered = peer.ask(lend(&worker, 1, 0)).unwrap();
    assert_eq!(delivered.record_count(), MOST, "one lease holds them all");
    let written = broker.written_bytes() - before;
    assert!(written < MIB, "{written} bytes for one lease");
    let lease = delivered.ranges[0].lease;

    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    let size = peer.ask(worker.size()).unwrap();
    assert_eq!((size.records, size.leased), (MOST + 1, MOST));
    let each = written_for_acks(&broker, &mut peer, &worker, lease);
    assert!(each < base + (32 << 10), "{each} bytes, and {base} of few");
    let left = MOST - ACKED / 2;
    let size = peer.ask(worker.size()).unwrap();
    assert_eq!((size.records, size.leased), (left + 1, left));

    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    let size = peer.ask(worker.size()).unwrap();
    assert_eq!((size.records, size.leased), (left + 1, left));
    let (from, to) = (0, MOST);
    let rest = vec![Settled { lease, from, to }];
    peer.check(ack(&worker, rest), &format!("acked={left}"));
    peer.check(worker.size(), "records=1 bytes=12");
}

#[test]
fn eight_workers_that_lease_and_ack_at_once_are_given_each_record_once() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    fill(&mut peer, topic, MOST);
    let records = MOST + 1;
    let registered = registered(&mut peer, "app");
    let acked = AtomicU64::new(0);
    let worker = |id| {
        work(
            broker.connect(),
            Worker::of(&registered, id),
            &acked,
            records,
        )
    };
    let mut given: Vec<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..=8).map(|id| scope.spawn(move || worker(id))).collect();
        let given = workers.into_iter().flat_map(|it| it.join().unwrap());
        given.collect()
    });
    given.sort_unstable();
    assert!(given.iter().copied().eq(0..records), "{}", given.len());
    peer.check(Worker::of(&registered, 1).size(), "records=0 bytes=0");
}

/// Leases and acks until all records are acked; the offsets that were given.
fn work(mut peer: Connection, worker: Worker, acked: &AtomicU64, records: u64) -> Vec<u64> {
    let mut given = Vec::new();
    let mut sequence = 1;
    while acked.load(Ordering::Relaxed) < records {
        let consume = Consume {
            max_wait_ms: 50,
            ..lend(&worker, sequence, 1000)
        };
        let delivered: Delivered = peer.ask(consume).unwrap();
        if delivered.status != Delivered::SOME {
            continue;
        }
        sequence += 1;
        let mut plain = delivered.clone();
        plain.check(worker.topic).unwrap();
        given.extend(plain.records().map(|it| it.offset));
        let mut acks = Vec::new();
        for range in &delivered.ranges {
            assert_eq!(range.deliveries, 0);
            for from in (range.from..range.to).step_by(100) {
                let settled = Settled {
                    lease: range.lease,
                    from,
                    to: range.to.min(from + 100),
                };
                acks.push(ack(&worker, vec![settled]));
            }
        }
        for number in peer.send_all(&acks) {
            let now = peer.answer::<Ack>(number).unwrap().records;
            acked.fetch_add(now, Ordering::Relaxed);
        }
    }
    given
}

//! Leases: lent to one worker, acked for good, given back, over.

use std::time::Duration;

use logdrive_client::blocking::{Client, Consumer};
use logdrive_client::{ConsumerOptions, ErrorCode, Event, Position, Record};
use logdrive_protocol::WorkerId;
use logdrive_protocol::operations::{
    Ack, AlterConsumer, Consume, Delivered, Extend, Nack, PurgeTopic, Setting, Settled,
};

use crate::support::asking::{Worker, fetch_waiting};
use crate::support::{Broker, Connection, said};

/// Longer than any test.
const LONG_MS: u32 = 600_000;

/// The next records, leased for so long.
fn lend(worker: &Worker, sequence: u64, max_records: u32, lease_ms: u32) -> Consume {
    Consume {
        lease_ms,
        ..worker.take(sequence, max_records)
    }
}

/// Leases records; what was said, and the lease.
fn leased(peer: &mut Connection, request: Consume, expected: &str) -> u64 {
    let delivered: Delivered = peer.ask(request).unwrap();
    assert_eq!(said(Ok(delivered.clone())), expected);
    delivered.ranges[0].lease
}

fn of(lease: u64, from: u64, to: u64) -> Vec<Settled> {
    vec![Settled { lease, from, to }]
}

fn ack(worker: &Worker, settled: Vec<Settled>) -> Ack {
    Ack {
        topic: worker.topic,
        consumer: worker.consumer,
        worker: WorkerId(worker.id),
        settled,
    }
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

fn extend(worker: &Worker, lease: u64, lease_ms: u32) -> Extend {
    Extend {
        topic: worker.topic,
        consumer: worker.consumer,
        worker: WorkerId(worker.id),
        lease,
        lease_ms,
    }
}

/// A broker with records a, b and c in topic `app`, and two workers of its consumer.
fn three() -> (Broker, Connection, Worker, Worker) {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    peer.produce(topic, &["a", "b", "c"]);
    let registered = peer.consumer("app", "c");
    let workers = (Worker::of(&registered, 1), Worker::of(&registered, 2));
    (broker, peer, workers.0, workers.1)
}

#[test]
fn what_is_leased_is_given_to_nobody_else_until_it_is_given_back() {
    let (_broker, mut peer, one, two) = three();
    let lease = leased(&mut peer, lend(&one, 1, 2, LONG_MS), "0:a 1:b next=2");
    let other = leased(&mut peer, lend(&two, 1, 0, LONG_MS), "2:c next=3");
    peer.check(lend(&two, 2, 0, LONG_MS), "held next=3");
    peer.check(ack(&one, of(lease, 0, 1)), "acked=1");
    peer.check(ack(&one, of(lease, 0, 1)), "acked=0");
    peer.check(nack(&one, of(lease, 1, 2)), "nacked=1");
    let again = leased(&mut peer, lend(&two, 2, 0, LONG_MS), "1:b(1) next=3");
    let both = [of(other, 2, 3), of(again, 1, 2)].concat();
    peer.check(ack(&two, both), "acked=2");
    peer.check(one.size(), "records=0 bytes=0");
    peer.check(lend(&two, 3, 0, LONG_MS), "empty next=3");
}

#[test]
fn leases_and_acks_survive_a_kill() {
    let (broker, mut peer, one, two) = three();
    let lease = leased(&mut peer, lend(&one, 1, 0, LONG_MS), "0:a 1:b 2:c next=3");
    peer.check(ack(&one, of(lease, 1, 2)), "acked=1");
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(lend(&two, 1, 0, LONG_MS), "held next=3");
    peer.check(lend(&one, 1, 0, LONG_MS), "0:a 2:c next=3");
    peer.check(extend(&one, lease, LONG_MS), "done");
    peer.check(nack(&one, of(lease, 0, 3)), "nacked=2");
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    let again = leased(&mut peer, lend(&two, 1, 0, LONG_MS), "0:a(1) 2:c(1) next=3");
    peer.check(ack(&two, of(again, 0, 3)), "acked=2");
    peer.check(one.size(), "records=0 bytes=0");
}

#[test]
fn what_may_not_be_settled_is_refused_each_with_its_own_error() {
    let (_broker, mut peer, one, two) = three();
    let lease = leased(&mut peer, lend(&one, 1, 2, LONG_MS), "0:a 1:b next=2");
    peer.check(ack(&two, of(lease, 0, 1)), "NOT_LEASED");
    peer.check(ack(&one, of(lease, 2, 3)), "NOT_LEASED 2");
    peer.check(ack(&one, of(lease, 0, 9)), "OFFSET_OUT_OF_RANGE 3");
    peer.check(ack(&one, of(lease, 1, 1)), "OFFSET_OUT_OF_RANGE 3");
    peer.check(extend(&one, lease, 0), "INVALID_LEASE 43200000");
    peer.check(extend(&one, lease, 43_200_001), "INVALID_LEASE 43200000");
    peer.check(lend(&one, 2, 0, u32::MAX), "INVALID_LEASE 43200000");
    let other = Worker::of(&peer.consumer("app", "other"), 1);
    let owner = one.consumer;
    peer.check(
        ack(&other, of(lease, 0, 1)),
        &format!("WRONG_CONSUMER {owner}"),
    );
    let whole_or_nothing = [of(lease, 0, 1), of(lease, 2, 3)].concat();
    peer.check(ack(&one, whole_or_nothing), "NOT_LEASED 2");
    peer.check(nack(&one, of(lease, 0, 2)), "nacked=2");
    peer.check(ack(&one, of(lease, 1, 2)), "LEASE_LOST 1");
    peer.check(extend(&one, lease, LONG_MS), "LEASE_LOST");
    peer.check(one.size(), "records=3 bytes=3");
}

#[test]
fn what_was_removed_under_a_lease_is_told_as_a_gap_once() {
    let (_broker, mut peer, one, _) = three();
    let lease = leased(&mut peer, lend(&one, 1, 0, LONG_MS), "0:a 1:b 2:c next=3");
    let purge = PurgeTopic {
        topic: one.topic,
        before: Position::Offset(2),
    };
    peer.ask(purge).unwrap();
    // Its answer was lost: the lease still holds what was removed.
    let repeated: Delivered = peer.ask(lend(&one, 1, 0, LONG_MS)).unwrap();
    peer.check(nack(&one, of(lease, 0, 3)), "nacked=3");
    let again: Delivered = peer.ask(lend(&one, 2, 0, LONG_MS)).unwrap();
    let gaps = repeated.gaps.iter().chain(&again.gaps);
    let told: Vec<_> = gaps.map(|gap| (gap.from, gap.to, gap.records)).collect();
    assert_eq!(told, [(0, 2, 2)]);
}

#[test]
fn a_lease_that_is_over_goes_to_who_waits() {
    let (broker, mut peer, one, two) = three();
    peer.check(lend(&one, 1, 0, 200), "0:a 1:b 2:c next=3");
    let mut other = broker.connect();
    let waiting = Consume {
        max_records: 0,
        lease_ms: LONG_MS,
        ..two.wait(1)
    };
    other.check(waiting, "0:a(1) 1:b(1) 2:c(1) next=3");
}

#[test]
fn a_connection_that_ends_gives_back_and_no_delivery_is_counted() {
    let (broker, peer, one, two) = three();
    let mut leaving = broker.connect();
    leaving.check(lend(&one, 1, 0, LONG_MS), "0:a 1:b 2:c next=3");
    drop(leaving);
    let mut peer = peer;
    let waiting = Consume {
        max_records: 0,
        lease_ms: LONG_MS,
        ..two.wait(1)
    };
    peer.check(waiting, "0:a 1:b 2:c next=3");
}

#[test]
fn a_paused_consumer_gives_nothing_and_takes_acks() {
    let (_broker, mut peer, one, _) = three();
    let lease = leased(&mut peer, lend(&one, 1, 1, LONG_MS), "0:a next=1");
    let alter = |pause| AlterConsumer {
        topic: one.topic,
        consumer: one.consumer,
        pause,
        ..AlterConsumer::default()
    };
    peer.check(alter(1), "paused");
    peer.check(lend(&one, 2, 1, LONG_MS), "held next=1");
    peer.check(ack(&one, of(lease, 0, 1)), "acked=1");
    peer.check(alter(2), "goes on");
    peer.check(lend(&one, 2, 1, LONG_MS), "1:b next=2");
}

fn client(broker: &Broker) -> Client {
    Client::connect(broker.address.to_string()).unwrap()
}

fn consumer(client: &Client) -> Consumer {
    let options = ConsumerOptions {
        lease: Some(Duration::from_mins(10)),
        max_records: 2,
        ..ConsumerOptions::default()
    };
    client.consumer("c", &["app"], options).unwrap()
}

fn record(consumer: &mut Consumer) -> Record {
    match consumer.get_next().unwrap() {
        Some(Event::Record(record)) => record,
        other => panic!("not a record: {other:?}"),
    }
}

#[test]
fn a_client_that_closes_gives_back_what_it_did_not_ack() {
    let (broker, ..) = three();
    let client = client(&broker);
    let mut first = consumer(&client);
    let a = record(&mut first);
    let b = record(&mut first);
    first.ack(&a).unwrap();
    first.nack(&b, Duration::ZERO).unwrap();
    let again = record(&mut first);
    assert_eq!((again.offset, again.deliveries), (1, 1));
    assert_eq!(first.close(), 0);
    let mut second = consumer(&client);
    let records = [record(&mut second), record(&mut second)];
    let seen = records.each_ref().map(|it| (it.offset, it.deliveries));
    assert_eq!(seen, [(1, 2), (2, 1)]);
    second.ack_all().unwrap();
    assert_eq!(second.try_next().unwrap(), None);
    assert!(!second.is_held());
    assert_eq!(client.size("app", "c").unwrap().records, 0);
}

#[test]
fn what_is_held_is_said_and_a_description_says_by_whom() {
    let (broker, ..) = three();
    let client = client(&broker);
    let (mut first, mut second) = (consumer(&client), consumer(&client));
    let a = record(&mut first);
    record(&mut second);
    assert!(second.try_next().unwrap().is_none());
    assert!(second.is_held());
    let described = client.describe_consumer("app", "c").unwrap();
    assert_eq!((described.leased, described.leases.len()), (3, 2));
    assert_eq!((described.cursor, described.next), (0, 3));
    first.ack(&a).unwrap();
    let described = client.describe_consumer("app", "c").unwrap();
    assert_eq!((described.cursor, described.leased), (1, 2));
    client.pause_consumer("app", "c").unwrap();
    assert!(client.describe_consumer("app", "c").unwrap().paused);
    client.resume_consumer("app", "c").unwrap();
    assert_eq!(
        client
            .register_consumer("app", "c", Position::Earliest, false)
            .unwrap()
            .cursor,
        1
    );
}

#[test]
fn what_is_given_up_is_a_dead_letter_and_can_be_delivered_again() {
    let (broker, mut peer, ..) = three();
    let client = client(&broker);
    let dead = peer.create("dead");
    let setting = |key: &str, value: &str| Setting {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let settings = [
        setting("max_deliveries", "1"),
        setting("dead_letter_topic", "dead"),
    ];
    let created = client.create_consumer("app", "picky", Position::Offset(2), &settings);
    assert!(created.unwrap().created);
    let options = ConsumerOptions {
        lease: Some(Duration::from_mins(10)),
        ..ConsumerOptions::default()
    };
    let mut picky = client.consumer("picky", &["app"], options).unwrap();
    let given_up = record(&mut picky);
    picky.nack(&given_up, Duration::ZERO).unwrap();
    peer.check(fetch_waiting(dead, 0), "0:c next=1");
    let mut letters = client
        .consumer("morgue", &["dead"], ConsumerOptions::default())
        .unwrap();
    let letter = record(&mut letters);
    let headers: Vec<String> = letter
        .headers
        .iter()
        .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)))
        .filter(|header| !header.starts_with("logdrive.append_time"))
        .filter(|header| !header.starts_with("logdrive.reason"))
        .collect();
    assert_eq!(
        headers,
        [
            "logdrive.topic=app",
            "logdrive.consumer=picky",
            "logdrive.offset=2",
            "logdrive.deliveries=1"
        ]
    );
    assert_eq!(letter.timestamp, given_up.timestamp);
    assert_eq!(client.size("app", "picky").unwrap().records, 0);
    let refused = client.requeue("app", "c", "dead", &[(0, 1)]).unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::NotADeadLetter));
    assert_eq!(
        client.requeue("app", "picky", "dead", &[(0, 1)]).unwrap(),
        1
    );
    let again = record(&mut picky);
    assert_eq!((again.offset, again.deliveries), (2, 0));
    assert_eq!(again.value, "c");
    picky.ack(&again).unwrap();
    assert_eq!(client.size("app", "picky").unwrap().records, 0);
}

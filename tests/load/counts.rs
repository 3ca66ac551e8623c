//! How many there may be of everything: the last one that fits, and the first that does not.

use logdrive::limits::{MAX_CONSUMERS, MAX_PRODUCERS, MAX_REQUESTS, MAX_WAITING};
use logdrive_protocol::ErrorCode;
use logdrive_protocol::limits::{
    MAX_GLOB_BYTES, MAX_LEASE_MS, MAX_LIST, MAX_NAME_BYTES, MAX_SETTLED,
};
use logdrive_protocol::operations::{
    Ack, CreateTopic, Extend, Fetch, ListTopics, Metadata, Operation, Ping, RegisterConsumer,
    RegisterProducer, Settled,
};

use crate::support::asking::{Worker, fetch_waiting, register};
use crate::support::{Broker, Connection, until};

/// Sends all; how many were done, and the one that was refused.
fn all_but_one<O: Operation>(peer: &mut Connection, requests: &[O]) -> (usize, ErrorCode) {
    let numbers = peer.send_all(requests);
    let answers: Vec<_> = numbers.into_iter().map(|it| peer.answer::<O>(it)).collect();
    let refused: Vec<_> = answers.iter().filter_map(|it| it.as_ref().err()).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    (answers.len() - 1, refused[0].code)
}

#[test]
fn a_topic_has_so_many_consumers_and_so_many_producers() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    peer.create("app");
    let consumers: Vec<_> = (0..=MAX_CONSUMERS)
        .map(|number| RegisterConsumer {
            topic: "app".to_owned(),
            name: format!("c-{number}"),
            create: true,
            ..RegisterConsumer::default()
        })
        .collect();
    let refused = all_but_one(&mut peer, &consumers);
    assert_eq!(refused, (MAX_CONSUMERS, ErrorCode::LimitReached));
    let producers: Vec<RegisterProducer> = (0..=MAX_PRODUCERS as u64)
        .map(|number| register("app", "", number + 1))
        .collect();
    let refused = all_but_one(&mut peer, &producers);
    assert_eq!(refused, (MAX_PRODUCERS, ErrorCode::LimitReached));
}

#[test]
fn so_many_requests_wait_for_a_topic_and_one_more_is_refused_by_name() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let mut peers: Vec<_> = (0..4).map(|_| broker.connect()).collect();
    for one in &mut peers {
        one.send_all(&vec![fetch_waiting(topic, 0); MAX_WAITING / 4]);
    }
    until("all wait", || {
        peer.counter("app", "requests_waiting") == MAX_WAITING as u64
    });
    peer.check(fetch_waiting(topic, 0), "LIMIT_REACHED");
}

#[test]
fn a_connection_has_so_many_requests_under_way_and_the_next_is_read_when_one_is_answered() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let mut busy = broker.connect();
    let most = MAX_REQUESTS as usize;
    let numbers = busy.send_all(&vec![fetch_waiting(topic, 0); most]);
    let ping = busy.send(&Ping {});
    until("all wait", || {
        peer.counter("app", "requests_waiting") == most as u64
    });
    let first = {
        peer.produce(topic, &["a"]);
        busy.hear().unwrap()
    };
    assert_eq!(first.opcode, Fetch::OPCODE, "the Ping was not even read");
    for number in numbers.into_iter().filter(|it| *it != first.correlation) {
        busy.check_answer::<Fetch>(number, "0:a next=1");
    }
    busy.answer::<Ping>(ping).unwrap();
}

#[test]
fn names_lists_globs_leases_and_acks_are_bounded() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create(&"n".repeat(MAX_NAME_BYTES));
    let longer = CreateTopic {
        name: "n".repeat(MAX_NAME_BYTES + 1),
        ..CreateTopic::default()
    };
    peer.check(longer, "INVALID_TOPIC_NAME");
    let names = |count: u32| Metadata {
        topics: vec!["n".to_owned(); count as usize],
    };
    assert!(peer.ask(names(MAX_LIST)).is_ok());
    peer.check(names(MAX_LIST + 1), "LIMIT_REACHED");
    let glob = |bytes: usize| ListTopics {
        glob: "*".repeat(bytes),
        ..ListTopics::default()
    };
    assert!(peer.ask(glob(MAX_GLOB_BYTES)).is_ok());
    peer.check(glob(MAX_GLOB_BYTES + 1), "MALFORMED");
    let worker = Worker::of(&peer.consumer(&"n".repeat(MAX_NAME_BYTES), "c"), 1);
    let settled = |count| Ack {
        topic,
        consumer: worker.consumer,
        settled: vec![Settled::default(); count],
        ..Ack::default()
    };
    let failure = peer.ask(settled(MAX_SETTLED + 1)).unwrap_err();
    assert_eq!(failure.code, ErrorCode::LimitReached);
    let failure = peer.ask(settled(MAX_SETTLED)).unwrap_err();
    assert_ne!(failure.code, ErrorCode::LimitReached, "{failure}");
    let extend = Extend {
        topic,
        consumer: worker.consumer,
        lease_ms: MAX_LEASE_MS + 1,
        ..Extend::default()
    };
    assert_eq!(peer.ask(extend).unwrap_err().code, ErrorCode::InvalidLease);
}

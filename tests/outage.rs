//! A broker that goes away under a producer: a pause if it comes back, an account if it does not.
//!
//! Every case runs twice, for the async client and for the blocking one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(
    dead_code,
    reason = "shared with the trial that stops and looks at it as well"
)]
#[path = "kill/broker.rs"]
mod broker;

use std::time::Duration;

use broker::Broker;
use futures_util::FutureExt;
use logdrive_client::{
    Backoff, Client, Error, ErrorKind, FetchOptions, NewRecord, Options, Position, Producer,
    ProducerOptions, Receipt, Unacknowledged, UnacknowledgedTopic, blocking,
};

/// How long a broker may take to start.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long the clients that give up go on trying.
const SHORT: Duration = Duration::from_millis(300);
const TOPIC: &str = "app";

/// How the broker goes.
type Leave = fn(&mut Broker);

/// Retries for so long, at short intervals.
fn options(retry_for: Duration) -> Options {
    Options {
        retry_for,
        backoff: Backoff {
            longest: Duration::from_millis(100),
            ..Backoff::default()
        },
        ..Options::default()
    }
}

fn record(value: &[u8]) -> NewRecord<'_> {
    NewRecord {
        value,
        ..NewRecord::default()
    }
}

/// The values of the topic, in the order of their offsets, which have no holes.
fn stored(broker: &Broker) -> Vec<String> {
    let client = blocking::Client::connect(broker.address).unwrap();
    let all = client.fetch(TOPIC, Position::Earliest, FetchOptions::default());
    let mut values = Vec::new();
    for portion in all.unwrap() {
        for record in portion.unwrap().records() {
            assert_eq!(record.offset, values.len() as u64);
            values.push(String::from_utf8(record.record.value.to_vec()).unwrap());
        }
    }
    values
}

/// A client and its producer for the topic.
async fn open(broker: &Broker, retry_for: Duration) -> (Client, Producer) {
    let client = Client::connect_with(broker.address, options(retry_for)).await;
    let client = client.unwrap();
    let producer = client.producer(&[TOPIC], ProducerOptions::default());
    let producer = producer.await.unwrap();
    (client, producer)
}

/// Runs a case of the async client. (The blocking one must not be used within a runtime.)
fn run<T>(case: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(case)
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// 20 records acknowledged, 20 on their way when the broker goes, 20 handed over while it is away.
async fn outlives(leave: Leave, values: &[String]) -> Broker {
    let mut broker = Broker::start();
    let (client, mut producer) = open(&broker, PATIENCE).await;
    let (before, rest) = values.split_at(20);
    let (under_way, away) = rest.split_at(20);
    for (offset, value) in (0..).zip(before) {
        assert_eq!(producer.send(TOPIC, value).await.unwrap().offset, offset);
    }
    let mut deliveries = Vec::new();
    for value in under_way {
        let record = record(value.as_bytes());
        deliveries.push(producer.enqueue(TOPIC, &record).await.unwrap());
    }
    leave(&mut broker);
    client.ping().await.unwrap_err();
    for value in away {
        let record = record(value.as_bytes());
        let mut delivery = producer.enqueue(TOPIC, &record).await.unwrap();
        assert!((&mut delivery).now_or_never().is_none(), "nobody is there");
        deliveries.push(delivery);
    }
    broker.start_again();
    for (offset, delivery) in (20..).zip(deliveries) {
        assert_eq!(delivery.await.unwrap().offset, offset);
    }
    assert_eq!(producer.acknowledged(), 60);
    producer.close().await.unwrap();
    broker
}

/// The same with the blocking client.
fn outlives_blocking(leave: Leave, values: &[String]) -> Broker {
    let mut broker = Broker::start();
    let client = blocking::Client::connect_with(broker.address, options(PATIENCE)).unwrap();
    let producer = client.producer(&[TOPIC], ProducerOptions::default());
    let mut producer = producer.unwrap();
    let (before, rest) = values.split_at(20);
    let (under_way, away) = rest.split_at(20);
    for (offset, value) in (0..).zip(before) {
        assert_eq!(producer.send(TOPIC, value).unwrap().offset, offset);
    }
    for value in under_way {
        producer.push(TOPIC, &record(value.as_bytes())).unwrap();
    }
    leave(&mut broker);
    client.ping().unwrap_err();
    let away = away.iter().map(|value| {
        let delivery = producer.enqueue(TOPIC, &record(value.as_bytes()));
        delivery.unwrap()
    });
    let last = away.last().unwrap();
    broker.start_again();
    assert_eq!(producer.wait(last).unwrap().offset, 59);
    assert_eq!(producer.acknowledged(), 60);
    producer.close().unwrap();
    broker
}

#[test]
fn a_broker_that_is_killed_and_comes_back_is_a_pause_for_a_producer() {
    let values = numbers(60);
    let broker = run(outlives(Broker::kill, &values));
    assert_eq!(stored(&broker), values);
}

#[test]
fn a_broker_that_is_stopped_and_comes_back_is_a_pause_for_a_producer() {
    let values = numbers(60);
    let broker = run(outlives(Broker::stop, &values));
    assert_eq!(stored(&broker), values);
}

#[test]
fn a_broker_that_is_killed_and_comes_back_is_a_pause_for_a_blocking_producer() {
    let values = numbers(60);
    let broker = outlives_blocking(Broker::kill, &values);
    assert_eq!(stored(&broker), values);
}

#[test]
fn a_broker_that_is_stopped_and_comes_back_is_a_pause_for_a_blocking_producer() {
    let values = numbers(60);
    let broker = outlives_blocking(Broker::stop, &values);
    assert_eq!(stored(&broker), values);
}

/// What a producer was told that lost its broker for good.
struct Told {
    broker: Broker,
    /// By `close`.
    closed: Result<(), Unacknowledged>,
    /// Of a record that it was handed afterwards.
    refused: Error,
}

/// 10 records are acknowledged, 5 handed over when the broker is known to be gone.
async fn loses(leave: Leave) -> Told {
    let mut broker = Broker::start();
    let (client, mut producer) = open(&broker, SHORT).await;
    for value in numbers(10) {
        producer.send(TOPIC, value).await.unwrap();
    }
    leave(&mut broker);
    client.ping().await.unwrap_err();
    let mut deliveries = Vec::new();
    for _ in 0..5 {
        deliveries.push(producer.enqueue(TOPIC, &record(b"x")).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap_err();
    }
    let refused = producer.send(TOPIC, b"x").await.unwrap_err();
    let closed = producer.close().await;
    Told {
        broker,
        closed,
        refused,
    }
}

/// The same with the blocking client.
fn loses_blocking(leave: Leave) -> Told {
    let mut broker = Broker::start();
    let client = blocking::Client::connect_with(broker.address, options(SHORT)).unwrap();
    let producer = client.producer(&[TOPIC], ProducerOptions::default());
    let mut producer = producer.unwrap();
    for value in numbers(10) {
        producer.send(TOPIC, value).unwrap();
    }
    leave(&mut broker);
    client.ping().unwrap_err();
    for _ in 0..5 {
        producer.push(TOPIC, &record(b"x")).unwrap();
    }
    assert_eq!(producer.flush().unwrap_err().records(), 5);
    let refused = producer.send(TOPIC, b"x").unwrap_err();
    Told {
        broker,
        closed: producer.close(),
        refused,
    }
}

/// All five are not acknowledged, the reason is said with its fix, and it is true.
fn check_account(told: Told) {
    let Told {
        mut broker,
        closed,
        refused,
    } = told;
    let said = closed.unwrap_err();
    let counts: Vec<_> = said
        .topics
        .iter()
        .map(|it| (&*it.topic, it.records, it.unknown, it.lost))
        .collect();
    assert_eq!(counts, [(TOPIC, 5, 0, 0)], "{said}");
    assert_eq!(said.topics[0].error.kind(), ErrorKind::Unreachable);
    let cause = "not acknowledged within 300ms of retries: cannot reach ";
    let fix = "connection refused; is the broker running? start it with: logdrive serve";
    for text in [said.to_string(), refused.to_string()] {
        assert!(text.contains(cause) && text.ends_with(fix), "{text}");
    }
    broker.start_again();
    broker.is_ready();
    assert_eq!(stored(&broker), numbers(10));
}

#[test]
fn close_says_what_was_not_acknowledged_when_the_broker_stays_away() {
    check_account(run(loses(Broker::kill)));
    check_account(run(loses(Broker::stop)));
}

#[test]
fn close_of_a_blocking_producer_says_what_was_not_acknowledged_when_the_broker_stays_away() {
    check_account(loses_blocking(Broker::kill));
    check_account(loses_blocking(Broker::stop));
}

/// 200 records are under way when the broker is killed for good.
async fn loses_under_way() -> (
    Broker,
    Vec<Result<Receipt, Error>>,
    Result<(), Unacknowledged>,
) {
    let mut broker = Broker::start();
    let (_client, mut producer) = open(&broker, SHORT).await;
    let mut deliveries = Vec::new();
    for value in numbers(200) {
        let delivery = producer.enqueue(TOPIC, &record(value.as_bytes())).await;
        deliveries.push(delivery.unwrap());
    }
    broker.kill();
    let told = futures_util::future::join_all(deliveries).await;
    (broker, told, producer.close().await)
}

#[test]
fn what_was_under_way_when_the_broker_went_for_good_is_stored_if_acknowledged_and_else_unknown() {
    let (mut broker, told, closed) = run(loses_under_way());
    let acknowledged = told.iter().filter(|it| it.is_ok()).count();
    let unknown = told
        .iter()
        .filter(|it| matches!(it, Err(error) if error.kind() == ErrorKind::OutcomeUnknown))
        .count();
    let said = closed.err();
    let count = |of: fn(&UnacknowledgedTopic) -> u64| -> u64 {
        let topics = said.iter().flat_map(|said| &said.topics);
        topics.map(of).sum()
    };
    assert_eq!(count(|it| it.records), (200 - acknowledged) as u64);
    assert_eq!(count(|it| it.unknown), unknown as u64);
    broker.start_again();
    broker.is_ready();
    let stored = stored(&broker);
    let possible = acknowledged..=acknowledged + unknown;
    assert!(possible.contains(&stored.len()), "{possible:?} {stored:?}");
    assert_eq!(stored, numbers(200)[..stored.len()]);
}

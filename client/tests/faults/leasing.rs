//! Leases through faults: lost answers, lost connections, lost leases.

use std::time::Duration;

use logdrive_client::{
    Consumer, ConsumerOptions, Error, ErrorCode, ErrorKind, Event, Failure, Pinged, Record,
};
use logdrive_protocol::operations::{
    Ack, Acked, Answer, Consume, Delivered, Extend, Extended, Gap, Nack, Nacked, Operation,
    Request, Settled, WorkerUnregistered,
};

use crate::asking::{consume, delivered, empty, register_consumer};
use crate::double::{Session, TOPIC, client, double};

/// Records of these values, leased.
fn leased(lease: u64, base_offset: u64, values: &[&str]) -> Delivered {
    let mut delivered = delivered(base_offset, values);
    for range in &mut delivered.ranges {
        range.lease = lease;
    }
    delivered
}

/// The next consume is given these.
async fn give(session: &mut Session, answer: Delivered) -> Consume {
    let (correlation, asked) = consume(session).await;
    session.answer(correlation, Answer::Consume(answer)).await;
    asked
}

async fn ack(session: &mut Session) -> (u32, Ack) {
    match session.next().await.expect("an ack") {
        (correlation, Request::Ack(ack)) => (correlation, ack),
        (_, other) => panic!("not an ack: {other:?}"),
    }
}

async fn nack(session: &mut Session) -> (u32, Nack) {
    match session.next().await.expect("a nack") {
        (correlation, Request::Nack(nack)) => (correlation, nack),
        (_, other) => panic!("not a nack: {other:?}"),
    }
}

async fn extend(session: &mut Session) -> Extend {
    match session.next().await.expect("an extension") {
        (correlation, Request::Extend(extend)) => {
            session
                .answer(correlation, Answer::Extend(Extended {}))
                .await;
            extend
        }
        (_, other) => panic!("not an extension: {other:?}"),
    }
}

async fn acked(session: &mut Session, correlation: u32) {
    session
        .answer(correlation, Answer::Ack(Acked::default()))
        .await;
}

fn named(settled: &[Settled]) -> String {
    let one = |it: &Settled| format!("{}:{}..{}", it.lease, it.from, it.to);
    settled.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn lost() -> Failure {
    Failure::new(ErrorCode::LeaseLost, "its time is over")
}

fn options() -> ConsumerOptions {
    ConsumerOptions {
        lease: Some(Duration::from_secs(30)),
        ..ConsumerOptions::default()
    }
}

async fn consumer(address: &str, options: ConsumerOptions) -> Consumer {
    let client = client(address).await;
    client.consumer("c", &["app"], options).await.unwrap()
}

async fn record(consumer: &mut Consumer) -> Record {
    match consumer.get_next().await.unwrap() {
        Some(Event::Record(record)) => record,
        other => panic!("not a record: {other:?}"),
    }
}

fn code(result: Result<(), Error>) -> Option<ErrorCode> {
    result.unwrap_err().code()
}

#[tokio::test]
async fn an_ack_whose_answer_is_lost_is_sent_again() {
    let (address, script) = double(|mut broker| async move {
        let mut first = broker.accept().await;
        register_consumer(&mut first).await;
        let asked = give(&mut first, leased(7, 5, &["a", "b"])).await;
        assert_eq!((asked.lease_ms, asked.sequence), (30_000, 1));
        let (_, lost) = ack(&mut first).await;
        assert_eq!(named(&lost.settled), "7:5..6");
        assert_eq!((lost.topic, lost.worker), (TOPIC, asked.worker));
        drop(first);
        let mut second = broker.accept().await;
        // The other record is still held, so the lease is claimed too; in either order.
        let mut seen = Vec::new();
        for _ in 0..2 {
            match second.next().await.unwrap() {
                (correlation, Request::Ack(again)) => {
                    assert_eq!(again, lost);
                    acked(&mut second, correlation).await;
                    seen.push("ack");
                }
                (correlation, Request::Extend(claim)) => {
                    assert_eq!((claim.lease, claim.worker), (7, asked.worker));
                    second
                        .answer(correlation, Answer::Extend(Extended {}))
                        .await;
                    seen.push("extend");
                }
                other => panic!("unexpected: {other:?}"),
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, ["ack", "extend"]);
    })
    .await;
    let mut consumer = consumer(&address, options()).await;
    let first = record(&mut consumer).await;
    assert_eq!((first.offset, first.deliveries), (5, 0));
    assert_eq!(first.lease.unwrap().number(), 7);
    consumer.ack(&first).await.unwrap();
    script.await.unwrap();
}

#[tokio::test]
async fn what_is_held_is_claimed_on_a_new_connection_before_anybody_asks() {
    let (address, script) = double(|mut broker| async move {
        let mut first = broker.accept().await;
        register_consumer(&mut first).await;
        let asked = give(&mut first, leased(7, 0, &["a"])).await;
        give(&mut first, leased(8, 1, &["b"])).await;
        let (correlation, _) = ack(&mut first).await;
        acked(&mut first, correlation).await;
        let (ping, request) = first.next().await.unwrap();
        assert!(matches!(request, Request::Ping(_)), "{request:?}");
        first.answer(ping, Answer::Ping(Pinged::default())).await;
        drop(first);
        let mut second = broker.accept().await;
        let claim = extend(&mut second).await;
        assert_eq!((claim.lease, claim.lease_ms), (8, 30_000));
        assert_eq!((claim.topic, claim.worker), (TOPIC, asked.worker));
    })
    .await;
    let client = client(&address).await;
    let mut consumer = client.consumer("c", &["app"], options()).await.unwrap();
    let first = record(&mut consumer).await;
    record(&mut consumer).await;
    consumer.ack(&first).await.unwrap();
    client.ping().await.unwrap();
    script.await.unwrap();
}

#[tokio::test]
async fn acks_that_are_ordered_while_one_is_under_way_leave_together() {
    let (address, script) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        register_consumer(&mut session).await;
        give(&mut session, leased(7, 0, &["a", "b", "c", "d"])).await;
        let (first, _) = ack(&mut session).await;
        let (ping, _) = session.next().await.unwrap();
        session.answer(ping, Answer::Ping(Pinged::default())).await;
        acked(&mut session, first).await;
        let (correlation, rest) = ack(&mut session).await;
        assert_eq!(named(&rest.settled), "7:1..4");
        acked(&mut session, correlation).await;
    })
    .await;
    let client = client(&address).await;
    let mut consumer = client.consumer("c", &["app"], options()).await.unwrap();
    let mut records = Vec::new();
    for _ in 0..4 {
        records.push(record(&mut consumer).await);
    }
    let rest = async {
        for record in &records[1..] {
            consumer.ack_later(record).await.unwrap();
        }
        client.ping().await.unwrap();
        consumer.settled().await
    };
    let (first, rest) = tokio::join!(consumer.ack(&records[0]), rest);
    first.unwrap();
    rest.unwrap();
    script.await.unwrap();
}

#[tokio::test]
async fn one_lost_record_does_not_keep_the_others_from_being_acked() {
    let (address, script) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        register_consumer(&mut session).await;
        give(&mut session, leased(7, 0, &["a", "b", "c", "d"])).await;
        let mut done = Vec::new();
        while done.len() < 3 {
            let (correlation, asked) = ack(&mut session).await;
            if asked.settled.iter().any(|it| (it.from..it.to).contains(&2)) {
                session.refuse(Ack::OPCODE, correlation, &lost()).await;
            } else {
                done.extend(asked.settled.iter().flat_map(|it| it.from..it.to));
                acked(&mut session, correlation).await;
            }
        }
        done.sort_unstable();
        assert_eq!(done, [0, 1, 3]);
        session.hung_up().await;
    })
    .await;
    let mut consumer = consumer(&address, options()).await;
    for _ in 0..4 {
        let record = record(&mut consumer).await;
        consumer.ack_later(&record).await.unwrap();
    }
    assert_eq!(code(consumer.settled().await), Some(ErrorCode::LeaseLost));
    consumer.settled().await.unwrap();
    drop(consumer);
    script.await.unwrap();
}

#[tokio::test]
async fn a_nack_that_is_repeated_finds_its_records_given_back() {
    let (address, script) = double(|mut broker| async move {
        let mut first = broker.accept().await;
        register_consumer(&mut first).await;
        give(&mut first, leased(7, 0, &["a", "b"])).await;
        let (_, asked) = nack(&mut first).await;
        assert_eq!(
            (named(&asked.settled), asked.delay_ms),
            ("7:0..1".into(), 5000)
        );
        drop(first);
        let mut second = broker.accept().await;
        let mut nacks = 0;
        while nacks < 2 {
            match second.next().await.unwrap() {
                (correlation, Request::Nack(_)) => {
                    second.refuse(Nack::OPCODE, correlation, &lost()).await;
                    nacks += 1;
                }
                (correlation, Request::Extend(_)) => {
                    second
                        .answer(correlation, Answer::Extend(Extended {}))
                        .await;
                }
                other => panic!("unexpected: {other:?}"),
            }
        }
        second.hung_up().await;
    })
    .await;
    let mut consumer = consumer(&address, options()).await;
    let (a, b) = (record(&mut consumer).await, record(&mut consumer).await);
    consumer.nack(&a, Duration::from_secs(5)).await.unwrap();
    let refused = consumer.nack(&b, Duration::ZERO).await;
    assert_eq!(
        code(refused),
        Some(ErrorCode::LeaseLost),
        "the first attempt"
    );
    drop(consumer);
    script.await.unwrap();
}

#[tokio::test]
async fn up_to_a_record_means_all_that_was_handed_out_before_it() {
    let (address, script) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        register_consumer(&mut session).await;
        give(&mut session, leased(7, 10, &["a", "b"])).await;
        let mut later = leased(8, 2, &["old", "older"]);
        later.next = 12;
        later.gaps = vec![Gap {
            from: 5,
            to: 9,
            ..Gap::default()
        }];
        later.ranges[0].deliveries = 3;
        give(&mut session, later).await;
        for expected in ["7:0..12 8:0..3", "8:0..4"] {
            let (correlation, asked) = ack(&mut session).await;
            assert_eq!(named(&asked.settled), expected);
            acked(&mut session, correlation).await;
        }
        session.hung_up().await;
    })
    .await;
    let mut consumer = consumer(&address, options()).await;
    record(&mut consumer).await;
    record(&mut consumer).await;
    let gap = consumer.get_next().await.unwrap();
    assert!(matches!(gap, Some(Event::Gap { .. })), "{gap:?}");
    let old = record(&mut consumer).await;
    assert_eq!((old.offset, old.deliveries), (2, 3));
    record(&mut consumer).await;
    consumer.ack_up_to(&old).await.unwrap();
    consumer.ack_all().await.unwrap();
    drop(consumer);
    script.await.unwrap();
}

#[tokio::test]
async fn records_that_are_held_are_none_now_and_it_is_said() {
    let (address, script) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        register_consumer(&mut session).await;
        let held = Delivered {
            status: Delivered::HELD,
            ..empty(5)
        };
        let first = give(&mut session, held).await;
        let second = give(&mut session, empty(5)).await;
        let third = give(&mut session, leased(7, 5, &["a"])).await;
        let sequences = [first, second, third].map(|it| it.sequence);
        assert_eq!(sequences, [1, 1, 1], "only records use a sequence up");
        session.hung_up().await;
    })
    .await;
    let mut consumer = consumer(&address, options()).await;
    assert_eq!(consumer.try_next().await.unwrap(), None);
    assert!(consumer.is_held());
    assert_eq!(consumer.try_next().await.unwrap(), None);
    assert!(!consumer.is_held());
    assert!(consumer.try_next().await.unwrap().is_some());
    drop(consumer);
    script.await.unwrap();
}

#[tokio::test]
async fn an_answer_that_comes_again_when_its_lease_is_over_is_passed_over() {
    let (address, script) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        register_consumer(&mut session).await;
        let over = Delivered {
            status: Delivered::SOME,
            ..empty(5)
        };
        give(&mut session, over).await;
        let next = give(&mut session, leased(7, 5, &["a"])).await;
        assert_eq!(next.sequence, 2);
        session.hung_up().await;
    })
    .await;
    let mut consumer = consumer(&address, options()).await;
    let record = consumer.try_next().await.unwrap();
    assert!(matches!(record, Some(Event::Record(_))), "{record:?}");
    drop(consumer);
    script.await.unwrap();
}

#[tokio::test]
async fn a_forgotten_worker_loses_nothing_with_a_lease() {
    let (address, script) = double(|mut broker| async move {
        let mut first = broker.accept().await;
        register_consumer(&mut first).await;
        consume(&mut first).await;
        drop(first);
        let mut second = broker.accept().await;
        let (correlation, _) = consume(&mut second).await;
        let forgotten = Failure::new(ErrorCode::WorkerForgotten, "idle for an hour");
        second
            .refuse(Consume::OPCODE, correlation, &forgotten)
            .await;
        let again = give(&mut second, leased(7, 0, &["a"])).await;
        assert_eq!(again.sequence, 1);
        second.hung_up().await;
    })
    .await;
    let mut consumer = consumer(&address, options()).await;
    assert_eq!(record(&mut consumer).await.value, "a");
    drop(consumer);
    script.await.unwrap();
}

#[tokio::test]
async fn closing_gives_back_what_is_not_acked_and_then_says_goodbye() {
    let (address, script) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        register_consumer(&mut session).await;
        give(&mut session, leased(7, 0, &["a", "b", "c"])).await;
        let (correlation, asked) = ack(&mut session).await;
        assert_eq!(named(&asked.settled), "7:0..1");
        acked(&mut session, correlation).await;
        let (correlation, given_back) = nack(&mut session).await;
        assert_eq!(
            (named(&given_back.settled), given_back.delay_ms),
            ("7:0..3".into(), 0)
        );
        let nacked = Answer::Nack(Nacked { records: 2 });
        session.answer(correlation, nacked).await;
        let (correlation, request) = session.next().await.unwrap();
        assert!(
            matches!(request, Request::UnregisterWorker(_)),
            "{request:?}"
        );
        let gone = Answer::UnregisterWorker(WorkerUnregistered {});
        session.answer(correlation, gone).await;
        session.hung_up().await;
    })
    .await;
    let mut consumer = consumer(&address, options()).await;
    let first = record(&mut consumer).await;
    consumer.ack_later(&first).await.unwrap();
    assert_eq!(consumer.close().await, 0, "what goes back is not lost");
    script.await.unwrap();
}

#[tokio::test]
async fn a_lease_is_extended_by_itself_as_often_as_it_takes() {
    let (address, script) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        register_consumer(&mut session).await;
        give(&mut session, leased(7, 0, &["a"])).await;
        for _ in 0..3 {
            assert_eq!(extend(&mut session).await.lease_ms, 200);
        }
    })
    .await;
    let options = ConsumerOptions {
        lease: Some(Duration::from_millis(200)),
        auto_extend: true,
        ..ConsumerOptions::default()
    };
    let mut consumer = consumer(&address, options).await;
    record(&mut consumer).await;
    script.await.unwrap();
}

#[tokio::test]
async fn an_extension_names_the_lease_and_its_new_duration() {
    let (address, script) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        register_consumer(&mut session).await;
        give(&mut session, leased(7, 0, &["a"])).await;
        let asked = extend(&mut session).await;
        assert_eq!((asked.lease, asked.lease_ms), (7, 90_000));
        let (correlation, _) = session.next().await.unwrap();
        session.refuse(Extend::OPCODE, correlation, &lost()).await;
        session.hung_up().await;
    })
    .await;
    let mut consumer = consumer(&address, options()).await;
    let record = record(&mut consumer).await;
    let longer = Duration::from_secs(90);
    consumer.extend(&record, longer).await.unwrap();
    let refused = consumer.extend(&record, longer).await;
    assert_eq!(code(refused), Some(ErrorCode::LeaseLost));
    drop(consumer);
    script.await.unwrap();
}

#[tokio::test]
async fn what_was_taken_for_good_cannot_be_acked() {
    let (address, script) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        register_consumer(&mut session).await;
        give(&mut session, delivered(0, &["a"])).await;
        session.hung_up().await
    })
    .await;
    let client = client(&address).await;
    let zero = ConsumerOptions {
        lease: Some(Duration::ZERO),
        ..ConsumerOptions::default()
    };
    let refused = client.consumer("c", &["app"], zero).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a lease lasts at least a millisecond; leave it out to take records for good"
    );
    let options = ConsumerOptions::default();
    let mut taker = client.consumer("c", &["app"], options).await.unwrap();
    let record = record(&mut taker).await;
    assert_eq!(record.lease, None);
    let refused = taker.ack(&record).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert_eq!(
        refused.to_string(),
        "these records were taken without a lease; set ConsumerOptions::lease"
    );
    drop((client, taker));
    assert_eq!(script.await.unwrap(), 0, "nothing more was sent");
}

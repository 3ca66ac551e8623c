//! Producing through faults: answers that are lost, doubled, refused or false.

use std::time::Duration;

use crate::double::{Log, Session, TOPIC, client, double, options, sequence, values};
use futures_util::FutureExt;
use logdrive_client::{
    Ack, Client, Durability, ErrorCode, ErrorKind, Failure, NewRecord, Options, Producer,
    ProducerOptions,
};
use logdrive_protocol::operations::{
    Answer, Operation, Produce, Produced, ProducerUnregistered, Request,
};
use tokio::sync::oneshot;

fn record(value: &str) -> NewRecord<'_> {
    NewRecord {
        value: value.as_bytes(),
        ..NewRecord::default()
    }
}

/// One record in each batch, so that a script can count them.
fn one_by_one() -> ProducerOptions {
    ProducerOptions {
        batch_records: 1,
        ..ProducerOptions::default()
    }
}

async fn producer(address: &str, options: ProducerOptions) -> Producer {
    client(address)
        .await
        .producer(&["app"], options)
        .await
        .unwrap()
}

/// Answers whatever else comes: batches by the log, an unregistration by a yes.
async fn carry_on(mut session: Session, log: &mut Log) {
    while let Some((correlation, request)) = session.next().await {
        match request {
            Request::Produce(produce) => {
                let answer = log.take(&produce);
                session.answer(correlation, answer).await;
            }
            Request::UnregisterProducer(_) => {
                let gone = Answer::UnregisterProducer(ProducerUnregistered {});
                session.answer(correlation, gone).await;
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_is_sent_again_with_its_sequence_and_stored_once() {
    let (address, script) = double(|mut broker| async move {
        let mut log = Log::default();
        let mut first = broker.accept().await;
        let registered = first.register(1, 0).await;
        let (_, produce) = first.produce().await;
        log.take(&produce);
        drop(first); // stored, and the answer never leaves
        let mut second = broker.accept().await;
        let again = second.register(1, log.next_sequence()).await;
        assert_eq!(
            again.instance, registered.instance,
            "the same instance fences nobody"
        );
        assert_eq!(again.producer.0, 100);
        carry_on(second, &mut log).await;
        log.values
    })
    .await;
    let mut producer = producer(&address, ProducerOptions::default()).await;
    let receipt = producer.send("app", "once").await.unwrap();
    assert_eq!(
        (receipt.offset, receipt.durability),
        (0, Durability::Synced)
    );
    assert_eq!(producer.send("app", "next").await.unwrap().offset, 1);
    producer.close().await.unwrap();
    assert_eq!(script.await.unwrap(), ["once", "next"]);
}

#[tokio::test]
async fn a_send_that_nobody_waits_for_any_more_is_acknowledged_all_the_same() {
    let (arrived, has_arrived) = oneshot::channel();
    let (dropped, is_dropped) = oneshot::channel();
    let (address, script) = double(|mut broker| async move {
        let mut log = Log::default();
        let mut session = broker.accept().await;
        session.register(1, 0).await;
        for _ in 0..2 {
            let (correlation, produce) = session.produce().await;
            let answer = log.take(&produce);
            session.answer(correlation, answer).await;
        }
        let (correlation, produce) = session.produce().await;
        arrived.send(()).unwrap();
        is_dropped.await.unwrap();
        let answer = log.take(&produce);
        session.answer(correlation, answer).await;
        carry_on(session, &mut log).await;
        log.values
    })
    .await;
    let mut producer = producer(&address, ProducerOptions::default()).await;
    producer.send("app", "first").await.unwrap();
    producer.send("app", "second").await.unwrap();
    tokio::select! {
        receipt = producer.send("app", "left") => panic!("not answered yet: {receipt:?}"),
        sent = has_arrived => sent.unwrap(),
    }
    dropped.send(()).unwrap();
    producer.flush().await.unwrap();
    assert_eq!((producer.handed_over(), producer.acknowledged()), (3, 3));
    assert_eq!(producer.send("app", "last").await.unwrap().offset, 3);
    producer.close().await.unwrap();
    let values = script.await.unwrap();
    assert_eq!(values, ["first", "second", "left", "last"]);
}

#[tokio::test]
async fn everything_unanswered_is_sent_again_in_order_after_a_lost_connection() {
    let (address, script) = double(|mut broker| async move {
        let mut log = Log::default();
        let mut first = broker.accept().await;
        first.register(1, 0).await;
        let mut sequences = Vec::new();
        for _ in 0..5 {
            let (_, produce) = first.produce().await;
            sequences.push(sequence(&produce));
            if sequences.len() < 3 {
                log.take(&produce);
            }
        }
        assert_eq!(sequences, [0, 1, 2, 3, 4]);
        drop(first);
        let mut second = broker.accept().await;
        second.register(1, log.next_sequence()).await;
        carry_on(second, &mut log).await;
        log.values
    })
    .await;
    let mut producer = producer(&address, one_by_one()).await;
    let mut deliveries = Vec::new();
    for value in ["a", "b", "c", "d", "e"] {
        deliveries.push(producer.enqueue("app", &record(value)).await.unwrap());
    }
    for (offset, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.unwrap().offset, offset as u64);
    }
    assert_eq!(producer.acknowledged(), 5);
    producer.close().await.unwrap();
    assert_eq!(script.await.unwrap(), ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn a_doubled_answer_costs_the_connection_and_no_record() {
    let (address, script) = double(|mut broker| async move {
        let mut log = Log::default();
        let mut first = broker.accept().await;
        first.register(1, 0).await;
        let (correlation, produce) = first.produce().await;
        let answer = log.take(&produce);
        first.answer(correlation, answer.clone()).await;
        first.answer(correlation, answer).await;
        first.hung_up().await;
        let mut second = broker.accept().await;
        second.register(1, log.next_sequence()).await;
        carry_on(second, &mut log).await;
        log.values
    })
    .await;
    let mut producer = producer(&address, ProducerOptions::default()).await;
    for value in ["a", "b"] {
        producer.send("app", value).await.unwrap();
    }
    producer.close().await.unwrap();
    assert_eq!(script.await.unwrap(), ["a", "b"]);
}

#[tokio::test]
async fn an_answer_less_durable_than_asked_for_acknowledges_nothing() {
    let (address, script) = double(|mut broker| async move {
        let mut log = Log::default();
        let mut first = broker.accept().await;
        first.register(1, 0).await;
        let (correlation, produce) = first.produce().await;
        let accepted = Produced {
            durability: Produce::ACCEPTED,
            ..Produced::default()
        };
        first.answer(correlation, Answer::Produce(accepted)).await;
        first.hung_up().await;
        drop(produce);
        let mut second = broker.accept().await;
        second.register(1, 0).await;
        carry_on(second, &mut log).await;
        log.values
    })
    .await;
    let mut producer = producer(&address, ProducerOptions::default()).await;
    let receipt = producer.send("app", "a").await.unwrap();
    assert_eq!(receipt.durability, Durability::Synced);
    producer.close().await.unwrap();
    assert_eq!(script.await.unwrap(), ["a"]);
}

#[tokio::test]
async fn a_failed_store_is_waited_for_and_nothing_changes_its_order() {
    let (address, script) = double(|mut broker| async move {
        let mut log = Log::default();
        let mut session = broker.accept().await;
        session.register(1, 0).await;
        let mut refused = Vec::new();
        for _ in 0..3 {
            let (correlation, produce) = session.produce().await;
            refused.push((correlation, sequence(&produce)));
        }
        let (first, _) = refused[0];
        let failed = Failure::new(ErrorCode::StorageFailed, "the disk is gone");
        session.refuse(Produce::OPCODE, first, &failed).await;
        for &(correlation, _) in &refused[1..] {
            let out = Failure::new(ErrorCode::OutOfSequence, "not next").numbers(0, 0);
            session.refuse(Produce::OPCODE, correlation, &out).await;
        }
        let (correlation, produce) = session.produce().await;
        assert_eq!(sequence(&produce), refused[0].1);
        session.answer(correlation, log.take(&produce)).await;
        carry_on(session, &mut log).await;
        log.values
    })
    .await;
    let mut producer = producer(&address, one_by_one()).await;
    for value in ["a", "b", "c"] {
        producer.push("app", &record(value)).await.unwrap();
    }
    producer.flush().await.unwrap();
    producer.close().await.unwrap();
    assert_eq!(script.await.unwrap(), ["a", "b", "c"]);
}

#[tokio::test]
async fn what_was_accepted_and_then_lost_is_sent_again_as_long_as_it_is_held() {
    let (address, script) = double(|mut broker| async move {
        let mut log = Log::default();
        let mut first = broker.accept().await;
        first.register(1, 0).await;
        for _ in 0..2 {
            let (correlation, produce) = first.produce().await;
            assert_eq!(produce.ack, Produce::ACCEPTED);
            let answer = log.take(&produce);
            first.answer(correlation, answer).await;
        }
        let (_, produce) = first.produce().await;
        assert_eq!(values(&produce), ["c"]);
        drop(first);
        log.lose_last(); // the crash takes "b" with it
        let mut second = broker.accept().await;
        second.register(1, log.next_sequence()).await;
        carry_on(second, &mut log).await;
        log.values
    })
    .await;
    let accepted = ProducerOptions {
        ack: Ack::Accepted,
        ..one_by_one()
    };
    let mut producer = producer(&address, accepted).await;
    for value in ["a", "b", "c"] {
        let receipt = producer.send("app", value).await.unwrap();
        assert_eq!(receipt.durability, Durability::Accepted);
    }
    producer.close().await.unwrap();
    assert_eq!(script.await.unwrap(), ["a", "b", "c"]);
}

#[tokio::test]
async fn acknowledged_records_that_the_broker_lacks_are_reported_and_the_rest_gets_a_new_epoch() {
    let (address, script) = double(|mut broker| async move {
        let mut log = Log::default();
        let mut session = broker.accept().await;
        let first = session.register(1, 0).await;
        for _ in 0..2 {
            let (correlation, produce) = session.produce().await;
            session.answer(correlation, log.take(&produce)).await;
        }
        log.lose_last();
        let (correlation, produce) = session.produce().await;
        assert_eq!(sequence(&produce), 2);
        let out = Failure::new(ErrorCode::OutOfSequence, "not next").numbers(1, 0);
        session.refuse(Produce::OPCODE, correlation, &out).await;
        let anew = session.register(2, 1).await;
        assert_eq!(anew.producer.0, 100, "the same id");
        assert_ne!(anew.instance, first.instance, "a new instance");
        carry_on(session, &mut log).await;
        log.values
    })
    .await;
    let mut producer = producer(&address, one_by_one()).await;
    for value in ["a", "b", "c"] {
        producer.send("app", value).await.unwrap();
    }
    let lost = producer.close().await.unwrap_err();
    assert_eq!(lost.records(), 0);
    assert_eq!(
        lost.to_string(),
        "topic \"app\": 0 records not acknowledged, 1 acknowledged ones lost by the broker: topic \
         \"app\" has lost 1 acknowledged records, sequences 1 to 2; was the broker's data \
         directory replaced or restored?"
    );
    assert_eq!(lost.topics[0].error.kind(), ErrorKind::Lost);
    assert_eq!(script.await.unwrap(), ["a", "c"]);
}

#[tokio::test]
async fn what_was_sent_by_a_forgotten_producer_is_reported_and_never_sent_under_a_new_id() {
    let (address, script) = double(|mut broker| async move {
        let mut log = Log::default();
        let mut session = broker.accept().await;
        session.register(1, 0).await;
        let (correlation, _) = session.produce().await;
        let forgotten = Failure::new(ErrorCode::ProducerNotFound, "forgotten");
        session
            .refuse(Produce::OPCODE, correlation, &forgotten)
            .await;
        let anew = session.register(2, 0).await;
        assert!(anew.producer.is_none(), "a new id");
        carry_on(session, &mut log).await;
        log.values
    })
    .await;
    let mut producer = producer(&address, one_by_one()).await;
    let error = producer.send("app", "a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    producer.send("app", "b").await.unwrap();
    let said = producer.close().await.unwrap_err();
    assert_eq!((said.records(), said.topics[0].unknown), (1, 1));
    assert_eq!(script.await.unwrap(), ["b"]);
}

#[tokio::test]
async fn without_a_registration_nothing_that_may_be_stored_is_sent_twice() {
    let (address, script) = double(|mut broker| async move {
        let mut first = broker.accept().await;
        let (correlation, request) = first.next().await.unwrap();
        let Request::Metadata(asked) = request else {
            panic!("not a look-up: {request:?}");
        };
        let place = logdrive_client::TopicPlace {
            name: asked.topics[0].clone(),
            id: TOPIC,
            ..Default::default()
        };
        let located = logdrive_client::Located {
            topics: vec![place],
            ..Default::default()
        };
        first.answer(correlation, Answer::Metadata(located)).await;
        let mut seen = Vec::new();
        let (_, produce) = first.produce().await;
        seen.extend(values(&produce));
        drop(first);
        let mut second = broker.accept().await;
        let (correlation, produce) = second.produce().await;
        seen.extend(values(&produce));
        let produced = Answer::Produce(Produced::default());
        second.answer(correlation, produced).await;
        assert_eq!(second.hung_up().await, 0);
        seen
    })
    .await;
    let unregistered = ProducerOptions {
        registered: false,
        ..one_by_one()
    };
    let mut producer = producer(&address, unregistered).await;
    let error = producer.send("app", "a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    producer.send("app", "b").await.unwrap();
    producer.close().await.unwrap_err();
    assert_eq!(script.await.unwrap(), ["a", "b"]);
}

#[tokio::test]
async fn a_refusal_that_no_retry_helps_ends_the_producer_with_its_cause() {
    let (address, script) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        session.register(1, 0).await;
        let (correlation, _) = session.produce().await;
        let fenced = Failure::new(ErrorCode::FencedEpoch, "a newer instance is at work");
        session.refuse(Produce::OPCODE, correlation, &fenced).await;
        session.hung_up().await
    })
    .await;
    let mut producer = producer(&address, one_by_one()).await;
    let fenced = ErrorKind::Refused(ErrorCode::FencedEpoch);
    let error = producer.send("app", "a").await.unwrap_err();
    assert_eq!(error.kind(), fenced);
    assert_eq!(producer.send("app", "b").await.unwrap_err().kind(), fenced);
    let said = producer.close().await.unwrap_err();
    assert_eq!((said.records(), said.topics[0].unknown), (1, 0));
    assert_eq!(script.await.unwrap(), 0);
}

#[tokio::test]
async fn a_broker_that_does_not_come_back_is_given_up_and_close_says_what_is_open() {
    let (address, script) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        session.register(1, 0).await;
        session.produce().await;
    })
    .await;
    let options = Options {
        retry_for: Duration::from_millis(20),
        ..options()
    };
    let client = Client::connect_with(&address, options).await.unwrap();
    let mut producer = client.producer(&["app"], one_by_one()).await.unwrap();
    producer.push("app", &record("a")).await.unwrap();
    script.await.unwrap();
    let said = producer.close().await.unwrap_err();
    assert_eq!((said.records(), said.topics[0].unknown), (1, 1));
    let text = said.to_string();
    assert!(text.contains("may have been stored"), "{text}");
    assert!(
        text.contains(&format!("cannot reach {address}: connection refused")),
        "{text}"
    );
}

#[tokio::test]
async fn another_leader_is_followed_to_its_address() {
    let (leader, script) = double(|mut broker| async move {
        let mut log = Log::default();
        let mut session = broker.accept().await;
        session.register(1, 0).await;
        carry_on(session, &mut log).await;
        log.values
    })
    .await;
    let named = leader.clone();
    let (address, follower) = double(|mut broker| async move {
        let mut session = broker.accept().await;
        session.register(1, 0).await;
        let (correlation, _) = session.produce().await;
        let mut moved = Failure::new(ErrorCode::NotLeader, "another one leads");
        moved.address = named;
        session.refuse(Produce::OPCODE, correlation, &moved).await;
        session.hung_up().await
    })
    .await;
    let mut producer = producer(&address, one_by_one()).await;
    producer.send("app", "a").await.unwrap();
    assert_eq!(follower.await.unwrap(), 0, "the old connection is let go");
    producer.close().await.unwrap();
    assert_eq!(script.await.unwrap(), ["a"]);
}

#[tokio::test]
async fn a_full_window_makes_callers_wait_and_an_answer_lets_them_go_on() {
    let (go, going) = tokio::sync::oneshot::channel::<()>();
    let (address, script) = double(|mut broker| async move {
        let mut log = Log::default();
        let mut session = broker.accept().await;
        session.register(1, 0).await;
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(session.produce().await);
        }
        going.await.unwrap();
        for (correlation, produce) in held {
            session.answer(correlation, log.take(&produce)).await;
        }
        carry_on(session, &mut log).await;
        log.values
    })
    .await;
    let narrow = ProducerOptions {
        batches_in_flight: 2,
        ..one_by_one()
    };
    let mut producer = producer(&address, narrow).await;
    // Two in flight and one open batch; the fourth has no place.
    for value in ["a", "b", "c"] {
        producer.push("app", &record(value)).await.unwrap();
    }
    assert!(!producer.try_push("app", &record("d")).unwrap());
    assert!(producer.push("app", &record("d")).now_or_never().is_none());
    assert_eq!(
        producer.handed_over(),
        3,
        "a dropped push hands nothing over"
    );
    go.send(()).unwrap();
    producer.push("app", &record("d")).await.unwrap();
    producer.close().await.unwrap();
    assert_eq!(script.await.unwrap(), ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn a_record_that_cannot_be_sent_is_refused_at_once_and_disturbs_no_other() {
    let (address, script) = double(|mut broker| async move {
        let mut log = Log::default();
        let mut session = broker.accept().await;
        session.register(1, 0).await;
        carry_on(session, &mut log).await;
        log.values
    })
    .await;
    let mut producer = producer(&address, ProducerOptions::default()).await;
    let huge = vec![b'x'; (1 << 20) + 1];
    let error = producer.send("app", &huge).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "RECORD_TOO_LARGE a record of 1048577 bytes is over the limit of 1048576; split the \
         record, or store it elsewhere and produce a reference"
    );
    let severe = NewRecord {
        severity: 25,
        ..record("a")
    };
    let error = producer.enqueue("app", &severe).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let error = producer.send("ap", "a").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "this producer is not for topic \"ap\", only for app"
    );
    producer.send("app", "b").await.unwrap();
    producer.close().await.unwrap();
    assert_eq!(script.await.unwrap(), ["b"]);
}

#[test]
fn the_blocking_facade_is_the_same_producer() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (address, script) = runtime.block_on(double(|mut broker| async move {
        let mut log = Log::default();
        let mut session = broker.accept().await;
        session.register(1, 0).await;
        carry_on(session, &mut log).await;
        log.values
    }));
    let client = logdrive_client::blocking::Client::connect(&address).unwrap();
    let mut producer = client
        .producer(&["app"], ProducerOptions::default())
        .unwrap();
    assert_eq!(producer.send("app", "a").unwrap().offset, 0);
    producer.push("app", &record("b")).unwrap();
    producer.flush().unwrap();
    assert_eq!(producer.acknowledged(), 2);
    producer.close().unwrap();
    drop(client);
    assert_eq!(runtime.block_on(script).unwrap(), ["a", "b"]);
}

/// A sequence counts on with every record: at its end the producer's task would have panicked, or
/// begun again at 0.
#[tokio::test]
async fn a_registration_that_leaves_no_room_for_records_is_refused() {
    for next_sequence in [u64::MAX, 1 << 62] {
        let (address, script) = double(async move |mut broker| {
            let mut session = broker.accept().await;
            session.register(1, next_sequence).await;
            session.hung_up().await
        })
        .await;
        let client = client(&address).await;
        let refused = client.producer(&["app"], ProducerOptions::default()).await;
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert_eq!(
            error.message(),
            "the broker broke the protocol: a registration with more records than there can be"
        );
        drop(client);
        assert_eq!(script.await.unwrap(), 0, "nothing was sent");
    }
}

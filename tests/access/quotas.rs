//! Quotas: who uses too much waits or is told so, and nobody else notices.

use std::time::Duration;

use logdrive_client::{Client, Credentials, Options, ProducerOptions};
use logdrive_protocol::batch::Origin;
use logdrive_protocol::operations::{
    AlterPrincipal, Consume, DeleteTopic, DescribeTopic, Fetch, ListPrincipals, Nack, Ping,
    Produce, PurgeTopic, RegisterConsumer, RegisterProducer, Seek, Setting, Settled,
};
use logdrive_protocol::{ErrorCode, Position, Rights, TopicId, WorkerId};

use crate::peers::{admin, grant, guarded, logged_in, principal, token, typing};
use crate::support::asking::{Worker, fetch, origin, produce, produce_all, register, schedule};
use crate::support::{Broker, Connection, batch_of, until};

/// Sets quotas of a principal, by their names.
fn allow(admin: &mut Connection, name: &str, quotas: &[(&str, u64)]) {
    let setting = |(key, value): &(&str, u64)| Setting {
        key: (*key).to_owned(),
        value: value.to_string(),
    };
    let alter = AlterPrincipal {
        name: name.to_owned(),
        set: quotas.iter().map(setting).collect(),
        ..AlterPrincipal::default()
    };
    admin.ask(alter).unwrap();
}

/// What a principal uses, by the broker's own account.
fn used(admin: &mut Connection, name: &str, what: &str) -> u64 {
    let list = ListPrincipals {
        glob: name.to_owned(),
        ..ListPrincipals::default()
    };
    let listed = admin.ask(list).unwrap().principals;
    let counter = listed[0].usage.iter().find(|it| it.name == what);
    counter.unwrap().value
}

/// A broker with an administrator, and two others who may do everything with topics.
fn broker() -> (Broker, Connection, [String; 2]) {
    let broker = guarded();
    let mut admin = admin(&broker);
    let all = [grant(Rights::ALL, "*")];
    let tokens = ["greedy", "modest"].map(|name| principal(&mut admin, name, &all));
    (broker, admin, tokens)
}

/// A batch of one record of so many bytes, which says which one it is.
fn kilobytes(number: u8, kilobytes: usize) -> logdrive_protocol::operations::Payload {
    batch_of(Origin::default(), &[vec![number; kilobytes * 1000]])
}

/// Works as if nothing were: appends, reads back.
fn goes_on(peer: &mut Connection, topic: TopicId) {
    let first = peer.produce(topic, &["a"]);
    for count in first + 1..first + 30 {
        assert_eq!(peer.produce(topic, &["a"]), count);
        peer.check(
            fetch(topic, count),
            &format!("{count}:a next={}", count + 1),
        );
    }
}

#[test]
fn who_produces_too_much_waits_and_loses_nothing_and_others_do_not_wait() {
    let (broker, mut admin, [greedy, modest]) = broker();
    let (topic, others) = (admin.create("app"), admin.create("others"));
    allow(
        &mut admin,
        "greedy",
        &[("produce_bytes_per_second", 100_000)],
    );
    let mut peer = logged_in(&broker, &greedy);
    // The first takes nine seconds as a whole, and is answered; who comes then waits for that.
    peer.ask(produce(topic, kilobytes(0, 900))).unwrap();
    let numbers: Vec<u32> = (1..4)
        .map(|it| peer.send(&produce(topic, kilobytes(it, 1))))
        .collect();
    let mut modest = logged_in(&broker, &modest);
    goes_on(&mut modest, others);
    goes_on(&mut modest, topic);
    assert_eq!(
        used(&mut admin, "greedy", "refused"),
        0,
        "it is slowed, not refused"
    );
    let stored = admin.ask(fetch(topic, 0)).unwrap().high_watermark;
    assert_eq!(stored, 31, "none of those that wait came in between");
    for number in numbers {
        peer.answer::<Produce>(number).unwrap();
    }
    let values = admin.all(topic);
    for number in 0..4_u8 {
        let same = values.iter().filter(|(_, value)| value[0] == number);
        assert_eq!(same.count(), 1, "{number}");
    }
    assert!(used(&mut admin, "greedy", "slowed_ms") > 1000);
    let taken = used(&mut admin, "greedy", "produced_bytes");
    assert!((903_000..904_000).contains(&taken), "{taken}");
    assert_eq!(used(&mut admin, "modest", "slowed_ms"), 0);

    // One that is too much for any wait is refused as a whole, and the connection goes on.
    let large = peer.ask(produce(topic, kilobytes(9, 1001))).unwrap_err();
    assert_eq!(large.code, ErrorCode::QuotaExceeded);
    assert!(
        large.message.contains("produce_bytes_per_second"),
        "{large}"
    );
    assert!(
        large.hint.contains("at most 1000000 bytes"),
        "{}",
        large.hint
    );
    peer.ask(Ping {}).unwrap();
    assert_eq!(used(&mut admin, "greedy", "refused"), 1);
    assert_eq!(admin.all(topic).len(), values.len());
}

#[test]
fn who_sends_too_many_requests_is_not_read_any_more() {
    let (broker, mut admin, [greedy, modest]) = broker();
    let others = admin.create("others");
    let mut text = typing(&broker, &greedy);
    allow(&mut admin, "greedy", &[("requests_per_second", 2)]);
    // More than any buffer on the way holds.
    text.set_write_patience(Duration::from_secs(1));
    assert!(!text.sends_all("PING\n".repeat(4 << 20).as_bytes()));
    goes_on(&mut logged_in(&broker, &modest), others);
    // Each of them is answered, one after the other.
    for _ in 0..4 {
        assert_eq!(text.hear().unwrap(), "+ pong state=ok");
    }
    // What is lifted is lifted at once.
    let lift = AlterPrincipal {
        name: "greedy".to_owned(),
        unset: vec!["requests_per_second".to_owned()],
        ..AlterPrincipal::default()
    };
    admin.ask(lift).unwrap();
    for _ in 0..1000 {
        assert_eq!(text.hear().unwrap(), "+ pong state=ok");
    }
}

#[test]
fn who_reads_too_much_waits_and_gets_everything_and_others_do_not_wait() {
    let (broker, mut admin, [greedy, modest]) = broker();
    let topic = admin.create("app");
    for number in 0..12 {
        admin.ask(produce(topic, kilobytes(number, 50))).unwrap();
    }
    allow(
        &mut admin,
        "greedy",
        &[("consume_bytes_per_second", 100_000)],
    );
    let mut peer = logged_in(&broker, &greedy);
    let some = |from: u64| Fetch {
        max_records: 6,
        ..fetch(topic, from)
    };
    let numbers = peer.send_all(&[some(0), some(6), some(12)]);
    let mut modest = logged_in(&broker, &modest);
    for _ in 0..20 {
        let all = modest.ask(fetch(topic, 0)).unwrap();
        assert_eq!(all.record_count(), 12);
    }
    let mut bytes = 0;
    for (number, from) in numbers.into_iter().zip([0, 6, 12]) {
        let delivered = peer.answer::<Fetch>(number).unwrap();
        bytes += delivered
            .batches
            .iter()
            .map(|it| it.len() as u64)
            .sum::<u64>();
        for it in delivered.records() {
            assert_eq!(it.record.value[0], u8::try_from(it.offset).unwrap());
            assert!(it.offset >= from);
        }
    }
    assert!(bytes > 600_000, "{bytes}");
    assert_eq!(used(&mut admin, "greedy", "consumed_bytes"), bytes);
    assert!(used(&mut admin, "greedy", "slowed_ms") > 1000);
    assert_eq!(used(&mut admin, "modest", "slowed_ms"), 0);
}

#[test]
fn who_would_have_to_wait_too_long_is_told_for_how_long() {
    let (broker, mut admin, [greedy, _]) = broker();
    let topic = admin.create("app");
    admin.ask(produce(topic, kilobytes(1, 900))).unwrap();
    allow(
        &mut admin,
        "greedy",
        &[("consume_bytes_per_second", 20_000)],
    );
    let mut peer = logged_in(&broker, &greedy);
    // A batch is given whole: 45 seconds' worth of it.
    assert_eq!(peer.ask(fetch(topic, 0)).unwrap().record_count(), 1);
    let failure = peer.ask(fetch(topic, 0)).unwrap_err();
    assert_eq!(failure.code, ErrorCode::QuotaExceeded);
    assert!(
        (10_000..45_000).contains(&failure.first),
        "{}",
        failure.first
    );
    assert!(failure.message.contains("consume_bytes_per_second"));
    // What reads nothing waits for nothing.
    peer.check(fetch(topic, 1), "empty next=1");
}

/// The story: a batch that no waiting lets pass was sent for a minute, again and again, and the answer
/// said that the retries were over.
#[tokio::test]
async fn what_is_too_large_for_a_quota_is_told_so_and_sent_once() {
    let (broker, mut admin, [greedy, _]) = broker();
    let topic = admin.create("app");
    allow(&mut admin, "greedy", &[("produce_bytes_per_second", 1_000)]);
    let mut peer = logged_in(&broker, &greedy);
    let failure = peer.ask(produce(topic, kilobytes(1, 20))).unwrap_err();
    assert_eq!(failure.code, ErrorCode::QuotaExceeded, "{failure}");
    assert_eq!((failure.first, failure.second), (0, 0));
    assert!(!failure.is_retryable());

    let options = Options {
        credentials: Some(Credentials::Token(greedy)),
        ..Options::default()
    };
    let address = broker.address.to_string();
    let client = Client::connect_with(address, options).await.unwrap();
    let options = ProducerOptions::default();
    let mut producer = client.producer(&["app"], options).await.unwrap();
    // Nothing that could be packed.
    let large: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(20_000)
        .collect();
    let error = producer.send("app", large).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::QuotaExceeded), "{error}");
    assert!(error.hint().contains("send at most 10000 bytes"), "{error}");
    assert_eq!(used(&mut admin, "greedy", "refused"), 2);
}

#[test]
fn a_principal_has_no_more_connections_than_it_may() {
    let (broker, mut admin, [greedy, modest]) = broker();
    allow(&mut admin, "greedy", &[("connections", 2)]);
    let first = logged_in(&broker, &greedy);
    let mut second = typing(&broker, &greedy);
    let mut third = broker.connect();
    let failure = third.ask(token(&greedy)).unwrap_err();
    assert_eq!((failure.code, failure.first), (ErrorCode::QuotaExceeded, 2));
    let mut typed = broker.text();
    let said = typed.ask(&format!("AUTH TOKEN {greedy}"));
    assert!(
        said.starts_with("- QUOTA_EXCEEDED the quota connections"),
        "{said}"
    );
    assert!(said.contains("; close one"), "{said}");
    logged_in(&broker, &modest);
    assert_eq!(used(&mut admin, "greedy", "connections"), 2);

    // A place that is given up is free, and one that is not logged in takes none.
    drop(first);
    until("its place is free", || {
        used(&mut admin, "greedy", "connections") == 1
    });
    third.ask(token(&greedy)).unwrap();
    // Those that are open stay open when less is allowed.
    allow(&mut admin, "greedy", &[("connections", 1)]);
    second.check("PING", "+ pong state=ok");
    third.ask(Ping {}).unwrap();
}

#[test]
fn what_a_principals_topics_keep_is_bounded_and_a_retry_is_answered_all_the_same() {
    let (broker, mut admin, [greedy, modest]) = broker();
    allow(&mut admin, "greedy", &[("stored_bytes", 100_000)]);
    let mut peer = logged_in(&broker, &greedy);
    let (topic, second) = (peer.create("app"), peer.create("second"));
    let of_admin = admin.create("free");
    let producer = peer
        .ask(RegisterProducer {
            create_topic: true,
            ..register("third", "p", 7)
        })
        .unwrap();
    let batch = |sequence: u64| {
        let value = vec![7; 40_000];
        produce(
            producer.topic,
            batch_of(origin(&producer, sequence), &[value]),
        )
    };
    peer.ask(batch(0)).unwrap();
    peer.ask(produce(topic, kilobytes(1, 40))).unwrap();
    // The batch that reaches the quota is taken.
    peer.ask(batch(1)).unwrap();
    // 16 bytes count for each record beside its own.
    assert_eq!(used(&mut admin, "greedy", "stored_bytes"), 120_048);

    let refused = |peer: &mut Connection, request: Produce| {
        let failure = peer.ask(request).unwrap_err();
        assert_eq!(failure.code, ErrorCode::QuotaExceeded, "{failure}");
        assert_eq!((failure.first, failure.second), (100_000, 120_048));
    };
    refused(&mut peer, produce(topic, kilobytes(2, 1)));
    refused(&mut peer, batch(2));
    let later = peer.now() + 60_000_000;
    refused(&mut peer, schedule(topic, kilobytes(2, 1), later));
    let both = [(topic, kilobytes(3, 1)), (of_admin, kilobytes(3, 1))];
    let failure = peer.ask(produce_all(both)).unwrap_err();
    assert_eq!(failure.code, ErrorCode::QuotaExceeded);
    // The topic's owner counts, not who appends.
    let mut modest = logged_in(&broker, &modest);
    refused(&mut modest, produce(second, kilobytes(4, 1)));
    peer.ask(produce(of_admin, kilobytes(5, 1))).unwrap();
    // A retry of what is stored is no new record.
    peer.check(batch(1), "offset=1 synced");
    let mut text = typing(&broker, &greedy);
    let said = text.ask("PRODUCE app one more");
    assert!(
        said.starts_with("- QUOTA_EXCEEDED the quota stored_bytes of \"greedy\""),
        "{said}"
    );
    let said = text.ask("DESCRIBE app");
    assert!(said.starts_with("= "), "{said}");

    // Topics remember whose they are.
    let broker = Broker::start_with(broker.kill(), &["--auth"]);
    let mut admin = crate::peers::admin(&broker);
    let mut peer = logged_in(&broker, &greedy);
    assert_eq!(used(&mut admin, "greedy", "stored_bytes"), 120_048);
    refused(&mut peer, produce(topic, kilobytes(2, 1)));
    let described = admin.ask(DescribeTopic {
        name: "third".to_owned(),
        ..DescribeTopic::default()
    });
    let described = described.unwrap();
    assert_eq!(
        (described.owner.as_str(), described.bytes),
        ("greedy", 80_000)
    );

    // What is removed makes room at once.
    let before = Position::Offset(1);
    peer.ask(PurgeTopic { topic, before }).unwrap();
    assert_eq!(used(&mut admin, "greedy", "stored_bytes"), 80_032);
    peer.ask(schedule(topic, kilobytes(2, 1), later)).unwrap();
    let with_batch = used(&mut admin, "greedy", "stored_bytes");
    assert!((81_000..81_250).contains(&with_batch), "{with_batch}");
    for topic in [topic, producer.topic] {
        peer.ask(DeleteTopic { topic }).unwrap();
    }
    until("nothing is left", || {
        used(&mut admin, "greedy", "stored_bytes") == 0
    });
    peer.ask(produce(second, kilobytes(2, 1))).unwrap();
}

/// Somebody may only read what another one stores, and name where the dead letters go. Each of them
/// counted for the owner of the records, who may neither see them nor remove them; and none of them was
/// ever refused.
#[test]
fn dead_letters_count_for_who_registers_the_consumer_and_wait_where_there_is_no_room() {
    let broker = guarded();
    let mut admin = admin(&broker);
    let [owner, reader] = [
        ("owner", vec![grant(Rights::ALL, "own.*")]),
        (
            "reader",
            vec![
                grant(Rights::CONSUME, "own.*"),
                grant(Rights::PRODUCE, "read.*"),
            ],
        ),
    ]
    .map(|(name, grants)| principal(&mut admin, name, &grants));
    allow(&mut admin, "owner", &[("stored_bytes", 100_000)]);
    allow(&mut admin, "reader", &[("stored_bytes", 50_000)]);
    let mut owner = logged_in(&broker, &owner);
    let topic = owner.create("own.log");
    owner.ask(produce(topic, kilobytes(1, 40))).unwrap();

    let mut reader = logged_in(&broker, &reader);
    let setting = |key: &str, value: &str| Setting {
        key: key.into(),
        value: value.into(),
    };
    let register = RegisterConsumer {
        topic: "own.log".into(),
        name: "c".into(),
        settings: vec![
            setting("dead_letter_topic", "read.dead"),
            setting("max_deliveries", "1"),
        ],
        create: true,
        ..RegisterConsumer::default()
    };
    let registered = reader.ask(register).unwrap();
    let worker = Worker::of(&registered, 1);
    let mut give_up = |sequence| {
        let back = Seek {
            topic,
            consumer: registered.consumer,
            to: Position::Earliest,
        };
        reader.ask(back).unwrap();
        let take = Consume {
            lease_ms: 60_000,
            max_wait_ms: 10_000,
            ..worker.take(sequence, 0)
        };
        let delivered = reader.ask(take).unwrap();
        let settled = delivered.ranges.iter().map(|range| Settled {
            lease: range.lease,
            from: range.from,
            to: range.to,
        });
        let nack = Nack {
            topic,
            consumer: registered.consumer,
            worker: WorkerId(worker.id),
            settled: settled.collect(),
            delay_ms: 0,
        };
        reader.ask(nack).unwrap();
    };
    let stored = |admin: &mut Connection| used(admin, "reader", "stored_bytes") / 40_000;
    for count in 1..=2 {
        give_up(count);
        until("it is given up", || stored(&mut admin) == count);
    }
    give_up(3);
    until("it finds no room", || {
        used(&mut admin, "reader", "refused") > 0
    });
    assert_eq!(stored(&mut admin), 2);
    assert_eq!(used(&mut admin, "owner", "stored_bytes"), 40_016);
    owner.ask(produce(topic, kilobytes(2, 1))).unwrap();
    // It was not lost: it comes as soon as there is room.
    allow(&mut admin, "reader", &[("stored_bytes", 500_000)]);
    until("it is given up", || stored(&mut admin) == 3);
}

#[test]
fn where_nobody_logs_in_nobody_is_counted() {
    let (broker, mut admin, [greedy, _]) = broker();
    let quotas = [("stored_bytes", 1), ("requests_per_second", 1)];
    allow(&mut admin, "greedy", &quotas);
    let topic = logged_in(&broker, &greedy).create("app");
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    for number in 0..20 {
        peer.ask(produce(topic, kilobytes(number, 1))).unwrap();
    }
}

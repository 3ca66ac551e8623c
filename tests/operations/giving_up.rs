//! Records that are delivered too often: dead letters, and back again.

use logdrive_protocol::batch::{BatchBuilder, NewRecord, Origin};
use logdrive_protocol::operations::{
    Ack, AlterConsumer, Consume, ConsumerRegistered, CreateTopic, DeleteTopic, Delivered, Nack,
    Offsets, Payload, PurgeTopic, RegisterConsumer, Requeue, Setting, Settled,
};
use logdrive_protocol::{ErrorCode, Position, TopicId, WorkerId};

use crate::support::asking::{Worker, fetch, produce};
use crate::support::{Broker, Connection, until};

fn setting(key: &str, value: &str) -> Setting {
    Setting {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

/// Registers consumer `c` of topic `app`, which gives up after so many deliveries.
fn giving_up_after(peer: &mut Connection, deliveries: &str) -> ConsumerRegistered {
    let request = RegisterConsumer {
        topic: "app".to_owned(),
        name: "c".to_owned(),
        settings: vec![
            setting("max_deliveries", deliveries),
            setting("dead_letter_topic", "dead"),
        ],
        create: true,
        ..RegisterConsumer::default()
    };
    peer.ask(request).unwrap()
}

/// Takes all there is under a lease and gives it back; what it was.
fn fail(peer: &mut Connection, worker: &Worker, sequence: u64) -> Vec<String> {
    let take = Consume {
        lease_ms: 60_000,
        max_wait_ms: 10_000,
        ..worker.take(sequence, 0)
    };
    let delivered: Delivered = peer.ask(take).unwrap();
    let settled = delivered.ranges.iter().map(|range| Settled {
        lease: range.lease,
        from: range.from,
        to: range.to,
    });
    let nack = Nack {
        topic: worker.topic,
        consumer: worker.consumer,
        worker: WorkerId(worker.id),
        settled: settled.collect(),
        delay_ms: 0,
    };
    peer.ask(nack).unwrap();
    values(&delivered)
}

fn values(delivered: &Delivered) -> Vec<String> {
    let shown = delivered.records().map(|it| {
        let value = String::from_utf8_lossy(it.record.value).into_owned();
        format!("{}:{value}", it.offset)
    });
    shown.collect()
}

/// The dead letters, once there are so many: value, and what the headers say.
fn dead_letters(peer: &mut Connection, count: usize) -> (TopicId, Vec<String>) {
    let mut found = (TopicId::NONE, Vec::new());
    until("the dead letters are there", || {
        let located = peer.ask(logdrive_protocol::operations::Metadata {
            topics: vec!["dead".to_owned()],
        });
        let topic = located.unwrap().topics[0].id;
        if topic.is_none() {
            return false;
        }
        let delivered: Delivered = peer.ask(fetch(topic, 0)).unwrap();
        let letters = delivered.records().map(|it| {
            let mut text = String::from_utf8_lossy(it.record.value).into_owned();
            for (name, value) in it.record.headers.clone() {
                let name = String::from_utf8_lossy(name).into_owned();
                if name != "logdrive.append_time" {
                    text = format!("{text} {name}={}", String::from_utf8_lossy(value));
                }
            }
            text
        });
        found = (topic, letters.collect());
        found.1.len() >= count
    });
    found
}

#[test]
fn a_record_that_is_delivered_too_often_becomes_a_dead_letter_and_can_come_back() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let mut builder = BatchBuilder::default();
    let headers = [("host".to_owned(), b"web-1".to_vec())];
    builder.push(&NewRecord {
        timestamp: 5,
        severity: 13,
        key: Some(b"k"),
        headers: &headers,
        value: b"bad",
    });
    builder.push(&NewRecord {
        value: b"worse",
        ..NewRecord::default()
    });
    let batch = builder.finish(Origin::default()).freeze();
    peer.check(produce(topic, Payload::Shared(batch)), "offset=0 synced");
    let worker = Worker::of(&giving_up_after(&mut peer, "2"), 1);
    assert_eq!(fail(&mut peer, &worker, 1), ["0:bad", "1:worse"]);
    assert_eq!(fail(&mut peer, &worker, 2), ["0:bad", "1:worse"]);

    let (dead, letters) = dead_letters(&mut peer, 2);
    let origin = "logdrive.topic=app logdrive.consumer=c";
    let reason = "logdrive.deliveries=2 logdrive.reason=delivered 2 times and not acked";
    assert_eq!(
        letters,
        [
            format!("bad host=web-1 {origin} logdrive.offset=0 {reason}"),
            format!("worse {origin} logdrive.offset=1 {reason}"),
        ]
    );
    peer.check(worker.size(), "records=0 bytes=0");
    peer.check(worker.take(3, 0), "empty next=2");

    let requeue = |from, to| Requeue {
        topic,
        consumer: worker.consumer,
        dead_letters: dead,
        ranges: vec![Offsets { from, to }],
    };
    peer.check(requeue(1, 2), "requeued=1");
    peer.check(requeue(0, 2), "requeued=1");
    peer.check(requeue(0, 2), "requeued=0");
    peer.check(requeue(1, 3), "OFFSET_OUT_OF_RANGE 2");
    // What is in the way is the record itself, as large as it was.
    peer.check(worker.size(), "records=2 bytes=18");
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    assert_eq!(fail(&mut peer, &worker, 3), ["0:bad", "1:worse"]);
    peer.check(worker.take(4, 1), "0:bad(1) next=2");
    peer.check(worker.take(5, 1), "1:worse(1) next=2");
    peer.check(worker.size(), "records=0 bytes=0");
    let (_, letters) = dead_letters(&mut peer, 2);
    assert_eq!(letters.len(), 2, "the count began anew");
}

#[test]
fn what_retention_has_taken_comes_back_from_its_dead_letter() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    peer.produce(topic, &["lost", "kept in a letter", "third"]);
    let worker = Worker::of(&giving_up_after(&mut peer, "1"), 1);
    assert_eq!(fail(&mut peer, &worker, 1).len(), 3);
    let (dead, _) = dead_letters(&mut peer, 3);
    let purge = |topic, offset| PurgeTopic {
        topic,
        before: Position::Offset(offset),
    };
    peer.ask(purge(topic, 3)).unwrap();
    let requeue = Requeue {
        topic,
        consumer: worker.consumer,
        dead_letters: dead,
        ranges: vec![Offsets { from: 0, to: 3 }],
    };
    peer.check(requeue, "requeued=3");
    peer.check(worker.size(), "records=3 bytes=25");
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    // Under a lease, asked for again, then acked.
    let lend = Consume {
        lease_ms: 60_000,
        ..worker.take(2, 2)
    };
    peer.check(lend.clone(), "0:lost next=3");
    peer.check(lend.clone(), "0:lost next=1");
    let delivered: Delivered = peer.ask(lend).unwrap();
    delivered.clone().check(topic).unwrap();
    let settled = vec![Settled {
        lease: delivered.ranges[0].lease,
        from: 0,
        to: 1,
    }];
    let ack = Ack {
        topic,
        consumer: worker.consumer,
        worker: WorkerId(worker.id),
        settled,
    };
    peer.check(ack, "acked=1");
    peer.check(worker.take(3, 2), "1:kept in a letter next=3");
    // Its dead letter is removed as well.
    peer.ask(purge(dead, 3)).unwrap();
    peer.check(worker.take(4, 0), "gap 2..3 next=3");
    peer.check(worker.size(), "records=0 bytes=0");
    peer.check(worker.take(5, 0), "empty next=3");
}

#[test]
fn records_of_others_are_no_dead_letters_of_a_consumer() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    peer.produce(topic, &["plain"]);
    let worker = Worker::of(&giving_up_after(&mut peer, "1"), 1);
    let requeue = |dead_letters| Requeue {
        topic,
        consumer: worker.consumer,
        dead_letters,
        ranges: vec![Offsets { from: 0, to: 1 }],
    };
    peer.check(requeue(topic), "NOT_A_DEAD_LETTER");
    peer.check(requeue(TopicId(999)), "TOPIC_NOT_FOUND");
    assert_eq!(fail(&mut peer, &worker, 1), ["0:plain"]);
    let (dead, _) = dead_letters(&mut peer, 1);
    let other = Worker::of(&peer.consumer("app", "other"), 1);
    let of_other = Requeue {
        consumer: other.consumer,
        ..requeue(dead)
    };
    peer.check(of_other, "NOT_A_DEAD_LETTER");
}

#[test]
fn what_a_deleted_topic_gave_up_is_no_dead_letter_of_its_successor() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let first = peer.create("app");
    peer.produce(first, &["1", "2"]);
    let worker = Worker::of(&giving_up_after(&mut peer, "1"), 1);
    assert_eq!(fail(&mut peer, &worker, 1), ["0:1", "1:2"]);
    let (dead, _) = dead_letters(&mut peer, 2);
    peer.ask(DeleteTopic { topic: first }).unwrap();
    let second = peer.create("app");
    peer.produce(second, &["another"]);
    let worker = Worker::of(&giving_up_after(&mut peer, "1"), 1);
    let requeue = |from| Requeue {
        topic: second,
        consumer: worker.consumer,
        dead_letters: dead,
        ranges: vec![Offsets { from, to: from + 1 }],
    };
    peer.check(requeue(0), "NOT_A_DEAD_LETTER");
    peer.check(requeue(1), "NOT_A_DEAD_LETTER 1");
    assert_eq!(fail(&mut peer, &worker, 1), ["0:another"]);
    dead_letters(&mut peer, 3);
    peer.check(requeue(2), "requeued=1");
    // What the topic of dead letters has no more cannot be asked for.
    peer.ask(PurgeTopic {
        topic: dead,
        before: Position::Offset(1),
    })
    .unwrap();
    peer.check(requeue(0), "OFFSET_OUT_OF_RANGE 3");
}

#[test]
fn a_consumer_cannot_give_up_into_its_own_topic_and_sets_or_unsets_a_setting() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let own = vec![
        setting("max_deliveries", "1"),
        setting("dead_letter_topic", "app"),
    ];
    let refused = peer.ask(RegisterConsumer {
        topic: "app".to_owned(),
        name: "own".to_owned(),
        settings: own.clone(),
        create: true,
        ..RegisterConsumer::default()
    });
    assert_eq!(refused.unwrap_err().code, ErrorCode::InvalidConfig);
    let registered = giving_up_after(&mut peer, "1");
    let alter = |set: Vec<Setting>, unset: &[&str]| AlterConsumer {
        topic,
        consumer: registered.consumer,
        set,
        unset: unset.iter().map(|it| (*it).to_owned()).collect(),
        ..AlterConsumer::default()
    };
    let refused = peer.ask(alter(own, &[])).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidConfig);
    let both = alter(vec![setting("backoff", "1s")], &["backoff"]);
    let refused = peer.ask(both).unwrap_err();
    assert_eq!(refused.message, "the setting backoff is both set and unset");
}

#[test]
fn a_record_that_cannot_be_given_up_holds_back_no_other() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let long = "x".repeat(2_000);
    peer.produce(topic, &["a", "b", &long, "c", "d"]);
    let narrow = CreateTopic {
        name: "dead".to_owned(),
        settings: vec![setting("max_record_bytes", "1000")],
        if_not_exists: false,
    };
    peer.ask(narrow).unwrap();
    let worker = Worker::of(&giving_up_after(&mut peer, "1"), 1);
    assert_eq!(fail(&mut peer, &worker, 1).len(), 5);
    let (_, letters) = dead_letters(&mut peer, 4);
    let values: Vec<_> = letters.iter().map(|it| &it[..1]).collect();
    assert_eq!(values, ["a", "b", "c", "d"]);
    until("the others are given up", || {
        peer.ask(worker.size()).unwrap().records == 1
    });
    peer.check(worker.take(2, 0), "held next=5");
}

#[test]
fn the_longest_record_there_may_be_becomes_a_dead_letter() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let longest = "x".repeat(1 << 20);
    peer.produce(topic, &[&longest]);
    let worker = Worker::of(&giving_up_after(&mut peer, "1"), 1);
    assert_eq!(fail(&mut peer, &worker, 1).len(), 1);
    let (_, letters) = dead_letters(&mut peer, 1);
    assert!(letters[0].len() > 1 << 20);
    peer.check(worker.size(), "records=0 bytes=0");
}

#[test]
fn a_record_stays_while_the_dead_letter_topic_cannot_take_it() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    peer.produce(topic, &["a record of some length"]);
    // Whatever is given up is too long for this topic.
    let narrow = CreateTopic {
        name: "dead".to_owned(),
        settings: vec![setting("max_record_bytes", "10")],
        if_not_exists: false,
    };
    let dead = peer.ask(narrow).unwrap().topic;
    let worker = Worker::of(&giving_up_after(&mut peer, "1"), 1);
    assert_eq!(fail(&mut peer, &worker, 1), ["0:a record of some length"]);
    peer.check(worker.take(2, 0), "held next=1");
    peer.check(worker.size(), "records=1 bytes=23");
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(worker.take(2, 0), "held next=1");
    // Given another place, it goes there.
    peer.ask(AlterConsumer {
        topic,
        consumer: worker.consumer,
        set: vec![setting("dead_letter_topic", "elsewhere")],
        ..AlterConsumer::default()
    })
    .unwrap();
    until("the record is given up", || {
        peer.ask(worker.size()).unwrap().records == 0
    });
    peer.check(fetch(dead, 0), "empty next=0");
}

//! Retention, purges and changes of settings: what goes, what stays, and what readers are told.

use logdrive_protocol::operations::{
    AlterTopic, CreateTopic, DescribeTopic, Fetch, Gap, Produce, PurgeTopic, Seek, Setting,
    TopicDescribed,
};
use logdrive_protocol::{Position, TopicId};

use crate::support::asking::{Worker, fetch, produce};
use crate::support::{Broker, Connection, batch, said, until};

fn settings(text: &str) -> Vec<Setting> {
    let words = text
        .split_whitespace()
        .filter_map(|word| word.split_once('='));
    words
        .map(|(key, value)| Setting {
            key: key.into(),
            value: value.into(),
        })
        .collect()
}

fn create(peer: &mut Connection, name: &str, with: &str) -> TopicId {
    let create = CreateTopic {
        name: name.into(),
        settings: settings(with),
        if_not_exists: false,
    };
    peer.ask(create).unwrap().topic
}

fn describe(peer: &mut Connection, name: &str) -> TopicDescribed {
    let describe = DescribeTopic {
        name: name.into(),
        ..DescribeTopic::default()
    };
    peer.ask(describe).unwrap()
}

/// Waits until the topic begins at an offset.
fn begins(peer: &mut Connection, name: &str, start: u64) {
    let what = format!("{name} begins at {start}");
    until(&what, || {
        let now = describe(peer, name).log_start;
        assert!(now <= start, "{what}: it begins at {now}");
        now == start
    });
}

fn purge(topic: TopicId, before: Position) -> PurgeTopic {
    PurgeTopic { topic, before }
}

fn gaps(peer: &mut Connection, topic: TopicId, from: u64) -> Vec<Gap> {
    peer.ask(fetch(topic, from)).unwrap().gaps
}

#[test]
fn a_purge_takes_what_is_before_a_position_exactly_and_readers_are_told() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    peer.produce(topic, &["a", "b", "c"]);
    peer.produce(topic, &["d", "ee"]);
    peer.check(purge(topic, Position::Offset(9)), "OFFSET_OUT_OF_RANGE 5");
    peer.check(
        purge(topic, Position::Earliest),
        "start=0 records=0 bytes=0",
    );
    // In the midst of a batch.
    peer.check(
        purge(topic, Position::Offset(2)),
        "start=2 records=2 bytes=2",
    );
    peer.check(
        purge(topic, Position::Offset(1)),
        "start=2 records=0 bytes=0",
    );
    let check = |peer: &mut Connection| {
        peer.check(fetch(topic, 0), "gap 0..2 2:c 3:d 4:ee next=5");
        peer.check(fetch(topic, 2), "2:c 3:d 4:ee next=5");
        let all = Fetch {
            topic,
            ..Fetch::default()
        };
        peer.check(all, "2:c 3:d 4:ee next=5");
        let gap = gaps(peer, topic, 0).remove(0);
        assert_eq!((gap.records, gap.bytes, gap.reason), (2, 2, Gap::PURGE));
        assert!(0 < gap.first_time && gap.first_time <= gap.last_time);
        let described = describe(peer, "app");
        assert_eq!((described.records, described.bytes), (3, 4));
    };
    check(&mut peer);
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    check(&mut peer);
    peer.check(purge(topic, Position::Latest), "start=5 records=3 bytes=4");
    peer.check(fetch(topic, 3), "gap 3..5 next=5");
    peer.produce(topic, &["f"]);
    peer.check(fetch(topic, 3), "gap 3..5 5:f next=6");
    peer.check(purge(TopicId(99), Position::Latest), "TOPIC_NOT_FOUND");
}

#[test]
fn records_and_bytes_are_kept_to_the_batch() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let by_records = create(&mut peer, "r", "retention_records=4");
    let by_bytes = create(&mut peer, "b", "retention_bytes=10");
    for _ in 0..5 {
        peer.produce(by_records, &["a", "b", "c"]);
        peer.produce(by_bytes, &["aa", "bb"]);
    }
    // Six are two batches; five would be less than a batch and four.
    begins(&mut peer, "r", 9);
    // Twelve bytes are three batches.
    begins(&mut peer, "b", 4);
    let gap = gaps(&mut peer, by_records, 0).remove(0);
    assert_eq!((gap.records, gap.reason), (9, Gap::RETENTION));
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    begins(&mut peer, "r", 9);
    peer.produce(by_records, &["x"]);
    peer.check(
        fetch(by_records, 9),
        "9:a 10:b 11:c 12:a 13:b 14:c 15:x next=16",
    );
    peer.produce(by_records, &["y", "z", "w"]);
    begins(&mut peer, "r", 15);
}

#[test]
fn what_is_too_old_goes_without_anything_else_happening() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = create(&mut peer, "app", "retention_age=1s");
    peer.produce(topic, &["a", "b"]);
    begins(&mut peer, "app", 2);
    peer.check(fetch(topic, 0), "gap 0..2 next=2");
    // The same where the first record is older than the broker.
    let kept = create(&mut peer, "kept", "");
    peer.produce(kept, &["a"]);
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    let alter = AlterTopic {
        topic: kept,
        set: settings("retention_age=1ms"),
        unset: vec![],
    };
    peer.check(alter, "retention_age=1ms");
    begins(&mut peer, "kept", 1);
}

#[test]
fn a_consumer_holds_records_back_up_to_the_cap_and_is_named() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let rule = "retention_until_consumed=true retention_records=6";
    let topic = create(&mut peer, "app", rule);
    let slow = Worker::of(&peer.consumer("app", "slow"), 1);
    let fast = Worker::of(&peer.consumer("app", "fast"), 2);
    for value in ["a", "b", "c", "d"] {
        peer.produce(topic, &[value]);
    }
    peer.check(fast.take(1, 4), "0:a 1:b 2:c 3:d next=4");
    assert_eq!(describe(&mut peer, "app").held_by, "slow");
    peer.check(slow.take(1, 2), "0:a 1:b next=2");
    // What all have acked goes with the next commit, at the latest.
    peer.produce(topic, &["e"]);
    begins(&mut peer, "app", 2);
    for value in ["f", "g", "h", "i", "j"] {
        peer.produce(topic, &[value]);
    }
    begins(&mut peer, "app", 4);
    // It was told what it missed, and goes on from there.
    peer.check(slow.take(2, 1), "gap 2..4 4:e next=5");
    peer.check(fast.take(2, 2), "4:e 5:f next=6");
    assert_eq!(describe(&mut peer, "app").held_by, "slow");
}

#[test]
fn settings_change_as_asked_or_not_at_all() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = create(&mut peer, "app", "description=x");
    let mut check = |set: &str, unset: &[&str], expected: &str| {
        let alter = AlterTopic {
            topic,
            set: settings(set),
            unset: unset.iter().map(|&key| key.into()).collect(),
        };
        peer.check(alter, expected);
    };
    check("", &[], "description=x");
    check(
        "retention_age=7d",
        &["description", "retention_bytes"],
        "retention_age=7d",
    );
    check("retention_age=7d", &["retention_age"], "INVALID_CONFIG");
    check("color=red", &[], "INVALID_CONFIG");
    check("", &["color"], "INVALID_CONFIG");
    check("retention_age=1h retention_age=2h", &[], "INVALID_CONFIG");
    check(
        "retention_until_consumed=true",
        &["retention_age"],
        "INVALID_CONFIG",
    );
    check(
        "retention_until_consumed=true",
        &[],
        "retention_age=7d retention_until_consumed=true",
    );
    check("", &["retention_age"], "INVALID_CONFIG");
    check(
        "max_record_bytes=3",
        &["retention_until_consumed"],
        "max_record_bytes=3 retention_age=7d",
    );
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    let described = describe(&mut peer, "app").settings;
    assert_eq!(described, settings("max_record_bytes=3 retention_age=7d"));
    let long = produce(topic, batch(&["long"]));
    assert_eq!(said(peer.ask(long)), "RECORD_TOO_LARGE 3");
    let contradiction = CreateTopic {
        name: "b".into(),
        settings: settings("retention_until_consumed=true"),
        if_not_exists: false,
    };
    peer.check(contradiction, "INVALID_CONFIG");
}

#[test]
fn a_reader_that_is_overtaken_is_told_of_a_gap_and_never_of_damage() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let value = "v".repeat(1_000);
    let mut reader = broker.connect();
    for round in 0..40 {
        let requests = vec![produce(topic, batch(&[value.as_str(); 100])); 8];
        for number in peer.send_all(&requests) {
            peer.answer::<Produce>(number).unwrap();
        }
        let end = (round + 1) * 800;
        let purged = peer.send(&purge(topic, Position::Offset(end - 400)));
        // From the beginning on, while that goes: the disk, a gap, or both.
        let mut next = 0;
        while next < end {
            let delivered = reader.ask(fetch(topic, next)).unwrap();
            let gone: u64 = delivered.gaps.iter().map(|gap| gap.records).sum();
            let first = delivered
                .ranges
                .first()
                .map_or(delivered.next, |it| it.from);
            assert_eq!(first, next + gone, "nothing is passed over in silence");
            next = delivered.next;
        }
        peer.answer::<PurgeTopic>(purged).unwrap();
    }
}

#[test]
fn a_place_that_is_being_removed_is_the_first_that_stays() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let worker = Worker::of(&peer.consumer("app", "c"), 1);
    for value in ["a", "b", "c"] {
        peer.produce(topic, &[value]);
    }
    peer.check(worker.take(1, 0), "0:a 1:b 2:c next=3");
    let removing = PurgeTopic {
        topic,
        before: Position::Offset(2),
    };
    let moving = Seek {
        topic,
        consumer: worker.consumer,
        to: Position::Offset(0),
    };
    // Both are on their way before either is done.
    let purged = peer.send(&removing);
    let sought = peer.send(&moving);
    peer.answer::<PurgeTopic>(purged).unwrap();
    peer.answer::<Seek>(sought).unwrap();
    let seen = peer.ask(worker.take(2, 0)).unwrap();
    let told = said(Ok(seen));
    // Whichever came first: what is left is given, and what went is told of.
    assert!(
        told == "2:c next=3" || told == "gap 0..2 2:c next=3",
        "{told}"
    );
    peer.check(worker.size(), "records=0 bytes=0");
}

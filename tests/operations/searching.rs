//! Fetching with a filter: what matches is given, wherever it lies, and the search goes on.

use logdrive_protocol::batch::{BatchBuilder, NewRecord, Origin};
use logdrive_protocol::operations::{
    Cancel, DeleteTopic, Delivered, Fetch, Payload, Produce, Setting,
};
use logdrive_protocol::{Position, TopicId};

use crate::support::asking::{fetch, fetch_waiting, produce, produce_accepted};
use crate::support::{Broker, Connection, until};

/// Settings of words like `severity=warn`.
fn filter(words: &[&str]) -> Vec<Setting> {
    let setting = |word: &&str| {
        let (key, value) = word.split_once('=').unwrap();
        Setting {
            key: key.to_owned(),
            value: value.to_owned(),
        }
    };
    words.iter().map(setting).collect()
}

/// A request to look through a topic from an offset.
fn search(topic: TopicId, from: u64, words: &[&str]) -> Fetch {
    Fetch {
        filter: filter(words),
        ..fetch(topic, from)
    }
}

/// The same, which waits for as long as the broker lets it.
fn search_waiting(topic: TopicId, from: u64, words: &[&str]) -> Fetch {
    Fetch {
        filter: filter(words),
        ..fetch_waiting(topic, from)
    }
}

/// A batch of values with a severity, a host and a timestamp.
fn batch(severity: u8, host: &str, timestamp: u64, values: &[&str]) -> Payload {
    let mut builder = BatchBuilder::default();
    for value in values {
        builder.push(&NewRecord {
            timestamp,
            severity,
            headers: &[("host".to_owned(), host.as_bytes().to_vec())],
            value: value.as_bytes(),
            ..NewRecord::default()
        });
    }
    Payload::Shared(builder.finish(Origin::default()).freeze())
}

fn sample(peer: &mut Connection) -> TopicId {
    let topic = peer.create("app");
    for (severity, host, timestamp, values) in [
        (9, "a", 100, &["start", "timeout one", "go"][..]),
        (17, "b", 200, &["failed"]),
        (9, "b", 300, &["timeout two", "end"]),
    ] {
        let batch = batch(severity, host, timestamp, values);
        peer.ask(produce(topic, batch)).unwrap();
    }
    topic
}

#[test]
fn a_filter_gives_what_matches_from_memory_and_from_the_disk_alike() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = sample(&mut peer);
    let check = |peer: &mut Connection| {
        let mut found = |words: &[&str], expected| peer.check(search(topic, 0, words), expected);
        found(&["grep=timeout"], "1:timeout one 4:timeout two next=6");
        found(&["grep=^timeout", "header.host=b"], "4:timeout two next=6");
        found(&["severity=error"], "3:failed next=6");
        found(&["severity=9", "since=200", "until=300"], "3:failed next=6");
        found(
            &["since=1970-01-01T00:00:00.0003Z"],
            "4:timeout two 5:end next=6",
        );
        found(&["severity=fatal"], "empty next=6");
        found(&["grep=nowhere"], "empty next=6");
        peer.check(search(topic, 2, &["grep=timeout"]), "4:timeout two next=6");
        peer.check(search(topic, 6, &["grep=timeout"]), "empty next=6");
        peer.check(search(topic, 7, &["grep=timeout"]), "OFFSET_OUT_OF_RANGE 6");
        let last = Fetch {
            from: Position::Last(5),
            max_records: 1,
            ..search(topic, 0, &["grep=timeout"])
        };
        peer.check(last, "1:timeout one next=3");
        let recent = Fetch {
            from: Position::Ago(u64::MAX),
            ..search(topic, 0, &["header.host=b"])
        };
        peer.check(recent, "3:failed 4:timeout two 5:end next=6");
    };
    check(&mut peer);
    assert_eq!(peer.counter("app", "cold_reads"), 0);
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    check(&mut peer);
    assert!(peer.counter("app", "cold_reads") > 0);
}

#[test]
fn limits_count_what_matches_and_next_goes_on_behind_it() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = sample(&mut peer);
    let check = |peer: &mut Connection| {
        let mut limited = |from, max_records, max_bytes, expected| {
            let request = Fetch {
                max_records,
                max_bytes,
                ..search(topic, from, &["grep=o"])
            };
            peer.check(request, expected);
        };
        limited(0, 1, 0, "1:timeout one next=2");
        limited(2, 1, 0, "2:go next=3");
        limited(3, 1, 0, "4:timeout two next=6");
        limited(0, 0, 1, "1:timeout one 2:go next=4");
    };
    check(&mut peer);
    let broker = broker.killed_and_restarted();
    check(&mut broker.connect());
}

#[test]
fn a_search_without_a_match_answers_after_a_budget_with_where_it_goes_on() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let line = "a line of a log that does not match ".repeat(1_000);
    let lines = [line.as_str(); 28];
    let requests = vec![produce_accepted(topic, batch(9, "a", 1, &lines)); 60];
    for number in peer.send_all(&requests) {
        peer.answer::<Produce>(number).unwrap();
    }
    let last = produce(topic, batch(9, "a", 1, &["the needle"]));
    let end = peer.ask(last).unwrap().base_offset + 1;
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    let (mut next, mut passed) = (0, 0);
    loop {
        // A wait makes no difference: it looks on only at the end.
        let request = search_waiting(topic, next, &["grep=needle"]);
        let delivered: Delivered = peer.ask(request).unwrap();
        assert!(delivered.next > next);
        next = delivered.next;
        if delivered.status == Delivered::SOME {
            let values: Vec<_> = delivered.records().map(|it| it.record.value).collect();
            assert_eq!(values, [b"the needle"]);
            break;
        }
        assert_eq!(delivered.status, Delivered::PASSED);
        assert!(delivered.batches.is_empty() && delivered.ranges.is_empty());
        passed += 1;
    }
    assert!(passed > 0, "60 MB were looked through for one answer");
    assert_eq!(next, end);
    // What heads rule out is passed over as well.
    let nothing: Delivered = peer.ask(search(topic, 0, &["severity=error"])).unwrap();
    assert!(nothing.next > 0 && nothing.ranges.is_empty());
}

#[test]
fn a_rare_match_in_a_long_batch_comes_without_its_neighbours() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let mut values = vec!["a line of a log that is passed over"; 20_000];
    values[777] = "the needle";
    peer.ask(produce(topic, batch(9, "a", 1, &values))).unwrap();
    let check = |peer: &mut Connection| {
        let mut found: Delivered = peer.ask(search(topic, 0, &["grep=needle"])).unwrap();
        found.check(topic).unwrap();
        let records: Vec<_> = found
            .records()
            .map(|it| (it.offset, it.timestamp))
            .collect();
        assert_eq!(records, [(777, 1)]);
        assert!(found.batches[0].len() < 200, "{}", found.batches[0].len());
        assert_eq!(found.next, 20_000);
    };
    check(&mut peer);
    let broker = broker.killed_and_restarted();
    check(&mut broker.connect());
}

#[test]
fn a_search_that_waits_goes_on_waiting_past_what_does_not_match() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = sample(&mut peer);
    let mut other = broker.connect();
    let greps = peer.send(&search_waiting(topic, 6, &["grep=needle"]));
    let loud = peer.send(&search_waiting(topic, 6, &["severity=fatal"]));
    let short = Fetch {
        max_wait_ms: 1,
        ..search(topic, 0, &["grep=needle"])
    };
    peer.check(short, "empty next=6");
    for _ in 0..3 {
        other.produce(topic, &["nothing", "nothing at all"]);
    }
    assert_eq!(other.produce(topic, &["hay", "the needle", "hay"]), 12);
    peer.check_answer::<Fetch>(greps, "13:the needle next=15");
    other
        .ask(produce(topic, batch(21, "a", 1, &["it burns"])))
        .unwrap();
    peer.check_answer::<Fetch>(loud, "15:it burns next=16");
    assert_eq!(peer.counter("app", "requests_waiting"), 0);
}

#[test]
fn a_wait_that_is_over_says_how_far_the_search_came() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = sample(&mut peer);
    let short = Fetch {
        max_wait_ms: 1,
        ..search(topic, 1, &["severity=fatal"])
    };
    peer.check(short, "empty next=6");
}

#[test]
fn a_search_that_waits_can_be_cancelled_and_ends_with_its_connection_and_its_topic() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = sample(&mut peer);
    let wait = |peer: &mut Connection| {
        let waiting = peer.send(&search_waiting(topic, 0, &["grep=needle"]));
        // It waits when it has looked through what is there.
        until("it waits", || peer.counter("app", "requests_waiting") > 0);
        waiting
    };
    let waiting = wait(&mut peer);
    let cancel = |correlation| Cancel { topic, correlation };
    peer.check(cancel(waiting), "done");
    peer.check_answer::<Fetch>(waiting, "CANCELLED");
    assert_eq!(peer.counter("app", "requests_waiting"), 0);
    let mut leaving = broker.connect();
    wait(&mut leaving);
    drop(leaving);
    until("it has left", || {
        peer.counter("app", "requests_waiting") == 0
    });
    let waiting = wait(&mut peer);
    broker.connect().ask(DeleteTopic { topic }).unwrap();
    peer.check_answer::<Fetch>(waiting, "TOPIC_NOT_FOUND");
}

#[test]
fn so_many_regular_expressions_may_wait_and_one_more_is_told_so() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let limit = 128;
    let waiting: Vec<u32> = (0..limit)
        .map(|_| peer.send(&search_waiting(topic, 0, &["grep=needle"])))
        .collect();
    until("they wait", || {
        peer.counter("app", "requests_waiting") == limit
    });
    let one_more = || search_waiting(topic, 0, &["grep=needle"]);
    peer.check(one_more(), "LIMIT_REACHED");
    // What holds no expression, and what does not wait, is not meant.
    peer.check(search(topic, 0, &["grep=needle"]), "empty next=0");
    let light = peer.send(&search_waiting(topic, 0, &["severity=warn"]));
    until("it waits", || {
        peer.counter("app", "requests_waiting") > limit
    });
    let correlation = waiting[7];
    peer.check(Cancel { topic, correlation }, "done");
    peer.check_answer::<Fetch>(correlation, "CANCELLED");
    let last = peer.send(&one_more());
    until("it waits", || {
        peer.counter("app", "requests_waiting") > limit
    });
    let found = batch(13, "a", 1, &["the needle"]);
    peer.ask(produce(topic, found)).unwrap();
    peer.check_answer::<Fetch>(last, "0:the needle next=1");
    peer.check_answer::<Fetch>(light, "0:the needle next=1");
}

#[test]
fn a_filter_that_does_not_fit_is_refused_wherever_the_fetch_begins() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = sample(&mut peer);
    for from in [0, 6] {
        let mut refused = |words: &[&str]| {
            peer.check(search_waiting(topic, from, words), "INVALID_FILTER");
        };
        refused(&["color=red"]);
        refused(&["severity=warn", "severity=warn"]);
        refused(&["grep=("]);
        refused(&[r"grep=(\w{200}){200}"]);
        refused(&["since=yesterday"]);
        refused(&["since=5", "until=4"]);
    }
    // The connection and the topic go on.
    peer.check(search(topic, 0, &["grep=failed"]), "3:failed next=6");
}

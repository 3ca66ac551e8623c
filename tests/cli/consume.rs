//! `logdrive consume`, `size` and `consumer`.

use std::io::{BufRead, BufReader, Read};

use rustix::process::Signal;
use serde_json::Value;

use crate::broker::{Broker, signal, text};

#[test]
fn consume_moves_a_cursor_and_every_consumer_sees_every_record() {
    let broker = Broker::start();
    broker.check(&["produce", "app"], b"0\n1\n2\n3\n4\n", 0, "");
    let out = broker.run(&["consume", "app", "--consumer", "c1", "-n", "2"], b"");
    assert_eq!(text(&out.stdout), "0\n1\n");
    assert_eq!(
        text(&out.stderr),
        "created consumer c1 of topic app at offset 0\n"
    );
    broker.check(
        &["consume", "app", "--consumer", "c1", "-n", "0"],
        b"",
        0,
        "",
    );
    broker.check(
        &["consume", "app", "--consumer", "c1", "-n", "1"],
        b"",
        0,
        "2\n",
    );
    let out = broker.run(&["size", "app", "--consumer", "c1", "-o", "raw"], b"");
    assert!(
        text(&out.stdout).starts_with("records=2\nbytes=2\n"),
        "{}",
        text(&out.stdout)
    );
    broker.check(&["consume", "app", "--consumer", "c1"], b"", 0, "3\n4\n");
    broker.check(&["consume", "app", "--consumer", "c1"], b"", 0, "");
    broker.check(
        &["consume", "app", "--consumer", "c2", "--from", "-1"],
        b"",
        0,
        "4\n",
    );
    broker.check(
        &["consumer", "seek", "app", "c1", "-2", "-o", "raw"],
        b"",
        0,
        "cursor=3\n",
    );
    broker.check(
        &["consume", "app", "--consumer", "c1", "--from", "0"],
        b"",
        0,
        "3\n4\n",
    );
}

/// Every run is a worker of its own, and a consumer knows 64: the 65th run within an hour once waited
/// for the first one's place.
#[test]
fn a_run_that_ends_leaves_its_place_to_the_next() {
    let broker = Broker::start();
    let lines: Vec<_> = (0..70).map(|number| format!("{number}\n")).collect();
    broker.check(&["produce", "app"], lines.concat().as_bytes(), 0, "");
    for expected in lines {
        broker.check(
            &["consume", "app", "--consumer", "c1", "-n", "1"],
            b"",
            0,
            &expected,
        );
    }
}

#[test]
fn many_records_are_consumed_to_the_number_asked_for() {
    let broker = Broker::start();
    let lines: Vec<String> = (0..30_000)
        .map(|n| format!("line {n:06} {:90}\n", ""))
        .collect();
    broker.check(&["produce", "app"], lines.concat().as_bytes(), 0, "");
    let (first, rest) = lines.split_at(25_000);
    broker.check(
        &["consume", "app", "--consumer", "c", "-n", "25000"],
        b"",
        0,
        &first.concat(),
    );
    broker.check(
        &["consume", "app", "--consumer", "c"],
        b"",
        0,
        &rest.concat(),
    );
}

#[test]
fn follow_consumes_what_comes_later_until_it_is_interrupted() {
    let broker = Broker::start();
    broker.check(&["produce", "app"], b"before\n", 0, "");
    let arguments = ["consume", "app", "--consumer", "c", "--follow"];
    let mut follow = broker.command(&arguments).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "before");
    broker.check(&["produce", "app"], b"after\n", 0, "");
    assert_eq!(lines.next().unwrap().unwrap(), "after");
    signal(&follow, Signal::INT);
    assert!(lines.next().is_none());
    assert_eq!(follow.wait().unwrap().code(), Some(130));
    broker.check(&["produce", "app"], b"later\n", 0, "");
    broker.check(&["consume", "app", "--consumer", "c"], b"", 0, "later\n");
}

#[test]
fn a_consumer_whose_reader_goes_away_can_take_the_records_again() {
    let broker = Broker::start();
    let lines: Vec<String> = (0..100_000)
        .map(|n| format!("line {n:06} {:40}\n", ""))
        .collect();
    broker.check(&["produce", "app"], lines.concat().as_bytes(), 0, "");
    let mut consume = broker
        .command(&["consume", "app", "--consumer", "c"])
        .spawn()
        .unwrap();
    let mut some = [0; 100];
    consume
        .stdout
        .take()
        .unwrap()
        .read_exact(&mut some)
        .unwrap();
    let out = consume.wait_with_output().unwrap();
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{said}");
    let command = said
        .split_once("take them again with: logdrive ")
        .unwrap()
        .1
        .trim();
    let again: Vec<&str> = command.split(' ').collect();
    let from: usize = again.last().unwrap().parse().unwrap();
    broker.run(&again, b"");
    let rest = lines[from..].concat();
    broker.check(&["consume", "app", "--consumer", "c"], b"", 0, &rest);
}

#[test]
fn looking_at_a_consumer_never_creates_one() {
    let broker = Broker::start();
    broker.check(&["topic", "create", "app"], b"", 0, "");
    for arguments in [
        &["size", "app", "--consumer", "c1"][..],
        &["consumer", "seek", "app", "c1", "earliest"],
        &["consumer", "unregister", "app", "c1"],
        &["consumer", "unregister", "app", "c1", "--yes"],
    ] {
        let out = broker.run(arguments, b"");
        assert_eq!(
            out.status.code(),
            Some(3),
            "{arguments:?} {}",
            text(&out.stderr)
        );
    }
    let out = broker.run(&["topic", "describe", "app", "-o", "json"], b"");
    let topic: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(topic["consumers"], serde_json::json!([]));
}

#[test]
fn a_consumer_is_unregistered_with_yes_alone() {
    let broker = Broker::start();
    broker.check(&["produce", "app"], b"one\ntwo\n", 0, "");
    broker.check(
        &["consume", "app", "--consumer", "c1", "-n", "1"],
        b"",
        0,
        "one\n",
    );
    let out = broker.run(&["consumer", "unregister", "app", "c1"], b"");
    assert_eq!(out.status.code(), Some(2));
    assert!(
        text(&out.stderr).contains("1 records (3 bytes) left"),
        "{}",
        text(&out.stderr)
    );
    broker.check(
        &["consume", "app", "--consumer", "c1", "-n", "1"],
        b"",
        0,
        "two\n",
    );
    broker.check(
        &["consumer", "unregister", "app", "c1", "--yes"],
        b"",
        0,
        "",
    );
    broker.check(
        &["consume", "app", "--consumer", "c1"],
        b"",
        0,
        "one\ntwo\n",
    );
}

//! `logdrive produce`.

use std::io::{BufRead, BufReader, Read, Write};

use rustix::process::Signal;
use serde_json::Value;

use crate::broker::{Broker, signal, text};

/// Bytes as logs have them: CR line ends, no text, empty lines, one of the largest size, no LF at
/// the end.
pub(crate) fn awkward_log() -> Vec<u8> {
    let mut log = b"plain\r\n\xff\xfe\x00binary\n\n\r\n".to_vec();
    log.extend(std::iter::repeat_n(b'x', 1 << 20));
    log.extend_from_slice("\n\u{fc}mlaut\nno end".as_bytes());
    log
}

#[test]
fn files_and_stdin_come_back_byte_for_byte() {
    let broker = Broker::start();
    let one = broker.file("one.log", &awkward_log());
    let two = broker.file("two.log", b"two\n");
    broker.check(&["produce", "app", &one, "-", &two], b"from stdin\n", 0, "");
    let back = broker.run(&["fetch", "app"], b"");
    let expected = [&awkward_log()[..], b"\nfrom stdin\ntwo\n"].concat();
    assert!(
        back.stdout == expected,
        "{} bytes came back",
        back.stdout.len()
    );
    assert_eq!((back.status.code(), text(&back.stderr)), (Some(0), ""));
}

#[test]
fn whatever_packs_them_the_same_bytes_come_back() {
    let broker = Broker::start();
    let log: Vec<u8> = (0..20_000)
        .flat_map(|at| format!("12:00:{:02} GET /index.html 200 {at}\n", at % 60).into_bytes())
        .collect();
    for codec in ["none", "lz4", "zstd"] {
        broker.run(&["produce", "app", "--compression", codec], &log);
    }
    let back = broker.run(&["fetch", "app"], b"");
    assert!(back.stdout == log.repeat(3), "{}", text(&back.stderr));
    let taken = broker.run(&["consume", "app", "--consumer", "c", "-n", "30000"], b"");
    let half = log.repeat(2);
    let lines = half.split_inclusive(|byte| *byte == b'\n').take(30_000);
    assert!(taken.stdout == lines.collect::<Vec<_>>().concat());
    let size = broker.run(&["size", "app", "--consumer", "c", "-o", "json"], b"");
    let size: Value = serde_json::from_slice(&size.stdout).unwrap();
    assert_eq!(size["records"], 30_000);
    let left = log.len() * 3 - taken.stdout.len() - 30_000;
    assert_eq!(size["bytes"], left);
    let wrong = broker.run(&["produce", "app", "--compression", "gzip"], b"");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("none, lz4, zstd"));
}

#[test]
fn produce_says_what_was_created_and_acknowledged() {
    let broker = Broker::start();
    let out = broker.run(&["produce", "app"], b"a\nb\n");
    let said = text(&out.stderr);
    let expected = "created topic app\n2 of 2 records acknowledged as synced";
    assert!(said.starts_with(expected), "{said}");
    assert_eq!(text(&out.stdout), "");

    let out = broker.run(
        &["produce", "app", "--ack", "accepted", "-o", "json"],
        b"c\n",
    );
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (&told["topic"], &told["acknowledged"]),
        (&"app".into(), &1.into())
    );
    assert_eq!(told["durability"], "accepted");
    assert!(!text(&out.stderr).contains("created"));
    broker.check(&["fetch", "app"], b"", 0, "a\nb\nc\n");
}

#[test]
fn a_topic_named_twice_is_refused_before_anything_is_done() {
    let broker = Broker::start();
    for words in ["produce a --also a", "produce a --also b --also b"] {
        let words: Vec<&str> = words.split(' ').collect();
        broker.check(&words, b"1\n", 2, "");
    }
    broker.check(&["topic", "list", "-o", "raw"], b"", 0, "");
}

#[test]
fn lines_for_several_topics_are_in_all_of_them() {
    let broker = Broker::start();
    let out = broker.run(&["produce", "a", "--also", "b", "--also", "c"], b"1\n2\n");
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(said.contains("2 records acknowledged as synced"), "{said}");
    for topic in ["a", "b", "c"] {
        broker.check(&["fetch", topic], b"", 0, "1\n2\n");
    }
}

#[test]
fn lines_with_a_delay_come_when_their_time_has_come() {
    let broker = Broker::start();
    let out = broker.run(&["produce", "app", "--delay", "1s"], b"later\n");
    let said = text(&out.stderr);
    assert!(
        said.contains("1 records acknowledged as scheduled"),
        "{said}"
    );
    broker.check(&["fetch", "app", "--follow", "-n", "1"], b"", 0, "later\n");
    let past = ["produce", "app", "--at", "2001-01-01T00:00:00Z"];
    let out = broker.run(&past, b"never\n");
    assert_eq!(out.status.code(), Some(2), "{}", text(&out.stderr));
    broker.check(&["fetch", "app"], b"", 0, "later\n");
}

#[test]
fn an_empty_input_produces_nothing() {
    let broker = Broker::start();
    broker.check(&["produce", "app"], b"", 0, "");
    broker.check(&["fetch", "app"], b"", 0, "");
}

#[test]
fn a_line_over_the_limit_is_named_and_nothing_else_is_lost() {
    let broker = Broker::start();
    let mut log = b"first\n".to_vec();
    log.extend(std::iter::repeat_n(b'x', (1 << 20) + 1));
    log.extend_from_slice(b"\nlast\n");
    let file = broker.file("big.log", &log);
    let out = broker.run(&["produce", "app", &file], b"");
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    let named = "big.log: line 2 has 1048577 bytes, over the limit of 1048576: left out";
    assert!(said.contains(named), "{said}");
    assert!(said.contains("2 of 2 records acknowledged"), "{said}");
    broker.check(&["fetch", "app"], b"", 0, "first\nlast\n");
}

#[test]
fn a_missing_file_is_named_before_anything_is_produced() {
    let broker = Broker::start();
    let file = broker.file("a.log", b"a\n");
    let out = broker.run(&["produce", "app", &file, "/nowhere/b.log"], b"");
    assert_eq!(out.status.code(), Some(3));
    assert!(
        text(&out.stderr).contains("cannot read /nowhere/b.log"),
        "{}",
        text(&out.stderr)
    );
    broker.check(&["topic", "list", "-o", "raw"], b"", 0, "");
}

#[test]
fn an_interrupted_produce_says_what_was_acknowledged() {
    let broker = Broker::start();
    let mut produce = broker.command(&["produce", "app"]).spawn().unwrap();
    let mut stdin = produce.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\nbegun").unwrap();
    // Its first line says that the topic is there, the follower that the records are.
    let mut stderr = BufReader::new(produce.stderr.take().unwrap());
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    broker.check(
        &["fetch", "app", "--follow", "-n", "2"],
        b"",
        0,
        "one\ntwo\n",
    );
    signal(&produce, Signal::INT);
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(produce.wait().unwrap().code(), Some(130), "{said}");
    assert!(
        said.contains("2 of 2 records acknowledged as synced"),
        "{said}"
    );
}

#[test]
fn a_restart_of_the_broker_is_a_pause_to_a_producer() {
    let mut broker = Broker::start();
    let mut produce = broker.command(&["produce", "app"]).spawn().unwrap();
    let mut stdin = produce.stdin.take().unwrap();
    stdin.write_all(b"before\n").unwrap();
    let mut stderr = BufReader::new(produce.stderr.take().unwrap());
    stderr.read_line(&mut String::new()).unwrap();
    broker.check(&["fetch", "app", "--follow", "-n", "1"], b"", 0, "before\n");
    broker.kill();
    stdin.write_all(b"while it is away\n").unwrap();
    broker.restart();
    stdin.write_all(b"after\n").unwrap();
    drop(stdin);
    assert_eq!(produce.wait().unwrap().code(), Some(0));
    broker.check(
        &["fetch", "app"],
        b"",
        0,
        "before\nwhile it is away\nafter\n",
    );
}

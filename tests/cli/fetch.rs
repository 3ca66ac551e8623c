//! `logdrive fetch`.

use std::io::{BufRead, BufReader, Read};

use rustix::process::Signal;
use serde_json::Value;

use crate::broker::{Broker, signal, text};

#[test]
fn fetch_takes_the_whole_grammar_of_positions() {
    let broker = Broker::start();
    broker.check(&["produce", "app"], b"0\n1\n2\n3\n4\n", 0, "");
    for (arguments, expected) in [
        (&["--from", "3"][..], "3\n4\n"),
        (&["--from", "-2"], "3\n4\n"),
        (&["--from", "-100"], "0\n1\n2\n3\n4\n"),
        (&["--from", "latest"], ""),
        (&["--from", "1h"], "0\n1\n2\n3\n4\n"),
        (&["--from", "2100-01-01T00:00:00Z"], ""),
        (&["--to", "2"], "0\n1\n"),
        (&["--from", "1", "--to", "-1"], "1\n2\n3\n"),
        (&["--to", "earliest"], ""),
        (&["--to", "2000-01-01T00:00:00Z"], ""),
        (&["-n", "2"], "0\n1\n"),
        (&["-n", "0"], ""),
        (&["--from", "4", "-n", "9"], "4\n"),
    ] {
        broker.check(&[&["fetch", "app"], arguments].concat(), b"", 0, expected);
    }
}

#[test]
fn records_have_four_forms() {
    let broker = Broker::start();
    let produce = [
        "produce",
        "app",
        "--key",
        "k",
        "--header",
        "host=web-1",
        "--severity",
        "warn",
    ];
    broker.check(&produce, b"text\n\xff\n", 0, "");

    let array = broker.run(&["fetch", "app", "-o", "json"], b"").stdout;
    let array: Vec<Value> = serde_json::from_slice(&array).unwrap();
    let lines = broker.run(&["fetch", "app", "-o", "ndjson"], b"").stdout;
    let lines: Vec<Value> = text(&lines)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(array, lines);
    assert_eq!(array.len(), 2);
    assert_eq!(
        (&array[0]["value"], &array[0]["offset"]),
        (&"text".into(), &0.into())
    );
    assert_eq!(
        (&array[0]["key"], &array[0]["severity"]),
        (&"k".into(), &13.into())
    );
    assert_eq!(
        array[0]["headers"],
        serde_json::json!([{"name": "host", "value": "web-1"}])
    );
    assert_eq!(
        (&array[1]["value_hex"], &array[1]["value"]),
        (&"ff".into(), &Value::Null)
    );

    let table = broker
        .run(&["fetch", "app", "-o", "table", "-n", "1"], b"")
        .stdout;
    let table: Vec<&str> = text(&table).lines().collect();
    assert!(table[0].starts_with("TIME"), "{table:?}");
    assert!(
        table[1].ends_with("  warn      k             text"),
        "{table:?}"
    );
}

#[test]
fn fetch_stops_at_the_end_as_it_was_and_follow_goes_on_until_it_is_interrupted() {
    let broker = Broker::start();
    broker.check(&["produce", "app"], b"before\n", 0, "");
    broker.check(&["fetch", "app"], b"", 0, "before\n");
    let mut follow = broker
        .command(&["fetch", "app", "--follow"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "before");
    broker.check(&["produce", "app"], b"after\n", 0, "");
    assert_eq!(lines.next().unwrap().unwrap(), "after");
    signal(&follow, Signal::INT);
    assert!(lines.next().is_none());
    assert_eq!(follow.wait().unwrap().code(), Some(130));
}

#[test]
fn a_reader_that_goes_away_is_met_with_silence() {
    let broker = Broker::start();
    let log = "a line of a log that is read in part\n".repeat(100_000);
    broker.check(&["produce", "app"], log.as_bytes(), 0, "");
    for format in ["raw", "table", "json", "ndjson"] {
        let mut fetch = broker
            .command(&["fetch", "app", "-o", format])
            .spawn()
            .unwrap();
        let mut some = [0; 100];
        fetch.stdout.take().unwrap().read_exact(&mut some).unwrap();
        let out = fetch.wait_with_output().unwrap();
        assert_eq!(
            (out.status.code(), text(&out.stderr)),
            (Some(0), ""),
            "{format}"
        );
    }
}

#[test]
fn filters_pick_what_is_printed() {
    let broker = Broker::start();
    let produce = |arguments: &[&str], lines: &[u8]| {
        broker.check(&[&["produce", "app"], arguments].concat(), lines, 0, "");
    };
    produce(
        &["--severity", "info", "--header", "host=a"],
        b"start\ntimeout 1\n",
    );
    produce(
        &["--severity", "error", "--header", "host=b"],
        b"failed\ntimeout 22\n",
    );
    for (arguments, expected) in [
        (&["--severity", "warn"][..], "failed\ntimeout 22\n"),
        (&["--grep", "timeout"], "timeout 1\ntimeout 22\n"),
        (&["--grep", "timeout [0-9]{2}$"], "timeout 22\n"),
        (&["--grep", "timeout", "--header", "host=a"], "timeout 1\n"),
        (&["--grep", "t", "-n", "2"], "start\ntimeout 1\n"),
        (
            &["--from", "1", "--to", "3", "--severity", "9"],
            "timeout 1\nfailed\n",
        ),
        (
            &["--since", "2000-01-01T00:00:00Z", "--from", "-1"],
            "timeout 22\n",
        ),
        (&["--until", "2000-01-01T00:00:00Z"], ""),
        (&["--grep", "nowhere"], ""),
    ] {
        broker.check(&[&["fetch", "app"], arguments].concat(), b"", 0, expected);
    }
    let refused = broker.run(&["fetch", "app", "--grep", "("], b"");
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("INVALID_FILTER"), "{said}");
    assert!(said.contains("unclosed group"), "{said}");
}

#[test]
fn a_long_search_finds_what_lies_far_behind_and_follow_waits_past_what_does_not_match() {
    let broker = Broker::start();
    let mut log = "a line of a log that does not match, and is passed over\n".repeat(1_000_000);
    log.push_str("the needle\n");
    broker.check(&["produce", "app"], log.as_bytes(), 0, "");
    broker.check(
        &["fetch", "app", "--grep", "needle"],
        b"",
        0,
        "the needle\n",
    );
    let mut follow = broker
        .command(&["fetch", "app", "--follow", "--grep", "needle|pin"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "the needle");
    broker.check(&["produce", "app"], b"hay\nhay\n", 0, "");
    broker.check(&["produce", "app"], b"a pin\nhay\n", 0, "");
    assert_eq!(lines.next().unwrap().unwrap(), "a pin");
    signal(&follow, Signal::INT);
    assert!(lines.next().is_none());
    assert_eq!(follow.wait().unwrap().code(), Some(130));
}

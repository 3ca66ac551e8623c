//! `logdrive consume --lease`, and what can be done to consumers.

use std::process::Stdio;

use serde_json::Value;

use crate::broker::{Broker, text};

#[test]
fn what_is_leased_is_acked_when_it_is_written() {
    let broker = Broker::start();
    broker.check(&["produce", "app"], b"0\n1\n2\n", 0, "");
    let lease = ["consume", "app", "--consumer", "c1", "--lease", "5m"];
    broker.check(&[&lease[..], &["-n", "2"]].concat(), b"", 0, "0\n1\n");
    let out = broker.run(&["size", "app", "--consumer", "c1", "-o", "raw"], b"");
    assert!(
        text(&out.stdout).starts_with("records=1\nbytes=1\n"),
        "{}",
        text(&out.stdout)
    );
    let out = broker.run(&[&lease[..], &["-o", "ndjson"]].concat(), b"");
    let record: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(record["deliveries"], 0);
    broker.check(&lease, b"", 0, "");
}

#[test]
fn what_could_not_be_written_comes_again() {
    let broker = Broker::start();
    broker.check(&["produce", "app"], b"0\n1\n2\n", 0, "");
    let lease = ["consume", "app", "--consumer", "c1", "--lease", "5m"];
    // A pipe whose reader is gone before anything is written.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = broker
        .command(&lease)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.wait().unwrap();
    let out = broker.run(&[&lease[..], &["-o", "ndjson"]].concat(), b"");
    let lines: Vec<Value> = text(&out.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let seen: Vec<_> = lines
        .iter()
        .map(|it| (&it["value"], &it["deliveries"]))
        .collect();
    let one = &Value::from(1);
    let values = ["0", "1", "2"].map(Value::from);
    assert_eq!(seen, values.each_ref().map(|value| (value, one)));
}

#[test]
fn a_consumer_is_created_once_listed_described_altered_and_deleted_with_yes_alone() {
    let broker = Broker::start();
    broker.check(&["produce", "app"], b"0\n1\n2\n", 0, "");
    let create = ["consumer", "create", "app", "c1", "--from", "-2"];
    broker.check(
        &[&create[..], &["--set", "max_leased=5"]].concat(),
        b"",
        0,
        "",
    );
    broker.check(&create, b"", 7, "");
    let wrong = [
        "consumer",
        "create",
        "app",
        "c2",
        "--set",
        "max_deliveries=3",
    ];
    broker.check(&wrong, b"", 2, "");
    broker.check(&["consumer", "list", "app", "-o", "raw"], b"", 0, "c1\n");
    let alter = [
        "consumer",
        "alter",
        "app",
        "c1",
        "backoff=1s,10s",
        "max_leased=",
    ];
    broker.check(
        &[&alter[..], &["-o", "raw"]].concat(),
        b"",
        0,
        "paused=no\nsettings name=backoff value=1s,10s\n",
    );
    broker.check(&["consumer", "pause", "app", "c1"], b"", 0, "");
    let out = broker.run(
        &["consume", "app", "--consumer", "c1", "--lease", "1m"],
        b"",
    );
    assert_eq!(out.status.code(), Some(0));
    let said = text(&out.stderr);
    assert!(said.contains("logdrive consumer describe app c1"), "{said}");
    let out = broker.run(&["consumer", "describe", "app", "c1", "-o", "json"], b"");
    let described: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (
            &described["cursor"],
            &described["records"],
            &described["paused"]
        ),
        (&1.into(), &2.into(), &true.into())
    );
    assert_eq!(described["held_by"], "the consumer is paused");
    broker.check(&["consumer", "resume", "app", "c1"], b"", 0, "");
    broker.check(&["consume", "app", "--consumer", "c1"], b"", 0, "1\n2\n");
    broker.check(&["consumer", "delete", "app", "c1"], b"", 2, "");
    broker.check(&["consumer", "delete", "app", "c1", "--yes"], b"", 0, "");
    broker.check(&["consumer", "describe", "app", "c1"], b"", 3, "");
}

#[test]
fn requeue_finds_the_dead_letters_of_a_consumer() {
    let broker = Broker::start();
    broker.check(&["produce", "app"], b"0\n", 0, "");
    broker.check(&["topic", "create", "dead"], b"", 0, "");
    broker.check(&["consumer", "create", "app", "c1"], b"", 0, "");
    let requeue = [
        "consumer", "requeue", "app", "c1", "--from", "dead", "-o", "raw",
    ];
    broker.check(&requeue, b"", 0, "records=0\n");
    broker.check(&[&requeue[..], &["--offset", "0"]].concat(), b"", 1, "");
    let unknown = ["consumer", "requeue", "app", "c1", "--from", "ded"];
    let out = broker.run(&unknown, b"");
    assert_eq!(out.status.code(), Some(3));
    assert!(text(&out.stderr).contains("did you mean \"dead\"?"));
}

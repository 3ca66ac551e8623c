//! `logdrive topic` and `ping`, exit codes and suggestions.

use serde_json::Value;

use crate::broker::{Broker, program, text};

#[test]
fn topics_are_created_once_listed_described_and_deleted_with_yes_alone() {
    let broker = Broker::start();
    broker.check(&["topic", "list", "-o", "json"], b"", 0, "[]\n");
    broker.check(&["topic", "create", "app"], b"", 0, "");
    broker.check(&["topic", "create", "app"], b"", 7, "");
    broker.check(&["topic", "create", ".bad"], b"", 2, "");
    broker.check(&["produce", "app"], b"one\ntwo\n", 0, "");
    broker.check(
        &["consume", "app", "--consumer", "c1", "-n", "1"],
        b"",
        0,
        "one\n",
    );
    broker.check(&["topic", "list", "-o", "raw"], b"", 0, "app\n");
    let out = broker.run(&["topic", "describe", "app", "-o", "json"], b"");
    let topic: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&topic["records"], &topic["bytes"]), (&2.into(), &6.into()));
    let consumer = &topic["consumers"][0];
    assert_eq!(
        (&consumer["name"], &consumer["records"]),
        (&"c1".into(), &1.into())
    );

    let out = broker.run(&["topic", "delete", "app"], b"");
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(2));
    assert!(
        said.contains("2 records (6 bytes), 1 consumers (c1)"),
        "{said}"
    );
    assert!(said.contains("logdrive topic delete app --yes"), "{said}");
    broker.check(&["fetch", "app"], b"", 0, "one\ntwo\n");
    broker.check(&["topic", "delete", "app", "--yes"], b"", 0, "");
    broker.check(&["fetch", "app"], b"", 3, "");
}

#[test]
fn settings_are_given_and_altered_and_a_purge_says_what_it_took() {
    let broker = Broker::start();
    let create = [
        "topic",
        "create",
        "app",
        "description=x",
        "retention_age=7d",
    ];
    broker.check(&create, b"", 0, "");
    broker.check(&["topic", "create", "b", "retention_age=soon"], b"", 2, "");
    broker.check(&["produce", "app"], b"one\ntwo\nthree\n", 0, "");
    let alter = |settings: &[&str]| {
        let words = [&["topic", "alter", "app", "-o", "json"], settings].concat();
        let out = broker.run(&words, b"");
        let said: Value = serde_json::from_slice(&out.stdout).unwrap();
        said["settings"].to_string()
    };
    assert_eq!(
        alter(&["retention_bytes=1000000", "description="]),
        r#"[{"name":"retention_age","value":"7d"},{"name":"retention_bytes","value":"1000000"}]"#
    );
    broker.check(&["topic", "alter", "app", "retention_age=x"], b"", 2, "");
    broker.check(&["topic", "alter", "app"], b"", 2, "");
    let purge = ["topic", "purge", "app", "--before", "latest"];
    broker.check(&purge, b"", 2, "");
    broker.check(&["fetch", "app"], b"", 0, "one\ntwo\nthree\n");
    let purge = "topic purge app --before -1 --yes -o ndjson";
    let purge: Vec<&str> = purge.split(' ').collect();
    let expected = "{\"name\":\"app\",\"records\":2,\"bytes\":6,\"start\":2}\n";
    broker.check(&purge, b"", 0, expected);
    broker.check(&["fetch", "app"], b"", 0, "three\n");
    let purge = ["topic", "purge", "apq", "--before", "latest", "--yes"];
    broker.check(&purge, b"", 3, "");
}

#[test]
fn a_name_that_does_not_exist_gets_the_one_that_was_meant() {
    let broker = Broker::start();
    broker.check(&["topic", "create", "app"], b"", 0, "");
    broker.check(&["consume", "app", "--consumer", "billing"], b"", 0, "");
    for (arguments, meant) in [
        (&["fetch", "apq"][..], "did you mean \"app\"?"),
        (&["topic", "describe", "App"], "did you mean \"app\"?"),
        (
            &["topic", "delete", "appp", "--yes"],
            "did you mean \"app\"?",
        ),
        (
            &["consume", "ap", "--consumer", "x"],
            "did you mean \"app\"?",
        ),
        (
            &["size", "app", "--consumer", "biling"],
            "did you mean \"billing\"?",
        ),
    ] {
        let out = broker.run(arguments, b"");
        assert_eq!(
            (out.status.code(), text(&out.stdout)),
            (Some(3), ""),
            "{arguments:?}"
        );
        assert!(
            text(&out.stderr).contains(meant),
            "{arguments:?} {}",
            text(&out.stderr)
        );
    }
}

#[test]
fn ping_says_state_version_latency_and_counters() {
    let broker = Broker::start();
    let out = broker.run(&["ping", "-o", "json"], b"");
    let ping: Value = serde_json::from_slice(&out.stdout).unwrap();
    let version = env!("CARGO_PKG_VERSION").into();
    assert_eq!((&ping["state"], &ping["version"]), (&"ok".into(), &version));
    assert!(ping["latency_us"].is_u64());
    assert!(
        ping["counters"]
            .as_object()
            .is_some_and(|counters| !counters.is_empty()),
        "{ping}"
    );
}

#[test]
fn a_broker_that_is_not_there_has_its_own_exit_code() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let out = program(&["ping", "--server", &nobody.to_string()])
        .output()
        .unwrap();
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(4), "{said}");
    assert!(
        said.contains(&nobody.to_string()) && said.contains("logdrive serve"),
        "{said}"
    );
}

#[test]
fn usage_errors_and_help_have_their_exit_codes() {
    for (arguments, exit) in [
        (&["fetch"][..], 2),
        (&["nonsense"], 2),
        (&["help"], 0),
        (&["--version"], 0),
        (&[], 2),
    ] {
        let out = program(arguments).output().unwrap();
        assert_eq!(out.status.code(), Some(exit), "{arguments:?}");
    }
    let help = program(&["help"]).output().unwrap().stdout;
    assert!(text(&help).contains("Exit codes:"));
}

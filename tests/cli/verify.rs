//! `logdrive verify`, as an operator sees it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::broker::{Broker, program, text};

/// The segments of a directory, the oldest first.
fn segments(data: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|it| it == "redb"))
        .collect();
    paths.sort();
    paths
}

/// All files with their bytes, but for the lock.
fn content(data: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(data).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths
        .filter(|path| path.file_name().is_some_and(|it| it != "LOCK"))
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Runs it; exit code, stdout and stderr.
fn verify(data: &str, format: &str) -> (Option<i32>, String, String) {
    let out = program(&["verify", data, "-o", format]).output().unwrap();
    let owned = |bytes: &[u8]| text(bytes).to_owned();
    (out.status.code(), owned(&out.stdout), owned(&out.stderr))
}

/// Flips a bit where these bytes stand in a file.
fn flip(file: &Path, bytes: &[u8]) {
    let mut content = std::fs::read(file).unwrap();
    let at = content.windows(bytes.len()).position(|it| it == bytes);
    content[at.expect("it is stored there")] ^= 4;
    std::fs::write(file, content).unwrap();
}

/// A broker with some records; they are not packed, so that they are found again.
fn stored() -> Broker {
    let broker = Broker::start();
    let lines: Vec<String> = (0..500)
        .map(|line| format!("this is line {line}\n"))
        .collect();
    let lines = lines.concat();
    let produce = ["produce", "app", "--compression", "none"];
    broker.check(&produce, lines.as_bytes(), 0, "");
    broker.check(
        &["produce", "other", "--compression", "none"],
        b"kept\n",
        0,
        "",
    );
    broker
}

#[test]
fn a_whole_store_is_whole_whether_it_was_stopped_or_killed_and_nothing_in_it_changes() {
    let mut broker = stored();
    let data = broker.data();
    let (exit, _, said) = verify(&data, "table");
    assert_eq!(exit, Some(1), "{said}");
    assert!(said.contains(&broker.id().to_string()), "{said}");
    broker.kill();
    let before = content(&data);
    let (exit, out, said) = verify(&data, "json");
    assert_eq!((exit, said.as_str()), (Some(0), ""), "{out}");
    let all: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(all["verdict"], "whole");
    assert_eq!((&all["records"], &all["logs"]), (&501.into(), &2.into()));
    assert_eq!(all["findings"], Value::Array(Vec::new()));
    assert_eq!(content(&data), before, "it has changed something");
    broker.restart();
    assert_eq!(broker.stop().code(), Some(0));
    let (exit, out, _) = verify(&data, "table");
    assert_eq!(exit, Some(0), "{out}");
    assert!(out.starts_with("verdict   whole\n"), "{out}");
    assert_eq!(verify(&data, "raw").1, "");
}

#[test]
fn a_flipped_bit_is_named_with_its_file_topic_and_offsets() {
    let mut broker = stored();
    let data = broker.data();
    broker.kill();
    // A start carries what it found into a second file: both have the records then.
    broker.restart();
    broker.kill();
    let files = segments(&data);
    let newest = files.last().unwrap();
    flip(newest, b"this is line 250\n".strip_suffix(b"\n").unwrap());
    let (exit, out, said) = verify(&data, "table");
    assert_eq!(exit, Some(9), "{out}{said}");
    let file = newest.file_name().unwrap().to_str().unwrap();
    assert!(out.contains(file), "{out}");
    let (exit, out, _) = verify(&data, "ndjson");
    assert_eq!(exit, Some(9));
    let first: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!(first["file"], file, "{out}");
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_ne!(last["verdict"], "whole", "{out}");
}

#[test]
fn what_a_start_goes_on_around_is_damage_all_the_same() {
    let mut broker = stored();
    let data = broker.data();
    assert_eq!(broker.stop().code(), Some(0));
    flip(
        &segments(&data)[0],
        b"this is line 250\n".strip_suffix(b"\n").unwrap(),
    );
    let (exit, out, said) = verify(&data, "ndjson");
    assert_eq!(exit, Some(9), "{out}{said}");
    let findings: Vec<Value> = out
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    let [finding, verdict] = &findings[..] else {
        panic!("{out}")
    };
    assert_eq!(finding["topic"], "app", "{out}");
    assert_eq!(finding["grade"], "damaged", "{out}");
    assert_eq!(verdict["verdict"], "damaged", "{out}");
}

#[test]
fn what_is_no_store_has_its_own_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let (exit, _, said) = verify(path, "table");
    assert_eq!(exit, Some(3), "{said}");
    assert!(said.contains("holds no store"), "{said}");
    assert_eq!(content(path), [], "it has made something");
    let (exit, _, said) = verify(&format!("{path}/missing"), "table");
    assert_eq!(exit, Some(3), "{said}");
}

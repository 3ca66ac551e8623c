//! `logdrive bench compare`, with whatever peers are installed here.

use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::broker::{program, signal, text};

/// Systems that the program knows, logdrive apart.
const PEERS: [&str; 2] = ["Redis Streams", "NATS JetStream"];

/// Runs a small comparison with programs from `path` and looks whether it left anything.
fn compare(path: &str, form: &[&str]) -> Output {
    let directory = TempDir::new().unwrap();
    let data = directory.path().to_str().unwrap();
    let output = program(&["bench", "--data", data, "compare", "--quick"])
        .args(form)
        .env("PATH", path)
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 0, "directories are left");
    output
}

fn names<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    let list = list.as_array().unwrap().iter();
    list.map(|it| it.get(key).unwrap_or(it).as_str().unwrap())
        .collect()
}

#[test]
fn a_comparison_has_every_figure_of_what_is_installed_and_names_what_is_not() {
    // Where distributions put servers, which is not on everybody's PATH.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    let output = compare(&path, &["-o", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let table = &report["comparison"];
    let systems = names(&table["systems"], "name");
    let missing = names(&table["missing"], "");
    assert_eq!(systems[0], "logdrive");
    for peer in PEERS {
        let compared = systems.contains(&peer);
        let named = missing.iter().any(|it| it.starts_with(peer));
        assert!(compared != named, "{peer}: {table}");
    }
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 18);
    for row in rows {
        let cells = row["cells"].as_array().unwrap();
        assert_eq!(cells.len(), systems.len(), "{row}");
        for (number, cell) in cells.iter().enumerate() {
            // A server may have had the memory for a few idle connections already.
            let least = if row["name"] == "an idle connection" {
                -1.0
            } else {
                0.0
            };
            assert!(cell["value"].as_f64().unwrap() > least, "{row}");
            let compared = number > 0 && row["better"] != "neither";
            assert!(compared || cell.get("ratio").is_none(), "{row}");
        }
    }
}

#[test]
fn a_comparison_without_peers_says_which_are_missing() {
    let output = compare("/nowhere", &["--markdown"]);
    let markdown = text(&output.stdout);
    let ours = format!("logdrive {}", env!("CARGO_PKG_VERSION"));
    assert!(
        markdown.starts_with(&format!("| | {ours}, fsync first |\n|---|---:|\n")),
        "{markdown}"
    );
    for missing in [
        "Redis Streams (redis-server)",
        "NATS JetStream (nats-server)",
    ] {
        let line = format!("not installed, and so not compared: {missing}");
        assert!(markdown.contains(&line), "{markdown}");
        assert!(text(&output.stderr).contains(&line));
    }
}

#[test]
fn an_interrupted_comparison_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().to_str().unwrap();
    let mut child = program(&["bench", "--data", data, "compare", "--quick"])
        .env("PATH", "/nowhere")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let begun = said.find(|line| line.as_ref().unwrap().starts_with("3 of "));
    assert!(begun.is_some(), "it ended by itself");
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

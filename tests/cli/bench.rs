//! `logdrive bench`: that everything is measured and told. How fast anything is decides no test.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::broker::{Broker, program, signal, text};

/// What the names of figures begin with, one at least for each measurement.
const MEASURED: [&str; 31] = [
    "disk, append 4 KiB",
    "disk, overwrite 8 MiB",
    "the disk's limit",
    "disk, cold read",
    "loopback, copy",
    "loopback, round trip",
    "produce 1 KiB, bytes",
    "produce 1 KiB, files written ahead",
    "produce 1 KiB, accepted",
    "produce 100 B",
    "one durable record of 100 B at a time, p50",
    "produce to fetch, 100 B at 10000/s, p99.9",
    "produce to consume, 100 B at 10000/s, max",
    "64 producers, one record of 100 B in flight each, one connection",
    "fetch 1 KiB, warm, batches",
    "fetch 100 B, cold, records",
    "consume 100 B, cold, records",
    "8 producers, 8 topics, 8 consumers, 1 KiB, 64 KiB batches: out",
    "256 producers, 256 topics",
    "an idle connection",
    "bytes on disk per byte, 100 B, batches of 1, one per flush",
    "an idle broker, memory",
    "lease 100 B, 8 workers, acks of 100, bare requests: an ack, p99",
    "lease 100 B, 8 workers, acks of 100, client: an ack, p50",
    "an idle broker, 10 topics with retention",
    "one durable record at a time, p99, while retention removes",
    "retention set to removed",
    "beside 30 slow connections: synced, p99",
    "beside 3 consumers that never read: consumed, p99",
    "beside 50 idle connections: memory",
    "beside 100 bad frames: memory a while later",
];
/// Figures of which something is asked.
const ASKED: usize = 28;

fn entries(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// Processes of which an argument names the directory.
fn processes_in(directory: &Path) -> usize {
    let directory = directory.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = std::fs::read_to_string(entry.ok()?.path().join("cmdline")).ok()?;
        Some(line.contains(directory))
    });
    processes.filter(|it| *it).count()
}

#[test]
fn everything_is_measured_and_told_as_lines_as_json_and_as_a_page() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let data = file("data");
    std::fs::create_dir(&data).unwrap();
    let (json, html) = (file("b.json"), file("b.html"));
    let arguments = [
        "bench", "all", "--quick", "--data", &data, "--json", &json, "--html", &html,
    ];
    let out = program(&arguments).output().unwrap();
    let (lines, said) = (text(&out.stdout), text(&out.stderr));
    assert_eq!(out.status.code(), Some(0), "{lines}{said}");
    assert_eq!(entries(Path::new(&data)), 0);

    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(report["version"], 1);
    assert_eq!(report["logdrive"], env!("CARGO_PKG_VERSION"));
    for key in ["cores", "processor", "kernel", "memory_bytes", "filesystem"] {
        assert!(!report["machine"][key].is_null(), "{key}: {report}");
    }
    let figures = report["figures"].as_array().unwrap();
    let name = |figure: &Value| figure["name"].as_str().unwrap().to_owned();
    let names: HashSet<String> = figures.iter().map(name).collect();
    assert_eq!(names.len(), figures.len(), "names are not unique: {lines}");
    for measured in MEASURED {
        assert!(
            names.iter().any(|name| name.starts_with(measured)),
            "nothing is called {measured}: {lines}"
        );
    }
    let page = std::fs::read_to_string(html).unwrap();
    for figure in figures {
        let name = name(figure);
        assert!(figure["value"].as_f64().unwrap() >= 0.0, "{figure}");
        assert!(lines.contains(&name), "{name} is not in {lines}");
        assert!(page.contains(&name.replace('\'', "&#39;")), "{name}");
    }
    let asked = figures.iter().filter(|it| !it["reach"].is_null()).count();
    assert_eq!(asked, ASKED);
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</body></html>\n"));
    assert!(page.matches("<svg").count() > 5 && !page.contains("NaN") && !page.contains("http"));
}

#[test]
fn an_interrupted_bench_leaves_neither_files_nor_a_broker() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let mut bench = program(&["bench", "all", "--quick", "-o", "ndjson", "--data", data])
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(bench.stdout.take().unwrap()).lines();
    let mut figures =
        lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()["name"].clone());
    // There was a broker then, and others are to come.
    assert!(figures.any(|name| name == "produce 100 B"));
    signal(&bench, Signal::INT);
    assert_eq!(bench.wait().unwrap().code(), Some(130));
    assert_eq!(entries(directory.path()), 0);
    assert_eq!(processes_in(directory.path()), 0);
}

#[test]
fn a_running_broker_is_measured_over_real_log_lines_and_left_as_it_was() {
    let broker = Broker::start();
    let log = broker.file("a.log", "a line\nanother line\n".repeat(500).as_bytes());
    let out = broker.run(
        &[
            "bench",
            "produce",
            "--address",
            &broker.address,
            "--records",
            "3000",
            "--producers",
            "3",
            "--topics",
            "2",
            "--mode",
            "one-by-one",
            "--rate",
            "20000",
            "--source",
            &log,
            "--data",
            &path_beside(&broker),
            "-o",
            "json",
        ],
        b"",
    );
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    let figure = &report["figures"][0];
    let expected = "produce log lines, 3 producers, 2 topics, one by one, 20000/s";
    assert_eq!(figure["name"], expected);
    assert_eq!(figure["parameters"]["records"], "3000");
    assert!(figure["costs"]["broker"].is_null(), "{figure}");
    broker.check(&["topic", "list"], b"", 0, "");
}

fn path_beside(broker: &Broker) -> String {
    let data = Path::new(&broker.data()).parent().unwrap().to_owned();
    data.to_str().unwrap().to_owned()
}

#[test]
fn what_cannot_be_measured_is_said_with_the_exit_code_of_its_kind() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let check = |line: &str, exit: i32, expected: &str| {
        let mut arguments = vec!["bench"];
        arguments.extend(line.split_whitespace());
        arguments.extend(["--data", data]);
        let out = program(&arguments).output().unwrap();
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(exit), "{line}: {said}");
        assert!(said.contains(expected), "{line}: {said}");
    };
    check("produce --size 1mb", 2, "bytes are such as");
    check("produce --records 0", 2, "--records");
    check("produce --records 5 --bytes 5MB", 2, "cannot be used with");
    check("latency --size 7", 2, "--size");
    check("mixd", 2, "mixed");
    check("restart --address 127.0.0.1:1", 2, "leave --address out");
    check("produce --ahead 1 --address 127.0.0.1:1", 2, "--address");
    check("produce --source /no/such.log", 3, "/no/such.log");
    check("many --address 127.0.0.1:1", 4, "127.0.0.1:1");
    assert_eq!(entries(directory.path()), 0);

    let out = program(&["bench", "disk", "--data", "/no/such/directory"]);
    let out = { out }.output().unwrap();
    assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
}

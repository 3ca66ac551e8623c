//! `logdrive demo`.

use serde_json::Value;

use crate::broker::{program, text};
use crate::produce::awkward_log;

#[test]
fn the_demo_survives_its_kills_and_says_so_with_the_keys_that_scripts_read() {
    let out = program(&["demo", "--records", "400", "-o", "json"])
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(0), "{told} {}", text(&out.stderr));
    let mut keys: Vec<&str> = told
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    let known = "consumed duplicated lost out_of_order produced restart_ms sizes_zero verdict";
    assert_eq!(keys.join(" "), known);
    // P1 to three topics, P2 to two, the others to one; C1 has all, C2 and C3 have T-1 and T-3.
    let (t1, t2, t3) = (3 * 400, 3 * 400, 2 * 400);
    assert_eq!(told["produced"], t1 + t2 + t3);
    assert_eq!(told["consumed"], 3 * t1 + t2 + 3 * t3);
    assert_eq!((&told["lost"], &told["duplicated"]), (&0.into(), &0.into()));
    assert_eq!(
        (&told["out_of_order"], &told["verdict"]),
        (&0.into(), &"ok".into())
    );
}

#[test]
fn the_demo_runs_over_the_callers_logs_and_keeps_its_directory_when_asked() {
    let logs = tempfile::tempdir().unwrap();
    let short = awkward_log()
        .into_iter()
        .filter(|&byte| byte != b'x')
        .collect::<Vec<u8>>();
    std::fs::write(logs.path().join("a.log"), short).unwrap();
    std::fs::write(logs.path().join("b.log"), "b\n".repeat(2000)).unwrap();
    let directory = logs.path().to_str().unwrap();
    let out = program(&["demo", "--logs", directory, "--keep"])
        .output()
        .unwrap();
    let (table, said) = (text(&out.stdout), text(&out.stderr));
    assert_eq!(out.status.code(), Some(0), "{table}{said}");
    assert!(table.contains("verdict         ok"), "{table}");
    let kept = said
        .split_once("kept in ")
        .unwrap()
        .1
        .split_once(':')
        .unwrap()
        .0;
    let log = std::fs::read_to_string(format!("{kept}/broker.log")).unwrap();
    // The first start and one after each of two kills.
    assert_eq!(log.matches("logdrive listening on ").count(), 3, "{log}");
    std::fs::remove_dir_all(kept).unwrap();
}

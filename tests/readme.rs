//! Does what README.md says: its console blocks are typed into a shell, in their order, and must
//! print what stands there.
//!
//! Owns the conventions of those blocks. `$ ` begins a command; the lines below are what it prints,
//! stdout and stderr together. `...` stands for what varies: a part of a line, or any number of
//! lines if it stands alone. The program is the one under test, on a free port and in a temporary
//! directory; `nc` is the shell's own socket, because programs of that name differ.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

const README: &str = include_str!("../README.md");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// How the README runs the program before it is installed.
const BY_CARGO: &str = "cargo run --release --";
const DEFAULT_ADDRESS: &str = "127.0.0.1:7440";

/// What is defined before each command.
const PRELUDE: &str = r#"exec 2>&1
nc() { exec 3<>"/dev/tcp/$1/$2" && cat >&3 && cat <&3; }
"#;

/// A command of the README and what it is said to print.
#[derive(Debug, PartialEq, Eq)]
struct Step<'a> {
    command: &'a str,
    prints: Vec<&'a str>,
}

fn steps(document: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut inside = false;
    for line in document.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let (true, Some(command)) = (inside, line.strip_prefix("$ ")) {
            let prints = Vec::new();
            steps.push(Step { command, prints });
        } else if inside {
            steps.last_mut().unwrap().prints.push(line);
        }
    }
    steps
}

/// Whether `text` is `pattern`, in which `...` stands for anything.
fn line_fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once("...") {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|tail| {
            (0..=tail.len())
                .filter(|&at| tail.is_char_boundary(at))
                .any(|at| line_fits(rest, &tail[at..]))
        }),
    }
}

/// Whether the lines are those expected, of which one that is `...` stands for any number.
fn lines_fit(expected: &[&str], lines: &[&str]) -> bool {
    match expected {
        [] => lines.is_empty(),
        ["...", rest @ ..] => (0..=lines.len()).any(|skipped| lines_fit(rest, &lines[skipped..])),
        [first, rest @ ..] => lines
            .split_first()
            .is_some_and(|(line, others)| line_fits(first, line) && lines_fit(rest, others)),
    }
}

/// The reader of the README: a directory, a shell, and the broker that was started in between.
struct Reader {
    directory: TempDir,
    broker: Option<(Child, SocketAddr)>,
}

impl Reader {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for (original, link) in [
            (
                Path::new(env!("CARGO_BIN_EXE_logdrive")),
                bin.join("logdrive"),
            ),
            (&Path::new(ROOT).join("data"), directory.path().join("data")),
        ] {
            std::os::unix::fs::symlink(original, link).unwrap();
        }
        Self {
            directory,
            broker: None,
        }
    }

    /// With the address of the broker in place of the one that the README has.
    fn adapted(&self, text: &str) -> String {
        let Some((_, address)) = self.broker else {
            return text.to_owned();
        };
        text.replace(DEFAULT_ADDRESS, &address.to_string()).replace(
            &DEFAULT_ADDRESS.replace(':', " "),
            &format!("{} {}", address.ip(), address.port()),
        )
    }

    /// Does one step; gives what it printed.
    fn type_in(&mut self, command: &str) -> String {
        let command = command.replace(BY_CARGO, "logdrive");
        if let Some(arguments) = command.strip_prefix("logdrive serve") {
            return self.serve(arguments);
        }
        let mut shell = Command::new("bash");
        shell
            .arg("-c")
            .arg(format!("{PRELUDE}{}", self.adapted(&command)));
        let output = self.at_home(&mut shell).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts the broker, which goes on running; gives what it says until it is ready. One that ran
    /// before is ended.
    fn serve(&mut self, arguments: &str) -> String {
        let mut serve = Command::new(env!("CARGO_BIN_EXE_logdrive"));
        serve.arg("serve").args(arguments.split_whitespace());
        serve.args(["--listen", "127.0.0.1:0"]);
        let mut child = self
            .at_home(&mut serve)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        while !said.contains("listening on ") {
            said = said + &lines.next().unwrap().unwrap() + "\n";
        }
        // Its pipe must not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        let address = said.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
        if let Some((mut before, _)) = self.broker.replace((child, address)) {
            before.kill().unwrap();
            before.wait().unwrap();
        }
        said
    }

    fn at_home<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let home = self.directory.path();
        let path = std::env::var("PATH").unwrap();
        command
            .current_dir(home)
            .env("PATH", format!("{}:{path}", home.join("bin").display()))
            .env_remove("LOGDRIVE_SERVER")
            .env_remove("LOGDRIVE_TOKEN")
            .stdin(Stdio::null());
        if let Some((_, address)) = self.broker {
            command.env("LOGDRIVE_SERVER", address.to_string());
        }
        command
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some((broker, _)) = &mut self.broker {
            // It may have ended by itself.
            let _ = broker.kill();
            let _ = broker.wait();
        }
    }
}

#[test]
fn every_command_of_the_readme_prints_what_stands_there() {
    let mut reader = Reader::new();
    // The tests run already.
    let steps = steps(README)
        .into_iter()
        .filter(|step| !step.command.starts_with("cargo test"));
    let mut done = 0;
    for Step { command, prints } in steps {
        let printed = reader.type_in(command);
        let prints: Vec<String> = prints.iter().map(|line| reader.adapted(line)).collect();
        let expected: Vec<&str> = prints.iter().map(String::as_str).collect();
        let lines: Vec<&str> = printed.lines().collect();
        assert!(
            lines_fit(&expected, &lines),
            "$ {command}\n{printed}\nbut the README says:\n{}",
            expected.join("\n")
        );
        done += 1;
    }
    assert!(
        reader.broker.is_some() && done > 5,
        "only {done} commands were found"
    );
}

#[test]
fn the_readmes_test_command_is_what_continuous_integration_runs() {
    let ci = std::fs::read_to_string(Path::new(ROOT).join(".ci/run")).unwrap();
    let steps = steps(README);
    let tests: Vec<&str> = steps
        .iter()
        .map(|step| step.command)
        .filter(|command| command.starts_with("cargo test"))
        .collect();
    assert_eq!(tests, ["cargo test --workspace"]);
    assert!(
        ci.lines().any(|line| line == format!("step {}", tests[0])),
        "{ci}"
    );
}

#[test]
fn every_link_of_the_readme_leads_somewhere() {
    let targets = README.match_indices("](").map(|(at, open)| {
        let target = &README[at + open.len()..];
        &target[..target.find(')').unwrap()]
    });
    let mut checked = 0;
    for target in targets {
        let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
        let file = if path.is_empty() { "README.md" } else { path };
        let file = Path::new(ROOT).join(file);
        assert!(file.exists(), "{target}");
        if !anchor.is_empty() {
            let document = std::fs::read_to_string(&file).unwrap();
            assert!(
                document
                    .lines()
                    .any(|line| anchor_of(line) == Some(anchor.into())),
                "{target}"
            );
        }
        checked += 1;
    }
    assert!(checked > 5, "only {checked} links were found");
}

/// What a heading is linked by.
fn anchor_of(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').trim();
    let kept = heading
        .chars()
        .filter(|it| it.is_alphanumeric() || " -_".contains(*it));
    Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
}

#[test]
fn commands_are_found_with_what_they_print() {
    let document = "text\n```console\n$ a b\none\n\ntwo\n$ c\n```\n```sh\n$ no\n```\n";
    let found = steps(document);
    let words: Vec<String> = found
        .iter()
        .map(|step| format!("{}: {}", step.command, step.prints.join("|")))
        .collect();
    assert_eq!(words, ["a b: one||two", "c: "]);
}

#[test]
fn three_dots_stand_for_a_part_of_a_line_or_for_lines() {
    let check = |expected: &str, printed: &str, fits: bool| {
        let expected: Vec<&str> = expected.split('|').filter(|it| !it.is_empty()).collect();
        let lines: Vec<&str> = printed.split('|').filter(|it| !it.is_empty()).collect();
        assert_eq!(
            lines_fit(&expected, &lines),
            fits,
            "{expected:?} {printed:?}"
        );
    };
    check("a 1 b", "a 1 b", true);
    check("a ... b", "a 1 b", true);
    check("a ... b ...", "a 1 b 2", true);
    check("a ... b", "a 1 c", false);
    check("a ... b", "a 1 b 2", false);
    check("a|...|z", "a|z", true);
    check("a|...|z", "a|b|c|z", true);
    check("a|...|z", "a|b|c", false);
    check("a", "a|b", false);
    check("a|b", "a", false);
    check("", "a", false);
    check("...", "", true);
}

//! Plays the transcripts of PROTOCOL.md against a broker: its text mode answers what the document
//! says. It owns the conventions of those blocks, and expects a broker in which nothing was done.
//!
//! `C:` sends a line, `S:` expects one. `<word>` stands for any run of characters without a space,
//! `<text>` for any text; `S: ...` for any lines, `S: [closed]` for the end of the connection. Lines
//! behind `S: = n` are the n lines of that list.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use bytes::BytesMut;
use logdrive_protocol::frame::FrameDecoder;
use logdrive_protocol::limits::MAX_FRAME_BYTES;
use logdrive_protocol::operations::Request;
use tokio_util::codec::Decoder;

/// An answer that takes longer will not come: a transcript asks for nothing that waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// A block of the document: where it begins, and its lines.
struct Transcript<'a> {
    at: usize,
    lines: Vec<&'a str>,
}

fn transcripts(document: &str) -> Vec<Transcript<'_>> {
    let mut found = Vec::new();
    let mut lines = document.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        if line == "```text-mode" {
            let inside = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| *line != "```");
            found.push(Transcript {
                at: index + 1,
                lines: inside.collect(),
            });
        }
    }
    found
}

/// Whether `line` is what `pattern` says, placeholders included.
fn matches(pattern: &str, line: &str) -> bool {
    let Some((literal, name, rest)) = placeholder(pattern) else {
        return pattern == line;
    };
    let Some(line) = line.strip_prefix(literal) else {
        return false;
    };
    let longest = if name == "text" {
        line.len()
    } else {
        line.find(' ').unwrap_or(line.len())
    };
    (1..=longest)
        .filter(|end| line.is_char_boundary(*end))
        .any(|end| matches(rest, &line[end..]))
}

/// The text before a pattern's first placeholder, its name, and the pattern behind it.
fn placeholder(pattern: &str) -> Option<(&str, &str, &str)> {
    let (literal, after) = pattern.split_once('<')?;
    let (name, rest) = after.split_once('>')?;
    Some((literal, name, rest))
}

/// Whether `lines` are what `patterns` say, where `...` stands for any number of lines.
fn list_matches(patterns: &[&str], lines: &[String]) -> bool {
    match patterns {
        [] => lines.is_empty(),
        ["...", rest @ ..] => (0..=lines.len()).any(|skip| list_matches(rest, &lines[skip..])),
        [pattern, rest @ ..] => lines
            .split_first()
            .is_some_and(|(line, others)| matches(pattern, line) && list_matches(rest, others)),
    }
}

/// One connection in text mode.
struct Conversation {
    reader: BufReader<TcpStream>,
    line_end: &'static str,
}

impl Conversation {
    fn open(address: SocketAddr, line_end: &'static str) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            reader: BufReader::new(socket),
            line_end,
        }
    }

    fn say(&mut self, line: &str) {
        let line = format!("{line}{}", self.line_end);
        self.reader.get_mut().write_all(line.as_bytes()).unwrap();
    }

    /// The next line without its end; none once the broker has closed the connection.
    fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).unwrap();
        (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Compares the answer to one command with its `S:` lines; whether the connection goes on.
    fn expect(&mut self, mut patterns: &[&str], at: &str) -> bool {
        while let [pattern, rest @ ..] = patterns {
            if *pattern == "[closed]" {
                assert_eq!(self.hear(), None, "{at}: the connection goes on");
                return false;
            }
            if *pattern == "..." {
                while self.hear().is_some() {}
                assert_eq!(
                    rest,
                    ["[closed]"],
                    "{at}: only a list or an end has an open number of lines"
                );
                return false;
            }
            let line = self
                .hear()
                .unwrap_or_else(|| panic!("{at}: closed instead of {pattern}"));
            assert!(
                matches(pattern, &line),
                "{at}: expected {pattern}\n got {line}"
            );
            if let Some(hex) = line.strip_prefix("# ") {
                check_frame(hex);
            }
            patterns = rest;
            if let Some(count) = line.strip_prefix("= ") {
                let count: usize = count.parse().unwrap();
                let list: Vec<String> = (0..count).map_while(|_| self.hear()).collect();
                assert!(
                    list_matches(rest, &list),
                    "{at}: expected {rest:#?}\n got {list:#?}"
                );
                patterns = &[];
            }
        }
        true
    }
}

/// What `FRAMES ON` shows is one whole request with correlation id 1.
fn check_frame(hex: &str) {
    let mut bytes: BytesMut = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let frame = FrameDecoder::new(MAX_FRAME_BYTES)
        .decode(&mut bytes)
        .unwrap()
        .unwrap();
    assert!(bytes.is_empty(), "more than one frame: {hex}");
    assert_eq!(frame.correlation, 1, "{hex}");
    Request::from_frame(frame).unwrap();
}

/// Plays one transcript on a connection of its own.
fn play(transcript: &Transcript<'_>, address: SocketAddr, line_end: &'static str) {
    let mut conversation = Conversation::open(address, line_end);
    let mut goes_on = true;
    let mut lines = transcript.lines.as_slice();
    while let [line, rest @ ..] = lines {
        let at = format!("transcript in line {}, {line}", transcript.at);
        let command = line
            .strip_prefix("C:")
            .unwrap_or_else(|| panic!("{at}: not a command"));
        let answers = rest
            .iter()
            .take_while(|line| line.starts_with("S: "))
            .count();
        let patterns: Vec<&str> = rest[..answers].iter().map(|line| &line[3..]).collect();
        assert!(goes_on, "{at}: the connection has ended");
        conversation.say(command.strip_prefix(' ').unwrap_or(command));
        goes_on = conversation.expect(&patterns, &at);
        lines = &rest[answers..];
    }
    if goes_on {
        // Whatever an answer had too many would stand before this one's.
        conversation.say("PING");
        conversation.expect(
            &["+ pong <text>"],
            &format!("the end of line {}", transcript.at),
        );
    }
}

/// Plays all transcripts of the document, in order, against the fresh broker at `address`.
fn play_document(address: SocketAddr, line_end: &'static str) {
    let found = transcripts(include_str!("../PROTOCOL.md"));
    assert!(found.len() > 10, "the document's transcripts are found");
    for transcript in &found {
        play(transcript, address, line_end);
    }
}

/// A broker of this test's own, in a directory of its own; it is gone when this is dropped.
struct Broker {
    child: Child,
    address: SocketAddr,
    /// Kept open, so that the broker can go on talking.
    _talk: BufReader<ChildStderr>,
    _data: tempfile::TempDir,
}

impl Broker {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_logdrive"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut talk = BufReader::new(child.stderr.take().unwrap());
        let mut heard = String::new();
        let address = loop {
            let before = heard.len();
            assert!(
                talk.read_line(&mut heard).unwrap() > 0,
                "the broker did not start: {heard}"
            );
            if let Some(address) = heard[before..]
                .trim()
                .strip_prefix("logdrive listening on ")
            {
                break address.parse().unwrap();
            }
        };
        Self {
            child,
            address,
            _talk: talk,
            _data: data,
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_fresh_broker_answers_every_transcript_as_the_document_says() {
    play_document(Broker::start().address, "\n");
}

#[test]
fn lines_may_end_as_telnet_ends_them() {
    play_document(Broker::start().address, "\r\n");
}

#[test]
fn placeholders_stand_for_a_word_or_for_any_text() {
    let check = |pattern, line, expected| assert_eq!(matches(pattern, line), expected, "{line}");
    check("+ offset=7 synced", "+ offset=7 synced", true);
    check("+ offset=7 synced", "+ offset=8 synced", false);
    check(
        "* app 0 <time> 0 5 hello",
        "* app 0 2026-01-01T12:00:00Z 0 5 hello",
        true,
    );
    check(
        "* app 0 <time> 0 5 hello",
        "* app 0 two words 0 5 hello",
        false,
    );
    check("* app 0 <time> 0 5 hello", "* app 0  0 5 hello", false);
    check(
        "- SYNTAX <text>",
        "- SYNTAX a consumer is missing; try: HELP SIZE",
        true,
    );
    check("- SYNTAX <text>", "- SYNTAX", false);
    check(
        "+ records=0 age=<age> gaps=0",
        "+ records=0 age=3s gaps=1",
        false,
    );
}

#[test]
fn dots_stand_for_any_number_of_lines_of_a_list() {
    let lines = ["a 1", "b 2", "c 3"].map(str::to_owned);
    let check = |patterns: &[&str], expected| {
        assert_eq!(list_matches(patterns, &lines), expected, "{patterns:?}");
    };
    check(&["a 1", "b <n>", "c 3"], true);
    check(&["a 1", "..."], true);
    check(&["...", "b 2", "..."], true);
    check(&["...", "c 3"], true);
    check(&["a 1", "c 3"], false);
    check(&["...", "b 2"], false);
    check(&["a 1"], false);
}

#[test]
fn every_transcript_of_the_document_begins_with_a_command() {
    for transcript in transcripts(include_str!("../PROTOCOL.md")) {
        let first = transcript.lines[0];
        assert!(first.starts_with("C:"), "line {}: {first}", transcript.at);
        for line in transcript.lines {
            assert!(line.starts_with("C:") || line.starts_with("S: "), "{line}");
        }
    }
}

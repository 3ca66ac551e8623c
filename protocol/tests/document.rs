//! Holds PROTOCOL.md to the code: every hex example is read by the document's own tables, decoded
//! by the crate, compared, and encoded again; the tables of numbers are those of the code.
//!
//! It owns the conventions of the document's blocks: one field on a line, `; path = value` behind
//! it. A line without that goes on in the next one; a remark without ` = ` stands for all fields in
//! its bytes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use bytes::BytesMut;
use logdrive_protocol::batch::{
    ATTRIBUTE_CODEC, ATTRIBUTE_REBUILT, CRITICAL_ATTRIBUTES, RESERVED_ATTRIBUTES, check_delivered,
    check_produced,
};
use logdrive_protocol::frame::{CRITICAL_FLAGS, FLAG_ERROR, FrameDecoder};
use logdrive_protocol::operations::{NOTICES, OPERATIONS};
use logdrive_protocol::preface::{BrokerPreface, ClientPreface};
use logdrive_protocol::{ErrorCode, Outcome, TopicId, limits};
use serde_json::Value;
use support::markdown::{Block, Document};
use support::walker::{Field, Walker};
use support::{answer_name, codec, hex, small, unhex};
use tokio_util::codec::Decoder;

fn document() -> Document {
    Document::parse(include_str!("../../PROTOCOL.md"))
}

/// A line of a hex block, or several of which only the last has a remark.
struct Line {
    bytes: Vec<u8>,
    remark: String,
}

fn lines(block: &Block) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut open = Vec::new();
    for line in &block.lines {
        let (digits, remark) = line.split_once(';').unwrap_or((line, ""));
        open.extend(unhex(digits));
        if !remark.is_empty() {
            lines.push(Line {
                bytes: std::mem::take(&mut open),
                remark: remark.trim().to_owned(),
            });
        }
    }
    assert!(
        open.is_empty(),
        "line {}: bytes without a remark at the end",
        block.at
    );
    lines
}

/// What is written behind the bytes is what the document's tables make of them.
fn check_remarks(block: &Block, fields: &[Field]) {
    let mut fields = fields.iter();
    for line in lines(block) {
        let at = format!("block in line {}: {}", block.at, line.remark);
        if let Some((path, shown)) = line.remark.split_once(" = ") {
            let expected = Field {
                bytes: line.bytes,
                path: path.to_owned(),
                shown: shown.to_owned(),
            };
            assert_eq!(fields.next(), Some(&expected), "{at}");
        } else {
            let mut covered = Vec::new();
            while covered.len() < line.bytes.len() {
                covered.extend(&fields.next().unwrap().bytes);
            }
            assert_eq!(hex(&covered), hex(&line.bytes), "{at}");
        }
    }
    assert_eq!(
        fields.next(),
        None,
        "block in line {}: a field is not shown",
        block.at
    );
}

/// Runs one block; the names of the tables that it was read by.
fn check(document: &Document, block: &Block) -> Vec<String> {
    let words: Vec<&str> = block.info.split(' ').collect();
    let bytes: Vec<u8> = lines(block)
        .into_iter()
        .flat_map(|line| line.bytes)
        .collect();
    let mut walker = Walker::new(document, &bytes);
    match words[..] {
        [
            "hex",
            kind @ ("request" | "answer" | "error" | "notice"),
            name,
        ] => {
            check_frame(kind, name, &bytes, &mut walker);
        }
        ["hex", "client-preface"] => {
            walker.fixed("client preface", "");
            let preface = ClientPreface::decode(&mut bytes.as_slice().into())
                .unwrap()
                .unwrap();
            let mut again = BytesMut::new();
            preface.encode(&mut again);
            assert_eq!(hex(&again), hex(&bytes));
        }
        ["hex", "broker-preface"] => {
            walker.fixed("broker preface", "");
            let preface = BrokerPreface::decode(&mut bytes.as_slice().into())
                .unwrap()
                .unwrap();
            let mut again = BytesMut::new();
            preface.encode(&mut again);
            assert_eq!(hex(&again), hex(&bytes));
        }
        ["hex", "batch"] => {
            walker.batch("");
            check_produced(&bytes, limits::MAX_BATCH_BYTES, limits::MAX_RECORD_BYTES).unwrap();
        }
        ["hex", "stored-batch"] => {
            walker.batch("");
            check_delivered(&bytes, TopicId(1)).unwrap();
        }
        _ => panic!(
            "line {}: nobody knows a block of `{}`",
            block.at, block.info
        ),
    }
    assert!(
        walker.rest().is_empty(),
        "line {}: bytes behind the last field",
        block.at
    );
    check_remarks(block, &walker.fields);
    walker.used
}

fn check_frame(kind: &str, name: &str, bytes: &[u8], walker: &mut Walker<'_>) {
    let table = if kind == "notice" {
        NOTICES
    } else {
        OPERATIONS
    };
    let (opcode, _) = table.iter().find(|(_, known)| *known == name).unwrap();
    let body = match kind {
        "answer" => answer_name(name),
        "error" => "Error",
        _ => name,
    };
    let fields = walker.frame(body);
    let frame = FrameDecoder::new(limits::MAX_FRAME_BYTES).decode(&mut bytes.into());
    let frame = frame.unwrap().unwrap();
    assert_eq!(frame.opcode, *opcode, "opcode of {name}");
    assert_eq!(frame.flags, if kind == "error" { FLAG_ERROR } else { 0 });
    assert_eq!(frame.correlation == 0, kind == "notice");
    // The tables and the crate read the same values, and the crate writes the same bytes.
    assert_eq!((codec(body).decode)(frame.body), Ok(fields.clone()));
    let again = (codec(body).encode)(frame.opcode, frame.flags, frame.correlation, &fields);
    assert_eq!(hex(&again), hex(bytes), "{kind} {name}");
}

#[test]
fn every_hex_example_is_read_by_the_tables_and_by_the_code_alike() {
    let document = document();
    let mut used = Vec::new();
    let mut directions = Vec::new();
    for block in &document.blocks {
        if block.info.starts_with("hex ") && block.info != "hex fields" {
            used.extend(check(&document, block));
            directions.push(block.info.as_str());
        }
    }
    for (_, name) in OPERATIONS {
        for direction in ["request", "answer"] {
            let wanted = format!("hex {direction} {name}");
            assert!(
                directions.contains(&wanted.as_str()),
                "no block of `{wanted}`"
            );
        }
    }
    for (_, name) in NOTICES {
        assert!(
            directions.contains(&format!("hex notice {name}").as_str()),
            "{name}"
        );
    }
    // A table of fields that no example is read by would be a claim that nothing checks.
    for table in &document.tables {
        if table
            .header
            .get(1)
            .is_some_and(|cell| cell == "type" || cell == "at")
        {
            assert!(
                used.contains(&table.header[0]),
                "no example of {}",
                table.header[0]
            );
        }
    }
}

#[test]
fn every_example_of_a_single_field_has_the_value_behind_it() {
    let document = document();
    let block = document
        .blocks
        .iter()
        .find(|block| block.info == "hex fields")
        .unwrap();
    for line in lines(block) {
        let (kind, expected) = line.remark.split_once(" = ").unwrap();
        let mut walker = Walker::new(&document, &line.bytes);
        let value = walker.value(kind, "field");
        assert!(walker.rest().is_empty(), "{}", line.remark);
        let shown = match (kind, &value) {
            ("Position", _) => {
                let number = value["value"].as_str().unwrap();
                format!("kind {} value {number}", small::<u8>(&value["kind"]))
            }
            (_, Value::Null) => "none".to_owned(),
            (_, Value::Array(_)) => value.to_string(),
            _ => walker.fields.last().unwrap().shown.clone(),
        };
        assert_eq!(shown, expected, "{}", line.remark);
    }
}

/// The rows of a table, of which the named columns are kept, as lines of text.
fn rows(document: &Document, table: &str, columns: &[&str]) -> Vec<String> {
    let table = document
        .table(table)
        .unwrap_or_else(|| panic!("no table of {table}"));
    let columns: Vec<Vec<&str>> = columns.iter().map(|name| table.column(name)).collect();
    (0..table.rows.len())
        .map(|row| {
            columns
                .iter()
                .map(|column| column[row])
                .collect::<Vec<_>>()
                .join(" | ")
        })
        .collect()
}

#[test]
fn the_tables_of_opcodes_are_those_of_the_code() {
    let document = document();
    let line = |(opcode, name): &(u8, &str)| format!("{opcode:#04x} | {name}");
    let operations: Vec<String> = OPERATIONS
        .iter()
        .map(|operation| format!("{} | {}", line(operation), answer_name(operation.1)))
        .collect();
    assert_eq!(
        rows(&document, "opcode", &["opcode", "request", "answer"]),
        operations
    );
    let notices: Vec<String> = NOTICES.iter().map(line).collect();
    assert_eq!(
        rows(&document, "notice opcode", &["notice opcode", "name"]),
        notices
    );
    for (opcode, name) in OPERATIONS {
        let heading = format!("{opcode:#04x} {name}");
        assert!(
            document.headings.contains(&heading),
            "no section `{heading}`"
        );
    }
}

#[test]
fn the_registry_of_errors_is_that_of_the_code() {
    let columns = ["number", "name", "retryable", "outcome", "meaning"];
    let expected: Vec<String> = ErrorCode::ALL
        .iter()
        .map(|code| {
            let retryable = if code.is_retryable() { "yes" } else { "no" };
            let outcome = match code.outcome() {
                Outcome::NotDone => "not done",
                Outcome::Unknown => "unknown",
            };
            let (number, name, meaning) = (code.number(), code.name(), code.meaning());
            format!("{number} | {name} | {retryable} | {outcome} | {meaning}")
        })
        .collect();
    assert_eq!(rows(&document(), "number", &columns), expected);
}

#[test]
fn every_error_that_an_operation_names_is_in_the_registry() {
    let document = document();
    let mut sections = 0;
    let mut inside = false;
    for line in &document.prose {
        let begins = line.starts_with("Errors: ");
        sections += usize::from(begins);
        inside = begins || (inside && !line.is_empty());
        let words = line.split('`').skip(1).step_by(2);
        for word in
            words.filter(|word| inside && word.chars().all(|c| c.is_uppercase() || c == '_'))
        {
            assert!(
                ErrorCode::ALL.iter().any(|code| code.name() == word),
                "{word} in {line}"
            );
        }
    }
    assert_eq!(
        sections,
        OPERATIONS.len(),
        "each operation lists its errors"
    );
}

#[test]
fn the_tables_of_flags_and_attributes_are_those_of_the_code() {
    let document = document();
    let class = |critical: bool| if critical { "critical" } else { "ignorable" };
    let flags: Vec<String> = (0..8)
        .rev()
        .map(|bit| {
            let flag = 1_u8 << bit;
            let known = if flag == FLAG_ERROR { "answers" } else { "" };
            format!(
                "{flag:#04x} | {known} | {}",
                class(flag & CRITICAL_FLAGS != 0)
            )
        })
        .collect();
    assert_eq!(rows(&document, "flag", &["flag", "in", "class"]), flags);

    let mut known = vec![(ATTRIBUTE_CODEC, "codec"), (ATTRIBUTE_REBUILT, "rebuilt")];
    known.extend(RESERVED_ATTRIBUTES);
    known.sort_unstable();
    let used = known
        .iter()
        .fold(0, |bits, (attribute, _)| bits | attribute);
    let mut expected: Vec<String> = known
        .iter()
        .map(|(attribute, name)| format!("{attribute:#06x} | critical | {name}"))
        .collect();
    for rest in [CRITICAL_ATTRIBUTES & !used, !CRITICAL_ATTRIBUTES] {
        let critical = class(rest & CRITICAL_ATTRIBUTES != 0);
        expected.push(format!("{rest:#06x} | {critical} | not assigned"));
    }
    let stated = rows(&document, "attribute", &["attribute", "class", "meaning"]);
    assert_eq!(stated.len(), expected.len());
    for (stated, expected) in stated.iter().zip(&expected) {
        let (begin, word) = expected.rsplit_once(" | ").unwrap();
        assert!(
            stated.starts_with(begin) && stated.contains(word),
            "{stated}: {expected}"
        );
    }
}

#[test]
fn the_limits_are_those_of_the_code() {
    let expected: [(&str, u64); 31] = [
        ("frame_bytes", limits::MAX_FRAME_BYTES.into()),
        ("window_bytes", limits::WINDOW_BYTES.into()),
        ("batch_bytes", limits::MAX_BATCH_BYTES.into()),
        ("unpacked_bytes", limits::MAX_UNPACKED_BYTES.into()),
        (
            "unpacked_answer_bytes",
            limits::MAX_UNPACKED_ANSWER_BYTES.into(),
        ),
        ("record_bytes", limits::MAX_RECORD_BYTES.into()),
        ("batches_in_flight", limits::MAX_BATCHES_IN_FLIGHT.into()),
        ("wait_ms", limits::MAX_WAIT_MS.into()),
        ("idle_ms", limits::IDLE_MS.into()),
        ("parts", limits::MAX_PARTS as u64),
        ("lease_ms", limits::MAX_LEASE_MS.into()),
        ("settled", limits::MAX_SETTLED as u64),
        ("name_bytes", limits::MAX_NAME_BYTES as u64),
        ("settings", limits::MAX_SETTINGS as u64),
        ("setting_bytes", limits::MAX_SETTING_BYTES as u64),
        ("glob_bytes", limits::MAX_GLOB_BYTES as u64),
        ("list", limits::MAX_LIST.into()),
        ("default_list", limits::DEFAULT_LIST.into()),
        ("default_fetch_bytes", limits::DEFAULT_FETCH_BYTES.into()),
        ("answer_head_bytes", limits::ANSWER_HEAD_BYTES.into()),
        ("fetch_bytes", limits::MAX_FETCH_BYTES.into()),
        ("login_frame_bytes", limits::MAX_LOGIN_FRAME_BYTES.into()),
        ("scram_bytes", limits::MAX_SCRAM_BYTES as u64),
        ("scram_iterations", limits::SCRAM_ITERATIONS.into()),
        ("min_scram_iterations", limits::MIN_SCRAM_ITERATIONS.into()),
        ("max_scram_iterations", limits::MAX_SCRAM_ITERATIONS.into()),
        ("salt_bytes", limits::SALT_BYTES as u64),
        ("password_bytes", limits::MAX_PASSWORD_BYTES as u64),
        ("grants", limits::MAX_GRANTS as u64),
        ("tokens", limits::MAX_TOKENS as u64),
        ("list_principals", limits::MAX_PRINCIPALS_LISTED.into()),
    ];
    let in_code = include_str!("../src/limits.rs")
        .matches("pub const ")
        .count();
    assert_eq!(
        in_code,
        expected.len(),
        "a limit of the code is missing here"
    );
    let expected = expected.map(|(name, value)| format!("{name} | {value}"));
    assert_eq!(rows(&document(), "limit", &["limit", "default"]), expected);
}

#[test]
fn every_link_within_the_document_leads_to_a_heading() {
    let document = document();
    let anchors: Vec<String> = document
        .headings
        .iter()
        .map(|heading| {
            let kept = heading
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect();
    for line in &document.prose {
        for link in line.split("](#").skip(1) {
            let target = link.split(')').next().unwrap();
            assert!(
                anchors.iter().any(|anchor| anchor == target),
                "#{target} in {line}"
            );
        }
    }
}

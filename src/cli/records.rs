//! Records on stdout, in four forms, fast enough for millions.
//!
//! Owns the form of a record and the buffer in front of the file; never asks for records. Its
//! neighbours [`fetch`](super::fetch) and [`consume`](super::consume) hand over what the client
//! delivered, borrowed from the answer: nothing is allocated for a record in the raw form.
//!
//! | form | a record |
//! |---|---|
//! | `raw` | the value's bytes and an LF |
//! | `table` | time, severity, key, value on a line; control characters escaped |
//! | `json` | an object in an array that closes at the end |
//! | `ndjson` | an object on a line |

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use logdrive_protocol::Severity;
use logdrive_protocol::operations::{DeliveredRecord, Gap};
use logdrive_protocol::position::format_time;

use super::exit::{Exit, Fault};
use super::output::Format;

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// Writes records to a file, in the order in which they are pushed.
pub(crate) struct RecordWriter<W> {
    out: W,
    format: Format,
    buffer: Vec<u8>,
    count: u64,
}

/// Stdout without the standard library's line buffer, which would scan every byte again.
pub(crate) fn stdout() -> Result<File, Fault> {
    let handle = io::stdout().as_fd().try_clone_to_owned();
    handle
        .map(File::from)
        .map_err(|error| Fault::new(Exit::Failed, format_args!("cannot open stdout: {error}")))
}

impl<W: Write> RecordWriter<W> {
    /// Nothing written yet.
    pub(crate) fn new(out: W, format: Format) -> Self {
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        match format {
            Format::Table => buffer.extend_from_slice(
                format!("{:27}  {:8}  {:12}  VALUE\n", "TIME", "SEVERITY", "KEY").as_bytes(),
            ),
            Format::Json => buffer.push(b'['),
            Format::Raw | Format::Ndjson => {}
        }
        Self {
            out,
            format,
            buffer,
            count: 0,
        }
    }

    /// Records pushed so far.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Appends a record; writes when the buffer is full.
    pub(crate) fn push(&mut self, topic: &str, record: &DeliveredRecord<'_>) -> io::Result<()> {
        match self.format {
            Format::Raw => {
                self.buffer.extend_from_slice(record.record.value);
                self.buffer.push(b'\n');
            }
            Format::Table => self.push_line(record)?,
            Format::Json => {
                let lead: &[u8] = if self.count == 0 { b"\n" } else { b",\n" };
                self.buffer.extend_from_slice(lead);
                push_object(&mut self.buffer, topic, record)?;
            }
            Format::Ndjson => {
                push_object(&mut self.buffer, topic, record)?;
                self.buffer.push(b'\n');
            }
        }
        self.count += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what is buffered.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        self.out.flush()
    }

    /// Writes the rest and what ends the form.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if self.format == Format::Json {
            let end: &[u8] = if self.count == 0 { b"]\n" } else { b"\n]\n" };
            self.buffer.extend_from_slice(end);
        }
        self.flush()
    }

    fn push_line(&mut self, delivered: &DeliveredRecord<'_>) -> io::Result<()> {
        let record = &delivered.record;
        write!(
            self.buffer,
            "{:27}  {:8}  {:12}  ",
            format_time(delivered.timestamp),
            Severity(record.severity).name(),
            record.key.map_or_else(|| "-".to_owned(), printable),
        )?;
        self.buffer
            .extend_from_slice(printable(record.value).as_bytes());
        self.buffer.push(b'\n');
        Ok(())
    }
}

/// Text for a terminal: what could steer it is escaped, what is not UTF-8 is replaced.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if !text.chars().any(|c| c.is_control() && c != '\t') {
        return text.into_owned();
    }
    text.chars().fold(String::new(), |mut shown, c| {
        if c.is_control() && c != '\t' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
        shown
    })
}

fn push_object(out: &mut Vec<u8>, topic: &str, delivered: &DeliveredRecord<'_>) -> io::Result<()> {
    let record = &delivered.record;
    out.extend_from_slice(b"{\"topic\":");
    serde_json::to_writer(&mut *out, topic)?;
    write!(
        out,
        ",\"offset\":{},\"time\":\"{}\",\"timestamp\":\"{}\",\"severity\":{}",
        delivered.offset,
        format_time(delivered.append_time),
        format_time(delivered.timestamp),
        record.severity,
    )?;
    if delivered.lease != 0 {
        write!(out, ",\"deliveries\":{}", delivered.deliveries)?;
    }
    match record.key {
        Some(key) => push_bytes(out, ",\"key", key)?,
        None => out.extend_from_slice(b",\"key\":null"),
    }
    out.extend_from_slice(b",\"headers\":[");
    for (index, (name, value)) in record.headers.clone().enumerate() {
        out.extend_from_slice(if index == 0 {
            b"{\"name\":"
        } else {
            b",{\"name\":"
        });
        serde_json::to_writer(&mut *out, &String::from_utf8_lossy(name))?;
        push_bytes(out, ",\"value", value)?;
        out.push(b'}');
    }
    out.push(b']');
    push_bytes(out, ",\"value", record.value)?;
    out.push(b'}');
    Ok(())
}

/// A name and bytes: as text, or in hexadecimal under the name with `_hex`.
fn push_bytes(out: &mut Vec<u8>, name: &str, bytes: &[u8]) -> io::Result<()> {
    out.extend_from_slice(name.as_bytes());
    if let Ok(text) = std::str::from_utf8(bytes) {
        out.extend_from_slice(b"\":");
        serde_json::to_writer(&mut *out, text)?;
    } else {
        out.extend_from_slice(b"_hex\":\"");
        for byte in bytes {
            write!(out, "{byte:02x}")?;
        }
        out.push(b'"');
    }
    Ok(())
}

/// What a gap is on stderr.
pub(crate) fn describe_gap(topic: &str, gap: &Gap) -> String {
    let reason = match gap.reason {
        0 => "retention",
        1 => "purge",
        2 => "deletion",
        3 => "damage",
        _ => "a reason of a newer version",
    };
    format!(
        "gap in {topic}: {} records, offsets {} to {}, were removed before they were read ({reason})",
        gap.records,
        gap.from,
        gap.to.saturating_sub(1)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use logdrive_protocol::TopicId;
    use logdrive_protocol::batch::{BatchBuilder, NewRecord, Origin, Place, place};
    use logdrive_protocol::operations::{Delivered, Range};

    /// Three records from offset 7 on: plain, with everything, not UTF-8.
    fn delivered() -> Delivered {
        let headers = [
            ("host".to_owned(), b"web \"1\"".to_vec()),
            ("raw".to_owned(), vec![0xfe]),
        ];
        let mut builder = BatchBuilder::default();
        for record in [
            NewRecord {
                timestamp: 1_000_000,
                value: b"plain\r",
                ..NewRecord::default()
            },
            NewRecord {
                timestamp: 2_000_000,
                severity: 13,
                key: Some(b"k1"),
                headers: &headers,
                value: "tab\tand \u{1b}[31m \"quotes\" \u{e4}".as_bytes(),
            },
            NewRecord {
                timestamp: 3_000_000,
                key: Some(b"\xff"),
                value: b"\x00\xff",
                ..NewRecord::default()
            },
        ] {
            builder.push(&record);
        }
        let mut batch = builder.finish(Origin::default());
        place(
            &mut batch,
            Place {
                topic: TopicId(1),
                base_offset: 7,
                append_time: 4_000_000,
                leader_epoch: 0,
            },
        );
        Delivered {
            ranges: vec![Range {
                from: 7,
                to: 10,
                ..Range::default()
            }],
            batches: vec![Bytes::from(batch)],
            ..Delivered::default()
        }
    }

    fn check(format: Format, count: usize, expected: &[u8]) {
        let mut out = Vec::new();
        let mut writer = RecordWriter::new(&mut out, format);
        for record in delivered().records().take(count) {
            writer.push("app", &record).unwrap();
        }
        assert_eq!(writer.count(), count as u64);
        writer.finish().unwrap();
        assert_eq!(
            out.escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
    }

    const PLAIN: &str = "{\"topic\":\"app\",\"offset\":7,\"time\":\"1970-01-01T00:00:04.000000Z\",\
        \"timestamp\":\"1970-01-01T00:00:01.000000Z\",\"severity\":0,\"key\":null,\"headers\":[],\
        \"value\":\"plain\\r\"}";
    const FULL: &str = "{\"topic\":\"app\",\"offset\":8,\"time\":\"1970-01-01T00:00:04.000000Z\",\
        \"timestamp\":\"1970-01-01T00:00:02.000000Z\",\"severity\":13,\"key\":\"k1\",\
        \"headers\":[{\"name\":\"host\",\"value\":\"web \\\"1\\\"\"},\
        {\"name\":\"raw\",\"value_hex\":\"fe\"}],\
        \"value\":\"tab\\tand \\u001b[31m \\\"quotes\\\" \u{e4}\"}";
    const BYTES: &str = "{\"topic\":\"app\",\"offset\":9,\"time\":\"1970-01-01T00:00:04.000000Z\",\
        \"timestamp\":\"1970-01-01T00:00:03.000000Z\",\"severity\":0,\"key_hex\":\"ff\",\
        \"headers\":[],\"value_hex\":\"00ff\"}";

    #[test]
    fn raw_is_the_values_and_an_lf_after_each() {
        let expected = "plain\r\ntab\tand \u{1b}[31m \"quotes\" \u{e4}\n".as_bytes();
        check(Format::Raw, 3, &[expected, b"\x00\xff\n"].concat());
        check(Format::Raw, 0, b"");
    }

    #[test]
    fn json_is_an_array_of_objects_and_ndjson_an_object_on_each_line() {
        check(Format::Json, 0, b"[]\n");
        check(
            Format::Json,
            3,
            format!("[\n{PLAIN},\n{FULL},\n{BYTES}\n]\n").as_bytes(),
        );
        check(Format::Ndjson, 0, b"");
        check(
            Format::Ndjson,
            3,
            format!("{PLAIN}\n{FULL}\n{BYTES}\n").as_bytes(),
        );
    }

    #[test]
    fn json_of_a_leased_record_says_how_often_it_was_delivered_before() {
        let mut delivered = delivered();
        (delivered.ranges[0].lease, delivered.ranges[0].deliveries) = (4, 2);
        let mut out = Vec::new();
        for record in delivered.records().take(1) {
            push_object(&mut out, "app", &record).unwrap();
        }
        let expected = PLAIN.replace("\"severity\":0", "\"severity\":0,\"deliveries\":2");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn json_is_what_a_parser_reads() {
        for text in [PLAIN, FULL, BYTES] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            assert!(value["offset"].is_u64(), "{text}");
        }
    }

    #[test]
    fn a_table_escapes_what_would_steer_a_terminal() {
        let expected = "TIME                         SEVERITY  KEY           VALUE\n\
             1970-01-01T00:00:01.000000Z  -         -             plain\\r\n\
             1970-01-01T00:00:02.000000Z  warn      k1            tab\tand \\u{1b}[31m \"quotes\" \u{e4}\n\
             1970-01-01T00:00:03.000000Z  -         \u{fffd}             \\u{0}\u{fffd}\n";
        check(Format::Table, 3, expected.as_bytes());
    }

    #[test]
    fn a_full_buffer_is_written_before_the_end() {
        let mut out = Vec::new();
        let mut writer = RecordWriter::new(&mut out, Format::Raw);
        let delivered = delivered();
        for _ in 0..BUFFER_BYTES {
            for record in delivered.records().take(1) {
                writer.push("app", &record).unwrap();
            }
        }
        assert!(writer.buffer.len() < BUFFER_BYTES);
        writer.finish().unwrap();
        assert_eq!(out.len(), 7 * BUFFER_BYTES);
    }

    #[test]
    fn a_gap_is_said_in_a_line() {
        let gap = Gap {
            from: 10,
            to: 20,
            records: 10,
            ..Gap::default()
        };
        assert_eq!(
            describe_gap("app", &gap),
            "gap in app: 10 records, offsets 10 to 19, were removed before they were read (retention)"
        );
    }
}

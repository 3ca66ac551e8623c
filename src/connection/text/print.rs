//! Printing: an answer becomes lines.
//!
//! ```text
//! + text                                        done
//! - CODE text; what to do about it               an error
//! = n                                           n lines follow
//! * topic offset time severity length value     a record; a value that is not printable: x: and hex
//! ! gap from to reason                          records that were removed before they were read
//! ```

use std::fmt::{Display, Write};

use logdrive_protocol::operations::{
    Answer, Counted, Delivered, Gap, Greeted, Located, Measured, Produced, TopicDescribed,
    TopicSummary,
};
use logdrive_protocol::position::format_time;
use logdrive_protocol::{ErrorCode, Failure};

/// What an HTTP client is told: nothing was executed.
pub(super) fn misdirected() -> String {
    let body = format!(
        "{}: this port speaks logdrive's own protocol, not HTTP.\n",
        ErrorCode::Misdirected
    );
    format!(
        "HTTP/1.1 421 Misdirected Request\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// An error on one line.
pub(super) fn failure(failure: &Failure) -> String {
    let mut line = format!("- {} {}", failure.code, failure.message);
    if !failure.hint.is_empty() {
        let _ = write!(line, "; {}", failure.hint);
    }
    // A text from elsewhere must not break the line.
    line.retain(|character| !character.is_control());
    line.push('\n');
    line
}

/// An answer; `topic` is the name that records are printed under.
pub(super) fn answer(answer: &Answer, topic: &str) -> String {
    match answer {
        Answer::Hello(greeted) => hello(greeted),
        Answer::Ping(pinged) => {
            let state = match pinged.state {
                0 => "ok",
                1 => "low-space",
                _ => "storage-failed",
            };
            format!("+ pong state={state}\n")
        }
        Answer::Metadata(located) => metadata(located),
        Answer::Stats(counted) => stats(counted),
        Answer::CreateTopic(created) => {
            let what = if created.created { "created" } else { "exists" };
            format!("+ id={} {what}\n", created.topic)
        }
        Answer::ListTopics(listed) => topics(&listed.topics),
        Answer::DescribeTopic(described) => describe(described),
        Answer::RegisterProducer(registered) => format!(
            "+ producer={} epoch={} next={}\n",
            registered.producer, registered.epoch, registered.next_sequence
        ),
        Answer::Produce(produced) => produce(produced),
        Answer::ProduceAll(produced) => {
            let parts = produced
                .parts
                .iter()
                .map(|part| part.base_offset.to_string());
            let offsets: Vec<String> = parts.collect();
            format!(
                "+ offsets={} acked={} synced\n",
                offsets.join(","),
                produced.acked
            )
        }
        Answer::Fetch(delivered) | Answer::Consume(delivered) => records(delivered, topic),
        Answer::RegisterConsumer(registered) => format!(
            "+ consumer={} cursor={} {}\n",
            registered.consumer,
            registered.cursor,
            if registered.created {
                "created"
            } else {
                "exists"
            }
        ),
        Answer::Seek(sought) => format!("+ cursor={}\n", sought.cursor),
        Answer::Size(measured) => size(measured),
        Answer::Ack(acked) => format!("+ records={}\n", acked.records),
        Answer::Nack(nacked) => format!("+ records={}\n", nacked.records),
        Answer::Requeue(requeued) => format!("+ records={}\n", requeued.records),
        Answer::Extend(_) => "+ extended\n".to_owned(),
        Answer::AlterConsumer(altered) => format!("+ paused={}\n", altered.paused),
        Answer::DescribeConsumer(described) => format!("+ cursor={}\n", described.cursor),
        Answer::Cancel(_) => "+ passed on\n".to_owned(),
        Answer::DeleteTopic(_)
        | Answer::UnregisterProducer(_)
        | Answer::UnregisterConsumer(_)
        | Answer::UnregisterWorker(_) => "+ deleted\n".to_owned(),
    }
}

fn produce(produced: &Produced) -> String {
    let durability = match produced.durability {
        0 => "synced",
        1 => "accepted",
        _ => return "+ scheduled\n".to_owned(),
    };
    format!("+ offset={} {durability}\n", produced.base_offset)
}

fn size(measured: &Measured) -> String {
    let Measured {
        records,
        bytes,
        oldest_age,
        leased,
        delayed,
        gaps,
    } = measured;
    let age = oldest_age / 1_000_000;
    format!(
        "+ records={records} bytes={bytes} age={age}s leased={leased} delayed={delayed} \
         gaps={gaps}\n"
    )
}

fn records(delivered: &Delivered, topic: &str) -> String {
    // The batches themselves are shared, and only packed ones are replaced.
    let mut delivered = delivered.clone();
    if let Err(error) = delivered.unpack() {
        return failure(&error.into());
    }
    let mut out = String::new();
    for Gap {
        from, to, reason, ..
    } in &delivered.gaps
    {
        let reason = match reason {
            0 => "retention",
            1 => "purge",
            2 => "deletion",
            _ => "damage",
        };
        let _ = writeln!(out, "! gap {from} {to} {reason}");
    }
    for it in delivered.records() {
        let (time, record) = (format_time(it.append_time), &it.record);
        let (severity, length) = (record.severity, record.value.len());
        let _ = write!(out, "* {topic} {} {time} {severity} {length} ", it.offset);
        value(&mut out, record.value);
        out.push('\n');
    }
    if delivered.status == Delivered::PASSED {
        let _ = writeln!(out, "+ passed next={}", delivered.next);
        return out;
    }
    match delivered.record_count() {
        0 if delivered.gaps.is_empty() => out.push_str("+ empty\n"),
        count => {
            let _ = writeln!(out, "+ n={count}");
        }
    }
    out
}

/// The value itself if it is printable text, else `x:` and hex.
fn value(out: &mut String, value: &[u8]) {
    match std::str::from_utf8(value) {
        Ok(text) if !text.chars().any(|it| it.is_control() && it != '\t') => out.push_str(text),
        _ => {
            out.push_str("x:");
            for byte in value {
                let _ = write!(out, "{byte:02x}");
            }
        }
    }
}

/// Lines of a name and a value each.
#[derive(Default)]
struct Table {
    lines: String,
    count: usize,
}

impl Table {
    fn line(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.lines, "{name} {value}");
        self.count += 1;
    }

    fn finish(self) -> String {
        format!("= {}\n{}", self.count, self.lines)
    }
}

/// A line for each topic.
pub(super) fn topics(topics: &[TopicSummary]) -> String {
    let mut table = Table::default();
    for it in topics {
        let (id, start, end) = (it.topic, it.log_start, it.high_watermark);
        let (records, bytes) = (it.records, it.bytes);
        table.line(
            &it.name,
            format_args!("id={id} records={records} bytes={bytes} start={start} end={end}"),
        );
    }
    table.finish()
}

fn describe(it: &TopicDescribed) -> String {
    let mut table = Table::default();
    table.line("name", &it.name);
    table.line("id", it.topic);
    table.line("created", format_time(it.created_at));
    table.line("records", it.records);
    table.line("bytes", it.bytes);
    table.line("start", it.log_start);
    table.line("end", it.high_watermark);
    let last = if it.records == 0 {
        "none".to_owned()
    } else {
        format_time(it.last_append_time)
    };
    table.line("last", last);
    table.line("producers", it.producers);
    table.line("consumers", it.consumer_count);
    for setting in &it.settings {
        table.line("setting", format_args!("{}={}", setting.key, setting.value));
    }
    for consumer in &it.consumers {
        let (id, cursor) = (consumer.consumer, consumer.cursor);
        let (name, records, bytes) = (&consumer.name, consumer.records, consumer.bytes);
        table.line(
            "consumer",
            format_args!("{name} id={id} cursor={cursor} records={records} bytes={bytes}"),
        );
    }
    table.finish()
}

fn hello(it: &Greeted) -> String {
    let mut table = Table::default();
    table.line("broker", &it.broker);
    table.line("version", &it.version);
    table.line("node", it.node);
    table.line("started", format_time(it.started_at));
    for limit in &it.limits {
        table.line("limit", format_args!("{}={}", limit.key, limit.value));
    }
    table.finish()
}

fn metadata(it: &Located) -> String {
    let mut table = Table::default();
    for node in &it.nodes {
        table.line("node", format_args!("{} {}", node.id, node.address));
    }
    for topic in &it.topics {
        let (name, id, leader) = (&topic.name, topic.id, topic.leader);
        if id.is_none() {
            table.line("topic", format_args!("{name} not found"));
        } else {
            table.line("topic", format_args!("{name} id={id} leader={leader}"));
        }
    }
    table.finish()
}

fn stats(it: &Counted) -> String {
    let mut table = Table::default();
    for counter in &it.counters {
        table.line(&counter.name, counter.value);
    }
    table.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        let mut out = String::new();
        value(&mut out, bytes);
        assert_eq!(out, expected);
    }

    #[test]
    fn a_value_that_would_break_the_line_is_hex() {
        check(b"plain text\twith a tab", "plain text\twith a tab");
        check("gr\u{fc}\u{df}e".as_bytes(), "gr\u{fc}\u{df}e");
        check(b"two\nlines", "x:74776f0a6c696e6573");
        check(
            b"ends with\r",
            "x:656e64732077697468 0d".replace(' ', "").as_str(),
        );
        check(&[0xff, 0x00], "x:ff00");
    }

    #[test]
    fn an_error_stays_on_its_line() {
        let broken = Failure::new(ErrorCode::Syntax, "a\nb").hint("c\r\nd");
        assert_eq!(failure(&broken), "- SYNTAX ab; cd\n");
    }

    #[test]
    fn an_http_answer_says_how_long_it_is() {
        let (head, body) = misdirected()
            .split_once("\r\n\r\n")
            .map(|it| (it.0.to_owned(), it.1.to_owned()))
            .unwrap();
        assert!(head.starts_with("HTTP/1.1 421 "), "{head}");
        assert!(
            head.contains(&format!("Content-Length: {}\r\n", body.len())),
            "{head}"
        );
    }
}

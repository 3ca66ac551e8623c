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
    Answer, ConsumerAltered, ConsumerDescribed, Counted, Counter, Delivered, Gap, Grant, Greeted,
    IssuedToken, Located, Measured, PrincipalSummary, Produced, Setting, TopicDescribed,
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
        Answer::Ack(acked) => format!("+ acked={}\n", acked.records),
        Answer::Nack(nacked) => format!("+ nacked={}\n", nacked.records),
        Answer::Extend(_) => "+ extended\n".to_owned(),
        Answer::Requeue(requeued) => format!("+ requeued={}\n", requeued.records),
        Answer::AlterConsumer(altered) => alter(altered),
        Answer::DescribeConsumer(described) => consumer(described),
        Answer::Cancel(_) => "+ passed on\n".to_owned(),
        Answer::AlterTopic(altered) => settings(&altered.settings),
        Answer::PurgeTopic(purged) => format!(
            "+ start={} records={} bytes={}\n",
            purged.log_start, purged.records, purged.bytes
        ),
        Answer::DeleteTopic(_)
        | Answer::UnregisterProducer(_)
        | Answer::UnregisterConsumer(_)
        | Answer::DeletePrincipal(_)
        | Answer::UnregisterWorker(_) => "+ deleted\n".to_owned(),
        Answer::Authenticate(_) => "+ logged in\n".to_owned(),
        Answer::CreatePrincipal(created) => issued("created", &created.tokens),
        Answer::AlterPrincipal(altered) => issued("altered", &altered.tokens),
        Answer::ListPrincipals(listed) => principals(&listed.principals),
    }
}

/// Tokens are shown this once.
fn issued(what: &str, tokens: &[IssuedToken]) -> String {
    let mut out = format!("+ {what}");
    for issued in tokens {
        let _ = write!(
            out,
            " token={}",
            issued.token.expose_text().unwrap_or_default()
        );
    }
    out.push('\n');
    out
}

/// One line for each: what it may do, with what it logs in, its quotas, and what it uses.
pub(super) fn principals(principals: &[PrincipalSummary]) -> String {
    let mut out = format!("= {}\n", principals.len());
    for principal in principals {
        out.push_str(&principal.name);
        for Grant { rights, topics } in &principal.grants {
            let _ = write!(out, " {rights}:{topics}");
        }
        let labels: Vec<_> = principal.tokens.iter().map(|it| &*it.label).collect();
        if !labels.is_empty() {
            let _ = write!(out, " tokens={}", labels.join(","));
        }
        let _ = write!(out, " password={}", principal.password);
        for Setting { key, value } in &principal.quotas {
            let _ = write!(out, " {key}={value}");
        }
        for Counter { name, value } in principal.usage.iter().filter(|it| it.value > 0) {
            let _ = write!(out, " used.{name}={value}");
        }
        out.push('\n');
    }
    out
}

fn settings(settings: &[Setting]) -> String {
    let mut out = format!("= {}\n", settings.len());
    for Setting { key, value } in settings {
        let _ = writeln!(out, "{key}={value}");
    }
    out
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
        0 if delivered.status == Delivered::HELD => out.push_str("+ held\n"),
        0 if delivered.gaps.is_empty() => out.push_str("+ empty\n"),
        count => {
            let _ = writeln!(out, "+ n={count}{}", leased(&delivered));
        }
    }
    out
}

/// The lease of an answer, and which of its records were delivered before, how often.
fn leased(delivered: &Delivered) -> String {
    let Some(lease) = delivered.ranges.first().map(|it| it.lease) else {
        return String::new();
    };
    if lease == 0 {
        return String::new();
    }
    let again = delivered.ranges.iter().filter(|it| it.deliveries > 0);
    let again: Vec<String> = again
        .map(|it| match (it.from, it.to - 1, it.deliveries) {
            (only, last, times) if only == last => format!("{only}:{times}"),
            (first, last, times) => format!("{first}-{last}:{times}"),
        })
        .collect();
    if again.is_empty() {
        return format!(" lease={lease}");
    }
    format!(" lease={lease} redelivered={}", again.join(","))
}

fn alter(altered: &ConsumerAltered) -> String {
    let paused = yes_or_no(altered.paused);
    format!("+ paused={paused} settings={}\n", altered.settings.len())
}

fn yes_or_no(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
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
    if !it.held_by.is_empty() {
        table.line("held_by", &it.held_by);
    }
    if !it.owner.is_empty() {
        table.line("owner", &it.owner);
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

fn consumer(it: &ConsumerDescribed) -> String {
    let mut table = Table::default();
    table.line("name", &it.name);
    table.line("cursor", it.cursor);
    table.line("next", it.next);
    table.line("records", it.records);
    table.line("bytes", it.bytes);
    table.line("leased", it.leased);
    table.line("waiting", it.waiting);
    table.line("gaps", it.gaps);
    table.line("workers", it.workers);
    table.line("paused", yes_or_no(it.paused));
    if !it.held_by.is_empty() {
        table.line("held_by", &it.held_by);
    }
    if let Some(key) = &it.held_key {
        let mut shown = String::new();
        value(&mut shown, key.as_bytes());
        table.line("held_offset", it.held_offset);
        table.line("held_key", shown);
    }
    for setting in &it.settings {
        table.line("setting", format_args!("{}={}", setting.key, setting.value));
    }
    for lease in &it.leases {
        let (worker, records, from) = (lease.worker, lease.records, lease.from);
        let left = lease.left_ms;
        table.line(
            "lease",
            format_args!(
                "{} worker={worker} records={records} from={from} left={left}ms",
                lease.lease
            ),
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
    use logdrive_protocol::operations::Range;

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

    fn check_leased(lease: u64, ranges: &[(u64, u64, u32)], expected: &str) {
        let range = |&(from, to, deliveries): &(u64, u64, u32)| Range {
            from,
            to,
            deliveries,
            lease,
        };
        let delivered = Delivered {
            ranges: ranges.iter().map(range).collect(),
            ..Delivered::default()
        };
        assert_eq!(records(&delivered, "app"), expected);
    }

    #[test]
    fn an_answer_names_its_lease_and_what_was_delivered_before() {
        check_leased(0, &[(0, 2, 0)], "+ n=2\n");
        check_leased(7, &[(0, 2, 0)], "+ n=2 lease=7\n");
        let ranges = [(0, 1, 1), (3, 6, 12), (6, 8, 0)];
        check_leased(7, &ranges, "+ n=6 lease=7 redelivered=0:1,3-5:12\n");
        let held = Delivered {
            status: Delivered::HELD,
            ..Delivered::default()
        };
        assert_eq!(records(&held, "app"), "+ held\n");
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

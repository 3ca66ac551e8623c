//! Who produces to and consumes from which topic, and what a record of the demo looks like.
//!
//! ```text
//!  P1 ──► T-1  T-2  T-3        T-1 ──► C1 C2 C3
//!  P2 ──► T-1       T-3        T-2 ──► C1
//!  P3 ──► T-1                  T-3 ──► C1 C2 C3
//!  P4 ──►      T-2
//!  P5 ──►      T-2             value: "P1 000042 " and the log line
//! ```

use crate::history::fingerprint;

/// All topics.
pub(super) const TOPICS: [&str; 3] = ["T-1", "T-2", "T-3"];
/// Each producer with the topics that get every line of its logs.
pub(super) const PRODUCERS: [(&str, &[&str]); 5] = [
    ("P1", &["T-1", "T-2", "T-3"]),
    ("P2", &["T-1", "T-3"]),
    ("P3", &["T-1"]),
    ("P4", &["T-2"]),
    ("P5", &["T-2"]),
];
/// Each consumer with the topics that it takes every record of.
pub(super) const CONSUMERS: [(&str, &[&str]); 3] = [
    ("C1", &["T-1", "T-2", "T-3"]),
    ("C2", &["T-1", "T-3"]),
    ("C3", &["T-1", "T-3"]),
];

/// The value of a record: who sent it, its number, and the line.
pub(super) fn value(producer: &str, sequence: u64, line: &[u8]) -> Vec<u8> {
    let mut value = format!("{producer} {sequence:06} ").into_bytes();
    value.extend_from_slice(line);
    value
}

/// What a value is to the checker; one that no producer can have sent is like nothing else.
pub(super) fn fingerprint_of(value: &[u8]) -> u64 {
    parse(value).map_or_else(
        || fingerprint("", 0, value),
        |(producer, sequence, line)| fingerprint(producer, sequence, line),
    )
}

fn parse(value: &[u8]) -> Option<(&str, u64, &[u8])> {
    let mut parts = value.splitn(3, |&byte| byte == b' ');
    let producer = std::str::from_utf8(parts.next()?).ok()?;
    let sequence = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    Some((producer, sequence, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_leads_back_to_its_producer_number_and_line() {
        for line in [&b"a line"[..], b"", b" two  spaces ", b"\xff\r"] {
            let value = value("P1", 42, line);
            assert_eq!(parse(&value), Some(("P1", 42, line)));
            assert_eq!(fingerprint_of(&value), fingerprint("P1", 42, line));
        }
        assert_eq!(value("P1", 42, b"x"), b"P1 000042 x");
    }

    #[test]
    fn what_no_producer_sent_is_like_nothing_that_one_did() {
        let sent = fingerprint_of(&value("P1", 42, b"x"));
        for other in [
            &b"P1 000042 y"[..],
            b"P1 000043 x",
            b"P2 000042 x",
            b"P1",
            b"",
            b"P1 x x",
        ] {
            assert_ne!(fingerprint_of(other), sent);
        }
    }
}

//! Commands that end in a value: the rest of the line, byte for byte.
//!
//! Owns how the value is told from the words before it. Its neighbour: the [parser](super) of all
//! other commands.

use logdrive_protocol::position::parse_duration;
use logdrive_protocol::{Failure, Position};

use super::{Command, Words, split};

/// When a record that waits falls due, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection::text) enum When {
    /// So long from now.
    In(u64),
    /// At this time.
    At(u64),
}

/// Understands what stands behind such a verb.
pub(super) fn parse<'a>(verb: &'static str, rest: &'a [u8]) -> Result<Command<'a>, Failure> {
    let (topic, value) = split(rest);
    let words = Words {
        verb,
        words: "".split_ascii_whitespace(),
    };
    let Ok(topic) = std::str::from_utf8(topic) else {
        return Err(words.wrong("the topic's name is not UTF-8"));
    };
    if topic.is_empty() {
        return Err(words.wrong(format!("{verb} needs a topic")));
    }
    if verb == "SCHEDULE" {
        let (time, value) = split(value);
        let when = when(time).ok_or_else(|| {
            words.wrong(format!(
                "{verb} needs a duration like 5m or a time like 2030-01-01T00:00:00Z"
            ))
        })?;
        return Ok(Command::Schedule(topic, when, after_space(value)));
    }
    Ok(match verb {
        "PRODUCEALL" => Command::ProduceAll(topic, after_space(value)),
        _ => Command::Produce(topic, after_space(value)),
    })
}

/// One space separates a value; all others belong to it.
fn after_space(value: &[u8]) -> &[u8] {
    value.get(1..).unwrap_or_default()
}

fn when(word: &[u8]) -> Option<When> {
    let word = std::str::from_utf8(word).ok().filter(|it| !it.is_empty())?;
    match (parse_duration(word), word.parse()) {
        (Some(duration), _) => Some(When::In(duration)),
        (None, Ok(Position::Time(time))) => Some(When::At(time)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_line_is_the_value_with_all_its_spaces() {
        for (line, value) in [
            ("PRODUCE t first line", &b"first line"[..]),
            ("enqueue t  two spaces ", b" two spaces "),
            ("PRODUCE t", b""),
            ("PRODUCE t \t", b"\t"),
        ] {
            assert_eq!(
                Command::parse(line.as_bytes()),
                Ok(Command::Produce("t", value)),
                "{line}"
            );
        }
        assert_eq!(
            Command::parse(b"schedule t 5m  x"),
            Ok(Command::Schedule("t", When::In(300_000_000), b" x"))
        );
        assert_eq!(
            Command::parse(b"produceall t,u  x"),
            Ok(Command::ProduceAll("t,u", b" x"))
        );
        assert_eq!(
            Command::parse(b"PRODUCE t \xff\x00"),
            Ok(Command::Produce("t", b"\xff\x00"))
        );
    }
}

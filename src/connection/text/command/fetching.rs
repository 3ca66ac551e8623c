//! The words of FETCH behind its topic: where to begin, limits and filters.
//!
//! Its neighbour: [`Command`](super::Command), which knows every other verb.

use logdrive_protocol::Failure;

use super::{Command, Rest, Words, setting};

const GREP: &str = "grep";

impl<'a> Command<'a> {
    /// What a fetch reads: limits, filters, and an expression that is the rest of the line, since
    /// it may hold spaces.
    pub(super) fn parse_fetch(verb: &'static str, rest: &'a str) -> Result<Self, Failure> {
        let (rest, grep) = match rest.split_once(" grep=") {
            Some((before, grep)) => (before, Some(grep)),
            None => (rest, None),
        };
        let words = rest.split_ascii_whitespace();
        let mut words = Words { verb, words };
        let (topic, from) = (words.word("topic")?, words.position()?);
        let (limits, others) = words.limits_and(10)?;
        let mut filter = Vec::new();
        for word in others {
            let (key, value) = word.split_once('=').ok_or_else(|| words.no_option(word))?;
            filter.push(setting(key, value));
        }
        filter.extend(grep.map(|grep| setting(GREP, grep)));
        Ok(Self::OnTopic(topic, Rest::Fetch(from, limits, filter)))
    }
}

#[cfg(test)]
mod tests {
    use logdrive_protocol::Position;

    use super::super::{Command, Rest};

    #[test]
    fn the_filters_of_a_fetch_are_words_and_an_expression_is_the_rest_of_the_line() {
        let filter = |line: &str| match Command::parse(line.as_bytes()) {
            Ok(Command::OnTopic("t", Rest::Fetch(Position::Offset(5), limits, filter))) => {
                let words: Vec<String> = filter
                    .iter()
                    .map(|it| format!("<{}={}>", it.key, it.value))
                    .collect();
                format!("n={} {}", limits.records, words.concat())
            }
            other => format!("{other:?}"),
        };
        for (line, expected) in [
            (
                "FETCH t 5 severity=warn n=3 header.host=web-1",
                "n=3 <severity=warn><header.host=web-1>",
            ),
            (
                "fetch t 5 since=1 grep=timed out  n=7 ",
                "n=10 <since=1><grep=timed out  n=7 >",
            ),
            ("FETCH t 5 grep=a grep=b", "n=10 <grep=a grep=b>"),
        ] {
            assert_eq!(filter(line), expected, "{line}");
        }
        let refused = Command::parse(b"FETCH t 5 loud").unwrap_err();
        assert_eq!(refused.message, "\"loud\" is no option");
        let refused = Command::parse(b"CONSUME t c severity=warn").unwrap_err();
        assert_eq!(refused.message, "\"severity=warn\" is no option");
    }
}

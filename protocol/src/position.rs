//! Positions in a topic, in the one grammar that text mode and the command line share.
//!
//! ```text
//! earliest | latest | 1234 | -100 | 1h30m | 2026-03-01T12:00:00Z
//! ```

use std::fmt;
use std::str::FromStr;

use crate::body::{Body, Field, Malformed, Reader, Writer};

/// Where to begin in a topic. Times are append times, in microseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Position {
    /// The first record that is kept.
    #[default]
    Earliest,
    /// After the last visible record.
    Latest,
    /// This offset.
    Offset(u64),
    /// So many records before the end.
    Last(u64),
    /// The first record appended at or after this time.
    Time(u64),
    /// The first record appended at most so many microseconds ago, by the broker's clock.
    Ago(u64),
    /// A kind that this version does not know.
    Unknown(u8),
}

impl Body for Position {
    fn encode(&self, out: &mut Writer) {
        let (kind, value) = match *self {
            Self::Earliest => (0, 0),
            Self::Latest => (1, 0),
            Self::Offset(offset) => (2, offset),
            Self::Last(count) => (3, count),
            Self::Time(time) => (4, time),
            Self::Ago(age) => (5, age),
            Self::Unknown(kind) => (kind, 0),
        };
        out.u8(kind);
        out.u64(value);
    }

    fn decode(body: &mut Reader) -> Result<Self, Malformed> {
        let (kind, value) = (body.u8("position kind")?, body.u64("position value")?);
        Ok(match kind {
            0 => Self::Earliest,
            1 => Self::Latest,
            2 => Self::Offset(value),
            3 => Self::Last(value),
            4 => Self::Time(value),
            5 => Self::Ago(value),
            other => Self::Unknown(other),
        })
    }
}

impl Field for Position {
    fn put(&self, out: &mut Writer) {
        self.encode(out);
    }
    fn take(body: &mut Reader, _name: &'static str) -> Result<Self, Malformed> {
        Self::decode(body)
    }
}

/// A text that is no position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no position: use earliest, latest, an offset, -100 (the last 100), \
     1h30m (ago) or a time like 2026-03-01T12:00:00Z"
)]
pub struct PositionError(pub String);

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let refused = || PositionError(text.chars().take(64).collect());
        if text.eq_ignore_ascii_case("earliest") {
            return Ok(Self::Earliest);
        }
        if text.eq_ignore_ascii_case("latest") {
            return Ok(Self::Latest);
        }
        if let Some(count) = text.strip_prefix('-') {
            return digits(count).map(Self::Last).ok_or_else(refused);
        }
        if let Some(offset) = digits(text) {
            return Ok(Self::Offset(offset));
        }
        if let Some(age) = parse_duration(text) {
            return Ok(Self::Ago(age));
        }
        parse_time(text).map(Self::Time).ok_or_else(refused)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Offset(offset) => write!(f, "{offset}"),
            Self::Last(count) => write!(f, "-{count}"),
            Self::Time(time) => f.write_str(&format_time(time)),
            Self::Ago(age) => write!(f, "{age}us"),
            Self::Unknown(kind) => write!(f, "unknown({kind})"),
        }
    }
}

fn digits(text: &str) -> Option<u64> {
    // `u64::from_str` would take a plus sign.
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

/// Microseconds of a duration such as `1h30m`, `5s`, `250ms`; units d, h, m, s, ms, us in any order.
pub fn parse_duration(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let number_len = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..number_len].parse().ok()?;
        rest = &rest[number_len..];
        let unit_len = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match &rest[..unit_len] {
            "d" => 86_400_000_000,
            "h" => 3_600_000_000,
            "m" => 60_000_000,
            "s" => 1_000_000,
            "ms" => 1_000,
            "us" => 1,
            _ => return None,
        };
        rest = &rest[unit_len..];
        total = total.checked_add(number.checked_mul(unit)?)?;
    }
    if text.is_empty() { None } else { Some(total) }
}

/// Microseconds since 1970 of a time: RFC 3339, or the number itself.
pub fn parse_time(text: &str) -> Option<u64> {
    if let Some(time) = digits(text) {
        return Some(time);
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_microsecond()).ok()
}

/// A time in microseconds since 1970 as RFC 3339 in UTC; the number itself where it has no calendar date.
pub fn format_time(time: u64) -> String {
    i64::try_from(time)
        .ok()
        .and_then(|time| jiff::Timestamp::from_microsecond(time).ok())
        .map_or_else(|| time.to_string(), |time| format!("{time:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let got = match text.parse::<Position>() {
            Ok(position) => format!("{position:?}"),
            Err(_) => "refused".to_owned(),
        };
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn the_grammar_has_six_kinds() {
        check("earliest", "Earliest");
        check("LATEST", "Latest");
        check("0", "Offset(0)");
        check("18446744073709551615", "Offset(18446744073709551615)");
        check("-100", "Last(100)");
        check("1h30m", "Ago(5400000000)");
        check("250ms", "Ago(250000)");
        check("1970-01-01T00:00:01Z", "Time(1000000)");
        check("1970-01-01T01:00:00.5+01:00", "Time(500000)");
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "-",
            "+5",
            "-1h",
            "5 s",
            "yesterday",
            "1x",
            "18446744073709551616",
            "99999999999999d",
        ] {
            check(text, "refused");
        }
    }

    #[test]
    fn a_time_alone_is_rfc_3339_or_microseconds() {
        for (text, time) in [
            ("1970-01-01T00:00:01Z", Some(1_000_000)),
            ("1970-01-01T01:00:01+01:00", Some(1_000_000)),
            ("250", Some(250)),
            ("", None),
            ("-5", None),
            ("2h", None),
            ("1969-12-31T23:59:59Z", None),
        ] {
            assert_eq!(parse_time(text), time, "{text}");
        }
    }

    #[test]
    fn a_time_is_printed_as_it_is_parsed() {
        assert_eq!(format_time(1_500_000), "1970-01-01T00:00:01.500000Z");
        check(&format_time(1_500_000), "Time(1500000)");
    }
}

//! Severities as people write them, on the command line and in filters.
//!
//! Owns the names of OpenTelemetry's severity numbers; a record carries the number alone.

use std::str::FromStr;

/// First number of each name; a name spans four.
const NAMES: [&str; 6] = ["trace", "debug", "info", "warn", "error", "fatal"];

/// OpenTelemetry's `SeverityNumber`: 1 to 24, and 0 where none was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Severity(pub u8);

impl FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(number @ 1..=24) = text.parse() {
            return Ok(Self(number));
        }
        let lower = text.to_ascii_lowercase();
        (1..=24)
            .map(Self)
            .find(|severity| severity.name() == lower)
            .ok_or_else(|| {
                "use trace, debug, info, warn, error or fatal, each also with 2 to 4 (warn2), \
                 or a number from 1 to 24"
                    .to_owned()
            })
    }
}

impl Severity {
    /// Its name: `info`, `warn2`; `-` where none was given, the number where it has no name.
    pub fn name(self) -> String {
        let Some(step) = self.0.checked_sub(1) else {
            return "-".to_owned();
        };
        match (NAMES.get(usize::from(step / 4)), step % 4) {
            (Some(name), 0) => (*name).to_owned(),
            (Some(name), within) => format!("{name}{}", within + 1),
            (None, _) => self.0.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_severity_is_a_name_or_a_number() {
        for (text, number) in [
            ("trace", 1),
            ("INFO", 9),
            ("warn2", 14),
            ("Fatal4", 24),
            ("17", 17),
        ] {
            assert_eq!(text.parse(), Ok(Severity(number)), "{text}");
        }
        for text in ["", "0", "25", "warn1", "warn5", "loud", "-"] {
            assert!(text.parse::<Severity>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_name_is_parsed_as_it_is_printed() {
        for number in 1..=24 {
            assert_eq!(Severity(number).name().parse(), Ok(Severity(number)));
        }
        assert_eq!(
            (Severity(0).name().as_str(), Severity(25).name().as_str()),
            ("-", "25")
        );
    }
}

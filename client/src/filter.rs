//! What a reader wants of a topic's records; the broker leaves out the rest.

use logdrive_protocol::Severity;
use logdrive_protocol::operations::Setting;

/// What a record must fulfil to be delivered, all of it; by default every record does.
///
/// The broker refuses what contradicts itself or does not parse, with `INVALID_FILTER`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// At least this severity.
    pub severity: Option<Severity>,
    /// Each of these names stands on a header with exactly this value.
    pub headers: Vec<(String, String)>,
    /// A regular expression that the value matches somewhere; at most 256 bytes.
    pub grep: Option<String>,
    /// The record's own timestamp is this or later, in microseconds since 1970 UTC.
    pub since: Option<u64>,
    /// The record's own timestamp is earlier, in microseconds since 1970 UTC.
    pub until: Option<u64>,
}

impl Filter {
    /// The same as it travels; none for a filter that every record passes.
    pub fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        let mut add = |key: String, value: String| settings.push(Setting { key, value });
        if let Some(severity) = self.severity {
            add("severity".to_owned(), severity.0.to_string());
        }
        for (name, value) in &self.headers {
            add(format!("header.{name}"), value.clone());
        }
        if let Some(grep) = &self.grep {
            add("grep".to_owned(), grep.clone());
        }
        for (key, time) in [("since", self.since), ("until", self.until)] {
            if let Some(time) = time {
                add(key.to_owned(), time.to_string());
            }
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_travels_as_settings_and_an_empty_one_as_none() {
        assert_eq!(Filter::default().settings(), []);
        let filter = Filter {
            severity: Some(Severity(13)),
            headers: vec![("host".to_owned(), "web-1".to_owned())],
            grep: Some("time.?out".to_owned()),
            since: Some(5),
            until: Some(9),
        };
        let words: Vec<String> = filter
            .settings()
            .into_iter()
            .map(|it| format!("{}={}", it.key, it.value))
            .collect();
        let expected = "severity=13 header.host=web-1 grep=time.?out since=5 until=9";
        assert_eq!(words.join(" "), expected);
    }
}

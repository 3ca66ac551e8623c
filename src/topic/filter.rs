//! Filters: which records a reader wants, and picking them out of batches.
//!
//! ```text
//! batches ... --> head: may it match? --no--> passed over, its records unread
//!                          | yes
//!                          v
//!                 each record: does it match? --> offsets of those that do, and the batch:
//!                                                 as stored, or rebuilt of few of its records
//! ```
//!
//! Pure: it reads nothing and knows no clock. Matching takes long, so it runs on the pool, never
//! on a topic's thread; what a head says may be asked anywhere. Its neighbours:
//! [`searching`](super::searching) brings batches, [`settings`](super::settings) checks what a
//! consumer asks for. The grammar stands under *Filters* in PROTOCOL.md.

mod selection;

use logdrive_protocol::batch::{Head, RecordView};
use logdrive_protocol::limits::{MAX_SETTING_BYTES, MAX_SETTINGS};
use logdrive_protocol::operations::Setting;
use logdrive_protocol::position::parse_time;
use logdrive_protocol::{ErrorCode, Failure, Severity};
use regex::bytes::{Regex, RegexBuilder};

pub use self::selection::{Selected, Selection, select};
use crate::limits::{GREP_BYTES, GREP_CACHE_BYTES};

const SEVERITY: &str = "severity";
/// What the name of a header stands behind.
const HEADER: &str = "header.";
const GREP: &str = "grep";
const SINCE: &str = "since";
const UNTIL: &str = "until";
/// All of them, for people.
const KEYS: &str = "severity, header.NAME, grep, since, until";

/// What a record must fulfil, all of it.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// At least this; 0 for any.
    severity: u8,
    /// Names, and the exact value that a header of that name must have.
    headers: Vec<(String, String)>,
    /// The value matches.
    grep: Option<Regex>,
    /// Record timestamps, in microseconds: this and later ones.
    since: u64,
    /// Record timestamps, in microseconds: only earlier ones.
    until: Option<u64>,
}

fn refused(message: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::InvalidFilter, message)
}

impl Filter {
    /// Whether a setting of this key is a filter.
    pub fn is_key(key: &str) -> bool {
        matches!(key, SEVERITY | GREP | SINCE | UNTIL) || key.starts_with(HEADER)
    }

    /// The filter among other settings; `None` if there is none. Costs what [`Filter::parse`] does.
    ///
    /// # Errors
    /// As of [`Filter::parse`].
    pub fn among(settings: &[Setting]) -> Result<Option<Self>, Failure> {
        let filters = settings.iter().filter(|it| Self::is_key(&it.key));
        Self::parse(&filters.cloned().collect::<Vec<_>>())
    }

    /// The filter of these settings, all of which must be filters; `None` if there are none.
    ///
    /// A regular expression is compiled, which takes milliseconds at worst.
    ///
    /// # Errors
    /// `INVALID_FILTER`.
    pub fn parse(settings: &[Setting]) -> Result<Option<Self>, Failure> {
        if settings.is_empty() {
            return Ok(None);
        }
        if settings.len() > MAX_SETTINGS {
            let count = settings.len();
            return Err(refused(format!(
                "{count} filters are more than {MAX_SETTINGS}"
            )));
        }
        let mut filter = Self::default();
        for (index, setting) in settings.iter().enumerate() {
            let is_same = |other: &Setting| {
                // A record may have several headers of one name, so each value may be asked for.
                let is_header = setting.key.starts_with(HEADER);
                other.key == setting.key && (!is_header || other.value == setting.value)
            };
            if settings[..index].iter().any(is_same) {
                return Err(refused(format!("{} is given twice", shown(&setting.key))));
            }
            filter.add(setting)?;
        }
        if filter.until.is_some_and(|until| until <= filter.since) {
            return Err(refused("no time lies between since and until")
                .hint("until is exclusive and must be later than since"));
        }
        Ok(Some(filter))
    }

    fn add(&mut self, Setting { key, value }: &Setting) -> Result<(), Failure> {
        if key.len() > MAX_SETTING_BYTES || value.len() > MAX_SETTING_BYTES {
            let key = shown(key);
            return Err(refused(format!(
                "{key} is longer than {MAX_SETTING_BYTES} bytes"
            )));
        }
        let time = || {
            parse_time(value).ok_or_else(|| {
                refused(format!("{key}={} is no time", shown(value)))
                    .hint("give a time like 2026-03-01T12:00:00Z, or microseconds since 1970")
            })
        };
        match (key.as_str(), key.strip_prefix(HEADER)) {
            (SEVERITY, _) => {
                let severity: Result<Severity, String> = value.parse();
                self.severity = severity
                    .map_err(|hint| {
                        refused(format!("severity={} is none", shown(value))).hint(hint)
                    })?
                    .0;
            }
            (GREP, _) => self.grep = Some(compile(value)?),
            (SINCE, _) => self.since = time()?,
            (UNTIL, _) => self.until = Some(time()?),
            (_, Some("")) => {
                return Err(refused("the header to compare has no name")
                    .hint("name it: header.NAME=VALUE, such as header.host=web-1"));
            }
            (_, Some(name)) => self.headers.push((name.to_owned(), value.clone())),
            _ => {
                return Err(refused(format!("there is no filter {}", shown(key)))
                    .hint(format!("the filters are {KEYS}")));
            }
        }
        Ok(())
    }

    /// Whether it holds a regular expression, and with it memory.
    pub fn has_grep(&self) -> bool {
        self.grep.is_some()
    }

    /// Whether a batch may hold a record that matches; false is certain.
    ///
    /// The head must have been checked with its batch: it says what the records say.
    pub fn may_match(&self, head: &Head) -> bool {
        head.severity >= self.severity
            && head.highest_timestamp >= self.since
            && self.until.is_none_or(|until| head.lowest_timestamp < until)
    }

    /// Whether a record matches; `timestamp` is its own, in microseconds.
    pub fn matches(&self, record: &RecordView<'_>, timestamp: u64) -> bool {
        let has = |(name, value): &(String, String)| {
            let mut headers = record.headers.clone();
            headers.any(|header| header == (name.as_bytes(), value.as_bytes()))
        };
        // The cheapest first.
        record.severity >= self.severity
            && timestamp >= self.since
            && self.until.is_none_or(|until| timestamp < until)
            && self.headers.iter().all(has)
            && self
                .grep
                .as_ref()
                .is_none_or(|grep| grep.is_match(record.value))
    }
}

fn compile(pattern: &str) -> Result<Regex, Failure> {
    if pattern.is_empty() {
        return Err(refused("grep has no expression"));
    }
    let compiled = RegexBuilder::new(pattern)
        .size_limit(GREP_BYTES)
        .dfa_size_limit(GREP_CACHE_BYTES)
        .build();
    compiled.map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => refused(format!(
            "the regular expression is too large: compiled it takes more than {limit} bytes"
        ))
        .hint("repeat less, or say (?-u) where ASCII is meant"),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            let cause = last.strip_prefix("error: ").unwrap_or(last);
            refused(format!("the regular expression does not parse: {cause}"))
                .hint("put a backslash before what is meant literally")
        }
    })
}

fn shown(text: &str) -> String {
    text.chars()
        .take(40)
        .flat_map(char::escape_default)
        .collect()
}

#[cfg(test)]
mod tests;

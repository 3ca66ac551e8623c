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

use bytes::Bytes;
use logdrive_protocol::batch::{self, Head, RecordView, Records};
use logdrive_protocol::limits::{MAX_SETTING_BYTES, MAX_SETTINGS};
use logdrive_protocol::operations::{Range, Setting};
use logdrive_protocol::position::parse_time;
use logdrive_protocol::{ErrorCode, Failure, Severity, varint};
use regex::bytes::{Regex, RegexBuilder};

use super::log::content_between;
use crate::limits::{GREP_BYTES, GREP_CACHE_BYTES, MAX_RANGES, REBUILD_BYTES, REBUILD_SHARE};

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

/// What a filter took out of batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// The records that match, ascending.
    pub ranges: Vec<Range>,
    /// The batches that hold them: as stored, or rebuilt.
    pub batches: Vec<Bytes>,
    /// Where the search goes on: everything before it was looked through.
    pub next: u64,
    /// Key, headers and values of the records that match, in bytes.
    pub content: u64,
    /// Key, headers and values of all records that were looked through, in bytes.
    pub passed: u64,
}

impl Selected {
    /// How many records match.
    pub fn record_count(&self) -> u64 {
        self.ranges.iter().map(|range| range.to - range.from).sum()
    }
}

/// Picks the records `from..end` that match out of batches, which were checked and ascend.
///
/// At most `max_records` of them (0 = no limit), at most `max_bytes` of batches with what names
/// their records, but always one batch.
pub fn select(
    filter: &Filter,
    from: u64,
    end: u64,
    max_records: u32,
    max_bytes: usize,
    batches: impl Iterator<Item = Bytes>,
) -> Selected {
    let mut selection = Selection::new(from, end, max_records, max_bytes);
    for batch in batches {
        if !selection.look(filter, &batch) {
            break;
        }
    }
    selection.selected
}

/// A selection that goes on as batches come.
#[derive(Debug)]
pub struct Selection {
    /// What was taken so far.
    pub selected: Selected,
    end: u64,
    /// Records that may still be taken.
    records: u64,
    /// Bytes that may still be taken.
    room: usize,
}

/// What of one batch matches.
#[derive(Default)]
struct Matched {
    ranges: Vec<Range>,
    content: u64,
    /// Where a limit cut it, if one did.
    cut: Option<u64>,
}

impl Matched {
    /// Adds an offset beyond all others.
    fn add(&mut self, offset: u64, content: usize) {
        self.content += content as u64;
        match self.ranges.last_mut() {
            Some(last) if last.to == offset => last.to += 1,
            _ => self.ranges.push(range(offset)),
        }
    }

    fn holds(&self, offset: u64) -> bool {
        let index = self.ranges.partition_point(|range| range.to <= offset);
        let range = self.ranges.get(index);
        range.is_some_and(|range| range.from <= offset)
    }
}

fn range(offset: u64) -> Range {
    Range {
        from: offset,
        to: offset + 1,
        ..Range::default()
    }
}

/// Bytes of a range in an answer, with its length.
fn range_len(range: &Range) -> usize {
    3 + varint::len(range.from) + varint::len(range.to)
}

impl Selection {
    /// Nothing is taken yet; limits as in [`select`].
    pub fn new(from: u64, end: u64, max_records: u32, max_bytes: usize) -> Self {
        let selected = Selected {
            next: from,
            ..Selected::default()
        };
        let records = match max_records {
            0 => u64::MAX,
            count => count.into(),
        };
        Self {
            selected,
            end,
            records,
            room: max_bytes,
        }
    }

    /// Looks through one more batch; false if that was not all of it, because a limit is reached.
    pub fn look(&mut self, filter: &Filter, batch: &Bytes) -> bool {
        let Some(head) = Head::parse(batch) else {
            return false;
        };
        let from = self.selected.next.max(head.base_offset);
        let to = head.end_offset().min(self.end);
        if from >= to {
            return to < self.end;
        }
        if self.records == 0 {
            return false;
        }
        let matched = if filter.may_match(&head) {
            self.walk(filter, batch, &head, from, to)
        } else {
            Matched::default()
        };
        if !matched.ranges.is_empty() && !self.take(batch, &head, &matched) {
            return false;
        }
        let next = matched.cut.unwrap_or(to);
        self.selected.passed += content_between(batch, &head, from, next);
        self.selected.next = next;
        matched.cut.is_none()
    }

    /// The records `from..to` of a batch that match.
    fn walk(&self, filter: &Filter, batch: &[u8], head: &Head, from: u64, to: u64) -> Matched {
        let mut matched = Matched::default();
        let mut left = self.records;
        let room = MAX_RANGES.saturating_sub(self.selected.ranges.len());
        for record in Records::of(batch).flatten() {
            let offset = head.base_offset.saturating_add(record.offset_delta);
            let timestamp = head.lowest_timestamp.saturating_add(record.timestamp_delta);
            if offset >= to {
                break;
            }
            if offset < from || !filter.matches(&record, timestamp) {
                continue;
            }
            if left == 0 || matched.ranges.len() >= room {
                matched.cut = Some(offset);
                break;
            }
            matched.add(offset, record.content_len());
            left -= 1;
        }
        matched
    }

    /// Takes what matches of a batch; false if there is no room for it.
    fn take(&mut self, batch: &Bytes, head: &Head, matched: &Matched) -> bool {
        let few = matched.content.saturating_mul(REBUILD_SHARE) <= head.content_bytes.into();
        let rebuilt = if few && batch.len() >= REBUILD_BYTES {
            batch::rebuild(batch, |delta| matched.holds(head.base_offset + delta))
        } else {
            None
        };
        let batch = rebuilt.map_or_else(|| batch.clone(), Into::into);
        let ranges: usize = matched.ranges.iter().map(range_len).sum();
        let len = varint::len(batch.len() as u64) + batch.len() + ranges;
        if len > self.room && !self.selected.batches.is_empty() {
            return false;
        }
        self.room = self.room.saturating_sub(len);
        for range in &matched.ranges {
            self.records -= range.to - range.from;
            match self.selected.ranges.last_mut() {
                Some(last) if last.to == range.from => last.to = range.to,
                _ => self.selected.ranges.push(range.clone()),
            }
        }
        self.selected.content += matched.content;
        self.selected.batches.push(batch);
        true
    }
}

#[cfg(test)]
mod tests;

//! What a topic keeps: the rule of its settings, and where that lets the log begin.
//!
//! Pure: time is an argument, and where a place lies is the storage's to say. It never removes
//! anything. Its neighbours: [`settings`](super::settings) takes its keys,
//! `trimming` looks the places up and trims.
//!
//! ```text
//!   start                                       end
//!     |------|--------|-------|------|-----------|     batches
//!                  |<------- retention_bytes --->|     the batch that holds this place is kept:
//!            ^ new start                               at least the limit stays, and less than a
//!                                                      batch more
//! ```
//!
//! Several limits are each enforced. `retention_until_consumed` removes what all consumers have
//! acked, and nothing while there is no consumer; the other limits hold whether it was acked or not.

use std::time::Duration;

use logdrive_protocol::operations::Setting;
use logdrive_protocol::position::parse_duration;
use logdrive_protocol::{ErrorCode, Failure};

use super::log::Mark;
use crate::storage::{At, Sum};

/// Removed is what was appended longer ago; a duration such as `7d`.
const AGE: &str = "retention_age";
/// So many bytes of keys, headers and values are kept at least.
const BYTES: &str = "retention_bytes";
/// So many records are kept at least.
const RECORDS: &str = "retention_records";
/// Removed is what every consumer has acked; `true` or `false`.
const UNTIL_CONSUMED: &str = "retention_until_consumed";

/// The settings of retention.
pub const KEYS: [&str; 4] = [AGE, BYTES, RECORDS, UNTIL_CONSUMED];

/// Records of a topic by age are looked for at most so often, as a share of that age: 1/100.
const AGE_DIVISOR: u64 = 100;
/// The shortest and the longest of these pauses, in microseconds.
const AGE_PAUSES: (u64, u64) = (1_000_000, 60_000_000);

/// What is kept of a topic; nothing is removed by the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// In microseconds.
    age: Option<u64>,
    bytes: Option<u64>,
    records: Option<u64>,
    until_consumed: bool,
}

/// What there is of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The first record that is kept.
    pub start: Mark,
    /// When that was appended, in microseconds; 0 if not known.
    pub start_time: u64,
    /// After the last visible record.
    pub end: Mark,
    /// Before this, all consumers have acked everything; `None` without a consumer.
    pub consumed: Option<Mark>,
}

/// What is to be done about retention, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// The log may begin at the last of these places.
    Now(Vec<At>),
    /// Nothing before this time, in microseconds, unless records or acks come.
    Later(u64),
    /// Nothing, unless records or acks come.
    Never,
}

impl Retention {
    /// Reads the settings of a topic; others than its own are passed over.
    ///
    /// # Errors
    /// `INVALID_CONFIG`: a value does not parse, or nothing limits what an idle consumer holds back.
    pub fn of(settings: &[Setting]) -> Result<Self, Failure> {
        let mut retention = Self::default();
        for Setting { key, value } in settings {
            let number = || value.parse().ok().filter(|number: &u64| *number > 0);
            match key.as_str() {
                AGE => {
                    let age = parse_duration(value).filter(|age| *age > 0);
                    let fix = "give a duration above zero, such as 90s, 12h or 7d";
                    retention.age = Some(age.ok_or_else(|| refused(key, value, fix))?);
                }
                BYTES | RECORDS => {
                    let fix = "give a whole number above zero; leave it out to keep all";
                    let number = Some(number().ok_or_else(|| refused(key, value, fix))?);
                    if key == BYTES {
                        retention.bytes = number;
                    } else {
                        retention.records = number;
                    }
                }
                UNTIL_CONSUMED => {
                    let fix = "give true or false";
                    let on = value.parse().map_err(|_| refused(key, value, fix))?;
                    retention.until_consumed = on;
                }
                _ => {}
            }
        }
        let limited = [retention.age, retention.bytes, retention.records];
        if retention.until_consumed && limited.iter().all(Option::is_none) {
            let message =
                format!("{UNTIL_CONSUMED} alone would let a forgotten consumer fill the disk");
            let fix = format!("give {BYTES}, {AGE} or {RECORDS} as well: the most that is kept");
            return Err(Failure::new(ErrorCode::InvalidConfig, message).hint(fix));
        }
        Ok(retention)
    }

    /// Whether it removes anything at all.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether consumers hold records back.
    pub fn is_until_consumed(&self) -> bool {
        self.until_consumed
    }

    /// What is due at `now`, in microseconds.
    pub fn due(&self, extent: &Extent, now: u64) -> Due {
        let Extent {
            start,
            end,
            consumed,
            ..
        } = *extent;
        if start.offset >= end.offset {
            return Due::Never;
        }
        let mut places = Vec::new();
        let mut later = None;
        if let Some(age) = self.age {
            later = self.age_due(extent).filter(|at| *at > now);
            if later.is_none() {
                places.push(At::Time(now.saturating_sub(age)));
            }
        }
        if let Some(bytes) = self.bytes
            && end.totals.bytes - start.totals.bytes > bytes
        {
            places.push(At::Batch(Sum::Bytes(end.totals.bytes - bytes)));
        }
        if let Some(records) = self.records
            && end.totals.records - start.totals.records > records
        {
            places.push(At::Batch(Sum::Records(end.totals.records - records)));
        }
        if let Some(consumed) = consumed.filter(|_| self.until_consumed)
            && consumed.offset > start.offset
        {
            places.push(At::Batch(Sum::Records(consumed.totals.records)));
        }
        match (places.is_empty(), later) {
            (false, _) => Due::Now(places),
            (true, Some(at)) => Due::Later(at),
            (true, None) => Due::Never,
        }
    }

    /// When the oldest record will be too old, in microseconds, where that is known.
    pub fn age_due(&self, extent: &Extent) -> Option<u64> {
        let known = extent.start_time > 0 && extent.start.offset < extent.end.offset;
        let age = self.age.filter(|_| known)?;
        Some(extent.start_time.saturating_add(age).saturating_add(1))
    }

    /// How long to wait at `now` for what is due at `at`, both in microseconds.
    ///
    /// Times are rounded up to multiples of the pause: topics with a rule in common are seen to
    /// together then, and their trims share a flush.
    pub fn wait(&self, at: u64, now: u64) -> Duration {
        let at = at
            .checked_next_multiple_of(self.pause_micros())
            .unwrap_or(at);
        Duration::from_micros(at.saturating_sub(now))
    }

    /// How long to leave a topic alone after it was looked at.
    ///
    /// Each trim is a transaction of its own topic's rows, and under load there would be one with
    /// every flush: so the limits are passed by what arrives in this time, and met after it.
    pub fn pause(&self) -> Duration {
        Duration::from_micros(self.pause_micros())
    }

    fn pause_micros(&self) -> u64 {
        let (shortest, longest) = AGE_PAUSES;
        let by_age = self
            .age
            .map(|age| (age / AGE_DIVISOR).clamp(shortest, longest));
        match (by_age, self.bytes.or(self.records), self.until_consumed) {
            (Some(pause), None, false) => pause,
            _ => shortest,
        }
    }
}

fn refused(key: &str, value: &str, fix: &str) -> Failure {
    let value: String = value
        .chars()
        .take(40)
        .flat_map(char::escape_default)
        .collect();
    Failure::new(
        ErrorCode::InvalidConfig,
        format!("{key}={value} does not fit"),
    )
    .hint(fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Totals;

    fn parsed(text: &str) -> Result<Retention, Failure> {
        let settings: Vec<Setting> = text
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
            .map(|(key, value)| Setting {
                key: format!("retention_{key}"),
                value: value.into(),
            })
            .collect();
        Retention::of(&settings)
    }

    /// A topic of 100 records and 1,000 bytes from time 50 on, `consumed` of them by all.
    fn check(rule: &str, now: u64, consumed: Option<u64>, expected: &str) {
        let mark = |records| Mark {
            offset: records,
            totals: Totals {
                records,
                bytes: records * 10,
            },
        };
        let extent = Extent {
            start: mark(10),
            start_time: 50,
            end: mark(110),
            consumed: consumed.map(mark),
        };
        let due = parsed(rule).unwrap().due(&extent, now);
        assert_eq!(format!("{due:?}"), expected, "{rule}");
    }

    #[test]
    fn each_limit_names_its_place_and_age_its_time() {
        check("", 1 << 60, None, "Never");
        check("age=2s", 1_999_999, None, "Later(2000051)");
        check("age=2s", 2_000_051, None, "Now([Time(51)])");
        check("bytes=1000", 60, None, "Never");
        check("bytes=999", 60, None, "Now([Batch(Bytes(101))])");
        check("records=7", 60, None, "Now([Batch(Records(103))])");
        check(
            "age=2s records=99 bytes=5000",
            9_000_000,
            None,
            "Now([Time(7000000), Batch(Records(11))])",
        );
    }

    #[test]
    fn what_is_not_acked_stays_up_to_the_cap() {
        let rule = "until_consumed=true records=60";
        check(rule, 60, None, "Now([Batch(Records(50))])");
        check(
            rule,
            60,
            Some(30),
            "Now([Batch(Records(50)), Batch(Records(30))])",
        );
        let rule = "until_consumed=true records=100";
        check(rule, 60, None, "Never");
        check(rule, 60, Some(10), "Never");
        check(rule, 60, Some(110), "Now([Batch(Records(110))])");
        check("until_consumed=false records=100", 60, Some(30), "Never");
    }

    #[test]
    fn contradictions_and_nonsense_are_refused_with_the_fix() {
        for (rule, refusal) in [
            ("age=0s", "retention_age=0s does not fit"),
            ("age=soon", "retention_age=soon does not fit"),
            ("bytes=0", "retention_bytes=0 does not fit"),
            ("bytes=1e9", "retention_bytes=1e9 does not fit"),
            ("records=-1", "retention_records=-1 does not fit"),
            (
                "until_consumed=yes",
                "retention_until_consumed=yes does not fit",
            ),
            (
                "until_consumed=true",
                "retention_until_consumed alone would let a forgotten consumer fill the disk",
            ),
        ] {
            let failure = parsed(rule).unwrap_err();
            assert_eq!(failure.to_string(), format!("INVALID_CONFIG {refusal}"));
            assert!(!failure.hint.is_empty(), "{rule}");
        }
    }

    #[test]
    fn what_is_due_within_a_pause_is_seen_to_together() {
        let retention = parsed("age=10m").unwrap();
        for (at, seconds) in [(1, 6), (6_000_000, 6), (6_000_001, 12), (11_999_999, 12)] {
            assert_eq!(retention.wait(at, 0), Duration::from_secs(seconds), "{at}");
        }
        assert_eq!(retention.wait(5, 50_000_000), Duration::ZERO);
    }

    #[test]
    fn long_ages_are_looked_at_seldom_and_other_limits_often() {
        for (rule, seconds) in [
            ("age=1s", 1),
            ("age=10m", 6),
            ("age=7d", 60),
            ("age=7d bytes=1", 1),
        ] {
            let pause = Duration::from_secs(seconds);
            assert_eq!(parsed(rule).unwrap().pause(), pause, "{rule}");
        }
    }
}

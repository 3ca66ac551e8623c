//! What a consumer's settings mean.
//!
//! Pure. Its neighbours: [`settings`](super::super::settings) knows which keys there are,
//! [`Consumer`](super::Consumer) keeps to what it says.

use logdrive_protocol::operations::Setting;
use logdrive_protocol::position::parse_duration;
use logdrive_protocol::{ErrorCode, Failure, name};

use crate::limits::{
    DEFAULT_MAX_LEASED, MAX_BACKOFF, MAX_BACKOFFS, MAX_LEASED, MAX_MAX_DELIVERIES,
};

/// After so many deliveries a record is given up.
pub const MAX_DELIVERIES: &str = "max_deliveries";
/// How long a record waits after a delivery that failed, one duration for each.
pub const BACKOFF: &str = "backoff";
/// Records that may be delivered and not acked.
pub const MAX_LEASED_KEY: &str = "max_leased";
/// Where records go that are given up.
pub const DEAD_LETTER_TOPIC: &str = "dead_letter_topic";
/// In which order records are given: `key` keeps that of each key.
pub const ORDER: &str = "order";

/// A consumer's settings, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// After so many deliveries a record is given up; 0 for never.
    pub max_deliveries: u32,
    /// Microseconds to wait after the first delivery that failed, the second, ...; the last one
    /// stands for all that follow.
    pub backoff: Vec<u64>,
    /// Records that may be delivered and not acked.
    pub max_leased: u64,
    /// Where records go that are given up.
    pub dead_letter_topic: Option<String>,
    /// Whether records of one key go to one worker at a time, in order.
    pub key_order: bool,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            max_deliveries: 0,
            backoff: Vec::new(),
            max_leased: DEFAULT_MAX_LEASED,
            dead_letter_topic: None,
            key_order: false,
        }
    }
}

impl ConsumerConfig {
    /// Understands settings; those that are not about this are passed over.
    ///
    /// # Errors
    /// `INVALID_CONFIG` if a value does not fit, or two contradict each other.
    pub fn of(settings: &[Setting]) -> Result<Self, Failure> {
        let mut config = Self::default();
        for Setting { key, value } in settings {
            let wrong = |fix: String| {
                let shown: String = value
                    .chars()
                    .take(40)
                    .flat_map(char::escape_default)
                    .collect();
                let failure = Failure::new(
                    ErrorCode::InvalidConfig,
                    format!("{key}={shown} does not fit"),
                );
                failure.hint(fix)
            };
            match key.as_str() {
                MAX_DELIVERIES => {
                    config.max_deliveries = number(value, 1, MAX_MAX_DELIVERIES)
                        .and_then(|it| u32::try_from(it).ok())
                        .ok_or_else(|| wrong(format!("give 1 to {MAX_MAX_DELIVERIES}")))?;
                }
                MAX_LEASED_KEY => {
                    config.max_leased = number(value, 1, MAX_LEASED)
                        .ok_or_else(|| wrong(format!("give 1 to {MAX_LEASED}")))?;
                }
                BACKOFF => {
                    config.backoff = backoff(value).ok_or_else(|| {
                        let hours = MAX_BACKOFF.as_secs() / 3600;
                        wrong(format!(
                            "give up to {MAX_BACKOFFS} durations like 1s,10s,1m, each at most {hours}h"
                        ))
                    })?;
                }
                DEAD_LETTER_TOPIC => {
                    name::check(value, ErrorCode::InvalidConfig, "dead-letter topic")?;
                    config.dead_letter_topic = Some(value.clone());
                }
                ORDER => match value.as_str() {
                    "key" => config.key_order = true,
                    "none" => config.key_order = false,
                    _ => return Err(wrong("give key, or none".to_owned())),
                },
                _ => {}
            }
        }
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Failure> {
        let contradiction =
            |what: &str, fix: &str| Err(Failure::new(ErrorCode::InvalidConfig, what).hint(fix));
        match (&self.dead_letter_topic, self.max_deliveries) {
            (Some(_), 0) => contradiction(
                "dead_letter_topic says where records go that are given up, and none ever is",
                "set max_deliveries too",
            ),
            (None, 1..) => contradiction(
                "max_deliveries gives records up, and there is no place for them",
                "set dead_letter_topic too",
            ),
            _ => Ok(()),
        }
    }

    /// Microseconds to wait after a record's `deliveries`th delivery.
    pub fn wait_after(&self, deliveries: u32) -> u64 {
        let index = (deliveries.saturating_sub(1) as usize).min(self.backoff.len().max(1) - 1);
        self.backoff.get(index).copied().unwrap_or(0)
    }

    /// Whether a record that was delivered so often is given up.
    pub fn is_too_many(&self, deliveries: u32) -> bool {
        self.max_deliveries > 0 && deliveries >= self.max_deliveries
    }
}

fn number(text: &str, least: u64, most: u64) -> Option<u64> {
    let number = text.parse().ok()?;
    (least..=most).contains(&number).then_some(number)
}

fn backoff(text: &str) -> Option<Vec<u64>> {
    let most = u64::try_from(MAX_BACKOFF.as_micros()).ok()?;
    let waits: Option<Vec<u64>> = text
        .split(',')
        .map(|it| parse_duration(it.trim()).filter(|wait| *wait <= most))
        .collect();
    waits.filter(|waits| waits.len() <= MAX_BACKOFFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: &[(&str, &str)], expected: &str) {
        let settings: Vec<_> = settings
            .iter()
            .map(|(key, value)| Setting {
                key: (*key).into(),
                value: (*value).into(),
            })
            .collect();
        let got = match ConsumerConfig::of(&settings) {
            Ok(it) => format!(
                "{} {:?} {} {:?} {}",
                it.max_deliveries, it.backoff, it.max_leased, it.dead_letter_topic, it.key_order
            ),
            Err(failure) => format!("{failure}; {}", failure.hint),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn settings_fit_and_do_not_contradict_each_other() {
        check(&[("description", "x")], "0 [] 10000 None false");
        check(
            &[
                ("max_deliveries", "3"),
                ("dead_letter_topic", "dead"),
                ("backoff", "1s, 10s"),
                ("order", "key"),
                ("max_leased", "7"),
            ],
            "3 [1000000, 10000000] 7 Some(\"dead\") true",
        );
        check(
            &[("max_deliveries", "3")],
            "INVALID_CONFIG max_deliveries gives records up, and there is no place for them; \
             set dead_letter_topic too",
        );
        check(
            &[("dead_letter_topic", "dead")],
            "INVALID_CONFIG dead_letter_topic says where records go that are given up, and none \
             ever is; set max_deliveries too",
        );
        check(
            &[("max_leased", "0")],
            "INVALID_CONFIG max_leased=0 does not fit; give 1 to 100000",
        );
        check(
            &[("backoff", "1s,soon")],
            "INVALID_CONFIG backoff=1s,soon does not fit; give up to 16 durations like 1s,10s,1m, \
             each at most 24h",
        );
        check(
            &[("order", "offset")],
            "INVALID_CONFIG order=offset does not fit; give key, or none",
        );
    }

    #[test]
    fn the_last_wait_stands_for_all_that_follow() {
        let config = ConsumerConfig {
            backoff: vec![1, 5],
            ..ConsumerConfig::default()
        };
        let waits = [1, 2, 3, 99].map(|deliveries| config.wait_after(deliveries));
        assert_eq!(waits, [1, 5, 5, 5]);
        assert_eq!(ConsumerConfig::default().wait_after(3), 0);
    }
}

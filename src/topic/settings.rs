//! Settings of topics and consumers: which there are, and what values they take.

use logdrive_protocol::limits::{MAX_RECORD_BYTES, MAX_SETTING_BYTES, MAX_SETTINGS};
use logdrive_protocol::operations::Setting;
use logdrive_protocol::{ErrorCode, Failure};

use super::consumer::config::{
    BACKOFF, ConsumerConfig, DEAD_LETTER_TOPIC, MAX_DELIVERIES, MAX_LEASED_KEY, ORDER,
};
use super::filter::Filter;
use super::retention::{self, Retention};

/// A text for people; on topics and consumers.
const DESCRIPTION: &str = "description";
/// Largest record that the topic takes, in bytes; on topics.
const MAX_RECORD: &str = "max_record_bytes";

/// Settings of a topic, checked and in the order of their keys.
pub fn of_topic(settings: &[Setting]) -> Result<Vec<Setting>, Failure> {
    let settings = check(settings, &topic_keys())?;
    Retention::of(&settings)?;
    Ok(settings)
}

fn topic_keys() -> [&'static str; 6] {
    let [age, bytes, records, until_consumed] = retention::KEYS;
    [DESCRIPTION, MAX_RECORD, age, bytes, records, until_consumed]
}

/// Settings of a topic after a change of some of them, checked and in the order of their keys.
///
/// # Errors
/// `INVALID_CONFIG`: also where one is set and unset, or unset without being known.
pub fn altered(
    before: &[Setting],
    set: &[Setting],
    unset: &[String],
) -> Result<Vec<Setting>, Failure> {
    check_unset(set, unset, |key| topic_keys().contains(&key))?;
    of_topic(&merged(before, set, unset))
}

/// The settings that a consumer has besides filters.
const CONSUMER_KEYS: [&str; 6] = [
    BACKOFF,
    DEAD_LETTER_TOPIC,
    DESCRIPTION,
    MAX_DELIVERIES,
    MAX_LEASED_KEY,
    ORDER,
];

/// Settings of a consumer, checked and in the order of their keys; filters are among them.
pub fn of_consumer(settings: &[Setting]) -> Result<Vec<Setting>, Failure> {
    let is_filter = |setting: &Setting| Filter::is_key(&setting.key);
    let (filters, others): (Vec<_>, Vec<_>) = settings.iter().cloned().partition(is_filter);
    Filter::parse(&filters)?;
    let mut sorted = check(&others, &CONSUMER_KEYS)?;
    ConsumerConfig::of(&sorted)?;
    sorted.extend(filters);
    sorted.sort_by(|a, b| (&a.key, &a.value).cmp(&(&b.key, &b.value)));
    check_count(&sorted)?;
    Ok(sorted)
}

/// A consumer whose own records were its dead letters would deliver them again and again.
///
/// # Errors
/// `INVALID_CONFIG`.
pub fn check_dead_letters(settings: &[Setting], topic: &str) -> Result<(), Failure> {
    let is_own = |it: &Setting| it.key == DEAD_LETTER_TOPIC && it.value == topic;
    if settings.iter().any(is_own) {
        let message = format!("{DEAD_LETTER_TOPIC} is the consumer's own topic");
        return Err(refused(message).hint("name another one"));
    }
    Ok(())
}

/// Settings of a consumer after a change of some of them, checked and in the order of their keys.
///
/// # Errors
/// As [`altered`]; also where its order or its filters would change.
pub fn altered_consumer(
    before: &[Setting],
    set: &[Setting],
    unset: &[String],
) -> Result<Vec<Setting>, Failure> {
    let is_known = |key: &str| CONSUMER_KEYS.contains(&key) || Filter::is_key(key);
    check_unset(set, unset, is_known)?;
    let settings = of_consumer(&merged(before, set, unset))?;
    check_fixed(before, &settings)?;
    Ok(settings)
}

fn check_unset(
    set: &[Setting],
    unset: &[String],
    is_known: impl Fn(&str) -> bool,
) -> Result<(), Failure> {
    let refused = |message: String| Failure::new(ErrorCode::InvalidConfig, message);
    for key in unset {
        let shown = printable(key);
        if !is_known(key) {
            return Err(refused(format!("there is no setting {shown}")));
        }
        if set.iter().any(|setting| setting.key == *key) {
            let message = format!("the setting {shown} is both set and unset");
            return Err(refused(message).hint("name it once"));
        }
    }
    Ok(())
}

/// Settings with some set anew and some back at their defaults.
fn merged(settings: &[Setting], set: &[Setting], unset: &[String]) -> Vec<Setting> {
    let named = |key: &String| unset.contains(key) || set.iter().any(|it| it.key == *key);
    let stay = settings.iter().filter(|it| !named(&it.key));
    stay.chain(set).cloned().collect()
}

/// What a consumer has chosen once decides what its cursor has passed: it stays.
fn check_fixed(before: &[Setting], after: &[Setting]) -> Result<(), Failure> {
    let fixed = |settings: &[Setting]| -> Vec<Setting> {
        let is_fixed = |it: &&Setting| it.key == ORDER || Filter::is_key(&it.key);
        settings.iter().filter(is_fixed).cloned().collect()
    };
    if fixed(before) != fixed(after) {
        let what = "order and filters of a consumer are chosen when it is registered";
        return Err(Failure::new(ErrorCode::InvalidConfig, what)
            .hint("register another consumer, and seek it to where this one is"));
    }
    Ok(())
}

/// Largest record that a topic with these settings takes, in bytes.
pub fn max_record_bytes(settings: &[Setting]) -> u32 {
    settings
        .iter()
        .find(|setting| setting.key == MAX_RECORD)
        .and_then(|setting| setting.value.parse().ok())
        .unwrap_or(MAX_RECORD_BYTES)
}

fn refused(message: String) -> Failure {
    Failure::new(ErrorCode::InvalidConfig, message)
}

fn check_count(settings: &[Setting]) -> Result<(), Failure> {
    match settings.len() {
        0..=MAX_SETTINGS => Ok(()),
        count => Err(refused(format!(
            "{count} settings are more than {MAX_SETTINGS}"
        ))),
    }
}

fn check(settings: &[Setting], known: &[&str]) -> Result<Vec<Setting>, Failure> {
    check_count(settings)?;
    let mut sorted = settings.to_vec();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    for pair in sorted.windows(2) {
        if pair[0].key == pair[1].key {
            return Err(refused(format!(
                "the setting {} is given twice",
                printable(&pair[0].key)
            )));
        }
    }
    for Setting { key, value } in &sorted {
        if !known.contains(&key.as_str()) {
            return Err(refused(format!("there is no setting {}", printable(key)))
                .hint(format!("the settings are {}", known.join(", "))));
        }
        if value.len() > MAX_SETTING_BYTES {
            return Err(refused(format!(
                "{key} is longer than {MAX_SETTING_BYTES} bytes"
            )));
        }
        let fits = |bytes: &u32| (1..=MAX_RECORD_BYTES).contains(bytes);
        if key == MAX_RECORD && !value.parse().is_ok_and(|bytes| fits(&bytes)) {
            return Err(refused(format!("{key}={} does not fit", printable(value)))
                .hint(format!("give bytes from 1 to {MAX_RECORD_BYTES}")));
        }
    }
    Ok(sorted)
}

fn printable(text: &str) -> String {
    text.chars()
        .take(40)
        .flat_map(char::escape_default)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(settings: &[(&str, &str)]) -> Vec<Setting> {
        let setting = |(key, value): &(&str, &str)| Setting {
            key: (*key).into(),
            value: (*value).into(),
        };
        settings.iter().map(setting).collect()
    }

    #[test]
    fn a_consumer_takes_filters_among_its_settings_and_their_order_does_not_matter() {
        let given = [
            ("severity", "warn"),
            ("header.host", "b"),
            ("header.host", "a"),
        ];
        let mut turned = given;
        turned.reverse();
        let checked = of_consumer(&settings(&given)).unwrap();
        assert_eq!(of_consumer(&settings(&turned)).unwrap(), checked);
        let keys: Vec<&str> = checked.iter().map(|it| it.value.as_str()).collect();
        assert_eq!(keys, ["a", "b", "warn"]);
        for (bad, code) in [
            (("severity", "loud"), ErrorCode::InvalidFilter),
            (("color", "red"), ErrorCode::InvalidConfig),
        ] {
            let failure = of_consumer(&settings(&[bad])).unwrap_err();
            assert_eq!(failure.code, code, "{bad:?}");
        }
    }

    fn refusal(given: &[(&str, &str)], expected: &str) {
        let got = match of_topic(&settings(given)) {
            Ok(settings) => format!("{} settings", settings.len()),
            Err(failure) => failure.to_string(),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn settings_are_known_fit_and_stand_once() {
        refusal(
            &[("max_record_bytes", "100"), ("description", "x")],
            "2 settings",
        );
        refusal(
            &[("color", "red")],
            "INVALID_CONFIG there is no setting color",
        );
        refusal(
            &[("max_record_bytes", "0")],
            "INVALID_CONFIG max_record_bytes=0 does not fit",
        );
        refusal(
            &[("max_record_bytes", "9e9")],
            "INVALID_CONFIG max_record_bytes=9e9 does not fit",
        );
        refusal(
            &[("description", "a"), ("description", "b")],
            "INVALID_CONFIG the setting description is given twice",
        );
    }
}

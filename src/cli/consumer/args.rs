//! What can be typed behind `logdrive consumer`.

use clap::Subcommand;
use logdrive_client::Setting;
use logdrive_protocol::Position;

use crate::cli::args::POSITIONS;

const SETTINGS: &str = "\
Settings: max_deliveries=5 | backoff=1s,10s,1m | max_leased=1000 | dead_letter_topic=NAME | order=key
| severity=warn | header.NAME=VALUE | grep=REGEX | since=T | until=T
Order and filters are chosen when a consumer is created.";

/// What can be done to consumers.
#[derive(Debug, Subcommand)]
pub(crate) enum Consumer {
    /// Creates a consumer; one of that name is an error.
    #[command(after_help = SETTINGS)]
    Create {
        /// The topic.
        topic: String,
        /// 1 to 128 of A-Z a-z 0-9 . _ - and no dot at the start.
        name: String,
        /// Where it begins: as of `consumer seek`.
        #[arg(
            long,
            value_name = "W",
            default_value = "earliest",
            allow_hyphen_values = true
        )]
        from: Position,
        /// A setting other than its default; repeatable.
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
        settings: Vec<Setting>,
    },
    /// Lists the consumers of a topic; `-o raw` prints names alone.
    List {
        /// The topic.
        topic: String,
    },
    /// Shows a consumer, its settings, its leases, and what is in its way.
    Describe {
        /// The topic.
        topic: String,
        /// The consumer.
        name: String,
    },
    /// Changes a consumer's settings.
    #[command(after_help = SETTINGS)]
    Alter {
        /// The topic.
        topic: String,
        /// The consumer.
        name: String,
        /// Settings; `KEY=` goes back to the default.
        #[arg(value_name = "KEY=VALUE", required = true, value_parser = setting)]
        settings: Vec<Setting>,
    },
    /// Moves a consumer's cursor.
    #[command(after_help = POSITIONS)]
    Seek {
        /// The topic.
        topic: String,
        /// The consumer; it is not created.
        name: String,
        /// Where to.
        #[arg(value_name = "W", allow_hyphen_values = true)]
        to: Position,
    },
    /// Lets a consumer give no records; leases and acks go on.
    Pause {
        /// The topic.
        topic: String,
        /// The consumer.
        name: String,
    },
    /// Lets a consumer give records again.
    Resume {
        /// The topic.
        topic: String,
        /// The consumer.
        name: String,
    },
    /// Delivers records again that a consumer gave up, to that consumer alone.
    Requeue {
        /// The topic that they came from.
        topic: String,
        /// The consumer.
        name: String,
        /// The topic that holds the dead letters.
        #[arg(long, value_name = "TOPIC")]
        from: String,
        /// Offsets there: A, or A..B without B; repeatable [default: all of this consumer].
        #[arg(long = "offset", value_name = "A..B", value_parser = offsets)]
        offsets: Vec<(u64, u64)>,
    },
    /// Removes a consumer and its cursor.
    #[command(name = "delete", alias = "unregister")]
    Delete {
        /// The topic.
        topic: String,
        /// The consumer.
        name: String,
        /// Does it; without this the command says what would go, and changes nothing.
        #[arg(long)]
        yes: bool,
    },
}

fn setting(text: &str) -> Result<Setting, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(Setting {
            key: key.to_owned(),
            value: value.to_owned(),
        }),
        _ => Err("a setting is KEY=VALUE, such as max_deliveries=5".to_owned()),
    }
}

fn offsets(text: &str) -> Result<(u64, u64), String> {
    let parsed = match text.split_once("..") {
        Some((from, to)) => from.parse().ok().zip(to.parse().ok()),
        None => text
            .parse()
            .ok()
            .and_then(|offset: u64| Some((offset, offset.checked_add(1)?))),
    };
    parsed
        .filter(|(from, to)| from < to)
        .ok_or_else(|| "offsets are A, or A..B with A below B".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_one_or_a_range_without_its_end() {
        assert_eq!(offsets("5"), Ok((5, 6)));
        assert_eq!(offsets("5..9"), Ok((5, 9)));
        for wrong in ["", "5..5", "9..5", "-5", "18446744073709551615", "a..b"] {
            assert!(offsets(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_setting_has_a_key_and_its_value_may_be_empty() {
        let key_and_value = |text| setting(text).map(|it| (it.key, it.value));
        assert_eq!(key_and_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(key_and_value("order="), Ok(("order".into(), String::new())));
        assert!(setting("=x").is_err());
        assert!(setting("x").is_err());
    }
}

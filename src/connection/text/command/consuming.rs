//! The words of consumers: registering and altering them, taking, settling, delivering again.
//!
//! Its neighbour: [`Command`](super::Command), which knows every other verb.

use logdrive_protocol::operations::{
    Ack, AlterConsumer, Consume, Extend, Nack, Offsets, RegisterConsumer, RegisterProducer,
    Request, Settled,
};
use logdrive_protocol::position::parse_duration;
use logdrive_protocol::{ConsumerId, ErrorCode, Failure, Position, TopicId, WorkerId};

use super::{Command, Limits, Rest, Words, position, setting, settings, shown};

/// What to do with a lease; offsets from and to.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Lease {
    Ack(u64, Offsets),
    Nack(u64, Offsets, u32),
    Extend(u64, u32),
}

/// What to change of a consumer.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Alteration {
    /// Settings; an empty value is the default.
    Settings(Vec<(String, String)>),
    Pause,
    Resume,
}

/// Takes records as nobody: a session keeps no worker.
pub(super) fn consume(
    topic: TopicId,
    consumer: ConsumerId,
    limits: Limits,
    lease_ms: u32,
) -> Consume {
    Consume {
        topic,
        consumer,
        max_records: limits.records,
        max_wait_ms: limits.wait_ms,
        lease_ms,
        ..Consume::default()
    }
}

impl Lease {
    pub(super) fn request(self, topic: TopicId, consumer: ConsumerId) -> Request {
        let worker = WorkerId::NONE;
        let settled = |lease, Offsets { from, to }| vec![Settled { lease, from, to }];
        match self {
            Self::Ack(lease, offsets) => Ack {
                topic,
                consumer,
                worker,
                settled: settled(lease, offsets),
            }
            .into(),
            Self::Nack(lease, offsets, delay_ms) => Nack {
                topic,
                consumer,
                worker,
                settled: settled(lease, offsets),
                delay_ms,
            }
            .into(),
            Self::Extend(lease, lease_ms) => Extend {
                topic,
                consumer,
                worker,
                lease,
                lease_ms,
            }
            .into(),
        }
    }
}

impl Alteration {
    pub(super) fn request(self, topic: TopicId, consumer: ConsumerId) -> Request {
        let mut alter = AlterConsumer {
            topic,
            consumer,
            ..AlterConsumer::default()
        };
        match self {
            Self::Pause => alter.pause = 1,
            Self::Resume => alter.pause = 2,
            Self::Settings(settings) => {
                for (key, value) in settings {
                    if value.is_empty() {
                        alter.unset.push(key);
                    } else {
                        alter.set.push(setting(&key, &value));
                    }
                }
            }
        }
        alter.into()
    }
}

/// Whether a word is a setting; a topic may have any name, and is altered by those alone.
fn is_setting(word: Option<&str>) -> bool {
    word.is_none_or(|word| word.contains('='))
}

impl<'a> Command<'a> {
    /// REGISTER and ALTER: an expression is the rest of the line, since it may hold spaces.
    pub(super) fn parse_settings(verb: &'static str, rest: &'a str) -> Result<Self, Failure> {
        let (rest, grep) = match rest.split_once(" grep=") {
            Some((before, grep)) => (before, Some(grep)),
            None => (rest, None),
        };
        let words = &mut Words {
            verb,
            words: rest.split_ascii_whitespace(),
        };
        let grep = grep.map(|grep| setting("grep", grep));
        let kind = words.word("kind of thing")?;
        if verb == "REGISTER" && kind.eq_ignore_ascii_case("producer") {
            let request = RegisterProducer {
                topic: words.word("topic")?.to_owned(),
                instance: fastrand::u64(1..),
                create_topic: true,
                ..RegisterProducer::default()
            };
            return match grep {
                None => words.end().map(|()| Self::Plain(request.into())),
                Some(_) => Err(words.wrong("a producer has no filter")),
            };
        }
        if !kind.eq_ignore_ascii_case("consumer") {
            let names_principal =
                kind.eq_ignore_ascii_case("principal") && !is_setting(words.words.clone().next());
            if verb == "ALTER" && names_principal {
                return Self::parse_alter_principal(words);
            }
            if verb == "ALTER" && grep.is_none() {
                let (unset, set): (Vec<_>, Vec<_>) = settings(words)?
                    .into_iter()
                    .partition(|it| it.value.is_empty());
                let unset = unset.into_iter().map(|it| it.key).collect();
                return Ok(Self::OnTopic(kind, Rest::AlterTopic(set, unset)));
            }
            return Err(words.wrong(format!("\"{}\" cannot be registered", shown(kind))));
        }
        let (topic, name) = (words.word("topic")?, words.word("name")?);
        if verb == "ALTER" {
            let settings = settings(words)?.into_iter().chain(grep);
            let settings: Vec<_> = settings.map(|it| (it.key, it.value)).collect();
            if settings.is_empty() {
                return Err(words.wrong("nothing is to be altered"));
            }
            let alter = Rest::Alter(Alteration::Settings(settings));
            return Ok(Self::OnConsumer(topic, name, alter));
        }
        let mut from = Position::Earliest;
        let mut settings: Vec<_> = settings(words)?.into_iter().chain(grep).collect();
        if settings.first().is_some_and(|first| first.key == "from") {
            from = position(&settings.remove(0).value)?;
        }
        let request = RegisterConsumer {
            topic: topic.to_owned(),
            name: name.to_owned(),
            from,
            settings,
            create: true,
        };
        Ok(Self::Plain(request.into()))
    }

    /// What takes from a consumer, settles what was leased, or changes it; its name is known.
    pub(super) fn parse_consuming(
        words: &mut Words<'a>,
        topic: &'a str,
        consumer: &'a str,
    ) -> Result<Self, Failure> {
        let rest = match words.verb {
            "ACK" => Rest::Settle(Lease::Ack(words.lease()?, words.offsets(true)?)),
            "NACK" => {
                let (lease, offsets) = (words.lease()?, words.offsets(true)?);
                let delay = match words.words.next() {
                    None => 0,
                    Some(word) => match word.strip_prefix("delay=") {
                        Some(delay) => words.millis("delay", delay)?,
                        None => return Err(words.no_option(word)),
                    },
                };
                Rest::Settle(Lease::Nack(lease, offsets, delay))
            }
            "EXTEND" => {
                let (lease, lasts) = (words.lease()?, words.word("duration")?);
                Rest::Settle(Lease::Extend(lease, words.lasts(lasts)?))
            }
            "REQUEUE" => {
                let dead_letters = words.word("dead-letter topic")?;
                let offsets = words.offsets(false)?;
                return Ok(Self::Requeue(topic, consumer, dead_letters, offsets));
            }
            "PAUSE" => Rest::Alter(Alteration::Pause),
            "RESUME" => Rest::Alter(Alteration::Resume),
            _ => {
                let (limits, others) = words.limits_and(1)?;
                let mut lease_ms = 0;
                for word in others {
                    let lasts = word.strip_prefix("lease=");
                    if lasts.is_some() && lease_ms > 0 {
                        return Err(words.twice("lease"));
                    }
                    lease_ms = words.lasts(lasts.ok_or_else(|| words.no_option(word))?)?;
                }
                Rest::Consume(limits, lease_ms)
            }
        };
        Ok(Self::OnConsumer(topic, consumer, rest))
    }
}

impl Words<'_> {
    fn lease(&mut self) -> Result<u64, Failure> {
        let word = self.word("lease")?;
        let lease = word.parse();
        lease.map_err(|_| self.wrong("a lease is the number that CONSUME has answered"))
    }

    fn millis(&self, what: &str, word: &str) -> Result<u32, Failure> {
        let millis = parse_duration(word).and_then(|micros| u32::try_from(micros / 1000).ok());
        millis.ok_or_else(|| self.wrong(format!("{what} is a duration like 5s or 1m30s")))
    }

    /// How long a lease lasts: none is not the same as no lease.
    fn lasts(&self, word: &str) -> Result<u32, Failure> {
        match self.millis("a lease", word)? {
            0 => Err(Failure::new(
                ErrorCode::InvalidLease,
                "a lease lasts at least 1ms",
            )),
            lasts => Ok(lasts),
        }
    }

    /// `5`, `5-9` and, where all before it can be meant, `-9`; the last offset is one of them.
    fn offsets(&mut self, up_to: bool) -> Result<Offsets, Failure> {
        let word = self.word("offset")?;
        let parsed = match word.split_once('-') {
            None => word.parse().ok().map(|offset| (offset, offset)),
            Some(("", last)) if up_to => last.parse().ok().map(|last| (0, last)),
            Some((first, last)) => first.parse().ok().zip(last.parse().ok()),
        };
        let offsets = parsed.filter(|(first, last)| first <= last);
        let offsets = offsets.and_then(|(from, last): (u64, u64)| {
            let to = last.checked_add(1)?;
            Some(Offsets { from, to })
        });
        offsets.ok_or_else(|| self.wrong(format!("\"{}\" is no offset or range", shown(word))))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Command;

    fn check(line: &str, expected: &str) {
        let got = match Command::parse(line.as_bytes()) {
            Ok(command) => format!("{command:?}"),
            Err(failure) => format!("{} {}", failure.code, failure.message),
        };
        assert!(
            got.contains(expected),
            "{line}\n got: {got}\nwant: {expected}"
        );
    }

    #[test]
    fn leased_records_are_named_by_their_lease_and_offsets() {
        check(
            "CONSUME t c n=5 lease=30s",
            "records: 5, wait_ms: 0 }, 30000)",
        );
        check("ack t c 7 5", "Ack(7, Offsets { from: 5, to: 6 })");
        check("ACK t c 7 5-9", "Ack(7, Offsets { from: 5, to: 10 })");
        check("ACK t c 7 -9", "Ack(7, Offsets { from: 0, to: 10 })");
        check("NACK t c 7 5", "Nack(7, Offsets { from: 5, to: 6 }, 0)");
        check(
            "NACK t c 7 -5 delay=2s",
            "Nack(7, Offsets { from: 0, to: 6 }, 2000)",
        );
        check("EXTEND t c 7 1m", "Extend(7, 60000)");
        check(
            "REQUEUE t c dead 3-4",
            "Requeue(\"t\", \"c\", \"dead\", Offsets { from: 3, to: 5 })",
        );
    }

    #[test]
    fn what_names_no_lease_no_offset_or_no_time_is_refused() {
        check("ACK t c 7", "SYNTAX ACK needs an offset");
        check("ACK t c seven 5", "SYNTAX a lease is the number");
        check("ACK t c 7 9-5", "SYNTAX \"9-5\" is no offset or range");
        check("ACK t c 7 18446744073709551615", "is no offset or range");
        check("ACK t c 7 5 6", "SYNTAX \"6\" is one word too many");
        check("NACK t c 7 5 later", "SYNTAX \"later\" is no option");
        check("REQUEUE t c dead -4", "SYNTAX \"-4\" is no offset or range");
        check(
            "CONSUME t c lease=0s",
            "INVALID_LEASE a lease lasts at least 1ms",
        );
        for line in ["n=1 n=2", "wait=1s wait=1s", "lease=1s lease=2s"] {
            check(&format!("CONSUME t c {line}"), "is given twice");
        }
        check("CONSUME t c lease=long", "SYNTAX a lease is a duration");
        check("EXTEND t c 7 0s", "INVALID_LEASE");
    }

    #[test]
    fn a_consumer_is_registered_and_altered_with_settings() {
        check(
            "REGISTER CONSUMER t c from=-5 max_deliveries=3 grep=timed out",
            "from: Last(5), settings: [Setting { key: \"max_deliveries\", value: \"3\" }, \
             Setting { key: \"grep\", value: \"timed out\" }]",
        );
        check("register consumer t c", "from: Earliest, settings: []");
        check("REGISTER PRODUCER t", "RegisterProducer");
        check("REGISTER PRODUCER t x", "SYNTAX \"x\" is one word too many");
        check(
            "REGISTER CONSUMER t c later",
            "SYNTAX \"later\" is not key=value",
        );
        check(
            "ALTER CONSUMER t c backoff=1s,10s order=",
            "Settings([(\"backoff\", \"1s,10s\"), (\"order\", \"\")])",
        );
        check("ALTER CONSUMER t c", "SYNTAX nothing is to be altered");
        check("PAUSE t c", "Alter(Pause)");
        check("RESUME t c", "Alter(Resume)");
        check("DESCRIBE t", "DescribeTopic");
        check("DESCRIBE t c", "DescribeConsumer(\"t\", \"c\")");
    }
}

//! Parsing: a line becomes a command, or an error that names the fix.

mod consuming;
mod fetching;
mod principal;
mod valued;

use logdrive_protocol::limits::MAX_LIST;
use logdrive_protocol::operations::{
    AlterTopic, CreateTopic, DeleteTopic, DescribeTopic, Fetch, Hello, ListTopics, Offsets, Ping,
    PurgeTopic, Request, Seek, Setting, Size, Stats, UnregisterConsumer, UnregisterWorker,
};
use logdrive_protocol::position::parse_duration;
use logdrive_protocol::{ConsumerId, ErrorCode, Failure, Position, TopicId, WorkerId};

use self::consuming::{Alteration, Lease};
pub(super) use self::principal::{Credential, Hidden};
pub(super) use self::valued::When;
use super::verbs::VERBS;
use crate::limits::MAX_TEXT_RECORDS;
use crate::suggest;

/// One line, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// An empty line.
    Nothing,
    Help(Option<&'a str>),
    Quit,
    Frames(bool),
    /// A request that needs nothing looked up.
    Plain(Request),
    List(ListTopics),
    Metadata(Vec<String>),
    /// A request that needs the topic's id.
    OnTopic(&'a str, Rest),
    /// A request that needs the ids of a topic and a consumer.
    OnConsumer(&'a str, &'a str, Rest),
    /// A consumer in full, page by page.
    DescribeConsumer(&'a str, &'a str),
    /// Dead letters to deliver again: topic, consumer, and where they are.
    Requeue(&'a str, &'a str, &'a str, Offsets),
    /// A record: the topic and the rest of the line.
    Produce(&'a str, &'a [u8]),
    /// The same for several topics, whose names have commas between them.
    ProduceAll(&'a str, &'a [u8]),
    /// A record that waits for its time.
    Schedule(&'a str, When, &'a [u8]),
    /// What somebody logs in with.
    LogIn(Credential<'a>),
    /// A principal's new password.
    SetPassword(&'a str, Hidden<'a>),
    /// Principals whose names match.
    Principals(&'a str),
}

/// What is to be done once ids are known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Delete,
    Purge(Position),
    AlterTopic(Vec<Setting>, Vec<String>),
    Fetch(Position, Limits, Vec<Setting>),
    Consume(Limits, u32),
    Settle(Lease),
    Alter(Alteration),
    Seek(Position),
    Size,
    UnregisterConsumer,
    UnregisterWorker(WorkerId),
    UnregisterProducer,
}

/// `n=` and `wait=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    records: u32,
    wait_ms: u32,
}

impl Rest {
    /// The request, with the ids that were looked up.
    pub(super) fn request(self, topic: TopicId, consumer: ConsumerId) -> Request {
        match self {
            Self::Delete => DeleteTopic { topic }.into(),
            Self::Purge(before) => PurgeTopic { topic, before }.into(),
            Self::AlterTopic(set, unset) => AlterTopic { topic, set, unset }.into(),
            Self::Fetch(from, Limits { records, wait_ms }, filter) => Fetch {
                topic,
                from,
                max_records: records,
                max_wait_ms: wait_ms,
                filter,
                ..Fetch::default()
            }
            .into(),
            Self::Consume(limits, lease_ms) => {
                consuming::consume(topic, consumer, limits, lease_ms).into()
            }
            Self::Settle(lease) => lease.request(topic, consumer),
            Self::Alter(alteration) => alteration.request(topic, consumer),
            Self::Seek(to) => Seek {
                topic,
                consumer,
                to,
            }
            .into(),
            Self::Size => Size { topic, consumer }.into(),
            Self::UnregisterConsumer => UnregisterConsumer { topic, consumer }.into(),
            Self::UnregisterWorker(worker) => UnregisterWorker {
                topic,
                consumer,
                worker,
            }
            .into(),
            // Answered by the session, which alone knows the producer.
            Self::UnregisterProducer => Ping {}.into(),
        }
    }
}

/// The words of a line; the verb is known.
struct Words<'a> {
    verb: &'static str,
    words: std::str::SplitAsciiWhitespace<'a>,
}

fn setting(key: &str, value: &str) -> Setting {
    Setting {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

impl<'a> Words<'a> {
    /// The words that say it twice: `CONFIRM topic`.
    fn confirm(&mut self, topic: &str, what: &str, verb: &str) -> Result<(), Failure> {
        let word = self.words.next().unwrap_or_default();
        if word.eq_ignore_ascii_case("confirm") && self.words.next() == Some(topic) {
            return Ok(());
        }
        let position = if verb == "PURGE" { " W" } else { "" };
        Err(
            Failure::new(ErrorCode::Syntax, format!("{what}: say it twice")).hint(format!(
                "try: {verb} {}{position} CONFIRM {0}",
                shown(topic)
            )),
        )
    }

    fn usage(&self) -> String {
        let words = VERBS
            .iter()
            .find(|(verb, ..)| *verb == self.verb)
            .map_or("", |it| it.1);
        format!("{} {words}", self.verb).trim_end().to_owned()
    }

    fn wrong(&self, what: impl Into<String>) -> Failure {
        Failure::new(ErrorCode::Syntax, what).hint(format!("try: {}", self.usage()))
    }

    fn word(&mut self, what: &str) -> Result<&'a str, Failure> {
        self.words
            .next()
            .ok_or_else(|| self.wrong(format!("{} needs {} {what}", self.verb, article(what))))
    }

    fn end(&mut self) -> Result<(), Failure> {
        match self.words.next() {
            None => Ok(()),
            Some(word) => Err(self.wrong(format!("\"{}\" is one word too many", shown(word)))),
        }
    }

    fn position(&mut self) -> Result<Position, Failure> {
        let word = self.word("position")?;
        position(word)
    }

    fn no_option(&self, word: &str) -> Failure {
        self.wrong(format!("\"{}\" is no option", shown(word)))
    }

    fn twice(&self, option: &str) -> Failure {
        self.wrong(format!("{option} is given twice"))
    }

    /// The limits, and the words that are none.
    fn limits_and(&mut self, records: u32) -> Result<(Limits, Vec<&'a str>), Failure> {
        let mut limits = Limits {
            records,
            wait_ms: 0,
        };
        let (mut others, mut given) = (Vec::new(), Vec::new());
        while let Some(word) = self.words.next() {
            if let Some((name @ ("n" | "wait"), _)) = word.split_once('=') {
                if given.contains(&name) {
                    return Err(self.twice(name));
                }
                given.push(name);
            }
            let value = |name: &str| word.strip_prefix(name).and_then(|it| it.strip_prefix('='));
            if let Some(count) = value("n") {
                let fits = |count: &u32| (1..=MAX_TEXT_RECORDS).contains(count);
                limits.records = count
                    .parse()
                    .ok()
                    .filter(fits)
                    .ok_or_else(|| self.wrong(format!("n is 1 to {MAX_TEXT_RECORDS}")))?;
            } else if let Some(wait) = value("wait") {
                limits.wait_ms = parse_duration(wait)
                    .and_then(|micros| u32::try_from(micros / 1000).ok())
                    .ok_or_else(|| self.wrong("wait is a duration like 5s or 1m30s"))?;
            } else {
                others.push(word);
            }
        }
        Ok((limits, others))
    }
}

fn article(what: &str) -> &'static str {
    if what.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

fn shown(word: &str) -> String {
    word.chars()
        .take(40)
        .flat_map(char::escape_default)
        .collect()
}

fn position(word: &str) -> Result<Position, Failure> {
    word.parse()
        .map_err(|error| Failure::new(ErrorCode::InvalidPosition, format!("{error}")))
}

/// The first word and what follows it, without the spaces between.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.trim_ascii_start();
    let end = line
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(line.len());
    line.split_at(end)
}

/// Whether the line is one of an HTTP request, which must not be taken for a command, nor what comes
/// behind it: its first line, or the header that every browser sends before a body.
///
/// Pages may choose the method, and servers between the rest, so neither has to be one of HTTP's; only
/// a record's value may look like anything.
pub(super) fn is_http(line: &[u8]) -> bool {
    let (method, rest) = split(line);
    let begins = |word: &[u8], with: &[u8]| {
        let beginning = word.get(..with.len());
        beginning.is_some_and(|it| it.eq_ignore_ascii_case(with))
    };
    if begins(method, b"host:") {
        return true;
    }
    let is = |verb: &str| method.eq_ignore_ascii_case(verb.as_bytes());
    let (target, version) = (split(rest).0, last_word(rest));
    begins(version, b"http/")
        && (target.starts_with(b"/") || target.starts_with(b"*") || target.contains(&b':'))
        && !(is("PRODUCE") || is("ENQUEUE"))
}

fn last_word(line: &[u8]) -> &[u8] {
    let mut words = line.trim_ascii_end().rsplit(u8::is_ascii_whitespace);
    words.next().unwrap_or_default()
}

impl<'a> Command<'a> {
    /// Understands a line without its end.
    ///
    /// # Errors
    /// `UNKNOWN_COMMAND` and `SYNTAX`, with what to type instead; `INVALID_POSITION`.
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, Failure> {
        let (first, rest) = split(line);
        if first.is_empty() {
            return Ok(Self::Nothing);
        }
        let typed = String::from_utf8_lossy(first).to_ascii_uppercase();
        let Some((verb, ..)) = VERBS.iter().find(|(verb, ..)| *verb == typed) else {
            return Err(unknown(&typed));
        };
        if matches!(*verb, "PRODUCE" | "ENQUEUE" | "PRODUCEALL" | "SCHEDULE") {
            return valued::parse(verb, rest);
        }
        let Ok(rest) = std::str::from_utf8(rest) else {
            return Err(Failure::new(ErrorCode::Syntax, "the line is not UTF-8"));
        };
        if matches!(*verb, "AUTH" | "PASSWORD") {
            return principal::parse_secret(verb, rest);
        }
        if matches!(*verb, "REGISTER" | "ALTER") {
            return Self::parse_settings(verb, rest);
        }
        if *verb == "FETCH" {
            return Self::parse_fetch(verb, rest);
        }
        let mut words = Words {
            verb,
            words: rest.split_ascii_whitespace(),
        };
        let command = Self::parse_words(&mut words)?;
        words.end()?;
        Ok(command)
    }

    fn parse_words(words: &mut Words<'a>) -> Result<Self, Failure> {
        Ok(match words.verb {
            "HELP" => Self::Help(words.words.next()),
            "QUIT" => Self::Quit,
            "PING" => Self::Plain(Ping {}.into()),
            "INFO" => Self::Plain(
                Hello {
                    client: "text".into(),
                    ..Hello::default()
                }
                .into(),
            ),
            "STATS" => {
                let topic = words.words.next().unwrap_or_default().to_owned();
                Self::Plain(Stats { topic }.into())
            }
            "FRAMES" => match words.word("ON or OFF")? {
                word if word.eq_ignore_ascii_case("on") => Self::Frames(true),
                word if word.eq_ignore_ascii_case("off") => Self::Frames(false),
                word => return Err(words.wrong(format!("\"{}\" is not ON or OFF", shown(word)))),
            },
            "LIST" => {
                let glob = words.words.next().unwrap_or_default().to_owned();
                Self::List(ListTopics {
                    glob,
                    limit: MAX_LIST,
                    ..ListTopics::default()
                })
            }
            "METADATA" => {
                let first = words.word("topic")?;
                let names = [first].into_iter().chain(words.words.by_ref());
                Self::Metadata(names.map(str::to_owned).collect())
            }
            "CREATE" => {
                let name = words.word("topic")?.to_owned();
                let mut ahead = words.words.clone();
                if name.eq_ignore_ascii_case("principal")
                    && let Some(principal) = ahead.next().filter(|it| !it.contains('='))
                {
                    words.words = ahead;
                    return Self::parse_create_principal(principal, words);
                }
                let settings = settings(words)?;
                Self::Plain(
                    CreateTopic {
                        name,
                        settings,
                        if_not_exists: false,
                    }
                    .into(),
                )
            }
            "DESCRIBE" => {
                let topic = words.word("topic")?;
                if let Some(consumer) = words.words.next() {
                    return Ok(Self::DescribeConsumer(topic, consumer));
                }
                Self::Plain(
                    DescribeTopic {
                        name: topic.to_owned(),
                        limit: MAX_LIST,
                        ..Default::default()
                    }
                    .into(),
                )
            }
            "GRANT" | "REVOKE" => Self::parse_grant(words)?,
            "TOKEN" | "FORGET" => Self::parse_token(words)?,
            "PRINCIPALS" => Self::Principals(words.words.next().unwrap_or_default()),
            "DELETE" => {
                let topic = words.word("topic")?;
                let mut ahead = words.words.clone();
                if topic.eq_ignore_ascii_case("principal")
                    && let Some(principal) = ahead.next()
                    && !principal.eq_ignore_ascii_case("confirm")
                {
                    words.words = ahead;
                    return Self::parse_delete_principal(principal, words);
                }
                words.confirm(topic, "deleting takes all records", "DELETE")?;
                Self::OnTopic(topic, Rest::Delete)
            }
            "PURGE" => {
                let (topic, before) = (words.word("topic")?, words.position()?);
                words.confirm(topic, "purging takes records for good", "PURGE")?;
                Self::OnTopic(topic, Rest::Purge(before))
            }
            "UNREGISTER" => Self::parse_unregister(words)?,
            _ => {
                let (topic, name) = (words.word("topic")?, words.word("consumer")?);
                match words.verb {
                    "SIZE" => Self::OnConsumer(topic, name, Rest::Size),
                    "SEEK" => Self::OnConsumer(topic, name, Rest::Seek(words.position()?)),
                    _ => Self::parse_consuming(words, topic, name)?,
                }
            }
        })
    }

    fn parse_unregister(words: &mut Words<'a>) -> Result<Self, Failure> {
        Ok(match words.word("PRODUCER or CONSUMER")? {
            word if word.eq_ignore_ascii_case("producer") => {
                Self::OnTopic(words.word("topic")?, Rest::UnregisterProducer)
            }
            word if word.eq_ignore_ascii_case("consumer") => {
                let (topic, name) = (words.word("topic")?, words.word("consumer")?);
                Self::OnConsumer(topic, name, Rest::UnregisterConsumer)
            }
            word if word.eq_ignore_ascii_case("worker") => {
                let (topic, name) = (words.word("topic")?, words.word("consumer")?);
                let worker = words.word("worker's id")?.parse().map(WorkerId);
                let worker = worker.map_err(|_| words.wrong("a worker's id is a number"))?;
                Self::OnConsumer(topic, name, Rest::UnregisterWorker(worker))
            }
            _ => return Err(words.wrong("what is not registered cannot be unregistered")),
        })
    }
}

fn settings(words: &mut Words<'_>) -> Result<Vec<Setting>, Failure> {
    let mut settings = Vec::new();
    while let Some(word) = words.words.next() {
        let Some((key, value)) = word.split_once('=') else {
            return Err(words.wrong(format!("\"{}\" is not key=value", shown(word))));
        };
        settings.push(setting(key, value));
    }
    Ok(settings)
}

/// The commands, or one of them.
///
/// # Errors
/// `UNKNOWN_COMMAND` with the verb that was probably meant.
pub(super) fn help(verb: Option<&str>) -> Result<String, Failure> {
    let line = |(verb, words, does): &(&str, &str, &str)| {
        format!("{} -- {does}\n", format!("{verb} {words}").trim_end())
    };
    let Some(verb) = verb else {
        let lines: String = VERBS.iter().map(line).collect();
        return Ok(format!("= {}\n{lines}", VERBS.len()));
    };
    let typed = verb.to_ascii_uppercase();
    if let Some(found) = VERBS.iter().find(|(verb, ..)| *verb == typed) {
        return Ok(format!("= 1\n{}", line(found)));
    }
    Err(unknown(&typed))
}

fn unknown(typed: &str) -> Failure {
    let close = suggest::closest(typed, VERBS.iter().map(|(verb, ..)| *verb));
    let message = format!("there is no command \"{}\"", shown(typed));
    Failure::new(ErrorCode::UnknownCommand, message)
        .hint(format!("try: {}", close.unwrap_or("HELP")))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn check(line: &str, expected: &str) {
        let got = match Command::parse(line.as_bytes()) {
            Ok(command) => format!("{command:?}"),
            Err(failure) => format!("{failure}; {}", failure.hint),
        };
        assert_eq!(got, expected, "{line}");
    }

    #[test]
    fn verbs_in_any_case_and_words_between_any_spaces() {
        check("", "Nothing");
        check("  ping ", "Plain(Ping(Ping))");
        check("size  t   c", "OnConsumer(\"t\", \"c\", Size)");
        check("SEEK t c -5", "OnConsumer(\"t\", \"c\", Seek(Last(5)))");
        check(
            "dequeue t c",
            "OnConsumer(\"t\", \"c\", Consume(Limits { records: 1, wait_ms: 0 }, 0))",
        );
        check(
            "FETCH t 1h n=3 wait=2s",
            "OnTopic(\"t\", Fetch(Ago(3600000000), Limits { records: 3, wait_ms: 2000 }, []))",
        );
        check("DELETE t CONFIRM t", "OnTopic(\"t\", Delete)");
        check("purge t -5 confirm t", "OnTopic(\"t\", Purge(Last(5)))");
        check(
            "ALTER t a=1 b=",
            "OnTopic(\"t\", AlterTopic([Setting { key: \"a\", value: \"1\" }], [\"b\"]))",
        );
    }

    #[test]
    fn an_error_names_what_to_type() {
        check(
            "PRODUSE t x",
            "UNKNOWN_COMMAND there is no command \"PRODUSE\"; try: PRODUCE",
        );
        check(
            "xyzzy",
            "UNKNOWN_COMMAND there is no command \"XYZZY\"; try: HELP",
        );
        check(
            "SIZE t",
            "SYNTAX SIZE needs a consumer; try: SIZE topic consumer",
        );
        check("PING x", "SYNTAX \"x\" is one word too many; try: PING");
        check(
            "DELETE t",
            "SYNTAX deleting takes all records: say it twice; try: DELETE t CONFIRM t",
        );
        check(
            "CONSUME t c n=0",
            "SYNTAX n is 1 to 10000; try: CONSUME topic consumer [n=1] [wait=5s] [lease=30s]",
        );
        check(
            "SCHEDULE t soon x",
            "SYNTAX SCHEDULE needs a duration like 5m or a time like 2030-01-01T00:00:00Z; try: \
             SCHEDULE topic 5m|time rest-of-the-line-is-the-value",
        );
        check(
            "FRAMES maybe",
            "SYNTAX \"maybe\" is not ON or OFF; try: FRAMES ON|OFF",
        );
    }

    #[test]
    fn an_http_request_is_no_command() {
        for line in [
            "GET / HTTP/1.1",
            "POST /x HTTP/1.0\r",
            "OPTIONS * HTTP/1.1",
            // Methods are whatever a page chooses, also commands.
            "patch / HTTP/1.1",
            "foo /x HTTP/1.1",
            "x-y / http/1.1",
            "delete /t HTTP/2",
            "CONNECT a:80 HTTP/1.1",
            "GET\t/\tHTTP/1.1",
            "Host: localhost",
            "host:localhost:7440\r",
        ] {
            assert!(is_http(line.as_bytes()), "{line}");
        }
        for line in [
            "",
            "get",
            "FETCH t 5",
            "CREATE HTTP/1.1",
            "CREATE hosts",
            "hos",
            "PRODUCE t GET / HTTP/1.1",
            "produce t:1 / HTTP/1.1",
            "Enqueue * HTTP/1.1",
            "SCHEDULE t 5m GET / HTTP/1.1",
            "PRODUCE t Host: x",
        ] {
            assert!(!is_http(line.as_bytes()), "{line}");
        }
    }
}

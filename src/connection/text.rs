//! Text mode: one command per line, for a person at a telnet prompt and for scripts.
//!
//! Owns lines and the session; it has no semantics of its own. A [`Command`] becomes the same
//! request that a program would send, passes the same dispatcher, and its answer is printed. One
//! command at a time, in order; the broker never speaks first.

mod command;
mod lines;
mod login;
mod print;
mod verbs;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use actix::Addr;
use bytes::Bytes;
use logdrive_protocol::batch::{BatchBuilder, NewRecord, Origin};
use logdrive_protocol::limits::MAX_LIST;
use logdrive_protocol::operations::{
    Answer, ConsumerDescribed, DescribeConsumer, DescribeTopic, Hello, ListTopics, Metadata, Part,
    Payload, Produce, ProduceAll, RegisterConsumer, Request, Requeue, TopicSummary,
    UnregisterProducer,
};
use logdrive_protocol::{ConsumerId, ErrorCode, Failure, Outcome, Position, TopicId};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use self::command::{Command, Rest, When};
pub(super) use self::lines::Lines;
use self::login::holds_secret;
use super::{Connection, HalfClosed, Surroundings, Typed, going_away, writer};
use crate::clock::{Clock, wall};
use crate::counters::Counters;
use crate::limits::{MAX_LINE_BYTES, MAX_LOGIN_LINE_BYTES, WRITE_STALL};
use crate::net::WriteHalf;
use crate::window::Window;

/// How the session asks: through the connection's dispatcher.
pub(super) struct Typing {
    connection: Addr<Connection>,
    window: Window,
    /// Producers that this session registered, by topic.
    producers: HashMap<String, (TopicId, Origin)>,
    /// What says when a record falls due that is to wait for so long.
    clock: Clock,
    /// Whether somebody is logged in, or nobody has to be.
    known: bool,
    /// Places for deriving keys from passwords.
    deriving: Arc<Semaphore>,
    /// Whether each request is shown as the frame that it would be.
    frames: bool,
    shown: String,
}

/// The correlation id of frames that are shown.
const SHOWN_CORRELATION: u32 = 1;

/// Reads commands and writes answers until the peer leaves or says QUIT.
pub(super) async fn converse(
    lines: Lines,
    mut write: WriteHalf,
    typing: Typing,
    around: Surroundings,
    expelled: oneshot::Receiver<Failure>,
) -> anyhow::Result<()> {
    answer_lines(lines, &mut write, typing, around, expelled).await?;
    // Within TLS this says that nothing was cut off.
    let _ = timeout(WRITE_STALL, write.shutdown()).await;
    Ok(())
}

async fn answer_lines(
    mut lines: Lines,
    write: &mut WriteHalf,
    mut typing: Typing,
    around: Surroundings,
    mut expelled: oneshot::Receiver<Failure>,
) -> anyhow::Result<()> {
    let Surroundings {
        counters,
        mut news,
        access,
        ..
    } = around;
    typing.known = !access.borrow().is_required();
    loop {
        lines.set_limit(if typing.known {
            MAX_LINE_BYTES
        } else {
            MAX_LOGIN_LINE_BYTES
        });
        let line = tokio::select! {
            biased;
            () = going_away(&mut news) => return Ok(()),
            Ok(failure) = &mut expelled => Err(failure),
            line = lines.next() => line,
        };
        let (mut out, go_on) = match line {
            Ok(Some(line)) => {
                Counters::add(&counters.received_bytes, line.len());
                if command::is_http(&line) {
                    (print::misdirected(), false)
                } else {
                    let connection = typing.connection.clone();
                    let mut executed = pin!(typing.execute(&line));
                    tokio::select! {
                        biased;
                        executed = &mut executed => executed,
                        () = lines.closed() => {
                            // Records that nobody is there to read must not be taken.
                            connection.do_send(HalfClosed);
                            executed.await
                        }
                    }
                }
            }
            Ok(None) => return Ok(()),
            Err(failure) => {
                match failure.code {
                    ErrorCode::FrameTimeout => Counters::add(&counters.frames_late, 1),
                    ErrorCode::IdleTimeout => Counters::add(&counters.idle_ended, 1),
                    _ => {}
                }
                (print::failure(&failure), false)
            }
        };
        out.insert_str(0, &std::mem::take(&mut typing.shown));
        Counters::add(&counters.sent_bytes, out.len());
        let pieces = writer::Pieces::from(vec![Bytes::from(out)]);
        if let Err(error) = writer::write_all(write, pieces, &typing.window).await {
            if error.kind() == io::ErrorKind::TimedOut {
                Counters::add(&counters.readers_late, 1);
            }
            return Err(error.into());
        }
        if !go_on {
            return Ok(());
        }
    }
}

/// Whether a line is a command; else what is answered.
#[cfg(any(test, fuzzing))]
pub(crate) fn understand(line: &[u8]) -> Result<(), String> {
    let understood = Command::parse(line).map(drop);
    understood.map_err(|failure| print::failure(&failure))
}

/// What a person reads who is not let in.
pub(super) fn refusal(failure: &Failure) -> String {
    print::failure(failure)
}

impl Typing {
    pub(super) fn new(
        connection: Addr<Connection>,
        window: Window,
        clock: Clock,
        deriving: Arc<Semaphore>,
    ) -> Self {
        Self {
            connection,
            window,
            producers: HashMap::new(),
            clock,
            known: false,
            deriving,
            frames: false,
            shown: String::new(),
        }
    }

    /// Carries out one line; the text to answer, and whether the session goes on.
    async fn execute(&mut self, line: &[u8]) -> (String, bool) {
        let command = match Command::parse(line) {
            Ok(Command::Quit) => return ("+ bye\n".to_owned(), false),
            Ok(command) => command,
            Err(failure) => return (print::failure(&failure), true),
        };
        let printed = match self.carry_out(command).await {
            Ok(printed) => printed,
            Err(failure) => print::failure(&failure),
        };
        (printed, true)
    }

    async fn carry_out(&mut self, command: Command<'_>) -> Result<String, Failure> {
        match command {
            Command::Nothing => Ok(format!(
                "+ logdrive {}; type HELP\n",
                env!("CARGO_PKG_VERSION")
            )),
            Command::Help(verb) => command::help(verb),
            Command::Quit => Ok("+ bye\n".to_owned()),
            Command::Frames(on) => {
                // The least request that is for those who are logged in only.
                self.ask(Hello::default().into()).await?;
                self.frames = on;
                Ok(format!("+ frames {}\n", if on { "on" } else { "off" }))
            }
            Command::Plain(request) => self.show(request).await.map(|it| print::answer(&it, "")),
            Command::LogIn(credential) => self.log_in(credential).await,
            Command::Principals(glob) => self.principals(glob).await,
            Command::SetPassword(name, password) => self.set_password(name, password.0).await,
            Command::List(list) => self.list(list).await,
            Command::Metadata(topics) => {
                let answer = self.show(Request::Metadata(Metadata { topics })).await?;
                Ok(print::answer(&answer, ""))
            }
            Command::OnTopic(topic, rest) => self.on_topic(topic, rest).await,
            Command::OnConsumer(topic, consumer, rest) => {
                let (topic_id, consumer_id) = self.consumer(topic, consumer).await?;
                let request = rest.request(topic_id, consumer_id);
                self.show(request).await.map(|it| print::answer(&it, topic))
            }
            Command::Produce(topic, value) => self.produce(topic, value, 0).await,
            Command::Schedule(topic, when, value) => {
                let not_before = match when {
                    When::In(duration) => self.clock.now().saturating_add(duration),
                    When::At(time) => time,
                };
                self.produce(topic, value, not_before).await
            }
            Command::ProduceAll(topics, value) => self.produce_all(topics, value).await,
            Command::DescribeConsumer(topic, consumer) => self.describe(topic, consumer).await,
            Command::Requeue(topic, consumer, dead_letters, offsets) => {
                let (topic_id, consumer_id) = self.consumer(topic, consumer).await?;
                let requeue = Requeue {
                    topic: topic_id,
                    consumer: consumer_id,
                    dead_letters: self.topic(dead_letters).await?,
                    ranges: vec![offsets],
                };
                let answer = self.show(requeue.into()).await?;
                Ok(print::answer(&answer, topic))
            }
        }
    }

    async fn on_topic(&mut self, topic: &str, rest: Rest) -> Result<String, Failure> {
        if let Rest::UnregisterProducer = rest {
            let Some((topic_id, origin)) = self.producers.remove(topic) else {
                let message = format!("this session registered no producer for \"{topic}\"");
                return Err(Failure::new(ErrorCode::ProducerNotFound, message)
                    .hint(format!("try: REGISTER PRODUCER {topic}")));
            };
            let request = UnregisterProducer {
                topic: topic_id,
                producer: origin.producer,
                epoch: origin.epoch,
            };
            let answer = self.show(Request::UnregisterProducer(request)).await?;
            return Ok(print::answer(&answer, topic));
        }
        let topic_id = self.topic(topic).await?;
        let answer = self.show(rest.request(topic_id, ConsumerId::NONE)).await?;
        Ok(print::answer(&answer, topic))
    }

    /// Asks without showing: the look-ups that a program would have done before.
    async fn ask(&self, request: Request) -> Result<Answer, Failure> {
        let gone = || Failure::new(ErrorCode::Unavailable, "the broker stops");
        let bytes = match &request {
            Request::Produce(it) => it.batch.as_slice().len(),
            Request::ProduceAll(it) => {
                let parts = it.parts.iter();
                parts.map(|part| part.batch.as_slice().len()).sum()
            }
            _ => 0,
        };
        self.window.pace(request.opcode(), bytes).await?;
        let permit = self.window.admit(0).await.ok_or_else(gone)?;
        let (answer, answered) = oneshot::channel();
        self.connection.do_send(Typed {
            request,
            permit,
            answer,
        });
        answered.await.map_err(|_| gone())?
    }

    /// Asks, and shows the frame if that is wanted; remembers a producer that was registered.
    async fn show(&mut self, request: Request) -> Result<Answer, Failure> {
        if self.frames && holds_secret(&request) {
            self.shown
                .push_str("# not shown: the frame holds a secret\n");
        } else if self.frames {
            self.shown.push_str("# ");
            for byte in request.encode(SHOWN_CORRELATION).concat() {
                let _ = write!(self.shown, "{byte:02x}");
            }
            self.shown.push('\n');
        }
        let topic = match &request {
            Request::RegisterProducer(request) => Some(request.topic.clone()),
            _ => None,
        };
        let answer = self.ask(request).await?;
        if let (Some(topic), Answer::RegisterProducer(registered)) = (topic, &answer) {
            let origin = Origin {
                producer: registered.producer,
                epoch: registered.epoch,
                sequence: registered.next_sequence,
            };
            self.producers.insert(topic, (registered.topic, origin));
        }
        Ok(answer)
    }

    async fn topic(&self, name: &str) -> Result<TopicId, Failure> {
        let metadata = Request::Metadata(Metadata {
            topics: vec![name.to_owned()],
        });
        if let Answer::Metadata(located) = self.ask(metadata).await?
            && let Some(place) = located.topics.first().filter(|place| !place.id.is_none())
        {
            return Ok(place.id);
        }
        // Asking for a description gives the error that names the fix.
        let describe = DescribeTopic {
            name: name.to_owned(),
            ..DescribeTopic::default()
        };
        match self.ask(Request::DescribeTopic(describe)).await? {
            Answer::DescribeTopic(described) => Ok(described.topic),
            _ => Err(Failure::new(
                ErrorCode::Unavailable,
                "the topic is being created",
            )),
        }
    }

    async fn consumer(&self, topic: &str, name: &str) -> Result<(TopicId, ConsumerId), Failure> {
        let look_up = RegisterConsumer {
            topic: topic.to_owned(),
            name: name.to_owned(),
            from: Position::Earliest,
            settings: Vec::new(),
            create: false,
        };
        match self.ask(Request::RegisterConsumer(look_up)).await? {
            Answer::RegisterConsumer(found) => Ok((found.topic, found.consumer)),
            _ => Err(Failure::new(
                ErrorCode::Unavailable,
                "the consumer cannot be looked up",
            )),
        }
    }

    async fn produce(
        &mut self,
        topic: &str,
        value: &[u8],
        not_before: u64,
    ) -> Result<String, Failure> {
        let registered = self.producers.get(topic).copied();
        let (topic_id, origin) = match registered {
            Some(registered) => registered,
            None => (self.topic(topic).await?, Origin::default()),
        };
        let request = Produce {
            topic: topic_id,
            not_before,
            batch: batch_of(value, origin),
            ..Produce::default()
        };
        let produced = self.show(Request::Produce(request)).await;
        match &produced {
            Ok(_) => {
                if let Some((_, origin)) = self.producers.get_mut(topic) {
                    origin.sequence += 1;
                }
            }
            // The person retypes the line, so the session cannot know a retry from a new record.
            Err(failure) if failure.code.outcome() == Outcome::Unknown => {
                self.producers.remove(topic);
            }
            Err(failure) if failure.code == ErrorCode::FencedEpoch => {
                self.producers.remove(topic);
            }
            Err(_) => {}
        }
        Ok(print::answer(&produced?, topic))
    }

    async fn produce_all(&mut self, topics: &str, value: &[u8]) -> Result<String, Failure> {
        let batch = batch_of(value, Origin::default());
        let mut parts = Vec::new();
        for name in topics.split(',') {
            parts.push(Part {
                topic: self.topic(name).await?,
                batch: batch.clone(),
            });
        }
        let request = ProduceAll {
            parts,
            ..ProduceAll::default()
        };
        let answer = self.show(Request::ProduceAll(request)).await?;
        Ok(print::answer(&answer, topics))
    }

    /// A consumer with all its leases, page by page.
    async fn describe(&mut self, topic: &str, consumer: &str) -> Result<String, Failure> {
        let (topic, consumer) = self.consumer(topic, consumer).await?;
        let mut describe = DescribeConsumer {
            topic,
            consumer,
            limit: MAX_LIST,
            ..DescribeConsumer::default()
        };
        let mut leases = Vec::new();
        let mut answer = self.show(describe.clone().into()).await?;
        while let Answer::DescribeConsumer(page) = &mut answer {
            leases.append(&mut page.leases);
            let last = leases.last().map_or(0, |it| it.lease);
            if !page.more || last <= describe.after {
                let page = std::mem::take(page);
                let whole = ConsumerDescribed { leases, ..page };
                return Ok(print::answer(&Answer::DescribeConsumer(whole), ""));
            }
            describe.after = last;
            answer = self.ask(describe.clone().into()).await?;
        }
        Ok(print::answer(&answer, ""))
    }

    /// All topics, page by page.
    async fn list(&mut self, list: ListTopics) -> Result<String, Failure> {
        let mut topics: Vec<TopicSummary> = Vec::new();
        let mut answer = self.show(Request::ListTopics(list.clone())).await?;
        while let Answer::ListTopics(page) = answer {
            topics.extend(page.topics);
            let after = topics
                .last()
                .map(|topic| topic.name.clone())
                .unwrap_or_default();
            if !page.more {
                break;
            }
            answer = self
                .ask(Request::ListTopics(ListTopics {
                    after,
                    ..list.clone()
                }))
                .await?;
        }
        Ok(print::topics(&topics))
    }
}

/// A batch of one record.
fn batch_of(value: &[u8], origin: Origin) -> Payload {
    let mut builder = BatchBuilder::default();
    builder.push(&NewRecord {
        timestamp: wall(),
        value,
        ..NewRecord::default()
    });
    Payload::Shared(Bytes::from(builder.finish(origin)))
}

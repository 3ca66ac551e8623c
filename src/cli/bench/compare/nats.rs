//! NATS JetStream under comparison: file storage, one stream for each topic.
//!
//! The client is written here, as lean as it gets: what a library costs would be counted against
//! the peer, because the load generator shares the machine with the server. The protocol has no
//! request of several records, so many are published without waiting, and their acknowledgements
//! counted. Readers pull with several requests of 1,000 records on their way at a time.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use serde_json::{Value, json};

use super::link::Link;
use super::nats_wire::{Message, Said, put_message, take};
use super::peer::{Peer, Produce, Read};
use super::works::PER_REQUEST;

/// Records that are asked for ahead of those that have arrived.
const AHEAD: u64 = 4 * PER_REQUEST as u64;
/// How long the server keeps a pull: longer than any comparison takes, in nanoseconds.
const PULL_EXPIRES: u64 = 3_600_000_000_000;

/// A NATS server with JetStream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nats {
    /// Whether it syncs before it answers (`sync_interval: always`), which versions before 2.10 do
    /// not know; by default it syncs every two minutes.
    pub(super) always: bool,
}

impl Nats {
    /// The server's configuration, as a file beside its data.
    pub(super) fn configure(self, directory: &Path, port: u16) -> Result<OsString> {
        let store = directory.join("store");
        let sync = if self.always {
            "sync_interval: always"
        } else {
            ""
        };
        // JSON's strings are strings there too.
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{\n  store_dir: {}\n  {sync}\n}}\n",
            json!(store)
        );
        let path = directory.join("nats.conf");
        std::fs::write(&path, text).context("cannot write the configuration of NATS")?;
        Ok(path.into())
    }
}

/// A connection that is subscribed to its own inbox, and to nothing else.
#[derive(Debug)]
struct Connection {
    link: Link,
    /// What the subjects of answers to this connection begin with: nobody else's do.
    inbox: String,
}

impl Connection {
    async fn open(at: SocketAddr) -> Result<Self> {
        let mut connection = Self {
            link: Link::connect(at).await?,
            inbox: format!("_INBOX.{:016x}", fastrand::u64(..)),
        };
        let hello =
            json!({"verbose": false, "pedantic": false, "headers": true, "no_responders": true});
        let hello = format!("CONNECT {hello}\r\nSUB {} 1\r\nPING\r\n", connection.inbox);
        connection.link.output.extend_from_slice(hello.as_bytes());
        connection.link.flush().await?;
        while connection.said().await? != Said::Pong {}
        Ok(connection)
    }

    /// What the server has said already, a PING apart, whose answer goes with the next flush.
    fn arrived(&mut self) -> Result<Option<Said>> {
        loop {
            match take(&mut self.link.input)? {
                Some(Said::Ping) => self.link.output.extend_from_slice(b"PONG\r\n"),
                Some(Said::Error(text)) => bail!("NATS says: {text}"),
                // All that is asked for is there, so that no answer is a mere status.
                Some(Said::Message(message)) if !message.head.is_empty() => {
                    let head = String::from_utf8_lossy(&message.head);
                    bail!("NATS answers with status {}", head.trim().escape_debug());
                }
                said => return Ok(said),
            }
        }
    }

    async fn said(&mut self) -> Result<Said> {
        loop {
            if let Some(said) = self.arrived()? {
                return Ok(said);
            }
            self.link.flush().await?;
            self.link.more().await?;
        }
    }

    async fn message(&mut self) -> Result<Message> {
        loop {
            if let Said::Message(message) = self.said().await? {
                return Ok(message);
            }
        }
    }

    /// Asks JetStream something.
    async fn ask(&mut self, subject: &str, question: &Value) -> Result<Value> {
        let (subject, question) = (format!("$JS.API.{subject}"), question.to_string());
        let out = &mut self.link.output;
        put_message(out, &subject, &self.inbox, question.as_bytes());
        self.link.flush().await?;
        let answer: Value = serde_json::from_slice(&self.message().await?.payload)
            .context("JetStream does not answer in JSON")?;
        match answer.get("error") {
            Some(error) => bail!("JetStream refuses {subject}: {error}"),
            None => Ok(answer),
        }
    }
}

impl Peer for Nats {
    type Producer = Producer;
    type Reader = Reader;
    type Idle = Link;

    fn command(&self, directory: &Path, port: u16) -> Result<Vec<OsString>> {
        let configuration = self.configure(directory, port)?;
        Ok(vec!["nats-server".into(), "-c".into(), configuration])
    }

    async fn create(&self, at: SocketAddr, topic: &str) -> Result<()> {
        let mut connection = Connection::open(at).await?;
        let config = json!({
            "name": topic,
            "subjects": [topic],
            "storage": "file",
            "retention": "limits",
            "num_replicas": 1,
        });
        let subject = format!("STREAM.CREATE.{topic}");
        connection.ask(&subject, &config).await?;
        Ok(())
    }

    async fn count(&self, at: SocketAddr, topic: &str) -> Result<u64> {
        let mut connection = Connection::open(at).await?;
        let subject = format!("STREAM.INFO.{topic}");
        let told = connection.ask(&subject, &Value::Null).await?;
        told["state"]["messages"]
            .as_u64()
            .context("JetStream does not say how many messages a stream has")
    }

    async fn producer(&self, at: SocketAddr, topic: &str, _: usize) -> Result<Producer> {
        Ok(Producer {
            connection: Connection::open(at).await?,
            topic: topic.to_owned(),
            answers: VecDeque::new(),
        })
    }

    async fn fetcher(&self, at: SocketAddr, topic: &str) -> Result<Reader> {
        // Nothing of its position is kept: it changes nothing.
        let config = json!({"durable_name": "fetch", "ack_policy": "none", "mem_storage": true});
        Reader::open(at, topic, "fetch", config).await
    }

    async fn consumer(&self, at: SocketAddr, topic: &str) -> Result<Reader> {
        // An acknowledgement of the last is one of all before it: a cursor.
        let config = json!({"durable_name": "bench", "ack_policy": "all", "max_ack_pending": -1});
        Reader::open(at, topic, "bench", config).await
    }

    async fn idle(&self, at: SocketAddr) -> Result<Link> {
        Ok(Connection::open(at).await?.link)
    }
}

/// Publishes to one stream.
#[derive(Debug)]
pub(super) struct Producer {
    connection: Connection,
    topic: String,
    /// Acknowledgements that are missing of each request, oldest first.
    answers: VecDeque<usize>,
}

impl Produce for Producer {
    async fn send(&mut self, values: &[Bytes]) -> Result<()> {
        let Connection { link, inbox } = &mut self.connection;
        for value in values {
            put_message(&mut link.output, &self.topic, inbox, value);
        }
        self.answers.push_back(values.len());
        self.connection.link.flush().await
    }

    async fn acknowledged(&mut self) -> Result<()> {
        while self.answers.front().is_some_and(|missing| *missing > 0) {
            let message = self.connection.message().await?;
            if memchr::memmem::find(&message.payload, b"\"error\"").is_some() {
                let text = String::from_utf8_lossy(&message.payload);
                bail!("JetStream does not store a record: {text}");
            }
            if let Some(missing) = self.answers.front_mut() {
                *missing -= 1;
            }
        }
        match self.answers.pop_front() {
            Some(_) => Ok(()),
            None => std::future::pending().await,
        }
    }
}

/// Pulls from one stream.
#[derive(Debug)]
pub(super) struct Reader {
    connection: Connection,
    /// Where to ask for more.
    pull: String,
    question: String,
    /// Records that were asked for and have not come.
    asked: u64,
    acknowledges: bool,
}

impl Reader {
    async fn open(at: SocketAddr, topic: &str, name: &str, mut config: Value) -> Result<Self> {
        let mut connection = Connection::open(at).await?;
        config["deliver_policy"] = "all".into();
        let acknowledges = config["ack_policy"] != "none";
        let subject = format!("CONSUMER.DURABLE.CREATE.{topic}.{name}");
        let question = json!({"stream_name": topic, "config": config});
        connection.ask(&subject, &question).await?;
        Ok(Self {
            connection,
            pull: format!("$JS.API.CONSUMER.MSG.NEXT.{topic}.{name}"),
            question: json!({"batch": PER_REQUEST, "expires": PULL_EXPIRES}).to_string(),
            asked: 0,
            acknowledges,
        })
    }

    /// Keeps as much asked for as is meant to be on its way.
    fn ask_ahead(&mut self) {
        let Connection { link, inbox } = &mut self.connection;
        while self.asked + PER_REQUEST as u64 <= AHEAD {
            put_message(
                &mut link.output,
                &self.pull,
                inbox,
                self.question.as_bytes(),
            );
            self.asked += PER_REQUEST as u64;
        }
    }
}

impl Read for Reader {
    async fn next(&mut self, mut each: impl FnMut(&[u8]) + Send) -> Result<u64> {
        self.ask_ahead();
        self.connection.link.flush().await?;
        let mut message = self.connection.message().await?;
        let mut count = 0;
        loop {
            each(&message.payload);
            count += 1;
            // What has arrived already is taken without waiting.
            match self.connection.arrived()? {
                Some(Said::Message(next)) => message = next,
                Some(other) => bail!("NATS interrupts with {other:?}"),
                None => break,
            }
        }
        if self.acknowledges {
            let reply = std::str::from_utf8(&message.reply).context("a reply is not UTF-8")?;
            ensure!(!reply.is_empty(), "a record cannot be acknowledged");
            put_message(&mut self.connection.link.output, reply, "", b"+ACK");
            self.connection.link.flush().await?;
        }
        self.asked = self.asked.saturating_sub(count);
        Ok(count)
    }
}

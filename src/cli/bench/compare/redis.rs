//! Redis Streams under comparison: `XADD`, `XRANGE`, `XREADGROUP`.
//!
//! The client is written here, as lean as it gets: what a library costs would be counted against
//! the peer, because the load generator shares the machine with the server. A request of several
//! records is a transaction, so that Redis writes and syncs its file once for all of them instead
//! of once for each read of its socket, which is several times as fast. Snapshots and the rewriting
//! of its file are off: both would only slow it down.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bytes::{BufMut, Bytes, BytesMut};

use super::link::Link;
use super::peer::{Peer, Produce, Read};
use super::resp::{Answers, Placed, Token, put_command};
use super::works::PER_REQUEST;

/// The group that consumes, and its only member.
const GROUP: &[u8] = b"bench";
/// How long a read waits for records, in milliseconds, before it is asked again.
const BLOCK: &[u8] = b"1000";

/// A Redis server that keeps an append-only file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Redis {
    /// `appendfsync`: `always` syncs before it answers, `everysec` once a second.
    pub(super) appendfsync: &'static str,
}

/// A connection that takes one answer after the other.
#[derive(Debug)]
struct Connection {
    link: Link,
    answers: Answers,
}

impl Connection {
    async fn open(at: SocketAddr) -> Result<Self> {
        Ok(Self {
            link: Link::connect(at).await?,
            answers: Answers::default(),
        })
    }

    /// The next token; an error of the server is one here.
    async fn token(&mut self) -> Result<Placed> {
        loop {
            match self.answers.take(&mut self.link.input)? {
                Some(placed) => match placed.token {
                    Token::Error(text) => bail!("Redis says: {text}"),
                    _ => return Ok(placed),
                },
                None => self.link.more().await?,
            }
        }
    }

    /// Asks something that has a short answer.
    async fn ask(&mut self, words: &[&[u8]]) -> Result<Token> {
        put_command(&mut self.link.output, words);
        self.link.flush().await?;
        Ok(self.token().await?.token)
    }
}

impl Peer for Redis {
    type Producer = Producer;
    type Reader = Reader;
    type Idle = Link;

    fn command(&self, directory: &Path, port: u16) -> Result<Vec<OsString>> {
        let port = port.to_string();
        let words = [
            "redis-server",
            "--bind",
            "127.0.0.1",
            "--port",
            &port,
            "--appendonly",
            "yes",
            "--appendfsync",
            self.appendfsync,
            "--save",
            "",
            "--auto-aof-rewrite-percentage",
            "0",
            "--dir",
        ];
        let mut words: Vec<OsString> = words.map(OsString::from).into();
        words.push(directory.into());
        Ok(words)
    }

    async fn create(&self, at: SocketAddr, topic: &str) -> Result<()> {
        let mut connection = Connection::open(at).await?;
        // Makes the stream with it.
        let words: [&[u8]; 6] = [
            b"XGROUP",
            b"CREATE",
            topic.as_bytes(),
            GROUP,
            b"0",
            b"MKSTREAM",
        ];
        connection.ask(&words).await?;
        Ok(())
    }

    async fn count(&self, at: SocketAddr, topic: &str) -> Result<u64> {
        let mut connection = Connection::open(at).await?;
        match connection.ask(&[b"XLEN", topic.as_bytes()]).await? {
            Token::Integer(count) => u64::try_from(count).context("XLEN is below 0"),
            other => bail!("XLEN was answered with {other:?}"),
        }
    }

    async fn producer(&self, at: SocketAddr, topic: &str, _: usize) -> Result<Producer> {
        Ok(Producer {
            connection: Connection::open(at).await?,
            topic: topic.to_owned(),
            answers: VecDeque::new(),
        })
    }

    async fn fetcher(&self, at: SocketAddr, topic: &str) -> Result<Reader> {
        Reader::open(at, topic, Way::Range(Bytes::from_static(b"-"))).await
    }

    async fn consumer(&self, at: SocketAddr, topic: &str) -> Result<Reader> {
        Reader::open(at, topic, Way::Group).await
    }

    async fn idle(&self, at: SocketAddr) -> Result<Link> {
        let mut connection = Connection::open(at).await?;
        connection.ask(&[b"PING"]).await?;
        Ok(connection.link)
    }
}

/// Appends to one stream.
#[derive(Debug)]
pub(super) struct Producer {
    connection: Connection,
    topic: String,
    /// Answers that are missing of each request, oldest first.
    answers: VecDeque<usize>,
}

impl Produce for Producer {
    async fn send(&mut self, values: &[Bytes]) -> Result<()> {
        let out = &mut self.connection.link.output;
        let several = values.len() > 1;
        if several {
            put_command(out, &[b"MULTI"]);
        }
        for value in values {
            put_command(out, &[b"XADD", self.topic.as_bytes(), b"*", b"v", value]);
        }
        if several {
            put_command(out, &[b"EXEC"]);
        }
        // Of a transaction: that it began, each of its commands, and all that was done.
        let answers = if several { values.len() + 2 } else { 1 };
        self.answers.push_back(answers);
        self.connection.link.flush().await
    }

    async fn acknowledged(&mut self) -> Result<()> {
        while self.answers.front().is_some_and(|missing| *missing > 0) {
            let placed = self.connection.token().await?;
            // None for EXEC: the transaction was given up.
            anyhow::ensure!(placed.token != Token::Null, "Redis stored nothing");
            if let Some(missing) = self.answers.front_mut()
                && placed.last
            {
                *missing -= 1;
            }
        }
        match self.answers.pop_front() {
            Some(_) => Ok(()),
            None => std::future::pending().await,
        }
    }
}

/// Where the next records are asked for.
#[derive(Debug)]
enum Way {
    /// After this id.
    Range(Bytes),
    /// Behind the group's cursor.
    Group,
}

/// Reads one stream, a request at a time.
#[derive(Debug)]
pub(super) struct Reader {
    connection: Connection,
    topic: String,
    way: Way,
}

impl Reader {
    async fn open(at: SocketAddr, topic: &str, way: Way) -> Result<Self> {
        Ok(Self {
            connection: Connection::open(at).await?,
            topic: topic.to_owned(),
            way,
        })
    }

    fn ask(&mut self) {
        let count = PER_REQUEST.to_string();
        let (topic, count) = (self.topic.as_bytes(), count.as_bytes());
        let out = &mut self.connection.link.output;
        match &self.way {
            Way::Range(from) => {
                put_command(out, &[b"XRANGE", topic, from, b"+", b"COUNT", count]);
            }
            Way::Group => put_command(
                out,
                &[
                    b"XREADGROUP",
                    b"GROUP",
                    GROUP,
                    b"one",
                    b"COUNT",
                    count,
                    b"BLOCK",
                    BLOCK,
                    // Delivered is done, as where a consume moves the cursor.
                    b"NOACK",
                    b"STREAMS",
                    topic,
                    b">",
                ],
            ),
        }
    }
}

impl Read for Reader {
    async fn next(&mut self, mut each: impl FnMut(&[u8]) + Send) -> Result<u64> {
        self.ask();
        self.connection.link.flush().await?;
        // XRANGE: entries of (id, (name, value)). XREADGROUP: streams of (name, such entries).
        let id_depth = match self.way {
            Way::Range(_) => 2,
            Way::Group => 4,
        };
        let (mut id, mut count, mut named) = (None, 0, false);
        loop {
            let Placed { token, depth, last } = self.connection.token().await?;
            if let Token::Bulk(text) = token {
                if depth == id_depth {
                    id = Some(text);
                } else if depth == id_depth + 1 {
                    if named {
                        each(&text);
                        count += 1;
                    }
                    named = !named;
                }
            }
            if last {
                break;
            }
        }
        if let (Way::Range(from), Some(id)) = (&mut self.way, id) {
            let mut after = BytesMut::with_capacity(id.len() + 1);
            after.put_u8(b'(');
            after.extend_from_slice(&id);
            *from = after.freeze();
        }
        Ok(count)
    }
}

//! Those who besiege: sockets that are slow, silent, deaf or wrong, as many as are asked for.
//!
//! Owns them all on one thread with a runtime of its own, so that the honest client waits for the
//! broker and not for them. Whoever is cut off comes again at once, and it is counted what the
//! broker's last words were.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::BytesMut;
use logdrive_protocol::body::Body;
use logdrive_protocol::frame::{self, FLAG_ERROR, FrameDecoder};
use logdrive_protocol::limits::MAX_FRAME_BYTES;
use logdrive_protocol::operations::{
    Consume, ConsumerRegistered, Operation, RegisterConsumer, Seek,
};
use logdrive_protocol::preface::{BrokerPreface, ClientPreface, MAGIC};
use logdrive_protocol::{Failure, Position};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::codec::Decoder;
use tokio_util::sync::CancellationToken;

use super::super::connections;

/// The topic whose records nobody reads.
pub(super) const PLENTY: &str = "plenty";
/// Between two bytes of a slow one.
const DRIP: Duration = Duration::from_secs(2);
/// Between two requests of a deaf one.
const INSIST: Duration = Duration::from_secs(1);
/// Requests that a deaf one begins with, each for as much as an answer may hold.
const AT_ONCE: u32 = 8;
/// Those that send bad frames.
const BAD_SENDERS: u64 = 20;
/// Honest connections that are made at once.
const OPENING: usize = 64;
/// Before one that could not connect tries again.
const RETRY: Duration = Duration::from_millis(100);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A kind of besieger, and how many.
#[derive(Clone, Copy, Debug)]
pub(super) enum Host {
    /// A byte now and then: of a preface, of a frame, of a line.
    Slow(u32),
    /// Consumers that ask for everything and read nothing.
    Unread(u32),
    /// Connections that say nothing more.
    Idle(u32),
    /// Frames without a boundary.
    Bad(u32),
}

/// How connections were ended: the broker's last words, and how often.
pub(super) type Ends = BTreeMap<String, u64>;

/// How far a siege has come.
#[derive(Debug, Default)]
pub(super) struct Muster {
    /// Sockets that were open once.
    opened: AtomicU64,
    /// Bad frames that were answered.
    answered: AtomicU64,
}

impl Host {
    /// How many.
    pub(super) fn count(self) -> u32 {
        match self {
            Self::Slow(count) | Self::Unread(count) | Self::Idle(count) | Self::Bad(count) => count,
        }
    }

    /// What they are called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Slow(_) => "slow connections",
            Self::Unread(_) => "consumers that never read",
            Self::Idle(_) => "idle connections",
            Self::Bad(_) => "bad frames",
        }
    }
}

impl Muster {
    /// Whether all are there.
    pub(super) fn is_up(&self, host: Host) -> bool {
        let wanted = match host {
            Host::Bad(_) => BAD_SENDERS,
            other => other.count().into(),
        };
        self.opened.load(Ordering::Relaxed) >= wanted
    }

    /// Whether they have done what they were to do.
    pub(super) fn is_done(&self, host: Host) -> bool {
        match host {
            Host::Bad(count) => self.answered.load(Ordering::Relaxed) >= count.into(),
            _ => true,
        }
    }
}

/// Besieges until it is told to stop; blocks.
pub(super) fn besiege(
    host: Host,
    address: SocketAddr,
    plenty: &str,
    muster: &Muster,
    stop: &CancellationToken,
) -> anyhow::Result<Ends> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Each of them borrows, so all of them are one future.
    runtime.block_on(async {
        let opening = Semaphore::new(OPENING);
        let count = match host {
            Host::Bad(_) => BAD_SENDERS,
            other => other.count().into(),
        };
        let all = (0..count).map(|number| {
            let besieger = Besieger {
                host,
                number,
                address,
                plenty,
                muster,
                opening: &opening,
            };
            besieger.goes_on(stop)
        });
        let mut ends = Ends::new();
        for own in futures_util::future::join_all(all).await {
            for (end, count) in own {
                *ends.entry(end).or_default() += count;
            }
        }
        Ok(ends)
    })
}

#[derive(Clone, Copy)]
struct Besieger<'a> {
    host: Host,
    number: u64,
    address: SocketAddr,
    plenty: &'a str,
    muster: &'a Muster,
    opening: &'a Semaphore,
}

impl Besieger<'_> {
    /// Comes again and again.
    async fn goes_on(self, stop: &CancellationToken) -> Ends {
        let mut ends = Ends::new();
        let mut is_first = true;
        loop {
            let end = tokio::select! {
                biased;
                () = stop.cancelled() => return ends,
                end = self.once(is_first) => end,
            };
            is_first = false;
            match end {
                Ok(end) => *ends.entry(end).or_default() += 1,
                Err(error) => {
                    let end = format!("({})", error.root_cause());
                    *ends.entry(end).or_default() += 1;
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// One connection, from its beginning to the broker's last words.
    async fn once(&self, is_first: bool) -> anyhow::Result<String> {
        match self.host {
            Host::Slow(_) => self.drip(is_first).await,
            Host::Unread(_) => self.insist(is_first).await,
            Host::Idle(_) => self.rest(is_first).await,
            Host::Bad(_) => self.garble(is_first).await,
        }
    }

    fn is_there(&self, is_first: bool) {
        if is_first {
            self.muster.opened.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn drip(&self, is_first: bool) -> anyhow::Result<String> {
        let mut socket = TcpStream::connect(self.address).await?;
        self.is_there(is_first);
        let mut preface = BytesMut::new();
        ClientPreface::default().encode(&mut preface);
        let slowly = match self.number % 3 {
            0 => preface.to_vec(),
            1 => {
                socket.write_all(&preface).await?;
                // A frame of a megabyte.
                let mut frame = (1_u32 << 20).to_be_bytes().to_vec();
                frame.resize(1 << 10, 0);
                frame
            }
            _ => [b"PRODUCE app ".to_vec(), vec![b'x'; 1 << 10]].concat(),
        };
        let (mut read, mut write) = socket.split();
        let dripping = async {
            for byte in slowly {
                if write.write_all(&[byte]).await.is_err() {
                    break;
                }
                sleep(DRIP).await;
            }
            std::future::pending::<()>().await;
        };
        let mut heard = BytesMut::new();
        let hearing = async {
            // A connection that is reset has said all that there is.
            while read.read_buf(&mut heard).await.is_ok_and(|count| count > 0) {}
        };
        tokio::select! {
            () = hearing => {}
            () = dripping => {}
        }
        Ok(last_words(heard))
    }

    async fn insist(&self, is_first: bool) -> anyhow::Result<String> {
        let mut socket = connections::open(self.address).await?;
        let register = RegisterConsumer {
            topic: self.plenty.to_owned(),
            name: format!("deaf-{}", self.number),
            create: true,
            ..RegisterConsumer::default()
        };
        let registered: ConsumerRegistered = ask(&mut socket, 2, &register).await?;
        let seek = Seek {
            topic: registered.topic,
            consumer: registered.consumer,
            to: Position::Earliest,
        };
        ask(&mut socket, 3, &seek).await?;
        self.is_there(is_first);
        for correlation in 4.. {
            let consume = Consume {
                topic: registered.topic,
                consumer: registered.consumer,
                max_bytes: u32::MAX,
                ..Consume::default()
            };
            let request = frame::encode(Consume::OPCODE, 0, correlation, &consume).concat();
            match socket.try_write(&request) {
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break,
                _ => {}
            }
            if correlation > AT_ONCE + 4 {
                sleep(INSIST).await;
            }
        }
        Ok("cut off".to_owned())
    }

    async fn rest(&self, is_first: bool) -> anyhow::Result<String> {
        let place = self.opening.acquire().await?;
        let mut socket = connections::open(self.address).await?;
        drop(place);
        self.is_there(is_first);
        let mut heard = BytesMut::new();
        while socket.read_buf(&mut heard).await? > 0 {}
        Ok(last_words(heard))
    }

    async fn garble(&self, is_first: bool) -> anyhow::Result<String> {
        let mut socket = connections::open(self.address).await?;
        self.is_there(is_first);
        let answered = self.muster.answered.fetch_add(1, Ordering::Relaxed);
        let length = if answered.is_multiple_of(2) {
            u32::MAX
        } else {
            1
        };
        let mut bad = length.to_be_bytes().to_vec();
        bad.extend([0x22, 0, 0, 0, 0, 9]);
        socket.write_all(&bad).await?;
        let mut heard = BytesMut::new();
        while let Ok(count) = timeout(PATIENCE, socket.read_buf(&mut heard)).await? {
            if count == 0 {
                break;
            }
        }
        Ok(last_words(heard))
    }
}

/// Asks, and reads the answer alone.
async fn ask<O: Operation>(
    socket: &mut TcpStream,
    correlation: u32,
    request: &O,
) -> anyhow::Result<O::Answer> {
    let request = frame::encode(O::OPCODE, 0, correlation, request).concat();
    socket.write_all(&request).await?;
    let (mut bytes, mut frames) = (BytesMut::new(), FrameDecoder::new(MAX_FRAME_BYTES));
    loop {
        if let Some(answer) = frames.decode(&mut bytes)? {
            if answer.flags & FLAG_ERROR != 0 {
                bail!("{} was refused", O::NAME);
            }
            return O::Answer::from_bytes(answer.body).context("an answer that does not parse");
        }
        let read = timeout(PATIENCE, socket.read_buf(&mut bytes)).await??;
        anyhow::ensure!(read > 0, "closed instead of an answer");
    }
}

/// What the broker said before the end: the error's name.
fn last_words(mut heard: BytesMut) -> String {
    if heard.starts_with(&MAGIC) && !matches!(BrokerPreface::decode(&mut heard), Ok(Some(_))) {
        return "a preface alone".to_owned();
    }
    if let Some(text) = heard.strip_prefix(b"- ") {
        let word = text.split(|byte| *byte == b' ').next();
        return String::from_utf8_lossy(word.unwrap_or_default()).into_owned();
    }
    let last = FrameDecoder::new(MAX_FRAME_BYTES).decode(&mut heard);
    match last {
        Ok(Some(frame)) if frame.flags & FLAG_ERROR != 0 => Failure::from_bytes(frame.body)
            .map_or_else(
                |_| "nonsense".to_owned(),
                |failure| failure.code.to_string(),
            ),
        Ok(Some(frame)) => format!("opcode {:#04x}", frame.opcode),
        Ok(None) | Err(_) => "closed".to_owned(),
    }
}

//! A broker's double: plays one script over a real socket, for faults that a broker cannot be made
//! to show. It knows frames and nothing of storage; what it says is what the script says.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use logdrive_client::{Backoff, Client, Options};
use logdrive_protocol::batch::{Head, Records};
use logdrive_protocol::body::Body;
use logdrive_protocol::frame::{self, FLAG_ERROR, FrameDecoder};
use logdrive_protocol::limits::MAX_FRAME_BYTES;
use logdrive_protocol::operations::{
    Answer, Greeted, Produce, Produced, ProducerRegistered, RegisterProducer, Request,
};
use logdrive_protocol::preface::{BrokerPreface, ClientPreface, Limits, VERSION};
use logdrive_protocol::{Failure, ProducerId, TopicId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::codec::FramedRead;

/// The only topic there is.
pub(crate) const TOPIC: TopicId = TopicId(3);

/// Starts a double and gives its address and the end of its script.
pub(crate) async fn double<F, T>(script: impl FnOnce(Listening) -> F) -> (String, JoinHandle<T>)
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let running = tokio::spawn(script(Listening { listener }));
    (address, running)
}

/// A client that retries quickly.
pub(crate) async fn client(address: &str) -> Client {
    Client::connect_with(address, options()).await.unwrap()
}

pub(crate) fn options() -> Options {
    Options {
        backoff: Backoff {
            first: Duration::from_millis(1),
            longest: Duration::from_millis(5),
        },
        ..Options::default()
    }
}

/// The preface of a broker.
pub(crate) fn greeting() -> BytesMut {
    let mut preface = BytesMut::new();
    BrokerPreface {
        version: VERSION,
        lowest: VERSION,
        highest: VERSION,
        features: 0,
        cluster: [0; 16],
        node: 1,
        limits: Limits::default(),
    }
    .encode(&mut preface);
    preface
}

pub(crate) struct Listening {
    listener: TcpListener,
}

impl Listening {
    /// The next connection, before anything is said on it.
    pub(crate) async fn accept_raw(&mut self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// The next connection, after the prefaces.
    pub(crate) async fn accept(&mut self) -> Session {
        let mut socket = self.accept_raw().await;
        let mut preface = BytesMut::new();
        while ClientPreface::decode(&mut preface).unwrap().is_none() {
            assert_ne!(
                socket.read_buf(&mut preface).await.unwrap(),
                0,
                "no preface"
            );
        }
        socket.write_all(&greeting()).await.unwrap();
        let (read, write) = socket.into_split();
        let mut frames = FramedRead::new(read, FrameDecoder::new(MAX_FRAME_BYTES));
        frames.read_buffer_mut().extend_from_slice(&preface);
        Session { frames, write }
    }
}

pub(crate) struct Session {
    frames: FramedRead<OwnedReadHalf, FrameDecoder>,
    write: OwnedWriteHalf,
}

impl Session {
    /// The next request that is not the client's greeting; `None` when it has hung up.
    pub(crate) async fn next(&mut self) -> Option<(u32, Request)> {
        loop {
            let frame = self.frames.next().await?.ok()?;
            let request = Request::decode(frame.opcode, frame.body).unwrap().unwrap();
            match request {
                Request::Hello(_) => {
                    self.answer(frame.correlation, Answer::Hello(Greeted::default()))
                        .await;
                }
                other => return Some((frame.correlation, other)),
            }
        }
    }

    /// The next request, which must be to register a producer, and its answer.
    pub(crate) async fn register(&mut self, epoch: u32, next_sequence: u64) -> RegisterProducer {
        let (correlation, request) = self.next().await.expect("a registration");
        let Request::RegisterProducer(register) = request else {
            panic!("not a registration: {request:?}");
        };
        let producer = if register.producer.is_none() {
            ProducerId(u64::from(epoch) * 100)
        } else {
            register.producer
        };
        let registered = ProducerRegistered {
            topic: TOPIC,
            producer,
            epoch,
            next_sequence,
            topic_created: false,
        };
        self.answer(correlation, Answer::RegisterProducer(registered))
            .await;
        register
    }

    /// The next request, which must be a batch.
    pub(crate) async fn produce(&mut self) -> (u32, Produce) {
        match self.next().await.expect("a batch") {
            (correlation, Request::Produce(produce)) => (correlation, produce),
            (_, other) => panic!("not a batch: {other:?}"),
        }
    }

    pub(crate) async fn answer(&mut self, correlation: u32, answer: Answer) {
        self.write(&answer.encode(correlation)).await;
    }

    pub(crate) async fn refuse(&mut self, opcode: u8, correlation: u32, failure: &Failure) {
        self.write(&frame::encode(opcode, FLAG_ERROR, correlation, failure))
            .await;
    }

    pub(crate) async fn write(&mut self, parts: &[Bytes]) {
        self.raw(&parts.concat()).await;
    }

    /// Bytes as they are; a client that has hung up does not mind.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.write.write_all(bytes).await;
    }

    /// Reads until the client has hung up; gives the number of requests that came before that.
    pub(crate) async fn hung_up(mut self) -> usize {
        let mut requests = 0;
        while self.next().await.is_some() {
            requests += 1;
        }
        requests
    }
}

/// What a broker's log would hold: it takes a sequence once and knows it again.
#[derive(Debug, Default)]
pub(crate) struct Log {
    taken: Vec<(Head, u64)>,
    pub(crate) values: Vec<String>,
}

impl Log {
    pub(crate) fn next_sequence(&self) -> u64 {
        self.taken
            .last()
            .map_or(0, |(head, _)| head.sequence + u64::from(head.count))
    }

    /// The answer to a batch: new ones are appended, known ones answered again.
    pub(crate) fn take(&mut self, produce: &Produce) -> Answer {
        let batch = produce.batch.as_slice();
        let head = Head::parse(batch).unwrap();
        let same = |(it, _): &&(Head, u64)| it.sequence == head.sequence;
        let base_offset = if let Some((_, base)) = self.taken.iter().find(same) {
            *base
        } else {
            assert_eq!(head.sequence, self.next_sequence(), "out of sequence");
            let base = self.values.len() as u64;
            self.taken.push((head, base));
            self.values.extend(values(produce));
            base
        };
        Answer::Produce(Produced {
            base_offset,
            append_time: 1,
            durability: produce.ack,
            leader_epoch: 0,
        })
    }

    /// Forgets the last batch, as a crash may do with one that was only accepted.
    pub(crate) fn lose_last(&mut self) {
        let (head, _) = self.taken.pop().unwrap();
        self.values
            .truncate(self.values.len() - head.count as usize);
    }
}

/// The records of a batch, as text.
pub(crate) fn values(produce: &Produce) -> Vec<String> {
    Records::of(produce.batch.as_slice())
        .map(|record| String::from_utf8(record.unwrap().value.to_vec()).unwrap())
        .collect()
}

/// The sequence that a batch begins with.
pub(crate) fn sequence(produce: &Produce) -> u64 {
    Head::parse(produce.batch.as_slice()).unwrap().sequence
}

/// A body as the answer to a request.
pub(crate) fn frame_of(opcode: u8, correlation: u32, body: &impl Body) -> Vec<u8> {
    frame::encode(opcode, 0, correlation, body).concat()
}

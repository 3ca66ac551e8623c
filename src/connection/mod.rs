//! Connections: one actor each, from the first byte to the last answer.
//!
//! ```text
//! socket -> handshake -+-> frames -> permit -> Connection -+-> Broker   (names)
//!                      '-> text session ----------^        '-> Topic    (ids)
//! socket <- writer <- Reply <------------------------------- whoever finished the work
//! ```
//!
//! The actor owns the window and the addresses of topics; the `writer` owns the socket's write
//! half. It waits for nobody: an answer comes back as a [`Reply`]. Requests to one topic are handed
//! over in the order in which they arrived. Text parses into the same requests and passes here too.

mod frames;
mod handshake;
mod text;
mod together;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, ContextFutureSpawner,
    Handler, Message, StreamHandler, WrapFuture,
};
use futures_util::stream::unfold;
use logdrive_protocol::frame::{Frame, FrameError, NOTICE};
use logdrive_protocol::operations::{Answer, Request};
use logdrive_protocol::preface::{BrokerPreface, Limits, VERSION};
use logdrive_protocol::{ErrorCode, Failure, TopicId};
use tokio::sync::{mpsc, oneshot, watch};

use self::frames::Frames;
use self::handshake::Opening;
use crate::broker::{About, Ask, Broker, Locate};
use crate::counters::Counters;
use crate::limits::{FRAME_BYTES, MAX_CACHED_ROUTES};
use crate::net::{ReadHalf, WriteHalf};
use crate::reply::{ConnectionId, Outgoing, Reply, Sink};
use crate::topic::{Call, Gone, Topic};
use crate::window::{Budget, Permit, Window};

/// What every connection is told when it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The broker's state, as in `Pinged`.
    pub state: u8,
    /// The broker stops: nothing more is admitted.
    pub going_away: bool,
}

/// What all connections share; cheap to clone.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Who knows names.
    pub broker: Addr<Broker>,
    /// What windows are counted against.
    pub budget: Arc<Budget>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// What changes for all, as writers and text sessions hear it.
    pub news: watch::Receiver<News>,
    /// The same, as connections hear that they end: apart, because those who wait for one channel
    /// are woken in a random order, and a simulation decides who is first.
    pub ending: watch::Receiver<News>,
    /// What the preface says.
    pub about: About,
}

/// Serves a connection until it ends: finds out who is there, then starts the actor.
pub async fn serve((read, write): (ReadHalf, WriteHalf), id: ConnectionId, around: Surroundings) {
    Counters::add(&around.counters.accepted, 1);
    around.counters.connections.fetch_add(1, Ordering::Relaxed);
    let counters = around.counters.clone();
    let (ended, end) = oneshot::channel();
    match handshake::open(read, write, preface(&around.about)).await {
        Ok(Opening::Binary {
            read,
            write,
            buffer,
        }) => {
            Connection::start_binary(id, read, write, &buffer, around, ended);
        }
        Ok(Opening::Text {
            read,
            write,
            buffer,
            telnet,
        }) => {
            Connection::start_text(id, read, write, (buffer, telnet), around, ended);
        }
        Err(error) => {
            tracing::debug!(connection = id.0, %error, "no conversation");
            drop(ended);
        }
    }
    // The sender is dropped when the last answer is written, or the peer is gone.
    let _ = end.await;
    counters.connections.fetch_sub(1, Ordering::Relaxed);
}

fn preface(about: &About) -> BrokerPreface {
    BrokerPreface {
        version: VERSION,
        lowest: VERSION,
        highest: VERSION,
        features: 0,
        cluster: about.cluster,
        node: about.node.0,
        limits: Limits::default(),
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    id: ConnectionId,
    around: Surroundings,
    window: Window,
    /// Where answers go; none in text mode, whose session waits for each answer itself.
    answers: Option<mpsc::UnboundedSender<Box<Outgoing>>>,
    topics: HashMap<TopicId, Addr<Topic>>,
}

/// What arrives on a binary connection.
#[derive(Debug)]
enum Arrival {
    /// A frame with the permit that it was admitted under.
    Frame(Frame, Permit),
    /// The boundary between frames is lost; nothing follows.
    Broken(FrameError),
}

/// A request of the text session.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Typed {
    request: Request,
    permit: Permit,
    answer: oneshot::Sender<Result<Answer, Failure>>,
}

/// The peer of a text session has closed its side: it is answered, but not waited for.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct HalfClosed;

/// The connection has nothing more to do.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Ended;

impl Connection {
    fn new(id: ConnectionId, around: Surroundings) -> Self {
        let window = Window::new(around.budget.clone());
        Self {
            id,
            around,
            window,
            answers: None,
            topics: HashMap::new(),
        }
    }

    fn start_binary(
        id: ConnectionId,
        read: ReadHalf,
        write: WriteHalf,
        begun: &[u8],
        around: Surroundings,
        ended: oneshot::Sender<()>,
    ) {
        Self::create(|ctx| {
            let mut connection = Self::new(id, around);
            let (answers, outgoing) = mpsc::unbounded_channel();
            connection.answers = Some(answers);
            let (news, counters) = (
                connection.around.news.clone(),
                connection.around.counters.clone(),
            );
            let (window, actor) = (connection.window.clone(), ctx.address());
            actix::spawn(async move {
                writer::write(write, outgoing, news, counters, window.clone()).await;
                window.close();
                actor.do_send(Ended);
                drop(ended);
            });
            // Requests may have come together with the preface: they are taken first.
            let frames = Frames::new(read, begun, FRAME_BYTES);
            ctx.add_stream(arrivals(frames, connection.window.clone()));
            connection
        });
    }

    fn start_text(
        id: ConnectionId,
        read: ReadHalf,
        write: WriteHalf,
        (buffer, telnet): (bytes::BytesMut, bool),
        around: Surroundings,
        ended: oneshot::Sender<()>,
    ) {
        Self::create(|ctx| {
            let connection = Self::new(id, around);
            let typing = text::Typing::new(ctx.address(), connection.window.clone());
            let around = connection.around.clone();
            let actor = ctx.address();
            actix::spawn(async move {
                let lines = text::Lines::new(read, buffer, telnet);
                if let Err(error) = text::converse(lines, write, typing, around).await {
                    tracing::debug!(%error, "a text session ended early");
                }
                actor.do_send(Ended);
                drop(ended);
            });
            connection
        });
    }

    fn reply(&self, opcode: u8, correlation: u32, permit: Permit) -> Option<Reply> {
        let sink = Sink::Frame(self.answers.clone()?);
        Some(Reply::new(
            sink,
            self.id,
            opcode,
            correlation,
            self.window.clone(),
            permit,
        ))
    }

    fn frame(&mut self, frame: Frame, permit: Permit, ctx: &mut Context<Self>) {
        let counters = &self.around.counters;
        Counters::add(&counters.requests, 1);
        Counters::add(&counters.received_bytes, frame.body.len());
        let Some(reply) = self.reply(frame.opcode, frame.correlation, permit) else {
            return;
        };
        if frame.correlation == NOTICE {
            return reply.fail(
                Failure::new(ErrorCode::Malformed, "correlation id 0 is for notices")
                    .hint("number requests from 1"),
            );
        }
        match Request::from_frame(frame) {
            Ok(request) => self.dispatch(request, reply, ctx),
            Err(failure) => reply.fail(failure),
        }
    }

    /// Hands a request to who can carry it out: both kinds of connection end here.
    fn dispatch(&mut self, request: Request, reply: Reply, ctx: &mut Context<Self>) {
        if let Request::ProduceAll(request) = request {
            return self.produce_all(request, reply, ctx);
        }
        match topic_of(&request) {
            Some(id) => self.route(id, request, reply, ctx),
            None => self.around.broker.do_send(Ask(request, reply)),
        }
    }

    /// What waits for records is not served; what was begun is answered while the socket lives.
    fn withdraw(&self) {
        self.window.finish();
        let mut topics: Vec<_> = self.topics.iter().collect();
        topics.sort_unstable_by_key(|(id, _)| **id);
        for (_, topic) in topics {
            topic.do_send(Gone(self.id));
        }
    }

    fn route(&mut self, id: TopicId, request: Request, reply: Reply, ctx: &mut Context<Self>) {
        if let Some(topic) = self.topics.get(&id).filter(|topic| topic.connected()) {
            return topic.do_send(Call {
                request,
                reply,
                fresh: 0,
            });
        }
        // What this waits for comes from the broker, and the order of requests is kept.
        self.around
            .broker
            .send(Locate(id))
            .into_actor(self)
            .map(move |located, connection, _| match located.ok().flatten() {
                Some(topic) => {
                    topic.do_send(Call {
                        request,
                        reply,
                        fresh: 0,
                    });
                    connection.remember(id, topic);
                }
                None => reply.fail(crate::topic::actor::not_found(id)),
            })
            .wait(ctx);
    }

    fn remember(&mut self, id: TopicId, topic: Addr<Topic>) {
        if self.topics.len() >= MAX_CACHED_ROUTES {
            self.topics.clear();
        }
        self.topics.insert(id, topic);
    }
}

/// Waits until the broker stops.
async fn going_away(news: &mut watch::Receiver<News>) {
    // An error means that the server is gone, which is going away too.
    let _ = news.wait_for(|news| news.going_away).await;
}

/// Frames with their permits: nothing is read beyond the first frame whose share is not there, so
/// that TCP pushes back.
fn arrivals(frames: Frames<ReadHalf>, window: Window) -> impl futures_util::Stream<Item = Arrival> {
    unfold(Some((frames, window)), |state| async {
        let (mut frames, window) = state?;
        match frames.next().await? {
            Ok(frame) => {
                let permit = window.admit(frame.body.len()).await?;
                Some((Arrival::Frame(frame, permit), Some((frames, window))))
            }
            Err(error) => Some((Arrival::Broken(error), None)),
        }
    })
}

/// The topic that a request is for; `None` if it names things instead.
fn topic_of(request: &Request) -> Option<TopicId> {
    match request {
        Request::Hello(_)
        | Request::Ping(_)
        | Request::Metadata(_)
        | Request::Stats(_)
        | Request::CreateTopic(_)
        | Request::ListTopics(_)
        | Request::DescribeTopic(_)
        | Request::RegisterProducer(_)
        | Request::RegisterConsumer(_)
        | Request::ProduceAll(_) => None,
        Request::Cancel(it) => Some(it.topic),
        Request::DeleteTopic(it) => Some(it.topic),
        Request::AlterTopic(it) => Some(it.topic),
        Request::PurgeTopic(it) => Some(it.topic),
        Request::UnregisterProducer(it) => Some(it.topic),
        Request::Produce(it) => Some(it.topic),
        Request::Fetch(it) => Some(it.topic),
        Request::UnregisterConsumer(it) => Some(it.topic),
        Request::Consume(it) => Some(it.topic),
        Request::UnregisterWorker(it) => Some(it.topic),
        Request::Seek(it) => Some(it.topic),
        Request::Size(it) => Some(it.topic),
        Request::Ack(it) => Some(it.topic),
        Request::Nack(it) => Some(it.topic),
        Request::Extend(it) => Some(it.topic),
        Request::Requeue(it) => Some(it.topic),
        Request::AlterConsumer(it) => Some(it.topic),
        Request::DescribeConsumer(it) => Some(it.topic),
    }
}

impl Actor for Connection {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let mut news = self.around.ending.clone();
        let stopping = async move { going_away(&mut news).await };
        ctx.spawn(stopping.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }

    fn stopped(&mut self, _ctx: &mut Context<Self>) {
        self.withdraw();
    }
}

impl StreamHandler<Arrival> for Connection {
    fn handle(&mut self, arrival: Arrival, ctx: &mut Context<Self>) {
        match arrival {
            Arrival::Frame(frame, permit) => self.frame(frame, permit, ctx),
            Arrival::Broken(FrameError::Io(error)) => {
                tracing::debug!(connection = self.id.0, %error, "the connection broke");
            }
            Arrival::Broken(error) => {
                let correlation = match error {
                    FrameError::TooLarge { correlation, .. } => correlation,
                    _ => NOTICE,
                };
                // The last frame before the end: it needs no permit, for nothing follows.
                let (result, permits) = (Err(error.to_failure()), [None, None]);
                if let Some(answers) = &self.answers {
                    let _ = answers.send(Box::new(Outgoing {
                        opcode: 0,
                        correlation,
                        result,
                        permits,
                    }));
                }
            }
        }
    }
}

impl Handler<Typed> for Connection {
    type Result = ();

    fn handle(&mut self, typed: Typed, ctx: &mut Context<Self>) {
        Counters::add(&self.around.counters.requests, 1);
        let Typed {
            request,
            permit,
            answer,
        } = typed;
        let (sink, window) = (Sink::Within(answer), self.window.clone());
        let reply = Reply::new(sink, self.id, request.opcode(), 1, window, permit);
        self.dispatch(request, reply, ctx);
    }
}

impl Handler<HalfClosed> for Connection {
    type Result = ();

    fn handle(&mut self, _: HalfClosed, _ctx: &mut Context<Self>) {
        self.withdraw();
    }
}

impl Handler<Ended> for Connection {
    type Result = ();

    fn handle(&mut self, _: Ended, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

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

mod access;
mod frames;
mod handshake;
mod pace;
mod rights;
mod text;
mod together;
mod writer;

#[cfg(any(test, fuzzing))]
pub(crate) use self::text::understand;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, ContextFutureSpawner,
    Handler, Message, StreamHandler, WrapFuture,
};
use futures_util::stream::unfold;
use logdrive_protocol::frame::{Frame, FrameError, NOTICE};
use logdrive_protocol::operations::{Answer, Request};
use logdrive_protocol::preface::{BrokerPreface, Limits, VERSION};
use logdrive_protocol::{ErrorCode, Failure, Rights, TopicId};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use self::access::{Standing, at_once};
use self::frames::{Arrived, Fault, Frames};
use self::handshake::{Language, Opening};
use self::rights::{Demand, On};
use crate::access::{Directory, Login};
use crate::broker::{About, Ask, Broker, GoneFromAll, Locate, Located};
use crate::clock::Clock;
use crate::counters::Counters;
use crate::limits::{LOGIN_WAIT, MAX_CACHED_ROUTES, TEXT_LOGIN_WAIT};
use crate::net::{ReadHalf, WriteHalf};
use crate::reply::{ConnectionId, Outgoing, Reply, Sink};
use crate::tls::Tls;
use crate::topic::{Gone, Leaving, Topic};
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
    /// How TLS is spoken, if it is.
    pub tls: Option<Tls>,
    /// What says the time.
    pub clock: Clock,
    /// Who may do what.
    pub access: watch::Receiver<Arc<Directory>>,
    /// Places for deriving keys from passwords that are typed.
    pub deriving: Arc<Semaphore>,
}

/// Who is at the other end, as far as the socket knows.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// The name in a certificate that TLS has checked.
    pub name: Option<String>,
}

/// Finds out who is there, then starts the actor.
///
/// `ended` is dropped when the last answer is written, or the peer is gone.
pub async fn serve(
    (read, write): (ReadHalf, WriteHalf),
    peer: Peer,
    id: ConnectionId,
    around: Surroundings,
    ended: oneshot::Sender<()>,
) {
    let preface = preface(&around.about);
    match handshake::open(read, write, preface, around.tls.as_ref()).await {
        Ok(mut opening) => {
            let name = opening.peer.take();
            let whose = (id, Peer { name, ..peer });
            match opening.speaks {
                Language::Binary => Connection::start_binary(whose, opening, around, ended),
                Language::Text { telnet } => {
                    Connection::start_text(whose, opening, telnet, around, ended);
                }
            }
        }
        Err(error) => {
            let failure = error.downcast_ref::<Failure>();
            if failure.is_some_and(|it| it.code == ErrorCode::HandshakeTimeout) {
                Counters::add(&around.counters.handshakes_late, 1);
            }
            tracing::debug!(connection = id.0, %error, "no conversation");
        }
    }
}

fn preface(about: &About) -> BrokerPreface {
    BrokerPreface {
        version: VERSION,
        lowest: VERSION,
        highest: VERSION,
        features: 0,
        cluster: about.cluster,
        node: about.node.0,
        limits: Limits {
            idle_ms: about.admission.idle_ms(),
            ..Limits::default()
        },
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
    routes: HashMap<TopicId, Route>,
    /// It has asked topics for something whose addresses it does not remember any more.
    has_forgotten: bool,
    peer: Peer,
    standing: Standing,
    /// A login that is under way.
    login: Login,
    /// Longest frame that is taken, shared with who cuts them.
    frame_bytes: Arc<AtomicU32>,
    /// Ends a text session, with what it is told last.
    expel: Option<oneshot::Sender<Failure>>,
}

/// Where a topic is, and what may be done with it here.
#[derive(Clone, Debug)]
struct Route {
    topic: Addr<Topic>,
    name: Arc<str>,
    rights: Rights,
}

/// What arrives on a binary connection.
#[derive(Debug)]
enum Arrival {
    /// A frame with the permit that it was admitted under.
    Frame(Frame, Permit),
    /// One that a quota does not let through.
    Refused(Frame, Permit, Failure),
    /// The boundary between frames is lost, or the peer is too slow or silent; nothing follows.
    Broken(Fault),
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
    fn new(id: ConnectionId, peer: Peer, around: Surroundings) -> Self {
        let window = Window::new(around.budget.clone());
        let (standing, frame_bytes) = at_once(&around.access);
        Self {
            id,
            around,
            window,
            answers: None,
            routes: HashMap::new(),
            has_forgotten: false,
            peer,
            standing,
            login: Login::default(),
            frame_bytes: Arc::new(AtomicU32::new(frame_bytes)),
            expel: None,
        }
    }

    fn start_binary(
        (id, peer): (ConnectionId, Peer),
        opening: Opening,
        around: Surroundings,
        ended: oneshot::Sender<()>,
    ) {
        Self::create(|ctx| {
            let Opening {
                read,
                write,
                buffer,
                ..
            } = opening;
            let mut connection = Self::new(id, peer, around);
            connection.await_login(LOGIN_WAIT, ctx);
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
            let idle = connection.around.about.admission.idle;
            let limit = connection.frame_bytes.clone();
            let frames = Frames::new(read, &buffer, limit, connection.window.clone(), idle);
            ctx.add_stream(arrivals(frames, connection.window.clone()));
            connection
        });
    }

    fn start_text(
        (id, peer): (ConnectionId, Peer),
        opening: Opening,
        telnet: bool,
        around: Surroundings,
        ended: oneshot::Sender<()>,
    ) {
        Self::create(|ctx| {
            let Opening {
                read,
                write,
                buffer,
                ..
            } = opening;
            let mut connection = Self::new(id, peer, around);
            connection.await_login(TEXT_LOGIN_WAIT, ctx);
            let (expel, expelled) = oneshot::channel();
            connection.expel = Some(expel);
            let typing = text::Typing::new(
                ctx.address(),
                connection.window.clone(),
                connection.around.clock.clone(),
                connection.around.deriving.clone(),
            );
            let around = connection.around.clone();
            let (actor, window) = (ctx.address(), connection.window.clone());
            actix::spawn(async move {
                let lines = text::Lines::new(read, buffer, telnet, window);
                let conversing = text::converse(lines, write, typing, around, expelled);
                if let Err(error) = conversing.await {
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

    /// Hands a request to who can carry it out, if it may be: both kinds of connection end here.
    fn dispatch(&mut self, request: Request, reply: Reply, ctx: &mut Context<Self>) {
        if let Err(failure) = self.notice_changes() {
            reply.fail(failure.clone());
            return self.let_go(failure, ctx);
        }
        let demand = Demand::of(&request);
        if let Err(failure) = self.check(&request, &demand) {
            return self.refuse(failure, reply);
        }
        match demand.on {
            On::Login => self.log_in(request, reply, ctx),
            On::Topic(id, rights) => self.route(id, rights, request, reply, ctx),
            On::Several => self.visit_several(request, reply, ctx),
            On::Anybody | On::All | On::Broker | On::Name(..) | On::Known(_) => {
                self.provide_dead_letters(&request);
                let request = self.narrowed(request);
                let ask = Ask(request, reply, self.sight());
                self.around.broker.do_send(ask);
            }
        }
    }

    /// What waits for records is not served; what was begun is answered while the socket lives.
    fn withdraw(&self) {
        self.window.finish();
        if self.has_forgotten {
            return self.around.broker.do_send(GoneFromAll(self.id, None));
        }
        let mut routes: Vec<_> = self.routes.iter().collect();
        routes.sort_unstable_by_key(|(id, _)| **id);
        for (_, route) in routes {
            route.topic.do_send(Gone(self.id, Leaving::Ended));
        }
    }

    fn route(
        &mut self,
        id: TopicId,
        rights: Rights,
        request: Request,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        if let Some(route) = self.routes.get(&id).filter(|it| it.topic.connected()) {
            return match route.allows(id, rights) {
                Ok(()) => self.pass_on(route, request, reply),
                Err(failure) => self.refuse(failure, reply),
            };
        }
        // What this waits for comes from the broker, and the order of requests is kept.
        self.around
            .broker
            .send(Locate(id))
            .into_actor(self)
            .map(move |located, connection, _| {
                let allowed = match located.ok().flatten() {
                    Some(located) => {
                        let route = connection.remember(id, located);
                        route.allows(id, rights).map(|()| route)
                    }
                    None => Err(connection.not_found(id, rights)),
                };
                match allowed {
                    Ok(route) => connection.pass_on(&route, request, reply),
                    Err(failure) => connection.refuse(failure, reply),
                }
            })
            .wait(ctx);
    }

    /// Hands a request over that may be carried out.
    fn pass_on(&self, route: &Route, request: Request, reply: Reply) {
        self.provide_dead_letters(&request);
        route.send(request, reply);
    }

    fn remember(&mut self, id: TopicId, located: Located) -> Route {
        if self.routes.len() >= MAX_CACHED_ROUTES {
            self.forget_routes();
        }
        let Located { topic, name } = located;
        let rights = self.standing.rights_on(&name);
        let route = Route {
            topic,
            name,
            rights,
        };
        self.routes.insert(id, route.clone());
        route
    }

    /// Topics that it has asked are told by the broker, from here on, when it is gone.
    fn forget_routes(&mut self) {
        self.routes.clear();
        self.has_forgotten = true;
    }
}

/// Waits until the broker stops.
async fn going_away(news: &mut watch::Receiver<News>) {
    // An error means that the server is gone, which is going away too.
    let _ = news.wait_for(|news| news.going_away).await;
}

/// Frames with their permits: nothing is read beyond the first frame whose share is not there, or
/// for which a quota makes its principal wait, so that TCP pushes back.
fn arrivals(frames: Frames<ReadHalf>, window: Window) -> impl futures_util::Stream<Item = Arrival> {
    unfold(Some((frames, window)), |state| async {
        let (mut frames, window) = state?;
        match frames.next().await? {
            Ok(Arrived { mut frame, begun }) => {
                if begun.refused.is_some() {
                    frame.body.clear();
                }
                let permit = window.admit(frame.body.len()).await?;
                let arrival = match begun.refused {
                    None => Arrival::Frame(frame, permit),
                    Some(failure) => Arrival::Refused(frame, permit, failure),
                };
                Some((arrival, Some((frames, window))))
            }
            Err(error) => Some((Arrival::Broken(error), None)),
        }
    })
}

impl Actor for Connection {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let peer = &self.peer;
        tracing::debug!(connection = self.id.0, address = %peer.address, name = peer.name, "begins");
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
            Arrival::Refused(frame, permit, failure) => {
                Counters::add(&self.around.counters.requests, 1);
                if let Some(reply) = self.reply(frame.opcode, frame.correlation, permit) {
                    reply.fail(failure);
                }
            }
            Arrival::Broken(Fault::Frame(FrameError::Io(error))) => {
                tracing::debug!(connection = self.id.0, %error, "the connection broke");
            }
            Arrival::Broken(error) => {
                let counters = &self.around.counters;
                let (counter, correlation) = match error {
                    Fault::Frame(FrameError::TooLarge { correlation, .. }) => {
                        (&counters.frames_bad, correlation)
                    }
                    Fault::Frame(_) => (&counters.frames_bad, NOTICE),
                    Fault::Stalled | Fault::Crowded => (&counters.frames_late, NOTICE),
                    Fault::Idle(_) => (&counters.idle_ended, NOTICE),
                };
                Counters::add(counter, 1);
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

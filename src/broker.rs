//! The broker actor: which names and ids there are, and where their topics live.
//!
//! Owns the map of names, the ids that are handed out, and the registrations' topics. It is never
//! on the path of records: a connection asks it once per topic. Ids are reserved durably before
//! they are handed out, so that none is ever given twice. Its neighbours: connections ask, topics
//! tell it when they are born or gone.
//!
//! ```text
//! CreateTopic, RegisterProducer --> name free? --> new Topic, name taken at once
//!                                                     | commit
//! lists, lookups by id or name <-- Born <-------------'
//! ```

mod answers;
mod births;
mod principals;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use actix::{Actor, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message};
use logdrive_protocol::operations::{
    Answer, Consumed, CreateTopic, Part, Payload, ProduceAll, Request,
};
use logdrive_protocol::{ErrorCode, Failure, NodeId, Rights, TopicId, name};

use crate::access::Principal;
use crate::clock::Clock;
use crate::counters::Counters;
use crate::limits::Admission;
use crate::pool::Pool;
use crate::reply::{ConnectionId, Reply};
use crate::storage::{Announce, Condition, Disk, Handle, Notice, Recovered};
use crate::suggest;
use crate::topic::actor::storage_failed;
use crate::topic::rows;
use crate::topic::state::State;
use crate::topic::{Call, Gone, Journey, Leaving, Surroundings, Told, Topic};
use crate::window::Budget;

pub use principals::{Judge, Principals};

/// What the broker says of itself.
#[derive(Clone, Debug)]
pub struct About {
    /// Where it listens.
    pub address: String,
    /// Which broker.
    pub node: NodeId,
    /// Which cluster; zeros for none.
    pub cluster: [u8; 16],
    /// When it started, in microseconds.
    pub started_at: u64,
    /// What it takes of connections.
    pub admission: Admission,
}

/// What a broker stands on: everything that a simulation must control comes in from here.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Where the data is.
    pub disk: Arc<dyn Disk>,
    /// Who writes it.
    pub storage: Handle,
    /// Where cold reads run.
    pub pool: Pool,
    /// What says the time.
    pub clock: Clock,
    /// Over which topics are spread; none for this thread alone.
    pub arbiters: Vec<ArbiterHandle>,
}

/// A request that names things rather than giving their ids.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Ask(pub Request, pub Reply, pub Sight);

/// Whose request it is, where the answer is to show only the topics on which he has any right; `None`
/// shows all.
pub type Sight = Option<Arc<Principal>>;

/// Asks where a topic is; once per connection and topic.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Option<Located>")]
pub struct Locate(pub TopicId);

/// Where a topic is, and its name.
#[derive(Clone, Debug)]
pub struct Located {
    /// Its actor.
    pub topic: Addr<Topic>,
    /// Its name, which never changes.
    pub name: Arc<str>,
}

/// Asks the same for several topics at once; the answers are in the order of the ids.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Vec<Option<Located>>")]
pub struct LocateAll(pub Vec<TopicId>);

/// A topic for dead letters is named by who is logged in: it is to be there, and to count for him.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Provide(pub String, pub Sight);

/// A connection that has asked more topics than it remembers is gone, or its principal has other rights:
/// all topics are told, or those that it may not consume.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct GoneFromAll(pub ConnectionId, pub Sight);

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Noted(Notice);

#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    topic: Addr<Topic>,
    /// Whether its creation is durable.
    born: bool,
    owner: Owner,
}

/// Who has created a topic: a principal's name, and when that was created; empty for nobody.
type Owner = (String, u64);

/// The ids that may be handed out: those before `reserved` are durably ours.
#[derive(Debug)]
struct Ids {
    next: u64,
    reserved: u64,
    /// The reservation that is under way, by ticket.
    asked: Option<(u64, u64)>,
}

/// The broker.
#[derive(Debug)]
pub struct Broker {
    about: About,
    disk: Arc<dyn Disk>,
    storage: Handle,
    pool: Pool,
    budget: Arc<Budget>,
    counters: Arc<Counters>,
    clock: Clock,
    generation: u64,
    failed: bool,
    names: BTreeMap<String, TopicId>,
    topics: HashMap<TopicId, Entry>,
    /// Which topic a producer or consumer belongs to.
    registered: HashMap<u64, TopicId>,
    ids: Ids,
    /// Requests that need an id and wait for a reservation.
    without_id: Vec<Ask>,
    ticket: u64,
    announce: Option<Announce>,
    arbiters: Vec<ArbiterHandle>,
    principals: Principals,
    recovered: Option<Recovered>,
}

/// Ids that the request with the greatest need takes: a topic and its first producer.
const IDS_PER_REQUEST: u64 = 2;

impl Broker {
    /// A broker over what the storage has recovered.
    pub fn new(
        about: About,
        ground: Ground,
        recovered: Recovered,
        budget: Arc<Budget>,
        counters: Arc<Counters>,
    ) -> Self {
        let Ground {
            disk,
            storage,
            pool,
            clock,
            arbiters,
        } = ground;
        Self {
            about,
            disk,
            storage,
            pool,
            budget,
            counters,
            clock,
            generation: recovered.generation,
            failed: false,
            names: BTreeMap::new(),
            topics: HashMap::new(),
            registered: HashMap::new(),
            ids: Ids {
                next: 1,
                reserved: 1,
                asked: None,
            },
            without_id: Vec::new(),
            ticket: 0,
            announce: None,
            arbiters,
            principals: Principals::default(),
            recovered: Some(recovered),
        }
    }

    /// With principals other than none.
    #[must_use]
    pub fn guarded(mut self, principals: Principals) -> Self {
        self.principals = principals;
        self
    }

    fn recover(&mut self, recovered: Recovered, ctx: &mut Context<Self>) {
        for (id, stored) in recovered.topics {
            if id.is_none() {
                self.take_ids(&stored);
                continue;
            }
            match State::load(id, &stored) {
                Ok(state) => {
                    let name = state.name().to_owned();
                    let owner = state.row().owner();
                    let around = self.surroundings(&owner, ctx);
                    let topic = Topic::stored(state, recovered.generation, around);
                    self.place(id, name, topic, true, owner);
                }
                Err(error) => tracing::error!(topic = %id, %error, "a topic cannot be taken up"),
            }
        }
        tracing::info!(topics = self.topics.len(), "recovered");
    }

    /// Goes on after all ids that were ever reserved.
    fn take_ids(&mut self, stored: &[(Vec<u8>, Vec<u8>)]) {
        let reserved = stored
            .iter()
            .find_map(|(key, value)| rows::decode_next_id(key, value));
        let reserved = reserved.unwrap_or(1).max(self.ids.next);
        self.ids = Ids {
            next: reserved,
            reserved,
            asked: None,
        };
    }

    fn surroundings(&self, owner: &Owner, ctx: &mut Context<Self>) -> Surroundings {
        Surroundings {
            storage: self.storage.clone(),
            pool: self.pool.clone(),
            clock: self.clock.clone(),
            budget: self.budget.clone(),
            broker: ctx.address().recipient(),
            account: self.principals.account(&owner.0, owner.1),
        }
    }

    /// Starts a topic on the arbiter whose turn it is; it never moves.
    fn place(
        &mut self,
        id: TopicId,
        name: String,
        topic: Topic,
        born: bool,
        owner: Owner,
    ) -> Addr<Topic> {
        let turn = usize::try_from(id.0).unwrap_or_default() % self.arbiters.len().max(1);
        let topic = match self.arbiters.get(turn) {
            Some(arbiter) => Topic::start_in_arbiter(arbiter, move |_| topic),
            None => topic.start(),
        };
        self.names.insert(name.clone(), id);
        self.topics.insert(
            id,
            Entry {
                name: name.into(),
                topic: topic.clone(),
                born,
                owner,
            },
        );
        topic
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        self.topics.get(self.names.get(name)?)
    }

    fn located(&self, id: TopicId) -> Option<Located> {
        self.topics.get(&id).map(|entry| Located {
            topic: entry.topic.clone(),
            name: entry.name.clone(),
        })
    }

    fn address(&self, id: TopicId) -> Option<Addr<Topic>> {
        self.topics.get(&id).map(|entry| entry.topic.clone())
    }

    fn not_found(&self, name: &str, sight: &Sight) -> Failure {
        let shown: String = name
            .chars()
            .take(64)
            .flat_map(char::escape_default)
            .collect();
        let failure = Failure::new(
            ErrorCode::TopicNotFound,
            format!("there is no topic \"{shown}\""),
        );
        let names = self.names.iter().filter(|(_, id)| self.is_born(**id));
        let names = names.filter(|(name, _)| is_visible(name, sight));
        match suggest::closest(name, names.map(|(name, _)| name.as_str())) {
            Some(close) => failure.hint(format!("did you mean \"{close}\"?")),
            None => failure.hint("create it first"),
        }
    }

    fn is_born(&self, id: TopicId) -> bool {
        self.topics.get(&id).is_some_and(|entry| entry.born)
    }

    fn ask(&mut self, Ask(request, reply, sight): Ask, ctx: &mut Context<Self>) {
        match request {
            Request::CreateTopic(create) => self.create(create, reply, sight, ctx),
            Request::RegisterProducer(request) => {
                self.register_producer(request, reply, sight, ctx);
            }
            Request::RegisterConsumer(request) => {
                if let Err(failure) = name::check(&request.name, ErrorCode::InvalidName, "consumer")
                {
                    return reply.fail(failure);
                }
                if self.find(&request.topic).is_none() {
                    return reply.fail(self.not_found(&request.topic, &sight));
                }
                // Looking one up takes no id, and must go on while nothing can be written.
                if request.create && !self.have_ids() {
                    return self.want_ids(Ask(Request::RegisterConsumer(request), reply, sight));
                }
                let fresh = if request.create { self.fresh_id() } else { 0 };
                let topic = request.topic.clone();
                self.pass(
                    &topic,
                    Request::RegisterConsumer(request),
                    reply,
                    fresh,
                    &sight,
                );
            }
            Request::DescribeTopic(request) => {
                let topic = request.name.clone();
                self.pass(&topic, Request::DescribeTopic(request), reply, 0, &sight);
            }
            Request::Stats(request) if !request.topic.is_empty() => {
                let topic = request.topic.clone();
                self.pass(&topic, Request::Stats(request), reply, 0, &sight);
            }
            Request::Stats(_) => reply.answer(Answer::Stats(self.count())),
            Request::ListTopics(list) => self.list(&list, reply, &sight),
            Request::Metadata(metadata) => self.metadata(metadata, reply, &sight),
            Request::Hello(_) => reply.answer(Answer::Hello(self.greet())),
            Request::Ping(_) => {
                let pinged = self.ping();
                reply.answer(Answer::Ping(pinged));
            }
            Request::ListPrincipals(list) => match self.principals.directory().list(&list) {
                Ok(listed) => reply.answer(Answer::ListPrincipals(listed)),
                Err(failure) => reply.fail(failure),
            },
            request @ (Request::CreatePrincipal(_)
            | Request::AlterPrincipal(_)
            | Request::DeletePrincipal(_)) => self.change_principal(request, reply),
            other => reply.fail(Failure::new(
                ErrorCode::UnknownOperation,
                format!("opcode {:#04x} is not for the broker", other.opcode()),
            )),
        }
    }

    /// Hands a request to the topic of a name.
    fn pass(&self, topic: &str, request: Request, reply: Reply, fresh: u64, sight: &Sight) {
        match self.find(topic) {
            Some(entry) => entry.topic.do_send(Call {
                request,
                reply,
                fresh,
            }),
            None => reply.fail(self.not_found(topic, sight)),
        }
    }

    /// Whether who waits for this answer may know that there is a topic of this id.
    fn may_know(&self, topic: TopicId, reply: &Reply) -> bool {
        let directory = self.principals.directory();
        let name = self.topics.get(&topic).map(|it| &*it.name);
        match (reply.account(), name) {
            (Some(account), Some(name)) => directory
                .of_account(account)
                .is_some_and(|principal| is_visible(name, &Some(principal.clone()))),
            (None, _) => !directory.is_required(),
            (Some(_), None) => false,
        }
    }

    /// Lets dead letters set out. A missing topic is created, and the letters come again; where
    /// principals are counted, it would not be known for whom, and they wait until it is there.
    fn bury(
        &mut self,
        dead_letters: &str,
        batch: Payload,
        consumed: Consumed,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        let Some(&topic) = self.names.get(dead_letters) else {
            if !self.principals.directory().is_required() {
                self.create_for_dead_letters(dead_letters, consumed.topic, ctx);
            }
            return reply.fail(self.not_found(dead_letters, &None));
        };
        let request = ProduceAll {
            parts: vec![Part { topic, batch }],
            consumed: vec![consumed],
        };
        match Journey::of(request) {
            Ok(journey) => journey.depart(|id| self.address(id), reply),
            Err(failure) => reply.fail(failure),
        }
    }
}

/// Whether a topic of this name may be shown.
fn is_visible(name: &str, sight: &Sight) -> bool {
    sight
        .as_ref()
        .is_none_or(|principal| !principal.rights_on(name).is_none())
}

/// A condition as `Pinged` and `StateChanged` number it.
pub fn state_number(condition: Condition) -> u8 {
    match condition {
        Condition::Ok => 0,
        Condition::LowSpace => 1,
        Condition::Failed => 2,
    }
}

impl Actor for Broker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let broker = ctx.address();
        let announce = Announce::new(move |notice| broker.do_send(Noted(notice)));
        self.storage.attach(TopicId::NONE, announce.clone());
        self.announce = Some(announce);
        if let Some(recovered) = self.recovered.take() {
            self.recover(recovered, ctx);
        }
        self.begin_principals();
    }
}

impl Handler<Ask> for Broker {
    type Result = ();

    fn handle(&mut self, ask: Ask, ctx: &mut Context<Self>) {
        self.ask(ask, ctx);
    }
}

impl Handler<Locate> for Broker {
    type Result = Option<Located>;

    fn handle(&mut self, Locate(id): Locate, _ctx: &mut Context<Self>) -> Self::Result {
        self.located(id)
    }
}

impl Handler<Provide> for Broker {
    type Result = ();

    fn handle(&mut self, Provide(name, sight): Provide, ctx: &mut Context<Self>) {
        // Nobody waits for this: a letter that finds no topic comes again.
        let (created, _) = Reply::within();
        let create = CreateTopic {
            name,
            if_not_exists: true,
            ..CreateTopic::default()
        };
        self.create(create, created, sight, ctx);
    }
}

impl Handler<GoneFromAll> for Broker {
    type Result = ();

    fn handle(&mut self, told: GoneFromAll, _ctx: &mut Context<Self>) {
        let GoneFromAll(connection, principal) = told;
        for entry in self.topics.values() {
            let why = match &principal {
                None => Leaving::Ended,
                Some(it) if it.rights_on(&entry.name).contains(Rights::CONSUME) => continue,
                Some(_) => Leaving::Denied,
            };
            entry.topic.do_send(Gone(connection, why));
        }
    }
}

impl Handler<LocateAll> for Broker {
    type Result = Vec<Option<Located>>;

    fn handle(&mut self, LocateAll(ids): LocateAll, _ctx: &mut Context<Self>) -> Self::Result {
        ids.iter().map(|id| self.located(*id)).collect()
    }
}

impl Handler<Told> for Broker {
    type Result = ();

    fn handle(&mut self, told: Told, ctx: &mut Context<Self>) {
        match told {
            Told::Born(id) => {
                if let Some(entry) = self.topics.get_mut(&id) {
                    entry.born = true;
                }
            }
            Told::Died(id) => {
                if let Some(entry) = self.topics.remove(&id) {
                    self.names.remove(&*entry.name);
                }
                self.registered.retain(|_, topic| *topic != id);
            }
            Told::Registered(topic, ids) => {
                self.registered
                    .extend(ids.into_iter().map(|id| (id, topic)));
            }
            Told::Unregistered(id) => {
                self.registered.remove(&id);
            }
            Told::Bury {
                dead_letters,
                batch,
                consumed,
                reply,
            } => self.bury(&dead_letters, batch, consumed, reply, ctx),
            Told::Depart(request, reply) => match Journey::of(request) {
                Ok(journey) => journey.depart(|id| self.address(id), reply),
                Err(failure) => reply.fail(failure),
            },
            Told::Summary(id, sender) => self.summarize(id, sender),
            Told::Stranger {
                id,
                otherwise,
                reply,
            } => match self.registered.get(&id) {
                Some(topic) if self.may_know(*topic, &reply) => reply.fail(
                    Failure::new(
                        ErrorCode::NotRegisteredForTopic,
                        format!("id {id} is registered for the topic with id {topic}"),
                    )
                    .hint("register it for this topic too; an id belongs to one topic"),
                ),
                _ => reply.fail(otherwise),
            },
        }
    }
}

impl Handler<Noted> for Broker {
    type Result = ();

    fn handle(&mut self, Noted(notice): Noted, ctx: &mut Context<Self>) {
        match notice {
            Notice::Committed { generation, ticket } if generation == self.generation => {
                self.principals_committed(ticket);
                if let Some((asked, until)) = self.ids.asked
                    && asked <= ticket
                {
                    self.ids.reserved = until;
                    self.ids.asked = None;
                    for ask in std::mem::take(&mut self.without_id) {
                        self.ask(ask, ctx);
                    }
                }
            }
            Notice::Committed { .. } => {}
            Notice::Failed { generation } => {
                self.generation = generation;
                self.failed = true;
                self.ids.asked = None;
                self.principals_failed();
                for Ask(_, reply, _) in self.without_id.drain(..) {
                    reply.fail(storage_failed());
                }
            }
            Notice::Reloaded { generation, rows } => {
                self.generation = generation;
                self.failed = false;
                let rows = rows.unwrap_or_default();
                self.take_ids(&rows);
                self.principals_reloaded(&rows);
            }
        }
    }
}

//! Births: ids that are handed out once, and topics that their first request creates.
//!
//! Owns the order in which that is done: ids are reserved durably before they are given, a name is
//! taken before its topic is on disk, and nothing begins while nothing can be written. Its neighbour:
//! the [broker](super), whose maps these are.

use std::sync::Arc;

use actix::{Addr, Context};
use logdrive_protocol::operations::{CreateTopic, RegisterProducer, Request, Setting};
use logdrive_protocol::{ErrorCode, Failure, TopicId, name};

use super::{Ask, Broker, IDS_PER_REQUEST, Owner, Sight};
use crate::access::Principal;
use crate::limits::{MAX_TOPICS, RESERVED_IDS};
use crate::reply::Reply;
use crate::storage::{Job, JobKind};
use crate::topic::actor::{check_space, storage_failed};
use crate::topic::rows::{self, TopicRow};
use crate::topic::settings;
use crate::topic::state::State;
use crate::topic::{Call, Topic};

impl Broker {
    pub(super) fn fresh_id(&mut self) -> u64 {
        let id = self.ids.next;
        self.ids.next += 1;
        id
    }

    /// Whether ids are at hand; otherwise the request waits for a reservation.
    pub(super) fn have_ids(&self) -> bool {
        self.ids.next + IDS_PER_REQUEST <= self.ids.reserved
    }

    fn reserve_ids(&mut self, waiting: Ask) {
        self.without_id.push(waiting);
        let Some(announce) = self.announce.clone() else {
            return;
        };
        if self.ids.asked.is_some() {
            return;
        }
        let until = self.ids.reserved.max(self.ids.next) + RESERVED_IDS;
        self.ticket += 1;
        self.ids.asked = Some((self.ticket, until));
        self.storage.submit(Job {
            topic: TopicId::NONE,
            generation: self.generation,
            ticket: self.ticket,
            batches: Vec::new(),
            rows: vec![rows::next_id(until)],
            announce,
            kind: JobKind::Change,
        });
    }

    /// Lets a request wait for ids, unless nothing can be written now.
    pub(super) fn want_ids(&mut self, Ask(request, reply, sight): Ask) {
        if self.failed {
            return reply.fail(storage_failed());
        }
        if let Err(failure) = check_space(&self.storage) {
            return reply.fail(failure);
        }
        self.reserve_ids(Ask(request, reply, sight));
    }

    pub(super) fn create(
        &mut self,
        create: CreateTopic,
        reply: Reply,
        sight: Sight,
        ctx: &mut Context<Self>,
    ) {
        let checked = name::check(&create.name, ErrorCode::InvalidTopicName, "topic")
            .and_then(|()| settings::of_topic(&create.settings));
        let settings = match checked {
            Ok(settings) => settings,
            Err(failure) => return reply.fail(failure),
        };
        let name = create.name.clone();
        if self.find(&name).is_some() {
            return self.pass(&name, Request::CreateTopic(create), reply, 0, &sight);
        }
        if !self.have_ids() {
            return self.want_ids(Ask(Request::CreateTopic(create), reply, sight));
        }
        match self.newborn(&name, settings, owner_of(&sight), ctx) {
            Ok(topic) => {
                topic.do_send(Call {
                    request: Request::CreateTopic(create),
                    reply,
                    fresh: 0,
                });
            }
            Err(failure) => reply.fail(failure),
        }
    }

    /// Starts a topic that its first request will create.
    fn newborn(
        &mut self,
        name: &str,
        settings: Vec<Setting>,
        owner: Owner,
        ctx: &mut Context<Self>,
    ) -> Result<Addr<Topic>, Failure> {
        if self.failed {
            return Err(storage_failed());
        }
        check_space(&self.storage)?;
        if self.topics.len() >= MAX_TOPICS {
            return Err(Failure::new(
                ErrorCode::LimitReached,
                format!("the broker has {MAX_TOPICS} topics"),
            )
            .hint("delete those that are done; keys tell records of one topic apart"));
        }
        let id = TopicId(self.fresh_id());
        let row = TopicRow {
            name: name.to_owned(),
            settings,
            created_at: self.clock.now(),
            owner: owner.0.clone(),
            owner_created_at: owner.1,
        };
        let around = self.surroundings(&owner, ctx);
        let topic = Topic::newborn(State::newborn(id, row), self.generation, around);
        Ok(self.place(id, name.to_owned(), topic, false, owner))
    }

    /// Creates a topic for what consumers of another one give up: it belongs to the same principal.
    pub(super) fn create_for_dead_letters(
        &mut self,
        name: &str,
        from: TopicId,
        ctx: &mut Context<Self>,
    ) {
        // Nobody waits for this: whoever gives up tries again.
        let (created, _) = Reply::within();
        let create = CreateTopic {
            name: name.to_owned(),
            if_not_exists: true,
            ..CreateTopic::default()
        };
        if !self.have_ids() {
            return self.want_ids(Ask(Request::CreateTopic(create), created, None));
        }
        let owner = self.topics.get(&from).map(|it| it.owner.clone());
        let newborn = self.newborn(name, Vec::new(), owner.unwrap_or_default(), ctx);
        if let Ok(topic) = newborn {
            topic.do_send(Call {
                request: Request::CreateTopic(create),
                reply: created,
                fresh: 0,
            });
        }
    }

    pub(super) fn register_producer(
        &mut self,
        request: RegisterProducer,
        reply: Reply,
        sight: Sight,
        ctx: &mut Context<Self>,
    ) {
        let topic = request.topic.clone();
        let checked = if request.name.is_empty() {
            Ok(())
        } else {
            name::check(&request.name, ErrorCode::InvalidName, "producer")
        };
        if let Err(failure) = checked {
            return reply.fail(failure);
        }
        if self.find(&topic).is_none() {
            if !request.create_topic || !request.producer.is_none() {
                return reply.fail(self.not_found(&topic, &sight));
            }
            let valid = name::check(&topic, ErrorCode::InvalidTopicName, "topic");
            if let Err(failure) = valid {
                return reply.fail(failure);
            }
        }
        if !self.have_ids() {
            return self.want_ids(Ask(Request::RegisterProducer(request), reply, sight));
        }
        if self.find(&topic).is_none()
            && let Err(failure) = self.newborn(&topic, Vec::new(), owner_of(&sight), ctx)
        {
            return reply.fail(failure);
        }
        let fresh = self.fresh_id();
        self.pass(
            &topic,
            Request::RegisterProducer(request),
            reply,
            fresh,
            &sight,
        );
    }
}

/// Who creates what is asked for.
fn owner_of(sight: &Sight) -> Owner {
    let owner = |it: &Arc<Principal>| (it.name().to_owned(), it.created_at());
    sight.as_ref().map(owner).unwrap_or_default()
}

//! Requests for several topics: where those live, before the request sets out.
//!
//! Owns the look-up of addresses alone; what happens on the way is the topics' affair. Its
//! neighbours: the connection's dispatcher, and [`Journey`].

use std::collections::HashMap;

use actix::{ActorFutureExt, Addr, Context, ContextFutureSpawner, WrapFuture};
use logdrive_protocol::TopicId;
use logdrive_protocol::operations::ProduceAll;

use super::Connection;
use crate::broker::LocateAll;
use crate::reply::Reply;
use crate::topic::{Journey, Topic};

impl Connection {
    /// Lets a request set out to its topics.
    pub(super) fn produce_all(
        &mut self,
        request: ProduceAll,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        let journey = match Journey::of(request) {
            Ok(journey) => journey,
            Err(failure) => return reply.fail(failure),
        };
        let (mut known, mut unknown) = (HashMap::new(), Vec::new());
        for id in journey.topics() {
            match self.topics.get(&id).filter(|topic| topic.connected()) {
                Some(topic) => drop(known.insert(id, topic.clone())),
                None => unknown.push(id),
            }
        }
        if unknown.is_empty() {
            return journey.depart(|id| known.get(&id).cloned(), reply);
        }
        // What this waits for comes from the broker, and the order of requests is kept.
        self.around
            .broker
            .send(LocateAll(unknown.clone()))
            .into_actor(self)
            .map(move |located, connection, _| {
                let located: Vec<Option<Addr<Topic>>> = located.unwrap_or_default();
                for (id, topic) in unknown.into_iter().zip(located) {
                    if let Some(topic) = topic {
                        known.insert(id, topic.clone());
                        connection.remember(id, topic);
                    }
                }
                journey.depart(|id: TopicId| known.get(&id).cloned(), reply);
            })
            .wait(ctx);
    }
}

//! Requests for several topics: where those live, and whether they may be, before the request sets
//! out.
//!
//! Owns the look-up of addresses alone; what happens on the way is the topics' affair. Its
//! neighbours: the connection's dispatcher, and [`Journey`].

use actix::{ActorFutureExt, Context, ContextFutureSpawner, WrapFuture};
use logdrive_protocol::operations::{Request, Requeue};
use logdrive_protocol::{Rights, TopicId};

use super::access::not_several;
use super::rights::of_several;
use super::{Connection, Route};
use crate::broker::{LocateAll, Located};
use crate::limits::MAX_CACHED_ROUTES;
use crate::reply::Reply;
use crate::topic::Journey;
use crate::topic::actor::not_found;

/// A request for several topics, as far as it can be checked without them.
enum Errand {
    Journey(Journey),
    Requeue(Requeue),
}

impl Connection {
    /// Hands over a request that needs rights on several topics, once all of those are known.
    pub(super) fn visit_several(
        &mut self,
        request: Request,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        let needs = of_several(&request);
        let errand = match request {
            Request::ProduceAll(request) => Journey::of(request).map(Errand::Journey),
            Request::Requeue(request) => Ok(Errand::Requeue(request)),
            other => Err(not_several(&other)),
        };
        let errand = match errand {
            Ok(errand) => errand,
            Err(failure) => return reply.fail(failure),
        };
        if self.routes.len() + needs.len() > MAX_CACHED_ROUTES {
            // All of these have to be remembered at once.
            self.forget_routes();
        }
        let is_unknown = |id: &TopicId| self.live_route(*id).is_none();
        let mut unknown: Vec<_> = needs.iter().map(|it| it.0).filter(is_unknown).collect();
        unknown.dedup();
        if unknown.is_empty() {
            return self.set_out(errand, &needs, reply);
        }
        // What this waits for comes from the broker, and the order of requests is kept.
        self.around
            .broker
            .send(LocateAll(unknown.clone()))
            .into_actor(self)
            .map(move |located, connection, _| {
                let located: Vec<Option<Located>> = located.unwrap_or_default();
                for (id, located) in unknown.into_iter().zip(located) {
                    if let Some(located) = located {
                        connection.remember(id, located);
                    }
                }
                connection.set_out(errand, &needs, reply);
            })
            .wait(ctx);
    }

    fn set_out(&self, errand: Errand, needs: &[(TopicId, Rights)], reply: Reply) {
        let checked = needs
            .iter()
            .try_for_each(|(id, rights)| match self.live_route(*id) {
                Some(route) => route.allows(*id, *rights),
                None => self.check_missing(*id, *rights),
            });
        if let Err(failure) = checked {
            return self.refuse(failure, reply);
        }
        match errand {
            Errand::Journey(journey) => {
                let route = |id| self.live_route(id).map(|it| it.topic.clone());
                journey.depart(route, reply);
            }
            Errand::Requeue(requeue) => match self.live_route(requeue.topic) {
                Some(route) => route.send(requeue.into(), reply),
                None => reply.fail(not_found(requeue.topic)),
            },
        }
    }

    fn live_route(&self, id: TopicId) -> Option<&Route> {
        self.routes.get(&id).filter(|it| it.topic.connected())
    }
}

//! Who is at the other end, and whether he may do what he asks for.
//!
//! Owns the check of every request, the steps of a login, and what follows when principals change:
//! rights are looked up again, and who is not there any more is told so and let go. What a request
//! needs stands in [`rights`](super::rights); principals are the [broker](crate::broker)'s.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{
    ActorContext, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, WrapFuture,
};
use logdrive_protocol::frame::NOTICE;
use logdrive_protocol::limits::MAX_LOGIN_FRAME_BYTES;
use logdrive_protocol::operations::{Answer, Authenticated, Request};
use logdrive_protocol::{ErrorCode, Failure, Rights, Secret, TopicId};
use tokio::sync::watch;

use super::rights::{Demand, On};
use super::{Connection, Route};
use crate::access::{Directory, Principal, Session, Step};
use crate::account::Seat;
use crate::broker::{GoneFromAll, Judge, Provide, Sight};
use crate::counters::Counters;
use crate::limits::{FRAME_BYTES, LOGIN_FAILURE_DELAY};
use crate::reply::{Outgoing, Reply};
use crate::topic::{Call, Gone, Leaving, actor};

/// What somebody may do.
#[derive(Debug)]
pub(super) enum Standing {
    /// Everything: this broker asks nobody who he is.
    Open,
    /// To log in.
    Stranger,
    /// What his principal may.
    Known {
        session: Session,
        principal: Arc<Principal>,
        /// Among the connections of the principal.
        _seat: Seat,
        /// Where changes are seen.
        directory: watch::Receiver<Arc<Directory>>,
    },
}

impl Standing {
    /// The rights on a topic of this name.
    pub(super) fn rights_on(&self, topic: &str) -> Rights {
        match self {
            Self::Open => Rights::ALL,
            Self::Stranger => Rights::NONE,
            Self::Known { principal, .. } => principal.rights_on(topic),
        }
    }

    fn rights_everywhere(&self) -> Rights {
        match self {
            Self::Open => Rights::ALL,
            Self::Stranger => Rights::NONE,
            Self::Known { principal, .. } => principal.rights_everywhere(),
        }
    }
}

/// How a connection begins, and the longest frame that is taken then.
pub(super) fn at_once(access: &watch::Receiver<Arc<Directory>>) -> (Standing, u32) {
    if access.borrow().is_required() {
        (Standing::Stranger, MAX_LOGIN_FRAME_BYTES)
    } else {
        (Standing::Open, FRAME_BYTES)
    }
}

/// The answer to who lacks rights on a topic that he names; the same whether it is there or not.
fn denied(rights: Rights, topic: &str) -> Failure {
    let shown: String = topic
        .chars()
        .take(64)
        .flat_map(char::escape_default)
        .collect();
    let rights = if rights.is_none() {
        "any right".to_owned()
    } else {
        format!("the right {rights}")
    };
    let message = format!("this needs {rights} on \"{shown}\"");
    Failure::new(ErrorCode::PermissionDenied, message).hint("an administrator can grant it")
}

/// The same for a topic that he gives the id of.
pub(super) fn denied_by_id(id: TopicId, rights: Rights) -> Failure {
    let message = format!("this needs the right {rights} on the topic with id {id}");
    Failure::new(ErrorCode::PermissionDenied, message).hint("an administrator can grant it")
}

/// What is not for several topics has no way there.
pub(super) fn not_several(request: &Request) -> Failure {
    let message = format!("opcode {:#04x} is not for several topics", request.opcode());
    Failure::new(ErrorCode::UnknownOperation, message)
}

/// What the end of a principal is told as.
fn gone() -> Failure {
    Failure::new(
        ErrorCode::AuthenticationRequired,
        "the principal, or the credential it logged in with, is not there any more",
    )
}

impl Route {
    /// Whether a request that needs these rights may go there.
    pub(super) fn allows(&self, id: TopicId, rights: Rights) -> Result<(), Failure> {
        if self.rights.contains(rights) {
            Ok(())
        } else {
            Err(denied_by_id(id, rights))
        }
    }

    /// Hands a request over.
    pub(super) fn send(&self, request: Request, reply: Reply) {
        self.topic.do_send(Call {
            request,
            reply,
            fresh: 0,
        });
    }
}

impl Connection {
    /// Answers that a request is not carried out.
    pub(super) fn refuse(&self, failure: Failure, reply: Reply) {
        if failure.code == ErrorCode::PermissionDenied {
            Counters::add(&self.around.counters.denied, 1);
        }
        reply.fail(failure);
    }

    /// Whether a request may be carried out, as far as that is known before its topic is.
    pub(super) fn check(&self, request: &Request, demand: &Demand<'_>) -> Result<(), Failure> {
        let standing = &self.standing;
        if matches!(standing, Standing::Stranger) && !matches!(demand.on, On::Login | On::Anybody) {
            return Err(self.unknown(request));
        }
        match demand.on {
            On::Login | On::Anybody | On::All | On::Topic(..) | On::Several => {}
            On::Broker => {
                if !standing.rights_everywhere().contains(Rights::ADMIN) {
                    return Err(denied(Rights::ADMIN, "*"));
                }
            }
            On::Name(name, rights) => {
                if !standing.rights_on(name).contains(rights) {
                    return Err(denied(rights, name));
                }
            }
            On::Known(name) => {
                if standing.rights_on(name).is_none() {
                    return Err(denied(Rights::NONE, name));
                }
            }
        }
        match demand.dead_letters {
            Some(topic) if !standing.rights_on(topic).contains(Rights::PRODUCE) => {
                Err(denied(Rights::PRODUCE, topic))
            }
            _ => Ok(()),
        }
    }

    /// Has the topic created to which a consumer's dead letters would go, by who may register that
    /// consumer: so it counts for him, and not for the owner of the records that he gives up.
    pub(super) fn provide_dead_letters(&self, request: &Request) {
        if !matches!(
            request,
            Request::RegisterConsumer(_) | Request::AlterConsumer(_)
        ) {
            return;
        }
        let topic = Demand::of(request).dead_letters;
        if let (Some(topic), Some(principal)) = (topic, self.sight()) {
            let provide = Provide(topic.to_owned(), Some(principal));
            self.around.broker.do_send(provide);
        }
    }

    fn unknown(&self, request: &Request) -> Failure {
        let message = format!(
            "opcode {:#04x} is for those who are logged in",
            request.opcode()
        );
        let hint = if self.answers.is_some() {
            "send Authenticate first: give the client a token, or a name and a password"
        } else {
            "type: AUTH TOKEN token, or AUTH name password"
        };
        Failure::new(ErrorCode::AuthenticationRequired, message).hint(hint)
    }

    /// The request without what its principal may not ask for beside the rest.
    pub(super) fn narrowed(&self, mut request: Request) -> Request {
        if let Request::RegisterProducer(register) = &mut request
            && register.create_topic
        {
            let rights = self.standing.rights_on(&register.topic);
            register.create_topic = rights.contains(Rights::ADMIN);
        }
        request
    }

    /// Which topics may be shown.
    pub(super) fn sight(&self) -> Sight {
        match &self.standing {
            Standing::Known { principal, .. } => Some(principal.clone()),
            Standing::Open | Standing::Stranger => None,
        }
    }

    /// What is said of a topic id that there is not: only who would have the rights on any topic, or
    /// had them on this one, may know that.
    pub(super) fn check_missing(&self, id: TopicId, rights: Rights) -> Result<(), Failure> {
        let known = self.routes.get(&id).map_or(Rights::NONE, |it| it.rights);
        if (self.standing.rights_everywhere() | known).contains(rights) {
            Ok(())
        } else {
            Err(denied_by_id(id, rights))
        }
    }

    /// The same as an answer.
    pub(super) fn not_found(&self, id: TopicId, rights: Rights) -> Failure {
        self.check_missing(id, rights)
            .err()
            .unwrap_or_else(|| actor::not_found(id))
    }

    /// Ends the connection if nobody is logged in by then.
    pub(super) fn await_login(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        if matches!(self.standing, Standing::Stranger) {
            ctx.run_later(wait, move |connection, ctx| {
                if matches!(connection.standing, Standing::Stranger) {
                    let message = format!("nobody has logged in within {wait:?}");
                    let failure = Failure::new(ErrorCode::HandshakeTimeout, message);
                    connection.let_go(failure, ctx);
                }
            });
        }
    }

    /// Takes a step of a login.
    pub(super) fn log_in(&mut self, request: Request, reply: Reply, ctx: &mut Context<Self>) {
        let Request::Authenticate(request) = request else {
            return reply.fail(not_several(&request));
        };
        match &self.standing {
            Standing::Open => {
                let message = "this broker asks nobody to log in";
                return reply.fail(
                    Failure::new(ErrorCode::NotSupported, message)
                        .hint("start it with --auth, or give the client no credentials"),
                );
            }
            Standing::Known { session, .. } => {
                let message = format!("this connection is logged in as \"{}\"", session.name);
                return reply.fail(
                    Failure::new(ErrorCode::NotSupported, message).hint("open another connection"),
                );
            }
            Standing::Stranger => {}
        }
        let directory = self.around.access.borrow().clone();
        let certified = self.peer.name.as_deref();
        match self.login.step(&request, &directory, certified) {
            Ok(Step::Wrong(failure)) => self.settle(Err(failure), reply, ctx),
            // What others of its address have failed with does not shut out who shows this.
            Ok(Step::Right(session, data)) if !session.could_be_guessed() => {
                match self.admit(session, data, ctx) {
                    Ok(authenticated) => reply.answer(Answer::Authenticate(authenticated)),
                    Err(failure) => reply.fail(failure),
                }
            }
            Ok(step) => self.settle(Ok(step), reply, ctx),
            Err(failure) => reply.fail(failure),
        }
    }

    /// Answers a step: whether it counts is decided where those of all connections are counted. Only
    /// this connection waits, and takes nothing meanwhile.
    fn settle(&mut self, outcome: Result<Step, Failure>, reply: Reply, ctx: &mut Context<Self>) {
        let judged = self.around.broker.send(Judge {
            address: self.peer.address,
            right: outcome.is_ok(),
        });
        let (connection, address) = (self.id.0, self.peer.address);
        let counters = self.around.counters.clone();
        let judged = async move {
            let outcome = match judged.await {
                Ok(Ok(())) => outcome,
                Ok(Err(wait)) => Err(too_many(wait)),
                Err(_) => Err(Failure::new(ErrorCode::Unavailable, "the broker stops")),
            };
            if let Err(Failure { code, .. }) = &outcome {
                // Never what was tried: people type secrets where names belong.
                match code {
                    // A flood of them must not fill the log.
                    ErrorCode::RetryLater => {
                        Counters::add(&counters.logins_put_off, 1);
                        tracing::debug!(connection, %address, %code, "a login was put off");
                    }
                    ErrorCode::Unavailable => {}
                    _ => {
                        Counters::add(&counters.logins_failed, 1);
                        tracing::warn!(connection, %address, %code, "a login failed");
                    }
                }
                tokio::time::sleep(LOGIN_FAILURE_DELAY).await;
            }
            outcome
        };
        judged
            .into_actor(self)
            .map(move |outcome, connection, ctx| {
                match outcome.and_then(|step| connection.advance(step, ctx)) {
                    Ok(authenticated) => reply.answer(Answer::Authenticate(authenticated)),
                    Err(failure) => reply.fail(failure),
                }
            })
            .wait(ctx);
    }

    fn advance(&mut self, step: Step, ctx: &mut Context<Self>) -> Result<Authenticated, Failure> {
        match step {
            Step::Next(data) => Ok(Authenticated {
                done: false,
                data,
                principal: String::new(),
            }),
            Step::Right(session, data) => self.admit(session, data, ctx),
            Step::Wrong(failure) => Err(failure),
        }
    }

    fn admit(
        &mut self,
        session: Session,
        data: Secret,
        ctx: &mut Context<Self>,
    ) -> Result<Authenticated, Failure> {
        let mut directory = self.around.access.clone();
        let principal = directory.borrow_and_update().standing(&session).cloned();
        let Some(principal) = principal else {
            return Err(gone());
        };
        let seat = principal.account().seat()?;
        self.window.open_account(principal.account().clone());
        tracing::debug!(connection = self.id.0, principal = %session.name, "logged in");
        let answer = Authenticated {
            done: true,
            data,
            principal: session.name.clone(),
        };
        let changes = directory.clone();
        self.standing = Standing::Known {
            session,
            principal,
            _seat: seat,
            directory,
        };
        self.frame_bytes.store(FRAME_BYTES, Ordering::Release);
        Self::watch(changes, self, ctx);
        Ok(answer)
    }

    /// Looks for changes as soon as they are published, also while nothing is asked.
    fn watch(
        mut changes: watch::Receiver<Arc<Directory>>,
        connection: &Self,
        ctx: &mut Context<Self>,
    ) {
        let next = async move {
            let published = changes.changed().await;
            published.ok().map(|()| changes)
        };
        ctx.spawn(next.into_actor(connection).map(|changes, connection, ctx| {
            match (changes, connection.notice_changes()) {
                (_, Err(failure)) => connection.let_go(failure, ctx),
                (Some(changes), Ok(())) => Self::watch(changes, connection, ctx),
                (None, Ok(())) => {}
            }
        }));
    }

    /// Takes up what was published since the last look.
    ///
    /// # Errors
    /// Nobody is logged in any more: the connection is to [end](Self::let_go) with this.
    pub(super) fn notice_changes(&mut self) -> Result<(), Failure> {
        let Standing::Known {
            session,
            principal,
            directory,
            ..
        } = &mut self.standing
        else {
            return Ok(());
        };
        if !directory.has_changed().unwrap_or_default() {
            return Ok(());
        }
        let Some(changed) = directory.borrow_and_update().standing(session).cloned() else {
            self.standing = Standing::Stranger;
            return Err(gone());
        };
        if Arc::ptr_eq(principal, &changed) {
            return Ok(());
        }
        for route in self.routes.values_mut() {
            let before = route.rights;
            route.rights = changed.rights_on(&route.name);
            // What waits there for records must not be given them any more.
            if before.contains(Rights::CONSUME) && !route.rights.contains(Rights::CONSUME) {
                route.topic.do_send(Gone(self.id, Leaving::Denied));
            }
        }
        if self.has_forgotten {
            let rest = GoneFromAll(self.id, Some(changed.clone()));
            self.around.broker.do_send(rest);
        }
        *principal = changed;
        Ok(())
    }

    /// Says why, as the last frame or line, and ends the connection.
    pub(super) fn let_go(&mut self, failure: Failure, ctx: &mut Context<Self>) {
        if let Some(expel) = self.expel.take() {
            // The session ends the actor when it has written that.
            let _ = expel.send(failure);
            return;
        }
        if let Some(answers) = &self.answers {
            let _ = answers.send(Box::new(Outgoing {
                opcode: 0,
                correlation: NOTICE,
                result: Err(failure),
                permits: [None, None],
            }));
        }
        ctx.stop();
    }
}

fn too_many(wait: Duration) -> Failure {
    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    Failure::new(
        ErrorCode::RetryLater,
        "too many logins from this address have failed",
    )
    .numbers(wait, 0)
    .hint("wait, and then check the credentials before the next try")
}

//! Principals: their changes, one after the other, and what is published of them.
//!
//! ```text
//! CreatePrincipal, ... --> changed directory --> row of topic 0 --commit--> published, then answered
//! ```
//!
//! What is not durable is seen by nobody. Also here, because all connections have to share it: how
//! often an address may guess.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::{Context, Handler, Message};
use logdrive_protocol::TopicId;
use logdrive_protocol::operations::{
    Answer, PrincipalAltered, PrincipalCreated, PrincipalDeleted, Request,
};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Broker;
use crate::access::Directory;
use crate::access::throttle::Throttle;
use crate::account::Account;
use crate::reply::Reply;
use crate::storage::{Job, JobKind, Row};
use crate::topic::actor::{check_space, storage_failed};

/// Says how a login went that was wrong, or whose credential could be guessed; the answer is whether
/// it counts, and for how long not.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), Duration>")]
pub struct Judge {
    /// Where it came from.
    pub address: IpAddr,
    /// Whether the credential was right.
    pub right: bool,
}

/// All principals, and the change of them that is under way.
#[derive(Debug)]
pub struct Principals {
    /// What is durable.
    publish: watch::Sender<Arc<Directory>>,
    /// What is to be durable before anything else.
    beginning: Option<(Directory, Vec<Row>)>,
    pending: Option<Pending>,
    /// Changes that wait for the one under way; as many as windows allow.
    waiting: VecDeque<(Request, Reply)>,
    throttle: Throttle,
}

#[derive(Debug)]
struct Pending {
    ticket: u64,
    directory: Directory,
    /// What was asked for, and who is told when it is durable; nothing of what a first start makes.
    change: Option<Change>,
}

#[derive(Debug)]
struct Change {
    /// As the log says it.
    what: &'static str,
    principal: String,
    reply: Reply,
    answer: Answer,
}

impl Default for Principals {
    fn default() -> Self {
        Self::new(Directory::default(), Vec::new()).0
    }
}

impl Principals {
    /// Begins with a directory; it is published when `rows`, which are missing on the disk, are
    /// durable.
    pub fn new(directory: Directory, rows: Vec<Row>) -> (Self, watch::Receiver<Arc<Directory>>) {
        // Until then nobody can log in.
        let first = if rows.is_empty() {
            directory.clone()
        } else {
            Directory::load(directory.is_required(), &[])
        };
        first.open_accounts(&Directory::default());
        let (publish, published) = watch::channel(Arc::new(first));
        let principals = Self {
            publish,
            beginning: (!rows.is_empty()).then_some((directory, rows)),
            pending: None,
            waiting: VecDeque::new(),
            throttle: Throttle::default(),
        };
        (principals, published)
    }

    /// What is durable.
    pub(super) fn directory(&self) -> Arc<Directory> {
        self.publish.borrow().clone()
    }

    /// The account of who was created under this name at this time, if he is there.
    pub(super) fn account(&self, name: &str, created_at: u64) -> Option<Arc<Account>> {
        match &self.beginning {
            Some((directory, _)) => directory.account(name, created_at),
            None => self.directory().account(name, created_at),
        }
    }

    fn publish(&self, directory: Directory) {
        directory.open_accounts(&self.directory());
        self.publish.send_replace(Arc::new(directory));
    }
}

impl Broker {
    /// Writes what a first start has made.
    pub(super) fn begin_principals(&mut self) {
        if let Some((directory, rows)) = self.principals.beginning.take() {
            self.stage_principals(directory, rows, None);
        }
    }

    pub(super) fn change_principal(&mut self, request: Request, reply: Reply) {
        if self.failed {
            return reply.fail(storage_failed());
        }
        if self.principals.pending.is_some() {
            return self.principals.waiting.push_back((request, reply));
        }
        let (directory, now) = (self.principals.directory(), self.clock.now());
        let (what, principal, changed) = match request {
            // What takes rights away goes on when space is short.
            Request::CreatePrincipal(create) => {
                let name = create.name.clone();
                let made = check_space(&self.storage).and_then(|()| directory.create(create, now));
                let made = made.map(|mut it| {
                    let tokens = std::mem::take(&mut it.tokens);
                    (it, Answer::CreatePrincipal(PrincipalCreated { tokens }))
                });
                ("created", name, made)
            }
            Request::AlterPrincipal(alter) => {
                let name = alter.name.clone();
                let altered = directory.alter(alter, now).map(|mut it| {
                    let tokens = std::mem::take(&mut it.tokens);
                    (it, Answer::AlterPrincipal(PrincipalAltered { tokens }))
                });
                ("altered", name, altered)
            }
            Request::DeletePrincipal(delete) => {
                let deleted = directory.delete(&delete.name);
                let deleted = deleted.map(|it| (it, Answer::DeletePrincipal(PrincipalDeleted {})));
                ("deleted", delete.name, deleted)
            }
            // Nothing else is handed over.
            _ => return drop(reply),
        };
        match changed {
            Ok((change, answer)) => {
                let asked = Change {
                    what,
                    principal,
                    reply,
                    answer,
                };
                self.stage_principals(change.directory, vec![change.row], Some(asked));
            }
            Err(failure) => reply.fail(failure),
        }
    }

    fn stage_principals(
        &mut self,
        directory: Directory,
        rows: Vec<Row>,
        mut change: Option<Change>,
    ) {
        let Some(announce) = self.announce.clone() else {
            return;
        };
        if let Some(change) = &mut change {
            change.reply.staged();
        }
        self.ticket += 1;
        self.principals.pending = Some(Pending {
            ticket: self.ticket,
            directory,
            change,
        });
        self.storage.submit(Job {
            topic: TopicId::NONE,
            generation: self.generation,
            ticket: self.ticket,
            batches: Vec::new(),
            rows,
            announce,
            kind: JobKind::Change,
        });
    }

    pub(super) fn principals_committed(&mut self, ticket: u64) {
        if let Some(pending) = self.principals.pending.take_if(|it| it.ticket <= ticket) {
            self.principals.publish(pending.directory);
            // Answered after it was published: who has the answer sees the change.
            if let Some(change) = pending.change {
                let Change {
                    what, principal, ..
                } = &change;
                tracing::info!(%principal, "a principal was {what}");
                change.reply.answer(change.answer);
            }
            self.next_change();
        }
    }

    fn next_change(&mut self) {
        while self.principals.pending.is_none()
            && let Some((request, reply)) = self.principals.waiting.pop_front()
        {
            self.change_principal(request, reply);
        }
    }

    /// The change under way may be on disk or not: its reply says so by being dropped.
    pub(super) fn principals_failed(&mut self) {
        self.principals.pending = None;
        for (_, reply) in self.principals.waiting.drain(..) {
            reply.fail(storage_failed());
        }
    }

    pub(super) fn principals_reloaded(&mut self, rows: &[(Vec<u8>, Vec<u8>)]) {
        let before = self.principals.directory();
        let directory = Directory::load(before.is_required(), rows).succeeding(&before);
        self.principals.publish(directory);
    }
}

impl Handler<Judge> for Broker {
    type Result = Result<(), Duration>;

    fn handle(&mut self, judge: Judge, _ctx: &mut Context<Self>) -> Self::Result {
        let Judge { address, right } = judge;
        self.principals
            .throttle
            .judge(address, right, Instant::now())
    }
}

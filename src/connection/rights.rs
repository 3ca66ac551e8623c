//! Which rights a request needs: the one list of it, for frames and text alike.
//!
//! A request that stands in no line of it does not compile. Whether somebody has the rights is
//! decided [beside](super::access).

use logdrive_protocol::operations::{Request, Setting};
use logdrive_protocol::{Rights, TopicId};

use crate::topic::consumer::config::DEAD_LETTER_TOPIC;

/// What a request needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Demand<'a> {
    /// What it is about.
    pub(super) on: On<'a>,
    /// The topic to which a consumer's dead letters would go: it needs the right to produce there.
    pub(super) dead_letters: Option<&'a str>,
}

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum On<'a> {
    /// Logging in.
    Login,
    /// Nothing that anybody has to be logged in for.
    Anybody,
    /// Nothing that needs a right; where it lists topics, it shows those that may be seen.
    All,
    /// The broker and everything in it: the right to administer all.
    Broker,
    /// A topic by its name, and which rights on it.
    Name(&'a str, Rights),
    /// A topic by its name: any right will do.
    Known(&'a str),
    /// A topic by its id.
    Topic(TopicId, Rights),
    /// Several, which [`of_several`] names.
    Several,
}

impl<'a> Demand<'a> {
    /// What a request needs.
    pub(super) fn of(request: &'a Request) -> Self {
        const PRODUCE: Rights = Rights::PRODUCE;
        const CONSUME: Rights = Rights::CONSUME;
        const ADMIN: Rights = Rights::ADMIN;
        let mut dead_letters = None;
        let on = match request {
            Request::Authenticate(_) => On::Login,
            Request::Ping(_) => On::Anybody,
            Request::Hello(_) | Request::Metadata(_) | Request::ListTopics(_) => On::All,
            Request::CreatePrincipal(_)
            | Request::AlterPrincipal(_)
            | Request::DeletePrincipal(_)
            | Request::ListPrincipals(_) => On::Broker,
            Request::Stats(it) if it.topic.is_empty() => On::Broker,
            Request::Stats(it) => On::Known(&it.topic),
            Request::DescribeTopic(it) => On::Known(&it.name),
            Request::CreateTopic(it) => On::Name(&it.name, ADMIN),
            Request::DeleteTopic(it) => On::Topic(it.topic, ADMIN),
            Request::AlterTopic(it) => On::Topic(it.topic, ADMIN),
            Request::PurgeTopic(it) => On::Topic(it.topic, ADMIN),
            Request::RegisterProducer(it) => On::Name(&it.topic, PRODUCE),
            Request::UnregisterProducer(it) => On::Topic(it.topic, PRODUCE),
            Request::Produce(it) => On::Topic(it.topic, PRODUCE),
            Request::ProduceAll(_) | Request::Requeue(_) => On::Several,
            Request::RegisterConsumer(it) => {
                dead_letters = named(&it.settings);
                On::Name(&it.topic, CONSUME)
            }
            Request::AlterConsumer(it) => {
                dead_letters = named(&it.set);
                On::Topic(it.topic, CONSUME)
            }
            Request::Fetch(it) => On::Topic(it.topic, CONSUME),
            Request::Consume(it) => On::Topic(it.topic, CONSUME),
            Request::Cancel(it) => On::Topic(it.topic, CONSUME),
            Request::UnregisterConsumer(it) => On::Topic(it.topic, CONSUME),
            Request::UnregisterWorker(it) => On::Topic(it.topic, CONSUME),
            Request::Seek(it) => On::Topic(it.topic, CONSUME),
            Request::Size(it) => On::Topic(it.topic, CONSUME),
            Request::Ack(it) => On::Topic(it.topic, CONSUME),
            Request::Nack(it) => On::Topic(it.topic, CONSUME),
            Request::Extend(it) => On::Topic(it.topic, CONSUME),
            Request::DescribeConsumer(it) => On::Topic(it.topic, CONSUME),
        };
        Self { on, dead_letters }
    }
}

/// The topics of a request for several, and which rights on each.
pub(super) fn of_several(request: &Request) -> Vec<(TopicId, Rights)> {
    match request {
        Request::ProduceAll(it) => {
            let produced = it.parts.iter().map(|part| (part.topic, Rights::PRODUCE));
            let consumed = it.consumed.iter().map(|it| (it.topic, Rights::CONSUME));
            produced.chain(consumed).collect()
        }
        // Letters are read in one topic, and given again to a consumer of another.
        Request::Requeue(it) => vec![
            (it.topic, Rights::CONSUME),
            (it.dead_letters, Rights::CONSUME),
        ],
        _ => Vec::new(),
    }
}

fn named(settings: &[Setting]) -> Option<&str> {
    let setting = settings.iter().find(|it| it.key == DEAD_LETTER_TOPIC);
    setting.map(|it| it.value.as_str())
}

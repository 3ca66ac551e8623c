//! The client: operations by name, and what opens producers, consumers and fetchers.
//!
//! It owns nothing but the way to the dialer; what is asked of consumers by name stands in
//! `consumers`. A single operation is asked once; one that can be
//! repeated without harm is asked again when it met a connection that had just ended. Nothing here
//! waits for a broker to come back.

use std::time::Duration;

use logdrive_protocol::operations::{
    AlterTopic, Consume, Counter, CreateTopic, DeleteTopic, DescribeTopic, Fetch, Greeted, Hello,
    ListTopics, Located, Metadata, Operation, Ping, Pinged, PurgeTopic, Setting, Stats,
    TopicCreated, TopicDescribed, TopicPurged, TopicSummary,
};
use logdrive_protocol::preface::Limits;
use logdrive_protocol::{ErrorCode, Failure, Position, TopicId, limits};

use crate::dialer::Dialer;
use crate::link::{Link, Parking};
use crate::{
    Addresses, Consumer, ConsumerOptions, Error, ErrorKind, FetchOptions, Fetcher, Options,
    Producer, ProducerOptions, Sender,
};

/// How often one request follows brokers that name another.
const REDIRECTS: usize = 3;

/// A broker, reached over one connection that is made again when it is lost. Cheap to clone.
///
/// The connection ends with the last clone, producer, consumer and fetcher of it.
#[derive(Clone, Debug)]
pub struct Client {
    dialer: Dialer,
}

impl Client {
    /// Connects to the first of the addresses that answers (`"a:7440,b:7440"`, or a list).
    pub async fn connect(addresses: impl Into<Addresses>) -> Result<Self, Error> {
        Self::connect_with(addresses, Options::default()).await
    }

    /// Connects with options other than the defaults.
    pub async fn connect_with(
        addresses: impl Into<Addresses>,
        options: Options,
    ) -> Result<Self, Error> {
        let dialer = Dialer::begin(addresses.into(), options)?;
        dialer.link().await?;
        Ok(Self { dialer })
    }

    /// Asks for one operation, once; only a broker that names another one is followed.
    ///
    /// Dropping the future gives up the answer, not the request.
    pub async fn call<O: Operation>(&self, request: O) -> Result<O::Answer, Error> {
        self.ask(&request).await
    }

    pub(crate) async fn ask<O: Operation>(&self, request: &O) -> Result<O::Answer, Error> {
        let mut redirects = 0;
        loop {
            let link = self.dialer.link().await?;
            let error = match link.ask(request, parking::<O>(&link)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if redirects == REDIRECTS || !follow(&self.dialer, &link, &error).await {
                return Err(error);
            }
            redirects += 1;
        }
    }

    /// As `ask`, for what can be repeated without harm: a connection that ended unnoticed while
    /// nothing was asked is no reason to fail. The flag says whether it was asked twice.
    pub(crate) async fn repeat<O: Operation>(
        &self,
        request: &O,
    ) -> (Result<O::Answer, Error>, bool) {
        match self.ask(request).await {
            Err(error) if error.kind() == ErrorKind::ConnectionLost => {
                (self.ask(request).await, true)
            }
            first => (first, false),
        }
    }

    /// Asks whether the broker is there and what it can do now.
    pub async fn ping(&self) -> Result<Pinged, Error> {
        self.repeat(&Ping {}).await.0
    }

    /// Asks who the broker is.
    pub async fn hello(&self) -> Result<Greeted, Error> {
        let hello = Hello {
            client: self.dialer.options().client_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.repeat(&hello).await.0
    }

    /// What the broker of the present connection accepts.
    pub async fn limits(&self) -> Result<Limits, Error> {
        Ok(*self.dialer.link().await?.limits())
    }

    /// Counters of a topic, or of the broker.
    pub async fn stats(&self, topic: Option<&str>) -> Result<Vec<Counter>, Error> {
        let stats = Stats {
            topic: topic.unwrap_or_default().to_owned(),
        };
        Ok(self.repeat(&stats).await.0?.counters)
    }

    /// Where topics are served, in the order asked for; a topic that is not there has id 0.
    pub async fn metadata(&self, topics: &[&str]) -> Result<Located, Error> {
        let metadata = Metadata {
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
        };
        let located = self.repeat(&metadata).await.0?;
        if located.topics.len() != topics.len() {
            return Err(Error::protocol("places of other topics than asked for"));
        }
        Ok(located)
    }

    /// The id of a topic, from its name.
    pub(crate) async fn topic_id(&self, topic: &str) -> Result<TopicId, Error> {
        let located = self.metadata(&[topic]).await?;
        match located.topics.first() {
            Some(place) if !place.id.is_none() => Ok(place.id),
            _ if self.dialer.options().credentials.is_some() => self.hidden(topic).await,
            _ => Err(topic_not_found(topic).into()),
        }
    }

    /// Why a topic is not shown: it is not there, or not to be seen.
    async fn hidden(&self, topic: &str) -> Result<TopicId, Error> {
        let describe = DescribeTopic {
            name: topic.to_owned(),
            limit: 1,
            ..DescribeTopic::default()
        };
        match self.repeat(&describe).await.0 {
            Ok(described) => Ok(described.topic),
            Err(error) if error.code() == Some(ErrorCode::TopicNotFound) => {
                Err(topic_not_found(topic).into())
            }
            Err(error) => Err(error),
        }
    }

    /// Creates a topic. `if_not_exists` takes one that exists with equal settings for a success.
    pub async fn create_topic(
        &self,
        name: &str,
        settings: &[Setting],
        if_not_exists: bool,
    ) -> Result<TopicCreated, Error> {
        let create = CreateTopic {
            name: name.to_owned(),
            settings: settings.to_vec(),
            if_not_exists,
        };
        if if_not_exists {
            self.repeat(&create).await.0
        } else {
            self.ask(&create).await
        }
    }

    /// Deletes a topic with all its records, producers and consumers.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let topic = self.topic_id(name).await?;
        match self.repeat(&DeleteTopic { topic }).await {
            (Ok(_), _) => Ok(()),
            // Ids are never reused: the first request has done it, and its answer was lost.
            (Err(error), true) if error.code() == Some(ErrorCode::TopicNotFound) => Ok(()),
            (Err(error), _) => Err(error),
        }
    }

    /// Changes settings of a topic, and answers all that it has then; those in `unset` go back to
    /// their defaults.
    pub async fn alter_topic(
        &self,
        name: &str,
        set: &[Setting],
        unset: &[&str],
    ) -> Result<Vec<Setting>, Error> {
        let alter = AlterTopic {
            topic: self.topic_id(name).await?,
            set: set.to_vec(),
            unset: unset.iter().map(|&key| key.to_owned()).collect(),
        };
        Ok(self.repeat(&alter).await.0?.settings)
    }

    /// Removes the records of a topic before a position, for good.
    ///
    /// What the answer counts may be less where the first answer was lost: the rest was removed then.
    pub async fn purge_topic(&self, name: &str, before: Position) -> Result<TopicPurged, Error> {
        let topic = self.topic_id(name).await?;
        self.repeat(&PurgeTopic { topic, before }).await.0
    }

    /// All topics whose names match, in the order of their names; an empty glob matches all.
    pub async fn list_topics(&self, glob: &str) -> Result<Vec<TopicSummary>, Error> {
        let mut topics: Vec<TopicSummary> = Vec::new();
        loop {
            let list = ListTopics {
                glob: glob.to_owned(),
                after: topics.last().map_or_else(String::new, |it| it.name.clone()),
                limit: limits::MAX_LIST,
            };
            let page = self.repeat(&list).await.0?;
            let advances = page.topics.first().is_some_and(|it| it.name > list.after);
            topics.extend(page.topics);
            if !page.more {
                return Ok(topics);
            }
            if !advances {
                return Err(Error::protocol("a list that goes on without getting on"));
            }
        }
    }

    /// A topic with all its consumers.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescribed, Error> {
        let mut whole: Option<TopicDescribed> = None;
        loop {
            let after = whole
                .iter()
                .filter_map(|it| it.consumers.last())
                .next_back();
            let describe = DescribeTopic {
                name: name.to_owned(),
                after: after.map_or_else(String::new, |it| it.name.clone()),
                limit: limits::MAX_LIST,
            };
            let page = self.repeat(&describe).await.0?;
            let more = page.more;
            let advances = page
                .consumers
                .first()
                .is_some_and(|it| it.name > describe.after);
            let whole = match &mut whole {
                Some(whole) => {
                    whole.consumers.extend(page.consumers);
                    whole
                }
                none => none.insert(page),
            };
            if !more {
                whole.more = false;
                return Ok(std::mem::take(whole));
            }
            if !advances {
                return Err(Error::protocol("a list that goes on without getting on"));
            }
        }
    }

    /// The offset that a position stands for now.
    pub async fn resolve(&self, topic: &str, position: Position) -> Result<u64, Error> {
        let topic = self.topic_id(topic).await?;
        self.resolve_in(topic, position).await
    }

    pub(crate) async fn resolve_in(
        &self,
        topic: TopicId,
        position: Position,
    ) -> Result<u64, Error> {
        if let Position::Offset(offset) = position {
            return Ok(offset);
        }
        let fetch = Fetch {
            topic,
            from: position,
            max_records: 1,
            max_bytes: 1,
            ..Fetch::default()
        };
        let found = self.repeat(&fetch).await.0?;
        Ok(found.ranges.first().map_or(found.next, |range| range.from))
    }

    /// Reads a topic from a position on, changing nothing.
    pub async fn fetch(
        &self,
        topic: &str,
        from: Position,
        options: FetchOptions,
    ) -> Result<Fetcher, Error> {
        Fetcher::open(self, topic, from, options).await
    }

    /// A producer for these topics, registered with each of them.
    pub async fn producer(
        &self,
        topics: &[&str],
        options: ProducerOptions,
    ) -> Result<Producer, Error> {
        Producer::open(self, topics, options).await
    }

    /// A sender for these topics, registered with each of them: for records that are stored together
    /// or not at all, and for those that wait for their time. Of the options `name`, `create_topic`
    /// and `registered` count.
    pub async fn sender(&self, topics: &[&str], options: ProducerOptions) -> Result<Sender, Error> {
        Sender::open(self, topics, options).await
    }

    /// A consumer of this name on each of these topics.
    pub async fn consumer(
        &self,
        name: &str,
        topics: &[&str],
        options: ConsumerOptions,
    ) -> Result<Consumer, Error> {
        Consumer::open(self, name, topics, options).await
    }

    /// Makes no connection any more: what needs another one gets
    /// [`ErrorKind::Closed`]. Close producers before.
    pub async fn close(self) {
        self.dialer.close().await;
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }
}

/// Goes to the broker that `error` names, if it names one.
pub(crate) async fn follow(dialer: &Dialer, link: &Link, error: &Error) -> bool {
    match error.failure() {
        Some(failure) if failure.code == ErrorCode::NotLeader && !failure.address.is_empty() => {
            dialer.redirect(link, &failure.address).await;
            true
        }
        _ => false,
    }
}

/// A request of any kind may wait as long as the broker lets it.
fn parking<O: Operation>(link: &Link) -> Parking {
    let waits = O::OPCODE == Fetch::OPCODE || O::OPCODE == Consume::OPCODE;
    let longest = Duration::from_millis(link.limits().wait_ms.into());
    Parking {
        wait: if waits { longest } else { Duration::ZERO },
        topic: None,
    }
}

pub(crate) fn topic_not_found(topic: &str) -> Failure {
    Failure::new(
        ErrorCode::TopicNotFound,
        format!("there is no topic \"{topic}\""),
    )
    .hint(format!("create it: logdrive topic create {topic}"))
}

//! Carrying out what is asked of a topic, but for giving records.
//!
//! Every request ends here in an answer, in a change whose commit is the answer, or in a line of
//! [`serving`](super::serving). Its neighbours: the [actor](super::actor) calls it.

use actix::{AsyncContext, Context};
use bytes::BytesMut;
use logdrive_protocol::limits::{DEFAULT_LIST, MAX_LIST};
use logdrive_protocol::operations::{
    Answer, ConsumerRegistered, Counted, CreateTopic, DescribeTopic, Measured, Produce,
    ProducerRegistered, ProducerUnregistered, RegisterConsumer, RegisterProducer, Request, Size,
    TopicCreated, TopicDeleted, UnregisterProducer,
};
use logdrive_protocol::{ConsumerId, ErrorCode, Failure, ProducerId};

use super::actor::{Parked, Proceed, Topic};
use super::consumer::Consumer;
use super::consuming::InLine;
use super::log::Mark;
use super::messages::{Call, Told};
use super::serving::read_failure;
use super::settings;
use super::state::{Planned, Receipt, Resolved};
use crate::limits::COPY_BATCH_BYTES;
use crate::reply::Reply;
use crate::storage::{At, JobKind, Point, ReadError};

impl Topic {
    pub(super) fn request(&mut self, call: Call, ctx: &mut Context<Self>) {
        let Call {
            request,
            reply,
            fresh,
        } = call;
        match request {
            Request::Produce(produce) => self.produce(produce, reply, ctx),
            Request::Fetch(fetch) => self.fetch(&fetch, None, reply, ctx),
            Request::Consume(consume) => self.consume(consume, reply, ctx),
            Request::Seek(seek) => {
                self.line_up(seek.consumer, InLine::Seek(seek.to, reply), ctx);
            }
            Request::UnregisterConsumer(request) => {
                self.line_up(request.consumer, InLine::Unregister(reply), ctx);
            }
            Request::UnregisterWorker(request) => {
                let in_line = InLine::Dismiss(request.worker, reply);
                self.line_up(request.consumer, in_line, ctx);
            }
            Request::Size(size) => self.size(&size, reply, ctx),
            Request::Ack(ack) => self.ack(&ack, reply, ctx),
            Request::Nack(nack) => self.nack(&nack, reply, ctx),
            Request::Extend(extend) => self.extend(&extend, reply, ctx),
            Request::Requeue(requeue) => self.requeue(requeue, reply, ctx),
            Request::AlterConsumer(alter) => self.alter_consumer(&alter, reply, ctx),
            Request::DescribeConsumer(describe) => self.describe_consumer(&describe, reply, ctx),
            Request::Cancel(cancel) => self.cancel(cancel.correlation, reply, ctx),
            Request::CreateTopic(create) => self.create(&create, reply),
            Request::DeleteTopic(_) => match self.check_writable() {
                Ok(()) => self.delete(reply, Answer::DeleteTopic(TopicDeleted {})),
                Err(failure) => reply.fail(failure),
            },
            Request::AlterTopic(alter) => self.alter(&alter, reply, ctx),
            Request::PurgeTopic(purge) => self.purge(&purge, reply, ctx),
            Request::DescribeTopic(describe) => self.describe(&describe, reply),
            Request::RegisterProducer(request) => self.register_producer(&request, fresh, reply),
            Request::UnregisterProducer(request) => self.unregister_producer(&request, reply),
            Request::RegisterConsumer(request) => {
                self.register_consumer(request, ConsumerId(fresh), reply, ctx);
            }
            Request::Stats(_) => {
                reply.answer(Answer::Stats(Counted {
                    counters: self.counters(),
                }));
            }
            Request::Hello(_)
            | Request::Ping(_)
            | Request::Metadata(_)
            | Request::Authenticate(_)
            | Request::CreatePrincipal(_)
            | Request::AlterPrincipal(_)
            | Request::DeletePrincipal(_)
            | Request::ListPrincipals(_)
            | Request::ProduceAll(_)
            | Request::ListTopics(_) => {
                reply.fail(Failure::new(ErrorCode::UnknownOperation, "not for a topic"));
            }
        }
    }

    /// Answers with `CONSUMER_NOT_FOUND` and the like, or says that the id is another topic's.
    pub(super) fn refuse(&self, id: u64, failure: Failure, reply: Reply) {
        use ErrorCode::{ConsumerNotFound, ProducerNotFound};
        if matches!(failure.code, ConsumerNotFound | ProducerNotFound) {
            self.around.broker.do_send(Told::Stranger {
                id,
                otherwise: failure,
                reply,
            });
        } else {
            reply.fail(failure);
        }
    }

    fn produce(&mut self, produce: Produce, reply: Reply, ctx: &mut Context<Self>) {
        let synced = match produce.ack {
            Produce::SYNCED => true,
            Produce::ACCEPTED => false,
            other => return reply.fail(unsupported(&format!("there is no ack level {other}"))),
        };
        if produce.not_before != 0 {
            return self.schedule(produce, reply);
        }
        if let Err(failure) = self.check_room() {
            return reply.fail(failure);
        }
        let mut batch = produce.batch.into_mut();
        if batch.len() < COPY_BATCH_BYTES {
            batch = BytesMut::from(&batch[..]);
        }
        let producer = logdrive_protocol::batch::Head::parse(&batch).map_or(0, |it| it.producer.0);
        let now = self.clock.now();
        let before = self.state.log.tail_bytes();
        let planned = self.state.plan(batch, now).and_then(|planned| {
            // Who repeats a batch is told what became of it, however much is stored.
            if let Planned::New(_) = planned {
                self.check_quota()?;
            }
            Ok(planned)
        });
        match planned {
            Ok(Planned::New(plan)) => {
                let (receipt, change) = (plan.receipt(), self.state.carry_out(*plan));
                self.around
                    .budget
                    .count_tail(before, self.state.log.tail_bytes());
                self.counts.batches += 1;
                let ticket = change.ticket;
                // Who waits for records takes them on the way to the disk.
                self.submit_together(|topic| {
                    topic.submit(change, JobKind::Change);
                    topic.acknowledge(receipt, ticket, synced, reply);
                    topic.serve_takers(ctx);
                });
            }
            Ok(Planned::Staged(receipt, ticket)) => {
                self.counts.retries += 1;
                self.acknowledge(receipt, ticket, synced, reply);
            }
            Ok(Planned::Durable(receipt)) => {
                self.counts.retries += 1;
                reply.answer(produced(receipt, Produce::SYNCED));
            }
            Err(failure) => self.refuse(producer, failure, reply),
        }
    }

    fn acknowledge(&mut self, receipt: Receipt, ticket: u64, synced: bool, reply: Reply) {
        if synced {
            self.park(
                ticket,
                Parked::Answer(reply, produced(receipt, Produce::SYNCED)),
            );
        } else {
            let permit = reply.accept(produced(receipt, Produce::ACCEPTED));
            self.park(ticket, Parked::Accepted(permit));
        }
    }

    /// The first change of a newborn topic, or the answer that it exists.
    fn create(&mut self, create: &CreateTopic, reply: Reply) {
        let topic = self.state.id;
        if self.state.last_ticket() == 0 && !self.is_born() {
            let change = self.state.stage(Vec::new());
            let answer = Answer::CreateTopic(TopicCreated {
                topic,
                created: true,
            });
            return self.commit_then(change, reply, answer);
        }
        let same = settings::of_topic(&create.settings)
            .is_ok_and(|settings| settings == self.state.row().settings);
        if create.if_not_exists && same {
            let answer = Answer::CreateTopic(TopicCreated {
                topic,
                created: false,
            });
            return self.answer_when_born(reply, answer);
        }
        let name = self.state.name();
        let failure = if create.if_not_exists {
            Failure::new(
                ErrorCode::TopicExists,
                format!("topic \"{name}\" exists with other settings"),
            )
            .hint("describe it, and give the settings that it has")
        } else {
            Failure::new(ErrorCode::TopicExists, format!("topic \"{name}\" exists"))
                .hint("use it, or create one of another name")
        };
        reply.fail(failure);
    }

    /// A topic that is being created is there for others once it is durable.
    fn answer_when_born(&mut self, reply: Reply, answer: Answer) {
        if self.is_born() {
            reply.answer(answer);
        } else {
            self.park_behind(Parked::Answer(reply, answer));
        }
    }

    fn describe(&self, describe: &DescribeTopic, reply: Reply) {
        let limit = match describe.limit {
            0 => DEFAULT_LIST,
            limit => limit.min(MAX_LIST),
        };
        let described = self.state.describe(&describe.after, limit as usize);
        reply.answer(Answer::DescribeTopic(described));
    }

    fn register_producer(&mut self, request: &RegisterProducer, fresh: u64, reply: Reply) {
        if let Err(failure) = self.check_room() {
            return reply.fail(failure);
        }
        let now = self.clock.now();
        let created = self.state.last_ticket() == 0 && !self.is_born();
        match self
            .state
            .register_producer(request, ProducerId(fresh), now)
        {
            Ok((registration, change)) => {
                let told = Told::Registered(self.state.id, vec![registration.id.0]);
                self.park(change.ticket, Parked::Told(told));
                let answer = Answer::RegisterProducer(ProducerRegistered {
                    topic: self.state.id,
                    producer: registration.id,
                    epoch: registration.epoch,
                    next_sequence: registration.next_sequence,
                    topic_created: created,
                });
                self.commit_then(change, reply, answer);
            }
            Err(failure) => self.refuse(request.producer.0, failure, reply),
        }
    }

    fn unregister_producer(&mut self, request: &UnregisterProducer, reply: Reply) {
        if let Err(failure) = self.check_writable() {
            return reply.fail(failure);
        }
        let (topic, id) = (self.state.id, request.producer);
        match self.state.producers.unregister(topic, id, request.epoch) {
            Ok(changed) => {
                let change = self.state.stage(changed);
                self.park(change.ticket, Parked::Told(Told::Unregistered(id.0)));
                let answer = Answer::UnregisterProducer(ProducerUnregistered {});
                self.commit_then(change, reply, answer);
            }
            Err(failure) => self.refuse(id.0, failure, reply),
        }
    }

    fn register_consumer(
        &mut self,
        request: RegisterConsumer,
        fresh: ConsumerId,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        let settings = match settings::of_consumer(&request.settings) {
            Ok(settings) => settings,
            Err(failure) => return reply.fail(failure),
        };
        match self.state.consumers.find(&request.name, &settings) {
            Ok(Some(id)) => {
                let consumer = self.state.consumers.get(id);
                let cursor = consumer.map_or(0, Consumer::cursor);
                let topic = self.state.id;
                let answer = ConsumerRegistered {
                    topic,
                    consumer: id,
                    cursor,
                    created: false,
                };
                // Its registration may be staged still: the answer hangs on that too.
                let answer = Answer::RegisterConsumer(answer);
                self.answer_when_durable(reply, answer);
            }
            Ok(None) if !request.create => {
                let failure = self.consumer_not_found(&request.name);
                reply.fail(failure);
            }
            Ok(None) => {
                let checked = settings::check_dead_letters(&settings, self.state.name());
                if let Err(failure) = checked {
                    return reply.fail(failure);
                }
                let now = self.clock.now();
                match self.state.resolve(request.from, now) {
                    Ok(Resolved::Offset(_, Some(mark))) => {
                        self.create_consumer(&request, fresh, mark, reply);
                    }
                    Ok(Resolved::Offset(offset, None)) => {
                        self.register_later(request, fresh, At::Offset(offset), reply, ctx);
                    }
                    Ok(Resolved::Time(time)) => {
                        self.register_later(request, fresh, At::Time(time), reply, ctx);
                    }
                    Err(failure) => reply.fail(failure),
                }
            }
            Err(failure) => reply.fail(failure),
        }
    }

    /// Answers when everything that is staged now is durable.
    pub(super) fn answer_when_durable(&mut self, reply: Reply, answer: Answer) {
        if self.state.last_ticket() <= self.state.committed() {
            reply.answer(answer);
        } else {
            self.park_behind(Parked::Answer(reply, answer));
        }
    }

    fn create_consumer(
        &mut self,
        request: &RegisterConsumer,
        id: ConsumerId,
        cursor: Mark,
        reply: Reply,
    ) {
        if let Err(failure) = self.check_room() {
            return reply.fail(failure);
        }
        let topic = self.state.id;
        // Checked when the request came in; here only put in order.
        let settings = settings::of_consumer(&request.settings).unwrap_or_default();
        // What is before the start is on its way out, whoever found a place there before.
        let (start, _) = self.state.log.staged_start();
        let log_start = start.offset;
        let cursor = if cursor.offset < log_start {
            start
        } else {
            cursor
        };
        match self
            .state
            .consumers
            .create(topic, id, &request.name, settings, cursor, log_start)
        {
            Ok(changed) => {
                let change = self.state.stage(changed);
                self.park(
                    change.ticket,
                    Parked::Told(Told::Registered(topic, vec![id.0])),
                );
                let answer = ConsumerRegistered {
                    topic,
                    consumer: id,
                    cursor: cursor.offset,
                    created: true,
                };
                self.commit_then(change, reply, Answer::RegisterConsumer(answer));
            }
            Err(failure) => reply.fail(failure),
        }
    }

    /// Asks the storage where the consumer begins, then registers it: by then another request may
    /// have, so that it is looked up again.
    fn register_later(
        &self,
        request: RegisterConsumer,
        fresh: ConsumerId,
        at: At,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        let located = self.locate(at);
        Self::spawn_then(ctx, located, move |topic, point, ctx| match point {
            Ok(point) => {
                let known = topic.state.consumers.find(&request.name, &[]);
                if matches!(known, Ok(None)) {
                    topic.create_consumer(&request, fresh, point_mark(&point), reply);
                } else {
                    topic.register_consumer(request, fresh, reply, ctx);
                }
            }
            Err(failure) => reply.fail(failure),
        });
    }

    fn consumer_not_found(&self, name: &str) -> Failure {
        let failure = Failure::new(
            ErrorCode::ConsumerNotFound,
            format!("topic \"{}\" has no consumer \"{name}\"", self.state.name()),
        );
        let names = self.state.consumers.names().map(|(name, _)| name);
        match crate::suggest::closest(name, names) {
            Some(close) => failure.hint(format!("did you mean \"{close}\"?")),
            None => failure.hint("register it first"),
        }
    }

    fn size(&mut self, size: &Size, reply: Reply, ctx: &mut Context<Self>) {
        let (measured, offset) = match self.state.size(size.consumer) {
            Ok(size) => size,
            Err(failure) => return self.refuse(size.consumer.0, failure, reply),
        };
        if measured.records == 0 {
            return reply.answer(Answer::Size(measured));
        }
        let now = self.clock.now();
        let sized = move |measured: Measured, append_time: u64| {
            let oldest_age = now.saturating_sub(append_time);
            Answer::Size(Measured {
                oldest_age,
                ..measured
            })
        };
        if let Some(append_time) = self.state.log.append_time(offset) {
            return reply.answer(sized(measured, append_time));
        }
        let located = self.locate(At::Offset(offset));
        Self::spawn_then(ctx, located, move |_, point, _| match point {
            Ok(point) => reply.answer(sized(measured, point.append_time.unwrap_or(now))),
            // What is left is known all the same; only its age is not.
            Err(failure) if failure.code == ErrorCode::DataDamaged => {
                reply.answer(Answer::Size(measured));
            }
            Err(failure) => reply.fail(failure),
        });
    }

    /// Asks the storage where something is among the visible records.
    pub(super) fn locate(&self, at: At) -> impl Future<Output = Result<Point, Failure>> + use<> {
        let (reader, topic) = (self.around.storage.reader(), self.state.id);
        let (pool, end) = (self.around.pool.clone(), self.state.log.visible());
        let start = self.state.log.start();
        async move {
            let located = pool.run(move || reader.locate(topic, at, end.offset)).await;
            match located.map_err(ReadError::Unavailable).flatten() {
                // A chunk that holds both sides of the log's start is there as a whole.
                Ok(point) if point.offset < start.offset => Ok(Point {
                    offset: start.offset,
                    totals: start.totals,
                    ..point
                }),
                // Past the last record the topic knows the sums, and for an empty one alone.
                Ok(point) if point.offset >= end.offset => Ok(Point {
                    offset: end.offset,
                    totals: end.totals,
                    ..point
                }),
                Ok(point) => Ok(point),
                Err(error) => Err(read_failure(error)),
            }
        }
    }

    /// Runs a future beside the actor and goes on with its result in the actor, unless that has
    /// stopped.
    ///
    /// Not among the actor's own futures: all of those are polled with each of its messages, and
    /// one peer that does not read may have tens of thousands of requests waiting here.
    pub(super) fn spawn_then<T: Send + 'static>(
        ctx: &Context<Self>,
        work: impl Future<Output = T> + 'static,
        then: impl FnOnce(&mut Self, T, &mut Context<Self>) + Send + 'static,
    ) {
        let topic = ctx.address();
        actix::spawn(async move {
            let result = work.await;
            topic.do_send(Proceed(Box::new(move |topic, ctx| {
                then(topic, result, ctx);
            })));
        });
    }
}

/// A place that the storage found, as the log's own.
pub(super) fn point_mark(point: &Point) -> Mark {
    Mark {
        offset: point.offset,
        totals: point.totals,
    }
}

pub(super) fn unsupported(message: &str) -> Failure {
    Failure::new(ErrorCode::NotSupported, message)
}

pub(super) fn produced(receipt: Receipt, durability: u8) -> Answer {
    Answer::Produce(receipt.produced(durability))
}

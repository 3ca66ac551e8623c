//! Removing records in an actor: retention when it is due, purges, and changes of the settings.
//!
//! Owns the timer of retention and the looking up of places. It never polls: a topic in which
//! nothing is appended has one timer, for the time at which its oldest record is too old. What may
//! go is [`Retention`](super::retention)'s to say. Its neighbours: the [actor](super::actor) calls
//! it after commits, [`requests`](super::requests) for purges and changes.
//!
//! ```text
//!   commit, ack, start, timer, alter --> due now? --places--> storage, on the pool
//!                                          | later               |
//!                                        timer                   v
//!                                                 the last place --> trim, staged --> durable
//! ```

use actix::{AsyncContext, Context, SpawnHandle};
use logdrive_protocol::operations::{
    AlterTopic, Answer, Gap, PurgeTopic, TopicAltered, TopicPurged,
};
use logdrive_protocol::{Failure, TopicId};
use tokio::time::{Duration, Instant};

use super::actor::Topic;
use super::log::Mark;
use super::requests::point_mark;
use super::retention::{Due, Extent};
use super::serving::read_failure;
use super::state::Resolved;
use crate::reply::Reply;
use crate::storage::{At, Point, ReadError, Reader};

/// A timer of retention is never set further ahead; when it is over the topic looks again.
const LONGEST_TIMER: Duration = Duration::from_hours(24);

/// How long after a failed look the next one is tried.
const RETRY: Duration = Duration::from_secs(5);

/// Retention as one topic carries it out.
#[derive(Debug, Default)]
pub(super) struct Retaining {
    /// Places are being looked up.
    looking: bool,
    /// Not before this.
    rests_until: Option<Instant>,
    /// What there was when places were looked up last, and what that left: until there is something
    /// else, only age removes more.
    seen: Option<Extent>,
    timer: Option<(Instant, SpawnHandle)>,
}

/// Where the log may begin, and what is known of what goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) to: Mark,
    /// When its record was appended; 0 if not known.
    pub(super) time: u64,
    pub(super) first_time: u64,
    pub(super) last_time: u64,
}

impl Topic {
    /// Sees whether retention removes something now, and when it has to be seen to again.
    ///
    /// Cheap where nothing is due; called after commits and acks.
    pub(super) fn consider_retention(&mut self, ctx: &mut Context<Self>) {
        let retention = self.state.retention();
        if retention.is_none() || self.retaining.looking || !self.is_born() {
            return;
        }
        let instant = Instant::now();
        if let Some(until) = self.retaining.rests_until.filter(|until| *until > instant) {
            return self.look_again(until, ctx);
        }
        let extent = self.state.extent();
        let now = self.clock.now();
        let too_old = retention.age_due(&extent);
        if self.retaining.seen == Some(extent) && too_old.is_none_or(|at| at > now) {
            if let Some(at) = too_old {
                let after = retention.wait(at, now).min(LONGEST_TIMER);
                self.look_again(instant + after, ctx);
            }
            return;
        }
        match retention.due(&extent, now) {
            Due::Never => {}
            Due::Later(at) => {
                let after = retention.wait(at, now).min(LONGEST_TIMER);
                self.look_again(instant + after, ctx);
            }
            // Nothing can be removed now: it is seen to again when the store has recovered.
            Due::Now(_) if self.check_writable().is_err() => {}
            Due::Now(places) => {
                self.retaining.looking = true;
                let found = self.find(extent, places);
                Self::spawn_then(ctx, found, move |topic, found, ctx| {
                    topic.retaining.looking = false;
                    let pause = topic.state.retention().pause();
                    topic.retaining.rests_until = Some(Instant::now() + pause);
                    match found {
                        Ok(found) => topic.retain(&found, &extent, ctx),
                        Err(failure) => {
                            topic.retaining.rests_until = Some(Instant::now() + RETRY);
                            let name = topic.state.name();
                            tracing::warn!(topic = name, %failure, "retention removes nothing");
                        }
                    }
                    topic.consider_retention(ctx);
                });
            }
        }
    }

    fn retain(&mut self, found: &Found, seen: &Extent, ctx: &mut Context<Self>) {
        if self.check_writable().is_err() {
            return;
        }
        let gap = Gap {
            first_time: found.first_time,
            last_time: found.last_time,
            reason: Gap::RETENTION,
            ..Gap::default()
        };
        if let Some((change, kind)) = self.state.trim(found.to, found.time, &gap) {
            self.submit(change, kind);
            self.wake_all(ctx);
        } else if self.state.log.staged_start().0 == seen.start {
            self.state.log.learn_start_time(found.first_time);
        }
        let Extent {
            start, start_time, ..
        } = self.state.extent();
        self.retaining.seen = Some(Extent {
            start,
            start_time,
            ..*seen
        });
    }

    fn look_again(&mut self, at: Instant, ctx: &mut Context<Self>) {
        if let Some((set, _)) = self.retaining.timer
            && set <= at
        {
            return;
        }
        if let Some((_, timer)) = self.retaining.timer.take() {
            ctx.cancel_future(timer);
        }
        let after = at.saturating_duration_since(Instant::now());
        let timer = ctx.run_later(after, |topic, ctx| {
            topic.retaining.timer = None;
            topic.consider_retention(ctx);
        });
        self.retaining.timer = Some((at, timer));
    }

    /// The last of several places, looked up on the pool.
    fn find(
        &self,
        extent: Extent,
        places: Vec<At>,
    ) -> impl Future<Output = Result<Found, Failure>> + use<> {
        let (reader, pool, topic) = (
            self.around.storage.reader(),
            self.around.pool.clone(),
            self.state.id,
        );
        async move {
            let found = pool
                .run(move || find(&reader, topic, &extent, &places))
                .await;
            let found = found.map_err(ReadError::Unavailable).flatten();
            found.map_err(read_failure)
        }
    }

    /// Removes what is before a position; the answer hangs on that being durable.
    pub(super) fn purge(&mut self, purge: &PurgeTopic, reply: Reply, ctx: &mut Context<Self>) {
        if let Err(failure) = self.check_writable() {
            return reply.fail(failure);
        }
        let now = self.clock.now();
        let at = match self.state.resolve(purge.before, now) {
            Ok(Resolved::Offset(offset, _)) => At::Offset(offset),
            Ok(Resolved::Time(time)) => At::Time(time),
            Err(failure) => return reply.fail(failure),
        };
        let found = self.find(self.state.extent(), vec![at]);
        Self::spawn_then(ctx, found, move |topic, found, ctx| match found {
            Ok(found) => topic.purge_to(&found, reply, ctx),
            Err(failure) => reply.fail(failure),
        });
    }

    fn purge_to(&mut self, found: &Found, reply: Reply, ctx: &mut Context<Self>) {
        if let Err(failure) = self.check_writable() {
            return reply.fail(failure);
        }
        let (start, _) = self.state.log.staged_start();
        let gap = Gap {
            first_time: found.first_time,
            last_time: found.last_time,
            reason: Gap::PURGE,
            ..Gap::default()
        };
        let Some((change, kind)) = self.state.trim(found.to, found.time, &gap) else {
            let purged = TopicPurged {
                log_start: start.offset,
                records: 0,
                bytes: 0,
            };
            return self.answer_when_durable(reply, Answer::PurgeTopic(purged));
        };
        let purged = TopicPurged {
            log_start: found.to.offset,
            records: found.to.totals.records - start.totals.records,
            bytes: found.to.totals.bytes - start.totals.bytes,
        };
        self.park_answer(change.ticket, reply, Answer::PurgeTopic(purged));
        self.submit(change, kind);
        self.wake_all(ctx);
        self.consider_retention(ctx);
    }

    /// Changes settings; they hold from here on, and are answered when they are durable.
    pub(super) fn alter(&mut self, alter: &AlterTopic, reply: Reply, ctx: &mut Context<Self>) {
        if let Err(failure) = self.check_writable() {
            return reply.fail(failure);
        }
        match self.state.alter(&alter.set, &alter.unset) {
            Ok(change) => {
                let settings = self.state.row().settings.clone();
                let answer = Answer::AlterTopic(TopicAltered { settings });
                self.commit_then(change, reply, answer);
                self.retaining.rests_until = None;
                self.retaining.seen = None;
                self.consider_retention(ctx);
            }
            Err(failure) => reply.fail(failure),
        }
    }
}

/// The last of several places among the records of a topic, as the storage has them.
pub(super) fn find(
    reader: &Reader,
    topic: TopicId,
    extent: &Extent,
    places: &[At],
) -> Result<Found, ReadError> {
    let end = extent.end.offset;
    let mut last: Option<Point> = None;
    for at in places {
        let point = reader.locate(topic, *at, end)?;
        last = last
            .filter(|last| last.offset >= point.offset)
            .or(Some(point));
    }
    let (to, time) = match last {
        Some(point) if point.offset < end => (point_mark(&point), point.append_time),
        Some(_) => (extent.end, None),
        None => (extent.start, None),
    };
    // What is damaged has no time that is known, and goes all the same.
    let time_at = |offset| {
        let point = reader.locate(topic, At::Offset(offset), end).ok();
        point
            .and_then(|point| point.append_time)
            .unwrap_or_default()
    };
    let removes = to.offset > extent.start.offset;
    let (first_time, last_time) = match extent.start_time {
        0 if !removes => (time_at(extent.start.offset), 0),
        _ if !removes => (0, 0),
        0 => (time_at(extent.start.offset), time_at(to.offset - 1)),
        known => (known, time_at(to.offset - 1)),
    };
    Ok(Found {
        to,
        time: time.unwrap_or_default(),
        first_time,
        last_time,
    })
}

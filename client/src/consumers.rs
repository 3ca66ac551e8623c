//! Consumers by name: registering, moving, measuring, describing, altering, removing.
//!
//! Nothing here takes records, and only registering creates anything. Neighbours: `client`, which
//! asks, and `consumer`, which takes.

use logdrive_protocol::operations::{
    AlterConsumer, ConsumerAltered, ConsumerDescribed, ConsumerRegistered, DescribeConsumer,
    Measured, Offsets, RegisterConsumer, Requeue, Seek, Setting, Size, UnregisterConsumer,
};
use logdrive_protocol::{ErrorCode, Position, limits};

use crate::{Client, Error};

/// [`AlterConsumer::pause`]: as it is.
const LEAVE: u8 = 0;
/// [`AlterConsumer::pause`]: it gives no records.
const PAUSE: u8 = 1;
/// [`AlterConsumer::pause`]: it gives records again.
const RESUME: u8 = 2;

/// Records that one request may requeue.
const REQUEUED: u64 = 10_000;

impl Client {
    /// Registers a consumer, or with `create = false` only looks it up. `from` counts for a new one
    /// alone.
    pub async fn register_consumer(
        &self,
        topic: &str,
        name: &str,
        from: Position,
        create: bool,
    ) -> Result<ConsumerRegistered, Error> {
        self.register(topic, name, from, &[], create).await
    }

    /// Registers a consumer with these settings; one that exists must have the same.
    pub async fn create_consumer(
        &self,
        topic: &str,
        name: &str,
        from: Position,
        settings: &[Setting],
    ) -> Result<ConsumerRegistered, Error> {
        self.register(topic, name, from, settings, true).await
    }

    pub(crate) async fn register(
        &self,
        topic: &str,
        name: &str,
        from: Position,
        settings: &[Setting],
        create: bool,
    ) -> Result<ConsumerRegistered, Error> {
        let register = RegisterConsumer {
            topic: topic.to_owned(),
            name: name.to_owned(),
            from,
            settings: settings.to_vec(),
            create,
        };
        self.repeat(&register).await.0
    }

    async fn look_up(&self, topic: &str, consumer: &str) -> Result<ConsumerRegistered, Error> {
        self.register_consumer(topic, consumer, Position::Earliest, false)
            .await
    }

    /// Removes a consumer and its cursor.
    pub async fn unregister_consumer(&self, topic: &str, name: &str) -> Result<(), Error> {
        let found = self.look_up(topic, name).await?;
        let unregister = UnregisterConsumer {
            topic: found.topic,
            consumer: found.consumer,
        };
        match self.repeat(&unregister).await {
            (Ok(_), _) => Ok(()),
            (Err(error), true) if error.code() == Some(ErrorCode::ConsumerNotFound) => Ok(()),
            (Err(error), _) => Err(error),
        }
    }

    /// Moves a consumer's cursor; gives the offset of the next record for it.
    pub async fn seek(&self, topic: &str, consumer: &str, to: Position) -> Result<u64, Error> {
        let found = self.look_up(topic, consumer).await?;
        let seek = Seek {
            topic: found.topic,
            consumer: found.consumer,
            to,
        };
        Ok(self.repeat(&seek).await.0?.cursor)
    }

    /// What is left for a consumer, exactly; never creates one.
    pub async fn size(&self, topic: &str, consumer: &str) -> Result<Measured, Error> {
        let found = self.look_up(topic, consumer).await?;
        let size = Size {
            topic: found.topic,
            consumer: found.consumer,
        };
        self.repeat(&size).await.0
    }

    /// Changes a consumer's settings: those in `set` are set, those named in `unset` go back to
    /// their defaults, all others stay.
    pub async fn alter_consumer(
        &self,
        topic: &str,
        name: &str,
        set: &[Setting],
        unset: &[&str],
    ) -> Result<ConsumerAltered, Error> {
        self.alter(topic, name, set, unset, LEAVE).await
    }

    /// Lets a consumer give no records until it is resumed; leases and acks go on.
    pub async fn pause_consumer(&self, topic: &str, name: &str) -> Result<(), Error> {
        self.alter(topic, name, &[], &[], PAUSE).await.map(|_| ())
    }

    /// Lets a consumer give records again.
    pub async fn resume_consumer(&self, topic: &str, name: &str) -> Result<(), Error> {
        self.alter(topic, name, &[], &[], RESUME).await.map(|_| ())
    }

    async fn alter(
        &self,
        topic: &str,
        name: &str,
        set: &[Setting],
        unset: &[&str],
        pause: u8,
    ) -> Result<ConsumerAltered, Error> {
        let found = self.look_up(topic, name).await?;
        let alter = AlterConsumer {
            topic: found.topic,
            consumer: found.consumer,
            set: set.to_vec(),
            unset: unset.iter().map(|&key| key.to_owned()).collect(),
            pause,
        };
        self.repeat(&alter).await.0
    }

    /// A consumer with all its leases.
    pub async fn describe_consumer(
        &self,
        topic: &str,
        name: &str,
    ) -> Result<ConsumerDescribed, Error> {
        let found = self.look_up(topic, name).await?;
        let mut whole: Option<ConsumerDescribed> = None;
        loop {
            let last = whole.iter().filter_map(|it| it.leases.last()).next_back();
            let describe = DescribeConsumer {
                topic: found.topic,
                consumer: found.consumer,
                after: last.map_or(0, |it| it.lease),
                limit: limits::MAX_LIST,
            };
            let page = self.repeat(&describe).await.0?;
            let more = page.more;
            let advances = page
                .leases
                .first()
                .is_some_and(|it| it.lease > describe.after);
            let whole = match &mut whole {
                Some(whole) => {
                    whole.leases.extend(page.leases);
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

    /// Delivers records again that this consumer gave up, to it alone; the ranges are offsets, from
    /// and to, in the topic that holds the dead letters. Gives how many.
    ///
    /// It is asked once: after an error whose outcome is unknown they may be delivered again.
    pub async fn requeue(
        &self,
        topic: &str,
        consumer: &str,
        dead_letters: &str,
        ranges: &[(u64, u64)],
    ) -> Result<u64, Error> {
        let found = self.look_up(topic, consumer).await?;
        let mut records = 0;
        let dead_letters = self.topic_id(dead_letters).await?;
        for ranges in requests(ranges) {
            let requeue = Requeue {
                topic: found.topic,
                consumer: found.consumer,
                dead_letters,
                ranges,
            };
            records += self.ask(&requeue).await?.records;
        }
        Ok(records)
    }
}

/// The ranges of each request, so that none asks for too many; an empty range stays for the broker
/// to refuse.
fn requests(ranges: &[(u64, u64)]) -> Vec<Vec<Offsets>> {
    let mut requests: Vec<Vec<Offsets>> = Vec::new();
    let mut room = 0;
    for &(mut from, end) in ranges {
        loop {
            let full = requests
                .last()
                .is_none_or(|it| it.len() == limits::MAX_SETTLED);
            if full || room == 0 {
                requests.push(Vec::new());
                room = REQUEUED;
            }
            let to = end.min(from.saturating_add(room));
            room -= to.saturating_sub(from);
            if let Some(request) = requests.last_mut() {
                request.push(Offsets { from, to });
            }
            if to >= end {
                break;
            }
            from = to;
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ranges: &[(u64, u64)], expected: &str) {
        let one = |it: &Offsets| format!("{}..{}", it.from, it.to);
        let requests: Vec<String> = requests(ranges)
            .iter()
            .map(|it| it.iter().map(one).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(requests.join(" | "), expected);
    }

    #[test]
    fn a_request_asks_for_no_more_than_a_broker_takes() {
        check(&[], "");
        check(&[(0, 5), (7, 9)], "0..5 7..9");
        check(&[(5, 5)], "5..5");
        check(
            &[(0, 4_000), (5_000, 25_000), (30_000, 30_001)],
            "0..4000 5000..11000 | 11000..21000 | 21000..25000 30000..30001",
        );
        let single: Vec<_> = (0..1_001).map(|it| (2 * it, 2 * it + 1)).collect();
        assert_eq!(
            requests(&single).iter().map(Vec::len).collect::<Vec<_>>(),
            [1_000, 1]
        );
    }
}

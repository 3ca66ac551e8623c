//! Consumers of a topic: cursors, and the workers that share them.
//!
//! Pure: what a request may take, and the rows that a move writes. Reading the records and the
//! order of requests are the actor's. Its neighbours: [`State`](super::state::State) owns it.
//!
//! ```text
//! worker's sequence     known worker at s     unknown worker     worker 0
//!   s                   the same range again  WORKER_FORGOTTEN   (not looked at)
//!   s + 1               the next records      WORKER_FORGOTTEN   the next records
//!   1                   STALE_SEQUENCE        the next records
//!   other               STALE_SEQUENCE        WORKER_FORGOTTEN
//! ```

use std::collections::{BTreeMap, VecDeque};

use logdrive_protocol::operations::Setting;
use logdrive_protocol::{ConsumerId, ErrorCode, Failure, TopicId, WorkerId};

use super::log::Mark;
use super::rows::{self, ConsumerRow, WorkerRow};
use crate::clock::micros;
use crate::limits::{MAX_CONSUMERS, MAX_WORKERS, WORKER_IDLE};
use crate::storage::Row;

/// All consumers of one topic.
#[derive(Debug, Default)]
pub struct Consumers {
    by_id: BTreeMap<ConsumerId, Consumer>,
    by_name: BTreeMap<String, ConsumerId>,
}

/// One consumer.
#[derive(Debug, Default)]
pub struct Consumer {
    /// As staged: the next request goes on from here.
    row: ConsumerRow,
    /// As committed: what sizes are measured from.
    committed: Mark,
    /// Moves that are staged, by ticket.
    moves: VecDeque<(u64, Mark)>,
    workers: BTreeMap<WorkerId, Worker>,
}

#[derive(Debug)]
struct Worker {
    row: WorkerRow,
    /// The ticket that makes `row` durable.
    ticket: u64,
}

/// What a consume request is entitled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The next records, from this offset.
    Next {
        /// The cursor.
        from: u64,
    },
    /// The answer of before, whose move is durable with this ticket.
    Again {
        /// The first offset.
        from: u64,
        /// After the last.
        to: u64,
        /// The ticket of the move.
        ticket: u64,
    },
}

/// Who takes records, and as which of its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taker {
    /// The consumer.
    pub consumer: ConsumerId,
    /// The worker; none has no memory.
    pub worker: WorkerId,
    /// The worker's sequence.
    pub sequence: u64,
}

impl Consumer {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.row.name
    }

    /// Its settings.
    pub fn settings(&self) -> &[Setting] {
        &self.row.settings
    }

    /// The cursor as it is staged: where the next request goes on.
    pub fn cursor(&self) -> Mark {
        Mark {
            offset: self.row.cursor,
            totals: self.row.totals(),
        }
    }

    /// The cursor as it is durable.
    pub fn committed(&self) -> Mark {
        self.committed
    }

    /// Workers that it knows.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    fn set_cursor(&mut self, to: Mark, ticket: u64) {
        self.row.cursor = to.offset;
        self.row.records = to.totals.records;
        self.row.bytes = to.totals.bytes;
        self.moves.push_back((ticket, to));
    }

    fn commit(&mut self, ticket: u64) {
        while let Some((_, mark)) = self.moves.pop_front_if(|(staged, _)| *staged <= ticket) {
            self.committed = mark;
        }
    }
}

impl Consumers {
    /// Takes up a row at a start.
    pub fn load(&mut self, id: ConsumerId, row: ConsumerRow) {
        self.by_name.insert(row.name.clone(), id);
        let consumer = self.by_id.entry(id).or_default();
        consumer.committed = Mark {
            offset: row.cursor,
            totals: row.totals(),
        };
        consumer.row = row;
    }

    /// Takes up a worker's row at a start.
    pub fn load_worker(&mut self, id: ConsumerId, worker: WorkerId, row: WorkerRow) {
        let consumer = self.by_id.entry(id).or_default();
        consumer.workers.insert(worker, Worker { row, ticket: 0 });
    }

    /// How many are registered.
    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// The ids that are registered.
    pub fn ids(&self) -> impl Iterator<Item = ConsumerId> {
        self.by_id.keys().copied()
    }

    /// All names in order, for lists and suggestions.
    pub fn names(&self) -> impl Iterator<Item = (&str, ConsumerId)> {
        self.by_name.iter().map(|(name, id)| (name.as_str(), *id))
    }

    /// The consumer of an id.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn get(&self, id: ConsumerId) -> Result<&Consumer, Failure> {
        self.by_id.get(&id).ok_or_else(|| not_found(id))
    }

    fn get_mut(&mut self, id: ConsumerId) -> Result<&mut Consumer, Failure> {
        self.by_id.get_mut(&id).ok_or_else(|| not_found(id))
    }

    /// The consumer of a name; given settings must be its own.
    ///
    /// # Errors
    /// `CONSUMER_EXISTS` if it has other settings than those given.
    pub fn find(&self, name: &str, settings: &[Setting]) -> Result<Option<ConsumerId>, Failure> {
        let Some(&id) = self.by_name.get(name) else {
            return Ok(None);
        };
        if !settings.is_empty() && self.get(id)?.settings() != settings {
            return Err(Failure::new(
                ErrorCode::ConsumerExists,
                format!("consumer \"{name}\" exists with another configuration"),
            )
            .hint("register it without settings, or under another name"));
        }
        Ok(Some(id))
    }

    /// Registers a new consumer at `cursor`.
    ///
    /// # Errors
    /// `LIMIT_REACHED`.
    pub fn create(
        &mut self,
        topic: TopicId,
        id: ConsumerId,
        name: &str,
        settings: Vec<Setting>,
        cursor: Mark,
    ) -> Result<Vec<Row>, Failure> {
        if self.by_id.len() >= MAX_CONSUMERS {
            return Err(Failure::new(
                ErrorCode::LimitReached,
                format!("the topic has {MAX_CONSUMERS} consumers"),
            )
            .hint("unregister those that are done; any number of workers may share one"));
        }
        let row = ConsumerRow {
            name: name.to_owned(),
            settings,
            cursor: cursor.offset,
            records: cursor.totals.records,
            bytes: cursor.totals.bytes,
        };
        let rows = vec![rows::consumer(topic, id, &row)];
        self.load(id, row);
        Ok(rows)
    }

    /// Removes a consumer with its workers.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn remove(&mut self, topic: TopicId, id: ConsumerId) -> Result<Vec<Row>, Failure> {
        let consumer = self.by_id.remove(&id).ok_or_else(|| not_found(id))?;
        self.by_name.remove(&consumer.row.name);
        Ok(rows::forget_consumer(
            topic,
            id,
            consumer.workers.keys().copied(),
        ))
    }

    /// Forgets a worker that has ended; nothing to stage for one that is not known.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn forget_worker(
        &mut self,
        topic: TopicId,
        id: ConsumerId,
        worker: WorkerId,
    ) -> Result<Vec<Row>, Failure> {
        let known = self.get_mut(id)?.workers.remove(&worker).is_some();
        let forget = || rows::forget_worker(topic, id, worker);
        Ok(known.then(forget).into_iter().collect())
    }

    /// What a request is entitled to now; asked when it is served, not when it arrives.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`, `STALE_SEQUENCE`, `WORKER_FORGOTTEN`, `TOO_MANY_WORKERS`.
    pub fn turn(&self, taker: Taker, now: u64) -> Result<Turn, Failure> {
        let consumer = self.get(taker.consumer)?;
        let next = Turn::Next {
            from: consumer.row.cursor,
        };
        if taker.worker.is_none() {
            return Ok(next);
        }
        let Some(worker) = consumer.workers.get(&taker.worker) else {
            if taker.sequence != 1 {
                return Err(Failure::new(
                    ErrorCode::WorkerForgotten,
                    format!("worker {} is not known to this consumer", taker.worker),
                )
                .hint("begin again at sequence 1; the last answer may have been lost"));
            }
            if consumer.workers.len() >= MAX_WORKERS && consumer.idle_worker(now).is_none() {
                return Err(Failure::new(
                    ErrorCode::TooManyWorkers,
                    format!("{MAX_WORKERS} workers of this consumer were active within the hour"),
                )
                .hint("share a worker's connection, or register a second consumer"));
            }
            return Ok(next);
        };
        let last = &worker.row;
        if taker.sequence == last.sequence {
            Ok(Turn::Again {
                from: last.from,
                to: last.to,
                ticket: worker.ticket,
            })
        } else if taker.sequence == last.sequence.saturating_add(1) {
            Ok(next)
        } else {
            Err(Failure::new(
                ErrorCode::StaleSequence,
                format!("worker {} is at sequence {}", taker.worker, last.sequence),
            )
            .numbers(last.sequence, 0)
            .hint("repeat that sequence for its answer, or ask for the next one"))
        }
    }

    /// Moves the cursor past what a request was given; the rows of the move.
    pub fn advance(
        &mut self,
        topic: TopicId,
        taker: Taker,
        to: Mark,
        now: u64,
        ticket: u64,
    ) -> Result<Vec<Row>, Failure> {
        let consumer = self.get_mut(taker.consumer)?;
        let from = consumer.row.cursor;
        consumer.set_cursor(to, ticket);
        let mut changed = vec![rows::consumer(topic, taker.consumer, &consumer.row)];
        if taker.worker.is_none() {
            return Ok(changed);
        }
        let full = consumer.workers.len() >= MAX_WORKERS;
        let unknown = !consumer.workers.contains_key(&taker.worker);
        if let Some(idle) = consumer.idle_worker(now).filter(|_| full && unknown) {
            consumer.workers.remove(&idle);
            changed.push(rows::forget_worker(topic, taker.consumer, idle));
        }
        let row = WorkerRow {
            sequence: taker.sequence,
            from,
            to: to.offset,
            used_at: now,
        };
        changed.push(rows::worker(topic, taker.consumer, taker.worker, &row));
        consumer
            .workers
            .insert(taker.worker, Worker { row, ticket });
        Ok(changed)
    }

    /// Moves the cursor elsewhere; workers keep their sequences.
    ///
    /// # Errors
    /// `CONSUMER_NOT_FOUND`.
    pub fn seek(
        &mut self,
        topic: TopicId,
        id: ConsumerId,
        to: Mark,
        ticket: u64,
    ) -> Result<Vec<Row>, Failure> {
        let consumer = self.get_mut(id)?;
        consumer.set_cursor(to, ticket);
        Ok(vec![rows::consumer(topic, id, &consumer.row)])
    }

    /// All moves up to `ticket` are durable.
    pub fn commit(&mut self, id: ConsumerId, ticket: u64) {
        if let Some(consumer) = self.by_id.get_mut(&id) {
            consumer.commit(ticket);
        }
    }
}

impl Consumer {
    /// The worker that was idle longest, if that was long enough to make room.
    fn idle_worker(&self, now: u64) -> Option<WorkerId> {
        let (id, worker) = self
            .workers
            .iter()
            .min_by_key(|(_, worker)| worker.row.used_at)?;
        (now.saturating_sub(worker.row.used_at) > micros(WORKER_IDLE)).then_some(*id)
    }
}

fn not_found(id: ConsumerId) -> Failure {
    Failure::new(
        ErrorCode::ConsumerNotFound,
        format!("the topic has no consumer {id}"),
    )
    .hint("register it again by name")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Totals;

    const TOPIC: TopicId = TopicId(1);
    const ID: ConsumerId = ConsumerId(9);

    fn mark(offset: u64) -> Mark {
        Mark {
            offset,
            totals: Totals {
                records: offset,
                bytes: offset * 10,
            },
        }
    }

    fn taker(worker: u64, sequence: u64) -> Taker {
        Taker {
            consumer: ID,
            worker: WorkerId(worker),
            sequence,
        }
    }

    fn registered() -> Consumers {
        let mut consumers = Consumers::default();
        consumers.create(TOPIC, ID, "c1", vec![], mark(0)).unwrap();
        consumers
    }

    fn check(consumers: &Consumers, worker: u64, sequence: u64, expected: &str) {
        let got = match consumers.turn(taker(worker, sequence), 0) {
            Ok(Turn::Next { from }) => format!("next from {from}"),
            Ok(Turn::Again { from, to, ticket }) => format!("{from}..{to} again, ticket {ticket}"),
            Err(failure) => failure.code.to_string(),
        };
        assert_eq!(got, expected, "worker {worker} sequence {sequence}");
    }

    #[test]
    fn a_worker_that_repeats_its_sequence_gets_the_same_range() {
        let mut consumers = registered();
        check(&consumers, 7, 1, "next from 0");
        check(&consumers, 7, 2, "WORKER_FORGOTTEN");
        consumers
            .advance(TOPIC, taker(7, 1), mark(4), 0, 11)
            .unwrap();
        check(&consumers, 7, 1, "0..4 again, ticket 11");
        check(&consumers, 7, 2, "next from 4");
        check(&consumers, 7, 3, "STALE_SEQUENCE");
        check(&consumers, 8, 1, "next from 4");
        check(&consumers, 0, 77, "next from 4");
        consumers.seek(TOPIC, ID, mark(2), 12).unwrap();
        check(&consumers, 7, 1, "0..4 again, ticket 11");
        check(&consumers, 7, 2, "next from 2");
    }

    #[test]
    fn the_cursor_that_sizes_are_measured_from_moves_with_the_commit() {
        let mut consumers = registered();
        consumers
            .advance(TOPIC, taker(7, 1), mark(4), 0, 11)
            .unwrap();
        consumers
            .advance(TOPIC, taker(0, 0), mark(6), 0, 12)
            .unwrap();
        assert_eq!(consumers.get(ID).unwrap().committed(), mark(0));
        consumers.commit(ID, 11);
        assert_eq!(consumers.get(ID).unwrap().committed(), mark(4));
        consumers.commit(ID, 20);
        assert_eq!(consumers.get(ID).unwrap().committed(), mark(6));
    }

    #[test]
    fn a_sixty_fifth_worker_waits_for_one_that_is_idle_for_an_hour() {
        let mut consumers = registered();
        for worker in 1..=64 {
            consumers
                .advance(TOPIC, taker(worker, 1), mark(worker), worker, worker)
                .unwrap();
        }
        check(&consumers, 65, 1, "TOO_MANY_WORKERS");
        let later = micros(WORKER_IDLE) + 2;
        assert_eq!(
            consumers.turn(taker(65, 1), later),
            Ok(Turn::Next { from: 64 })
        );
        consumers
            .advance(TOPIC, taker(65, 1), mark(65), later, 65)
            .unwrap();
        check(&consumers, 1, 2, "WORKER_FORGOTTEN");
        check(&consumers, 65, 2, "next from 65");
    }

    #[test]
    fn a_worker_that_ends_makes_room_at_once_and_begins_again_as_a_new_one() {
        let mut consumers = registered();
        for worker in 1..=64 {
            consumers
                .advance(TOPIC, taker(worker, 1), mark(worker), worker, worker)
                .unwrap();
        }
        check(&consumers, 65, 1, "TOO_MANY_WORKERS");
        let rows = consumers.forget_worker(TOPIC, ID, WorkerId(7)).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(consumers.forget_worker(TOPIC, ID, WorkerId(7)), Ok(vec![]));
        check(&consumers, 65, 1, "next from 64");
        check(&consumers, 7, 2, "WORKER_FORGOTTEN");
    }

    #[test]
    fn a_name_stands_for_one_configuration() {
        let mut consumers = registered();
        let settings = vec![Setting {
            key: "description".into(),
            value: "x".into(),
        }];
        consumers
            .create(TOPIC, ConsumerId(10), "c2", settings.clone(), mark(0))
            .unwrap();
        assert_eq!(consumers.find("c2", &[]), Ok(Some(ConsumerId(10))));
        assert_eq!(consumers.find("c2", &settings), Ok(Some(ConsumerId(10))));
        assert_eq!(consumers.find("c3", &settings), Ok(None));
        let failure = consumers.find("c1", &settings).unwrap_err();
        assert_eq!(failure.code, ErrorCode::ConsumerExists);
    }
}

//! The workers that share a consumer, and what each was given last.
//!
//! Pure. Its neighbour: [`Consumer`](super::Consumer) owns it.
//!
//! ```text
//! worker's sequence     known worker at s     unknown worker     worker 0
//!   s                   the same range again  WORKER_FORGOTTEN   (not looked at)
//!   s + 1               the next records      WORKER_FORGOTTEN   the next records
//!   1                   STALE_SEQUENCE        the next records
//!   other               STALE_SEQUENCE        WORKER_FORGOTTEN
//! ```

use std::collections::BTreeMap;

use logdrive_protocol::{ConsumerId, ErrorCode, Failure, TopicId, WorkerId};

use super::super::rows::{self, WorkerRow};
use crate::clock::micros;
use crate::limits::{MAX_WORKERS, WORKER_IDLE};
use crate::storage::Row;

/// The workers of one consumer.
#[derive(Clone, Debug, Default)]
pub struct Workers {
    known: BTreeMap<WorkerId, Worker>,
}

#[derive(Clone, Debug)]
struct Worker {
    row: WorkerRow,
    /// The ticket that makes `row` durable.
    ticket: u64,
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

impl Workers {
    /// Takes up a row at a start.
    pub fn load(&mut self, id: WorkerId, row: WorkerRow) {
        self.known.insert(id, Worker { row, ticket: 0 });
    }

    /// Whether this one is known: only those have leases.
    pub fn knows(&self, id: WorkerId) -> bool {
        self.known.contains_key(&id)
    }

    /// How many are known.
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// The answer that a request asks for again, and the ticket that makes it durable; `None` if
    /// it asks for the next one.
    ///
    /// # Errors
    /// `STALE_SEQUENCE`, `WORKER_FORGOTTEN`, `TOO_MANY_WORKERS`.
    pub fn answer_of(&self, taker: Taker, now: u64) -> Result<Option<(&WorkerRow, u64)>, Failure> {
        if taker.worker.is_none() {
            return Ok(None);
        }
        let Some(worker) = self.known.get(&taker.worker) else {
            if taker.sequence != 1 {
                return Err(Failure::new(
                    ErrorCode::WorkerForgotten,
                    format!("worker {} is not known to this consumer", taker.worker),
                )
                .hint("begin again at sequence 1; the last answer may have been lost"));
            }
            if self.known.len() >= MAX_WORKERS && self.idle(now).is_none() {
                return Err(Failure::new(
                    ErrorCode::TooManyWorkers,
                    format!("{MAX_WORKERS} workers of this consumer were active within the hour"),
                )
                .hint("share a worker's connection, or register a second consumer"));
            }
            return Ok(None);
        };
        let last = &worker.row;
        if taker.sequence == last.sequence {
            Ok(Some((last, worker.ticket)))
        } else if taker.sequence == last.sequence.saturating_add(1) {
            Ok(None)
        } else {
            Err(Failure::new(
                ErrorCode::StaleSequence,
                format!("worker {} is at sequence {}", taker.worker, last.sequence),
            )
            .numbers(last.sequence, 0)
            .hint("repeat that sequence for its answer, or ask for the next one"))
        }
    }

    /// Notes what a worker is given; the rows that do so on disk.
    pub fn note(&mut self, topic: TopicId, taker: Taker, row: WorkerRow, ticket: u64) -> Vec<Row> {
        let mut changed = Vec::new();
        if taker.worker.is_none() {
            return changed;
        }
        let full = self.known.len() >= MAX_WORKERS;
        let unknown = !self.known.contains_key(&taker.worker);
        if let Some(idle) = self.idle(row.used_at).filter(|_| full && unknown) {
            self.known.remove(&idle);
            changed.push(rows::forget_worker(topic, taker.consumer, idle));
        }
        changed.push(rows::worker(topic, taker.consumer, taker.worker, &row));
        self.known.insert(taker.worker, Worker { row, ticket });
        changed
    }

    /// Forgets a worker that has ended; nothing to store for one that is not known.
    pub fn forget(&mut self, topic: TopicId, consumer: ConsumerId, id: WorkerId) -> Option<Row> {
        let known = self.known.remove(&id);
        known.map(|_| rows::forget_worker(topic, consumer, id))
    }

    /// Forgets all.
    pub fn clear(&mut self, topic: TopicId, consumer: ConsumerId) -> Vec<Row> {
        let known = std::mem::take(&mut self.known).into_keys();
        known
            .map(|id| rows::forget_worker(topic, consumer, id))
            .collect()
    }

    /// The worker that was idle longest, if that was long enough to make room.
    fn idle(&self, now: u64) -> Option<WorkerId> {
        let (id, worker) = self
            .known
            .iter()
            .min_by_key(|(_, worker)| worker.row.used_at)?;
        (now.saturating_sub(worker.row.used_at) > micros(WORKER_IDLE)).then_some(*id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: TopicId = TopicId(1);

    fn taker(worker: u64, sequence: u64) -> Taker {
        Taker {
            consumer: ConsumerId(9),
            worker: WorkerId(worker),
            sequence,
        }
    }

    fn note(workers: &mut Workers, worker: u64, sequence: u64, used_at: u64) {
        let row = WorkerRow {
            sequence,
            from: 0,
            to: 4,
            used_at,
            ..WorkerRow::default()
        };
        workers.note(TOPIC, taker(worker, sequence), row, 11);
    }

    fn check(workers: &Workers, worker: u64, sequence: u64, expected: &str) {
        let got = match workers.answer_of(taker(worker, sequence), 0) {
            Ok(None) => "next".to_owned(),
            Ok(Some((row, ticket))) => format!("{}..{} again, ticket {ticket}", row.from, row.to),
            Err(failure) => failure.code.to_string(),
        };
        assert_eq!(got, expected, "worker {worker} sequence {sequence}");
    }

    #[test]
    fn a_worker_that_repeats_its_sequence_gets_the_same_range() {
        let mut workers = Workers::default();
        check(&workers, 7, 1, "next");
        check(&workers, 7, 2, "WORKER_FORGOTTEN");
        note(&mut workers, 7, 1, 0);
        check(&workers, 7, 1, "0..4 again, ticket 11");
        check(&workers, 7, 2, "next");
        check(&workers, 7, 3, "STALE_SEQUENCE");
        check(&workers, 8, 1, "next");
        check(&workers, 0, 77, "next");
    }

    #[test]
    fn a_sixty_fifth_worker_waits_for_one_that_is_idle_for_an_hour() {
        let mut workers = Workers::default();
        for worker in 1..=64 {
            note(&mut workers, worker, 1, worker);
        }
        check(&workers, 65, 1, "TOO_MANY_WORKERS");
        let later = micros(WORKER_IDLE) + 2;
        assert_eq!(workers.answer_of(taker(65, 1), later), Ok(None));
        note(&mut workers, 65, 1, later);
        assert_eq!(workers.count(), 64);
        check(&workers, 1, 2, "WORKER_FORGOTTEN");
        check(&workers, 2, 2, "next");
    }
}

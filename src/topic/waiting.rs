//! Requests that wait for records, until there are some or their time is up.
//!
//! Pure: time is an argument. Its neighbours: the [actor](super::actor) serves what it takes out.

use std::collections::{BTreeMap, HashMap};

use logdrive_protocol::{ConsumerId, WorkerId};
use tokio::time::Instant;

/// Deadline first, then order of arrival.
type Place = (Instant, u64);

/// Waiting requests of one topic, by deadline.
#[derive(Debug)]
pub struct Waiting<T> {
    by_deadline: BTreeMap<Place, T>,
    /// Consumes of workers, so that a newer one finds the older one.
    by_worker: HashMap<(ConsumerId, WorkerId), Place>,
    arrivals: u64,
}

/// What waits for a worker of a consumer.
pub trait Waiter {
    /// The consumer and worker it would be given to; `None` for a fetch or a worker without memory.
    fn worker(&self) -> Option<(ConsumerId, WorkerId)>;
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self {
            by_deadline: BTreeMap::new(),
            by_worker: HashMap::new(),
            arrivals: 0,
        }
    }
}

impl<T: Waiter> Waiting<T> {
    /// How many wait.
    pub fn count(&self) -> usize {
        self.by_deadline.len()
    }

    /// Lets one wait until `deadline`.
    pub fn insert(&mut self, deadline: Instant, waiter: T) {
        self.arrivals += 1;
        let place = (deadline, self.arrivals);
        if let Some(worker) = waiter.worker() {
            self.by_worker.insert(worker, place);
        }
        self.by_deadline.insert(place, waiter);
    }

    /// When the first one's time is up.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline
            .first_key_value()
            .map(|((deadline, _), _)| *deadline)
    }

    /// Takes out those whose time is up.
    pub fn take_expired(&mut self, now: Instant) -> Vec<T> {
        let mut expired = Vec::new();
        while let Some(entry) = self.by_deadline.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let waiter = entry.remove();
            self.forget_worker(&waiter);
            expired.push(waiter);
        }
        expired
    }

    /// Takes out all, in the order of their arrival.
    pub fn take_all(&mut self) -> Vec<T> {
        self.by_worker.clear();
        let mut all: Vec<_> = std::mem::take(&mut self.by_deadline).into_iter().collect();
        all.sort_by_key(|((_, arrival), _)| *arrival);
        all.into_iter().map(|(_, waiter)| waiter).collect()
    }

    /// Takes out the one of a worker, which has asked anew.
    pub fn take_worker(&mut self, consumer: ConsumerId, worker: WorkerId) -> Option<T> {
        let place = self.by_worker.remove(&(consumer, worker))?;
        self.by_deadline.remove(&place)
    }

    /// Takes out those that `unwanted` names.
    pub fn take_if(&mut self, unwanted: impl Fn(&T) -> bool) -> Vec<T> {
        let taken: Vec<T> = self
            .by_deadline
            .extract_if(.., |_, waiter| unwanted(waiter))
            .map(|it| it.1)
            .collect();
        for waiter in &taken {
            self.forget_worker(waiter);
        }
        taken
    }

    fn forget_worker(&mut self, waiter: &T) {
        if let Some(worker) = waiter.worker() {
            self.by_worker.remove(&worker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    impl Waiter for u64 {
        fn worker(&self) -> Option<(ConsumerId, WorkerId)> {
            (*self > 0).then_some((ConsumerId(1), WorkerId(*self)))
        }
    }

    #[test]
    fn deadlines_expire_in_order_and_arrivals_are_served_in_theirs() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut waiting = Waiting::default();
        for (seconds, waiter) in [(9, 1), (3, 2), (6, 3), (3, 0)] {
            waiting.insert(after(seconds), waiter);
        }
        assert_eq!(waiting.next_deadline(), Some(after(3)));
        assert_eq!(waiting.take_expired(after(3)), [2, 0]);
        assert_eq!(waiting.take_worker(ConsumerId(1), WorkerId(2)), None);
        waiting.insert(after(1), 4);
        assert_eq!(waiting.take_all(), [1, 3, 4]);
        assert_eq!(waiting.next_deadline(), None);
    }

    #[test]
    fn a_worker_that_asks_anew_finds_its_older_request() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        waiting.insert(now, 5);
        waiting.insert(now, 0);
        assert_eq!(waiting.take_worker(ConsumerId(1), WorkerId(5)), Some(5));
        assert_eq!(waiting.take_if(|waiter| *waiter == 0), [0]);
        assert_eq!(waiting.count(), 0);
    }
}

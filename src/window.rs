//! Windows and the budget: how many bytes may be under way, for one connection and for all.
//!
//! Owns counting, nothing else: a semaphore guards no data here. A request holds a [`Permit`] from
//! its admission until its answer is on the wire; the answer's own share is taken when there is
//! something to send. Requests and answers are counted apart, so that requests which wait for
//! records can never take the room that their answers need.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{
    BUDGET_ANSWER_BYTES, BUDGET_REQUEST_BYTES, BUDGET_TAIL_BYTES, REQUEST_COST_BYTES, TAIL_BYTES,
    WINDOW_ANSWER_BYTES, WINDOW_REQUEST_BYTES,
};

/// Bytes of the whole broker; one for all connections and topics.
#[derive(Debug)]
pub struct Budget {
    requests: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    /// Answers that wait for their share of the budget.
    wanted: AtomicUsize,
    tails: AtomicUsize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            requests: Arc::new(Semaphore::new(BUDGET_REQUEST_BYTES)),
            answers: Arc::new(Semaphore::new(BUDGET_ANSWER_BYTES)),
            wanted: AtomicUsize::new(0),
            tails: AtomicUsize::new(0),
        }
    }
}

impl Budget {
    /// Counts a tail that went from `before` to `after` bytes.
    pub fn count_tail(&self, before: usize, after: usize) {
        self.tails.fetch_add(after, Ordering::Relaxed);
        self.tails.fetch_sub(before, Ordering::Relaxed);
    }

    /// How long a topic's tail may be now, in bytes: nothing while all together are over theirs.
    pub fn tail_limit(&self) -> usize {
        if self.tails.load(Ordering::Relaxed) > BUDGET_TAIL_BYTES {
            0
        } else {
            TAIL_BYTES
        }
    }

    /// Bytes that all tails hold.
    pub fn tail_bytes(&self) -> usize {
        self.tails.load(Ordering::Relaxed)
    }
}

/// What one connection may have under way; cheap to clone.
#[derive(Clone, Debug)]
pub struct Window {
    budget: Arc<Budget>,
    requests: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    /// The peer has sent its last byte.
    finished: Arc<AtomicBool>,
    /// Something was written since it was last asked.
    wrote: Arc<AtomicBool>,
}

/// A share of a window and of the budget; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    _window: OwnedSemaphorePermit,
    _budget: OwnedSemaphorePermit,
}

impl Window {
    /// A window of its own for one connection.
    pub fn new(budget: Arc<Budget>) -> Self {
        Self {
            budget,
            requests: Arc::new(Semaphore::new(WINDOW_REQUEST_BYTES as usize)),
            answers: Arc::new(Semaphore::new(WINDOW_ANSWER_BYTES as usize)),
            finished: Arc::default(),
            wrote: Arc::default(),
        }
    }

    /// The peer has sent its last byte: what it has begun is answered, but nothing of it waits for
    /// records any more, for it may have left.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
    }

    /// Whether the peer has sent its last byte.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Something was written to the peer.
    pub fn note_written(&self) {
        self.wrote.store(true, Ordering::Relaxed);
    }

    /// Whether anything is under way, or was written since this was last asked.
    pub fn is_in_use(&self) -> bool {
        let wrote = self.wrote.swap(false, Ordering::Relaxed);
        wrote || self.requests.available_permits() < WINDOW_REQUEST_BYTES as usize
    }

    /// Waits until a request of so many bytes may begin; `None` once the window is closed.
    pub async fn admit(&self, bytes: usize) -> Option<Permit> {
        let cost = cost(bytes, WINDOW_REQUEST_BYTES);
        acquire(&self.requests, &self.budget.requests, cost).await
    }

    /// Waits until an answer of so many bytes may be sent; `None` once the window is closed.
    pub async fn reserve(&self, bytes: usize) -> Option<Permit> {
        let cost = cost(bytes, WINDOW_ANSWER_BYTES);
        // Its own window first: a peer that does not read waits for itself, and wants nothing.
        let window = self.answers.clone().acquire_many_owned(cost).await.ok()?;
        let _wanted = Wanted::new(&self.budget);
        let budget = self.budget.answers.clone().acquire_many_owned(cost).await;
        Some(Permit {
            _window: window,
            _budget: budget.ok()?,
        })
    }

    /// Whether answers of other connections wait for what this one may hold of the budget.
    pub fn is_wanted(&self) -> bool {
        self.budget.wanted.load(Ordering::Relaxed) > 0
    }

    /// Takes the share of an answer if it is there.
    pub fn try_reserve(&self, bytes: usize) -> Option<Permit> {
        let cost = cost(bytes, WINDOW_ANSWER_BYTES);
        Some(Permit {
            _window: self.answers.clone().try_acquire_many_owned(cost).ok()?,
            _budget: self
                .budget
                .answers
                .clone()
                .try_acquire_many_owned(cost)
                .ok()?,
        })
    }

    /// The connection is gone: nobody waits for it any more.
    pub fn close(&self) {
        self.requests.close();
        self.answers.close();
    }
}

/// An answer that waits for its share of the budget; counted as long as it waits.
struct Wanted<'a>(&'a Budget);

impl<'a> Wanted<'a> {
    fn new(budget: &'a Budget) -> Self {
        budget.wanted.fetch_add(1, Ordering::Relaxed);
        Self(budget)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.wanted.fetch_sub(1, Ordering::Relaxed);
    }
}

fn cost(bytes: usize, most: u32) -> u32 {
    u32::try_from(bytes)
        .unwrap_or(most)
        .clamp(REQUEST_COST_BYTES, most)
}

async fn acquire(window: &Arc<Semaphore>, budget: &Arc<Semaphore>, cost: u32) -> Option<Permit> {
    Some(Permit {
        _window: window.clone().acquire_many_owned(cost).await.ok()?,
        _budget: budget.clone().acquire_many_owned(cost).await.ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_REQUESTS;

    #[tokio::test]
    async fn requests_that_wait_never_take_the_room_of_answers() {
        let window = Window::new(Arc::default());
        let _waiting = window.admit(WINDOW_REQUEST_BYTES as usize).await.unwrap();
        assert!(window.requests.clone().try_acquire_many_owned(1).is_err());
        assert!(window.try_reserve(WINDOW_ANSWER_BYTES as usize).is_some());
    }

    #[tokio::test]
    async fn small_requests_are_bounded_by_their_number() {
        let window = Window::new(Arc::default());
        let mut permits = Vec::new();
        for _ in 0..MAX_REQUESTS {
            assert!(window.requests.available_permits() > 0);
            permits.push(window.admit(0).await.unwrap());
        }
        assert_eq!(window.requests.available_permits(), 0);
        assert!(window.is_in_use());
        drop(permits);
        assert!(!window.is_in_use());
        window.note_written();
        assert!(window.is_in_use() && !window.is_in_use());
    }

    #[tokio::test]
    async fn a_share_comes_back_when_it_is_dropped_and_never_after_the_end() {
        let window = Window::new(Arc::default());
        let whole = window.try_reserve(usize::MAX).unwrap();
        assert!(window.try_reserve(1).is_none());
        drop(whole);
        assert!(window.reserve(1).await.is_some());
        window.close();
        assert!(window.reserve(1).await.is_none());
    }
}

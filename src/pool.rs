//! The one bounded pool for blocking work of topics: cold reads, and matching against filters.
//!
//! Owns counts, not threads: the runtime's blocking threads do the work, at most so many at once. In
//! a simulation the caller's thread does it.

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{BLOCKING_THREADS, MAX_WAITING_GREPS, SEARCHING_THREADS};

/// Runs blocking work off the actors' threads; cheap to clone.
#[derive(Clone, Debug)]
pub struct Pool {
    places: Arc<Semaphore>,
    /// How many of the places searches may take.
    searching: Arc<Semaphore>,
    /// Regular expressions that may be kept while a fetch waits.
    greps: Arc<Semaphore>,
    /// In a simulation the thread that asks does the work, after so much of its time.
    #[cfg(test)]
    takes: Option<fn() -> std::time::Duration>,
}

impl Default for Pool {
    fn default() -> Self {
        let count = |permits| Arc::new(Semaphore::new(permits));
        Self {
            places: count(BLOCKING_THREADS),
            searching: count(SEARCHING_THREADS),
            greps: count(MAX_WAITING_GREPS),
            #[cfg(test)]
            takes: None,
        }
    }
}

impl Pool {
    /// A pool without threads: a piece of work takes as long as `takes` says, and is done then.
    #[cfg(test)]
    pub(crate) fn inline(takes: fn() -> std::time::Duration) -> Self {
        Self {
            takes: Some(takes),
            ..Self::default()
        }
    }

    /// Runs `work` when a place is free.
    ///
    /// # Errors
    /// The work panicked, or the runtime is stopping.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let place = self
            .places
            .clone()
            .acquire_owned()
            .await
            .context("the pool is closed")?;
        #[cfg(test)]
        if let Some(takes) = self.takes {
            tokio::time::sleep(takes()).await;
            let _held_until_done = place;
            return Ok(work());
        }
        let done = tokio::task::spawn_blocking(move || {
            let _held_until_done = place;
            work()
        });
        done.await.context("a read ended early")
    }

    /// Waits until a search may run, beside it, as long as this is held; `None` when the broker
    /// stops.
    pub async fn place_to_search(&self) -> Option<OwnedSemaphorePermit> {
        self.searching.clone().acquire_owned().await.ok()
    }

    /// Room for a regular expression that is kept while a fetch waits, if there is some.
    pub fn keep_grep(&self) -> Option<OwnedSemaphorePermit> {
        self.greps.clone().try_acquire_owned().ok()
    }
}

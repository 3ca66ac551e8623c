//! The one bounded pool for blocking work of topics: cold reads.
//!
//! Owns a count, not threads: the runtime's blocking threads do the work, at most so many at once.

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::Semaphore;

use crate::limits::BLOCKING_THREADS;

/// Runs blocking work off the actors' threads; cheap to clone.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Semaphore>);

impl Default for Pool {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BLOCKING_THREADS)))
    }
}

impl Pool {
    /// Runs `work` when a place is free.
    ///
    /// # Errors
    /// The work panicked, or the runtime is stopping.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let place = self
            .0
            .clone()
            .acquire_owned()
            .await
            .context("the pool is closed")?;
        let done = tokio::task::spawn_blocking(move || {
            let _held_until_done = place;
            work()
        });
        done.await.context("a read ended early")
    }
}

//! One timer for all that a connection waits for.
//!
//! It goes off no later than the earliest deadline that it was set by, and stays set until it goes
//! off, so that a request that is answered in time costs no timer at all.

use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that only ever moves forward in the day.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// When it goes off.
    pub(crate) fn at(&self) -> Option<Instant> {
        self.sleep.as_ref().map(|sleep| sleep.deadline())
    }

    /// Goes off at `deadline` at the latest.
    pub(crate) fn set_by(&mut self, deadline: Instant) {
        if self.at().is_none_or(|at| deadline < at) {
            self.sleep = Some(Box::pin(sleep_until(deadline)));
        }
    }

    /// Is not set any more.
    pub(crate) fn clear(&mut self) {
        self.sleep = None;
    }

    /// Waits until it goes off, forever if it is not set.
    pub(crate) async fn rings(&mut self) {
        match &mut self.sleep {
            Some(sleep) => sleep.await,
            None => std::future::pending().await,
        }
    }
}

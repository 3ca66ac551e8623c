//! Consuming.

use std::time::Duration;

use futures_util::Stream;

use crate::{Error, Event, Portion};

/// Takes records for one consumer name from one or several topics.
#[derive(Debug)]
pub struct Consumer {}

impl Consumer {
    /// The next record or gap of any topic, waiting for one as long as
    /// [`max_wait`](crate::ConsumerOptions::max_wait) says; `None` when that has passed.
    pub async fn get_next(&mut self) -> Result<Option<Event>, Error> {
        todo!()
    }

    /// The next record or gap, or `None` when `wait` has passed without one.
    pub async fn get_next_within(&mut self, _wait: Duration) -> Result<Option<Event>, Error> {
        todo!()
    }

    /// The next record or gap, or `None` when nothing is left now in any topic.
    pub async fn try_next(&mut self) -> Result<Option<Event>, Error> {
        todo!()
    }

    /// All that one answer brought, the fast way; `wait` as in
    /// [`get_next_within`](Self::get_next_within), zero as in [`try_next`](Self::try_next), `None`
    /// waits as long as it takes.
    pub async fn get_batch(&mut self, _wait: Option<Duration>) -> Result<Option<Portion>, Error> {
        todo!()
    }

    /// Records that were taken from the broker and not handed out yet.
    pub fn buffered(&self) -> u64 {
        todo!()
    }

    /// All events as a stream; it ends when [`get_next`](Self::get_next) gives `None`.
    pub fn into_stream(self) -> impl Stream<Item = Result<Event, Error>> + Send {
        futures_util::stream::empty()
    }

    /// Ends it; gives the number of records that were taken and never handed out.
    pub async fn close(self) -> u64 {
        todo!()
    }
}

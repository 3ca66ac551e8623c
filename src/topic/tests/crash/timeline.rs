//! When what was staged and announced, counted in changes of the disk.
//!
//! Owns the answer to: what may be found if the power goes now? Its neighbours:
//! [`store`](super::store) writes it, [`images`](super::images) asks.

use std::sync::Arc;

use super::held::Held;

/// The course of one store on one disk.
#[derive(Debug)]
pub(super) struct Timeline {
    base: Vec<Arc<Held>>,
    events: Vec<(u64, Event)>,
}

#[derive(Debug)]
enum Event {
    /// A flush is about to be written.
    Staged(Arc<Held>),
    /// The flush of this number was announced: it is on disk for good.
    Committed(u64),
    /// After a failure or a start the flush of this number was found and written anew: those after
    /// it are gone for good.
    Found(u64),
}

impl Timeline {
    /// Begins with what may be on the disk.
    pub(super) fn new(base: Vec<Arc<Held>>) -> Self {
        Self {
            base,
            events: Vec::new(),
        }
    }

    pub(super) fn stage(&mut self, changes: u64, held: Arc<Held>) {
        self.events.push((changes, Event::Staged(held)));
    }

    pub(super) fn commit(&mut self, changes: u64, number: u64) {
        self.events.push((changes, Event::Committed(number)));
    }

    pub(super) fn find(&mut self, changes: u64, number: u64) {
        self.events.push((changes, Event::Found(number)));
    }

    /// What may be there after a power cut when `changes` changes were made; the first one was
    /// acknowledged.
    pub(super) fn at(&self, changes: u64) -> Vec<Arc<Held>> {
        let mut may_be = self.base.clone();
        for (at, event) in &self.events {
            match event {
                Event::Staged(held) if *at <= changes => may_be.push(held.clone()),
                Event::Committed(number) if *at <= changes => {
                    may_be.retain(|held| held.number >= *number);
                }
                Event::Found(number) if *at <= changes => {
                    may_be.retain(|held| held.number == *number);
                }
                _ => {}
            }
        }
        may_be
    }

    /// What may be there now.
    pub(super) fn at_end(&self) -> Vec<Arc<Held>> {
        self.at(u64::MAX)
    }
}

//! Topics: one actor each, around a state machine without a runtime.
//!
//! ```text
//! Call --> actor --> requests --+--> state: log, producers, consumers --> Change --> storage
//!                 '-> serving --'                                                       |
//! answer <-- parked replies <-- actor <-------------------------------------- Committed '
//! ```
//!
//! [`state`] and what it is made of ([`log`], [`delayed`], [`producers`], [`consumers`], each one a
//! [`consumer`]), [`filter`], [`retention`], [`waiting`] and [`rows`] are plain logic: no actor, no
//! runtime, no clock. [`actor`], `requests`, [`serving`], [`searching`], [`consuming`], `giving`,
//! `leasing`, [`requeue`], `trimming`, `due` and [`together`] are the shell around it.

pub mod actor;
pub mod consumer;
pub mod consumers;
pub mod consuming;
mod content;
pub mod dead_letters;
pub mod delayed;
mod due;
pub mod filter;
mod giving;
mod giving_up;
pub mod journey;
mod leasing;
pub mod log;
pub mod messages;
pub mod producers;
pub mod removed;
mod requests;
pub mod requeue;
pub mod retention;
pub mod rows;
pub mod searching;
pub mod serving;
pub mod settings;
pub mod state;
pub mod stored;
pub mod together;
mod trimming;
pub mod waiting;

pub use actor::{Surroundings, Topic};
pub use journey::Journey;
pub use messages::{Call, Gone, Leaving, Summarize, Told};

#[cfg(test)]
mod tests;

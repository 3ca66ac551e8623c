//! Topics: one actor each, around a state machine without a runtime.
//!
//! ```text
//! Call --> actor --> requests --+--> state: log, producers, consumers --> Change --> storage
//!                 '-> serving --'                                                       |
//! answer <-- parked replies <-- actor <-------------------------------------- Committed '
//! ```
//!
//! [`state`] and what it is made of ([`log`], [`delayed`], [`producers`], [`consumers`] with each
//! [`consumer`]'s [`outstanding`] parcels), [`filter`], [`waiting`] and [`rows`] are plain logic: no
//! actor, no runtime, no clock. [`actor`], `requests`, [`serving`], [`searching`], [`consuming`],
//! `leasing`, [`requeue`], `due` and [`together`] are the shell around it.

pub mod actor;
pub mod consumer;
pub mod consumer_config;
pub mod consumers;
pub mod consuming;
mod content;
pub mod dead_letters;
pub mod delayed;
mod due;
pub mod filter;
pub mod gaps;
mod giving_up;
pub mod journey;
pub mod keys;
mod leasing;
pub mod log;
pub mod outstanding;
pub mod parcel;
pub mod producers;
mod requests;
pub mod requeue;
pub mod rows;
pub mod searching;
pub mod serving;
pub mod settings;
pub mod state;
pub mod taking;
pub mod together;
pub mod waiting;
pub mod workers;

pub use actor::{Call, Gone, Summarize, Surroundings, Told, Topic};
pub use journey::Journey;

#[cfg(test)]
mod tests;

//! Topics: one actor each, around a state machine without a runtime.
//!
//! ```text
//! Call --> actor --> requests --+--> state: log, producers, consumers --> Change --> storage
//!                 '-> serving --'                                                       |
//! answer <-- parked replies <-- actor <-------------------------------------- Committed '
//! ```
//!
//! [`state`], [`log`], [`delayed`], [`producers`], [`consumers`], [`waiting`] and [`rows`] are plain logic: no
//! actor, no runtime, no clock. [`actor`], `requests`, [`serving`], [`consuming`], `due` and [`together`]
//! are the shell around it.

pub mod actor;
pub mod consumers;
pub mod consuming;
pub mod delayed;
mod due;
pub mod journey;
pub mod log;
pub mod producers;
mod requests;
pub mod rows;
pub mod serving;
pub mod settings;
pub mod state;
#[cfg(test)]
mod tests;
pub mod together;
pub mod waiting;

pub use actor::{Call, Gone, Summarize, Surroundings, Told, Topic};
pub use journey::Journey;

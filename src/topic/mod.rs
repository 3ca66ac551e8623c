//! Topics: one actor each, around a state machine without a runtime.
//!
//! ```text
//! Call --> actor --> requests --+--> state: log, producers, consumers --> Change --> storage
//!                 '-> serving --'                                                       |
//! answer <-- parked replies <-- actor <-------------------------------------- Committed '
//! ```
//!
//! [`state`], [`log`], [`producers`], [`consumers`], [`removed`], [`retention`], [`waiting`] and
//! [`rows`] are plain logic: no actor, no runtime, no clock. [`actor`], `requests`, [`serving`],
//! [`consuming`] and `trimming` are the shell around it.

pub mod actor;
pub mod consumers;
pub mod consuming;
pub mod log;
pub mod producers;
pub mod removed;
mod requests;
pub mod retention;
pub mod rows;
pub mod serving;
pub mod settings;
pub mod state;
mod trimming;
pub mod waiting;

pub use actor::{Call, Gone, Summarize, Surroundings, Told, Topic};

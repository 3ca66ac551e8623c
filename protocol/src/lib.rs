//! The wire protocol of logdrive, as PROTOCOL.md states it: bytes in, values out, and back.
//!
//! This crate does no I/O and knows neither broker nor client; both build on it.
//!
//! | module | owns |
//! |---|---|
//! | [`preface`] | the first bytes of a connection, versions and limits |
//! | [`frame`] | the header of a frame and cutting a stream into frames |
//! | [`body`] | the rules of fields within a frame |
//! | [`operations`] | every request with its answer, and the notices |
//! | [`batch`] | record batches: layout, building, checking, walking |
//! | [`error`] | the registry of errors |
//! | [`position`] | where to begin in a topic, on the wire and as text |
//! | [`severity`] | names of severities |
//! | [`name`] | what names may look like |
//! | [`rights`] | what a principal may do |
//! | [`scram`] | proving a password without telling it |
//! | [`secret`] | bytes that are never printed |
//! | [`limits`] | what both sides must keep |

pub mod batch;
pub mod body;
pub mod error;
pub mod frame;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod ids;
pub mod limits;
pub mod name;
pub mod operations;
pub mod position;
pub mod preface;
pub mod rights;
pub mod scram;
pub mod secret;
pub mod severity;
pub mod varint;

pub use error::{ErrorCode, Failure, Outcome};
pub use ids::{ConsumerId, NodeId, ProducerId, TopicId, WorkerId};
pub use position::Position;
pub use rights::Rights;
pub use secret::Secret;
pub use severity::Severity;

//! Bad input of every kind, over real sockets and in a real directory: each fault gets its own
//! clear error, a second connection goes on undisturbed, and nothing is lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod batches;
mod directory;
mod frames;
mod handshake;
mod noise;
mod text;

use logdrive_protocol::Failure;
use logdrive_protocol::operations::{Operation, Ping};

use support::{Bystander, Connection};

/// An error must have this code and name its cause in these words.
#[track_caller]
fn names(failure: &Failure, code: &str, words: &str) {
    assert_eq!(
        failure.code.to_string(),
        code,
        "{failure}; {}",
        failure.hint
    );
    assert!(
        failure.message.contains(words),
        "{failure} does not say \"{words}\""
    );
}

/// A request must be refused so, and the connection goes on.
#[track_caller]
fn refused<O: Operation>(peer: &mut Connection, request: O, code: &str, words: &str)
where
    O::Answer: std::fmt::Debug,
{
    names(&peer.ask(request).unwrap_err(), code, words);
    assert_eq!(peer.ask(Ping {}).unwrap().state, 0);
}

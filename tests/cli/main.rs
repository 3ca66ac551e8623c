//! The command line end to end: the built program against a broker of its own, over real sockets.
//!
//! Every test starts its broker on a free port and a temporary directory, and judges what a script
//! would see: stdout, stderr and the exit code.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that fails may panic anywhere"
)]

mod admin;
mod bench;
mod broker;
mod compare;
mod consume;
mod demo;
mod fetch;
mod leasing;
mod produce;
mod serve;
mod verify;

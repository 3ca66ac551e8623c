//! The command line end to end: the built program against a broker of its own, over real sockets.
//!
//! Every test starts its broker on a free port and a temporary directory, and judges what a script
//! would see: stdout, stderr and the exit code.

mod admin;
mod broker;
mod consume;
mod demo;
mod fetch;
mod produce;
mod serve;

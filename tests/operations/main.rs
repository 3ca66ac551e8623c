//! Every operation over real sockets, against the program itself: what the protocol promises, and
//! the faults that brokers of this kind are known for, each in a test of its own.
//!
//! Answers are compared as the short texts of [`support::said`].
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod broker;
mod consuming;
mod delaying;
mod deleting;
mod filtering;
mod giving_up;
mod leasing;
mod lending;
mod ordering;
mod packing;
mod producing;
mod reading;
mod retaining;
mod retrying;
mod searching;
mod seeking;
mod stopping;
mod together;
mod topics;

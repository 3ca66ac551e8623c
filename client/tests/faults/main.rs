//! The client against faults that a real broker cannot be made to show.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "all of it is test code, also what stands outside of test functions"
)]

mod asking;
mod connecting;
mod double;
mod leasing;
mod producing;

//! The logdrive broker.
pub mod cli;
pub mod history;
pub mod storage;

//! The logdrive broker.
pub mod history;
pub mod storage;

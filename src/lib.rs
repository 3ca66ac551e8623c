//! The logdrive broker.
pub mod storage;

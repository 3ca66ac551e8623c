//! The logdrive broker.
pub mod broker;
pub mod cli;
pub mod clock;
pub mod connection;
pub mod counters;
pub mod history;
pub mod limits;
pub mod net;
pub mod pool;
pub mod reply;
pub mod server;
pub mod storage;
pub mod suggest;
pub mod topic;
pub mod window;

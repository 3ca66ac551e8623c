//! The logdrive broker.
pub mod clock;
pub mod history;
pub mod limits;
pub mod pool;
pub mod reply;
pub mod storage;
pub mod suggest;
pub mod topic;
pub mod window;

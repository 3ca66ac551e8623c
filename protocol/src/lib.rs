//! The wire protocol of logdrive.

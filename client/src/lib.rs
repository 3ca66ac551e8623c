//! The Rust client of logdrive.

//! Records and state on disk: segments that are redb databases.
pub mod disk;

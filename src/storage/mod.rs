//! Records and state on disk: segments that are redb databases.
pub mod backend;
pub mod disk;
pub mod overlay;

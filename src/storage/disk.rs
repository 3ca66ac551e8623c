//! The directory that holds the segments, real or simulated.
//!
//! Owns the names of files and the order in which their changes become durable. It never knows
//! what is inside a file. Its neighbours: `segment` hands redb a back end made of
//! a [`DiskFile`], and the writer creates, renames and unlinks through [`Disk`].

mod real;
mod sim;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

pub use real::{OpenDiskError, RealDisk};
pub use sim::{Call, Fault, SimDisk};

/// A flat directory of files; names contain no separators.
///
/// Changes of names (create, rename, unlink) are durable only after [`Disk::sync_dir`].
pub trait Disk: Debug + Send + Sync + 'static {
    /// The names of all files, in no particular order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates an empty file, replacing one of that name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, atomically, replacing one of that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a name; open handles keep the content until they are dropped.
    fn unlink(&self, name: &str) -> io::Result<()>;
    /// Makes all changes of names so far durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Bytes that may still be written.
    fn free_space(&self) -> io::Result<u64>;
}

/// An open file with positioned reads and writes.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file holds no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `out` from `offset`; fails with `UnexpectedEof` beyond the end.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, growing the file where needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes content and length durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// Gives room back that the content does not need; nothing is written afterwards.
    fn finish(&self) -> io::Result<()> {
        Ok(())
    }
}

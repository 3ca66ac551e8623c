//! Why a data directory could not be opened, in words that name the fix.
//!
//! Owns the closed list of reasons. Its neighbours: [recovery](super::recovery) finds them, the
//! command line prints them.

use std::io;

/// Why [`Storage::open`](super::Storage::open) refused.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or a file in it could not be listed, opened, written or synced.
    #[error("the data directory failed while {doing}: {source}")]
    Disk {
        /// What was being done, in words.
        doing: String,
        /// The operating system's word.
        source: io::Error,
    },
    /// The newest segment cannot be read.
    #[error(
        "segment {file} cannot be read: {reason}. It holds the newest records and all state. \
         Restore {file} from a copy; or move it out of the data directory to go on from the \
         segment before it, which LOSES every record and every change that {file} holds"
    )]
    Unreadable {
        /// The file's name in the data directory.
        file: String,
        /// What was found.
        reason: String,
    },
    /// The data directory was written by a newer version.
    #[error(
        "segment {file} has format {found}, and this version reads formats up to {supported}: \
         start a logdrive version that reads format {found}"
    )]
    NewerFormat {
        /// The file's name in the data directory.
        file: String,
        /// Its format.
        found: u32,
        /// The newest format that this version knows.
        supported: u32,
    },
}

//! Why a data directory could not be opened, in words that name the fix.
//!
//! Owns the closed list of reasons. Its neighbours: [recovery](super::recovery) finds them, the
//! command line prints them.

use std::io;

use super::layout;
use super::segment::SegmentError;

/// Why [`Storage::open`](super::Storage::open) refused.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or a file in it could not be listed, opened, written or synced.
    // Not named `source`: the text says it, and whoever prints a chain would say it again.
    #[error("the data directory failed while {doing}: {cause}")]
    Disk {
        /// What was being done, in words.
        doing: String,
        /// The operating system's word.
        cause: io::Error,
    },
    /// The newest segment cannot be read.
    #[error(
        "segment {file} cannot be read: {reason}. It holds the newest records and all state. \
         Restore {file} from a copy; or move it out of the data directory, and remove the file newest, to go \
         on from the segment before it, which LOSES every record and every change that {file} holds"
    )]
    Unreadable {
        /// The file's name in the data directory.
        file: String,
        /// What was found.
        reason: String,
    },
    /// The newest segment is not there.
    #[error(
        "segment {file} is missing. It holds the newest records and all state. Restore {file} from \
         a copy; or remove the file {note} from the data directory to go on from the segment \
         before it, which LOSES every record and every change that {file} held"
    )]
    Missing {
        /// The file's name in the data directory.
        file: String,
        /// The file that says that it was there.
        note: &'static str,
    },
    /// The journal is not there, or not as it was written.
    #[error(
        "the file journal {fault}. It may hold the last changes, which {file} does not have \
         yet. Restore it from a copy; or create an empty file of that name in the data directory \
         to go on without, which LOSES whatever was acknowledged in the last moments, unless the \
         broker was stopped gracefully"
    )]
    Journal {
        /// What is wrong with it.
        fault: String,
        /// The name of the segment that it belongs to.
        file: String,
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

impl OpenError {
    pub(super) fn disk(doing: &str, cause: io::Error) -> Self {
        Self::Disk {
            doing: doing.to_owned(),
            cause,
        }
    }

    /// Whether only room was missing: nothing is wrong with what was read.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Disk { cause, .. } if cause.kind() == io::ErrorKind::StorageFull)
    }

    /// The newest segment `number` was found, and could not be used.
    pub(super) fn unreadable(number: u64, error: SegmentError) -> Self {
        let file = layout::segment_name(number);
        match error {
            SegmentError::Io(cause) => Self::Disk {
                doing: format!("reading {file}"),
                cause,
            },
            SegmentError::NewerFormat { found } => Self::NewerFormat {
                file,
                found,
                supported: layout::FORMAT,
            },
            other => Self::Unreadable {
                file,
                reason: other.to_string(),
            },
        }
    }

    /// The new segment `number` could not be written.
    pub(super) fn writing(number: u64, error: SegmentError) -> Self {
        let source = match error {
            SegmentError::Io(source) => source,
            other => io::Error::other(other.to_string()),
        };
        Self::disk(&format!("writing {}", layout::unborn_name(number)), source)
    }
}

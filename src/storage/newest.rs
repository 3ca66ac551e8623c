//! The file `newest`: the highest segment that was ever active, as decimal digits.
//!
//! Owns that one file. Without it a newest segment that somebody has removed would not be missed:
//! the start would go on from the one before it, as if what it held had never been acknowledged.
//! It is written after the segment has its name, so it never names one that was not there. Its
//! neighbours: the [keeper](super::keeper) writes it, [recovery](super::recovery) compares.

use std::io;

use super::disk::Disk;

/// The file's name.
pub(super) const NAME: &str = "newest";
/// The file's name until it is whole.
const UNFINISHED: &str = "newest.part";
/// Digits of the largest number.
const MAX_DIGITS: u64 = 20;

/// Notes that segment `number` has been active, durably.
pub(super) fn mark(disk: &dyn Disk, number: u64) -> io::Result<()> {
    let file = disk.create(UNFINISHED)?;
    file.write_at(0, number.to_string().as_bytes())?;
    file.sync()?;
    disk.rename(UNFINISHED, NAME)?;
    disk.sync_dir()
}

/// The segment that was noted last; `None` if there is no note, or none that can be read.
pub(super) fn marked(disk: &dyn Disk) -> Option<u64> {
    let file = disk.open(NAME).ok()?;
    let len = file.len().ok().filter(|len| *len <= MAX_DIGITS)?;
    let mut digits = vec![0; usize::try_from(len).ok()?];
    file.read_at(0, &mut digits).ok()?;
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

//! The file `newest`: the highest segment that was ever active, as decimal digits, and its birth.
//!
//! ```text
//!   12 00000000deadbeef\n        the number, and the birth in hexadecimal; older ones end before it
//! ```
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
/// Digits of the largest number, a blank, the birth and a line's end.
const MAX_BYTES: u64 = 20 + 1 + BIRTH_DIGITS as u64 + 1;
const BIRTH_DIGITS: usize = 16;

/// What is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) number: u64,
    /// 0 if it is not said.
    pub(super) birth: u64,
}

/// Notes that segment `number` has been active, durably.
pub(super) fn mark(disk: &dyn Disk, number: u64, birth: u64) -> io::Result<()> {
    let file = disk.create(UNFINISHED)?;
    file.write_at(0, format!("{number} {birth:016x}\n").as_bytes())?;
    file.sync()?;
    disk.rename(UNFINISHED, NAME)?;
    disk.sync_dir()
}

/// The segment that was noted last; `None` if there is no note, or none that can be read.
pub(super) fn marked(disk: &dyn Disk) -> Option<Note> {
    let file = disk.open(NAME).ok()?;
    let len = file.len().ok().filter(|len| *len <= MAX_BYTES)?;
    let mut text = vec![0; usize::try_from(len).ok()?];
    file.read_at(0, &mut text).ok()?;
    parse(std::str::from_utf8(&text).ok()?)
}

/// Reads a note as it is written, and as it was before there were births; nothing else.
fn parse(text: &str) -> Option<Note> {
    let (number, birth) = match text.split_once(' ') {
        Some((number, rest)) => {
            let digits = rest.strip_suffix('\n')?;
            let is_whole = digits.len() == BIRTH_DIGITS && !digits.starts_with('+');
            let birth = is_whole.then(|| u64::from_str_radix(digits, 16).ok());
            (number, birth??)
        }
        None => (text, 0),
    };
    let number = (!number.starts_with('+')).then(|| number.parse().ok());
    Some(Note {
        number: number??,
        birth,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(u64, u64)>) {
        let found = parse(text).map(|note| (note.number, note.birth));
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn a_note_is_read_as_it_is_written_and_as_it_was_before_and_nothing_else_is() {
        check("12 00000000deadbeef\n", Some((12, 0xdead_beef)));
        check("12", Some((12, 0)));
        for text in [
            "",
            "+12",
            "x",
            "12\n",
            "12 ",
            "12 5\n",
            "12 00000000deadbeef",
        ] {
            check(text, None);
        }
    }
}

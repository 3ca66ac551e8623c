//! Cutting bytes into lines: a record is a line without its LF, and a CR stays.
//!
//! Owns the cutting alone; it neither reads nor sends. [`produce`](super::produce) feeds it blocks
//! as they come off a file, [`demo`](super::demo) whole files.
//!
//! ```text
//!  block 1              block 2                block 3
//!  "one\ntw"            "o\r\n" + 2 MiB of x   "x\nlast"
//!   ^^^ ^^--- carry ---> ^^^^   too long: only ---> ^^^^ carry, given by `last`
//!   borrowed             from carry   counted
//! ```

use memchr::memchr;

/// What a line turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// A line without its LF.
    Whole(&'a [u8]),
    /// A line over the limit; its bytes were let go.
    TooLong {
        /// Which line of its file, from 1.
        number: u64,
        /// Its length without the LF.
        bytes: u64,
    },
}

/// Cuts blocks into lines; holds at most one unfinished line, never more than the limit of it.
#[derive(Debug)]
pub(crate) struct Lines {
    limit: usize,
    /// The beginning of a line whose LF is still to come.
    carry: Vec<u8>,
    /// Bytes of an unfinished line that is over the limit already.
    overlong: u64,
    /// The carry has been given out and goes with the next call.
    given: bool,
    number: u64,
}

impl Lines {
    /// Nothing yet; `limit` is the longest line in bytes, without its LF.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            carry: Vec::new(),
            overlong: 0,
            given: false,
            number: 0,
        }
    }

    /// Takes the next line off the front of `block`; `None` when all of it is used up.
    pub(crate) fn next<'s, 'b: 's>(&'s mut self, block: &mut &'b [u8]) -> Option<Line<'s>> {
        self.let_go();
        let Some(end) = memchr(b'\n', block) else {
            self.keep(block);
            *block = &[];
            return None;
        };
        let (part, rest) = (&block[..end], &block[end + 1..]);
        *block = rest;
        self.number += 1;
        if self.overlong > 0 || self.carry.len() + part.len() > self.limit {
            let bytes = self.overlong + (self.carry.len() + part.len()) as u64;
            self.carry.clear();
            self.overlong = 0;
            return Some(Line::TooLong {
                number: self.number,
                bytes,
            });
        }
        if self.carry.is_empty() {
            return Some(Line::Whole(part));
        }
        self.carry.extend_from_slice(part);
        self.given = true;
        Some(Line::Whole(&self.carry))
    }

    /// The last line, if the file did not end with an LF.
    pub(crate) fn last(&mut self) -> Option<Line<'_>> {
        self.let_go();
        if self.overlong > 0 {
            self.number += 1;
            return Some(Line::TooLong {
                number: self.number,
                bytes: std::mem::take(&mut self.overlong),
            });
        }
        if self.carry.is_empty() {
            return None;
        }
        self.number += 1;
        self.given = true;
        Some(Line::Whole(&self.carry))
    }

    fn let_go(&mut self) {
        if std::mem::take(&mut self.given) {
            self.carry.clear();
        }
    }

    fn keep(&mut self, part: &[u8]) {
        if self.overlong > 0 || self.carry.len() + part.len() > self.limit {
            self.overlong += (self.carry.len() + part.len()) as u64;
            self.carry.clear();
        } else {
            self.carry.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts `text` in blocks of every size; lines that are too long stand as `<number:bytes>`.
    fn check(limit: usize, text: &str, expected: &[&str]) {
        for size in 1..=text.len().max(1) {
            let mut lines = Lines::new(limit);
            let mut got = Vec::new();
            let mut show = |line: Line<'_>| {
                got.push(match line {
                    Line::Whole(line) => line.escape_ascii().to_string(),
                    Line::TooLong { number, bytes } => format!("<{number}:{bytes}>"),
                });
            };
            for mut block in text.as_bytes().chunks(size) {
                while let Some(line) = lines.next(&mut block) {
                    show(line);
                }
            }
            if let Some(line) = lines.last() {
                show(line);
            }
            assert_eq!(lines.last(), None);
            assert_eq!(got, expected, "in blocks of {size}");
        }
    }

    #[test]
    fn an_lf_ends_a_line_and_a_cr_belongs_to_it() {
        check(
            100,
            "one\ntwo\r\n\r\n\nfour",
            &["one", r"two\r", r"\r", "", "four"],
        );
    }

    #[test]
    fn a_last_line_counts_with_and_without_its_lf() {
        check(100, "", &[]);
        check(100, "\n", &[""]);
        check(100, "a", &["a"]);
        check(100, "a\n", &["a"]);
        check(100, "a\n\n", &["a", ""]);
    }

    #[test]
    fn a_line_over_the_limit_is_counted_and_let_go_and_the_next_one_is_whole() {
        check(3, "abc\nabcd\nabc\n", &["abc", "<2:4>", "abc"]);
        check(3, "abcdefgh\nx\nabcdefghij", &["<1:8>", "x", "<3:10>"]);
        check(0, "\na\n\n", &["", "<2:1>", ""]);
    }

    #[test]
    fn bytes_that_are_no_text_pass_unchanged() {
        let mut lines = Lines::new(10);
        let mut block = &b"\xff\x00\xfe\n\x80"[..];
        assert_eq!(lines.next(&mut block), Some(Line::Whole(b"\xff\x00\xfe")));
        assert_eq!(lines.next(&mut block), None);
        assert_eq!(lines.last(), Some(Line::Whole(b"\x80")));
    }

    #[test]
    fn a_line_over_the_limit_is_never_held() {
        let mut lines = Lines::new(10);
        for _ in 0..1000 {
            assert_eq!(lines.next(&mut &[b'x'; 4096][..]), None);
            assert!(lines.carry.capacity() < 100);
        }
        assert_eq!(
            lines.last(),
            Some(Line::TooLong {
                number: 1,
                bytes: 4_096_000
            })
        );
    }
}

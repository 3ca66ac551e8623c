//! The log lines that the demo runs over: the caller's files, or those that come along.
//!
//! Owns the choice of files and lines for each producer. Lines are slices of whole files in memory,
//! which is why their bytes are bounded.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytes::Bytes;

use crate::cli::lines::{Line, Lines};

/// Bytes of log files that are read; what comes after is left out.
const MAX_BYTES: u64 = 256 << 20;
/// Longest line, so that with its prefix it is within the record limit.
const MAX_LINE: usize = (1 << 20) - 64;
/// Lines of each producer when neither files nor a number are given: the files that come along are
/// short, and a broker that is killed must have something to do.
const SHIPPED_LINES: u64 = 4000;

/// Real logs, written by the programs that their names say; see data/README.md.
const SHIPPED: [&[u8]; 7] = [
    include_bytes!("../../../data/logs/dpkg.log"),
    include_bytes!("../../../data/logs/apt-term.log"),
    include_bytes!("../../../data/logs/jvm-gc.log"),
    include_bytes!("../../../data/logs/postgresql.log"),
    include_bytes!("../../../data/logs/http-access.log"),
    include_bytes!("../../../data/logs/apt-history.log"),
    include_bytes!("../../../data/logs/curl-verbose.log"),
];

/// The lines of a file.
#[derive(Debug)]
pub(super) struct Log {
    lines: Vec<Bytes>,
    /// Lines that are too long for a record.
    overlong: u64,
}

/// All files, in the order in which they are dealt out.
#[derive(Debug)]
pub(super) struct Logs {
    files: Vec<Log>,
    default_lines: Option<u64>,
    /// What was left out, in words.
    pub(super) left_out: Vec<String>,
}

impl Log {
    fn new(content: &Bytes) -> Self {
        let mut lines = Lines::new(MAX_LINE);
        let mut log = Self {
            lines: Vec::new(),
            overlong: 0,
        };
        let mut rest = &content[..];
        while let Some(line) = lines.next(&mut rest) {
            log.add(&line, |line| content.slice_ref(line));
        }
        if let Some(line) = lines.last() {
            log.add(&line, Bytes::copy_from_slice);
        }
        log
    }

    fn add(&mut self, line: &Line<'_>, keep: impl Fn(&[u8]) -> Bytes) {
        match line {
            Line::Whole(line) => self.lines.push(keep(line)),
            Line::TooLong { .. } => self.overlong += 1,
        }
    }
}

impl Logs {
    /// The files that come with the program.
    pub(super) fn shipped() -> Self {
        let files = SHIPPED.map(|content| Log::new(&Bytes::from_static(content)));
        Self::of(files.into(), Some(SHIPPED_LINES))
    }

    /// The plain files of a directory, by name; hidden ones are passed over.
    pub(super) fn read(directory: &Path) -> anyhow::Result<Self> {
        let shown = directory.display();
        let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
            .with_context(|| format!("cannot read the directory {shown}"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<_>>()
            .with_context(|| format!("cannot read the directory {shown}"))?;
        paths.retain(|path| path.is_file() && !name_of(path).starts_with('.'));
        paths.sort();
        let mut left = MAX_BYTES;
        let mut unread = 0;
        let mut files = Vec::new();
        for path in paths {
            let bytes = path.metadata().map_or(0, |found| found.len());
            if bytes > left {
                unread += 1;
                continue;
            }
            let content =
                std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            left = left.saturating_sub(content.len() as u64);
            files.push(Log::new(&content.into()));
        }
        let mut logs = Self::of(files, None);
        if unread > 0 {
            logs.left_out.push(format!(
                "{unread} files, over {} MiB in all",
                MAX_BYTES >> 20
            ));
        }
        if logs.files.is_empty() {
            bail!("{shown} holds no log with a line in it; name a directory of log files");
        }
        Ok(logs)
    }

    fn of(mut files: Vec<Log>, default_lines: Option<u64>) -> Self {
        let overlong: u64 = files.iter().map(|file| file.overlong).sum();
        files.retain(|file| !file.lines.is_empty());
        let left_out = (overlong > 0).then(|| format!("{overlong} lines over {MAX_LINE} bytes"));
        Self {
            files,
            default_lines,
            left_out: left_out.into_iter().collect(),
        }
    }

    /// How many files there are.
    pub(super) fn file_count(&self) -> usize {
        self.files.len()
    }

    /// The lines of one of `producers`: every so-maniest file, each line once, or cut and repeated
    /// to `count`.
    pub(super) fn deal(&self, producer: usize, producers: usize, count: Option<u64>) -> Vec<Bytes> {
        // With fewer files than producers, some files are produced by several.
        let first = producer % self.files.len();
        let files = self.files.iter().skip(first).step_by(producers);
        let lines: Vec<Bytes> = files.flat_map(|file| &file.lines).cloned().collect();
        match count.or(self.default_lines) {
            None => lines,
            Some(count) => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                lines.iter().cycle().take(count).cloned().collect()
            }
        }
    }
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(lines: &[Bytes]) -> String {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| line.escape_ascii().to_string())
            .collect();
        lines.join("|")
    }

    fn logs(contents: &[&'static [u8]]) -> Logs {
        let files = contents
            .iter()
            .map(|&content| Log::new(&Bytes::from_static(content)));
        Logs::of(files.collect(), None)
    }

    #[test]
    fn files_are_dealt_out_in_turn_and_lines_kept_as_they_are() {
        let logs = logs(&[b"a\r\nb\n", b"c", b"d\n\n"]);
        assert_eq!(shown(&logs.deal(0, 2, None)), r"a\r|b|d|");
        assert_eq!(shown(&logs.deal(1, 2, None)), "c");
    }

    #[test]
    fn fewer_files_than_producers_are_shared() {
        let logs = logs(&[b"a\n", b"b\n"]);
        let dealt: Vec<_> = (0..5)
            .map(|producer| shown(&logs.deal(producer, 5, None)))
            .collect();
        assert_eq!(dealt, ["a", "b", "a", "b", "a"]);
    }

    #[test]
    fn a_number_cuts_or_repeats_the_lines() {
        let logs = logs(&[b"a\nb\nc\n"]);
        assert_eq!(shown(&logs.deal(0, 1, Some(2))), "a|b");
        assert_eq!(shown(&logs.deal(0, 1, Some(7))), "a|b|c|a|b|c|a");
    }

    #[test]
    fn the_files_that_come_along_have_cr_line_ends_long_lines_and_one_without_a_last_lf() {
        let logs = Logs::shipped();
        let lines = || logs.files.iter().flat_map(|file| &file.lines);
        assert_eq!(logs.file_count(), SHIPPED.len());
        assert!(lines().any(|line| line.ends_with(b"\r")));
        assert!(lines().any(|line| line.len() > 4096));
        assert!(SHIPPED.iter().any(|content| !content.ends_with(b"\n")));
        assert!(logs.left_out.is_empty());
        assert_eq!(logs.deal(4, 5, None).len() as u64, SHIPPED_LINES);
    }

    #[test]
    fn a_directory_is_read_by_name_and_an_empty_one_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Logs::read(directory.path()).is_err());
        for (name, content) in [
            ("b.log", "b"),
            ("a.log", "a"),
            (".hidden", "h"),
            ("empty", ""),
        ] {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        let logs = Logs::read(directory.path()).unwrap();
        assert_eq!(logs.file_count(), 2);
        assert_eq!(shown(&logs.deal(0, 1, None)), "a|b");
    }
}

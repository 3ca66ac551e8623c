//! What is in the records: generated text, or the lines of real log files.
//!
//! Owns the bytes, which are all in memory before anything is timed. Records repeat when they are
//! used up, and there are enough of them that they do not stay in a processor's nearest caches.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use bytes::Bytes;

use super::args::SourceArgs;
use super::volume::Volume;
use crate::cli::lines::{Line, Lines};

/// Bytes of generated records.
const GENERATED_BYTES: usize = 32 << 20;
/// Records that are generated at most.
const GENERATED_RECORDS: usize = 1 << 16;
/// Bytes of log files that are read; what comes after is left out.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// Longest line that becomes a record.
const MAX_LINE: usize = (1 << 20) - 64;
/// So that a measurement is of the same bytes every time.
const SEED: u64 = 7440;

/// Values of records, over and over.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    values: Vec<Bytes>,
    bytes: u64,
    name: String,
}

impl Payload {
    /// As the arguments say, for so many bytes in all.
    pub(super) fn new(arguments: &SourceArgs, bytes: Volume) -> anyhow::Result<Self> {
        if arguments.source.is_empty() {
            Self::generated(arguments.size, bytes.0.div_ceil(arguments.size.0))
        } else {
            Self::lines(&arguments.source)
        }
    }

    /// Letters and digits at random, in which a compressor finds little; for so many records.
    pub(crate) fn generated(size: Volume, records: u64) -> anyhow::Result<Self> {
        let size = size.length();
        ensure!(size <= MAX_LINE, "a record has at most {MAX_LINE} bytes");
        let most = (GENERATED_BYTES / size).min(GENERATED_RECORDS);
        let count = usize::try_from(records).map_or(most, |records| records.min(most));
        let count = count.max(1);
        let mut random = fastrand::Rng::with_seed(SEED);
        let text: Vec<u8> = (0..count * size)
            .map(|_| u8::try_from(random.alphanumeric()).unwrap_or(b'x'))
            .collect();
        let text = Bytes::from(text);
        let values = (0..count).map(|at| text.slice(at * size..(at + 1) * size));
        Ok(Self {
            values: values.collect(),
            bytes: text.len() as u64,
            name: Volume(size as u64).to_string(),
        })
    }

    fn lines(files: &[PathBuf]) -> anyhow::Result<Self> {
        let mut values = Vec::new();
        let mut left = MAX_FILE_BYTES;
        for path in files {
            let shown = path.display();
            let bytes = path
                .metadata()
                .with_context(|| format!("cannot read {shown}"))?
                .len();
            left = left.checked_sub(bytes).with_context(|| {
                format!("{shown}: log files are read up to {MAX_FILE_BYTES} bytes in all")
            })?;
            let content = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
            let content = Bytes::from(content);
            let mut lines = Lines::new(MAX_LINE);
            let mut rest = &content[..];
            while let Some(line) = lines.next(&mut rest) {
                if let Line::Whole(line) = line {
                    values.push(content.slice_ref(line));
                }
            }
            if let Some(Line::Whole(line)) = lines.last() {
                values.push(Bytes::copy_from_slice(line));
            }
        }
        ensure!(!values.is_empty(), "there is no line in the files named");
        Ok(Self {
            bytes: values.iter().map(|it| it.len() as u64).sum(),
            values,
            name: "log lines".to_owned(),
        })
    }

    /// What it is, in a word or two.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of a record on average.
    pub(crate) fn mean(&self) -> f64 {
        self.bytes as f64 / self.values.len() as f64
    }

    /// How many records have so many bytes, at least one.
    pub(crate) fn records_in(&self, bytes: u64) -> u64 {
        (bytes as f64 / self.mean()).round().max(1.0) as u64
    }

    /// All values from the `first` on, without an end.
    pub(crate) fn from(&self, first: usize) -> impl Iterator<Item = &Bytes> + Send {
        let first = first % self.values.len();
        self.values.iter().cycle().skip(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_records_are_of_one_size_differ_and_repeat() {
        let payload = Payload::generated(Volume(MAX_LINE as u64), 1000).unwrap();
        let first: Vec<_> = payload.from(0).take(payload.values.len() + 1).collect();
        assert!(first.iter().all(|it| it.len() == MAX_LINE));
        assert_ne!(first[0], first[1]);
        assert_eq!(first[0], first[payload.values.len()]);
        assert_eq!(payload.records_in(3 * MAX_LINE as u64), 3);
        assert!(Payload::generated(Volume(2 << 20), 1).is_err());
        assert_eq!(Payload::generated(Volume(8), 3).unwrap().values.len(), 3);
        assert_eq!(Payload::generated(Volume(8), 0).unwrap().values.len(), 1);
    }

    #[test]
    fn lines_of_files_are_records_and_files_without_a_line_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let files = [file("a", "one\ntwo\r\n"), file("b", "three")];
        let payload = Payload::lines(&files).unwrap();
        let values: Vec<_> = payload.from(1).take(4).collect();
        assert_eq!(values, ["two\r", "three", "one", "two\r"]);
        assert_eq!(payload.mean().to_string(), "4");
        let error = Payload::lines(&[file("c", "")]).unwrap_err();
        assert_eq!(error.to_string(), "there is no line in the files named");
        let missing = Payload::lines(&[directory.path().join("none")]).unwrap_err();
        assert!(missing.to_string().starts_with("cannot read"), "{missing}");
    }
}

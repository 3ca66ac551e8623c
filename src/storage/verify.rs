//! Looking for damage: everything that a directory holds is read and compared with its checksums.
//!
//! Owns the order in which that is done, and what is said about what is found. It never changes a
//! file, and repairs nothing: redb works on views that are in memory. Nobody else may use the
//! directory meanwhile. Its neighbours: [`found`] finds the newest segment and the journal as a start
//! would, [`mod@walk`] reads a segment's chunks as a reader would.
//!
//! ```text
//!   newest ---> the newest segment, all pages; the journal on top of it --> state: extents, catalogue
//!                                                                             |
//!   each segment: redb's checksum of every page                               v
//!                 every chunk: row head, both CRCs of each batch, sums,    what is needed of it is
//!                 digest, abutting its neighbour                  --intact--> there, or is named
//! ```

mod found;
mod walk;

use std::collections::BTreeMap;
use std::io;

use logdrive_protocol::TopicId;

use self::found::Store;
use self::walk::{Seen, walk};
use super::Rows;
use super::disk::Disk;
use super::error::OpenError;
use super::header::Trust;
use super::job::Totals;
use super::layout::{self, FileKind};
use super::newest;
use super::options::Options;
use super::segment::{Segment, SegmentError};

/// What a topic's state says of a log of its own; by whoever decodes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Under which it is stored.
    pub topic: TopicId,
    /// What people call it.
    pub name: String,
    /// The first offset that is kept.
    pub start: u64,
    /// The offset after the last record.
    pub end: u64,
    /// Records and bytes before the end.
    pub totals: Totals,
    /// Running digest at the end.
    pub digest: u64,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// What is stored is not what was written.
    Damaged,
    /// The last write is not whole: a power cut or a full disk has cut it short before it was
    /// acknowledged, or it is damaged. Nothing on the disk can tell.
    Doubtful,
    /// The disk did not give it.
    Unread,
    /// Nothing that is needed is concerned.
    Remark,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// The file's name in the directory.
    pub file: String,
    /// The topic's name; empty if it concerns none or all.
    pub topic: String,
    /// The offsets that cannot be read, the second one exclusive.
    pub records: Option<(u64, u64)>,
    /// What is wrong.
    pub what: String,
}

/// What is told while it goes on.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// So many bytes will be read.
    Total(u64),
    /// So many bytes are read.
    Read(u64),
    /// Something was found.
    Found(&'a Finding),
}

/// What was read in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Segment files.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Logs that the state names, those of delayed records included.
    pub logs: u64,
    /// Intact batches in all files; some are in two of them.
    pub batches: u64,
    /// Records that are kept and intact.
    pub records: u64,
    /// Findings of each grade, in the order of [`Grade`].
    pub findings: [u64; 4],
}

/// Whether a directory holds segments, or a note that there were some.
///
/// # Errors
/// It cannot be listed.
pub fn holds_store(disk: &dyn Disk) -> io::Result<bool> {
    let is_ours = |name: &String| {
        matches!(layout::file_kind(name), FileKind::Segment(_)) || name == newest::NAME
    };
    Ok(disk.list()?.iter().any(is_ours))
}

/// Reads all of a directory; `interpret` knows what topics' rows say.
///
/// # Errors
/// The directory cannot be listed, or is of a newer format.
pub fn verify(
    disk: &dyn Disk,
    options: &Options,
    interpret: impl FnOnce(&Rows) -> Vec<Result<Log, String>>,
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<Verified, OpenError> {
    let listed = |source| OpenError::disk("listing it", source);
    let names = disk.list().map_err(listed)?;
    let mut segments: Vec<u64> = names
        .iter()
        .filter_map(|name| match layout::file_kind(name) {
            FileKind::Segment(number) => Some(number),
            _ => None,
        })
        .collect();
    segments.sort_unstable();
    let mut run = Run {
        disk,
        options,
        tell,
        verified: Verified::default(),
        names: BTreeMap::new(),
    };
    let len = |number: &u64| length(disk, *number).unwrap_or_default();
    (run.tell)(Told::Total(segments.iter().map(len).sum()));
    let active = segments
        .iter()
        .copied()
        .filter(|it| *it < layout::FIRST_MERGED)
        .max();
    let mut store = run.find(active, interpret)?;
    for number in segments {
        run.segment(number, &mut store);
    }
    run.missing(&store);
    Ok(run.verified)
}

fn length(disk: &dyn Disk, number: u64) -> io::Result<u64> {
    disk.open(&layout::segment_name(number))?.len()
}

/// One look at a directory.
struct Run<'a> {
    disk: &'a dyn Disk,
    options: &'a Options,
    tell: &'a mut dyn FnMut(Told<'_>),
    verified: Verified,
    names: BTreeMap<TopicId, String>,
}

impl Run<'_> {
    fn say(&mut self, finding: &Finding) {
        self.verified.findings[finding.grade as usize] += 1;
        (self.tell)(Told::Found(finding));
    }

    fn say_of_file(&mut self, grade: Grade, file: impl Into<String>, what: impl Into<String>) {
        self.say(&Finding {
            grade,
            file: file.into(),
            topic: String::new(),
            records: None,
            what: what.into(),
        });
    }

    /// Says that a segment cannot be used, and what is needed of it.
    fn unusable(&mut self, number: u64, error: &SegmentError, store: &Store) {
        let grade = match error {
            SegmentError::Io(_) => Grade::Unread,
            _ => Grade::Damaged,
        };
        let file = layout::segment_name(number);
        let needed = store.needed(number);
        if needed.is_empty() {
            self.say_of_file(grade, file.as_str(), error.to_string());
        }
        for (topic, _, from, to) in needed {
            self.say(&Finding {
                grade,
                file: file.clone(),
                topic: self.name(topic),
                records: Some((from, to)),
                what: error.to_string(),
            });
        }
    }

    fn name(&self, topic: TopicId) -> String {
        let known = self.names.get(&topic).cloned();
        known.unwrap_or_else(|| format!("with id {topic}"))
    }

    /// Reads a segment.
    fn segment(&mut self, number: u64, store: &mut Store) {
        let file = layout::segment_name(number);
        let bytes = length(self.disk, number).unwrap_or_default();
        self.verified.segments += 1;
        store.read.push(number);
        let newest = store.newest.clone().filter(|it| it.number == number);
        let is_damaged = newest.is_some() && store.is_damaged;
        let newest = newest.filter(|_| !is_damaged);
        // It holds the state, whether or not any of its records are needed.
        let is_needed = is_damaged
            || store
                .extents
                .values()
                .flatten()
                .any(|it| it.segment == number);
        if let Some(segment) = newest {
            self.content(&segment, store);
        } else if is_needed || store.newest.is_none() {
            self.sealed(number, store);
        } else {
            let what = "nothing refers to it: the next start removes it";
            self.say_of_file(Grade::Remark, file, what);
        }
        self.verified.bytes += bytes;
        (self.tell)(Told::Read(self.verified.bytes));
    }

    /// Reads a sealed segment, as a reader opens it, and all pages of it.
    fn sealed(&mut self, number: u64, store: &Store) {
        let cache = self.options.sealed_cache_bytes;
        let born = store.catalogue.get(&number).map_or(0, |it| it.birth);
        let opened = Segment::open_sealed(self.disk, number, cache)
            .and_then(|segment| segment.vouch(born).map(|()| segment));
        let segment = match opened {
            Ok(segment) => segment,
            Err(error) => return self.unusable(number, &error, store),
        };
        let intact = self.content(&segment, store);
        let all = Segment::open_checked(self.disk, number, cache, Trust::LastAlone);
        let file = layout::segment_name(number);
        match all {
            Err(SegmentError::Io(error)) => {
                self.say_of_file(Grade::Unread, file, error.to_string());
            }
            // What was needed of it was carried into its successor, and is there.
            Err(error) if intact && !segment.is_clean() => {
                let what = format!(
                    "the last commit is not whole, as a power cut leaves it; all that is needed is \
                     there ({error})"
                );
                self.say_of_file(Grade::Remark, file, what);
            }
            Err(error) if intact => {
                let what = format!("pages that hold no record are damaged: {error}");
                self.say_of_file(Grade::Damaged, file, what);
            }
            // What is wrong has been named.
            Ok(_) | Err(_) => {}
        }
    }

    /// Reads all chunks of a segment, and says what is wrong; whether nothing is.
    fn content(&mut self, segment: &Segment, store: &Store) -> bool {
        let mut seen = Seen::default();
        let expected = store.expected(segment.number);
        let walked = walk(segment, &expected, &mut seen);
        self.verified.batches += seen.batches;
        let before = self.verified.findings;
        let file = layout::segment_name(segment.number);
        let mut faults = std::mem::take(&mut seen.faults);
        for (topic, _, from, to) in store.needed(segment.number) {
            let none = Vec::new();
            let intact = seen.intact.get(&topic).unwrap_or(&none);
            self.verified.records += to - from;
            for (from, to) in without(intact, from, to) {
                self.verified.records -= to - from;
                let is_here = |fault: &walk::Fault| {
                    fault.topic == topic && fault.from < to && fault.to.unwrap_or(to) > from
                };
                let what = match faults.iter().position(is_here) {
                    Some(at) => faults.remove(at).what,
                    None => "no chunk with these records is there".to_owned(),
                };
                self.say(&Finding {
                    grade: Grade::Damaged,
                    file: file.clone(),
                    topic: self.name(topic),
                    records: Some((from, to)),
                    what,
                });
            }
        }
        // Records that are not needed any more, and what says something about records.
        for fault in faults {
            self.say(&Finding {
                grade: Grade::Damaged,
                file: file.clone(),
                topic: self.name(fault.topic),
                records: fault.to.map(|to| (fault.from, to)),
                what: fault.what,
            });
        }
        for topic in expected.ends.keys() {
            let said = store.logs.get(topic).map(|log| (log.totals, log.digest));
            if said != seen.ends.get(topic).copied() && self.verified.findings == before {
                self.say(&Finding {
                    grade: Grade::Damaged,
                    file: file.clone(),
                    topic: self.name(*topic),
                    records: None,
                    what: "the sums or the digest at its end are not those of its state".into(),
                });
            }
        }
        if let Err(error) = walked {
            let grade = match &error {
                SegmentError::Io(_) => Grade::Unread,
                _ => Grade::Damaged,
            };
            self.say_of_file(grade, file, format!("it cannot be read further: {error}"));
        }
        self.verified.findings == before
    }

    /// Says what is needed and nowhere.
    fn missing(&mut self, store: &Store) {
        let named = store
            .extents
            .values()
            .flatten()
            .map(|extent| extent.segment);
        let named: std::collections::BTreeSet<u64> = named.collect();
        for number in named {
            if !store.read.contains(&number) {
                self.unusable(number, &SegmentError::Missing, store);
            }
        }
        for log in store.logs.values().filter(|log| log.start < log.end) {
            let extents = store.extents.get(&log.topic);
            let first = extents.and_then(|extents| extents.first());
            let first = first.map_or(log.end, |extent| extent.first);
            if first > log.start {
                self.say(&Finding {
                    grade: Grade::Damaged,
                    file: String::new(),
                    topic: log.name.clone(),
                    records: Some((log.start, first)),
                    what: "no segment is known to hold these records".into(),
                });
            }
        }
    }
}

/// What of a range is in none of the others, which are in order.
fn without(ranges: &[(u64, u64)], mut from: u64, to: u64) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    for (begin, end) in ranges {
        if *end <= from {
            continue;
        }
        if *begin >= to {
            break;
        }
        if *begin > from {
            left.push((from, *begin));
        }
        from = *end;
    }
    if from < to {
        left.push((from, to));
    }
    left
}

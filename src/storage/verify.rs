//! Looking for damage: everything that a directory holds is read and compared with its checksums.
//!
//! Owns the order in which that is done, and what is said about what is found. It never changes a
//! file, and repairs nothing: redb works on views that are in memory. Nobody else may use the
//! directory meanwhile. Its neighbours: [recovery] finds the newest segment and the journal as a
//! start would, [`walk`] reads a segment's chunks as a reader would.
//!
//! ```text
//!   newest ---> the newest segment, all pages; the journal on top of it --> state: extents, catalogue
//!                                                                             |
//!   each segment: redb's checksum of every page                               v
//!                 every chunk: row head, both CRCs of each batch, sums,    what is needed of it is
//!                 digest, abutting its neighbour                  --intact--> there, or is named
//! ```
//!
//! [recovery]: super::recovery

mod walk;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use logdrive_protocol::TopicId;
use redb::ReadableTable;

use self::walk::{Expected, Seen, walk};
use super::Rows;
use super::disk::Disk;
use super::error::OpenError;
use super::header::{self, Trust};
use super::job::Totals;
use super::journal;
use super::layout::{self, Contents, Extent, FileKind, OwnRow, STATE};
use super::newest;
use super::options::Options;
use super::recovery;
use super::segment::{Segment, SegmentError, guarded};

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
    /// The last write before a crash is not whole: a power cut has torn it before it was
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

/// What the newest segment says.
#[derive(Default)]
struct Store {
    /// As a start would find it; `None` if it would be refused.
    newest: Option<Arc<Segment>>,
    logs: BTreeMap<TopicId, Log>,
    extents: BTreeMap<TopicId, Vec<Extent>>,
    catalogue: BTreeMap<u64, Contents>,
    /// Segments that were there.
    read: Vec<u64>,
}

impl Store {
    /// The parts of logs that are needed of a segment: where each begins, and what of it counts.
    fn needed(&self, segment: u64) -> Vec<(TopicId, Extent, u64, u64)> {
        let mut needed = Vec::new();
        for (topic, extents) in &self.extents {
            // Nothing is known of how far one goes that no topic's state names.
            let Some(log) = self.logs.get(topic) else {
                continue;
            };
            let ends = extents.iter().skip(1).map(|next| next.first);
            for (extent, end) in extents.iter().zip(ends.chain([log.end])) {
                let (from, to) = (extent.first.max(log.start), end.min(log.end));
                if extent.segment == segment && from < to {
                    needed.push((*topic, *extent, from, to));
                }
            }
        }
        needed
    }

    /// What is to be compared while a segment is read.
    fn expected(&self, segment: u64) -> Expected {
        let mut expected = Expected::default();
        for (topic, extent, _, to) in self.needed(segment) {
            expected.extents.insert((topic, extent.first), extent);
            let ends = self.logs.get(&topic).is_some_and(|log| log.end == to);
            if ends {
                expected.ends.insert(topic, to);
            }
        }
        expected
    }
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

    /// Finds the newest segment as a start would, and what it says.
    fn find(
        &mut self,
        active: Option<u64>,
        interpret: impl FnOnce(&Rows) -> Vec<Result<Log, String>>,
    ) -> Result<Store, OpenError> {
        let mut store = Store {
            newest: self.newest(active)?,
            ..Store::default()
        };
        let Some(segment) = store.newest.clone() else {
            return Ok(store);
        };
        let number = segment.number;
        let mut topics = Rows::new();
        let mut damaged = Vec::new();
        let read = guarded(|| {
            let txn = segment.begin_read()?;
            for row in txn.open_table(STATE)?.iter()? {
                let (key, stored) = row?;
                let (key, stored) = (key.value(), stored.value());
                let value = match layout::unseal(key, stored) {
                    Ok(value) => value,
                    Err(damage) => {
                        damaged.push(damage.0);
                        continue;
                    }
                };
                let topic = layout::parse_state_key(key).map_or(TopicId(0), |(topic, _)| topic);
                match layout::own_row(key) {
                    Some(OwnRow::Extent) => {
                        let extents = store.extents.entry(topic).or_default();
                        extents.push(Extent::decode(key, stored)?);
                    }
                    Some(OwnRow::Catalogue { segment }) => {
                        store.catalogue.insert(segment, Contents::decode(value));
                    }
                    Some(OwnRow::Flush | OwnRow::Other) => {}
                    None => {
                        let rows = topics.entry(topic).or_default();
                        rows.push((key.to_vec(), value.to_vec()));
                    }
                }
            }
            Ok(())
        });
        let file = layout::segment_name(number);
        if let Err(error) = read {
            self.unusable(number, &error, &store);
        }
        for what in damaged {
            self.say_of_file(Grade::Damaged, file.as_str(), what);
        }
        for log in interpret(&topics) {
            match log {
                Ok(log) => {
                    self.verified.logs += 1;
                    self.names.insert(log.topic, log.name.clone());
                    store.logs.insert(log.topic, log);
                }
                Err(what) => self.say_of_file(Grade::Damaged, file.as_str(), what),
            }
        }
        Ok(store)
    }

    /// The newest segment with what the journal has beyond it; `None` if a start would be refused
    /// for the segment's sake.
    fn newest(&mut self, active: Option<u64>) -> Result<Option<Arc<Segment>>, OpenError> {
        let mut floor = 0;
        let error = match recovery::find(self.disk, self.options, &mut floor) {
            Ok(found) => {
                if let Some(number) = active {
                    self.last_writes(number);
                } else if self.disk.open(newest::NAME).is_ok() {
                    let what = "there was a segment, and there is none now";
                    self.say_of_file(Grade::Damaged, newest::NAME, what);
                }
                return Ok(found.map(|found| found.segment));
            }
            Err(error @ OpenError::NewerFormat { .. }) => return Err(error),
            Err(error) => error,
        };
        let file = match &error {
            OpenError::Unreadable { file, .. } | OpenError::Missing { file, .. } => file,
            OpenError::Journal { .. } => journal::NAME,
            _ => "",
        };
        let grade = match &error {
            OpenError::Disk { .. } => Grade::Unread,
            _ => Grade::Damaged,
        };
        self.say_of_file(grade, file, format!("no start is possible: {error}"));
        let (OpenError::Journal { .. }, Some(number)) = (&error, active) else {
            return Ok(None);
        };
        // What was saved is known all the same.
        let cache = self.options.active_cache_bytes;
        let opened = Segment::open_checked(self.disk, number, cache, Trust::LastWhole);
        Ok(opened.ok().map(|(segment, _)| Arc::new(segment)))
    }

    /// Looks at what a start takes as it is: the last commit, the journal's last entry, the note of
    /// which segment is the newest.
    fn last_writes(&mut self, number: u64) {
        let file = layout::segment_name(number);
        let cache = self.options.active_cache_bytes;
        let clean = header::is_clean(self.disk, &file).unwrap_or_default();
        let alone = Segment::open_checked(self.disk, number, cache, Trust::LastAlone);
        match alone {
            Ok((segment, identity)) => {
                let empty = (self.disk.open(journal::NAME)).and_then(|file| file.is_empty());
                if identity.journaled && !clean && empty.is_ok_and(|empty| empty) {
                    let what = "it is empty, as it is made to go on without: a start loses \
                                whatever was acknowledged in the last moments";
                    self.say_of_file(Grade::Doubtful, journal::NAME, what);
                } else if identity.journaled
                    && let Ok(begun) = recovery::last_flush(&segment)
                    && let Ok(Some(at)) =
                        journal::unfinished(self.disk, journal::Of::new(&segment), begun.number)
                {
                    let what = format!(
                        "the last entry, at byte {at}, is not whole: it was never acknowledged if \
                         a power cut has torn it, and a start goes on without it"
                    );
                    self.say_of_file(Grade::Doubtful, journal::NAME, what);
                }
                let noted = newest::marked(self.disk);
                let said = noted.map(|note| (note.number, note.birth));
                // Noted behind the switch: a crash may come between.
                let right = said.is_some_and(|(noted, birth)| {
                    (noted == number && (birth == 0 || birth == segment.birth))
                        || (noted < number && !clean)
                });
                let there = self.disk.open(newest::NAME).is_ok();
                if there && !right {
                    let what = format!("it does not name segment {number}, which is the newest");
                    self.say_of_file(Grade::Damaged, newest::NAME, what);
                }
            }
            // A start found something else to go on with.
            Err(error) => {
                let what = format!(
                    "the last commit is not whole: it was never acknowledged if a power cut has \
                     torn it, and a start goes on with the one before ({error})"
                );
                self.say_of_file(Grade::Doubtful, file, what);
            }
        }
    }

    /// Reads a segment.
    fn segment(&mut self, number: u64, store: &mut Store) {
        let file = layout::segment_name(number);
        let bytes = length(self.disk, number).unwrap_or_default();
        self.verified.segments += 1;
        store.read.push(number);
        let newest = store.newest.clone().filter(|it| it.number == number);
        let is_named = store
            .extents
            .values()
            .flatten()
            .any(|it| it.segment == number);
        if let Some(segment) = newest {
            self.content(&segment, store);
        } else if is_named || store.newest.is_none() {
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

//! What a start would find, and what the state that it finds says of all files.
//!
//! Owns the look at the newest segment, the journal and the note; never at what sealed ones hold. Its
//! neighbours: [recovery] does the same for a start, [`verify`](super) goes on with the [`Store`].
//!
//! [recovery]: crate::storage::recovery

use std::collections::BTreeMap;
use std::sync::Arc;

use logdrive_protocol::TopicId;
use redb::ReadableTable;

use super::walk::Expected;
use super::{Grade, Log, Run};
use crate::storage::error::OpenError;
use crate::storage::header::{self, Trust};
use crate::storage::layout::{self, Contents, Extent, OwnRow, STATE};
use crate::storage::segment::{Segment, guarded};
use crate::storage::{Rows, journal, newest, recovery};

/// What the newest segment says.
#[derive(Default)]
pub(super) struct Store {
    /// As a start would find it; `None` if it would be refused.
    pub(super) newest: Option<Arc<Segment>>,
    /// Whether its records are damaged.
    pub(super) is_damaged: bool,
    pub(super) logs: BTreeMap<TopicId, Log>,
    pub(super) extents: BTreeMap<TopicId, Vec<Extent>>,
    pub(super) catalogue: BTreeMap<u64, Contents>,
    /// Segments that were there.
    pub(super) read: Vec<u64>,
}

impl Store {
    /// The parts of logs that are needed of a segment: where each begins, and what of it counts.
    pub(super) fn needed(&self, segment: u64) -> Vec<(TopicId, Extent, u64, u64)> {
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
    pub(super) fn expected(&self, segment: u64) -> Expected {
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

impl Run<'_> {
    /// Finds the newest segment as a start would, and what it says.
    pub(super) fn find(
        &mut self,
        active: Option<u64>,
        interpret: impl FnOnce(&Rows) -> Vec<Result<Log, String>>,
    ) -> Result<Store, OpenError> {
        let (newest, is_damaged) = self.newest(active)?.unzip();
        let mut store = Store {
            newest,
            is_damaged: is_damaged.unwrap_or_default(),
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

    /// The newest segment with what the journal has beyond it, and whether its records are damaged;
    /// `None` if a start would be refused for the segment's sake.
    fn newest(&mut self, active: Option<u64>) -> Result<Option<(Arc<Segment>, bool)>, OpenError> {
        let mut floor = 0;
        let error = match recovery::find(self.disk, self.options, &mut floor) {
            Ok(found) => {
                if let Some(number) = active {
                    // It was closed cleanly where there is something to go on with nevertheless.
                    if !found.as_ref().is_some_and(|found| found.is_damaged) {
                        self.last_writes(number);
                    }
                } else if self.disk.open(newest::NAME).is_ok() {
                    let what = "there was a segment, and there is none now";
                    self.say_of_file(Grade::Damaged, newest::NAME, what);
                }
                return Ok(found.map(|found| (found.segment, found.is_damaged)));
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
        Ok(opened.ok().map(|(segment, _)| (Arc::new(segment), false)))
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
                    && let Ok(begun) = segment.last_flush()
                    && let Ok(Some(at)) =
                        journal::unfinished(self.disk, journal::Of::new(&segment), begun.number)
                {
                    let what = format!(
                        "the last entry, at byte {at}, is not whole: it was never acknowledged if \
                         a power cut or a full disk has cut it short, and a start goes on \
                         without it"
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
                    "the last commit is not whole: it was never acknowledged if a power cut or a \
                     full disk has cut it short, and a start goes on with the one before ({error})"
                );
                self.say_of_file(Grade::Doubtful, file, what);
            }
        }
    }
}

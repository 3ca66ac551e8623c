//! What every start and every failed commit do: find the newest segment, and go on in a new one.
//!
//! Owns the way from a directory as it was found to a born segment. It never writes a file that it
//! found: a sync may have failed before, and then the kernel shows pages that no disk holds. Its
//! neighbours: the [writer](super::writer) goes on with what is [born](Born); the
//! [keeper](super::keeper) gets the handle of the found segment and the names of dead files.
//!
//! ```text
//!   directory --list--> highest N.redb --overlay--> state, last durable flush
//!                                                      |
//!                       journal --replay--> what came after it, in the view alone
//!                                                      |
//!        M.new: the same state, and the chunks of the last flush (of a small N: all chunks)
//!                                                      |
//!        sync, rename to M.redb, sync the directory    v
//!        M is active; its extents say from which offset on N is not read any more
//! ```
//!
//! M is above every number that was seen or tried. An N whose records are damaged, and whose state is
//! not, keeps all its chunks: reads name what is wrong with them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use logdrive_protocol::TopicId;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::Rows;
use super::disk::Disk;
use super::error::OpenError;
use super::flush::{Flush, put};
use super::header::{self, Trust};
use super::journal;
use super::keeper::Chore;
use super::layout::{
    self, Contents, Damage, Extent, FileKind, FlushRow, INDEX, LOG, OwnRow, RowHead, STATE,
};
use super::newest;
use super::options::Options;
use super::segment::{Identity, Segment, SegmentError, guarded};
use super::tally::Tally;

/// The newest segment as it was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) segment: Arc<Segment>,
    pub(super) identity: Identity,
    /// Whether its records are damaged, and its state is not.
    pub(super) is_damaged: bool,
}

/// A new segment that holds what was found; it counts once it has its [`name`].
#[derive(Debug)]
pub(super) struct Born {
    pub(super) segment: Segment,
    pub(super) tally: Tally,
    pub(super) identity: Identity,
    /// The state rows of each topic, in key order, without the storage's own.
    pub(super) topics: Rows,
    /// Sealed segments that are still read.
    pub(super) named: BTreeSet<u64>,
}

/// Opens the newest segment for reading; `None` in a directory without segments.
///
/// `floor` becomes the highest number in use, if it is not higher already.
pub(super) fn find(
    disk: &dyn Disk,
    options: &Options,
    floor: &mut u64,
) -> Result<Option<Found>, OpenError> {
    let names = disk
        .list()
        .map_err(|source| OpenError::disk("listing it", source))?;
    let mut newest = None;
    for name in &names {
        match layout::file_kind(name) {
            FileKind::Segment(number) => {
                *floor = (*floor).max(number % layout::FIRST_MERGED);
                // A merged one was never active.
                newest = newest.max(Some(number).filter(|number| *number < layout::FIRST_MERGED));
            }
            FileKind::Unborn(number) => {
                *floor = (*floor).max(number % layout::FIRST_MERGED);
                // Nothing was ever read from it, and a full disk needs its room. One that stays is
                // removed when the new segment has its name.
                let _ = disk.unlink(name);
            }
            FileKind::Other => {}
        }
    }
    let noted = newest::marked(disk);
    if let Some(missing) = noted.filter(|note| Some(note.number) > newest) {
        return Err(OpenError::Missing {
            file: layout::segment_name(missing.number),
            note: newest::NAME,
        });
    }
    let Some(number) = newest else {
        return Ok(None);
    };
    let unreadable = |error| OpenError::unreadable(number, error);
    let cache = options.active_cache_bytes;
    let whole = Segment::open_checked(disk, number, cache, Trust::LastWhole);
    let (opened, is_damaged) = match whole {
        // Which commit of one that was killed counts, only redb's check of all its pages can tell.
        Err(SegmentError::Unreadable(what)) if is_clean(disk, number) => {
            match Segment::open_around_damage(disk, number, cache) {
                // What is wrong with all of it says more.
                Err(SegmentError::Unreadable(_)) => (Err(SegmentError::Unreadable(what)), false),
                around => (around, true),
            }
        }
        whole => (whole, false),
    };
    let (segment, identity) = opened.map_err(unreadable)?;
    if let Some(note) = noted.filter(|note| note.number == number) {
        segment.vouch(note.birth).map_err(unreadable)?;
    }
    if identity.journaled {
        let begun = segment.last_flush().map_err(unreadable)?;
        let of = journal::Of::new(&segment);
        let shape = (identity.journal_bytes, identity.journal_id);
        let entries =
            journal::entries(disk, of, begun.number, shape).map_err(|error| match error {
                journal::Unreadable::Io(source) => OpenError::disk("reading the journal", source),
                // It goes on after a commit that is not there: that one is damaged, not the journal.
                journal::Unreadable::Damaged(0)
                    if !is_damaged && !is_last_whole(disk, options, number) =>
                {
                    let what = "its last commit is damaged: the journal goes on after that";
                    unreadable(SegmentError::Unreadable(what.into()))
                }
                fault => OpenError::Journal {
                    fault: fault.to_string(),
                    file: layout::segment_name(number),
                },
            })?;
        replay(&segment, begun, entries, options.chunk_bytes).map_err(unreadable)?;
    }
    let segment = Arc::new(segment);
    Ok(Some(Found {
        segment,
        identity,
        is_damaged,
    }))
}

fn is_clean(disk: &dyn Disk, number: u64) -> bool {
    header::is_clean(disk, &layout::segment_name(number)).unwrap_or_default()
}

/// Whether the last commit of a segment can be read, and not only the one before it.
fn is_last_whole(disk: &dyn Disk, options: &Options, number: u64) -> bool {
    let cache = options.active_cache_bytes;
    Segment::open_checked(disk, number, cache, Trust::LastAlone).is_ok()
}

/// Stores in the view of a segment what the journal has beyond its last flush.
fn replay(
    segment: &Segment,
    begun: FlushRow,
    entries: Vec<(u64, Flush)>,
    chunk_bytes: usize,
) -> Result<(), SegmentError> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut whole = Flush::default();
    let mut last = begun.number;
    for (number, flush) in entries {
        whole.append(&flush);
        last = number;
    }
    guarded(|| {
        let before = tally_of(segment, &begun)?;
        let txn = segment.begin_write()?;
        let stored = whole.store(&txn, &before, chunk_bytes)?;
        // What the file's last flush appended counts too: its sync may have failed. Where a topic
        // has more in the journal, what comes first includes the rest.
        let mut appended: BTreeMap<_, _> = stored.row.appended.iter().copied().collect();
        appended.extend(begun.appended);
        let row = FlushRow {
            number: last,
            appended: appended.into_iter().collect(),
            ..stored.row
        };
        put(&mut txn.open_table(STATE)?, &FlushRow::key(), &row.encode())?;
        Ok(txn.commit()?)
    })
}

/// What writing needs to know of a segment that was found.
fn tally_of(segment: &Segment, begun: &FlushRow) -> Result<Tally, SegmentError> {
    let txn = segment.begin_read()?;
    let mut present = HashMap::new();
    for row in txn.open_table(STATE)?.iter()? {
        let (key, stored) = row?;
        let (key, stored) = (key.value(), stored.value());
        if layout::own_row(key) == Some(OwnRow::Extent)
            && let Some((topic, _)) = layout::parse_state_key(key)
            && Extent::decode(key, stored)?.segment == segment.number
        {
            // What they hold is counted when the view is carried over.
            present.insert(topic, 0);
        }
    }
    let last = txn
        .open_table(LOG)?
        .last()?
        .map(|(number, _)| number.value());
    Ok(Tally {
        segment: segment.number,
        flushes: begun.number,
        contents: begun.contents,
        present,
        next_log: last.map_or(0, |last| last + 1),
        ..Tally::default()
    })
}

/// Writes what was found into a new, unborn segment above `floor`, and syncs it.
pub(super) fn carry_over(
    disk: &dyn Disk,
    options: &Options,
    found: Option<&Found>,
    journal: Option<(u64, u64)>,
    floor: &mut u64,
    closer: Option<Sender<Chore>>,
) -> Result<Born, OpenError> {
    let identity = Identity {
        journaled: journal.is_some(),
        journal_bytes: journal.unwrap_or_default().0,
        journal_id: journal.unwrap_or_default().1,
        ..found.map_or(Identity::default(), |found| found.identity)
    };
    let picture = match found {
        Some(found) => Picture::read(&found.segment)
            .map_err(|error| OpenError::unreadable(found.segment.number, error))?,
        None => Picture::default(),
    };
    *floor += 1;
    let number = *floor;
    let failed = |error: SegmentError| OpenError::writing(number, error);
    let file = disk.create(&layout::unborn_name(number));
    let segment = file
        .map_err(SegmentError::from)
        .and_then(|file| {
            let identity = identity.of_segment(number, options.salt);
            Segment::create(file, number, identity, options.active_cache_bytes, closer)
        })
        .map_err(failed)?;
    let (named, tally) = guarded(|| {
        let txn = segment.begin_write()?;
        let carried = picture.write(found, &txn, number, options)?;
        txn.commit()?;
        Ok(carried)
    })
    .map_err(failed)?;
    Ok(Born {
        segment,
        tally,
        identity,
        topics: picture.topics,
        named,
    })
}

/// The state rows of each topic in the newest segment, for a store that cannot go on yet.
pub(super) fn rows(segment: &Segment) -> Result<Rows, OpenError> {
    Picture::read(segment)
        .map(|picture| picture.topics)
        .map_err(|error| OpenError::unreadable(segment.number, error))
}

/// Gives a segment its name, durably, and lists the files that nothing refers to any more.
///
/// When it fails the segment may or may not have its name: the directory must be looked at again.
pub(super) fn name(disk: &dyn Disk, born: &Born) -> Result<Vec<String>, OpenError> {
    let number = born.segment.number;
    let name = layout::segment_name(number);
    disk.rename(&layout::unborn_name(number), &name)
        .and_then(|()| disk.sync_dir())
        .map_err(|source| OpenError::disk(&format!("giving {name} its name"), source))?;
    let names = disk
        .list()
        .map_err(|source| OpenError::disk("listing it", source))?;
    let is_dead = |name: &String| match layout::file_kind(name) {
        FileKind::Segment(other) => other != number && !born.named.contains(&other),
        FileKind::Unborn(_) => true,
        FileKind::Other => false,
    };
    Ok(names.into_iter().filter(is_dead).collect())
}

/// All state of a segment, sorted out.
#[derive(Debug, Default)]
struct Picture {
    topics: Rows,
    extents: Vec<(TopicId, Extent)>,
    catalogue: Vec<(u64, Contents)>,
    /// Own rows of kinds that this version does not know.
    others: Vec<(Vec<u8>, Vec<u8>)>,
    flush: FlushRow,
}

impl Picture {
    fn read(segment: &Segment) -> Result<Self, SegmentError> {
        guarded(|| {
            let mut picture = Self::default();
            let txn = segment.begin_read()?;
            for row in txn.open_table(STATE)?.iter()? {
                let (key, stored) = row?;
                picture.take(key.value(), stored.value())?;
            }
            Ok(picture)
        })
    }

    fn take(&mut self, key: &[u8], stored: &[u8]) -> Result<(), SegmentError> {
        let topic = layout::parse_state_key(key).map(|(topic, _)| topic);
        let value = layout::unseal(key, stored)?;
        match (layout::own_row(key), topic) {
            (Some(OwnRow::Extent), Some(topic)) => {
                self.extents.push((topic, Extent::decode(key, stored)?));
            }
            (Some(OwnRow::Catalogue { segment }), _) => {
                self.catalogue.push((segment, Contents::decode(value)));
            }
            (Some(OwnRow::Flush), _) => self.flush = FlushRow::decode(stored)?,
            (Some(OwnRow::Other), _) => self.others.push((key.to_vec(), value.to_vec())),
            (_, topic) => {
                let rows = self.topics.entry(topic.unwrap_or_default()).or_default();
                rows.push((key.to_vec(), value.to_vec()));
            }
        }
        Ok(())
    }

    /// Writes all of it as the first transaction of segment `number`.
    fn write(
        &self,
        found: Option<&Found>,
        txn: &WriteTransaction,
        number: u64,
        options: &Options,
    ) -> Result<(BTreeSet<u64>, Tally), SegmentError> {
        let mut carrier = Carrier {
            number,
            whole: self.flush.contents.payload <= options.carry_bytes,
            row: FlushRow {
                number: self.flush.number + 1,
                ..FlushRow::default()
            },
            extents: BTreeMap::new(),
            present: HashMap::new(),
            next_log: 0,
        };
        for (topic, extent) in &self.extents {
            carrier.extents.insert((*topic, extent.first), *extent);
        }
        if let Some(found) = found {
            let from = found.segment.begin_read()?;
            if found.is_damaged {
                self.leave_chunks(&mut carrier, found.segment.number, &from);
            } else {
                self.carry_chunks(&mut carrier, found.segment.number, &from, txn)?;
            }
        }
        let mut state = txn.open_table(STATE)?;
        for rows in self.topics.values() {
            for (key, value) in rows {
                put(&mut state, key, value)?;
            }
        }
        for (key, value) in &self.others {
            put(&mut state, key, value)?;
        }
        let FlushRow {
            number: flushes,
            contents,
            ..
        } = carrier.row;
        let mut tally = Tally {
            segment: number,
            flushes,
            contents,
            present: std::mem::take(&mut carrier.present),
            next_log: carrier.next_log,
            ..Tally::default()
        };
        for ((topic, first), extent) in &carrier.extents {
            put(&mut state, &Extent::key(*topic, *first), &extent.encode())?;
            if extent.segment != number {
                tally.name(extent);
            }
        }
        let sealed = found.map(|found| {
            let contents = Contents {
                birth: found.segment.birth,
                ..self.flush.contents
            };
            (found.segment.number, contents)
        });
        for (segment, contents) in self.catalogue.iter().copied().chain(sealed) {
            if let Some(share) = tally.sealed.get_mut(&segment) {
                share.contents = contents;
                put(&mut state, &Contents::key(segment), &contents.encode())?;
            }
        }
        put(&mut state, &FlushRow::key(), &carrier.row.encode())?;
        Ok((tally.sealed.keys().copied().collect(), tally))
    }

    fn extents_of(&self, segment: u64) -> impl Iterator<Item = &(TopicId, Extent)> {
        let extents = self.extents.iter();
        extents.filter(move |(_, extent)| extent.segment == segment)
    }

    /// Leaves all chunks where they are: a damaged segment is read as it is, and none of its damage
    /// gets another's blessing.
    ///
    /// What cannot be summed up stays without a sum: such a segment is not merged.
    fn leave_chunks(&self, carrier: &mut Carrier, found: u64, from: &ReadTransaction) {
        for (topic, extent) in self.extents_of(found) {
            let _ = guarded(|| {
                let index = from.open_table(INDEX)?;
                carrier.measure(*topic, extent, u64::MAX, &index)
            });
        }
    }

    /// Copies chunks of the found segment: all that are alive, or those of its last flush.
    fn carry_chunks(
        &self,
        carrier: &mut Carrier,
        found: u64,
        from: &ReadTransaction,
        txn: &WriteTransaction,
    ) -> Result<(), SegmentError> {
        let last_flush: BTreeMap<TopicId, u64> = self.flush.appended.iter().copied().collect();
        let (index, log) = (from.open_table(INDEX)?, from.open_table(LOG)?);
        let (mut to_index, mut to_log) = (txn.open_table(INDEX)?, txn.open_table(LOG)?);
        for (topic, extent) in self.extents_of(found) {
            let first = match last_flush.get(topic) {
                _ if carrier.whole => extent.first,
                Some(first) => (*first).max(extent.first),
                None => u64::MAX,
            };
            if first > extent.first {
                carrier.measure(*topic, extent, first, &index)?;
            }
            let range = layout::index_range(*topic, first);
            let mut begun = false;
            for row in index.range::<&layout::IndexKey>(range.start()..=range.end())? {
                let (key, value) = row?;
                let (key, value) = (key.value(), value.value());
                let head = RowHead::decode(key, value);
                carrier.count(*topic, key, &head, &mut begun, extent)?;
                let Ok(head) = head else {
                    // Its batches cannot be found, and reads shall go on naming it.
                    to_index.insert(key, value)?;
                    continue;
                };
                let moved = RowHead {
                    log: carrier.next_log,
                    ..head
                };
                to_index.insert(key, &moved.encode(key))?;
                for (old, new) in head.log_numbers().zip(moved.log_numbers()) {
                    // What is missing stays missing: reads name it.
                    if let Some(batches) = log.get(old)? {
                        to_log.insert(new, batches.value())?;
                    }
                }
                carrier.next_log = moved.log_numbers().end;
            }
        }
        Ok(())
    }
}

/// Sums up what was copied.
struct Carrier {
    number: u64,
    whole: bool,
    row: FlushRow,
    extents: BTreeMap<(TopicId, u64), Extent>,
    /// Bytes of the batches of each topic that were copied.
    present: HashMap<TopicId, u64>,
    next_log: u64,
}

impl Carrier {
    /// Sums up what the found segment has of an extent before `bound`, since it is sealed now.
    fn measure(
        &mut self,
        topic: TopicId,
        extent: &Extent,
        bound: u64,
        index: &impl ReadableTable<&'static layout::IndexKey, &'static layout::IndexValue>,
    ) -> Result<(), SegmentError> {
        let (low, high) = (
            layout::index_key(topic, extent.first),
            layout::index_key(topic, bound),
        );
        let mut payload = 0;
        for row in index.range::<&layout::IndexKey>(&low..&high)? {
            let (key, value) = row?;
            let head = RowHead::decode(key.value(), value.value());
            payload += head.map_or(0, |head| u64::from(head.payload));
        }
        if let Some(extent) = self.extents.get_mut(&(topic, extent.first)) {
            extent.payload = Some(payload);
        }
        Ok(())
    }

    /// Counts a chunk in, and lets the topic's extent in the new segment begin with the first one.
    fn count(
        &mut self,
        topic: TopicId,
        key: &layout::IndexKey,
        head: &Result<RowHead, Damage>,
        begun: &mut bool,
        old: &Extent,
    ) -> Result<(), SegmentError> {
        let first = layout::first_offset(key);
        if !*begun {
            // A damaged head at an extent's own beginning is carried as it is: reads name it.
            let (first_time, before) = match head {
                Ok(head) => (head.first_time, head.before),
                Err(_) if first == old.first => (old.first_time, old.before),
                Err(damage) => return Err(SegmentError::Unreadable(damage.0.clone())),
            };
            *begun = true;
            self.row.appended.push((topic, first));
            let extent = Extent {
                first,
                segment: self.number,
                first_time,
                before,
                payload: None,
            };
            self.extents.insert((topic, first), extent);
        }
        let bytes = self.present.entry(topic).or_default();
        if let Ok(head) = head {
            *bytes += u64::from(head.payload);
            let payload = head.payload as usize;
            (self.row.contents).add(payload, head.first_time, head.last_time);
        }
        Ok(())
    }
}

//! Which records a request takes, of those that were read for it.
//!
//! Pure: it looks, and [`Consumer`](super::Consumer) does what it says.
//!
//! ```text
//!   offsets   ready: given back, set aside  |  found: never given
//!             5  9  12                     next 40 41 42 43 ...
//!   taken     5  9  12                          40    42         as many as the request may have
//!   aside                                          41            its key is busy
//! ```

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use logdrive_protocol::batch::{self, Head, RecordView};
use tokio::time::Instant;

use super::super::filter::Filter;
use super::config::ConsumerConfig;
use super::keys;
use super::outstanding::Outstanding;
use super::parcel::Entry;
use crate::limits::{LOOK_AHEAD_BYTES, LOOK_AHEAD_RECORDS};
use crate::storage::Totals;

/// Wanted records that are seen at least where some may have to wait for their keys.
const MORE_FOR_KEYS: u32 = 256;

/// A record that was read and never given to anybody, or several that follow each other and are
/// not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The record; of several, the last one with the bytes of all.
    pub entry: Entry,
    /// How many.
    pub records: u32,
    /// Whether the consumer wants it at all.
    pub wanted: bool,
}

/// How a consumer looks at records.
#[derive(Clone, Debug, Default)]
pub struct Looks {
    /// The numbers of their keys are needed.
    pub keyed: bool,
    /// Others are not wanted.
    pub filter: Option<Arc<Filter>>,
}

impl Looks {
    /// The records of `batches` with these offsets, until there are enough of them.
    pub fn look(&self, batches: &[Bytes], offsets: Range<u64>, enough: Enough) -> Vec<Found> {
        let Range { start: from, end } = offsets;
        let mut found = Vec::new();
        let began = Instant::now();
        // What is wanted, and the batches that it comes in.
        let (mut wanted, mut bytes, mut ranges) = (0, 0_usize, 0_usize);
        for batch in batches {
            if !found.is_empty() && began.elapsed() >= enough.time {
                break;
            }
            let Some(head) = Head::parse(batch).filter(|head| head.end_offset() > from) else {
                continue;
            };
            let rules_out = |filter: &Arc<Filter>| !filter.may_match(&head);
            let is_whole = head.base_offset >= from && head.end_offset() <= end;
            if is_whole && self.filter.as_ref().is_some_and(rules_out) {
                pass(
                    &mut found,
                    Found {
                        entry: Entry {
                            offset: head.end_offset() - 1,
                            bytes: head.content_bytes,
                            ..Entry::default()
                        },
                        records: head.count,
                        wanted: false,
                    },
                );
                continue;
            }
            // It was checked when it was taken, and again when it was read.
            let Ok(opened) = batch::open(batch) else {
                continue;
            };
            let seen = opened.records().flatten();
            let seen = seen.map(|record| self.see(&head, &record));
            let mut is_counted = false;
            for it in seen.filter(|it| (from..end).contains(&it.entry.offset)) {
                if !it.wanted {
                    pass(&mut found, it);
                    continue;
                }
                if !is_counted {
                    is_counted = true;
                    bytes = bytes.saturating_add(head.counted_len());
                    if wanted > 0 && bytes > enough.bytes {
                        return found;
                    }
                }
                let last = found.last().filter(|last| last.wanted);
                if last.is_none_or(|last| last.entry.offset + 1 < it.entry.offset) {
                    ranges += 1;
                    if ranges > enough.ranges {
                        return found;
                    }
                }
                found.push(it);
                wanted += 1;
                if wanted == self.most(enough) {
                    return found;
                }
            }
        }
        found
    }

    /// How many wanted records are enough. With keys some may not be had yet, so more are seen.
    fn most(&self, enough: Enough) -> u32 {
        match enough.records {
            0 => u32::MAX,
            most if self.keyed => most.max(MORE_FOR_KEYS),
            most => most,
        }
    }

    fn see(&self, head: &Head, record: &RecordView<'_>) -> Found {
        let timestamp = head.lowest_timestamp.saturating_add(record.timestamp_delta);
        let key = record.key.filter(|_| self.keyed);
        Found {
            entry: Entry {
                offset: head.base_offset + record.offset_delta,
                bytes: u32::try_from(record.content_len()).unwrap_or(u32::MAX),
                key: keys::number_of(key),
                deliveries: 0,
            },
            records: 1,
            wanted: match &self.filter {
                Some(filter) => filter.matches(record, timestamp),
                None => true,
            },
        }
    }
}

/// Adds a record that is not wanted; those that follow each other are one.
fn pass(found: &mut Vec<Found>, it: Found) {
    if let Some(last) = found.last_mut().filter(|last| !last.wanted)
        && let Some(bytes) = last.entry.bytes.checked_add(it.entry.bytes)
        && let Some(records) = last.records.checked_add(it.records)
    {
        last.entry = Entry { bytes, ..it.entry };
        last.records = records;
    } else {
        found.push(it);
    }
}

/// When a look has seen enough.
#[derive(Clone, Copy, Debug)]
pub struct Enough {
    /// So many records that are wanted; 0 for no limit.
    pub records: u32,
    /// So many bytes of batches that have one, but always one batch.
    pub bytes: usize,
    /// So many ranges of them, each of records that follow each other.
    pub ranges: usize,
    /// After so long, but always one batch.
    pub time: Duration,
}

impl Enough {
    /// All of it is seen.
    pub const NEVER: Self = Self {
        records: 0,
        bytes: usize::MAX,
        ranges: usize::MAX,
        time: Duration::MAX,
    };
}

/// What a request may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// So many records; 0 for no limit.
    pub max_records: u32,
    /// Whether the records are leased. Those that are taken for good follow each other, so that
    /// their first and last offset say which they are when they are asked for again.
    pub leased: bool,
    /// Time in microseconds.
    pub now: u64,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pick {
    /// Records to give that wait in parcels, with their parcels; ascending.
    pub again: Vec<(Entry, u64)>,
    /// Records to give for the first time; ascending, behind all others.
    pub new: Vec<Entry>,
    /// Records to set aside.
    pub aside: Vec<Entry>,
    /// Records and bytes that were never given before and are passed with this.
    pub passed: Totals,
    /// Behind the last of those.
    pub next: u64,
}

/// Chooses among the records within `window`, which were read; those from `next` on are `found`.
pub fn pick(
    outstanding: &Outstanding,
    config: &ConsumerConfig,
    next: u64,
    window: &Range<u64>,
    found: &[Found],
    bounds: Bounds,
) -> Pick {
    let most = match bounds.max_records {
        0 => usize::MAX,
        most => most as usize,
    };
    let mut pick = Pick {
        next,
        ..Pick::default()
    };
    let room = config.max_leased.saturating_sub(outstanding.delivered());
    let mut first_given = 0;
    // Keys of which a record was passed: no later one may come before it.
    let mut held_back = HashSet::new();
    let ready = outstanding.ready(&(window.start..window.end.min(next)), bounds.now);
    for (entry, parcel) in ready {
        let follows = |(last, _): &(Entry, u64)| last.offset + 1 == entry.offset;
        let breaks = !bounds.leased && !pick.again.last().is_none_or(follows);
        if pick.again.len() >= most || breaks {
            break;
        }
        // What was set aside was never given: it needs room as new records do.
        if held_back.contains(&entry.key) {
            continue;
        }
        if outstanding.is_aside(parcel) && bounds.leased {
            if first_given >= room {
                held_back.insert(entry.key);
                continue;
            }
            first_given += 1;
        }
        pick.again.push((entry, parcel));
    }
    if !bounds.leased && !pick.again.is_empty() {
        return pick;
    }
    let mut aside = outstanding.aside();
    let room = room.saturating_sub(first_given);
    for Found {
        entry,
        records,
        wanted,
    } in found
    {
        let full = bounds.leased && pick.new.len() as u64 >= room;
        if pick.again.len() + pick.new.len() >= most || full {
            break;
        }
        if *wanted && config.key_order && !outstanding.is_free(entry.key) {
            if (!bounds.leased && !pick.new.is_empty()) || !has_room(aside) {
                break;
            }
            aside.records += 1;
            aside.bytes += u64::from(entry.bytes);
            pick.aside.push(*entry);
        } else if *wanted {
            pick.new.push(*entry);
        }
        pick.passed.records += u64::from(*records);
        pick.passed.bytes += u64::from(entry.bytes);
        pick.next = entry.offset + 1;
    }
    pick
}

/// Whether more may be set aside.
pub fn has_room(aside: Totals) -> bool {
    aside.records < LOOK_AHEAD_RECORDS && aside.bytes < LOOK_AHEAD_BYTES
}

//! Merging: what still lives in sealed segments that are mostly dead goes into one new segment.
//!
//! Owns the copying, in steps that the [keeper](super::keeper) takes between its other chores, and
//! the swap. What lives is what the extents of the active segment name, not what the files hold. It
//! never writes a segment that has a name. Its neighbours: the [writer](super::writer) chooses the
//! sources and takes the result into a flush.
//!
//! ```text
//!   3.redb [a  x x b x]     5.redb [x c x x]          x: nothing names it any more
//!              '---- chunks, step by step, synced ----'
//!                              v
//!   M.new [a b c] --closed, renamed, directory synced--> M.redb, named by nothing yet
//!                              |
//!                  a flush: each extent that still names 3 or 5 names M
//!                              v
//!   3.redb and 5.redb are named by nothing, and go
//! ```
//!
//! A crash before the flush leaves a file that nothing names, which the start removes; after it,
//! two. What is trimmed meanwhile is copied for nothing. A failed commit ends the generation and
//! with it the merge: the file may have been removed.
//!
//! Merged segments have numbers of their own, from [`layout::FIRST_MERGED`] on: the highest number
//! below is the active segment's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use logdrive_protocol::TopicId;
use redb::{ReadableTable, WriteTransaction};

use super::disk::Disk;
use super::flush::{StateTable, put};
use super::layout::{self, Contents, Extent, INDEX, IndexKey, LOG, OwnRow, RowHead, STATE};
use super::segment::{Identity, Segment, SegmentError, guarded};
use super::tally::{Stored, Tally};

/// Extents that one merge takes over at most: they are swapped in one transaction.
const MAX_EXTENTS: u64 = 16 * 1024;

/// Sources of one merge at most: each is an open file.
const MAX_SOURCES: usize = 32;

/// What the keeper is asked to merge.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) number: u64,
    pub(super) generation: u64,
    pub(super) identity: Identity,
    pub(super) sources: Vec<u64>,
    /// What lives of them, in bytes of batches.
    pub(super) live: u64,
    /// Whose extents say what lives.
    pub(super) active: Arc<Segment>,
    pub(super) reply: Sender<Outcome>,
}

/// What became of a merge; an error names the sources that cannot be read.
pub(super) type Outcome = Result<Merged, Vec<u64>>;

/// A merged segment that has its name.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) number: u64,
    pub(super) generation: u64,
    contents: Contents,
    moved: Vec<Piece>,
}

/// An extent, and how far it goes.
#[derive(Clone, Copy, Debug)]
struct Piece {
    topic: TopicId,
    extent: Extent,
    end: u64,
    /// Bytes that were copied.
    payload: u64,
}

/// The sealed segments that are worth a merge now, and the bytes that live of them; none where
/// there are none.
///
/// Each is more than half dead, together they give back at least `gain` bytes, and what lives of
/// them fits into one segment of `segment_bytes`.
pub(super) fn worthwhile(
    tally: &Tally,
    unreadable: &[u64],
    gain: u64,
    segment_bytes: u64,
) -> (Vec<u64>, u64) {
    let (mut sources, mut dead, mut live, mut extents) = (Vec::new(), 0, 0, 0);
    for (number, share) in &tally.sealed {
        let mostly_dead = share.dead() > share.contents.payload / 2;
        let fits = live + share.live <= segment_bytes && extents + share.extents <= MAX_EXTENTS;
        let first = sources.is_empty();
        if mostly_dead && (fits || first) && !unreadable.contains(number) {
            sources.push(*number);
            dead += share.dead();
            live += share.live;
            extents += share.extents;
        }
        if sources.len() == MAX_SOURCES {
            break;
        }
    }
    if dead < gain {
        sources.clear();
    }
    (sources, live)
}

/// A merge that is under way.
#[derive(Debug)]
pub(super) struct Merge {
    number: u64,
    generation: u64,
    reply: Sender<Outcome>,
    target: Segment,
    sources: BTreeMap<u64, Arc<Segment>>,
    pieces: Vec<Piece>,
    /// The piece that is being copied, and from which offset on.
    at: usize,
    next: u64,
    next_log: u64,
    contents: Contents,
}

/// Why a merge ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("segment {0} cannot be read: {1}")]
    Source(u64, SegmentError),
    #[error(transparent)]
    Target(#[from] SegmentError),
}

impl Merge {
    /// Finds out what lives, as the active segment says now, and that the sources are those it means.
    pub(super) fn begin(
        order: Order,
        target: Segment,
        sources: BTreeMap<u64, Arc<Segment>>,
    ) -> Result<Self, SegmentError> {
        let pieces = guarded(|| plan(&order))?;
        for (number, source) in &sources {
            let vouched = guarded(|| source.vouch(born(&order.active, *number)?));
            if let Err(error) = vouched {
                // Who asked may have gone.
                let _ = order.reply.send(Err(vec![*number]));
                return Err(error);
            }
        }
        Ok(Self {
            next: pieces.first().map_or(0, |piece| piece.extent.first),
            number: order.number,
            generation: order.generation,
            reply: order.reply,
            sources,
            pieces,
            at: 0,
            next_log: 0,
            contents: Contents {
                birth: target.birth,
                ..Contents::default()
            },
            target,
        })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Copies and syncs about so many bytes; whether there is more to copy.
    pub(super) fn step(&mut self, bytes: u64) -> Result<bool, Broken> {
        let mut copied = 0;
        let txn = guarded(|| self.target.begin_write())?;
        while self.at < self.pieces.len() && copied < bytes {
            let source = self.pieces[self.at].extent.segment;
            let moved = guarded(|| self.copy(&txn, bytes - copied))
                .map_err(|error| Broken::Source(source, error))?;
            copied += moved;
        }
        guarded(|| Ok(txn.commit()?))?;
        Ok(self.at < self.pieces.len())
    }

    /// Copies chunks of the present piece, and goes on to the next one at its end.
    fn copy(&mut self, txn: &WriteTransaction, room: u64) -> Result<u64, SegmentError> {
        let piece = &mut self.pieces[self.at];
        let number = piece.extent.segment;
        let source = self.sources.get(&number).ok_or(SegmentError::Missing)?;
        let from = source.begin_read()?;
        let (index, log) = (from.open_table(INDEX)?, from.open_table(LOG)?);
        let (mut to_index, mut to_log) = (txn.open_table(INDEX)?, txn.open_table(LOG)?);
        let low = layout::index_key(piece.topic, self.next);
        let high = layout::index_key(piece.topic, piece.end);
        let mut copied = 0;
        for row in index.range::<&IndexKey>(&low..&high)? {
            let (key, value) = row?;
            let (key, value) = (key.value(), value.value());
            if copied >= room {
                self.next = layout::first_offset(key);
                return Ok(copied);
            }
            let Ok(head) = RowHead::decode(key, value) else {
                // Its batches cannot be found, and reads shall go on naming it.
                to_index.insert(key, value)?;
                continue;
            };
            let moved = RowHead {
                log: self.next_log,
                ..head
            };
            to_index.insert(key, &moved.encode(key))?;
            for (old, new) in head.log_numbers().zip(moved.log_numbers()) {
                // What is missing stays missing: reads name it.
                if let Some(batches) = log.get(old)? {
                    to_log.insert(new, batches.value())?;
                }
            }
            self.next_log = moved.log_numbers().end;
            let payload = u64::from(head.payload);
            (self.contents).add(head.payload as usize, head.first_time, head.last_time);
            piece.payload += payload;
            copied += payload;
        }
        self.at += 1;
        self.next = self.pieces.get(self.at).map_or(0, |it| it.extent.first);
        Ok(copied)
    }

    /// Gives the segment its name, durably, and hands it over.
    pub(super) fn finish(self, disk: &dyn Disk) -> Result<(), SegmentError> {
        let number = self.number;
        self.target.close()?;
        disk.rename(&layout::unborn_name(number), &layout::segment_name(number))?;
        disk.sync_dir()?;
        let merged = Merged {
            number,
            generation: self.generation,
            contents: self.contents,
            moved: self.pieces,
        };
        // Who asked may have gone; the next start removes what nothing names.
        let _ = self.reply.send(Ok(merged));
        Ok(())
    }

    /// Ends it; `unreadable` are sources that shall not be tried again.
    pub(super) fn give_up(self, unreadable: Vec<u64>) {
        drop(self.target);
        // Who asked may have gone.
        let _ = self.reply.send(Err(unreadable));
    }
}

/// The birth of a sealed segment, as the active one has it; 0 if it does not say.
pub(super) fn born(active: &Segment, number: u64) -> Result<u64, SegmentError> {
    let txn = active.begin_read()?;
    let key = Contents::key(number);
    match txn.open_table(STATE)?.get(&key[..])? {
        Some(row) => Ok(Contents::decode(layout::unseal(&key, row.value())?).birth),
        None => Ok(0),
    }
}

/// The extents of the sources, in the order of topics and offsets.
fn plan(order: &Order) -> Result<Vec<Piece>, SegmentError> {
    let txn = order.active.begin_read()?;
    let mut pieces: Vec<Piece> = Vec::new();
    let mut open = None;
    for row in txn.open_table(STATE)?.iter()? {
        let (key, stored) = row?;
        let (key, stored) = (key.value(), stored.value());
        let Some((topic, _)) = layout::parse_state_key(key) else {
            continue;
        };
        if layout::own_row(key) != Some(OwnRow::Extent) {
            continue;
        }
        let extent = Extent::decode(key, stored)?;
        if let Some(before) = open.take().and_then(|at: usize| pieces.get_mut(at))
            && before.topic == topic
        {
            before.end = extent.first;
        }
        if order.sources.contains(&extent.segment) {
            open = Some(pieces.len());
            pieces.push(Piece {
                topic,
                extent,
                end: u64::MAX,
                payload: 0,
            });
        }
    }
    Ok(pieces)
}

impl Merged {
    /// Lets each extent that is still what it was name the merged segment.
    pub(super) fn swap(
        &self,
        state: &mut StateTable<'_>,
        stored: &mut Stored,
    ) -> Result<(), SegmentError> {
        for piece in &self.moved {
            let key = Extent::key(piece.topic, piece.extent.first);
            let now = match state.get(&key[..])? {
                Some(row) => Extent::decode(&key, row.value())?,
                None => continue,
            };
            if now.segment != piece.extent.segment {
                continue;
            }
            let moved = Extent {
                segment: self.number,
                payload: Some(piece.payload),
                ..now
            };
            put(state, &key, &moved.encode())?;
            stored.gone.push(now);
            stored.come.push(moved);
        }
        if !stored.come.is_empty() {
            let key = Contents::key(self.number);
            put(state, &key, &self.contents.encode())?;
            stored.merged = Some((self.number, self.contents));
        }
        Ok(())
    }
}

//! The writer: turns jobs into durable transactions, one at a time, and says so.
//!
//! Owns the active segment, the generation and who is told about it. Everything here is
//! synchronous and runs wherever it is called: on the [storage thread](super::thread), or inline
//! in a simulation. It never reads records and never waits for a reader. Its neighbours:
//! [`Flush`] knows what a transaction holds, the [journal](super::journal) takes small ones first,
//! [recovery](super::recovery) gives the first segment and the one after a failure, the
//! [keeper](super::keeper) prepares and closes segments, and the [`Audience`] hears about it all.
//!
//! ```text
//!              commit                         commit fails
//!   writing ------------> writing, or ------------------------> failed --recover--> writing
//!      |                  rotation: spare + state + flush,        | the old segment is fenced,
//!      +-- spare is          sync, rename, sync_dir               | Failed to all, jobs refused,
//!          prepared                                               | Reloaded to all at the end
//!          at half
//! ```

mod beginning;
mod giving_back;

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::time::Duration;

use logdrive_protocol::TopicId;
use tokio::sync::watch;
use tokio::time::Instant;

use super::audience::Audience;
use super::disk::Disk;
use super::error::OpenError;
use super::flush::Flush;
use super::health::Health;
use super::job::{Announce, Job};
use super::journal::Journal;
use super::keeper::{Chore, Keeper};
use super::layout::{self, STATE};
use super::merge::Outcome;
use super::options::Options;
use super::reader::Reader;
use super::recovery::Found;
use super::rotation;
use super::segment::{Identity, Segment, SegmentError, guarded};
use super::tally::Tally;
use super::{Recovered, TopicRows};

/// What redb's file may take beyond its share: it begins with some, and grows by doubling.
const SLACK: u64 = 4 << 20;

/// Storage without its threads: whoever owns it makes it write.
#[derive(Debug)]
pub struct Writer {
    disk: Arc<dyn Disk>,
    options: Options,
    identity: Identity,
    generation: u64,
    /// `None` after a failed commit, until recovery has succeeded.
    active: Option<Active>,
    /// Where small flushes are durable first; it holds what the active segment has not on disk.
    journal: Option<Journal>,
    /// What the journal has and the active segment has not.
    unsaved: Flush,
    /// What recovery found, kept between its attempts.
    found: Option<Found>,
    /// The highest segment number in use.
    floor: u64,
    /// The successor in the making.
    spare: Option<Receiver<Result<Segment, SegmentError>>>,
    /// A merge that is under way.
    merging: Option<Receiver<Outcome>>,
    /// When the next merge may be tried.
    merges_from: Option<Instant>,
    /// Segments that no merge can read.
    unreadable: Vec<u64>,
    /// Since when so much was trimmed out of the active segment that it shall be sealed.
    expired_since: Option<Instant>,
    /// Sealed segments that nothing names since the flush that is being written.
    dead: Vec<u64>,
    audience: Audience,
    /// What makes the active segment unusable, found outside of a commit.
    doubt: Option<SegmentError>,
    view: watch::Sender<Option<Arc<Segment>>>,
    reader: Reader,
    health: Health,
    hands: Hands,
    space_checked: Option<Instant>,
}

#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    tally: Tally,
}

/// Who does the chores.
#[derive(Debug)]
pub(super) enum Hands {
    Inline(Box<Keeper>),
    Thread(Sender<Chore>),
}

impl Hands {
    fn give(&mut self, chore: Chore) {
        match self {
            Self::Inline(keeper) => keeper.perform(chore),
            // The keeper ends after the writer.
            Self::Thread(chores) => drop(chores.send(chore)),
        }
    }

    /// How soon they have to be called, if nothing is written: a thread of their own wakes by itself.
    fn attend_in(&self, options: &Options, health: &Health) -> Option<Duration> {
        let is_due = matches!(self, Self::Inline(_)) && health.is_low_space();
        is_due.then_some(options.space_check_interval)
    }

    /// Where segments go to be closed.
    fn closer(&self) -> Option<Sender<Chore>> {
        match self {
            Self::Inline(_) => None,
            Self::Thread(chores) => Some(chores.clone()),
        }
    }
}

impl Writer {
    /// Opens or creates the store in a directory, to be driven by the caller alone.
    ///
    /// Nothing happens between calls: commits, closing and preparing of segments all run in
    /// [`Writer::commit`].
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, Recovered), OpenError> {
        let health = Health::default();
        let shelf = watch::Sender::default();
        let keeper = Keeper::new(
            disk.clone(),
            options.clone(),
            health.clone(),
            None,
            shelf.clone(),
        );
        let view = watch::Sender::default();
        let reader = Reader::inline(view.subscribe(), disk.clone(), &options);
        Self::start(
            disk,
            options,
            health,
            Hands::Inline(Box::new(keeper)),
            view,
            reader,
        )
    }

    pub(super) fn start(
        disk: Arc<dyn Disk>,
        options: Options,
        health: Health,
        hands: Hands,
        view: watch::Sender<Option<Arc<Segment>>>,
        reader: Reader,
    ) -> Result<(Self, Recovered), OpenError> {
        let mut writer = Self {
            disk,
            options,
            identity: Identity::default(),
            generation: 1,
            active: None,
            journal: None,
            unsaved: Flush::default(),
            found: None,
            floor: 0,
            spare: None,
            merging: None,
            merges_from: None,
            unreadable: Vec::new(),
            expired_since: None,
            dead: Vec::new(),
            audience: Audience::default(),
            doubt: None,
            view,
            reader,
            health,
            hands,
            space_checked: None,
        };
        let topics = writer.first_carry()?;
        writer.hands.give(Chore::CheckSpace);
        let Identity { cluster, node, .. } = writer.identity;
        let generation = writer.generation;
        Ok((
            writer,
            Recovered {
                generation,
                topics,
                cluster_id: cluster,
                node_id: node,
            },
        ))
    }

    /// A reader for cold records.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// The storage's condition, readable at any time.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Whether a commit failed and [`Writer::recover`] has not succeeded since.
    pub fn has_failed(&self) -> bool {
        self.active.is_none()
    }

    /// From here on `Failed` and `Reloaded` reach this topic even when it has no job in a flush.
    pub fn attach(&mut self, topic: TopicId, announce: Announce) {
        self.audience.attach(topic, announce);
    }

    /// Commits jobs in one transaction, in their order, and announces what became of them.
    pub fn commit(&mut self, jobs: impl IntoIterator<Item = Job>) {
        let mut flush = Flush::default();
        for job in jobs {
            self.admit(job, &mut flush);
        }
        self.write(&flush);
    }

    /// Adds a job to a flush, unless it is of a time that has passed.
    pub(super) fn admit(&mut self, job: Job, flush: &mut Flush) {
        if job.generation == self.generation && self.active.is_some() {
            flush.add(job);
        } else {
            self.refuse(&job);
        }
    }

    /// A job of an older generation: its topic has heard `Failed`, or hears it now.
    fn refuse(&mut self, job: &Job) {
        let generation = self.generation;
        if !self.audience.catch_up(job.topic, &job.announce, generation) {
            return;
        }
        let Some(active) = &self.active else { return };
        match rows_of(&active.segment, &self.unsaved, job.topic) {
            Ok(rows) => self.audience.reloaded_one(job.topic, rows, generation),
            Err(error) => self.doubt = Some(error),
        }
    }

    /// Makes a flush durable and announces it, or fails.
    pub(super) fn write(&mut self, flush: &Flush) {
        if !flush.is_empty() {
            self.health.note_flushed(flush.bytes as u64);
        }
        if let Some(error) = self.doubt.take() {
            return self.fail(flush, &error);
        }
        let with_merged = self.take_merged(flush);
        let flush = with_merged.as_ref().unwrap_or(flush);
        if flush.is_empty() && !self.is_overdue() {
            if self.hands.attend_in(&self.options, &self.health).is_some() {
                self.check_space();
            }
            return;
        }
        let Some(mut active) = self.active.take() else {
            return;
        };
        match self.journal(&mut active, flush) {
            Ok(true) => {
                self.unsaved.append(flush);
                self.reader.unsaved.publish(flush);
                self.announce(flush);
                self.active = Some(active);
                return self.check_space();
            }
            Ok(false) => {}
            Err(error) => {
                active.segment.fence();
                return self.fail(flush, &error);
            }
        }
        match self.save(active, flush) {
            Ok(active) => {
                self.give_back(&active, flush);
                self.active = Some(active);
                self.announce(flush);
                self.prepare();
                self.check_space();
            }
            Err(error) => self.fail(flush, &error),
        }
    }

    /// Says that a flush is durable.
    pub(super) fn announce(&mut self, flush: &Flush) {
        self.audience.committed(flush, self.generation);
    }

    /// Lets the segment, or its successor, have on disk what only the journal has there, and a
    /// flush with it.
    fn save(&mut self, active: Active, flush: &Flush) -> Result<Active, SegmentError> {
        let mut whole = std::mem::take(&mut self.unsaved);
        let whole = if whole.is_empty() {
            flush
        } else {
            whole.append(flush);
            &whole
        };
        let saved = match self.take_spare(&active, whole) {
            Ok(None) => self.append(active, whole),
            Ok(Some(spare)) => self.rotate(active, spare, whole),
            Err(error) => {
                active.segment.fence();
                Err(error)
            }
        }?;
        if let Some(journal) = &mut self.journal {
            journal.restart();
        }
        self.reader.unsaved.clear();
        Ok(saved)
    }

    /// Makes a small flush durable in the journal; `false` where it must be in the segment.
    fn journal(&mut self, active: &mut Active, flush: &Flush) -> Result<bool, SegmentError> {
        let small = flush.bytes <= self.options.journal_flush_bytes
            && !flush.removes()
            && !flush.is_empty();
        let Some(journal) = self.journal.as_mut().filter(|_| small) else {
            return Ok(false);
        };
        let number = active.tally.flushes + 1;
        let journaled = journal.append(active.segment.number, number, flush)?;
        active.tally.flushes += u64::from(journaled);
        Ok(journaled)
    }

    /// Whether the active segment must give way before a flush.
    ///
    /// By payload, or by its file where many small chunks take more room than they hold. Not while
    /// it is nearly empty: a flush above the limit, or a state above it, must find a place.
    fn is_full(&self, active: &Active, flush: &Flush) -> Result<bool, SegmentError> {
        let limit = self.options.segment_bytes;
        let payload = active.tally.contents.payload;
        let outgrown = payload >= limit / 4 && active.segment.file_len()? > limit / 2 * 3 + SLACK;
        let full = outgrown || payload + flush.payload > limit || self.is_overdue();
        Ok(payload > 0 && full)
    }

    fn append(&mut self, mut active: Active, flush: &Flush) -> Result<Active, SegmentError> {
        let stored = guarded(|| {
            let txn = active.segment.begin_write()?;
            let stored = flush.store(&txn, &active.tally, self.options.chunk_bytes)?;
            txn.commit()?;
            Ok(stored)
        });
        match stored {
            Ok(stored) => {
                self.dead.extend(active.tally.add(stored));
                Ok(active)
            }
            Err(error) => {
                active.segment.fence();
                Err(error)
            }
        }
    }

    /// The successor, if the active segment must give way now.
    ///
    /// A successor that is still being made is worth waiting for only where the active one would
    /// grow out of bounds.
    fn take_spare(
        &mut self,
        active: &Active,
        flush: &Flush,
    ) -> Result<Option<Segment>, SegmentError> {
        if !self.is_full(active, flush)? {
            return Ok(None);
        }
        if let Some(making) = self.spare.take() {
            match making.try_recv() {
                Ok(made) => return made.map(Some),
                Err(TryRecvError::Disconnected) => {}
                Err(TryRecvError::Empty) => {
                    if active.tally.contents.payload < self.options.segment_bytes / 2 * 3 {
                        self.spare = Some(making);
                        return Ok(None);
                    }
                    if let Ok(made) = making.recv() {
                        return made.map(Some);
                    }
                }
            }
        }
        self.floor += 1;
        let cache = self.options.active_cache_bytes;
        let closer = self.hands.closer();
        let file = self.disk.create(&layout::unborn_name(self.floor))?;
        Segment::create(file, self.floor, self.identity, cache, closer).map(Some)
    }

    fn rotate(
        &mut self,
        active: Active,
        spare: Segment,
        flush: &Flush,
    ) -> Result<Active, SegmentError> {
        let number = spare.number;
        let Active {
            segment: old,
            tally,
        } = active;
        let born = guarded(|| {
            let txn = spare.begin_write()?;
            let (fresh, dead) = rotation::carry_state(&old, &tally, number, &txn)?;
            let stored = flush.store(&txn, &fresh, self.options.chunk_bytes)?;
            txn.commit()?;
            Ok((dead, fresh, stored))
        })
        .and_then(|born| {
            self.disk
                .rename(&layout::unborn_name(number), &layout::segment_name(number))?;
            self.disk.sync_dir()?;
            Ok(born)
        });
        let (dead, mut tally, stored) = match born {
            Ok(born) => born,
            Err(error) => {
                // What has the name of a segment is never written again either.
                old.fence();
                spare.fence();
                return Err(error);
            }
        };
        self.dead.extend(dead);
        self.dead.extend(tally.add(stored));
        let segment = Arc::new(spare);
        // The keeper knows of the old one before any reader can see the new one.
        self.hands.give(Chore::Retire(old));
        self.hands.give(Chore::Mark(number));
        self.view.send_replace(Some(segment.clone()));
        self.expired_since = None;
        self.space_checked = None;
        tracing::debug!(segment = number, "a new segment is active");
        Ok(Active { segment, tally })
    }

    /// Has the successor made once the active segment is half full.
    fn prepare(&mut self) {
        let Some(active) = &self.active else { return };
        if self.spare.is_some() || active.tally.contents.payload < self.options.segment_bytes / 2 {
            return;
        }
        self.floor += 1;
        let (reply, spare) = mpsc::channel();
        self.spare = Some(spare);
        let (number, identity) = (self.floor, self.identity);
        self.hands.give(Chore::Prepare {
            number,
            identity,
            reply,
        });
    }

    fn check_space(&mut self) {
        let interval = self.options.space_check_interval;
        if self.space_checked.is_none_or(|at| at.elapsed() >= interval) {
            self.space_checked = Some(Instant::now());
            self.hands.give(Chore::CheckSpace);
        }
    }

    /// Ends the generation: nobody knows whether `flush` is on disk.
    fn fail(&mut self, flush: &Flush, error: &SegmentError) {
        self.generation += 1;
        let generation = self.generation;
        tracing::error!(%error, generation, "a commit failed; going on in a new segment");
        self.health.set_failed(true);
        if let Some(active) = self.active.take() {
            active.segment.fence();
        }
        self.found = None;
        self.spare = None;
        self.merging = None;
        self.dead.clear();
        self.expired_since = None;
        self.journal = None;
        // Recovery reads it from the journal; readers keep what was published until then.
        self.unsaved = Flush::default();
        self.audience.failed(flush, generation);
        self.hands.give(Chore::CheckSpace);
    }

    /// Lets the active segment be closed cleanly.
    pub fn close(mut self) {
        self.stop();
    }

    pub(super) fn stop(&mut self) {
        let spare = self
            .spare
            .take()
            .and_then(|making| making.recv().ok())
            .and_then(Result::ok);
        if let Some(spare) = spare {
            let name = layout::unborn_name(spare.number);
            drop(spare);
            self.hands.give(Chore::Unlink(vec![name]));
        }
        let active = self.active.take().and_then(|active| {
            if self.unsaved.is_empty() {
                return Some(active);
            }
            let saved = self.save(active, &Flush::default());
            saved
                .inspect_err(|error| {
                    tracing::warn!(%error, "not closed cleanly; the next start reads the journal");
                })
                .ok()
        });
        // The keeper must know what to wait for before the last holder lets go.
        let number = active.as_ref().map(|active| active.segment.number);
        self.hands.give(Chore::Stop { active: number });
        self.view.send_replace(None);
    }

    /// The active segment's number, and the syncs of it and of the journal so far.
    pub fn syncs(&self) -> Option<(u64, u64)> {
        self.active.as_ref().map(|active| {
            let journaled = self.journal.as_ref().map_or(0, Journal::syncs);
            (active.segment.number, active.segment.syncs() + journaled)
        })
    }
}

/// A topic's own rows as they are on disk; `None` if it does not live.
fn rows_of(
    segment: &Segment,
    unsaved: &Flush,
    topic: TopicId,
) -> Result<Option<TopicRows>, SegmentError> {
    guarded(|| {
        let mut rows = BTreeMap::new();
        let range = layout::state_range(topic);
        let (from, to) = (&range.start[..], &range.end[..]);
        let txn = segment.begin_read()?;
        let state = txn.open_table(STATE)?;
        for row in state.range::<&[u8]>(from..to)? {
            let (key, stored) = row?;
            if layout::own_row(key.value()).is_none() {
                let value = layout::unseal(key.value(), stored.value())?;
                rows.insert(key.value().to_vec(), value.to_vec());
            }
        }
        let in_journal = unsaved
            .rows
            .range::<[u8], _>((Included(from), Excluded(to)));
        for (key, value) in in_journal {
            match value {
                Some(value) => drop(rows.insert(key.clone(), value.clone())),
                None => drop(rows.remove(key)),
            }
        }
        let lives = !rows.is_empty() || topic.is_none();
        Ok(lives.then(|| rows.into_iter().collect()))
    })
}

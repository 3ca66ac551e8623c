//! The keeper of the directory: opens sealed segments, prepares new ones, closes old ones, watches
//! the free space.
//!
//! Owns the handles of sealed segments and the ballast file. It never touches the active segment.
//! Its neighbours: the [writer](super::writer) gives it [`Chore`]s, the [reader](super::reader)
//! asks it for handles. One chore at a time: on a thread of its own, or inline where the storage
//! runs without threads.
//!
//! ```text
//!   Retire --> retiring --last reader lets go--> Close --> closed --Open--> on the shelf
//!                 |                                ^                           |
//!                 +-- Open: the handle as it is    +-- Open waits for it       +-- least recently
//!                                                                                  used: dropped
//! ```

mod merging;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redb::Database;
use tokio::sync::watch;
use tokio::time::Instant;

use super::ahead::Ahead;
use super::disk::{Disk, DiskFile};
use super::health::Health;
use super::layout;
use super::merge::{Merge, Order};
use super::newest;
use super::options::Options;
use super::segment::{Identity, Segment, SegmentError, guarded};

/// The handles of sealed segments that are open, by number.
pub(super) type Shelf = Arc<BTreeMap<u64, Arc<Segment>>>;

/// The answer to [`Chore::Open`].
pub(super) type Opened = Result<Arc<Segment>, SegmentError>;

pub(super) const BALLAST: &str = "ballast";
const BALLAST_BLOCK: usize = 1 << 20;

/// What the keeper is asked to do.
#[derive(Debug)]
pub(super) enum Chore {
    /// Make an unborn segment.
    Prepare {
        number: u64,
        identity: Identity,
        reply: Sender<Result<Segment, SegmentError>>,
    },
    /// A segment has a successor.
    Retire(Arc<Segment>),
    /// Nobody reads a retired segment any more.
    Close { number: u64, db: Database },
    /// Keep this handle for readers.
    Shelve(Arc<Segment>),
    /// Give a handle.
    Open { number: u64, reply: Sender<Opened> },
    /// A handle gave wrong bytes: drop it.
    Discard(u64),
    /// Note that this segment is active, and its birth.
    Mark { number: u64, birth: u64 },
    /// Let these sealed segments go; nothing refers to them.
    Release(Vec<u64>),
    /// Make one segment of several.
    Merge(Box<Order>),
    /// Remove these files.
    Unlink(Vec<String>),
    /// Look at the free space.
    CheckSpace,
    /// End once `active` has been closed as well.
    Stop { active: Option<u64> },
}

#[derive(Debug)]
pub(super) struct Keeper {
    disk: Arc<dyn Disk>,
    options: Options,
    health: Health,
    /// Where segments that it makes go to be closed; `None` inline.
    inbox: Option<Sender<Chore>>,
    shelf: watch::Sender<Shelf>,
    ahead: Ahead,
    /// Whether files are written ahead: once so much was written that they will be needed, and
    /// while there is room.
    writes_ahead: bool,
    /// Bytes of all flushes when it was last asked.
    flushed: u64,
    /// Handles that were ever on the shelf, of segments that are there.
    opened: BTreeMap<u64, Weak<Segment>>,
    /// Retired, and not closed yet.
    retiring: BTreeMap<u64, Weak<Segment>>,
    /// Who waits for a close.
    waiting: Vec<(u64, Sender<Opened>)>,
    /// Whether the ballast file is known to be there.
    ballast: bool,
    merging: Option<Merge>,
    /// Segments that are let go, one after the other.
    releasing: VecDeque<u64>,
    /// When the last one went.
    released_at: Option<Instant>,
    /// When the last piece of a merge, of the files written ahead, or a look at the space ended.
    rested_at: Instant,
    stopping: bool,
    /// Writable handles whose close must come before the end.
    unclosed: BTreeSet<u64>,
}

impl Keeper {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        options: Options,
        health: Health,
        inbox: Option<Sender<Chore>>,
        shelf: watch::Sender<Shelf>,
    ) -> Self {
        let ahead = Ahead::new(disk.clone(), &options);
        health.set_ahead_bytes(ahead.ready_bytes());
        health.set_low_mark(options.low_space_bytes);
        Self {
            disk,
            options,
            health,
            inbox,
            shelf,
            ahead,
            writes_ahead: false,
            flushed: 0,
            opened: BTreeMap::new(),
            retiring: BTreeMap::new(),
            waiting: Vec::new(),
            ballast: false,
            merging: None,
            releasing: VecDeque::new(),
            released_at: None,
            rested_at: Instant::now(),
            stopping: false,
            unclosed: BTreeSet::new(),
        }
    }

    /// Does chores until it is stopped; what is its own to do comes when none of them waits.
    pub(super) fn run(mut self, chores: &Receiver<Chore>) {
        while !(self.stopping && self.unclosed.is_empty()) {
            let next = match self.pause() {
                Some(pause) => chores.recv_timeout(pause),
                None => chores.recv().map_err(RecvTimeoutError::from),
            };
            match next {
                Ok(chore) => self.perform(chore),
                Err(RecvTimeoutError::Timeout) => self.attend(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// How long until something of its own is due, if there is anything to do.
    fn pause(&self) -> Option<Duration> {
        let background = if self.merging.is_some() {
            Some(self.options.merge_pause)
        } else if self.health.is_low_space() {
            Some(self.options.space_check_interval)
        } else if self.writes_ahead && self.ahead.is_wanting() {
            Some(self.options.ahead_pause)
        } else {
            None
        };
        // From the last piece on, so that chores put nothing off for good.
        let background = background.map(|pause| pause.saturating_sub(self.rested_at.elapsed()));
        self.release_pause().into_iter().chain(background).min()
    }

    /// Does a piece of what is its own: a file that is due goes, or else a merge, the free space or
    /// the files written ahead go on.
    fn attend(&mut self) {
        if self.release_pause() == Some(Duration::ZERO) {
            return self.release_one();
        }
        if self.merging.is_some() {
            self.merge_on();
        } else if self.health.is_low_space() {
            self.check_space();
        } else if self.writes_ahead && self.ahead.is_wanting() {
            self.write_ahead();
        }
        self.rested_at = Instant::now();
    }

    pub(super) fn perform(&mut self, chore: Chore) {
        match chore {
            Chore::Prepare {
                number,
                identity,
                reply,
            } => {
                let cache = self.options.active_cache_bytes;
                let identity = identity.of_segment(number, self.options.salt);
                let inbox = self.inbox.clone();
                let made = self.blank(&layout::unborn_name(number));
                let made = made.map_err(SegmentError::from);
                let made =
                    made.and_then(|file| Segment::create(file, number, identity, cache, inbox));
                // Whoever asked may have gone; the file is removed at the next start then.
                let _ = reply.send(made);
                self.begin_writing_ahead();
            }
            Chore::Retire(segment) => {
                if self.inbox.is_some() {
                    self.retiring
                        .insert(segment.number, Arc::downgrade(&segment));
                    self.unclosed.insert(segment.number);
                }
            }
            Chore::Close { number, db } => self.close(number, db),
            Chore::Shelve(segment) => self.shelve(segment),
            Chore::Open { number, reply } => self.open(number, reply),
            Chore::Discard(number) => {
                self.shelf.send_if_modified(|shelf| {
                    shelf.contains_key(&number) && Arc::make_mut(shelf).remove(&number).is_some()
                });
            }
            Chore::Mark { number, birth } => {
                // Without the note a removed segment might go unnoticed; nothing else depends on it.
                if let Err(error) = newest::mark(&*self.disk, number, birth) {
                    tracing::warn!(segment = number, %error, "the newest segment is not noted");
                }
            }
            Chore::Release(numbers) => {
                self.releasing.extend(numbers);
                if self.inbox.is_none() {
                    self.release_all();
                }
            }
            Chore::Merge(order) => self.merge(*order),
            Chore::Unlink(names) => {
                for name in names {
                    self.unlink(&name);
                }
            }
            Chore::CheckSpace => self.check_space(),
            Chore::Stop { active } => {
                self.stopping = true;
                self.release_all();
                self.give_up_merge();
                self.unclosed.extend(active);
            }
        }
    }

    /// An empty file for a segment: one that was written ahead, if there is one.
    fn blank(&mut self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        match self.ahead.take(name) {
            Some(Ok(file)) => {
                self.health.set_ahead_bytes(self.ahead.ready_bytes());
                Ok(Arc::new(file))
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "a file written ahead is not used");
                self.disk.create(name)
            }
            None => self.disk.create(name),
        }
    }

    /// So much is written here that further segments will follow.
    fn begin_writing_ahead(&mut self) {
        self.writes_ahead = true;
        self.check_space();
        if self.inbox.is_none() {
            // Without a thread there is no better time.
            while self.writes_ahead && self.ahead.is_wanting() {
                self.write_ahead();
            }
        }
    }

    /// Writes a piece ahead, unless there is much else to write.
    fn write_ahead(&mut self) {
        let flushed = self.health.flushed_bytes();
        let busy = flushed - std::mem::replace(&mut self.flushed, flushed);
        if busy >= self.options.ahead_quiet_bytes && self.inbox.is_some() {
            return;
        }
        if let Err(error) = self.ahead.step() {
            // Segments grow by themselves then.
            tracing::warn!(%error, "nothing is written ahead any more");
            self.writes_ahead = false;
        }
        self.health.set_ahead_bytes(self.ahead.ready_bytes());
    }

    fn close(&mut self, number: u64, db: Database) {
        if let Err(error) = guarded(|| Ok(db.close()?)) {
            // The next open repairs a view of it.
            tracing::warn!(segment = number, %error, "a segment was not closed cleanly");
        }
        self.retiring.remove(&number);
        self.unclosed.remove(&number);
        let waiting = std::mem::take(&mut self.waiting);
        for (wanted, reply) in waiting {
            if wanted == number {
                self.open(number, reply);
            } else {
                self.waiting.push((wanted, reply));
            }
        }
    }

    fn open(&mut self, number: u64, reply: Sender<Opened>) {
        let open = self.shelf.borrow().get(&number).cloned();
        let answer = match (open, self.retiring.get(&number)) {
            (Some(segment), _) => Ok(segment),
            (None, Some(retiring)) => match retiring.upgrade() {
                Some(segment) => Ok(segment),
                None => return self.waiting.push((number, reply)),
            },
            (None, None) => {
                let cache = self.options.sealed_cache_bytes;
                Segment::open_sealed(&*self.disk, number, cache).map(|segment| {
                    let segment = Arc::new(segment);
                    self.shelve(segment.clone());
                    segment
                })
            }
        };
        // A reader that has gone needs no answer.
        let _ = reply.send(answer);
    }

    fn shelve(&mut self, segment: Arc<Segment>) {
        self.opened.insert(segment.number, Arc::downgrade(&segment));
        let limit = self.options.sealed_handles.max(1);
        self.shelf.send_modify(|handles| {
            let open = Arc::make_mut(handles);
            while open.len() >= limit {
                let oldest = open.iter().min_by_key(|(_, segment)| segment.last_used());
                let Some(number) = oldest.map(|(number, _)| *number) else {
                    break;
                };
                open.remove(&number);
            }
            open.insert(segment.number, segment);
        });
    }

    /// How long producers still have the disk for themselves before the next file goes, if there is
    /// one: while it does, every fsync waits for the file system to give its blocks back.
    fn release_pause(&self) -> Option<Duration> {
        let is_urgent =
            self.health.is_low_space() || self.releasing.len() > self.options.releasing_files;
        let since = self.released_at.filter(|_| !is_urgent);
        let pause = since.map_or(Duration::ZERO, |at| {
            self.options.release_pause.saturating_sub(at.elapsed())
        });
        (!self.releasing.is_empty()).then_some(pause)
    }

    fn release_one(&mut self) {
        if let Some(number) = self.releasing.pop_front() {
            self.release(number);
            self.released_at = Some(Instant::now());
        }
    }

    pub(super) fn release_all(&mut self) {
        while !self.releasing.is_empty() {
            self.release_one();
        }
    }

    /// Lets a sealed segment go that nothing refers to any more.
    fn release(&mut self, number: u64) {
        self.shelf.send_modify(|shelf| {
            Arc::make_mut(shelf).remove(&number);
        });
        let opened = self.opened.remove(&number);
        let is_read = opened.is_some_and(|segment| segment.strong_count() > 0);
        let name = layout::segment_name(number);
        // Who still reads it keeps the content; a file that is written again has none.
        if is_read || self.retiring.contains_key(&number) || !self.recycle(&name) {
            self.unlink(&name);
        }
    }

    fn recycle(&mut self, name: &str) -> bool {
        self.writes_ahead
            && self.ahead.recycle(name).unwrap_or_else(|error| {
                tracing::warn!(file = name, %error, "a file is not written again");
                false
            })
    }

    fn unlink(&self, name: &str) {
        match self.disk.unlink(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // Removed at the next start.
                tracing::warn!(file = name, %error, "a file was not removed");
            }
            _ => {}
        }
    }

    fn check_space(&mut self) {
        let free = match self.disk.free_space() {
            Ok(free) => free,
            Err(error) => {
                tracing::warn!(%error, "free space is unknown");
                return;
            }
        };
        let low = self.options.low_space_bytes;
        if free < low + self.options.ballast_bytes + 2 * self.ahead.room() {
            self.writes_ahead = false;
        }
        if free < low {
            if let Err(error) = self.ahead.give_up() {
                tracing::warn!(%error, "a file written ahead was not removed");
            }
            self.health.set_ahead_bytes(0);
            declare_low_space(&self.health, free);
            self.drop_ballast();
            return;
        }
        // Going back needs more than the mark, or a write at the edge would flip it to and fro.
        let roomy = free >= low.saturating_mul(2);
        if roomy && !self.ballast {
            self.make_ballast();
        }
        if roomy && self.health.set_low_space(false) {
            tracing::warn!(free, "space is no longer low: everything is taken again");
        }
    }

    fn drop_ballast(&mut self) {
        match self.disk.unlink(BALLAST) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the ballast was not removed");
            }
            _ => self.ballast = false,
        }
    }

    fn make_ballast(&mut self) {
        match self.fill_ballast() {
            Ok(()) => self.ballast = true,
            Err(error) => {
                tracing::warn!(%error, "the ballast was not written");
                self.drop_ballast();
            }
        }
    }

    fn fill_ballast(&self) -> io::Result<()> {
        let wanted = self.options.ballast_bytes;
        if wanted == 0 {
            return Ok(());
        }
        if let Ok(file) = self.disk.open(BALLAST)
            && file.len()? == wanted
        {
            return Ok(());
        }
        let file = self.disk.create(BALLAST)?;
        let block = vec![0; BALLAST_BLOCK];
        let mut at = 0;
        while at < wanted {
            let count = usize::try_from(wanted - at)
                .unwrap_or(BALLAST_BLOCK)
                .min(BALLAST_BLOCK);
            file.write_at(at, &block[..count])?;
            at += count as u64;
        }
        file.sync()
    }
}

/// Nothing that takes space is admitted from now on.
pub(super) fn declare_low_space(health: &Health, free: u64) {
    if health.set_low_space(true) {
        let low = health.low_mark();
        tracing::warn!(
            free,
            low,
            "space is low: produce, create and register are refused"
        );
    }
}

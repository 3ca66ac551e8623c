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

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};

use redb::Database;
use tokio::sync::watch;

use super::disk::Disk;
use super::health::Health;
use super::layout;
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
    /// Note that this segment is active.
    Mark(u64),
    /// Remove these files; nothing refers to them.
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
    /// Retired, and not closed yet.
    retiring: BTreeMap<u64, Weak<Segment>>,
    /// Who waits for a close.
    waiting: Vec<(u64, Sender<Opened>)>,
    /// Whether the ballast file is known to be there.
    ballast: bool,
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
        Self {
            disk,
            options,
            health,
            inbox,
            shelf,
            retiring: BTreeMap::new(),
            waiting: Vec::new(),
            ballast: false,
            stopping: false,
            unclosed: BTreeSet::new(),
        }
    }

    /// Does chores until it is stopped.
    pub(super) fn run(mut self, chores: &Receiver<Chore>) {
        while !(self.stopping && self.unclosed.is_empty()) {
            let next = if self.health.is_low_space() {
                chores.recv_timeout(self.options.space_check_interval)
            } else {
                chores.recv().map_err(RecvTimeoutError::from)
            };
            match next {
                Ok(chore) => self.perform(chore),
                Err(RecvTimeoutError::Timeout) => self.check_space(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    pub(super) fn perform(&mut self, chore: Chore) {
        match chore {
            Chore::Prepare {
                number,
                identity,
                reply,
            } => {
                let cache = self.options.active_cache_bytes;
                let inbox = self.inbox.clone();
                // Whoever asked may have gone; the file is removed at the next start then.
                let _ = reply.send(Segment::create(&*self.disk, number, identity, cache, inbox));
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
            Chore::Mark(number) => {
                // Without the note a removed segment might go unnoticed; nothing else depends on it.
                if let Err(error) = newest::mark(&*self.disk, number) {
                    tracing::warn!(segment = number, %error, "the newest segment is not noted");
                }
            }
            Chore::Unlink(names) => self.unlink(&names),
            Chore::CheckSpace => self.check_space(),
            Chore::Stop { active } => {
                self.stopping = true;
                self.unclosed.extend(active);
            }
        }
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

    fn unlink(&mut self, names: &[String]) {
        let numbers: Vec<u64> = names
            .iter()
            .filter_map(|name| match layout::file_kind(name) {
                layout::FileKind::Segment(number) => Some(number),
                _ => None,
            })
            .collect();
        if !numbers.is_empty() {
            self.shelf.send_modify(|shelf| {
                Arc::make_mut(shelf).retain(|number, _| !numbers.contains(number));
            });
        }
        for name in names {
            match self.disk.unlink(name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    // Removed at the next start.
                    tracing::warn!(file = name, %error, "a file was not removed");
                }
                _ => {}
            }
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
        if free < low {
            if !self.health.is_low_space() {
                tracing::warn!(
                    free,
                    low,
                    "space is low: produce, create and register are refused"
                );
            }
            self.health.set_low_space(true);
            self.drop_ballast();
            return;
        }
        // Going back needs more than the mark, or a write at the edge would flip it to and fro.
        let roomy = free >= low + low / 4 + self.options.ballast_bytes;
        if roomy && !self.ballast {
            self.make_ballast();
        }
        if roomy && self.health.is_low_space() {
            tracing::info!(free, "space is no longer low");
            self.health.set_low_space(false);
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

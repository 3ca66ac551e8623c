//! Records and state on disk: segments that are redb databases.
//!
//! Storage keeps *chunks* (whole batches of one topic that met in one flush) and *state rows*
//! (opaque bytes under opaque keys), writes them with one fsync per flush, and announces what is
//! durable. A large flush is one redb transaction in the active segment; a small one is an entry of
//! the `journal`, and goes into the segment with the next large one. It knows no actor and no topic
//! logic, and it never decides what is refused. Its neighbours: topics send [`Job`]s and hear
//! [`Notice`]s, and read through a [`Reader`]; below it is a [`Disk`].
//!
//! ```text
//!   topics --Job--> inbox --> storage thread: Writer --redb--> active segment
//!      ^                           |      \     '----> journal     |
//!      +----------Notice-----------+       Chore                   | snapshots
//!                                            v                     v
//!                           keeper's thread: Keeper --handles--> Reader <-- topics, on a pool
//! ```

mod ahead;
mod audience;
pub mod backend;
pub mod disk;
mod error;
mod flush;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod header;
mod health;
#[cfg(test)]
mod inline;
mod job;
mod journal;
mod keeper;
mod layout;
mod merge;
mod newest;
mod options;
pub mod overlay;
mod reader;
mod recovery;
mod rotation;
mod scan;
mod segment;
mod sums;
mod tally;
#[cfg(test)]
mod tests;
mod thread;
mod trim;
mod unsaved;
mod verify;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use logdrive_protocol::TopicId;
use tokio::sync::watch;

pub use self::disk::Disk;
pub use self::error::OpenError;
pub use self::health::{Condition, Health};
#[cfg(test)]
pub(crate) use self::inline::Inline;
pub use self::job::{Announce, Appended, Job, JobKind, Notice, Row, Totals};
use self::keeper::Keeper;
pub use self::options::Options;
pub use self::reader::{At, Point, ReadBatches, ReadError, Reader, Sum};
pub use self::segment::quiet_guarded_panics;
use self::thread::Message;
pub use self::verify::{Finding, Grade, Log, Told, Verified, holds_store, verify};
use self::writer::Hands;
pub use self::writer::Writer;

/// State rows of one topic, keys and values, in key order.
pub type TopicRows = Vec<(Vec<u8>, Vec<u8>)>;

/// State rows of each topic.
pub type Rows = BTreeMap<TopicId, TopicRows>;

/// The store of one broker: a thread that writes, and readers that never wait for it.
///
/// Dropping it lets the thread finish what is queued; [`Storage::close`] also waits for that.
///
/// It is a [`Handle`] and the duty to end the threads.
#[derive(Debug)]
pub struct Storage {
    handle: Handle,
    threads: [JoinHandle<()>; 2],
}

/// What topics hold of the store: where jobs go, and how cold records are read; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    inbox: Outbox,
    reader: Reader,
    health: Health,
}

/// The way to who writes.
#[derive(Clone, Debug)]
enum Outbox {
    Thread(Sender<Message>),
    #[cfg(test)]
    Inline(tokio::sync::mpsc::UnboundedSender<Message>),
}

impl std::ops::Deref for Storage {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

/// What an opened data directory held.
#[derive(Debug)]
pub struct Recovered {
    /// The generation in which jobs are accepted.
    pub generation: u64,
    /// The state rows of each topic; topic 0 holds the broker's own.
    pub topics: Rows,
    /// The cluster that the data belongs to; zeros for none.
    pub cluster_id: [u8; 16],
    /// The node that the data belongs to; 0 for none.
    pub node_id: u64,
}

impl Storage {
    /// Opens or creates the store in a directory, and starts its two threads.
    ///
    /// Blocks until the newest segment was checked and carried over into a new one.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, Recovered), OpenError> {
        let health = Health::default();
        let (chores, to_do) = mpsc::channel();
        let shelf = watch::Sender::default();
        let view = watch::Sender::default();
        let reader = Reader::new(view.subscribe(), shelf.subscribe(), chores.clone());
        let keeper = Keeper::new(
            disk.clone(),
            options.clone(),
            health.clone(),
            Some(chores.clone()),
            shelf,
        );
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(body)
                .map_err(|source| OpenError::disk("starting its threads", source))
        };
        let keeping = spawn("keeper", Box::new(move || keeper.run(&to_do)))?;
        let started = Writer::start(
            disk,
            options.clone(),
            health.clone(),
            Hands::Thread(chores.clone()),
            view,
            reader.clone(),
        );
        let (writer, recovered) = match started {
            Ok(started) => started,
            Err(error) => {
                // The keeper has nothing to close; without it its thread would outlive the error.
                drop(chores.send(keeper::Chore::Stop { active: None }));
                return Err(error);
            }
        };
        let (inbox, messages) = mpsc::channel();
        let writing = spawn(
            "storage",
            Box::new(move || thread::run(writer, messages, &options)),
        )?;
        Ok((
            Self {
                handle: Handle {
                    inbox: Outbox::Thread(inbox),
                    reader,
                    health,
                },
                threads: [writing, keeping],
            },
            recovered,
        ))
    }

    /// A handle for others.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Commits and announces what is queued, closes the active segment cleanly and ends the
    /// threads; blocks for as long as that takes.
    pub fn close(self) {
        self.send(Message::Close);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the storage has panicked");
            }
        }
    }
}

impl Handle {
    /// Queues a job; never blocks.
    ///
    /// The queue is bounded by what callers are permitted to have in flight. Jobs of one caller are
    /// committed in the order of their submission.
    pub fn submit(&self, job: Job) {
        self.submit_together(vec![job]);
    }

    /// Queues jobs that become durable together, as [`Handle::submit`] does.
    pub fn submit_together(&self, jobs: Vec<Job>) {
        self.send(Message::Jobs(jobs));
    }

    /// From here on `Failed` and `Reloaded` reach this topic even when it has no job in flight.
    ///
    /// Ordered with [`Handle::submit`]. Attaching again replaces the address; a committed
    /// [`JobKind::Delete`] detaches.
    pub fn attach(&self, topic: TopicId, announce: Announce) {
        self.send(Message::Attach(topic, announce));
    }

    fn send(&self, message: Message) {
        // The thread outlives this value, unless it panicked: then nothing is announced any more,
        // and what waits for a notice is answered as of unknown outcome.
        match &self.inbox {
            Outbox::Thread(inbox) => drop(inbox.send(message)),
            #[cfg(test)]
            Outbox::Inline(inbox) => drop(inbox.send(message)),
        }
    }

    /// A reader for cold records.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// The storage's condition, readable at any time.
    pub fn health(&self) -> Health {
        self.health.clone()
    }
}

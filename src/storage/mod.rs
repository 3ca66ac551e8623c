//! Records and state on disk: segments that are redb databases.
//!
//! Storage keeps *chunks* (whole batches of one topic that met in one flush) and *state rows*
//! (opaque bytes under opaque keys), writes them in one redb transaction with one fsync per flush,
//! and announces what is durable. It knows no actor and no topic logic.

pub mod backend;
pub mod disk;
mod error;
mod health;
mod job;
mod layout;
mod options;
pub mod overlay;
mod reader;
mod stand_in;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::disk::Disk;
pub use self::error::OpenError;
pub use self::health::{Condition, Health};
pub use self::job::{Announce, Appended, Job, JobKind, Notice, Row, Totals};
pub use self::options::Options;
pub use self::reader::{At, Point, ReadBatches, ReadError, Reader};
pub use self::stand_in::TopicId;

/// The store of one broker: a thread that writes, and readers that never wait for it.
///
/// Dropping it lets the thread finish what is queued; [`Storage::close`] also waits for that.
#[derive(Debug)]
pub struct Storage {
    reader: Reader,
    health: Health,
}

/// What an opened data directory held.
#[derive(Debug)]
pub struct Recovered {
    /// The generation in which jobs are accepted.
    pub generation: u64,
    /// The state rows of each topic in key order; topic 0 holds the broker's own.
    pub topics: BTreeMap<TopicId, Vec<(Vec<u8>, Vec<u8>)>>,
    /// The cluster that the data belongs to; zeros for none.
    pub cluster_id: [u8; 16],
    /// The node that the data belongs to.
    pub node_id: u64,
}

impl Storage {
    /// Opens or creates the store in a directory, and starts the storage thread.
    ///
    /// Blocks until the newest segment was checked and carried over into a new one.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, Recovered), OpenError> {
        drop((disk, options));
        let recovered = Recovered {
            generation: 1,
            topics: BTreeMap::new(),
            cluster_id: [0; 16],
            node_id: 0,
        };
        Ok((
            Self {
                reader: Reader {},
                health: Health::default(),
            },
            recovered,
        ))
    }

    /// Queues a job; never blocks.
    ///
    /// The queue is bounded by what callers are permitted to have in flight. Jobs of one caller are
    /// committed in the order of their submission.
    pub fn submit(&self, job: Job) {
        drop(job);
    }

    /// From here on `Failed` and `Reloaded` reach this topic even when it has no job in flight.
    ///
    /// Ordered with [`Storage::submit`]. Attaching again replaces the address.
    pub fn attach(&self, topic: TopicId, announce: Announce) {
        drop((topic, announce));
    }

    /// A reader for cold records.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// The storage's condition, readable at any time.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Commits and announces what is queued, closes the active segment cleanly and ends the
    /// thread; blocks for as long as that takes.
    pub fn close(self) {}
}

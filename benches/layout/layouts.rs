//! The three ways to lay out chunks in a segment, and a segment to try them on.
//!
//! Owns the tables, and how chunks are put and read in each. It measures nothing: that is
//! [`main`](super)'s.

use std::sync::Arc;

use logdrive::storage::backend::{Backend, Witness};
use logdrive::storage::disk::{Disk, DiskFile, RealDisk};
use redb::{Builder, Database, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

/// A chunk's row head; it stands in front of the batches, or in the index.
pub(crate) const HEAD: usize = 64;
pub(crate) const CACHE: usize = 64 << 20;

/// Key: topic, first offset, part.
pub(crate) const CHUNKS: TableDefinition<(u64, u64, u16), &[u8]> = TableDefinition::new("chunks");
/// Key as of `CHUNKS`; the value says where in `LOG` the batches are.
const INDEX: TableDefinition<(u64, u64, u16), (u64, &[u8; HEAD])> = TableDefinition::new("index");
/// Key: a number that only grows, so that every insert is at the right edge.
const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
const STATE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("state");

/// Key of a topic's own table: first offset, part.
fn own_table(name: &str) -> TableDefinition<'_, (u64, u16), &'static [u8]> {
    TableDefinition::new(name)
}

fn own_name(topic: u64) -> String {
    format!("topic-{topic:016x}")
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Layout {
    TablePerTopic,
    OneTable,
    /// One table of row heads, one of batches in the order of writing: what the storage does.
    IndexAndLog,
}

impl Layout {
    pub(crate) const ALL: [Self; 3] = [Self::TablePerTopic, Self::OneTable, Self::IndexAndLog];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TablePerTopic => "table per topic",
            Self::OneTable => "one table",
            Self::IndexAndLog => "index and log",
        }
    }

    /// Writes a chunk of `payload` at `offset` of each topic.
    pub(crate) fn put(
        self,
        change: &WriteTransaction,
        topics: impl Iterator<Item = u64>,
        offset: u64,
        payload: &[u8],
    ) -> anyhow::Result<()> {
        let bytes = HEAD + payload.len();
        match self {
            Self::TablePerTopic => {
                for topic in topics {
                    let name = own_name(topic);
                    let mut table = change.open_table(own_table(&name))?;
                    let mut value = table.insert_reserve((offset, 0), bytes)?;
                    value.as_mut()[HEAD..].copy_from_slice(payload);
                }
            }
            Self::OneTable => {
                let mut table = change.open_table(CHUNKS)?;
                for topic in topics {
                    let mut value = table.insert_reserve((topic, offset, 0), bytes)?;
                    value.as_mut()[HEAD..].copy_from_slice(payload);
                }
            }
            Self::IndexAndLog => {
                let (mut index, mut log) = (change.open_table(INDEX)?, change.open_table(LOG)?);
                let first = log.last()?.map_or(0, |(key, _)| key.value() + 1);
                for (number, topic) in (first..).zip(topics) {
                    index.insert((topic, offset, 0), (number, &[0; HEAD]))?;
                    let mut value = log.insert_reserve(number, payload.len())?;
                    value.as_mut().copy_from_slice(payload);
                }
            }
        }
        Ok(())
    }

    /// Reads all chunks of a topic in order; gives how many there were.
    pub(crate) fn scan(self, snapshot: &ReadTransaction, topic: u64) -> anyhow::Result<u32> {
        let mut chunks = 0;
        match self {
            Self::TablePerTopic => {
                let name = own_name(topic);
                for row in snapshot.open_table(own_table(&name))?.iter()? {
                    std::hint::black_box(row?.1.value());
                    chunks += 1;
                }
            }
            Self::OneTable => {
                let table = snapshot.open_table(CHUNKS)?;
                for row in table.range((topic, 0, 0)..(topic + 1, 0, 0))? {
                    std::hint::black_box(row?.1.value());
                    chunks += 1;
                }
            }
            Self::IndexAndLog => {
                let (index, log) = (snapshot.open_table(INDEX)?, snapshot.open_table(LOG)?);
                for row in index.range((topic, 0, 0)..(topic + 1, 0, 0))? {
                    let batches = log.get(row?.1.value().0)?;
                    std::hint::black_box(batches.as_ref().map(redb::AccessGuard::value));
                    chunks += 1;
                }
            }
        }
        Ok(chunks)
    }
}

/// redb's ways to commit durably.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Commit {
    OnePhase,
    TwoPhase,
    QuickRepair,
}

/// A database on a real disk, and what its back end saw.
pub(crate) struct Segment {
    pub(crate) database: Database,
    pub(crate) witness: Arc<Witness>,
    pub(crate) file: Arc<dyn DiskFile>,
}

impl Segment {
    pub(crate) fn create(disk: &RealDisk, name: &str) -> anyhow::Result<Self> {
        let file = disk.create(name)?;
        let backend = Backend::new(Arc::clone(&file));
        let witness = backend.witness();
        let database = Builder::new()
            .set_cache_size(CACHE)
            .create_with_backend(backend)?;
        Ok(Self {
            database,
            witness,
            file,
        })
    }

    /// A flush as storage makes it: chunks, and one row of state.
    pub(crate) fn flush(
        &self,
        number: u64,
        commit: Commit,
        chunks: impl FnOnce(&WriteTransaction) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut change = self.database.begin_write()?;
        match commit {
            Commit::OnePhase => {}
            Commit::TwoPhase => change.set_two_phase_commit(true),
            Commit::QuickRepair => change.set_quick_repair(true),
        }
        chunks(&change)?;
        change
            .open_table(STATE)?
            .insert(b"flush".as_slice(), number.to_be_bytes().as_slice())?;
        Ok(change.commit()?)
    }
}

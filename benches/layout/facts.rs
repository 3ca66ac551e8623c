//! What storage relies on in redb, tried out.
//!
//! Owns the experiments whose answer is a count or a yes, not a time. Its neighbour:
//! [`layouts`](super::layouts), for a segment to try them on.

use std::collections::BTreeMap;

use bytes::Bytes;
use logdrive::storage::backend::Backend;
use logdrive::storage::disk::{Disk, RealDisk};
use redb::{Builder, OwnedAccessGuard, ReadableDatabase};

use crate::layouts::{CHUNKS, Commit, Layout, Segment};
use crate::{LARGE, TINY};

/// Counts the syncs of single commits under each setting; prints a line for each.
pub(crate) fn syncs_of_a_commit(disk: &RealDisk) -> anyhow::Result<()> {
    println!("## Syncs of one commit (300 commits of one 256-byte chunk and a state row)");
    for commit in [Commit::OnePhase, Commit::TwoPhase, Commit::QuickRepair] {
        let segment = Segment::create(disk, "syncs.redb")?;
        // By how often the file grew in them, and how many syncs they made.
        let mut commits = BTreeMap::<(bool, u64), u32>::new();
        for number in 0..300 {
            let (syncs, len) = (segment.witness.syncs(), segment.file.len()?);
            segment.flush(number, commit, |change| {
                Layout::OneTable.put(change, 0..1, number, &[1; TINY])
            })?;
            let grew = segment.file.len()? != len;
            *commits
                .entry((grew, segment.witness.syncs() - syncs))
                .or_default() += 1;
        }
        for ((grew, syncs), count) in commits {
            let file = if grew {
                "the file grew"
            } else {
                "the file kept its length"
            };
            println!("{commit:?}: {syncs} syncs in {count} commits in which {file}");
        }
        drop(segment);
        disk.unlink("syncs.redb")?;
    }
    Ok(())
}

/// A value of a sealed segment as the owner of the bytes sent from it.
struct Page(OwnedAccessGuard<&'static [u8]>);

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        self.0.value()
    }
}

/// Reads a value from a file opened for reading only, and uses it on another thread when table,
/// transaction and database are gone. Compiles only if redb's guard is `'static + Send + Sync`.
pub(crate) fn sealed_values_are_owned(disk: &RealDisk) -> anyhow::Result<()> {
    let segment = Segment::create(disk, "sealed.redb")?;
    let payload = vec![5; LARGE];
    let chunks = |change: &_| Layout::OneTable.put(change, 0..1, 0, &payload);
    segment.flush(0, Commit::OnePhase, chunks)?;
    segment.database.close()?;

    let backend = Backend::new(disk.open("sealed.redb")?);
    let database = Builder::new().open_read_only_with_backend(backend)?;
    let table = database.begin_read()?.open_table(CHUNKS)?;
    let Some(guard) = table.get_owned((0, 0, 0))? else {
        anyhow::bail!("the chunk is gone")
    };
    let page = Bytes::from_owner(Page(guard));
    drop((table, database));
    let sum = std::thread::spawn(move || page.iter().map(|&byte| u64::from(byte)).sum::<u64>());
    let sum = sum
        .join()
        .map_err(|_| anyhow::anyhow!("the reader panicked"))?;
    anyhow::ensure!(sum == 5 * LARGE as u64, "other bytes came back");
    println!(
        "\n## A sealed segment's value outlives table, transaction and database, on any thread"
    );
    Ok(disk.unlink("sealed.redb")?)
}

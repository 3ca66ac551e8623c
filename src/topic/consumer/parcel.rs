//! A parcel: records of one consumer that went the same way, and which of them are left.
//!
//! ```text
//!   offsets   40 41 42    50 51      runs: 40 x 3, 50 x 2, each with its count of deliveries
//!   rank       0  1  2     3  4      what else is known of a record stands at its rank
//!   left       .  #  #     .  #      ranks that are neither acked nor in another parcel
//! ```
//!
//! Pure. A lease is a parcel; so are records that were given back together, and those that were set
//! aside because their key is busy. What is left is a sparse set of ranks, so that a hundred
//! thousand leased records cost what their offsets cost. Its neighbours:
//! [`Outstanding`](super::outstanding::Outstanding) owns all parcels of a consumer,
//! [`rows`](super::super::rows) says how they are stored.

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use logdrive_protocol::body::Malformed;
use logdrive_protocol::{WorkerId, varint};
use roaring::RoaringBitmap;

use super::super::rows::{ParcelRow, RunRow};
use crate::reply::ConnectionId;
use crate::storage::Totals;

/// Ranks in one stored block of what is left: as many as one container of the set holds, 8 KiB at
/// most.
pub const BLOCK_RANKS: u32 = 1 << 16;

/// What is known of one record of a parcel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its offset.
    pub offset: u64,
    /// Its key, headers and value, in bytes.
    pub bytes: u32,
    /// Stands for its key where the consumer keeps the order of keys; 0 for none.
    pub key: u64,
    /// How often it was delivered before.
    pub deliveries: u32,
}

/// What happens to a parcel's records next; times are microseconds of the topic's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A worker has them.
    Leased(Lease),
    /// They may be delivered from this time on.
    Free {
        /// When.
        due: u64,
    },
    /// They were never given: their keys were busy when they were passed.
    Aside,
    /// They were delivered too often, and are given up from this time on.
    Doomed {
        /// When the next attempt is due.
        due: u64,
    },
}

/// Who has leased records, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who.
    pub worker: WorkerId,
    /// For how long, in microseconds; it runs anew after a restart.
    pub duration: u64,
    /// Until when.
    pub deadline: u64,
    /// The connection on which the worker spoke last; none since a restart.
    pub connection: Option<ConnectionId>,
    /// That connection is gone: unless the worker speaks again, the lease ends now already, and the
    /// delivery does not count.
    pub leaving: Option<u64>,
}

impl Fate {
    /// When it changes by itself.
    pub fn at(&self) -> u64 {
        match self {
            Self::Leased(lease) => lease.leaving.unwrap_or(lease.deadline).min(lease.deadline),
            Self::Free { due } | Self::Doomed { due } => *due,
            Self::Aside => 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    from: u64,
    /// Of its first record.
    rank: u32,
    count: u32,
    deliveries: u32,
}

/// Records that went the same way.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// What happens to them next.
    pub fate: Fate,
    /// Its lease is over, and the disk does not know.
    pub(super) lapsed: bool,
    runs: Vec<Run>,
    bytes: Vec<u32>,
    /// Empty where no record has one.
    keys: Vec<u64>,
    left: RoaringBitmap,
    left_bytes: u64,
}

impl Parcel {
    /// A parcel of these records, all of them left; their offsets ascend.
    pub fn new(entries: &[Entry], fate: Fate) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        for (rank, entry) in (0..).zip(entries) {
            match runs.last_mut() {
                Some(run)
                    if run.from + u64::from(run.count) == entry.offset
                        && run.deliveries == entry.deliveries =>
                {
                    run.count += 1;
                }
                _ => runs.push(Run {
                    from: entry.offset,
                    rank,
                    count: 1,
                    deliveries: entry.deliveries,
                }),
            }
        }
        let keyed = entries.iter().any(|entry| entry.key != 0);
        let keys = entries.iter().filter(|_| keyed).map(|it| it.key).collect();
        Self::full(
            fate,
            runs,
            entries.iter().map(|it| it.bytes).collect(),
            keys,
        )
    }

    fn full(fate: Fate, runs: Vec<Run>, bytes: Vec<u32>, keys: Vec<u64>) -> Self {
        let mut left = RoaringBitmap::new();
        left.insert_range(0..ranks(bytes.len()));
        let left_bytes = bytes.iter().copied().map(u64::from).sum();
        Self {
            fate,
            lapsed: false,
            runs,
            bytes,
            keys,
            left,
            left_bytes,
        }
    }

    /// Records and bytes that are left.
    pub fn totals(&self) -> Totals {
        Totals {
            records: self.left.len(),
            bytes: self.left_bytes,
        }
    }

    /// Records that it ever had.
    pub fn ranks(&self) -> u32 {
        ranks(self.bytes.len())
    }

    /// Whether keys of its records are known.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// The first offset that is left.
    pub fn first(&self) -> Option<u64> {
        self.left.min().map(|rank| self.entry(rank).offset)
    }

    /// From the first offset that it ever had to behind the last.
    pub fn span(&self) -> Range<u64> {
        self.runs.first().map_or(0, |run| run.from)..self.end()
    }

    /// Behind the last offset that it ever had.
    pub fn end(&self) -> u64 {
        let last = self.runs.last();
        last.map_or(0, |run| run.from + u64::from(run.count))
    }

    /// What is left of these offsets, ascending.
    pub fn within(&self, offsets: Range<u64>) -> impl Iterator<Item = Entry> + '_ {
        let ranks = self.rank_of(offsets.start)..self.rank_of(offsets.end);
        self.left.range(ranks).map(|rank| self.entry(rank))
    }

    /// Whether anything is left of these offsets.
    pub fn touches(&self, offsets: Range<u64>) -> bool {
        if offsets.is_empty() {
            return false;
        }
        self.within(offsets).next().is_some()
    }

    /// The record at this offset, if it is left.
    pub fn get(&self, offset: u64) -> Option<Entry> {
        self.within(offset..offset.saturating_add(1)).next()
    }

    /// Takes these offsets out, as far as they are left; what was taken.
    pub fn settle(&mut self, offsets: Range<u64>) -> Vec<Entry> {
        let taken: Vec<Entry> = self.within(offsets.clone()).collect();
        let ranks = self.rank_of(offsets.start)..self.rank_of(offsets.end);
        self.left.remove_range(ranks);
        self.left_bytes -= taken.iter().map(|it| u64::from(it.bytes)).sum::<u64>();
        taken
    }

    /// One more delivery of each record.
    pub fn count_delivery(&mut self) {
        for run in &mut self.runs {
            run.deliveries = run.deliveries.saturating_add(1);
        }
    }

    /// How often the record that was delivered most often was delivered.
    pub fn most_deliveries(&self) -> u32 {
        self.runs
            .iter()
            .map(|run| run.deliveries)
            .max()
            .unwrap_or(0)
    }

    /// How often the record that was delivered least often was delivered.
    pub fn least_deliveries(&self) -> u32 {
        self.runs
            .iter()
            .map(|run| run.deliveries)
            .min()
            .unwrap_or(0)
    }

    /// The first rank whose offset is not below `offset`.
    fn rank_of(&self, offset: u64) -> u32 {
        let index = self.runs.partition_point(|run| run.from <= offset);
        let Some(run) = index.checked_sub(1).and_then(|at| self.runs.get(at)) else {
            return 0;
        };
        let into = u32::try_from(offset - run.from).unwrap_or(u32::MAX);
        run.rank + into.min(run.count)
    }

    fn entry(&self, rank: u32) -> Entry {
        let index = self.runs.partition_point(|run| run.rank <= rank);
        let run = index.checked_sub(1).and_then(|at| self.runs.get(at));
        let at = rank as usize;
        Entry {
            offset: run.map_or(0, |run| run.from + u64::from(rank - run.rank)),
            bytes: self.bytes.get(at).copied().unwrap_or_default(),
            key: self.keys.get(at).copied().unwrap_or_default(),
            deliveries: run.map_or(0, |run| run.deliveries),
        }
    }

    /// The row of what it held at first: written once.
    pub fn row(&self) -> ParcelRow {
        let runs = self.runs.iter().map(|run| RunRow {
            from: run.from,
            count: run.count,
            deliveries: run.deliveries,
        });
        let mut bytes = BytesMut::with_capacity(self.bytes.len() * 2);
        for size in &self.bytes {
            varint::put(&mut bytes, u64::from(*size));
        }
        let mut keys = BytesMut::with_capacity(self.keys.len() * 8);
        for key in &self.keys {
            keys.put_u64(*key);
        }
        ParcelRow {
            runs: runs.collect(),
            bytes: bytes.freeze(),
            keys: keys.freeze(),
        }
    }

    /// Takes up a stored parcel; everything is left until [`Parcel::load_block`] says otherwise.
    ///
    /// # Errors
    /// The row contradicts itself.
    pub fn load(row: &ParcelRow, fate: Fate) -> Result<Self, Malformed> {
        let broken = |fault| Malformed {
            field: "parcel",
            fault,
        };
        let mut runs = Vec::with_capacity(row.runs.len());
        let mut rank = 0_u32;
        for stored in &row.runs {
            runs.push(Run {
                from: stored.from,
                rank,
                count: stored.count,
                deliveries: stored.deliveries,
            });
            rank = rank
                .checked_add(stored.count)
                .ok_or_else(|| broken("has too many records"))?;
        }
        let mut bytes = Vec::new();
        let mut rest = &row.bytes[..];
        while !rest.is_empty() {
            let size = varint::take(&mut rest).and_then(|size| u32::try_from(size).ok());
            bytes.push(size.ok_or_else(|| broken("has a size that is none"))?);
        }
        let keys: Vec<u64> = row
            .keys
            .chunks_exact(8)
            .map(|key| key.try_into().map_or(0, u64::from_be_bytes))
            .collect();
        let keyed = keys.is_empty() || keys.len() == bytes.len();
        if ranks(bytes.len()) != rank || !keyed {
            return Err(broken("does not know each of its records"));
        }
        Ok(Self::full(fate, runs, bytes, keys))
    }

    /// The blocks of what is left that hold these offsets, each with its number and bytes.
    pub fn blocks(&self, offsets: &Range<u64>) -> Vec<(u16, Vec<u8>)> {
        let first = self.rank_of(offsets.start) / BLOCK_RANKS;
        let last = self.rank_of(offsets.end).saturating_sub(1) / BLOCK_RANKS;
        (first..=last).map(|block| self.block(block)).collect()
    }

    fn block(&self, block: u32) -> (u16, Vec<u8>) {
        let mut bits = if self.bytes.len() <= BLOCK_RANKS as usize {
            self.left.clone()
        } else {
            let mut bits = RoaringBitmap::new();
            let begin = block * BLOCK_RANKS;
            bits.insert_range(begin..begin.saturating_add(BLOCK_RANKS));
            bits & &self.left
        };
        // Records are acked in runs, mostly.
        bits.optimize();
        let mut stored = Vec::with_capacity(bits.serialized_size());
        // Writing into memory cannot fail.
        drop(bits.serialize_into(&mut stored));
        (u16::try_from(block).unwrap_or(u16::MAX), stored)
    }

    /// Takes up one stored block of what is left.
    ///
    /// # Errors
    /// The block is none, or holds ranks that the parcel has not.
    pub fn load_block(&mut self, block: u16, stored: &[u8]) -> Result<(), Malformed> {
        let broken = |fault| Malformed {
            field: "left",
            fault,
        };
        let bits = RoaringBitmap::deserialize_from(stored).map_err(|_| broken("is no set"))?;
        let begin = u32::from(block) * BLOCK_RANKS;
        let end = begin.saturating_add(BLOCK_RANKS);
        let fits = |rank: u32| (begin..end).contains(&rank) && (rank as usize) < self.bytes.len();
        if !bits.min().is_none_or(fits) || !bits.max().is_none_or(fits) {
            return Err(broken("is of another block"));
        }
        self.left.remove_range(begin..end);
        self.left |= bits;
        let sizes = self
            .left
            .iter()
            .map(|rank| u64::from(self.bytes[rank as usize]));
        self.left_bytes = sizes.sum();
        Ok(())
    }
}

fn ranks(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Parcel {
        let entry = |offset: u64| Entry {
            offset,
            bytes: u32::try_from(offset).unwrap(),
            key: 0,
            deliveries: u32::from(offset >= 50),
        };
        let entries: Vec<_> = [40, 41, 42, 50, 51].map(entry).into();
        Parcel::new(&entries, Fate::Free { due: 0 })
    }

    fn shown(parcel: &Parcel) -> String {
        let left: Vec<_> = parcel
            .within(0..u64::MAX)
            .map(|it| format!("{}*{}", it.offset, it.deliveries))
            .collect();
        let totals = parcel.totals();
        assert_eq!(totals.records, left.len() as u64);
        format!("{} = {} bytes", left.join(" "), totals.bytes)
    }

    #[test]
    fn what_is_settled_is_taken_out_and_the_rest_keeps_its_sums() {
        let mut parcel = sample();
        assert_eq!(shown(&parcel), "40*0 41*0 42*0 50*1 51*1 = 224 bytes");
        assert_eq!(parcel.settle(41..51).len(), 3);
        assert_eq!(shown(&parcel), "40*0 51*1 = 91 bytes");
        assert_eq!(parcel.settle(0..41).len(), 1);
        assert_eq!(parcel.settle(0..41).len(), 0);
        assert_eq!((parcel.first(), parcel.end()), (Some(51), 52));
        parcel.count_delivery();
        assert_eq!(parcel.most_deliveries(), 2);
        parcel.settle(0..u64::MAX);
        assert!(parcel.is_empty());
    }

    #[test]
    fn a_stored_parcel_is_the_same_parcel() {
        let mut parcel = sample();
        parcel.settle(42..51);
        let mut loaded = Parcel::load(&parcel.row(), parcel.fate).unwrap();
        for (block, stored) in parcel.blocks(&(42..51)) {
            loaded.load_block(block, &stored).unwrap();
        }
        assert_eq!(shown(&loaded), shown(&parcel));
        assert_eq!(loaded.row(), parcel.row());
        assert!(
            loaded
                .load_block(1, &parcel.blocks(&(40..41))[0].1)
                .is_err()
        );
        assert!(loaded.load_block(0, b"nonsense").is_err());
    }

    #[test]
    fn a_hundred_thousand_records_acked_one_by_one_rewrite_eight_kibibytes_at_most() {
        let entries: Vec<_> = (0..100_000)
            .map(|offset| Entry {
                offset,
                bytes: 100,
                ..Entry::default()
            })
            .collect();
        let mut parcel = Parcel::new(&entries, Fate::Free { due: 0 });
        // Every second one: the worst there is for runs.
        for offset in (0..100_000).step_by(2) {
            parcel.settle(offset..offset + 1);
        }
        for (_, stored) in parcel.blocks(&(0..100_000)) {
            assert!(stored.len() <= 8 * 1024 + 32, "{}", stored.len());
        }
        let stored = parcel.row();
        assert!(stored.bytes.len() <= 100_000 && stored.runs.len() == 1);
        assert_eq!(parcel.totals().records, 50_000);
    }
}

//! Carrying the state from a full segment into its successor.
//!
//! Owns which rows go along and which sealed segments are still named. It never commits: the
//! waiting flush joins the same transaction. Its neighbour: the [writer](super::writer).

use std::collections::BTreeSet;
use std::ops::Bound;

use redb::{ReadableTable, WriteTransaction};

use super::flush::{Tally, put};
use super::layout::{self, Contents, Extent, OwnRow, STATE};
use super::segment::{Segment, SegmentError, guarded};

/// Copies all state of `old` into `txn`, checked row by row, and names what its extents name.
///
/// Answers the numbers of catalogued segments that no extent refers to any more.
pub(super) fn carry_state(
    old: &Segment,
    tally: &Tally,
    txn: &WriteTransaction,
) -> Result<Vec<u64>, SegmentError> {
    let from = old.begin_read()?;
    let mut to = txn.open_table(STATE)?;
    // In key order through one cursor: packed leaves, and half the time of single inserts.
    let mut end = to.upper_bound_mut(Bound::<&[u8]>::Unbounded)?;
    let mut named = BTreeSet::new();
    let mut catalogue = Vec::new();
    for row in from.open_table(STATE)?.iter()? {
        let (key, stored) = row?;
        let (key, stored) = (key.value(), stored.value());
        let value = layout::unseal(key, stored)?;
        match layout::own_row(key) {
            // The flush that joins writes its own.
            Some(OwnRow::Flush) => continue,
            Some(OwnRow::Catalogue { segment }) => {
                catalogue.push((segment, value.to_vec()));
                continue;
            }
            Some(OwnRow::Extent) => drop(named.insert(Extent::decode(key, stored)?.segment)),
            Some(OwnRow::Other) | None => {}
        }
        end.insert_before(key, stored)?;
    }
    end.close()?;
    catalogue.push((old.number, tally.contents.encode()));
    let mut dead = Vec::new();
    for (segment, contents) in catalogue {
        if named.contains(&segment) {
            put(&mut to, &Contents::key(segment), &contents)?;
        } else {
            dead.push(segment);
        }
    }
    Ok(dead)
}

/// The numbers of catalogued segments that no extent refers to, as committed in `active`.
///
/// Their catalogue rows stay until the next rotation; nothing is read through them.
pub(super) fn unreferenced(active: &Segment) -> Result<Vec<u64>, SegmentError> {
    guarded(|| {
        let txn = active.begin_read()?;
        let (mut named, mut catalogued) = (BTreeSet::new(), BTreeSet::new());
        for row in txn.open_table(STATE)?.iter()? {
            let (key, stored) = row?;
            match layout::own_row(key.value()) {
                Some(OwnRow::Catalogue { segment }) => drop(catalogued.insert(segment)),
                Some(OwnRow::Extent) => {
                    named.insert(Extent::decode(key.value(), stored.value())?.segment);
                }
                _ => {}
            }
        }
        Ok(catalogued.difference(&named).copied().collect())
    })
}

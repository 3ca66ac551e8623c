//! Carrying the state from a full segment into its successor.
//!
//! Owns which rows go along and which sealed segments are still named. It never commits: the
//! waiting flush joins the same transaction. Its neighbour: the [writer](super::writer).

use std::ops::Bound;

use redb::{ReadableTable, WriteTransaction};

use super::flush::put;
use super::layout::{self, Contents, Extent, OwnRow, SEAL_BYTES, STATE};
use super::segment::{Segment, SegmentError};
use super::tally::Tally;

/// Copies all state of `old` into `txn`, checked row by row, and names what its extents name.
///
/// Answers what segment `number` begins with, and the numbers of catalogued segments that no extent
/// refers to any more.
pub(super) fn carry_state(
    old: &Segment,
    tally: &Tally,
    number: u64,
    txn: &WriteTransaction,
) -> Result<(Tally, Vec<u64>), SegmentError> {
    let from = old.begin_read()?;
    let mut to = txn.open_table(STATE)?;
    // In key order through one cursor: packed leaves, and half the time of single inserts.
    let mut end = to.upper_bound_mut(Bound::<&[u8]>::Unbounded)?;
    let mut fresh = Tally {
        segment: number,
        flushes: tally.flushes,
        ..Tally::default()
    };
    let contents = Contents {
        birth: old.birth,
        ..tally.contents
    };
    let mut catalogue = vec![(old.number, contents)];
    for row in from.open_table(STATE)?.iter()? {
        let (key, stored) = row?;
        let (key, stored) = (key.value(), stored.value());
        let value = layout::unseal(key, stored)?;
        match layout::own_row(key) {
            // The flush that joins writes its own.
            Some(OwnRow::Flush) => continue,
            Some(OwnRow::Catalogue { segment }) => {
                catalogue.push((segment, Contents::decode(value)));
                continue;
            }
            Some(OwnRow::Extent) => {
                let mut extent = Extent::decode(key, stored)?;
                if extent.segment == old.number {
                    let topic = layout::parse_state_key(key).map(|(topic, _)| topic);
                    extent.payload = topic.and_then(|it| tally.present.get(&it).copied());
                    let value = extent.encode();
                    let mut sealed = vec![0; value.len() + SEAL_BYTES];
                    layout::seal(key, &value, &mut sealed);
                    end.insert_before(key, &sealed[..])?;
                    fresh.name(&extent);
                    continue;
                }
                fresh.name(&extent);
            }
            Some(OwnRow::Other) | None => {}
        }
        end.insert_before(key, stored)?;
    }
    end.close()?;
    let mut dead = Vec::new();
    for (segment, contents) in catalogue {
        match fresh.sealed.get_mut(&segment) {
            Some(share) => {
                share.contents = contents;
                put(&mut to, &Contents::key(segment), &contents.encode())?;
            }
            None => dead.push(segment),
        }
    }
    Ok((fresh, dead))
}

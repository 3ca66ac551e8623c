//! The rule for the order of keys: records of one key are lent in order, to one worker at a time.
//!
//! Decides `KeyOrder`; fed by [`leasing`](super::leasing) with one record after the other, in the
//! order in which they were lent. Never does I/O.

use std::collections::{BTreeMap, HashMap};

use super::leasing::Lot;
use super::report::{Fault, Report};
use super::spans::Span;
use super::topic::Of;

/// What was lent of each key.
#[derive(Default)]
pub(super) struct Keys(HashMap<u64, Key>);

#[derive(Default)]
struct Key {
    /// Records that may not be settled: offset and row.
    open: BTreeMap<u64, usize>,
    /// The highest offset that was lent.
    highest: u64,
}

impl Keys {
    /// A record of a key is lent by a lease; reports what should have kept it from being so.
    pub(super) fn lend(
        &mut self,
        (at, row, key): (usize, usize, u64),
        (spans, lots): (&[Span], &[Lot]),
        of: &Of<'_>,
        report: &mut Report,
    ) {
        let key = self.0.entry(key).or_default();
        let span = &spans[at];
        let offset = of.table.rows[row].offset;
        let is_settled = |row: usize| {
            let lot = &lots[row];
            let is_acked = lot.last < at && lot.tried.is_some_and(|sent| sent <= span.before);
            is_acked || lot.letters > 0 || of.gaps.tell_of(of.table.rows[row].offset)
        };
        key.open.retain(|_, row| !is_settled(*row));
        let in_the_way = key.open.range(..offset).find(|(_, row)| {
            // Lent together, or to a worker that had the key anyway.
            let held = lots[**row].span.map(|held| &spans[held]);
            held.is_none_or(|held| held.number != span.number && held.worker != span.worker)
        });
        let (number, consumer) = (span.number, of.consumer);
        if let Some((earlier, _)) = in_the_way {
            report.add(Fault::KeyOrder, of.topic, || {
                format!(
                    "offset {offset}: lent to {consumer} by lease {number} while {earlier} of the \
                     same key is not settled"
                )
            });
        } else if lots[row].span.is_none() && offset < key.highest {
            let highest = key.highest;
            report.add(Fault::KeyOrder, of.topic, || {
                format!("offset {offset}: lent to {consumer} after {highest} of the same key")
            });
        }
        key.highest = key.highest.max(offset);
        key.open.insert(offset, row);
    }
}

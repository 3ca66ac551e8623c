//! The rules for gaps: told once, of what is not there, and of as many records as were there.
//!
//! Never does I/O. That a gap was *not* told shows as records that were skipped, in
//! [`readers`](super::readers) and [`leasing`](super::leasing), which ask here what was told.

use super::leases::Told;
use super::report::{Fault, Report};
use super::table::{Row, Table};

/// What one consumer was told, ascending.
pub(super) struct Gaps(Vec<Told>);

impl Gaps {
    pub(super) fn of(told: &[Told]) -> Self {
        let mut told = told.to_vec();
        told.sort_unstable();
        Self(told)
    }

    /// Whether the consumer was told of this offset.
    pub(super) fn tell_of(&self, offset: u64) -> bool {
        let after = self.0.partition_point(|gap| gap.from <= offset);
        // One that was told twice may end later; it is reported as such.
        after > 0 && self.0[after - 1].to > offset
    }

    /// After the last offset that the consumer was told of.
    pub(super) fn end(&self) -> u64 {
        self.0.iter().map(|gap| gap.to).max().unwrap_or(0)
    }

    pub(super) fn check(&self, topic: &str, table: &Table, consumer: &str, report: &mut Report) {
        for pair in self.0.windows(2).filter(|pair| pair[1].from < pair[0].to) {
            report.add(Fault::GapWrong, topic, || {
                format!("offset {}: told as a gap to {consumer} twice", pair[1].from)
            });
        }
        for gap in &self.0 {
            report.gaps += 1;
            let from = table.rows.partition_point(|row| row.offset < gap.from);
            let to = table.rows.partition_point(|row| row.offset < gap.to);
            let rows = table.rows.get(from..to).unwrap_or_default();
            if let Some(row) = rows.iter().find(|row| row.kept) {
                report.add(Fault::GapWrong, topic, || {
                    let offset = row.offset;
                    format!("offset {offset}: told as a gap to {consumer}, but it is there")
                });
                continue;
            }
            let known = rows.len() as u64;
            let fits = (known..=gap.to.saturating_sub(gap.from)).contains(&gap.records);
            if !fits || gap.records == 0 {
                let Told { from, to, records } = gap;
                report.add(Fault::GapWrong, topic, || {
                    format!(
                        "gap {from}..{to} of {consumer}: {records} records, {known} are known of"
                    )
                });
            }
        }
    }
}

/// Whether somebody who reads everything must have seen the record or heard of its removal.
pub(super) fn is_expected(row: &Row) -> bool {
    row.kept || row.removed
}

//! The rules for what consumers and fetchers of one topic were given.
//!
//! Decides Skipped, Repeated, `SizeWrong` and the order of deliveries, from offsets alone: what an
//! offset holds is judged by [`topic`](super::topic). Never does I/O.

use std::ops::RangeInclusive;

use super::gaps::is_expected;
use super::recorder::{Consumer, Deliveries};
use super::report::{Fault, Report};
use super::table::{Row, Table};
use super::topic::Of;

/// A consumer without leases: each offset exactly once over all its workers or told as a gap,
/// upwards for each worker, and a size that counts what is left.
pub(super) fn check_consumer(of: &Of<'_>, notes: &Consumer, report: &mut Report) {
    let &Of {
        topic,
        table,
        consumer,
        gaps,
    } = of;
    let deliveries = &notes.deliveries;
    let mut given = vec![0_u8; table.rows.len()];
    let mut finder = table.finder();
    for read in deliveries.reads() {
        report.consumed += 1;
        let Some(row) = finder.find(read.offset) else {
            continue;
        };
        given[row] = given[row].saturating_add(1);
        if given[row] > 1 {
            report.add(Fault::Repeated, topic, || {
                format!("offset {}: given to {consumer} again", read.offset)
            });
        } else if gaps.tell_of(read.offset) {
            report.add(Fault::GapWrong, topic, || {
                let offset = read.offset;
                format!("offset {offset}: told as a gap to {consumer}, and given to it")
            });
        }
    }

    let end = end_of(of, |row| given[row] > 0);
    for (row, times) in table.rows.iter().zip(&given).take(end) {
        if *times == 0 && is_expected(row) && !gaps.tell_of(row.offset) {
            skipped(of, row, report);
        }
    }

    check_order(topic, table, consumer, deliveries, &given, report);

    let left = table.rows[end..].iter().filter(|row| row.kept).count() as u64;
    check_sizes(of, &notes.sizes, left..=left, report);
}

/// After the last row that the consumer was given or told of. What the final read does not hold
/// before that is lost, not skipped.
pub(super) fn end_of(of: &Of<'_>, is_given: impl Fn(usize) -> bool) -> usize {
    let rows = &of.table.rows;
    let given = (0..rows.len()).rev().find(|&row| is_given(row));
    let told = of.gaps.end();
    let told = rows.partition_point(|row| row.offset < told);
    given.map_or(0, |last| last + 1).max(told)
}

pub(super) fn skipped(of: &Of<'_>, row: &Row, report: &mut Report) {
    report.add(Fault::Skipped, of.topic, || {
        let (offset, consumer) = (row.offset, of.consumer);
        if row.kept {
            format!("offset {offset}: never given to {consumer}")
        } else {
            format!("offset {offset}: neither given to {consumer} nor told as a gap")
        }
    });
}

pub(super) fn check_sizes(
    of: &Of<'_>,
    sizes: &[u64],
    left: RangeInclusive<u64>,
    report: &mut Report,
) {
    for &size in sizes {
        report.sizes += 1;
        report.sizes_not_zero += u64::from(size != 0);
        if !left.contains(&size) {
            let (least, most) = (left.start(), left.end());
            report.add(Fault::SizeWrong, of.topic, || {
                let left = if least == most {
                    least.to_string()
                } else {
                    format!("{least} to {most}")
                };
                format!("size of {}: {size}, with {left} records left", of.consumer)
            });
        }
    }
}

/// The cursor only moves ahead, so a worker's offsets increase within and across its answers.
/// Offsets given more than once are left out: they are reported as such.
fn check_order(
    topic: &str,
    table: &Table,
    consumer: &str,
    deliveries: &Deliveries,
    given: &[u8],
    report: &mut Report,
) {
    let mut finder = table.finder();
    let mut before = None;
    for (worker, reads) in deliveries.answers() {
        for read in reads {
            if finder.find(read.offset).is_none_or(|row| given[row] > 1) {
                continue;
            }
            if let Some((same, offset)) = before.replace((worker, read.offset))
                && same == worker
                && offset > read.offset
            {
                report.add(Fault::OutOfOrder, topic, || {
                    format!("offset {}: given to {consumer} after {offset}", read.offset)
                });
            }
        }
    }
}

/// Fetches may begin anywhere and overlap; an answer holds each offset from its lowest to its
/// highest, once, upwards.
pub(super) fn check_fetches(topic: &str, table: &Table, fetches: &Deliveries, report: &mut Report) {
    let mut finder = table.finder();
    let mut offsets = Vec::new();
    for (_, reads) in fetches.answers() {
        report.fetched += reads.len() as u64;
        offsets.clear();
        offsets.extend(reads.iter().map(|read| read.offset));
        offsets.sort_unstable();
        let mut repeated = false;
        for pair in offsets.windows(2) {
            if pair[0] == pair[1] {
                repeated = true;
                report.add(Fault::Repeated, topic, || {
                    format!("offset {}: twice in the answer to a fetch", pair[0])
                });
            } else if let (Some(from), Some(to)) = (finder.find(pair[0]), finder.find(pair[1])) {
                for row in table.rows[from + 1..to].iter().filter(|row| row.kept) {
                    report.add(Fault::Skipped, topic, || {
                        format!("offset {}: left out of the answer to a fetch", row.offset)
                    });
                }
            }
        }
        // Where offsets repeat, steps back are that fault and not another.
        for pair in reads
            .windows(2)
            .filter(|pair| !repeated && pair[1].offset < pair[0].offset)
        {
            report.add(Fault::OutOfOrder, topic, || {
                let [after, offset] = [pair[0].offset, pair[1].offset];
                format!("offset {offset}: in the answer to a fetch after {after}")
            });
        }
    }
}

//! What every offset of one topic holds, according to all who read it.
//!
//! Owns the rows, ascending by offset, and the reads that contradict them. Judges nothing; filled
//! from the notes of [`recorder`](super::recorder), asked by [`topic`](super::topic) and
//! [`readers`](super::readers).

use super::recorder::Read;

/// One offset.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) offset: u64,
    pub(super) fingerprint: u64,
    /// Index of the record among the sends; `None`: nobody sent it.
    pub(super) record: Option<u32>,
    /// Whether the final read holds this offset; else only a delivery or an acknowledgement did.
    pub(super) kept: bool,
    /// Whether it was removed before the final read.
    pub(super) removed: bool,
}

/// All offsets that anybody read.
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
    /// Reads that differ from their offset's row, ascending, each once.
    pub(super) contradictions: Vec<Read>,
}

impl Table {
    /// The final read's word stands in the row; what others read in addition gets rows of its own.
    /// What is before `log_start` need not be in the final read.
    pub(super) fn new<'a>(
        last: Vec<Read>,
        log_start: u64,
        deliveries: impl IntoIterator<Item = &'a [Read]>,
    ) -> Self {
        let mut table = Self {
            rows: Vec::with_capacity(last.len()),
            contradictions: Vec::new(),
        };
        table.append(last, true);
        let (mut additional, mut contradictions) = (Vec::new(), Vec::new());
        for reads in deliveries {
            let mut finder = table.finder();
            for &read in reads {
                match finder.find(read.offset) {
                    None => additional.push(read),
                    Some(row) if table.rows[row].fingerprint != read.fingerprint => {
                        contradictions.push(read);
                    }
                    Some(_) => {}
                }
            }
        }
        table.contradictions.append(&mut contradictions);
        table.append(additional, false);
        table.rows.sort_by_key(|row| row.offset);
        for row in table.rows.iter_mut().filter(|row| !row.kept) {
            row.removed = row.offset < log_start;
        }
        table.contradictions.sort_unstable();
        table.contradictions.dedup();
        table
    }

    /// Looks rows up by offset, fastest when asked upwards.
    pub(super) fn finder(&self) -> Finder<'_> {
        Finder {
            rows: &self.rows,
            next: 0,
        }
    }

    /// Adds reads of offsets that have no row yet.
    fn append(&mut self, mut reads: Vec<Read>, kept: bool) {
        reads.sort_unstable();
        reads.dedup();
        for same in reads.chunk_by(|a, b| a.offset == b.offset) {
            let Read {
                offset,
                fingerprint,
            } = same[0];
            self.rows.push(Row {
                offset,
                fingerprint,
                record: None,
                kept,
                removed: false,
            });
            self.contradictions.extend_from_slice(&same[1..]);
        }
    }
}

/// A place in the table from which the next look-up starts.
pub(super) struct Finder<'a> {
    rows: &'a [Row],
    next: usize,
}

impl Finder<'_> {
    /// The index of the offset's row.
    pub(super) fn find(&mut self, offset: u64) -> Option<usize> {
        let index = match self.rows.get(self.next) {
            Some(row) if row.offset == offset => self.next,
            _ => self
                .rows
                .binary_search_by_key(&offset, |row| row.offset)
                .ok()?,
        };
        self.next = index + 1;
        Some(index)
    }
}

//! Dead letters that stand for records which retention has taken since they were given up.
//!
//! Pure. There are as many as were requeued and are not acked. Its neighbour: the
//! [consumer](super) owns it.

use std::collections::BTreeMap;
use std::ops::Range;

use logdrive_protocol::{ConsumerId, TopicId};

use super::super::rows::{self, CopyRow};
use crate::storage::Row;

/// The dead letters of one consumer that stand for records, by the offsets of those.
#[derive(Clone, Debug, Default)]
pub struct Copies(BTreeMap<u64, CopyRow>);

impl Copies {
    /// Takes up a stored one.
    pub fn load(&mut self, offset: u64, row: CopyRow) {
        self.0.insert(offset, row);
    }

    /// From here on this dead letter stands for the record.
    pub fn add(&mut self, topic: TopicId, consumer: ConsumerId, offset: u64, at: CopyRow) -> Row {
        let row = rows::copy(topic, consumer, offset, &at);
        self.0.insert(offset, at);
        row
    }

    /// Where the dead letter of a record is.
    pub fn get(&self, offset: u64) -> Option<&CopyRow> {
        self.0.get(&offset)
    }

    /// The record needs none any more.
    pub fn remove(&mut self, topic: TopicId, consumer: ConsumerId, offset: u64) -> Option<Row> {
        let known = self.0.remove(&offset);
        known.map(|_| rows::forget_copy(topic, consumer, offset))
    }

    /// Forgets all; the rows that do so on disk.
    pub fn clear(&mut self, topic: TopicId, consumer: ConsumerId) -> Vec<Row> {
        let offsets = std::mem::take(&mut self.0).into_keys();
        offsets
            .map(|offset| rows::forget_copy(topic, consumer, offset))
            .collect()
    }

    /// The offsets before `end` that have none.
    pub fn others_before(&self, end: u64) -> Vec<Range<u64>> {
        let mut from = 0;
        let mut ranges = Vec::new();
        for offset in self.0.range(..end).map(|(offset, _)| *offset) {
            ranges.push(from..offset);
            from = offset + 1;
        }
        ranges.push(from..end);
        ranges.retain(|range| !range.is_empty());
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_copy_is_left_out_of_what_is_lost() {
        let mut copies = Copies::default();
        assert_eq!(copies.others_before(9).len(), 1);
        for offset in [0, 4, 5, 20] {
            copies.load(offset, CopyRow::default());
        }
        assert_eq!(copies.others_before(9), [1..4, 6..9]);
        assert!(copies.remove(TopicId(1), ConsumerId(2), 4).is_some());
        assert!(copies.remove(TopicId(1), ConsumerId(2), 4).is_none());
        assert_eq!(copies.others_before(1), []);
        assert_eq!(copies.clear(TopicId(1), ConsumerId(2)).len(), 3);
    }
}

//! The order of keys: whose turn it is.
//!
//! ```text
//!   key A: leased 7, 9     waiting 12, 15     A is busy: nothing of it is given
//!   key B: leased -        waiting 11, 13     11 is B's turn, and after it 13, to the same worker
//! ```
//!
//! Pure. A record waits if it was given back, or set aside because its key was busy. Records
//! without a key are not known here. Its neighbour:
//! [`Outstanding`](super::outstanding::Outstanding).

use std::collections::{BTreeMap, HashMap};

use super::parcel::Entry;

/// Which keys are leased, and which records wait for them.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    by_key: HashMap<u64, Key>,
    /// The first waiting record of each key that nobody has, and the parcel that holds it.
    turns: BTreeMap<u64, u64>,
}

#[derive(Clone, Debug, Default)]
struct Key {
    leased: u32,
    /// By offset, with the parcels that hold them.
    waiting: BTreeMap<u64, u64>,
}

impl Key {
    fn turn(&self) -> Option<(u64, u64)> {
        let first = self.waiting.first_key_value();
        first
            .filter(|_| self.leased == 0)
            .map(|(offset, parcel)| (*offset, *parcel))
    }
}

impl Keys {
    /// A record has come under a lease.
    pub fn lease(&mut self, entry: Entry) {
        self.change(entry, |key| key.leased += 1);
    }

    /// A leased record was acked or given back.
    pub fn unlease(&mut self, entry: Entry) {
        self.change(entry, |key| key.leased = key.leased.saturating_sub(1));
    }

    /// A record waits in a parcel.
    pub fn wait(&mut self, entry: Entry, parcel: u64) {
        self.change(entry, |key| {
            key.waiting.insert(entry.offset, parcel);
        });
    }

    /// A record waits no more.
    pub fn unwait(&mut self, entry: Entry) {
        self.change(entry, |key| {
            key.waiting.remove(&entry.offset);
        });
    }

    fn change(&mut self, entry: Entry, change: impl FnOnce(&mut Key)) {
        if entry.key == 0 {
            return;
        }
        let key = self.by_key.entry(entry.key).or_default();
        let before = key.turn();
        change(key);
        let after = key.turn();
        if key.leased == 0 && key.waiting.is_empty() {
            self.by_key.remove(&entry.key);
        }
        if before != after {
            if let Some((offset, _)) = before {
                self.turns.remove(&offset);
            }
            self.turns.extend(after);
        }
    }

    /// Whether a record that comes after all that is known of its key may be given now.
    pub fn is_free(&self, key: u64) -> bool {
        key == 0 || !self.by_key.contains_key(&key)
    }

    /// Records whose turn it is, with their parcels, in the order of their offsets.
    pub fn turns(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.turns.iter().map(|(offset, parcel)| (*offset, *parcel))
    }

    /// The record that waits behind `offset` for the same key, with its parcel.
    pub fn next_of(&self, key: u64, offset: u64) -> Option<(u64, u64)> {
        let waiting = &self.by_key.get(&key)?.waiting;
        let next = waiting.range(offset.saturating_add(1)..).next();
        next.map(|(offset, parcel)| (*offset, *parcel))
    }
}

/// What stands for a key in memory and on disk: FNV-1a of 64 bits, which never changes. Two keys of
/// the same number wait for each other without need, and nothing else.
pub fn number_of(key: Option<&[u8]>) -> u64 {
    let Some(key) = key else { return 0 };
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // 0 is no key.
    hash.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(offset: u64, key: &str) -> Entry {
        Entry {
            offset,
            key: number_of(Some(key.as_bytes())),
            ..Entry::default()
        }
    }

    fn turns(keys: &Keys) -> Vec<(u64, u64)> {
        keys.turns().collect()
    }

    #[test]
    fn a_key_that_is_leased_holds_back_its_own_records_alone() {
        let mut keys = Keys::default();
        keys.lease(entry(7, "a"));
        keys.wait(entry(12, "a"), 1);
        keys.wait(entry(13, "b"), 1);
        keys.wait(entry(11, "b"), 2);
        assert_eq!(turns(&keys), [(11, 2)]);
        assert_eq!(keys.next_of(entry(11, "b").key, 11), Some((13, 1)));
        keys.unlease(entry(7, "a"));
        assert_eq!(turns(&keys), [(11, 2), (12, 1)]);
        keys.unwait(entry(12, "a"));
        assert!(keys.is_free(entry(0, "a").key) && !keys.is_free(entry(0, "b").key));
        keys.unwait(entry(11, "b"));
        keys.unwait(entry(13, "b"));
        assert!(turns(&keys).is_empty() && keys.is_free(entry(0, "b").key));
    }

    #[test]
    fn numbers_of_keys_are_for_ever() {
        assert_eq!(number_of(None), 0);
        assert_eq!(number_of(Some(b"")), 0xcbf2_9ce4_8422_2325);
        assert_eq!(number_of(Some(b"a")), 0xaf63_dc4c_8601_ec8c);
    }
}

//! redb's own checksums of single tables (file format 3 of redb), where it compares all or none.
//!
//! Every page's checksum stands where the page is named: in the branch above it, in the list of
//! tables, in the commit slot. redb compares them when it repairs a file, and refuses the whole
//! database for one bit of one record. Here the tables that must be whole are compared, and the
//! others are left to whoever reads them.
//!
//! ```text
//!   commit slot --> list of tables --> a table's root --> branches --> leaves
//!
//!   branch   2 | 0 | keys u16 | 0 (4) | sum u128 x (keys + 1) | page u64 x (keys + 1) | key ends u32 | keys
//!   leaf     1 | 0 | pairs u16 | key ends u32 | value ends u32 | keys | values
//!   root     page u64 | sum u128 | length u64
//!   page     order 5 bits | 0 | region 20 bits | index 20 bits, in pages of that order
//! ```
//!
//! All numbers are little-endian, and ends count from the page's beginning. Keys and values are those
//! of tables without fixed widths. A sum covers its page up to the end of the last key or value.
//!
//! Owns the walk; never changes a view, and allocates no more than a page for each level. Its neighbours: the
//! [header](super::header) knows the slots, the [segment](super::segment) asks.

use redb::StorageBackend;
use twox_hash::XxHash3_128;

use super::header::{self, Geometry};
use super::overlay::Overlay;
use super::segment::SegmentError;

const LEAF: u8 = 1;
const BRANCH: u8 = 2;
/// redb's own limit: no tree is higher.
const MAX_DEPTH: usize = 128;
/// Larger pages, of 16 MiB, hold no list of tables and no state: rows of these are far smaller.
const MAX_ORDER: u8 = 12;

/// Whether the tables of these names are whole in a view's last commit.
///
/// # Errors
/// What is not: a table is not there, or a page is not what was written.
pub(super) fn check(view: &Overlay, names: &[&str]) -> Result<(), SegmentError> {
    let (geometry, slot) = header::last_commit(view)?;
    let mut walk = Walk { view, geometry };
    let mut roots = Vec::new();
    if let Some(tables) = slot {
        walk.tree(Root::decode(&tables)?, 0, &mut |name, definition| {
            if names.iter().any(|it| it.as_bytes() == name) {
                roots.push(definition.get(DEFINITION_ROOT..).map(<[u8]>::to_vec));
            }
        })?;
    }
    if roots.len() != names.len() {
        return Err(damaged("a table is missing"));
    }
    for root in roots {
        match root.as_deref().and_then(<[u8]>::split_first) {
            Some((0, _)) => {}
            Some((_, root)) => walk.tree(Root::decode(root)?, 0, &mut |_, _| ())?,
            None => return Err(damaged("a table's root is missing")),
        }
    }
    Ok(())
}

/// Where a table's definition says whether it has a root: after its type and its length.
const DEFINITION_ROOT: usize = 9;

fn damaged(what: &str) -> SegmentError {
    SegmentError::Unreadable(format!("its state is damaged: {what}"))
}

/// Where a tree begins.
#[derive(Clone, Copy)]
struct Root {
    page: u64,
    sum: u128,
}

impl Root {
    fn decode(bytes: &[u8]) -> Result<Self, SegmentError> {
        Ok(Self {
            page: u64::from_le_bytes(at(bytes, 0)?),
            sum: u128::from_le_bytes(at(bytes, 8)?),
        })
    }
}

struct Walk<'a> {
    view: &'a Overlay,
    geometry: Geometry,
}

impl Walk<'_> {
    /// Compares all pages of a tree, and shows its pairs in order.
    fn tree(
        &mut self,
        root: Root,
        depth: usize,
        show: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), SegmentError> {
        if depth == MAX_DEPTH {
            return Err(damaged("a tree without an end"));
        }
        let page = self.page(root.page)?;
        let count = usize::from(u16::from_le_bytes(at(&page, 2)?));
        let ends = |from: usize, index: usize| -> Result<usize, SegmentError> {
            Ok(u32::from_le_bytes(at(&page, from + 4 * index)?) as usize)
        };
        let last = count
            .checked_sub(1)
            .ok_or_else(|| damaged("an empty page"))?;
        let (sums, pages, key_ends) = (8, 8 + 16 * (count + 1), 8 + 24 * (count + 1));
        let end = match page[0] {
            LEAF => ends(4 + 4 * count, last)?,
            BRANCH => ends(key_ends, last)?,
            _ => return Err(damaged("a page of no kind")),
        };
        let covered = page
            .get(..end)
            .ok_or_else(|| damaged("a page that is cut"))?;
        if XxHash3_128::oneshot(covered) != root.sum {
            return Err(damaged("a page is not what was written"));
        }
        if page[0] == BRANCH {
            for child in 0..=count {
                let child = Root {
                    page: u64::from_le_bytes(at(&page, pages + 8 * child)?),
                    sum: u128::from_le_bytes(at(&page, sums + 16 * child)?),
                };
                self.tree(child, depth + 1, show)?;
            }
            return Ok(());
        }
        let mut key = 4 + 8 * count;
        let mut value = ends(4, last)?;
        for pair in 0..count {
            let (key_end, value_end) = (ends(4, pair)?, ends(4 + 4 * count, pair)?);
            let pair = covered.get(key..key_end).zip(covered.get(value..value_end));
            let (name, content) = pair.ok_or_else(|| damaged("a pair that is cut"))?;
            show(name, content);
            (key, value) = (key_end, value_end);
        }
        Ok(())
    }

    fn page(&self, number: u64) -> Result<Vec<u8>, SegmentError> {
        let order = (number >> 59) as u8;
        if order > MAX_ORDER {
            return Err(damaged("a page larger than any"));
        }
        let index = number & (0xF_FFFF >> order);
        let region = number >> 20 & 0xF_FFFF;
        let bytes = u64::from(header::PAGE_BYTES) << order;
        let from = self.geometry.first_byte(region);
        let from = from.saturating_add(index.saturating_mul(bytes));
        if from.saturating_add(bytes) > self.view.len()? {
            return Err(damaged("a page beyond the end of the file"));
        }
        let mut page = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        self.view.read(from, &mut page)?;
        Ok(page)
    }
}

/// The bytes of a number.
fn at<const BYTES: usize>(bytes: &[u8], from: usize) -> Result<[u8; BYTES], SegmentError> {
    let found = bytes.get(from..).and_then(|bytes| bytes.first_chunk());
    found.copied().ok_or_else(|| damaged("a page that is cut"))
}

#[cfg(test)]
mod tests {
    use redb::{
        Builder, ConcurrencyMode, Database, ReadOnlyDatabase, ReadableDatabase, ReadableTable,
        TableDefinition,
    };

    use super::super::backend::Backend;
    use super::super::disk::{Disk, SimDisk};
    use super::super::segment::{guarded, quiet_guarded_panics};
    use super::*;

    const WATCHED: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("watched");
    const OTHER: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("other");
    /// What values of the other table are full of.
    const FILLER: u8 = 7;

    /// A file that a process left without closing it: two levels of the one table, and the other.
    fn left() -> SimDisk {
        let disk = SimDisk::new(1);
        let file = disk.create("file").unwrap();
        let database: Database = Builder::new()
            .create_with_backend(Backend::new(file))
            .unwrap();
        for round in 0..3_u8 {
            let change = database.begin_write().unwrap();
            {
                let mut watched = change.open_table(WATCHED).unwrap();
                for key in 0..400_u32 {
                    let key = (key * 7919).to_be_bytes();
                    watched.insert(&key[..], &[round; 90][..]).unwrap();
                }
                let mut other = change.open_table(OTHER).unwrap();
                let filler = vec![FILLER; 150_000];
                other.insert(u64::from(round), &filler[..]).unwrap();
            }
            change.commit().unwrap();
        }
        let killed = disk.kill();
        drop(database);
        killed
    }

    fn closed(disk: &SimDisk) -> Result<Overlay, SegmentError> {
        let view = Overlay::new(disk.open("file").unwrap())?;
        header::as_closed(&view)?;
        Ok(view)
    }

    fn checked(disk: &SimDisk, names: &[&str]) -> Result<(), String> {
        let checked = closed(disk).and_then(|view| check(&view, names));
        checked.map_err(|error| error.to_string())
    }

    /// A handle as reads have it.
    fn unrepaired(disk: &SimDisk) -> ReadOnlyDatabase {
        Builder::new()
            .set_concurrency_mode(ConcurrencyMode::SingleWriter)
            .open_read_only_with_backend(closed(disk).unwrap())
            .unwrap()
    }

    /// All of the watched table, as it stands there.
    fn content(disk: &SimDisk) -> Vec<(Vec<u8>, Vec<u8>)> {
        watched(&unrepaired(disk))
    }

    fn watched(database: &ReadOnlyDatabase) -> Vec<(Vec<u8>, Vec<u8>)> {
        let snapshot = database.begin_read().unwrap();
        let rows = snapshot.open_table(WATCHED).unwrap();
        let rows = rows.iter().unwrap().map(|row| {
            let (key, value) = row.unwrap();
            (key.value().to_vec(), value.value().to_vec())
        });
        rows.collect()
    }

    #[test]
    fn whole_tables_are_whole_and_one_that_is_not_there_is_missed() {
        let disk = left();
        assert_eq!(checked(&disk, &["watched"]), Ok(()));
        let missing = "its state is damaged: a table is missing".to_owned();
        assert_eq!(checked(&disk, &["watched", "wanted"]), Err(missing));
    }

    /// A read beyond the end of a file that was cut ended redb's handle: whoever read something else
    /// through it was told that this was damaged.
    #[test]
    fn what_a_cut_file_has_lost_takes_nothing_else_with_it() {
        quiet_guarded_panics();
        let disk = left();
        let expected = content(&disk);
        let file = disk.open("file").unwrap();
        let mut lost = 0;
        for pages in (1..file.len().unwrap() / 4096).rev() {
            file.set_len(pages * 4096).unwrap();
            if checked(&disk, &["watched"]).is_err() {
                break;
            }
            let database = unrepaired(&disk);
            for key in 0..3 {
                let read = guarded(|| {
                    let snapshot = database.begin_read()?;
                    let other = snapshot.open_table(OTHER)?;
                    let filler = other.get(key)?.map(|it| it.value().to_vec());
                    assert!(filler.is_some_and(|it| it.iter().all(|byte| *byte == FILLER)));
                    Ok(())
                });
                lost += u32::from(read.is_err());
                assert_eq!(watched(&database), expected, "{pages} pages");
            }
        }
        assert!(lost > 0, "nothing is lost before the table itself is");
    }

    #[test]
    fn a_flipped_bit_is_found_wherever_the_table_is_and_nowhere_in_the_other() {
        let disk = left();
        let expected = content(&disk);
        assert_eq!(expected.len(), 400);
        let file = disk.open("file").unwrap();
        let mut whole = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(0, &mut whole).unwrap();
        let (mut found, mut others, mut unused) = (0, 0, 0);
        // What comes before the commits has no sum.
        for at in (64..whole.len()).step_by(173) {
            let flipped = whole[at] ^ (1 << (at % 8));
            file.write_at(at as u64, &[flipped]).unwrap();
            let is_others = at > 4096 && whole[at - 64..=at] == [FILLER; 65];
            match checked(&disk, &["watched"]) {
                Ok(()) => {
                    assert_eq!(content(&disk), expected, "byte {at}");
                    *(if is_others { &mut others } else { &mut unused }) += 1;
                }
                Err(what) => {
                    assert!(!is_others, "byte {at}: {what}");
                    found += 1;
                }
            }
            file.write_at(at as u64, &whole[at..=at]).unwrap();
        }
        assert!(
            found > 100 && others > 100 && unused > 100,
            "{found} found, {others} in the other table, {unused} unused"
        );
    }
}

//! Each fault of the simulated disk, planted and shown; and redb, which must survive all of them.

mod moments;

use std::collections::BTreeSet;

use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::super::super::backend::Backend;
use super::*;

/// Cuts of one moment that a test looks at; enough for every outcome of a few changes.
const CUTS: usize = 400;

fn content(disk: &SimDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name).unwrap();
    let mut content = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut content).unwrap();
    content
}

/// A disk with one durable file of that content.
fn disk_with(name: &str, content: &[u8]) -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new(7);
    let file = disk.create(name).unwrap();
    file.write_at(0, content).unwrap();
    file.sync().unwrap();
    disk.sync_dir().unwrap();
    (disk, file)
}

/// Everything that a power cut at this moment was seen to leave, as `look` describes it.
fn outcomes<T: Ord>(disk: &SimDisk, look: impl Fn(&SimDisk) -> T) -> BTreeSet<T> {
    (0..CUTS).map(|_| look(&disk.power_cut())).collect()
}

/// The names, and the first byte of each file's content.
fn directory(disk: &SimDisk) -> String {
    let mut names = disk.list().unwrap();
    names.sort();
    let entry = |name: &String| {
        let first = content(disk, name)
            .first()
            .map_or('-', |&byte| char::from(byte));
        format!("{name}={first}")
    };
    names.iter().map(entry).collect::<Vec<_>>().join(" ")
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn what_was_synced_survives_every_power_cut() {
    let (disk, _file) = disk_with("x", &[1; 10_000]);
    assert_eq!(
        outcomes(&disk, |disk| content(disk, "x")),
        BTreeSet::from([vec![1; 10_000]])
    );
}

#[test]
fn an_unsynced_write_is_lost_or_kept() {
    let (disk, file) = disk_with("x", &[1; 100]);
    file.write_at(0, &[2; 100]).unwrap();
    let expected = BTreeSet::from([vec![1; 100], vec![2; 100]]);
    assert_eq!(outcomes(&disk, |disk| content(disk, "x")), expected);
}

#[test]
fn an_unsynced_write_is_torn_at_sectors_of_either_size() {
    let (disk, file) = disk_with("x", &[1; 16_384]);
    file.write_at(0, &[2; 16_384]).unwrap();
    let torn_at = outcomes(&disk, |disk| {
        let content = content(disk, "x");
        for sector in content.chunks(512) {
            assert!(
                sector.iter().all(|byte| byte == &sector[0]),
                "torn inside a sector"
            );
        }
        let whole_pages = content
            .chunks(4096)
            .all(|page| page.iter().all(|b| b == &page[0]));
        let mixed = content.contains(&1) && content.contains(&2);
        (mixed, whole_pages)
    });
    let expected = BTreeSet::from([(false, true), (true, false), (true, true)]);
    assert_eq!(torn_at, expected);
}

#[test]
fn a_later_write_may_survive_an_earlier_one() {
    let (disk, file) = disk_with("x", &[1; 8192]);
    file.write_at(0, &[2; 4096]).unwrap();
    file.write_at(4096, &[3; 4096]).unwrap();
    let left = outcomes(&disk, |disk| {
        let content = content(disk, "x");
        (content[0], content[8191])
    });
    assert_eq!(left, BTreeSet::from([(1, 1), (1, 3), (2, 1), (2, 3)]));
}

#[test]
fn an_unsynced_change_of_length_is_lost_or_kept_whole() {
    let (disk, file) = disk_with("x", &[1; 100]);
    file.set_len(9000).unwrap();
    assert_eq!(
        outcomes(&disk, |disk| content(disk, "x").len()),
        BTreeSet::from([100, 9000])
    );
    let (disk, file) = disk_with("x", &[1; 100]);
    file.set_len(10).unwrap();
    assert_eq!(
        outcomes(&disk, |disk| content(disk, "x").len()),
        BTreeSet::from([10, 100])
    );
}

#[test]
fn what_a_cut_of_the_length_removed_reads_as_zeros_and_stays_so() {
    let (disk, file) = disk_with("x", &[1; 100]);
    file.set_len(10).unwrap();
    file.set_len(20).unwrap();
    file.sync().unwrap();
    let expected = [[1; 10], [0; 10]].concat();
    assert_eq!(
        outcomes(&disk, |disk| content(disk, "x")),
        BTreeSet::from([expected])
    );
}

#[test]
fn a_name_is_durable_only_after_the_directory_was_synced() {
    let disk = SimDisk::new(1);
    let file = disk.create("x").unwrap();
    file.write_at(0, b"a").unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, directory), set(&["", "x=a"]));
    let (disk, _file) = disk_with("x", b"a");
    disk.unlink("x").unwrap();
    assert_eq!(outcomes(&disk, directory), set(&["", "x=a"]));
}

#[test]
fn a_rename_leaves_the_old_state_or_the_new_one_and_nothing_between() {
    let (disk, _old) = disk_with("x", b"o");
    let new = disk.create("x.new").unwrap();
    new.write_at(0, b"n").unwrap();
    new.sync().unwrap();
    disk.sync_dir().unwrap();
    disk.rename("x.new", "x").unwrap();
    assert_eq!(outcomes(&disk, directory), set(&["x=o x.new=n", "x=n"]));
}

#[test]
fn changes_of_names_of_different_files_are_reordered_and_those_of_one_file_are_not() {
    let disk = SimDisk::new(1);
    for (name, byte) in [("a", b"a"), ("b", b"b")] {
        let file = disk.create(name).unwrap();
        file.write_at(0, byte).unwrap();
        file.sync().unwrap();
    }
    disk.rename("b", "c").unwrap();
    let expected = set(&["", "a=a", "b=b", "c=b", "a=a b=b", "a=a c=b"]);
    assert_eq!(outcomes(&disk, directory), expected);
}

#[test]
fn a_name_may_survive_without_the_content_that_was_never_synced() {
    let disk = SimDisk::new(1);
    disk.create("x").unwrap().write_at(0, b"a").unwrap();
    disk.sync_dir().unwrap();
    assert_eq!(outcomes(&disk, directory), set(&["x=-", "x=a"]));
}

#[test]
fn a_failed_sync_loses_its_writes_even_if_a_later_sync_succeeds() {
    let (disk, file) = disk_with("x", &[1; 8192]);
    file.write_at(0, &[2; 4096]).unwrap();
    disk.fail_next(Call::Sync);
    assert_eq!(
        file.sync().unwrap_err().raw_os_error(),
        Some(Errno::IO.raw_os_error())
    );
    file.write_at(4096, &[3; 4096]).unwrap();
    file.sync().unwrap();
    assert_eq!(content(&disk, "x")[0], 2, "the write is visible");

    // The next process still sees it, and believes it: until the power goes.
    let disk = disk.kill();
    assert_eq!(content(&disk, "x")[0], 2);
    disk.open("x").unwrap().sync().unwrap();
    let left = outcomes(&disk, |disk| {
        (content(disk, "x")[0], content(disk, "x")[8191])
    });
    assert_eq!(left, BTreeSet::from([(1, 3)]));
}

#[test]
fn a_page_written_again_after_a_failed_sync_is_written_whole() {
    let (disk, file) = disk_with("x", &[1; 4096]);
    file.write_at(0, &[2; 100]).unwrap();
    disk.fail_next(Call::Sync);
    file.sync().unwrap_err();
    file.write_at(200, &[3; 100]).unwrap();
    file.sync().unwrap();
    let left = outcomes(&disk, |disk| {
        (content(disk, "x")[0], content(disk, "x")[200])
    });
    assert_eq!(left, BTreeSet::from([(2, 3)]));
}

#[test]
fn a_killed_process_loses_nothing_that_was_seen() {
    let disk = SimDisk::new(1);
    let file = disk.create("x").unwrap();
    file.write_at(0, b"a").unwrap();
    let next = disk.kill();
    assert_eq!(directory(&next), "x=a");
    file.write_at(0, b"b").unwrap_err();
    assert_eq!(directory(&next), "x=a");
}

#[test]
fn the_call_of_a_number_fails_once() {
    let disk = SimDisk::new(1);
    disk.fail_call(2);
    let file = disk.create("x").unwrap();
    file.write_at(0, b"abcd").unwrap_err();
    assert_eq!(
        content(&disk, "x"),
        b"ab",
        "half of a failed write is there"
    );
    file.write_at(0, b"abcd").unwrap();
    assert_eq!(content(&disk, "x"), b"abcd");
}

#[test]
fn a_failed_change_of_names_may_have_happened() {
    let happened: BTreeSet<String> = (0..50)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            disk.create("a").unwrap();
            disk.fail_next(Call::Rename);
            disk.rename("a", "b").unwrap_err();
            directory(&disk)
        })
        .collect();
    assert_eq!(happened, set(&["a=-", "b=-"]));
}

#[test]
fn a_failed_sync_of_the_directory_makes_nothing_durable() {
    let disk = SimDisk::new(1);
    disk.create("a").unwrap();
    disk.fail_next(Call::SyncDir);
    disk.sync_dir().unwrap_err();
    assert_eq!(outcomes(&disk, directory), set(&["", "a=-"]));
}

#[test]
fn the_power_goes_off_after_the_planned_change_and_reads_do_not_count() {
    let disk = SimDisk::new(1);
    disk.cut_after(2);
    let file = disk.create("x").unwrap();
    file.read_at(0, &mut []).unwrap();
    file.write_at(0, b"a").unwrap();
    assert_eq!((disk.calls(), disk.changes()), (3, 2));
    file.sync().unwrap_err();
    disk.list().unwrap_err();
    disk.open("x").unwrap_err();
    assert_eq!(disk.changes(), 2);
    let next = disk.power_cut();
    assert_eq!((next.calls(), next.changes()), (0, 0));
    next.create("y").unwrap();
}

#[test]
fn a_full_disk_cuts_a_write_short_and_has_room_again_when_files_are_gone() {
    let (disk, ballast) = disk_with("ballast", &[1; 8192]);
    disk.set_capacity(Some(4 * 4096));
    let file = disk.create("x").unwrap();
    file.set_len(1 << 20).unwrap();
    assert_eq!(disk.free_space().unwrap(), 8192, "a hole takes space");
    file.set_len(0).unwrap();
    let refused = file.write_at(0, &[2; 12_288]).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    assert_eq!(content(&disk, "x"), [2; 8192]);
    file.write_at(0, &[3; 8192]).unwrap();

    disk.unlink("ballast").unwrap();
    assert_eq!(disk.free_space().unwrap(), 0, "the ballast is still open");
    drop(ballast);
    assert_eq!(disk.free_space().unwrap(), 8192);
    file.write_at(8192, &[4; 8192]).unwrap();
}

#[test]
fn equal_seeds_and_calls_give_equal_disks() {
    let run = |seed| {
        let (disk, file) = (SimDisk::new(seed), "x");
        let handle = disk.create(file).unwrap();
        disk.sync_dir().unwrap();
        for page in 0..50 {
            handle.write_at(page * 4096, &[9; 4096]).unwrap();
        }
        content(&disk.power_cut(), file)
    };
    assert_eq!(run(3), run(3));
    let different: BTreeSet<Vec<u8>> = (0..20).map(run).collect();
    assert!(different.len() > 5);
}

const ROWS: TableDefinition<u64, &[u8]> = TableDefinition::new("rows");

/// Commits one row after another until the power goes; gives how many commits were reported.
fn commit_rows(backend: impl StorageBackend) -> Result<u64, redb::Error> {
    let database = Database::builder()
        .set_cache_size(1 << 20)
        .create_with_backend(backend)?;
    let commit = |row| -> Result<(), redb::Error> {
        let change = database.begin_write()?;
        change.open_table(ROWS)?.insert(row, [1; 1500].as_slice())?;
        Ok(change.commit()?)
    };
    Ok((0..12).find(|&row| commit(row).is_err()).unwrap_or(12))
}

/// Rows found after a power cut.
fn rows_found(disk: &SimDisk) -> Result<u64, redb::Error> {
    let backend = Backend::new(disk.open("1.redb")?);
    let database = Database::builder()
        .set_cache_size(1 << 20)
        .create_with_backend(backend)?;
    let snapshot = database.begin_read()?;
    let table = match snapshot.open_table(ROWS) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(0),
        table => table?,
    };
    let mut rows = 0;
    for row in table.iter()? {
        let (key, value) = row?;
        assert_eq!((key.value(), value.value()), (rows, [1; 1500].as_slice()));
        rows += 1;
    }
    Ok(rows)
}

/// Cuts the power after every change of a few commits through a back end, and counts the cuts after
/// which a reported commit was gone or the database did not open. Before the first commit it need
/// not: an empty database is made under a name that counts for nothing.
fn lost_commits<B: StorageBackend>(back_end: impl Fn(Arc<dyn DiskFile>) -> B) -> usize {
    let mut lost = 0;
    for limit in 1.. {
        let disk = SimDisk::new(limit);
        let file = disk.create("1.redb").unwrap();
        disk.sync_dir().unwrap();
        disk.cut_after(limit);
        let committed = commit_rows(back_end(file)).unwrap_or(0);
        for _ in 0..6 {
            let next = disk.power_cut();
            // redb panics on some of what a lost sync leaves.
            let found = std::panic::catch_unwind(|| rows_found(&next));
            let sound = found.is_ok_and(|found| found.is_ok_and(|found| found >= committed));
            lost += usize::from(committed > 0 && !sound);
        }
        if disk.changes() < limit {
            break;
        }
    }
    lost
}

#[test]
fn redb_loses_no_reported_commit_to_a_power_cut_after_any_change() {
    assert_eq!(lost_commits(Backend::new), 0);
}

/// A back end that says it synced and did not.
#[derive(Debug)]
struct Lying(Backend);

impl StorageBackend for Lying {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

#[test]
fn a_back_end_that_does_not_sync_is_found_out() {
    assert!(lost_commits(|file| Lying(Backend::new(file))) > 0);
}

#[test]
fn the_witness_of_a_back_end_remembers_a_failed_sync_though_later_ones_succeed() {
    let disk = SimDisk::new(1);
    let backend = Backend::new(disk.create("x").unwrap());
    let witness = backend.witness();
    backend.write(0, b"a").unwrap();
    backend.sync_data().unwrap();
    assert!(!witness.failed());
    disk.fail_next(Call::Sync);
    backend.sync_data().unwrap_err();
    backend.sync_data().unwrap();
    assert!(witness.failed());
    assert_eq!((witness.syncs(), witness.written()), (3, 1));
}

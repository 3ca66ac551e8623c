//! Images of moments that have passed, and the faults that go with them.

use super::*;

/// A disk on which three pages are written one after the other, the second write is synced, and
/// every moment is kept.
fn recorded() -> SimDisk {
    let (disk, file) = disk_with("x", &[1; 3 * 4096]);
    disk.record();
    file.write_at(0, &[2; 4096]).unwrap();
    file.write_at(4096, &[3; 4096]).unwrap();
    file.sync().unwrap();
    file.write_at(8192, &[4; 4096]).unwrap();
    disk
}

/// The first byte of each page, in all images of one moment, counted from the beginning of the
/// recording.
fn check(changes: u64, expected: &[&str]) {
    let disk = recorded();
    let first = disk.changes() - 4;
    let pages = |disk: SimDisk| -> String {
        let content = content(&disk, "x");
        let pages = content.chunks(4096);
        pages.map(|page| char::from(b'0' + page[0])).collect()
    };
    let images = (0..400).map(|seed| disk.image(first + changes, seed).unwrap());
    let left: BTreeSet<String> = images.map(pages).collect();
    assert_eq!(left, set(expected), "{changes} changes");
}

#[test]
fn an_image_of_a_moment_knows_nothing_of_what_came_later() {
    check(0, &["111"]);
    check(1, &["111", "211"]);
    check(2, &["111", "211", "131", "231"]);
    check(3, &["231"]);
    check(4, &["231", "234"]);
    let disk = recorded();
    assert!(disk.image(disk.changes() + 1, 0).is_none());
    assert!(disk.image(0, 0).is_none(), "before the recording");
}

#[test]
fn an_image_takes_nothing_from_the_disk_and_equal_seeds_give_equal_images() {
    let disk = recorded();
    let image = |seed| content(&disk.image(disk.changes() - 2, seed).unwrap(), "x");
    for seed in 0..20 {
        assert_eq!(image(seed), image(seed));
    }
    assert_eq!(content(&disk, "x")[8192], 4);
    disk.create("y").unwrap();
}

#[test]
fn a_killed_process_leaves_what_was_not_synced_and_the_power_may_take_it_then() {
    let disk = recorded();
    let last = disk.changes();
    let left = disk.killed(last, 1).unwrap();
    assert_eq!(content(&left, "x")[8192], 4);
    let pages = outcomes(&left, |disk| content(disk, "x")[8192]);
    assert_eq!(pages, BTreeSet::from([1, 4]));
}

#[test]
fn some_cuts_keep_exactly_what_came_before_a_change_and_others_what_came_after() {
    let (disk, file) = disk_with("x", &[1; 3 * 4096]);
    for page in 0..3 {
        file.write_at(page * 4096, &[2; 4096]).unwrap();
    }
    let left = outcomes(&disk, |disk| {
        let content = content(disk, "x");
        let pages = content.chunks(4096);
        pages.map(|page| page[0]).collect::<Vec<_>>()
    });
    for kept in 1..3 {
        let (before, after) = ([2].repeat(kept), [1].repeat(3 - kept));
        assert!(left.contains(&[before, after].concat()), "the first {kept}");
        let (before, after) = ([1].repeat(kept), [2].repeat(3 - kept));
        assert!(left.contains(&[before, after].concat()), "all but {kept}");
    }
}

#[test]
fn a_change_of_a_number_fails_as_planned_and_reads_do_not_count() {
    let disk = SimDisk::new(1);
    disk.fail_change(3, Fault::Full);
    let file = disk.create("x").unwrap();
    file.write_at(0, b"abcd").unwrap();
    file.read_at(0, &mut [0; 4]).unwrap();
    let refused = file.sync().unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.failed(), [(3, Call::Sync, "x".to_owned())]);
    file.sync().unwrap();
}

#[test]
fn a_disk_that_ignores_syncs_says_that_it_synced() {
    let disk = SimDisk::new(1);
    disk.ignore_syncs(100);
    let file = disk.create("x").unwrap();
    file.write_at(0, b"a").unwrap();
    file.sync().unwrap();
    disk.sync_dir().unwrap();
    let expected = set(&["", "x=-", "x=a"]);
    assert_eq!(outcomes(&disk, directory), expected);
}

//! What is trimmed is gone, and its space with it; what is not stays readable.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use super::behaviour::{Side, segments};
use super::world::{merging, read_all, read_from, saved_at_once, tiny};
use crate::storage::disk::{Call, Disk, RealDisk, SimDisk};
use crate::storage::layout::FIRST_MERGED;
use crate::storage::*;

fn simulated(options: &Options) -> (SimDisk, Writer) {
    let disk = SimDisk::new(1);
    let (writer, _) = Writer::open(Arc::new(disk.clone()), options.clone()).unwrap();
    (disk, writer)
}

impl Side {
    fn trim(&mut self, before: u64) -> Job {
        let kind = self.log.trim(before);
        Job {
            kind,
            ..self.job(vec![], vec![])
        }
    }

    fn check(&self, reader: &Reader) {
        let read = read_from(reader, self.topic, self.log.start, self.log.next);
        assert_eq!(read.unwrap(), self.log.batches, "topic {}", self.topic);
    }
}

fn reopened(disk: &SimDisk, options: &Options) -> Writer {
    let opened = Writer::open(Arc::new(disk.clone()), options.clone());
    opened.unwrap().0
}

/// Every flush is a transaction of its own, and what is mostly dead is merged.
fn merged() -> Options {
    Options {
        journal_bytes: 0,
        ..merging()
    }
}

#[test]
fn segments_wholly_before_a_trim_go_with_it_and_the_others_stay() {
    let (disk, mut writer) = simulated(&saved_at_once());
    let mut side = Side::new(1);
    for time in 0..60 {
        writer.commit([side.append(&[vec![1; 1_500]], time)]);
    }
    let before = segments(&disk);
    assert!(before.len() > 3, "{before:?}");
    // Segments hold 15 batches each: this one is the third segment's second one.
    writer.commit([side.trim(31)]);
    assert_eq!(segments(&disk), before[2..]);
    side.check(&writer.reader());
    assert!(writer.reader().read(side.topic, 0, 60, 100).is_err());
    writer.commit([side.trim(60)]);
    assert_eq!(segments(&disk), before[before.len() - 1..]);
    assert!(writer.reader().read(side.topic, 59, 60, 100).is_err());
    // It goes on where it ended.
    let job = side.append(&[vec![2]], 61);
    writer.commit([job]);
    side.check(&writer.reader());
    writer.close();
    let writer = reopened(&disk, &saved_at_once());
    side.check(&writer.reader());
}

#[test]
fn what_joins_a_trim_in_a_flush_is_kept_as_the_offsets_say() {
    let (disk, mut writer) = simulated(&saved_at_once());
    let mut side = Side::new(1);
    for time in 0..20 {
        writer.commit([side.append(&[vec![1; 1_500]], time)]);
    }
    // Everything, and then something new; then a part of what comes in the same flush.
    let jobs = [side.trim(20), side.append(&[vec![2; 10]], 21)];
    writer.commit(jobs);
    side.check(&writer.reader());
    let mut job = side.append(&[vec![3; 10], vec![4; 10]], 22);
    job.batches.extend(side.append(&[vec![5; 10]], 23).batches);
    job.kind = side.log.trim(23);
    job.ticket += 1;
    writer.commit([job]);
    side.check(&writer.reader());
    assert_eq!(side.log.batches.len(), 1);
    let point = writer.reader().locate(side.topic, At::Time(0), 24).unwrap();
    assert_eq!(point.offset, 21, "a chunk that holds both sides stays");
    writer.close();
    side.check(&reopened(&disk, &saved_at_once()).reader());
}

#[test]
fn pages_of_what_was_trimmed_out_of_the_active_segment_are_used_again() {
    let options = Options {
        segment_bytes: 16 << 20,
        ..saved_at_once()
    };
    let (disk, mut writer) = simulated(&options);
    let mut side = Side::new(1);
    let mut lengths = Vec::new();
    for round in 0..9 {
        for time in 0..60 {
            writer.commit([side.append(&[vec![round; 12_000]], time)]);
        }
        writer.commit([side.trim(side.log.next - 1)]);
        side.check(&writer.reader());
        lengths.push(disk.open(&layout::segment_name(1)).unwrap().len().unwrap());
    }
    assert_eq!(segments(&disk), [1]);
    assert!(lengths[8] < 2 * lengths[0], "{lengths:?}");
}

#[test]
fn a_trim_is_never_in_the_journal_alone() {
    let (disk, mut writer) = simulated(&tiny());
    let mut side = Side::new(1);
    for time in 0..10 {
        writer.commit([side.append(&[vec![1; 100]], time)]);
    }
    // All of it: what holds both sides would stay.
    writer.commit([side.trim(10)]);
    let disk = disk.power_cut();
    let writer = reopened(&disk, &tiny());
    side.check(&writer.reader());
    assert!(writer.reader().read(side.topic, 0, 10, 100).is_err());
}

/// Two topics side by side in each of several segments; one keeps for ever.
fn neighbours(writer: &mut Writer, rounds: u64) -> (Side, Side) {
    let (mut kept, mut brief) = (Side::new(1), Side::new(2));
    for time in 0..rounds {
        let jobs = [
            kept.append(&[vec![1; 150]], time),
            brief.append(&[vec![2; 1_200]], time),
        ];
        writer.commit(jobs);
    }
    (kept, brief)
}

#[test]
fn segments_that_are_mostly_dead_are_merged_and_their_space_comes_back() {
    let (disk, mut writer) = simulated(&merged());
    let (mut kept, mut brief) = neighbours(&mut writer, 100);
    let before = segments(&disk);
    assert!(before.len() > 5, "{before:?}");
    let last = brief.log.next;
    writer.commit([brief.trim(last)]);
    // The swap joins the flushes that follow.
    for time in 0..4 {
        writer.commit([kept.append(&[vec![1; 10]], 200 + time)]);
    }
    let after = segments(&disk);
    assert!(after.len() <= 3, "{after:?}");
    assert!(*after.last().unwrap() > FIRST_MERGED, "{after:?}");
    kept.check(&writer.reader());
    for time in [0, 30, 99] {
        let point = writer.reader().locate(kept.topic, At::Time(time), 104);
        assert_eq!(point.unwrap().offset, time);
    }
    // Merged segments are sealed ones as any other: after a start, and when they are trimmed.
    writer.close();
    let mut writer = reopened(&disk, &merged());
    kept.check(&writer.reader());
    let disk = disk.kill();
    drop(writer);
    writer = reopened(&disk, &merged());
    kept.check(&writer.reader());
    writer.commit([kept.trim(102)]);
    kept.check(&writer.reader());
    assert!(segments(&disk).iter().all(|it| *it < FIRST_MERGED));
}

#[test]
fn what_is_trimmed_while_it_is_merged_is_not_swapped() {
    let (disk, mut writer) = simulated(&merged());
    let (mut kept, mut brief) = neighbours(&mut writer, 60);
    writer.commit([brief.trim(60)]);
    let count = |disk: &SimDisk| {
        let all = segments(disk).into_iter();
        all.filter(|it| *it > FIRST_MERGED).count()
    };
    assert_eq!(count(&disk), 1, "it waits for its flush");
    // That flush ends all that it holds.
    writer.commit([kept.trim(60)]);
    assert_eq!(count(&disk), 0);
    assert_eq!(segments(&disk).len(), 1);
    let job = kept.append(&[vec![3]], 70);
    writer.commit([job]);
    kept.check(&writer.reader());
}

#[test]
fn a_failed_commit_ends_the_merge_that_waits_for_it() {
    let (disk, mut writer) = simulated(&merged());
    let (mut kept, mut brief) = neighbours(&mut writer, 60);
    writer.commit([brief.trim(60)]);
    disk.fail_next(Call::Sync);
    writer.commit([kept.append(&[vec![4; 10]], 70)]);
    assert!(writer.has_failed());
    writer.recover().unwrap();
    // It may be there or not; what was there before it is.
    let read = read_from(&writer.reader(), kept.topic, 0, 60).unwrap();
    assert_eq!(read, kept.log.batches[..60]);
    let lost = segments(&disk).into_iter().filter(|it| *it > FIRST_MERGED);
    assert_eq!(lost.count(), 0, "the file that waited is gone");
}

#[test]
fn a_source_that_cannot_be_read_is_not_merged_and_reads_go_on_naming_it() {
    let (disk, mut writer) = simulated(&merged());
    let (kept, mut brief) = neighbours(&mut writer, 60);
    let first = segments(&disk)[0];
    let file = disk.open(&layout::segment_name(first)).unwrap();
    file.write_at(0, &[0; 4096]).unwrap();
    for before in 50..60 {
        writer.commit([brief.trim(before)]);
    }
    assert!(segments(&disk).contains(&first));
    let read = read_all(&writer.reader(), kept.topic, 60);
    let error = read.unwrap_err().to_string();
    assert!(error.contains("damaged"), "{error}");
}

/// How the topic that fills the disk ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Trimmed,
    Deleted,
}

#[test]
fn the_space_of_a_trimmed_topic_comes_back_on_a_real_disk_while_readers_go_on() {
    check_space(Ending::Trimmed);
}

#[test]
fn the_space_of_a_deleted_topic_comes_back_on_a_real_disk_while_readers_go_on() {
    check_space(Ending::Deleted);
}

/// The whole with its threads: `du` of the directory, and readers of the neighbour all the while.
fn check_space(ending: Ending) {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 256 << 10,
        ahead_segments: 0,
        ballast_bytes: 0,
        dead_bytes: 64 << 10,
        expired_wait: Duration::ZERO,
        merge_step_bytes: 16 << 10,
        merge_pause: Duration::from_millis(1),
        release_pause: Duration::from_millis(1),
        journal_bytes: 64 << 10,
        ..Options::default()
    };
    let disk = Arc::new(RealDisk::open(directory.path()).unwrap());
    let (storage, _) = Storage::open(disk, options).unwrap();
    let (mut kept, mut brief, mut other) = (Side::new(1), Side::new(2), Side::new(3));
    for time in 0..400 {
        storage.submit(kept.append(&[vec![1; 500]], time));
        storage.submit(brief.append(&[vec![2; 9_500]], time));
    }
    brief.wait();
    kept.wait();
    let used = || -> u64 {
        let entries = std::fs::read_dir(directory.path()).unwrap();
        let bytes = |entry: std::fs::DirEntry| {
            // One that goes meanwhile takes nothing.
            entry.metadata().map_or(0, |it| it.blocks() * 512)
        };
        entries.map(|entry| bytes(entry.unwrap())).sum()
    };
    let full = used();
    assert!(full > 4_000_000, "{full}");
    let reader = storage.reader();
    let (topic, expected) = (kept.topic, kept.log.batches.clone());
    let (stop, stopped) = mpsc::channel::<()>();
    let reading = std::thread::spawn(move || {
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            assert_eq!(read_all(&reader, topic, 400).unwrap(), expected);
        }
    });
    storage.submit(match ending {
        Ending::Trimmed => brief.trim(400),
        Ending::Deleted => Job {
            kind: JobKind::Delete,
            ..brief.job(vec![], vec![])
        },
    });
    brief.wait();
    // Each look is a flush, as a living store has them.
    for time in 0.. {
        if used() < full / 8 {
            break;
        }
        assert!(time < 100_000, "{} of {full} bytes stay", used());
        storage.submit(other.append(&[vec![3]], time));
        other.wait();
    }
    drop(stop);
    reading.join().unwrap();
    kept.check(&storage.reader());
    storage.close();
}

/// While dead files waited for their turn nothing was merged and nothing written ahead: steady
/// retention, which always has some that wait, stopped both for good.
#[test]
fn merging_and_writing_ahead_go_on_while_dead_files_wait_for_their_turn() {
    let options = Options {
        journal_bytes: 0,
        dead_bytes: 16 << 10,
        merge_pause: Duration::from_millis(1),
        ahead_pause: Duration::from_millis(1),
        release_pause: Duration::from_hours(1),
        ..merging()
    };
    let disk = SimDisk::new(1);
    let (storage, _) = Storage::open(Arc::new(disk.clone()), options.clone()).unwrap();
    let write = |side: &mut Side, bytes: usize| {
        let job = side.append(&[vec![1; bytes]], 1);
        storage.submit(job);
        side.wait();
    };
    let trim = |side: &mut Side| {
        let job = side.trim(side.log.next);
        storage.submit(job);
        side.wait();
    };
    let (mut gone, mut kept, mut brief) = (Side::new(1), Side::new(2), Side::new(3));
    (0..80).for_each(|_| write(&mut gone, 1_500));
    let wholly_gone = segments(&disk);
    assert!(wholly_gone.len() > 3, "{wholly_gone:?}");
    for _ in 0..40 {
        write(&mut kept, 200);
        write(&mut brief, 1_500);
    }
    trim(&mut gone);
    // The first one goes at once, and is written again; the last one is not dead yet.
    let waiting = &wholly_gone[1..wholly_gone.len() - 1];
    trim(&mut brief);
    // Each look is a flush, as a living store has them.
    let mut until = |what: &str, holds: &dyn Fn() -> bool| {
        let looks = (0..20_000).find(|_| {
            write(&mut kept, 10);
            holds()
        });
        assert!(looks.is_some(), "never: {what}");
    };
    let is_merged = || segments(&disk).iter().any(|number| *number >= FIRST_MERGED);
    until("segments are merged", &is_merged);
    let active = || segments(&disk).into_iter().filter(|it| *it < FIRST_MERGED);
    let rotated = active().max().unwrap() + 4;
    until("segments follow", &|| active().max().unwrap() >= rotated);
    let ahead = || {
        let names = disk.list().unwrap();
        names
            .iter()
            .filter(|name| name.strip_suffix(".ahead").is_some())
            .count()
    };
    until("files are written ahead again", &|| {
        ahead() == options.ahead_segments
    });
    let there = segments(&disk);
    for number in waiting {
        assert!(there.contains(number), "{number} does not wait: {there:?}");
    }
    kept.check(&storage.reader());
    storage.close();
    let there = segments(&disk);
    for number in waiting {
        assert!(
            !there.contains(number),
            "{number} outlives a stop: {there:?}"
        );
    }
}

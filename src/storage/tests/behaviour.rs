//! What topics can rely on while nothing goes wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use bytes::Bytes;
use logdrive_protocol::batch::{Head, Records};
use redb::ReadableTable;

use super::world::{
    BROKER, Log, World, append, change_segment, open, read_all, row_key, saved_at_once, tiny,
};
use crate::storage::disk::{Disk, RealDisk, SimDisk};
use crate::storage::layout::{self, FileKind, IndexKey, file_kind, index_key, segment_name};
use crate::storage::segment::Segment;
use crate::storage::*;

/// A topic's side of the conversation.
pub(super) struct Side {
    pub(super) topic: TopicId,
    pub(super) log: Log,
    ticket: u64,
    sender: Sender<Notice>,
    notices: Receiver<Notice>,
}

impl Side {
    pub(super) fn new(topic: u64) -> Self {
        let (sender, notices) = mpsc::channel();
        Self {
            topic: TopicId(topic),
            log: Log::default(),
            ticket: 0,
            sender,
            notices,
        }
    }

    pub(super) fn job(&mut self, batches: Vec<Appended>, rows: Vec<Row>) -> Job {
        self.ticket += 1;
        let sender = self.sender.clone();
        Job {
            topic: self.topic,
            generation: 1,
            ticket: self.ticket,
            batches,
            rows,
            announce: Announce::new(move |notice| sender.send(notice).unwrap()),
            kind: JobKind::Change,
        }
    }

    /// A job with one batch, appended at `time`.
    pub(super) fn append(&mut self, values: &[Vec<u8>], time: u64) -> Job {
        let batch = append(&mut self.log, self.topic, values, time);
        self.job(vec![batch], vec![])
    }

    /// Waits for the commit of the last job.
    pub(super) fn wait(&self) {
        let last = Notice::Committed {
            generation: 1,
            ticket: self.ticket,
        };
        while self.notices.recv().unwrap() != last {}
    }

    fn row(&self, kind: u8, value: Option<&[u8]>) -> Row {
        Row {
            key: row_key(self.topic, kind),
            value: value.map(<[u8]>::to_vec),
        }
    }
}

fn simulated() -> (SimDisk, Writer) {
    let disk = SimDisk::new(1);
    let (writer, recovered) = Writer::open(Arc::new(disk.clone()), saved_at_once()).unwrap();
    assert_eq!(recovered.generation, 1);
    assert!(recovered.topics.is_empty());
    (disk, writer)
}

pub(super) fn segments(disk: &dyn Disk) -> Vec<u64> {
    let names = disk.list().unwrap();
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| match file_kind(name) {
            FileKind::Segment(number) => Some(number),
            _ => None,
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn records_and_rows_come_back_after_a_restart_on_the_real_disk() {
    let directory = tempfile::tempdir().unwrap();
    let mut sides: Vec<Side> = (1..=3).map(Side::new).collect();
    let open = || Arc::new(RealDisk::open(directory.path()).unwrap());
    let options = Options {
        segment_bytes: 64 << 10,
        flush_bytes: 4 << 10,
        // Some flushes are larger than that, others are not.
        journal_flush_bytes: 3 << 10,
        ballast_bytes: 1 << 20,
        ..Options::default()
    };
    for round in 0..3 {
        let (storage, recovered) = Storage::open(open(), options.clone()).unwrap();
        for side in &mut sides {
            let rows = recovered.topics.get(&side.topic);
            assert_eq!(rows.map_or(0, Vec::len), usize::from(round > 0));
            let read = read_all(&storage.reader(), side.topic, side.log.next).unwrap();
            assert_eq!(read, side.log.batches);
            for time in 0..40 {
                let mut job = side.append(&[vec![7; 2_000]], time);
                job.rows.push(side.row(1, Some(&time.to_be_bytes())));
                storage.submit(job);
            }
        }
        for side in &sides {
            side.wait();
        }
        storage.close();
        let disk = open();
        assert!(segments(&*disk).len() > 2, "{:?}", disk.list());
        assert!(
            !disk
                .list()
                .unwrap()
                .iter()
                .any(|name| name.contains(".new"))
        );
        for number in segments(&*disk) {
            let segment = Segment::open_sealed(&*disk, number, 0).unwrap();
            assert!(format!("{segment:?}").contains("Clean"), "{segment:?}");
        }
    }
}

#[test]
fn a_topic_hears_once_for_each_flush_and_of_the_highest_ticket() {
    let (_, mut writer) = simulated();
    let (mut one, mut two) = (Side::new(1), Side::new(2));
    let jobs = [
        one.append(&[vec![1]], 1),
        two.append(&[vec![2]], 1),
        one.append(&[vec![3]], 1),
        one.append(&[vec![4]], 1),
    ];
    writer.commit(jobs);
    let heard = |side: &Side| side.notices.try_iter().collect::<Vec<_>>();
    assert_eq!(
        heard(&one),
        [Notice::Committed {
            generation: 1,
            ticket: 3
        }]
    );
    assert_eq!(
        heard(&two),
        [Notice::Committed {
            generation: 1,
            ticket: 1
        }]
    );
}

#[test]
fn a_commit_syncs_once() {
    // The second one has room for all of them in its journal.
    check_that_a_commit_syncs_once(0);
    check_that_a_commit_syncs_once(1 << 20);
}

fn check_that_a_commit_syncs_once(journal_bytes: u64) {
    let options = Options {
        journal_bytes,
        ..tiny()
    };
    let (mut writer, _) = open(&SimDisk::new(1), &options).unwrap();
    let mut side = Side::new(1);
    // redb syncs once more where its file grows: it has grown far enough by then.
    for _ in 0..60 {
        writer.commit([side.append(&[vec![1]], 1)]);
    }
    let (segment, before) = writer.syncs().unwrap();
    for _ in 0..10 {
        let mut job = side.append(&[vec![1; 100]], 1);
        job.rows.push(side.row(1, Some(b"state")));
        writer.commit([job]);
    }
    assert_eq!(writer.syncs(), Some((segment, before + 10)));
}

#[test]
fn the_last_word_on_a_row_counts_within_a_flush() {
    let (disk, mut writer) = simulated();
    let mut side = Side::new(1);
    let first = vec![
        side.row(1, Some(b"old")),
        side.row(2, Some(b"gone")),
        side.row(3, None),
    ];
    let last = vec![
        side.row(1, Some(b"new")),
        side.row(2, None),
        side.row(3, Some(b"")),
    ];
    let jobs = [side.job(vec![], first), side.job(vec![], last)];
    writer.commit(jobs);
    writer.close();
    let (_, recovered) = Writer::open(Arc::new(disk), tiny()).unwrap();
    let rows = vec![
        (row_key(side.topic, 1), b"new".to_vec()),
        (row_key(side.topic, 3), vec![]),
    ];
    assert_eq!(recovered.topics, BTreeMap::from([(side.topic, rows)]));
}

#[test]
fn a_deleted_topic_leaves_nothing_and_its_segments_go() {
    let (disk, mut writer) = simulated();
    let (mut doomed, mut other) = (Side::new(1), Side::new(2));
    for time in 0..60 {
        let mut job = doomed.append(&[vec![1; 2_000]], time);
        job.rows.push(doomed.row(1, Some(b"alive")));
        writer.commit([job]);
    }
    let before = segments(&disk);
    assert!(before.len() > 4, "{before:?}");
    let late = doomed.append(&[vec![2]], 61);
    let mut last = doomed.job(vec![], vec![other.row(9, Some(b"a tombstone elsewhere"))]);
    last.kind = JobKind::Delete;
    writer.commit([late, last]);
    assert!(
        writer
            .reader()
            .read(doomed.topic, 0, doomed.log.next, 100)
            .is_err()
    );
    for time in 0..30 {
        writer.commit([other.append(&[vec![3; 2_000]], time)]);
    }
    let after = segments(&disk);
    assert!(
        after.iter().all(|number| number >= before.last().unwrap()),
        "{after:?}"
    );
    writer.close();
    let (writer, recovered) = Writer::open(Arc::new(disk), tiny()).unwrap();
    assert_eq!(recovered.topics.keys().collect::<Vec<_>>(), [&other.topic]);
    let read = read_all(&writer.reader(), other.topic, other.log.next).unwrap();
    assert_eq!(read, other.log.batches);
}

#[test]
fn a_deleted_topic_leaves_no_row_of_its_chunks_in_the_active_segment() {
    let (disk, mut writer) = simulated();
    let (mut doomed, mut other) = (Side::new(1), Side::new(2));
    for length in [10, 7_000] {
        let mine = doomed.append(&[vec![1; length]], 1);
        writer.commit([mine, other.append(&[vec![2]], 1)]);
    }
    let mut last = doomed.job(vec![], vec![]);
    last.kind = JobKind::Delete;
    writer.commit([last]);
    writer.close();
    change_segment(&disk, &segment_name(1), |txn| {
        let index = txn.open_table(layout::INDEX).unwrap();
        let keys: Vec<IndexKey> = index
            .iter()
            .unwrap()
            .map(|row| *row.unwrap().0.value())
            .collect();
        assert_eq!(keys, [index_key(other.topic, 0), index_key(other.topic, 1)]);
        let log = txn.open_table(layout::LOG).unwrap();
        let numbers: Vec<u64> = log
            .iter()
            .unwrap()
            .map(|row| row.unwrap().0.value())
            .collect();
        assert_eq!(numbers, [1, 5]);
    });
}

#[test]
fn full_chunks_among_small_ones_take_no_more_pages_than_they_fill() {
    let disk = SimDisk::new(1);
    let (mut writer, _) = Writer::open(Arc::new(disk.clone()), Options::default()).unwrap();
    let mut sides: Vec<Side> = (1..=24).map(Side::new).collect();
    let full = layout::FULL_CHUNK_BYTES;
    let heads = Side::new(1).append(&[vec![7; full]], 1).batches[0]
        .bytes
        .len()
        - full;
    let mut payload = 0;
    for flush in 0..4 {
        let jobs: Vec<Job> = sides
            .iter_mut()
            .enumerate()
            .map(|(number, side)| {
                let large = number % 6 == flush;
                side.append(&[vec![7; if large { full - heads } else { 10 }]], 1)
            })
            .collect();
        let batches = jobs.iter().flat_map(|job| &job.batches);
        payload += batches.map(|batch| batch.bytes.len()).sum::<usize>();
        writer.commit(jobs);
    }
    writer.close();
    change_segment(&disk, &segment_name(1), |txn| {
        let stats = txn.stats().unwrap();
        let used = stats.allocated_pages() * stats.page_size() as u64;
        assert!(used < payload as u64 / 100 * 103, "{used} for {payload}");
    });
}

#[test]
fn a_read_gives_at_least_one_batch_and_no_more_than_asked_for() {
    let (_, mut writer) = simulated();
    let mut side = Side::new(1);
    let jobs: Vec<Job> = (0..20)
        .map(|time| side.append(&[vec![1; 400], vec![2]], time))
        .collect();
    writer.commit(jobs);
    let reader = writer.reader();
    let length = side.log.batches[0].len();
    let counts = |from: u64, end: u64, max_bytes: usize| {
        reader
            .read(side.topic, from, end, max_bytes)
            .unwrap()
            .batches
            .len()
    };
    assert_eq!(counts(0, 40, 0), 1);
    assert_eq!(counts(0, 40, length), 1);
    assert_eq!(counts(0, 40, 2 * length), 2);
    assert_eq!(counts(0, 40, 3 * length - 1), 2);
    assert_eq!(counts(0, 40, usize::MAX), 20);
    assert_eq!(counts(0, 6, usize::MAX), 3, "nothing at or after the end");
    assert_eq!(counts(40, 40, 100), 0);
    // In the middle of a batch: the batch that holds the record.
    let batches = reader.read(side.topic, 7, 40, 0).unwrap().batches;
    assert_eq!(Head::parse(&batches[0]).unwrap().base_offset, 6);
}

#[test]
fn a_batch_larger_than_a_chunk_comes_back_whole() {
    let (disk, mut writer) = simulated();
    let mut side = Side::new(1);
    let sizes = [100, 3_000, 3_008, 20_000, 3_072, 100];
    let jobs: Vec<Job> = sizes
        .iter()
        .map(|size| side.append(&[vec![9; *size], vec![1]], 1))
        .collect();
    writer.commit(jobs);
    for reader in [writer.reader(), writer.reader()] {
        assert_eq!(
            read_all(&reader, side.topic, side.log.next).unwrap(),
            side.log.batches
        );
    }
    writer.close();
    let (writer, _) = Writer::open(Arc::new(disk), tiny()).unwrap();
    let read = read_all(&writer.reader(), side.topic, side.log.next).unwrap();
    assert_eq!(read, side.log.batches);
}

/// Where every place is, found by walking all batches of the model.
fn located(log: &Log, at: At) -> Point {
    let mut totals = Totals::default();
    for batch in &log.batches {
        let head = Head::parse(batch).unwrap();
        let after = Totals {
            records: totals.records + u64::from(head.count),
            bytes: totals.bytes + u64::from(head.content_bytes),
        };
        for record in Records::of(batch) {
            let record = record.unwrap();
            let offset = head.base_offset + record.offset_delta;
            let found = match at {
                At::Offset(wanted) => offset >= wanted,
                At::Time(time) => head.append_time >= time,
                At::Batch(Sum::Records(sum)) => after.records > sum,
                At::Batch(Sum::Bytes(sum)) => after.bytes > sum,
            };
            if found {
                return Point {
                    offset,
                    totals,
                    append_time: Some(head.append_time),
                };
            }
            totals.records += 1;
            totals.bytes += record.content_len() as u64;
        }
    }
    Point {
        offset: log.next,
        totals,
        append_time: None,
    }
}

#[test]
fn every_offset_time_and_sum_is_located_with_exact_sums() {
    // All in segments; all in the journal; some here and some there.
    assert!(check_located(&saved_at_once()) > 2, "several segments");
    let journal_alone = Options {
        journal_bytes: 1 << 20,
        journal_flush_bytes: 1 << 20,
        ..tiny()
    };
    assert_eq!(check_located(&journal_alone), 1);
    check_located(&tiny());
}

/// Answers how many segments there were.
fn check_located(options: &Options) -> u64 {
    let (mut writer, _) = open(&SimDisk::new(1), options).unwrap();
    let mut side = Side::new(1);
    let mut rng = fastrand::Rng::with_seed(9);
    let mut time = 100;
    for _ in 0..40 {
        let jobs: Vec<Job> = (0..rng.usize(1..4))
            .map(|_| {
                time += rng.u64(0..3);
                let values: Vec<Vec<u8>> = (0..rng.usize(1..5))
                    .map(|_| vec![1; rng.usize(0..900)])
                    .collect();
                side.append(&values, time)
            })
            .collect();
        writer.commit(jobs);
    }
    let reader = writer.reader();
    let locate = |at| reader.locate(side.topic, at, side.log.next).unwrap();
    for offset in 0..=side.log.next {
        assert_eq!(
            locate(At::Offset(offset)),
            located(&side.log, At::Offset(offset))
        );
    }
    for time in 95..time + 5 {
        assert_eq!(locate(At::Time(time)), located(&side.log, At::Time(time)));
    }
    for sum in 0..=side.log.totals.records {
        let at = At::Batch(Sum::Records(sum));
        assert_eq!(locate(at), located(&side.log, at));
    }
    for sum in (0..=side.log.totals.bytes + 300).step_by(150) {
        let at = At::Batch(Sum::Bytes(sum));
        assert_eq!(locate(at), located(&side.log, at));
    }
    let nothing = reader.locate(TopicId(5), At::Time(0), 12).unwrap();
    assert_eq!((nothing.offset, nothing.append_time), (12, None));
    // Reads from anywhere give the batches from there on: as many as fit, or half of that at least.
    let mut halves = 0;
    for from in 0..side.log.next {
        let max_bytes = rng.usize(0..20_000);
        let read = reader.read(side.topic, from, side.log.next, max_bytes);
        let batches = read.unwrap().batches;
        let ended = |batch: &&Bytes| Head::parse(batch).unwrap().end_offset() <= from;
        let skipped = side.log.batches.iter().take_while(ended).count();
        assert_eq!(batches, side.log.batches[skipped..][..batches.len()]);
        let bytes: usize = batches.iter().map(Bytes::len).sum();
        assert!(bytes <= max_bytes || batches.len() == 1);
        let next = side.log.batches.get(skipped + batches.len());
        let full = next.is_none_or(|next| bytes + next.len() > max_bytes);
        let ended = full || bytes >= max_bytes - bytes;
        assert!(ended, "a batch that would have fitted is not there");
        halves += usize::from(!full);
    }
    let segments = writer.syncs().unwrap().0;
    let chunked = segments > 1;
    assert_eq!(halves > 0, chunked, "answers end where chunks do");
    segments
}

#[test]
fn restarts_do_not_pile_up_segments() {
    let disk = SimDisk::new(11);
    let mut side = Side::new(1);
    for time in 0..12 {
        let (mut writer, _) = Writer::open(Arc::new(disk.clone()), tiny()).unwrap();
        writer.commit([side.append(&[vec![1; 100]], time)]);
        let read = read_all(&writer.reader(), side.topic, side.log.next).unwrap();
        assert_eq!(read, side.log.batches);
        writer.close();
        assert_eq!(segments(&disk).len(), 1);
    }
}

/// The space once came back with the next rotation alone, which a full disk never reached.
#[test]
fn the_segments_of_a_deleted_topic_go_with_the_delete() {
    let (disk, mut writer) = simulated();
    let (mut deleted, mut kept) = (Side::new(1), Side::new(2));
    writer.commit([kept.append(&[vec![1; 100]], 0)]);
    for time in 0..60 {
        writer.commit([deleted.append(&[vec![5; 1_500]], time)]);
    }
    let before = segments(&disk);
    assert!(before.len() > 3, "{before:?}");
    let mut last = deleted.job(vec![], vec![]);
    last.kind = JobKind::Delete;
    writer.commit([last]);
    let after = segments(&disk);
    // The kept topic's record is in the first one, and the last one is active.
    assert_eq!(after, [before[0], before[before.len() - 1]]);
    let read = read_all(&writer.reader(), kept.topic, kept.log.next).unwrap();
    assert_eq!(read, kept.log.batches);
    writer.close();
    let (writer, _) = Writer::open(Arc::new(disk.clone()), tiny()).unwrap();
    let read = read_all(&writer.reader(), kept.topic, kept.log.next).unwrap();
    assert_eq!(read, kept.log.batches);
}

#[test]
fn readers_on_other_threads_see_every_segment_while_it_retires() {
    let disk = Arc::new(SimDisk::new(12));
    let (storage, _) = Storage::open(disk.clone(), tiny()).unwrap();
    let mut side = Side::new(1);
    let (ends, upto) = mpsc::channel::<u64>();
    let (reader, topic) = (storage.reader(), side.topic);
    let reading = std::thread::spawn(move || {
        let mut last = Vec::new();
        for end in upto {
            last = read_all(&reader, topic, end).unwrap();
        }
        last
    });
    // When a successor is ready is the keeper's affair: go on until there were enough.
    let mut time = 0;
    while segments(&*disk).len() < 5 {
        time += 1;
        assert!(time < 10_000, "no segment follows another");
        storage.submit(side.append(&[vec![5; 1_500]], time));
        assert!(matches!(
            side.notices.recv().unwrap(),
            Notice::Committed { .. }
        ));
        ends.send(side.log.next).unwrap();
    }
    drop(ends);
    assert_eq!(reading.join().unwrap(), side.log.batches);
    storage.close();
}

#[test]
fn the_broker_lives_without_rows_and_hears_of_failures() {
    let (disk, mut writer) = simulated();
    let mut world = World::new(13);
    writer.attach(BROKER, world.announce(BROKER));
    disk.fail_next(crate::storage::disk::Call::Sync);
    let jobs = world.stage(&mut writer);
    writer.commit(jobs);
    world.hear(&mut writer).unwrap();
    assert_eq!(world.generation, 2);
}

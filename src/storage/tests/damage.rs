//! Bits that flip on the disk, files that go missing, formats of another time.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::world::{self, World, append, change_segment, open, saved_at_once, tiny};
use crate::storage::disk::{Disk, SimDisk};
use crate::storage::layout;
use crate::storage::*;
use bytes::Bytes;
use logdrive_protocol::batch::Head;
use redb::{ReadableTable, WriteTransaction};

/// A store with several sealed segments.
fn filled(seed: u64) -> (World, SimDisk, Writer) {
    let mut world = World::new(seed);
    let disk = SimDisk::new(seed);
    let mut writer = world.reopen(&disk, &tiny());
    for _ in 0..25 {
        world.flush(&mut writer).unwrap();
    }
    (world, disk, writer)
}

pub(super) fn segments(disk: &SimDisk) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| matches!(layout::file_kind(name), layout::FileKind::Segment(_)));
    names.sort();
    names
}

fn flip(disk: &SimDisk, file: &str, bit: u64) {
    let file = disk.open(file).unwrap();
    let mut byte = [0];
    file.read_at(bit / 8, &mut byte).unwrap();
    byte[0] ^= 1 << (bit % 8);
    file.write_at(bit / 8, &byte).unwrap();
}

/// Reads everything that can be read: what is given is right; the rest is named as damaged.
fn read_around_damage(world: &World, reader: &Reader) -> usize {
    let mut damaged = 0;
    for (topic, log) in &world.held().logs {
        let expected: BTreeSet<&Bytes> = log.batches.iter().collect();
        let mut next = 0;
        while next < log.next {
            match reader.read(*topic, next, log.next, 5_000) {
                Ok(read) => {
                    for batch in &read.batches {
                        assert!(expected.contains(batch), "a batch that was never stored");
                    }
                    next = Head::parse(read.batches.last().unwrap())
                        .unwrap()
                        .end_offset();
                }
                Err(ReadError::Damaged { from, to, .. }) => {
                    assert!(from >= next && to > from, "from {next}: {from} to {to}");
                    assert!(to <= log.next);
                    damaged += 1;
                    next = to;
                }
                Err(ReadError::Unavailable(error)) => panic!("{error:#}"),
            }
            // Where a place is, is right or not said either.
            if let Ok(point) = reader.locate(*topic, At::Offset(next), log.next) {
                assert_eq!(point.totals.records, next);
            }
        }
    }
    damaged
}

#[test]
fn a_flipped_bit_in_a_sealed_segment_is_never_read_as_a_record() {
    let (world, disk, writer) = filled(1);
    let reader = writer.reader();
    assert_eq!(read_around_damage(&world, &reader), 0);
    let file = segments(&disk).remove(1);
    let bits = disk.open(&file).unwrap().len().unwrap() * 8;
    let mut noticed = 0;
    // A prime step, so that every kind of byte is met.
    for bit in (0..bits).step_by(2_503) {
        flip(&disk, &file, bit);
        noticed += usize::from(read_around_damage(&world, &reader) > 0);
        flip(&disk, &file, bit);
    }
    assert!(
        noticed > 20,
        "{noticed} of {} flips were in live bytes",
        bits / 2_503
    );
    assert_eq!(read_around_damage(&world, &reader), 0);
}

/// redb opens a file whole or not at all: one bit in its list of free pages made all records of a
/// segment unreadable.
#[test]
fn a_segment_that_redb_does_not_open_is_read_all_the_same() {
    quiet_guarded_panics();
    let (world, disk, writer) = filled(1);
    let reader = writer.reader();
    let file = segments(&disk).remove(1);
    let opens = || {
        let backend = backend::Backend::new(disk.open(&file).unwrap());
        let opened = segment::guarded(|| {
            redb::Builder::new()
                .open_read_only_with_backend(backend)
                .map_err(segment::SegmentError::from)
        });
        opened.is_ok()
    };
    assert!(opens());
    let bits = disk.open(&file).unwrap().len().unwrap() * 8;
    let (mut refused, mut whole) = (0, 0);
    // What comes before the commits says where everything is.
    for bit in (64 * 8..bits).step_by(1_009) {
        flip(&disk, &file, bit);
        if !opens() {
            refused += 1;
            whole += usize::from(read_around_damage(&world, &reader) == 0);
        }
        flip(&disk, &file, bit);
    }
    assert!(whole > 0, "none of {refused} is read");
}

#[test]
fn the_keeper_survives_what_damage_makes_of_redb() {
    let mut world = World::new(8);
    let disk = SimDisk::new(8);
    let mut writer = world.reopen(&disk, &tiny());
    for _ in 0..25 {
        world.flush(&mut writer).unwrap();
    }
    writer.close();
    let (storage, _) = Storage::open(Arc::new(disk.clone()), tiny()).unwrap();
    let reader = storage.reader();
    let file = segments(&disk).remove(1);
    let layout::FileKind::Segment(number) = layout::file_kind(&file) else {
        panic!("{file} is a segment");
    };
    let bits = disk.open(&file).unwrap().len().unwrap() * 8;
    for bit in (0..bits).step_by(5_003) {
        flip(&disk, &file, bit);
        reader.discard(number);
        read_around_damage(&world, &reader);
        flip(&disk, &file, bit);
    }
    reader.discard(number);
    world.check_records(&reader);
    storage.close();
}

#[test]
fn a_flipped_bit_in_the_active_segment_is_named_as_damage() {
    let mut world = World::new(2);
    let disk = SimDisk::new(2);
    // Without a cache every read goes to the disk.
    let options = Options {
        active_cache_bytes: 0,
        segment_bytes: 1 << 30,
        ..tiny()
    };
    let mut writer = world.reopen(&disk, &options);
    for _ in 0..10 {
        world.flush(&mut writer).unwrap();
    }
    let reader = writer.reader();
    let [file] = &segments(&disk)[..] else {
        panic!("one segment")
    };
    let (topic, log) = world
        .held()
        .logs
        .iter()
        .max_by_key(|(_, log)| log.next)
        .unwrap();
    let batch = &log.batches[log.batches.len() / 2];
    let content = disk.open(file).unwrap();
    let mut bytes = vec![0; usize::try_from(content.len().unwrap()).unwrap()];
    content.read_at(0, &mut bytes).unwrap();
    let at = bytes
        .windows(batch.len())
        .position(|window| window == &batch[..])
        .unwrap();
    let head = Head::parse(batch).unwrap();
    for within in [0, 20, 50, batch.len() - 1] {
        let bit = (at + within) as u64 * 8 + 3;
        flip(&disk, file, bit);
        match reader.read(*topic, head.base_offset, log.next, 1) {
            Err(ReadError::Damaged { from, to, what }) => {
                assert_eq!(from, head.base_offset);
                assert!(to >= head.end_offset(), "{what}");
            }
            other => panic!("byte {within}: {other:?}"),
        }
        assert!(read_around_damage(&world, &reader) > 0);
        flip(&disk, file, bit);
    }
    world.check_records(&reader);
}

#[test]
fn a_missing_sealed_segment_is_damage_in_its_ranges_alone() {
    let (mut world, disk, writer) = filled(3);
    writer.close();
    disk.unlink(&segments(&disk)[0]).unwrap();
    let (mut writer, recovered) = open(&disk, &tiny()).unwrap();
    assert_eq!(
        recovered.topics.len(),
        world.held().rows.len(),
        "all state is there"
    );
    let damaged = read_around_damage(&world, &writer.reader());
    assert!(damaged > 0);
    world.generation = recovered.generation;
    world.flush(&mut writer).unwrap();
    assert_eq!(read_around_damage(&world, &writer.reader()), damaged);
}

/// What opening says after the newest segment was changed.
fn refusal(change: impl FnOnce(&SimDisk, &str)) -> String {
    let (_, disk, writer) = filled(4);
    writer.close();
    let newest = segments(&disk).pop().unwrap();
    change(&disk, &newest);
    let before = disk.list().unwrap();
    let error = open(&disk, &tiny())
        .map(|_| ())
        .expect_err("it cannot be opened");
    assert_eq!(
        disk.list().unwrap(),
        before,
        "a refused start changes nothing"
    );
    error.to_string()
}

#[test]
fn a_newer_format_is_refused_with_the_version_that_is_needed() {
    let (_, disk, writer) = filled(5);
    writer.close();
    let newest = segments(&disk).pop().unwrap();
    change_segment(&disk, &newest, |txn| {
        let mut meta = txn.open_table(layout::META).unwrap();
        let format = 7_u32.to_be_bytes();
        meta.insert(layout::META_FORMAT, &format[..]).unwrap();
    });
    let error = open(&disk, &tiny()).map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "segment {newest} has format 7, and this version reads formats up to 3: start a \
             logdrive version that reads format 7"
        )
    );
}

#[test]
fn an_unreadable_active_segment_refuses_the_start_and_says_what_to_do() {
    let texts = [
        refusal(|disk, file| disk.create(file).map(drop).unwrap()),
        refusal(|disk, file| disk.open(file).unwrap().set_len(5_000).unwrap()),
        refusal(|disk, file| disk.open(file).unwrap().write_at(0, &[0xA5; 512]).unwrap()),
        refusal(|disk, file| {
            disk.open(file)
                .unwrap()
                .write_at(0, &vec![0xA5; 40_000])
                .unwrap();
        }),
        refusal(|disk, file| disk.rename(file, &layout::segment_name(77)).unwrap()),
    ];
    for text in texts {
        assert!(text.contains("cannot be read"), "{text}");
        assert!(text.contains("Restore "), "{text}");
        assert!(text.contains("move it out of the data directory"), "{text}");
    }
}

#[test]
fn moving_an_unreadable_active_segment_away_goes_on_from_the_one_before() {
    let (world, disk, writer) = filled(6);
    writer.close();
    disk.unlink(&segments(&disk).pop().unwrap()).unwrap();
    // What it held is not forgotten in silence.
    let refusal = open(&disk, &tiny()).unwrap_err().to_string();
    assert!(refusal.contains("is missing"), "{refusal}");
    assert!(refusal.contains("remove the file newest"), "{refusal}");
    disk.unlink("newest").unwrap();
    let (writer, recovered) = open(&disk, &tiny()).unwrap();
    assert!(!recovered.topics.is_empty());
    for (topic, rows) in &recovered.topics {
        assert!(!rows.is_empty());
        let Some(log) = world.held().logs.get(topic) else {
            continue;
        };
        // As many records as there were then: all are among those that were stored.
        let end = (0..=log.next)
            .rev()
            .find(|end| *end == 0 || writer.reader().read(*topic, end - 1, *end, 1).is_ok())
            .unwrap();
        let read = super::world::read_all(&writer.reader(), *topic, end).unwrap();
        assert_eq!(read[..], log.batches[..read.len()]);
    }
}

#[test]
fn a_batch_under_another_topics_key_is_named_as_damage() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(7));
    let (mut writer, recovered) = Writer::open(disk, saved_at_once()).unwrap();
    let (mine, other) = (TopicId(1), TopicId(2));
    let stray = append(&mut world::Log::default(), other, &[b"stray".to_vec()], 1);
    let announce = Announce::new(|_| {});
    let generation = recovered.generation;
    let (rows, kind) = (vec![], JobKind::Change);
    let batches = vec![stray];
    writer.commit([Job {
        topic: mine,
        generation,
        ticket: 1,
        batches,
        rows,
        announce,
        kind,
    }]);
    let error = writer
        .reader()
        .read(mine, 0, 1, 100)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("a batch belongs to another topic"),
        "{error}"
    );
}

/// Four flushes of two topics; the second one's batch of topic 1 takes three rows of the log.
fn two_topics() -> (SimDisk, Vec<(TopicId, world::Log)>) {
    let disk = SimDisk::new(9);
    let options = Options {
        segment_bytes: 1 << 20,
        ..saved_at_once()
    };
    let (mut writer, recovered) = open(&disk, &options).unwrap();
    let mut logs: Vec<_> = (1..3)
        .map(|topic| (TopicId(topic), world::Log::default()))
        .collect();
    for flush in 0..4_u8 {
        let jobs: Vec<Job> = logs
            .iter_mut()
            .map(|(topic, log)| {
                let length = if flush == 1 && topic.0 == 1 {
                    7_000
                } else {
                    50
                };
                let values = [vec![flush; length]];
                Job {
                    topic: *topic,
                    generation: recovered.generation,
                    ticket: u64::from(flush),
                    batches: vec![append(log, *topic, &values, u64::from(flush))],
                    rows: vec![],
                    announce: Announce::new(|_| {}),
                    kind: JobKind::Change,
                }
            })
            .collect();
        writer.commit(jobs);
    }
    writer.close();
    (disk, logs)
}

/// What reads say after a change to the tables: sealed as it is, and carried into a new segment.
fn check_changed(change: impl Fn(&WriteTransaction), expected: &str) {
    for carry_bytes in [0, 1 << 20] {
        let (disk, logs) = two_topics();
        change_segment(&disk, &segments(&disk)[0], &change);
        let options = Options {
            carry_bytes,
            ..tiny()
        };
        let (writer, _) = open(&disk, &options).unwrap();
        let mut said = Vec::new();
        for (topic, log) in &logs {
            let mut next = 0;
            while next < log.next {
                match writer.reader().read(*topic, next, log.next, 0) {
                    Ok(read) => {
                        let [batch] = &read.batches[..] else {
                            panic!("one batch")
                        };
                        assert!(log.batches.contains(batch), "a batch that was never stored");
                        next = Head::parse(batch).unwrap().end_offset();
                    }
                    Err(ReadError::Damaged { to, what, .. }) => {
                        assert!(to > next);
                        said.push(what);
                        next = to;
                    }
                    Err(ReadError::Unavailable(error)) => panic!("{error:#}"),
                }
            }
        }
        assert!(
            said.iter().any(|what| what.contains(expected)),
            "not {expected:?} with {carry_bytes} bytes to carry: {said:?}"
        );
    }
}

/// Changes one row of the index.
fn change_index(txn: &WriteTransaction, topic: u64, change: impl FnOnce(&mut layout::IndexValue)) {
    let mut index = txn.open_table(layout::INDEX).unwrap();
    let key = layout::index_key(TopicId(topic), 0);
    let mut value = *index.get(&key).unwrap().unwrap().value();
    change(&mut value);
    index.insert(&key, &value).unwrap();
}

/// Changes one row of the log.
fn change_log(txn: &WriteTransaction, number: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let mut log = txn.open_table(layout::LOG).unwrap();
    let mut value = log.get(number).unwrap().unwrap().value().to_vec();
    change(&mut value);
    log.insert(number, &value[..]).unwrap();
}

#[test]
fn swapped_rows_are_named_as_damage() {
    check_changed(
        |txn| {
            let mut first = [0; 72];
            change_index(txn, 1, |value| first = *value);
            change_index(txn, 2, |value| std::mem::swap(value, &mut first));
            change_index(txn, 1, |value| *value = first);
        },
        "the CRC-32C of a chunk's row head does not match",
    );
    let swap = |txn: &WriteTransaction, a, b| {
        let mut first = Vec::new();
        change_log(txn, a, |value| first.clone_from(value));
        change_log(txn, b, |value| std::mem::swap(value, &mut first));
        change_log(txn, a, |value| *value = first);
    };
    check_changed(|txn| swap(txn, 0, 1), "a batch belongs to another topic");
    check_changed(
        |txn| swap(txn, 1, 5),
        "a batch does not abut the one before it",
    );
    // Two parts of one batch.
    check_changed(|txn| swap(txn, 2, 3), "CRC-32C");
}

#[test]
fn a_missing_row_is_named_as_damage() {
    for number in 0..5 {
        let remove = |txn: &WriteTransaction| {
            let mut log = txn.open_table(layout::LOG).unwrap();
            log.remove(number).unwrap();
        };
        check_changed(remove, "of the log is missing");
    }
    let remove = |txn: &WriteTransaction| {
        let mut index = txn.open_table(layout::INDEX).unwrap();
        index.remove(&layout::index_key(TopicId(2), 1)).unwrap();
    };
    check_changed(remove, "the chunk that should follow is missing");
}

#[test]
fn a_flipped_bit_of_any_row_is_named_as_damage() {
    for bit in (0..72 * 8).step_by(17) {
        let flip = |value: &mut layout::IndexValue| value[bit / 8] ^= 1 << (bit % 8);
        check_changed(|txn| change_index(txn, 2, flip), "of a chunk's row head");
    }
    for number in 0..6 {
        for bit in (0..50 * 8).step_by(17) {
            let flip = |value: &mut Vec<u8>| value[bit / 8] ^= 1 << (bit % 8);
            check_changed(|txn| change_log(txn, number, flip), "");
        }
    }
}

/// Where a page is in two files, one of them may come to stand in the other's place. All rows of an
/// older page of state are intact, and redb compares its checksums only where it must repair: a
/// start after a clean stop took them for the newest, and a topic began anew at an old offset.
#[test]
fn a_start_takes_no_page_of_another_file_or_place_for_its_own() {
    let (world, disk, writer) = filled(10);
    writer.close();
    let names = segments(&disk);
    let [.., before, newest] = &names[..] else {
        panic!("too few segments")
    };
    let expected = open(&copy_of(&disk), &tiny()).unwrap().1.topics;
    let pages = disk.open(newest).unwrap().len().unwrap() / 4096;
    let (mut refused, mut told, mut unused) = (0, 0, 0);
    for page in 1..pages {
        for (file, from) in [(before, page), (newest, page % (pages - 1) + 1)] {
            let disk = copy_of(&disk);
            let source = disk.open(file).unwrap();
            let mut content = vec![0; 4096];
            if source.read_at(from * 4096, &mut content).is_err() {
                continue;
            }
            let target = disk.open(newest).unwrap();
            target.write_at(page * 4096, &content).unwrap();
            match open(&disk, &tiny()) {
                Ok((writer, recovered)) => {
                    assert_eq!(
                        recovered.topics, expected,
                        "page {page} from {from} of {file}"
                    );
                    match read_around_damage(&world, &writer.reader()) {
                        0 => unused += 1,
                        _ => told += 1,
                    }
                }
                Err(OpenError::Unreadable { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(
        refused > 5 && told > 2 && unused > 5,
        "{refused} refused, {told} named, {unused} unused"
    );
}

/// Flips a bit in each place of the newest segment that holds a batch: whatever is named, all else is
/// there, and again at the next start. How many chunks were named.
fn flip_each_batch(world: &World, disk: &SimDisk) -> usize {
    let newest = segments(disk).pop().unwrap();
    let sound = open(&copy_of(disk), &tiny()).unwrap().1.topics;
    let content = disk.open(&newest).unwrap();
    let mut bytes = vec![0; usize::try_from(content.len().unwrap()).unwrap()];
    content.read_at(0, &mut bytes).unwrap();
    let mut damaged = 0;
    for batch in world.held().logs.values().flat_map(|log| &log.batches) {
        let places = bytes.windows(batch.len()).enumerate();
        for (at, _) in places.filter(|(_, found)| *found == &batch[..]) {
            let disk = copy_of(disk);
            flip(&disk, &newest, (at + batch.len() - 1) as u64 * 8);
            let (writer, recovered) = open(&disk, &tiny()).unwrap();
            assert_eq!(recovered.topics, sound);
            // None if this place is of an older commit.
            let named = read_around_damage(world, &writer.reader());
            assert!(named <= 1, "{named}");
            damaged += named;
            writer.close();
            let (writer, _) = open(&disk, &tiny()).unwrap();
            assert_eq!(read_around_damage(world, &writer.reader()), named);
        }
    }
    damaged
}

/// One bit of one record in the newest segment kept a whole store from starting, though nothing but
/// that record was damaged.
#[test]
fn a_flipped_bit_among_the_records_of_the_newest_segment_costs_no_more_than_its_chunk() {
    let (world, disk, writer) = filled(11);
    writer.close();
    let damaged = flip_each_batch(&world, &disk);
    assert!(damaged > 0, "no batch is in use anywhere");
}

/// Batches of 1,500 bytes of one topic, in several segments, as any store with that topic has them.
fn store_of(value: u8, options: &Options) -> (SimDisk, world::Log) {
    let disk = SimDisk::new(value.into());
    let (mut writer, recovered) = open(&disk, options).unwrap();
    let mut log = world::Log::default();
    for ticket in 1..=50 {
        writer.commit([Job {
            topic: TopicId(1),
            generation: recovered.generation,
            ticket,
            batches: vec![append(&mut log, TopicId(1), &[vec![value; 1_500]], ticket)],
            rows: vec![Row {
                key: world::row_key(TopicId(1), 1),
                value: Some(vec![value]),
            }],
            announce: Announce::new(|_| {}),
            kind: JobKind::Change,
        }]);
    }
    writer.close();
    (disk, log)
}

/// The same files on a disk of their own.
pub(super) fn copy_of(disk: &SimDisk) -> SimDisk {
    let copy = SimDisk::new(0);
    for name in disk.list().unwrap() {
        replace(&copy, &name, disk);
    }
    copy
}

/// Puts a file of another disk in the place of one.
fn replace(disk: &SimDisk, name: &str, other: &SimDisk) {
    let file = other.open(name).unwrap();
    let mut content = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut content).unwrap();
    let mine = disk.create(name).unwrap();
    mine.write_at(0, &content).unwrap();
}

/// Topics of all stores are called 1, 2, 3 inside, and begin at 0: another store's segment had
/// records of every offset that was asked for, with checksums that fit, and they were delivered.
#[test]
fn another_stores_segment_is_never_read_as_ones_own() {
    let options = saved_at_once();
    let (mine, log) = store_of(1, &options);
    let (other, _) = store_of(
        2,
        &Options {
            salt: 2,
            ..options.clone()
        },
    );
    let names = segments(&mine);
    assert_eq!(names, segments(&other));
    let (newest, sealed) = names.split_last().unwrap();
    for name in sealed {
        let disk = copy_of(&mine);
        replace(&disk, name, &other);
        let (writer, _) = open(&disk, &options).unwrap();
        let mut next = 0;
        let mut said = Vec::new();
        while next < log.next {
            match writer.reader().read(TopicId(1), next, log.next, 5_000) {
                Ok(read) => {
                    let wrong = read.batches.iter().find(|it| !log.batches.contains(it));
                    assert!(wrong.is_none(), "another store's record");
                    next = Head::parse(read.batches.last().unwrap())
                        .unwrap()
                        .end_offset();
                }
                Err(ReadError::Damaged { to, what, .. }) => {
                    said.push(what);
                    next = to;
                }
                Err(ReadError::Unavailable(error)) => panic!("{error:#}"),
            }
        }
        let all_so = said
            .iter()
            .all(|what| what.contains("another one has its name"));
        assert!(all_so && said.len() == 1, "{said:?}");
    }
    let disk = copy_of(&mine);
    replace(&disk, newest, &other);
    let refusal = open(&disk, &options).unwrap_err().to_string();
    assert!(refusal.contains("another one has its name"), "{refusal}");
}

/// A merge that copied what it found would have given it the blessing of a new segment.
#[test]
fn another_stores_segment_is_not_merged() {
    let (kept, brief) = (TopicId(1), TopicId(2));
    let store = |value: u8, options: &Options| {
        let disk = SimDisk::new(value.into());
        let (mut writer, recovered) = open(&disk, options).unwrap();
        let mut logs = [(kept, 150), (brief, 1_400)].map(|it| (it, world::Log::default()));
        for ticket in 1..=60 {
            let jobs = logs.each_mut().map(|((topic, bytes), log)| Job {
                topic: *topic,
                generation: recovered.generation,
                ticket,
                batches: vec![append(log, *topic, &[vec![value; *bytes]], ticket)],
                rows: vec![],
                announce: Announce::new(|_| {}),
                kind: JobKind::Change,
            });
            writer.commit(jobs);
        }
        writer.close();
        (disk, logs)
    };
    let options = Options {
        carry_bytes: 0,
        ..saved_at_once()
    };
    let salted = Options {
        salt: 2,
        ..options.clone()
    };
    let (mine, [(_, log), (_, mut doomed)]) = store(1, &options);
    let (other, _) = store(2, &salted);
    assert!(segments(&mine).len() > 3);
    replace(&mine, &segments(&mine)[1], &other);
    let merging = Options {
        dead_bytes: 1 << 10,
        ..options
    };
    let (mut writer, recovered) = open(&mine, &merging).unwrap();
    let end = doomed.next;
    for (ticket, kind) in [
        (1, doomed.trim(end)),
        (2, JobKind::Change),
        (3, JobKind::Change),
    ] {
        writer.commit([Job {
            topic: brief,
            generation: recovered.generation,
            ticket,
            batches: vec![],
            rows: vec![],
            announce: Announce::new(|_| {}),
            kind,
        }]);
    }
    let (mut next, mut said) = (0, Vec::new());
    while next < log.next {
        match writer.reader().read(kept, next, log.next, 0) {
            Ok(read) => {
                assert!(
                    log.batches.contains(&read.batches[0]),
                    "another store's record"
                );
                next = Head::parse(&read.batches[0]).unwrap().end_offset();
            }
            Err(ReadError::Damaged { to, what, .. }) => {
                said.push(what);
                next = to;
            }
            Err(ReadError::Unavailable(error)) => panic!("{error:#}"),
        }
    }
    let [what] = &said[..] else {
        panic!("{said:?}")
    };
    assert!(what.contains("another one has its name"), "{what}");
}

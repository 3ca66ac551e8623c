//! Random damage: flipped bits, lost ends, zeroed and misplaced pages, files that are gone or of
//! another store. Whatever happens to the files, what is read is right, or what is wrong has a name.
//!
//! `LOGDRIVE_ROT=N` tries N cases, `LOGDRIVE_ROT_SEED=S` begins at another one.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use logdrive_protocol::batch::Head;

use super::behaviour::Side;
use super::damage::copy_of;
use super::verify::findings;
use super::world::{Held, World, merging, open, tiny};
use crate::storage::disk::{Disk, SimDisk};
use crate::storage::*;

/// Cases without `LOGDRIVE_ROT`.
const CASES: u64 = 1_000;
/// Longer than any case takes: one that does not end is a fault.
const PATIENCE: Duration = Duration::from_mins(1);
const PAGE: u64 = 4096;

/// How a store was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Stopped,
    Killed,
    /// A stop, a start, and a kill: a journal, and a segment that was carried over.
    Restarted,
}

/// A store before anything happened to it, with all that it ever held.
struct Sound {
    disk: SimDisk,
    /// By the number of the flush.
    history: BTreeMap<u64, Held>,
    /// The flush that is on disk.
    flush: u64,
}

impl Sound {
    fn new(seed: u64, left: Left) -> Self {
        let mut world = World::trimming(seed);
        let disk = SimDisk::new(seed);
        let options = Options {
            salt: seed + 1,
            ..merging()
        };
        let mut history = BTreeMap::from([(0, Held::default())]);
        let mut writer = world.reopen(&disk, &options);
        for _ in 0..20 {
            world.flush(&mut writer).unwrap();
            history.extend(world.history.clone());
        }
        if left == Left::Restarted {
            writer.close();
            writer = world.reopen(&disk, &options);
            for _ in 0..4 {
                world.flush(&mut writer).unwrap();
                history.extend(world.history.clone());
            }
        }
        let disk = if left == Left::Stopped {
            writer.close();
            disk
        } else {
            disk.kill()
        };
        let flush = *history.last_key_value().unwrap().0;
        Self {
            disk,
            history,
            flush,
        }
    }
}

fn is_segment(name: &str) -> bool {
    matches!(layout::file_kind(name), layout::FileKind::Segment(_))
}

/// Damages a file; which one, and how.
fn damage(disk: &SimDisk, other: &SimDisk, rng: &mut Rng) -> (String, String) {
    let mut names = disk.list().unwrap();
    names.retain(|name| is_segment(name) || name == "journal" || name == "newest");
    // One that was cut to nothing has no more to lose.
    names.retain(|name| !disk.open(name).unwrap().is_empty().unwrap());
    names.sort();
    let name = rng.choice(&names).unwrap().clone();
    let file = disk.open(&name).unwrap();
    let len = file.len().unwrap();
    let pages = len.div_ceil(PAGE).max(1);
    let read = |name: &str, page: u64| {
        let file = disk.open(name).unwrap();
        let left = file.len().unwrap().saturating_sub(page * PAGE).min(PAGE);
        let mut content = vec![0; usize::try_from(left).unwrap()];
        file.read_at(page * PAGE, &mut content).unwrap();
        content
    };
    let (page, another) = (rng.u64(0..pages), rng.u64(0..pages));
    let said = match rng.u8(0..8) {
        0..3 => {
            let bits: Vec<u64> = (0..rng.u8(1..4)).map(|_| rng.u64(0..len * 8)).collect();
            for bit in &bits {
                let mut byte = [0];
                file.read_at(bit / 8, &mut byte).unwrap();
                file.write_at(bit / 8, &[byte[0] ^ (1 << (bit % 8))])
                    .unwrap();
            }
            format!("bits {bits:?} of {name}")
        }
        3 => {
            let to = if rng.bool() {
                page * PAGE
            } else {
                rng.u64(0..len)
            };
            file.set_len(to).unwrap();
            format!("{name} cut from {len} to {to}")
        }
        4 => {
            let content = read(&name, page);
            file.write_at(page * PAGE, &vec![0; content.len()]).unwrap();
            format!("page {page} of {name} is zeros")
        }
        5 => {
            let (one, two) = (read(&name, page), read(&name, another));
            if one.len() == two.len() {
                file.write_at(page * PAGE, &two).unwrap();
                file.write_at(another * PAGE, &one).unwrap();
            }
            format!("pages {page} and {another} of {name} swapped")
        }
        6 => {
            let from = rng.choice(&names).unwrap();
            let content = read(
                from,
                page.min(disk.open(from).unwrap().len().unwrap() / PAGE),
            );
            file.write_at(page * PAGE, &content).unwrap();
            format!("page {page} of {name} is that of {from}")
        }
        _ if rng.bool() && name != "journal" => {
            disk.unlink(&name).unwrap();
            format!("{name} is gone")
        }
        _ => {
            let mut others = other.list().unwrap();
            others.retain(|name| is_segment(name));
            let from = rng.choice(&others).unwrap();
            if is_segment(&name) {
                let source = other.open(from).unwrap();
                let mut content = vec![0; usize::try_from(source.len().unwrap()).unwrap()];
                source.read_at(0, &mut content).unwrap();
                disk.create(&name).unwrap().write_at(0, &content).unwrap();
            }
            format!("{name} is {from} of another store")
        }
    };
    (name, said)
}

/// Reads all that is held, around what is named as damaged; the number of such places.
fn read_all_around(reader: &Reader, held: &Held) -> usize {
    let mut damaged = 0;
    for (topic, log) in &held.logs {
        let expected: std::collections::BTreeSet<&Bytes> = log.batches.iter().collect();
        let mut next = log.start;
        while next < log.next {
            match reader.read(*topic, next, log.next, 5_000) {
                Ok(read) => {
                    for batch in &read.batches {
                        assert!(expected.contains(batch), "a batch that was never stored");
                    }
                    let first = Head::parse(&read.batches[0]).unwrap();
                    assert!(first.base_offset <= next && next < first.end_offset());
                    next = Head::parse(read.batches.last().unwrap())
                        .unwrap()
                        .end_offset();
                }
                Err(ReadError::Damaged { from, to, .. }) => {
                    assert!(
                        from >= next && to > from && to <= log.next,
                        "{from} to {to}"
                    );
                    damaged += 1;
                    next = to;
                }
                Err(ReadError::Unavailable(error)) => panic!("{error:#}"),
            }
            if let Ok(point) = reader.locate(*topic, At::Offset(next), log.next) {
                assert_eq!(point.totals.records, next);
            }
        }
        // By time: the right record, or none.
        let times = log.batches.iter().map(|batch| Head::parse(batch).unwrap());
        for head in times
            .filter(|head| head.base_offset >= log.start)
            .step_by(3)
        {
            if let Ok(point) = reader.locate(*topic, At::Time(head.append_time), log.next) {
                assert_eq!(point.append_time, Some(head.append_time));
                assert!(point.offset <= head.base_offset);
            }
        }
    }
    damaged
}

/// What became of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// All is there, and nothing was said.
    Unused,
    /// All that is needed is there, and something was said.
    Told,
    /// Some records are named as damaged; the others are there.
    Named,
    /// The start was refused, and said which file.
    Refused,
    /// The start went on with the flush before, as after a power cut; verify had said so.
    Earlier,
}

fn check(sound: &Sound, other: &SimDisk, seed: u64) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let disk = copy_of(&sound.disk);
    let times = if rng.u8(..4) == 0 { 2 } else { 1 };
    let done: Vec<_> = (0..times).map(|_| damage(&disk, other, &mut rng)).collect();
    println!("seed {seed}: {done:?}");
    let found = findings(&disk, &sound.history);
    let is_found = found.iter().any(|finding| finding.grade != Grade::Remark);
    let (mut writer, recovered) = match open(&disk, &tiny()) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(is_found, "refused, and verify found nothing: {error}");
            assert!(
                !matches!(error, OpenError::Disk { .. }),
                "the disk is blamed: {error}"
            );
            return Outcome::Refused;
        }
    };
    let flush = World::flush_in(&recovered.topics);
    let held = &sound.history[&flush];
    let rows: BTreeMap<_, _> = recovered
        .topics
        .into_iter()
        .map(|(topic, rows)| (topic, BTreeMap::from_iter(rows)))
        .collect();
    assert_eq!(rows, held.rows, "a state that never was");
    let damaged = read_all_around(&writer.reader(), held);
    assert!(damaged == 0 || is_found, "verify found nothing");
    // It goes on: new records, the next segments, another start.
    let mut side = Side::new(1 << 40);
    for time in 0..12 {
        let mut job = side.append(&[vec![5; 3_000]], time);
        job.generation = recovered.generation;
        writer.commit([job]);
        assert!(!writer.has_failed(), "it cannot be written any more");
    }
    writer.close();
    let (writer, recovered) = open(&disk, &tiny()).unwrap();
    assert_eq!(World::flush_in(&recovered.topics), flush);
    assert_eq!(read_all_around(&writer.reader(), held), damaged);
    let read = super::world::read_all(&writer.reader(), side.topic, side.log.next);
    assert_eq!(read.unwrap(), side.log.batches);
    writer.close();
    if flush < sound.flush {
        // The last entry of a journal that has vanished without a trace was never written, for all
        // that anybody can see; with two such faults, the last two.
        let faults = done.iter().filter(|(name, _)| name == "journal").count() as u64;
        let is_last = faults > 0 && flush + faults >= sound.flush;
        // Nor is anything missed where the note that would miss it is gone as well.
        let is_forgotten = done.iter().any(|(name, _)| name == "newest")
            && done.iter().any(|(name, _)| is_segment(name));
        assert!(
            is_found || is_last || is_forgotten,
            "an earlier state, and verify found nothing"
        );
        Outcome::Earlier
    } else if damaged > 0 {
        Outcome::Named
    } else if found.is_empty() {
        Outcome::Unused
    } else {
        Outcome::Told
    }
}

fn wanted(name: &str, default: u64) -> u64 {
    let value = std::env::var(name);
    value.map_or(default, |value| value.parse().expect("a number"))
}

#[test]
fn whatever_happens_to_the_files_readers_get_the_right_bytes_or_a_named_error() {
    quiet_guarded_panics();
    let cases = wanted("LOGDRIVE_ROT", CASES);
    let first = wanted("LOGDRIVE_ROT_SEED", 0);
    let (tell, told) = mpsc::channel();
    let trying = std::thread::spawn(move || {
        let mut sounds = Vec::new();
        let mut others = Vec::new();
        for seed in 0..4 {
            for left in [Left::Stopped, Left::Killed, Left::Restarted] {
                sounds.push(Sound::new(seed, left));
                // The same topics and offsets, and other records in them.
                others.push(Sound::new(seed + 100, left));
            }
        }
        for seed in first..first + cases {
            let at = usize::try_from(seed).unwrap() % sounds.len();
            let outcome = check(&sounds[at], &others[at].disk, seed);
            tell.send(outcome).unwrap();
        }
    });
    let mut outcomes = BTreeMap::new();
    loop {
        match told.recv_timeout(PATIENCE) {
            Ok(outcome) => *outcomes.entry(outcome).or_insert(0) += 1,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("a case does not end"),
        }
    }
    trying.join().expect("the last seed above fails");
    println!("{outcomes:?}");
    for outcome in [
        Outcome::Unused,
        Outcome::Told,
        Outcome::Named,
        Outcome::Refused,
    ] {
        assert!(outcomes.contains_key(&outcome), "{outcome:?}: {outcomes:?}");
    }
}

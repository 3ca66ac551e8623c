//! Small flushes: the journal's bytes, what they are worth after a crash, and what they cannot hide.

use std::fmt::Write;

use logdrive_protocol::TopicId;
use logdrive_protocol::batch::Records;

use super::world::{Log, append, open, read_all, row_key, tiny};
use crate::storage::disk::{Disk, RealDisk, SimDisk};
use crate::storage::*;

const JOURNAL: &str = "journal";
const TOPIC: TopicId = TopicId(7);
/// Bytes of a block; each entry of these tests takes one.
const BLOCK: u64 = 4096;

/// A store whose segment is in the state before `flushes` flushes of one record and one row, all in
/// the journal, as a kill leaves it.
fn journaled(flushes: u8) -> SimDisk {
    let disk = SimDisk::new(1);
    let (mut writer, _) = open(&disk, &tiny()).unwrap();
    let mut log = Log::default();
    for flush in 1..=flushes {
        let batch = append(&mut log, TOPIC, &[vec![b'a' + flush]], 1);
        writer.commit([Job {
            topic: TOPIC,
            generation: 1,
            ticket: flush.into(),
            batches: vec![batch],
            rows: vec![Row {
                key: row_key(TOPIC, 1),
                value: Some(vec![flush]),
            }],
            announce: Announce::new(drop),
            kind: JobKind::Change,
        }]);
    }
    disk.kill()
}

/// The values and the row that a store holds, or what opening it says.
fn found(disk: &SimDisk) -> Result<String, String> {
    let (writer, recovered) = open(disk, &tiny()).map_err(|error| error.to_string())?;
    let Some(rows) = recovered.topics.get(&TOPIC) else {
        return Ok("nothing".into());
    };
    let row = rows[0].1[0];
    let batches = read_all(&writer.reader(), TOPIC, row.into()).unwrap();
    let values = batches
        .iter()
        .flat_map(|batch| Records::of(batch).map(|record| record.unwrap().value.to_vec()));
    let values = String::from_utf8(values.flatten().collect()).unwrap();
    Ok(format!("{values} {row}"))
}

fn flip(disk: &SimDisk, at: u64) {
    let file = disk.open(JOURNAL).unwrap();
    let mut byte = [0];
    file.read_at(at, &mut byte).unwrap();
    file.write_at(at, &[byte[0] ^ 1]).unwrap();
}

#[test]
fn what_only_the_journal_has_is_there_after_a_kill() {
    let disk = journaled(5);
    assert_eq!(found(&disk), Ok("bcdef 5".into()));
    let disk = disk.power_cut();
    assert_eq!(
        found(&disk),
        Ok("bcdef 5".into()),
        "and after a second start"
    );
}

#[test]
fn an_entry_that_is_not_whole_at_the_end_was_never_acknowledged() {
    for at in [0, 4, 8, 16, 24, 60] {
        let disk = journaled(3);
        flip(&disk, 2 * BLOCK + at);
        assert_eq!(found(&disk), Ok("bc 2".into()), "byte {at}");
    }
}

#[test]
fn an_entry_that_is_not_whole_before_others_is_damage_and_is_named() {
    for at in [0, 4, 8, 16, 24, 60] {
        let disk = journaled(3);
        flip(&disk, BLOCK + at);
        let refusal = found(&disk).unwrap_err();
        assert!(
            refusal.contains("the file journal is damaged at byte 4096"),
            "{refusal}"
        );
        assert!(refusal.contains("LOSES"), "{refusal}");
    }
}

#[test]
fn without_its_journal_a_store_refuses_and_an_empty_file_stands_for_the_loss() {
    let disk = journaled(3);
    disk.unlink(JOURNAL).unwrap();
    let refusal = found(&disk).unwrap_err();
    assert!(refusal.contains("the file journal is missing"), "{refusal}");
    assert!(refusal.contains("create an empty file"), "{refusal}");
    disk.create(JOURNAL).unwrap();
    assert_eq!(found(&disk), Ok("nothing".into()));
    // It was made anew with the start.
    let len = disk.open(JOURNAL).unwrap().len().unwrap();
    assert_eq!(len, tiny().journal_bytes);
}

/// With its end went acknowledged entries, and what was left of the chain was taken for all of it.
#[test]
fn a_journal_that_has_lost_its_end_is_named() {
    for blocks in 1..5 {
        let disk = journaled(5);
        disk.open(JOURNAL).unwrap().set_len(blocks * BLOCK).unwrap();
        let refusal = found(&disk).unwrap_err();
        let said = format!("the file journal has {} bytes and must", blocks * BLOCK);
        assert!(refusal.contains(&said), "{refusal}");
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut hex = String::new();
    for byte in bytes {
        write!(hex, "{byte:02x}").unwrap();
    }
    hex
}

#[test]
fn an_entry_stays_as_it_is_for_ever() {
    let disk = journaled(1);
    let file = disk.open(JOURNAL).unwrap();
    let mut entry = vec![0; 24 + 190];
    file.read_at(0, &mut entry).unwrap();
    assert_eq!(
        hex(&entry),
        concat!(
            "693db3c3000000ab00000000000000010000000000000002",
            "00000001000000000000000700000001",
            "0000000000000000000000000000000025a69078fb1403fe00000068",
            "57c22eba00000068000000000000000700000000000000000000000000000001",
            "0000000000000000afcc0f800100000000000000000000010000000000000001",
            "0000000000000001000000010000000000000000000000000000000000000000",
            "0700000000000162",
            "0000000100000009000000000000000701010000000101",
            "00000000000000000000000000000000000000"
        )
    );
}

/// redb goes back to the commit before one that is not whole. Where that was acknowledged and the
/// journal went on from it, the start did the same, and forgot both in silence.
#[test]
fn a_segment_that_lost_the_flush_before_the_journals_first_is_not_gone_on_with() {
    let disk = SimDisk::new(1);
    let (mut writer, _) = open(&disk, &tiny()).unwrap();
    let mut log = Log::default();
    for (ticket, bytes) in [(1, 9_000), (2, 9_000), (3, 10)] {
        let batch = append(&mut log, TOPIC, &[vec![1; bytes]], 1);
        writer.commit([Job {
            topic: TOPIC,
            generation: 1,
            ticket,
            batches: vec![batch],
            rows: vec![],
            announce: Announce::new(drop),
            kind: JobKind::Change,
        }]);
    }
    let disk = disk.kill();
    spoil_last_commit(&disk, 1);
    let refusal = found(&disk).unwrap_err();
    // The journal is as it was: whoever gave it up would lose what it has, for nothing.
    assert!(
        refusal.contains("its last commit is damaged: the journal goes on after that"),
        "{refusal}"
    );
}

/// Takes the checksum of a segment's last commit away.
fn spoil_last_commit(disk: &SimDisk, number: u64) {
    let file = disk.open(&layout::segment_name(number)).unwrap();
    let mut god = [0];
    file.read_at(9, &mut god).unwrap();
    let slot = 64 + 128 * u64::from(god[0] & 1);
    file.write_at(slot + 112, &[0; 16]).unwrap();
}

/// Before the commit that brings everything along there is one of empty tables. A start went back to
/// that one, as if the broker had never stored anything, and removed all the files it then knew
/// nothing of.
#[test]
fn a_segment_that_lost_what_it_began_with_is_named_and_nothing_is_removed() {
    let disk = journaled(3);
    let (_writer, _) = open(&disk, &tiny()).unwrap();
    let disk = disk.kill();
    spoil_last_commit(&disk, 2);
    let before = disk.list().unwrap();
    let refusal = found(&disk).unwrap_err();
    assert!(
        refusal.contains("00000000000000000002.redb cannot be read: what it began with is gone"),
        "{refusal}"
    );
    assert_eq!(disk.list().unwrap(), before);
}

/// A journal that is not the store's own has no entries of it, and so has one before the first.
#[test]
fn a_journal_that_was_wiped_or_is_of_another_store_is_named() {
    let len = usize::try_from(tiny().journal_bytes).unwrap();
    let foreign = {
        let disk = SimDisk::new(2);
        let other = Options { salt: 9, ..tiny() };
        let _open = open(&disk, &other).unwrap();
        let mut content = vec![0; len];
        disk.open(JOURNAL)
            .unwrap()
            .read_at(0, &mut content)
            .unwrap();
        content
    };
    for content in [vec![0; len], vec![0xff; len], foreign] {
        for flushes in [0, 3] {
            let disk = journaled(flushes);
            disk.open(JOURNAL).unwrap().write_at(0, &content).unwrap();
            let refusal = found(&disk).unwrap_err();
            assert!(refusal.contains("its mark is not there"), "{refusal}");
        }
    }
}

#[test]
fn a_mark_stays_as_it_is_for_ever() {
    let disk = journaled(0);
    let file = disk.open(JOURNAL).unwrap();
    let mut mark = [0; 28];
    file.read_at(tiny().journal_bytes - BLOCK, &mut mark)
        .unwrap();
    assert_eq!(
        (&mark[..16], hex(&mark[16..]).as_str()),
        (&b"logdrive journal"[..], "bf58477af7ec081a14352b6c")
    );
}

/// Older versions made journals without a mark: they are taken as they are, and have none ever after.
#[test]
fn a_journal_without_a_mark_of_a_store_that_knows_of_none_is_read() {
    let disk = journaled(3);
    let file = disk.open(JOURNAL).unwrap();
    let last = tiny().journal_bytes - BLOCK;
    file.write_at(last, &[0; 28]).unwrap();
    super::world::change_segment(&disk, &layout::segment_name(1), |txn| {
        let mut meta = txn.open_table(layout::META).unwrap();
        meta.remove(layout::META_JOURNAL_ID).unwrap();
    });
    assert_eq!(found(&disk), Ok("bcd 3".into()));
    assert_eq!(found(&disk.kill()), Ok("bcd 3".into()));
}

/// Before segments had a birth, the CRC of an entry covered no more than what stands behind it.
#[test]
fn an_entry_of_a_segment_without_a_birth_is_read() {
    let disk = journaled(1);
    super::world::change_segment(&disk, &layout::segment_name(1), |txn| {
        let mut meta = txn.open_table(layout::META).unwrap();
        meta.remove(layout::META_BIRTH).unwrap();
    });
    disk.unlink("newest").unwrap();
    assert_eq!(
        found(&disk),
        Ok("nothing".into()),
        "it is of another segment"
    );
    let disk = journaled(1);
    super::world::change_segment(&disk, &layout::segment_name(1), |txn| {
        let mut meta = txn.open_table(layout::META).unwrap();
        meta.remove(layout::META_BIRTH).unwrap();
    });
    disk.unlink("newest").unwrap();
    let file = disk.open(JOURNAL).unwrap();
    file.write_at(0, &[0xbb, 0x54, 0x3a, 0x66]).unwrap();
    assert_eq!(found(&disk), Ok("b 1".into()));
}

#[test]
fn a_store_of_format_1_goes_on_and_nothing_is_missing() {
    let old = std::path::Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/storage/tests/format-1"
    ));
    let directory = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(old).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
    }
    for _ in 0..2 {
        let disk = std::sync::Arc::new(RealDisk::open(directory.path()).unwrap());
        let (writer, recovered) = Writer::open(disk, tiny()).unwrap();
        let mut found = String::new();
        for (topic, end) in [(1, 3), (3, 2)] {
            let topic = TopicId(topic);
            let rows = recovered.topics.get(&topic).map_or(0, Vec::len);
            write!(found, "{rows} rows:").unwrap();
            for batch in read_all(&writer.reader(), topic, end).unwrap() {
                for record in Records::of(&batch) {
                    let value = String::from_utf8_lossy(record.unwrap().value).into_owned();
                    write!(found, " {value}").unwrap();
                }
            }
            found += "\n";
        }
        assert_eq!(found, "3 rows: one two three\n2 rows: x y\n");
        writer.close();
    }
}

//! Data directories that cannot be served as they are: refused with the fix, or served around the
//! damage.

use std::fs;
use std::path::{Path, PathBuf};

use logdrive_protocol::Position;
use logdrive_protocol::batch::Origin;
use logdrive_protocol::operations::{Fetch, Produce, Seek};
use tempfile::TempDir;

use crate::support::asking::{Worker, fetch, produce};
use crate::support::{Broker, batch_of, said};
use crate::{Bystander, names};

/// The segments of a directory, oldest first.
fn segments(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data).unwrap().map(|it| it.unwrap().path());
    let mut segments: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|it| it == "redb"))
        .collect();
    segments.sort();
    segments
}

/// A directory with a record in it, and its only segment.
fn filled() -> (TempDir, PathBuf) {
    let broker = Broker::start();
    Bystander::of(&broker);
    broker.terminate();
    let (data, _) = broker.stopped();
    let newest = segments(data.path()).pop().unwrap();
    (data, newest)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn a_second_broker_on_the_same_directory_is_told_which_process_holds_it() {
    let broker = Broker::start();
    let bystander = Bystander::of(&broker);
    let said = Broker::refusal(broker.data());
    assert!(said.contains("is in use by process "), "{said}");
    assert!(
        said.contains(&format!("process {}:", broker.pid())),
        "{said}"
    );
    assert!(said.contains("give this one another directory"), "{said}");
    bystander.outlives(broker);
}

#[test]
fn a_newer_format_is_refused_with_the_version_that_is_needed_and_left_alone() {
    let (data, newest) = filled();
    let format = redb::TableDefinition::<&str, &[u8]>::new("meta");
    let set = |to: u32| {
        let segment = redb::Database::create(&newest).unwrap();
        let txn = segment.begin_write().unwrap();
        let mut table = txn.open_table(format).unwrap();
        assert!(
            table
                .insert("format", &to.to_be_bytes()[..])
                .unwrap()
                .is_some()
        );
        drop(table);
        txn.commit().unwrap();
    };
    set(9);
    let said = Broker::refusal(data.path());
    assert!(
        said.contains("has format 9, and this version reads formats up to 3"),
        "{said}"
    );
    assert!(
        said.contains("start a logdrive version that reads format 9"),
        "{said}"
    );
    set(1);
    let broker = Broker::start_on(data);
    let topic = broker
        .connect()
        .ask(crate::support::asking::register("undisturbed", "", 1));
    broker
        .connect()
        .check(fetch(topic.unwrap().topic, 0), "0:record 0 next=1");
}

#[test]
fn an_unreadable_active_segment_refuses_the_start_and_says_what_to_do() {
    let (data, newest) = filled();
    let good = fs::read(&newest).unwrap();
    for bad in [
        vec![],
        vec![0xa5; good.len()],
        good[..good.len() / 2].to_vec(),
    ] {
        fs::write(&newest, bad).unwrap();
        let said = Broker::refusal(data.path());
        let expected = format!("segment {} cannot be read", file_name(&newest));
        assert!(said.contains(&expected), "{said}");
        assert!(said.contains("Restore "), "{said}");
        assert!(said.contains("move it out of the data directory"), "{said}");
    }
    // Restored, as the text says, everything is there.
    fs::write(&newest, good).unwrap();
    let broker = Broker::start_on(data);
    let registered = broker.connect().producer("undisturbed");
    broker
        .connect()
        .check(fetch(registered.topic, 0), "0:record 0 next=1");
}

/// The story: one rotten bit in the file that a graceful stop had left kept the broker from starting.
#[test]
fn a_record_that_rots_in_the_newest_segment_is_refused_by_name_and_the_rest_is_served() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    for record in ["before it", "this one rots", "behind it"] {
        peer.produce(topic, &[record]);
    }
    broker.terminate();
    let (data, _) = broker.stopped();
    rot(&segments(data.path()).pop().unwrap(), b"this one rots");

    let broker = Broker::start_on(data);
    let mut peer = broker.connect();
    let one = |offset| Fetch {
        max_records: 1,
        ..fetch(topic, offset)
    };
    peer.check(one(0), "0:before it next=1");
    let failure = peer.ask(one(1)).unwrap_err();
    names(&failure, "DATA_DAMAGED", "cannot be read");
    assert_eq!((failure.first, failure.second), (1, 2));
    peer.check(one(2), "2:behind it next=3");
    assert_eq!(peer.produce(topic, &["and on"]), 3);
    peer.check(one(3), "3:and on next=4");
}

/// Flips a bit of the only place where a file holds this.
fn rot(path: &Path, record: &[u8]) {
    let mut content = fs::read(path).unwrap();
    let mut places = (0..content.len()).filter(|at| content[*at..].starts_with(record));
    let (at, None) = (places.next().unwrap(), places.next()) else {
        panic!("it is there more than once")
    };
    content[at] ^= 4;
    fs::write(path, content).unwrap();
}

#[test]
fn a_sealed_segment_that_is_gone_is_damage_in_its_ranges_and_the_rest_is_served() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("big");
    let worker = Worker::of(&peer.consumer("big", "c"), 1);
    let megabyte = vec![b'x'; 1 << 20];
    let big = produce(topic, batch_of(Origin::default(), &[&megabyte]));
    for number in peer.send_all(&vec![big; 24]) {
        peer.answer::<Produce>(number).unwrap();
    }
    peer.produce(topic, &["behind the big ones"]);
    // A segment of this size is not carried over into the next one: it is sealed.
    let data = broker.kill();
    let sealed = segments(data.path());
    let broker = Broker::start_on(data);
    let mut bystander = Bystander::of(&broker);
    let mut peer = broker.connect();
    assert_eq!(peer.produce(topic, &["after the start"]), 25);
    peer.check(
        worker.size(),
        &format!("records=26 bytes={}", (24 << 20) + 34),
    );
    let data = broker.kill();
    assert!(segments(data.path()).len() > 1);
    for path in sealed {
        fs::remove_file(path).unwrap();
    }

    let broker = Broker::start_on(data);
    let mut peer = broker.connect();
    let failure = peer.ask(fetch(topic, 3)).unwrap_err();
    names(&failure, "DATA_DAMAGED", "cannot be read");
    let (from, to) = (failure.first, failure.second);
    assert!(from <= 3 && to > 3 && to <= 25, "{from} to {to}");
    let refused = peer.ask(worker.take(1, 1)).unwrap_err();
    names(&refused, "DATA_DAMAGED", "cannot be read");
    peer.check(
        worker.size(),
        &format!("records=26 bytes={}", (24 << 20) + 34),
    );
    let rest = said(peer.ask(Fetch {
        max_bytes: 1,
        ..fetch(topic, 25)
    }));
    assert_eq!(rest, "25:after the start next=26");
    assert_eq!(peer.produce(topic, &["and on"]), 26);
    // The consumer goes on behind the damage, as the error says.
    let mut next = to;
    let to = Position::Offset(to);
    let (topic, consumer) = (worker.topic, worker.consumer);
    peer.ask(Seek {
        topic,
        consumer,
        to,
    })
    .unwrap();
    let mut sequences = 1..;
    while next < 27 {
        let sequence = sequences.next().unwrap();
        let taken = peer.ask(worker.take(sequence, 0)).unwrap();
        assert!(taken.next > next, "{taken:?}");
        next = taken.next;
    }
    assert_eq!(next, 27);
    bystander.peer = peer;
    bystander.goes_on();
}

//! A real file system that is full: a tmpfs of 96 MiB, mounted in a namespace of the test's own.
//!
//! Each test runs itself once more under `unshare`, mounts there, and starts real brokers on it; the
//! mount goes with the namespace. Where that is not permitted the test says so on stderr and tests
//! nothing, unless `LOGDRIVE_FULL_DISK=must` says that it has to: then it fails.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use logdrive_protocol::batch::Origin;
use logdrive_protocol::operations::{
    Ack, Consume, DeleteTopic, Delivered, Fetch, Ping, Pinged, PurgeTopic, Settled,
};
use logdrive_protocol::{ErrorCode, Failure, Position, TopicId, WorkerId};

use support::asking::{Worker, fetch, produce};
use support::{Broker, Connection, batch_of, until};

const MIB: u64 = 1 << 20;
/// Of the file system.
const SIZE_MIB: u64 = 96;
/// Where the inner run finds it.
const PLACE: &str = "LOGDRIVE_FULL_DISK_AT";
const MUST: &str = "LOGDRIVE_FULL_DISK";

/// Runs `body` on a small file system: in this process if it is the inner one.
fn on_a_small_disk(test: &str, body: fn(&Path)) {
    if let Some(place) = std::env::var_os(PLACE) {
        let place = PathBuf::from(place);
        let size = format!("size={SIZE_MIB}m");
        let mount = ["-t", "tmpfs", "-o", &size, "small"];
        let mounted = Command::new("mount").args(mount).arg(&place).status();
        assert!(mounted.unwrap().success(), "no tmpfs can be mounted");
        return body(&place);
    }
    let place = tempfile::tempdir().unwrap();
    // As root without a namespace of users; else as root of a new one.
    let Some(flags) = ["-m", "-rm"].into_iter().find(|flags| permitted(flags)) else {
        let must = std::env::var(MUST).is_ok_and(|value| value == "must");
        assert!(!must, "{MUST}=must, and nothing can be mounted here");
        eprintln!("NOT TESTED: nothing can be mounted here, so no disk gets full");
        return;
    };
    let inner = Command::new("unshare")
        .arg(flags)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(PLACE, place.path())
        .output()
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, talk) = (said(&inner.stdout), said(&inner.stderr));
    assert!(inner.status.success(), "{out}\n{talk}");
    assert!(out.contains("1 passed"), "no test is called {test}: {out}");
}

fn permitted(flags: &str) -> bool {
    let place = tempfile::tempdir().unwrap();
    let mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "small"];
    let tried = Command::new("unshare")
        .arg(flags)
        .args(mount)
        .arg(place.path())
        .output();
    tried.is_ok_and(|it| it.status.success())
}

fn free_bytes(place: &Path) -> u64 {
    let found = rustix::fs::statvfs(place).unwrap();
    found.f_bavail * found.f_frsize
}

/// Somebody else's file on the same disk.
struct Filler {
    place: PathBuf,
    file: File,
}

impl Filler {
    fn new(place: &Path) -> Self {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(place.join("filler"));
        Self {
            place: place.to_owned(),
            file: file.unwrap(),
        }
    }

    /// Grows until so much is left.
    fn leave(&mut self, bytes: u64) {
        let block = vec![b'x'; 64 << 10];
        loop {
            let over = free_bytes(&self.place).saturating_sub(bytes);
            let count = usize::try_from(over.min(block.len() as u64)).unwrap();
            if count == 0 {
                return;
            }
            match self.file.write_all(&block[..count]) {
                Ok(()) => {}
                // The broker was faster.
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn empty(&self) {
        self.file.set_len(0).unwrap();
    }
}

fn start(place: &Path, low_space: &str) -> Broker {
    Broker::start_in(&place.join("data"), &["--low-space", low_space])
}

/// A value that no other record has, and that does not pack.
fn value(number: u64, bytes: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(number);
    let mut value = number.to_be_bytes().to_vec();
    value.resize_with(bytes, || rng.u8(..));
    value
}

fn send(peer: &mut Connection, topic: TopicId, value: &[u8]) -> Result<u64, Failure> {
    let batch = batch_of(Origin::default(), &[value]);
    peer.ask(produce(topic, batch)).map(|it| it.base_offset)
}

fn ping(peer: &mut Connection) -> Pinged {
    peer.ask(Ping {}).unwrap()
}

/// All values of a topic.
fn all(peer: &mut Connection, topic: TopicId) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    let mut next = 0;
    loop {
        let read: Delivered = peer.ask::<Fetch>(fetch(topic, next)).unwrap();
        for record in read.records() {
            assert_eq!(record.offset, values.len() as u64);
            values.push(record.record.value.to_vec());
        }
        if read.next == next {
            return values;
        }
        next = read.next;
    }
}

/// The program against a broker.
fn program(broker: &Broker, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_logdrive"))
        .args(arguments)
        .args(["--server", &broker.address.to_string()])
        .output()
        .unwrap()
}

/// What `logdrive ping` and PING in text mode say of the state.
#[track_caller]
fn check_said(broker: &Broker, state: &str, exit: i32) {
    let out = program(broker, &["ping", "-o", "raw"]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.starts_with(&format!("state={state}\n")), "{text}");
    assert_eq!(out.status.code(), Some(exit));
    let typed = format!("+ pong state={}", state.replace('_', "-"));
    broker.text().check("PING", &typed);
}

#[test]
fn space_is_low_before_the_disk_is_full_and_everything_but_writing_goes_on() {
    let name = "space_is_low_before_the_disk_is_full_and_everything_but_writing_goes_on";
    on_a_small_disk(name, |place| {
        let low = 16 * MIB;
        let broker = start(place, "16");
        let mut peer = broker.connect();
        let (app, gone) = (peer.create("app"), peer.create("gone"));
        let mail = Worker::of(&peer.consumer("app", "mail"), 7);
        let mut acknowledged = Vec::new();
        check_said(&broker, "ok", 0);
        let refused = loop {
            let value = value(acknowledged.len() as u64, 256 << 10);
            match send(&mut peer, app, &value) {
                Ok(_) => acknowledged.push(value),
                Err(failure) => break failure,
            }
            // Never so much that it would be the reason.
            if acknowledged.len() == 3 {
                send(&mut peer, gone, b"of a topic that goes").unwrap();
            }
        };
        assert_eq!(refused.code, ErrorCode::LowSpace, "{refused}");
        assert!(refused.message.contains("less than 16 MiB"), "{refused}");
        assert!(free_bytes(place) > low / 2, "the disk is nearly full");
        check_said(&broker, "low_space", 6);

        // Reads, acks, deletes and trims go on.
        assert!(all(&mut peer, app) == acknowledged);
        for sequence in 1..11 {
            let lent: Delivered = peer
                .ask(Consume {
                    lease_ms: 60_000,
                    ..mail.take(sequence, 1)
                })
                .unwrap();
            let range = &lent.ranges[0];
            assert_eq!(range.to, range.from + 1);
            let acked = peer.ask(Ack {
                topic: mail.topic,
                consumer: mail.consumer,
                worker: WorkerId(mail.id),
                settled: vec![Settled {
                    lease: range.lease,
                    from: range.from,
                    to: range.to,
                }],
            });
            assert_eq!(acked.unwrap().records, 1);
        }
        peer.ask(DeleteTopic { topic: gone }).unwrap();
        let purged = peer.ask(PurgeTopic {
            topic: app,
            before: Position::Offset(5),
        });
        assert_eq!(purged.unwrap().log_start, 5);
        let refused = send(&mut peer, app, b"more").unwrap_err();
        assert_eq!(refused.code, ErrorCode::LowSpace);

        // A kill, and a start on a disk that somebody else has filled meanwhile: the same again.
        broker.kill_in_place();
        let mut filler = Filler::new(place);
        filler.leave(low - MIB);
        let broker = start(place, "16");
        let mut peer = broker.connect();
        until("space is low", || ping(&mut peer).state == 1);
        check_rest(&mut peer, app, &acknowledged[5..]);

        // Somebody makes room: with twice the mark it goes on by itself.
        filler.empty();
        let larger = format!("remount,size={}m", SIZE_MIB * 2);
        let remount = Command::new("mount")
            .args(["-o", &larger])
            .arg(place)
            .status();
        assert!(remount.unwrap().success());
        until("all is well", || ping(&mut peer).state == 0);
        check_said(&broker, "ok", 0);
        send(&mut peer, app, b"more").unwrap();
        acknowledged.push(b"more".to_vec());
        check_rest(&mut peer, app, &acknowledged[5..]);
    });
}

/// The records from offset 5 on are these.
#[track_caller]
fn check_rest(peer: &mut Connection, topic: TopicId, kept: &[Vec<u8>]) {
    let mut found = Vec::new();
    let mut next = 5;
    loop {
        let read: Delivered = peer.ask::<Fetch>(fetch(topic, next)).unwrap();
        found.extend(read.records().map(|it| it.record.value.to_vec()));
        if read.next == next {
            break;
        }
        next = read.next;
    }
    assert!(found == kept, "{} records, not {}", found.len(), kept.len());
}

#[test]
fn a_commit_that_finds_no_room_fails_and_the_way_back_is_by_itself() {
    let name = "a_commit_that_finds_no_room_fails_and_the_way_back_is_by_itself";
    on_a_small_disk(name, |place| {
        // Without a mark the broker runs into the end of the disk.
        let mut broker = start(place, "0");
        let mut peer = broker.connect();
        let app = peer.create("app");
        let mut filler = Filler::new(place);
        let mut sent: Vec<(Vec<u8>, bool)> = Vec::new();
        for number in 0..20 {
            let value = value(number, 200 << 10);
            send(&mut peer, app, &value).unwrap();
            sent.push((value, true));
        }
        for round in 0..2 {
            // Beside the broker somebody takes all there is.
            let mut number = 1_000 * (round + 1);
            until("a commit fails, and no attempt to go on finds room", || {
                filler.leave(0);
                number += 1;
                let value = value(number, 300 << 10);
                let outcome = send(&mut peer, app, &value);
                match outcome.map_err(|failure| failure.code) {
                    Ok(_) => sent.push((value, true)),
                    Err(ErrorCode::OutcomeUnknown) => sent.push((value, false)),
                    Err(ErrorCode::StorageFailed | ErrorCode::Unavailable) => {}
                    Err(other) => panic!("{other}"),
                }
                filler.leave(0);
                ping(&mut peer).state == 2
            });
            check_said(&broker, "storage_failed", 6);
            let refused = send(&mut peer, app, b"more").unwrap_err();
            assert_eq!(refused.code, ErrorCode::StorageFailed, "{refused}");
            check_found(&mut peer, app, &mut sent);
            if round == 1 {
                // A kill and a start on the full disk: reads go on there as well.
                broker.kill_in_place();
                broker = start(place, "0");
                peer = broker.connect();
                check_said(&broker, "storage_failed", 6);
                check_found(&mut peer, app, &mut sent);
            }
            filler.empty();
            until("all is well", || ping(&mut peer).state == 0);
            check_said(&broker, "ok", 0);
            check_found(&mut peer, app, &mut sent);
            let last = value(number + 500, 1_000);
            send(&mut peer, app, &last).unwrap();
            sent.push((last, true));
            check_found(&mut peer, app, &mut sent);
        }
        broker.kill_in_place();
        let out = Command::new(env!("CARGO_BIN_EXE_logdrive"))
            .arg("verify")
            .arg(place.join("data"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        assert_eq!(out.status.code(), Some(0), "{said}");
    });
}

/// Everything acknowledged is there, once and in order; of the rest whatever is there is believed
/// from then on.
#[track_caller]
fn check_found(peer: &mut Connection, topic: TopicId, sent: &mut Vec<(Vec<u8>, bool)>) {
    let found = all(peer, topic);
    let mut next = found.iter().peekable();
    sent.retain_mut(|(value, acknowledged)| {
        let is_next = next.peek().is_some_and(|it| *it == value);
        if is_next {
            next.next();
            *acknowledged = true;
        }
        assert!(is_next || !*acknowledged, "an acknowledged record is gone");
        is_next
    });
    assert_eq!(next.next(), None, "a record that nobody sent");
}

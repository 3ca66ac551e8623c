//! Moving a cursor, and how much is left behind it.

use logdrive_protocol::Position;
use logdrive_protocol::operations::{Consume, Seek};

use crate::support::asking::{Worker, produce};
use crate::support::{Broker, Connection, batch};

fn seek(worker: &Worker, to: Position) -> Seek {
    Seek {
        topic: worker.topic,
        consumer: worker.consumer,
        to,
    }
}

/// Two batches of three records each, and when they were appended.
fn filled(peer: &mut Connection) -> (Worker, [u64; 2]) {
    let topic = peer.create("app");
    let times = [&["a", "bb", "ccc"], &["dddd", "eeeee", "ffffff"]]
        .map(|values| peer.ask(produce(topic, batch(values))).unwrap().append_time);
    assert!(times[0] < times[1]);
    (Worker::of(&peer.consumer("app", "c"), 1), times)
}

#[test]
fn a_cursor_goes_to_every_kind_of_position_and_size_follows_it_exactly() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let (worker, [first, second]) = filled(&mut peer);
    let check = |peer: &mut Connection| {
        let mut to = |to, cursor: u64, bytes: u64| {
            peer.check(seek(&worker, to), &format!("cursor={cursor}"));
            let expected = format!("records={} bytes={bytes}", 6 - cursor);
            peer.check(worker.size(), &expected);
        };
        to(Position::Latest, 6, 0);
        to(Position::Earliest, 0, 21);
        for (offset, bytes) in [(0, 21), (1, 20), (2, 18), (3, 15), (4, 11), (5, 6), (6, 0)] {
            to(Position::Offset(offset), offset, bytes);
            to(Position::Last(6 - offset), offset, bytes);
        }
        to(Position::Last(99), 0, 21);
        to(Position::Time(0), 0, 21);
        to(Position::Time(first), 0, 21);
        to(Position::Time(first + 1), 3, 15);
        to(Position::Time(second), 3, 15);
        to(Position::Time(second + 1), 6, 0);
        to(Position::Ago(0), 6, 0);
        to(Position::Ago(u64::MAX), 0, 21);
    };
    check(&mut peer);
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    check(&mut peer);
    peer.check(seek(&worker, Position::Offset(7)), "OFFSET_OUT_OF_RANGE 6");
    peer.check(seek(&worker, Position::Unknown(6)), "NOT_SUPPORTED");
    peer.check(worker.size(), "records=6 bytes=21");
}

#[test]
fn size_is_exact_in_the_middle_of_a_batch_before_and_after_a_kill() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let (worker, _) = filled(&mut peer);
    peer.check(worker.take(1, 4), "0:a 1:bb 2:ccc 3:dddd next=4");
    peer.check(worker.size(), "records=2 bytes=11");
    let age = peer.ask(worker.size()).unwrap().oldest_age;
    assert!(
        age > 0,
        "something is left, and it was appended in the past"
    );

    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(worker.size(), "records=2 bytes=11");
    peer.produce(worker.topic, &["g"]);
    peer.check(worker.size(), "records=3 bytes=12");
    peer.check(worker.take(2, 1), "4:eeeee next=5");
    peer.check(worker.size(), "records=2 bytes=7");
    peer.check(worker.take(3, 0), "5:ffffff 6:g next=7");
    let nothing = peer.ask(worker.size()).unwrap();
    assert_eq!(nothing, logdrive_protocol::operations::Measured::default());
}

#[test]
fn where_a_cursor_was_sent_survives_a_kill_and_leaves_the_workers_sequence_alone() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let (worker, _) = filled(&mut peer);
    peer.check(worker.take(1, 2), "0:a 1:bb next=2");
    peer.check(seek(&worker, Position::Offset(4)), "cursor=4");
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(worker.take(1, 9), "0:a 1:bb next=2");
    peer.check(worker.take(2, 1), "4:eeeee next=5");
}

#[test]
fn a_consume_that_waits_is_served_when_the_cursor_is_sent_back() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let (worker, _) = filled(&mut peer);
    peer.check(seek(&worker, Position::Latest), "cursor=6");
    let waiting = peer.send(&worker.wait(1));
    peer.check(seek(&worker, Position::Offset(2)), "cursor=2");
    peer.check_answer::<Consume>(waiting, "2:ccc next=3");
}

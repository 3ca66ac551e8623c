//! Bounds that hold under load: a peer that does not read, many that wait, and a repetition of
//! something small in something large. Memory is the child's own, as the system counts it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use logdrive_protocol::TopicId;
use logdrive_protocol::batch::Origin;
use logdrive_protocol::operations::{Delivered, Fetch, Produce};

use support::asking::{Worker, fetch, fetch_waiting, produce_accepted};
use support::{Broker, Connection, batch_of, until};

const MIB: u64 = 1 << 20;

/// A value of nearly a megabyte that says which one it is.
fn value(number: usize) -> Vec<u8> {
    let mut value = vec![b'a' + u8::try_from(number % 26).unwrap(); 1_000_000];
    value[..8].copy_from_slice(&number.to_be_bytes());
    value
}

/// A topic of so many megabytes, one in a batch.
fn filled(peer: &mut Connection, name: &str, megabytes: usize) -> TopicId {
    let topic = peer.create(name);
    for first in (0..megabytes).step_by(8) {
        let requests: Vec<Produce> = (first..megabytes.min(first + 8))
            .map(|number| produce_accepted(topic, batch_of(Origin::default(), &[value(number)])))
            .collect();
        for number in peer.send_all(&requests) {
            peer.answer::<Produce>(number).unwrap();
        }
    }
    // The next one is answered when it is durable, and with it all before it.
    peer.produce(topic, &["the last one"]);
    topic
}

/// Another peer works as if nothing were.
fn others_are_served(broker: &Broker, topic: TopicId) {
    let mut peer = broker.connect();
    let own = peer.create("others");
    for count in 0..50 {
        assert_eq!(peer.produce(own, &["a"]), count);
        peer.check(fetch(own, count), &format!("{count}:a next={}", count + 1));
    }
    // Also on the topic that the slow one reads, from the disk and from memory.
    let first: Delivered = peer.ask(fetch(topic, 0)).unwrap();
    assert_eq!(first.records().next().unwrap().record.value, value(0));
    let at = first.high_watermark - 1;
    peer.check(
        fetch(topic, at),
        &format!("{at}:the last one next={}", at + 1),
    );
}

#[test]
fn a_reader_that_asks_for_much_and_reads_nothing_takes_no_more_than_its_window() {
    let broker = Broker::start();
    let topic = filled(&mut broker.connect(), "big", 48);
    let before = broker.resident_bytes();
    // Half a gigabyte from the disk and from memory, in answers of all sizes.
    let mut slow = broker.connect();
    let requests: Vec<Fetch> = (0..300)
        .map(|number| Fetch {
            max_bytes: [0, u32::MAX, 1][number % 3],
            max_records: 4,
            ..fetch(topic, number as u64 % 48)
        })
        .collect();
    let numbers = slow.send_all(&requests);
    others_are_served(&broker, topic);
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 100 * MIB, "{} MiB more", grown / MIB);

    // When it reads, everything arrives, whole and right.
    for (request, number) in requests.iter().zip(numbers) {
        let mut delivered = slow.answer::<Fetch>(number).unwrap();
        delivered.check(topic).unwrap();
        let from = delivered.records().next().unwrap().offset;
        assert_eq!(logdrive_protocol::Position::Offset(from), request.from);
        for it in delivered.records().filter(|it| it.offset < 48) {
            let number = usize::try_from(it.offset).unwrap();
            assert_eq!(it.record.value, value(number));
        }
    }
}

#[test]
fn thousands_of_small_requests_that_are_not_read_hold_up_only_their_own_peer() {
    // The story: each of them was looked at again with every message of the topic, and those of
    // other peers took a hundred times as long.
    let broker = Broker::start();
    let topic = filled(&mut broker.connect(), "big", 4);
    let before = broker.resident_bytes();
    let mut slow = broker.connect();
    // Served from memory; each waits for its share of the window.
    let numbers = slow.send_all(&vec![fetch(topic, 0); 30_000]);
    others_are_served(&broker, topic);
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 100 * MIB, "{} MiB more", grown / MIB);
    for number in numbers.into_iter().take(100) {
        let delivered = slow.answer::<Fetch>(number).unwrap();
        assert_eq!(delivered.records().next().unwrap().record.value, value(0));
    }
}

#[test]
fn a_consumer_whose_worker_does_not_read_is_served_through_another_worker() {
    // The story: a request that waits for its connection to read had its consumer's turn, and all
    // other workers of the consumer waited with it.
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = filled(&mut peer, "big", 48);
    let registered = peer.consumer("big", "c");
    let mut slow = broker.connect();
    let stuck = Worker::of(&registered, 1);
    let mut clogged = vec![fetch(topic, 0); 100];
    for request in &mut clogged {
        request.max_bytes = u32::MAX;
    }
    slow.send_all(&clogged);
    slow.send(&stuck.take(1, 1));
    let other = Worker::of(&registered, 2);
    let mut taken = 0;
    for sequence in 1.. {
        let delivered = peer.ask(other.take(sequence, 8)).unwrap();
        if delivered.status == Delivered::EMPTY {
            break;
        }
        taken += delivered.record_count();
    }
    assert!(taken >= 48, "{taken} of 49: the stuck one may have had one");
}

#[test]
fn ten_thousand_requests_that_wait_cost_little_and_all_are_woken() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let before = broker.resident_bytes();
    let mut peers: Vec<_> = (0..20).map(|_| broker.connect()).collect();
    let waiting: Vec<_> = peers
        .iter_mut()
        .map(|peer| peer.send_all(&vec![fetch_waiting(topic, 0); 500]))
        .collect();
    until("all wait", || {
        peer.counter("app", "requests_waiting") == 10_000
    });
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 48 * MIB, "{} KiB each", grown / 10_000 / 1024);
    peer.produce(topic, &["a"]);
    for (peer, numbers) in peers.iter_mut().zip(waiting) {
        for number in numbers {
            peer.check_answer::<Fetch>(number, "0:a next=1");
        }
    }
}

#[test]
fn a_consume_that_is_repeated_reads_its_own_records_and_not_the_whole_topic() {
    // The story: a repetition is not cut by bytes, so after a restart its read went on to the end
    // of the topic, and all of it stood in memory for one record.
    let broker = Broker::start();
    let mut peer = broker.connect();
    filled(&mut peer, "big", 160);
    let worker = Worker::of(&peer.consumer("big", "c"), 1);
    peer.ask(worker.take(1, 1)).unwrap();
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    let before = broker.resident_bytes();
    let again = peer.ask(worker.take(1, 1)).unwrap();
    assert_eq!(again.records().next().unwrap().record.value, value(0));
    assert_eq!((again.record_count(), again.batches.len()), (1, 1));
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "{} MiB more", grown / MIB);
}

#[test]
fn a_text_session_that_is_not_read_stops_being_read_itself() {
    let broker = Broker::start();
    let topic = filled(&mut broker.connect(), "big", 8);
    let before = broker.resident_bytes();
    let mut text = broker.text();
    // More commands than any buffer holds: the last of them cannot be sent.
    text.set_write_patience(Duration::from_secs(1));
    let commands = "FETCH big earliest n=8\n".repeat(4 << 20);
    assert!(!text.sends_all(commands.as_bytes()));
    others_are_served(&broker, topic);
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "{} MiB more", grown / MIB);
    // What was asked first is answered when it is read.
    let line = text.hear().unwrap();
    assert!(line.starts_with("* big 0 "), "{}", &line[..40]);
}

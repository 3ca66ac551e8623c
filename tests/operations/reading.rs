//! Fetching: from any position, with limits, and waiting for what comes.

use logdrive_protocol::Position;
use logdrive_protocol::operations::{Cancel, Delivered, Fetch, Produce};

use crate::support::asking::{fetch, fetch_waiting, produce_accepted};
use crate::support::{Broker, Connection, batch};

#[test]
fn a_fetch_reads_from_any_position_and_changes_nothing() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    peer.produce(topic, &["a", "b", "c"]);
    peer.produce(topic, &["d"]);
    let check = |peer: &mut Connection| {
        let mut from = |from, expected| {
            let request = Fetch {
                topic,
                from,
                ..Fetch::default()
            };
            peer.check(request, expected);
        };
        from(Position::Earliest, "0:a 1:b 2:c 3:d next=4");
        from(Position::Offset(1), "1:b 2:c 3:d next=4");
        from(Position::Last(2), "2:c 3:d next=4");
        from(Position::Last(99), "0:a 1:b 2:c 3:d next=4");
        from(Position::Latest, "empty next=4");
        from(Position::Offset(4), "empty next=4");
        from(Position::Offset(5), "OFFSET_OUT_OF_RANGE 4");
        from(Position::Ago(u64::MAX), "0:a 1:b 2:c 3:d next=4");
        from(Position::Ago(0), "empty next=4");
        from(Position::Unknown(9), "NOT_SUPPORTED");
    };
    check(&mut peer);
    check(&mut peer);
    let broker = broker.killed_and_restarted();
    check(&mut broker.connect());
}

#[test]
fn limits_cut_records_exactly_and_never_withhold_the_first_batch() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    peer.produce(topic, &["a", "b", "c"]);
    peer.produce(topic, &["d", "e"]);
    let check = |peer: &mut Connection| {
        let mut limited = |from, max_records, max_bytes, expected| {
            let request = Fetch {
                max_records,
                max_bytes,
                ..fetch(topic, from)
            };
            peer.check(request, expected);
        };
        limited(0, 1, 0, "0:a next=1");
        limited(1, 3, 0, "1:b 2:c 3:d next=4");
        limited(0, 0, 1, "0:a 1:b 2:c next=3");
        limited(2, 0, 1, "2:c next=3");
        limited(3, 1, 1, "3:d next=4");
    };
    check(&mut peer);
    let broker = broker.killed_and_restarted();
    check(&mut broker.connect());
}

#[test]
fn an_answer_of_the_largest_size_fits_its_frame_however_small_its_batches_are() {
    // The story: the limit counted the bytes of batches alone. With many tiny ones their length
    // prefixes took more than the room that is kept beside them, and the frame was longer than
    // any client may accept.
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let tiny = batch(&["a value that makes a batch of more than 127 bytes"]);
    let requests = vec![produce_accepted(topic, tiny); 8_000];
    let mut high = 0;
    for _ in 0..8 {
        for number in peer.send_all(&requests) {
            high = peer.answer::<Produce>(number).unwrap().base_offset + 1;
        }
    }
    peer.produce(topic, &["the last one makes all others durable"]);
    // The connection takes no frame over the limit, as no client does.
    let mut next = 0;
    while next <= high {
        let delivered: Delivered = peer
            .ask(Fetch {
                max_bytes: u32::MAX,
                ..fetch(topic, next)
            })
            .unwrap();
        assert!(delivered.next > next);
        next = delivered.next;
    }
}

#[test]
fn a_fetch_that_waits_is_woken_by_a_record_of_another_connection() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let waiting = peer.send(&fetch_waiting(topic, 0));
    peer.settle(topic);
    assert_eq!(peer.counter("app", "requests_waiting"), 1);
    broker.connect().produce(topic, &["a"]);
    peer.check_answer::<Fetch>(waiting, "0:a next=1");
    assert_eq!(peer.counter("app", "requests_waiting"), 0);
}

#[test]
fn a_request_that_waits_holds_up_nobody_on_its_own_connection() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let waiting = peer.send(&fetch_waiting(topic, 0));
    peer.produce(topic, &["a"]);
    peer.check_answer::<Fetch>(waiting, "0:a next=1");
}

#[test]
fn a_wait_that_is_over_is_answered_as_empty() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let short = Fetch {
        max_wait_ms: 1,
        ..fetch(topic, 0)
    };
    peer.check(short, "empty next=0");
}

#[test]
fn a_fetch_that_waits_can_be_cancelled() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let waiting = peer.send(&fetch_waiting(topic, 0));
    let cancel = |correlation| Cancel { topic, correlation };
    peer.check(cancel(waiting), "done");
    peer.check_answer::<Fetch>(waiting, "CANCELLED");
    peer.check(cancel(waiting), "done");
}

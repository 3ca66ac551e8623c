//! Frames that are wrong: those that only their own request pays for, and those that lose the
//! boundary between frames.

use logdrive_protocol::frame::{FLAG_ERROR, NOTICE};
use logdrive_protocol::operations::{ListTopics, OPERATIONS, Ping, Produce};
use logdrive_protocol::varint;

use crate::support::asking::{fetch, produce};
use crate::support::binary::{frame_of, raw_frame, read_answer};
use crate::support::{Broker, Connection, batch, until};
use crate::{Bystander, names, refused};

/// The error that a frame is answered with.
fn answer_to(
    peer: &mut Connection,
    opcode: u8,
    flags: u8,
    body: &[u8],
) -> logdrive_protocol::Failure {
    let number = peer.number();
    peer.write(&raw_frame(opcode, flags, number, body));
    let frame = peer.answer_frame(number).unwrap();
    assert_eq!(frame.opcode, opcode, "an answer repeats the opcode");
    read_answer::<Ping>(frame).unwrap_err()
}

#[test]
fn every_opcode_without_an_operation_is_named_and_the_connection_goes_on() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let mut peer = broker.connect();
    for opcode in 0..=u8::MAX {
        if OPERATIONS.iter().all(|(known, _)| *known != opcode) {
            let failure = answer_to(&mut peer, opcode, 0, b"anything");
            names(&failure, "UNKNOWN_OPERATION", &format!("{opcode:#04x}"));
        }
    }
    assert_eq!(peer.ask(Ping {}).unwrap().state, 0);
    bystander.goes_on();
}

#[test]
fn a_body_that_does_not_parse_is_told_by_field_and_the_connection_goes_on() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let mut peer = broker.connect();
    let endless: &[u8] = &[0xff; 11];
    for (opcode, body, words) in [
        (0x10, &b"\x05abc"[..], "`name` is longer than its body"),
        (0x10, b"\x02\xc3\x28", "`name` is not UTF-8"),
        (0x10, b"\x01a\x00\x02", "`if_not_exists` is not a boolean"),
        (0x10, b"\x01a\xff\xff\xff\xff\x0f", "`settings` counts more"),
        (0x10, b"\x01a\x02\x00\x05", "`settings`"),
        (0x11, endless, "`topic` is not a varint of at most 64 bits"),
        (
            0x12,
            b"\x00\x00\xff\xff\xff\xff\x7f",
            "`limit` is not a varint",
        ),
        (
            0x22,
            b"\x01\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "`batch` is longer",
        ),
        (0x30, b"\x80", "`topic`"),
        (0x42, b"\x01\x01\x80", "`worker`"),
    ] {
        let failure = answer_to(&mut peer, opcode, 0, body);
        names(&failure, "MALFORMED", words);
    }
    assert_eq!(peer.ask(Ping {}).unwrap().state, 0);
    bystander.goes_on();
}

#[test]
fn a_critical_flag_is_refused_and_an_ignorable_one_is_ignored() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let mut peer = broker.connect();
    for flags in [0x80, 0x40, 0x20, 0x10, 0xff] {
        let failure = answer_to(&mut peer, 0x02, flags, b"");
        names(&failure, "UNKNOWN_FLAG", &format!("{flags:#04x}"));
    }
    let number = peer.number();
    peer.write(&raw_frame(0x02, 0x0f, number, b""));
    assert_eq!(peer.answer::<Ping>(number).unwrap().state, 0);
    bystander.goes_on();
}

#[test]
fn correlation_id_zero_belongs_to_notices() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    peer.write(&frame_of(NOTICE, &Ping {}));
    let frame = peer.hear().unwrap();
    assert_eq!((frame.correlation, frame.flags), (NOTICE, FLAG_ERROR));
    names(
        &read_answer::<Ping>(frame).unwrap_err(),
        "MALFORMED",
        "correlation id 0",
    );
    assert_eq!(peer.ask(Ping {}).unwrap().state, 0);
}

#[test]
fn a_lost_boundary_ends_the_connection_after_what_came_before_it_is_done() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let topic = broker.connect().create("app");
    let check = |bad: &[u8], correlation: u32, code: &str, words: &str| {
        let mut peer = broker.connect();
        let number = peer.number();
        let good = frame_of(number, &produce(topic, batch(&["a"])));
        peer.write(&[&good, bad].concat());
        let mut stored = false;
        let mut told = false;
        while let Some(frame) = peer.hear() {
            if frame.correlation == number {
                stored = read_answer::<Produce>(frame).is_ok();
            } else {
                assert_eq!((frame.opcode, frame.correlation), (0, correlation));
                names(&read_answer::<Produce>(frame).unwrap_err(), code, words);
                told = true;
            }
        }
        assert!(stored && told, "stored: {stored}, told: {told}");
    };
    let long = [&[0xff; 4][..], &[0x22, 0, 0, 0, 0, 9], &[0; 100]].concat();
    check(
        &long,
        9,
        "FRAME_TOO_LARGE",
        "4294967295 bytes is over the limit of 8388608",
    );
    check(&[0xff; 4], NOTICE, "FRAME_TOO_LARGE", "4294967295");
    check(&[0, 0x80, 0, 1], NOTICE, "FRAME_TOO_LARGE", "8388609");
    check(&[0, 0, 0, 5, 0], NOTICE, "BAD_FRAME", "5 bytes is shorter");
    check(&[0, 0, 0, 0], NOTICE, "BAD_FRAME", "0 bytes is shorter");
    bystander
        .peer
        .check(fetch(topic, 0), "0:a 1:a 2:a 3:a 4:a next=5");
    bystander.goes_on();
}

#[test]
fn a_peer_that_goes_on_writing_behind_a_lost_boundary_still_reads_why_it_ended() {
    // The story: closing a socket in which unread bytes stand resets the connection, and a reset
    // may overtake the last frame.
    let broker = Broker::start();
    for _ in 0..20 {
        let mut peer = broker.connect();
        peer.try_write(&[0xff; 4]);
        peer.try_write(&vec![0; 1 << 19]);
        names(&peer.hear_failure(), "FRAME_TOO_LARGE", "4294967295");
        peer.closed();
    }
}

#[test]
fn nothing_is_allocated_from_a_length_field_alone() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let before = broker.resident_bytes();
    // Two hundred frames that promise 8 MiB each, and each sends a few bytes of them.
    let peers: Vec<_> = (0..200)
        .map(|_| {
            let mut peer = broker.connect();
            peer.write(&[0, 0x80, 0, 0]);
            peer.write(&[0x22, 0, 0, 0, 0, 1, 1, 0]);
            peer
        })
        .collect();
    // Bodies that promise much within small frames.
    let mut peer = broker.connect();
    let mut huge = bytes::BytesMut::new();
    varint::put(&mut huge, u64::MAX >> 1);
    for (opcode, _) in OPERATIONS {
        let number = peer.number();
        peer.write(&raw_frame(*opcode, 0, number, &huge));
        peer.answer_frame(number).unwrap();
    }
    bystander.goes_on();
    until("all connections are seen", || {
        bystander.peer.counter("", "connections") == 202
    });
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    drop(peers);
}

#[test]
fn a_glob_is_measured_before_it_is_understood() {
    // The story: a pattern was parsed before its length was looked at, and parsing a hundred
    // thousand nested braces took the stack of the thread that every connection needs.
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let mut peer = broker.connect();
    for glob in [
        "{".repeat(200_000) + &"}".repeat(200_000),
        "[".repeat(300),
        "a".repeat(257),
    ] {
        let list = ListTopics {
            glob,
            ..ListTopics::default()
        };
        refused(&mut peer, list, "MALFORMED", "glob");
    }
    bystander.goes_on();
}

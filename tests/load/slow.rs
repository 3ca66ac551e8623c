//! Peers that begin something and do not go on, or do not read.

use std::io::{Read, Write};

use logdrive_protocol::ErrorCode;
use logdrive_protocol::limits::MAX_FRAME_BYTES;
use logdrive_protocol::operations::{Fetch, Operation, Produce};

use crate::Bystander;
use crate::support::asking::{fetch, produce_accepted};
use crate::support::binary::{frame_of, preface};
use crate::support::{Broker, Connection, batch, batch_of, until};
use logdrive_protocol::batch::Origin;

#[test]
fn a_preface_a_frame_and_a_line_that_do_not_go_on_are_ended_by_name() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let mut half_a_preface = Connection::silent(broker.address);
    half_a_preface.write(&preface()[..19]);
    let mut half_a_frame = broker.connect();
    half_a_frame.write(&frame_of(1, &fetch(bystander.topic, 0)));
    let request = frame_of(2, &produce_accepted(bystander.topic, batch(&["a value"])));
    half_a_frame.write(&request[..request.len() - 1]);
    let mut half_a_line = broker.text();
    half_a_line.write(b"PRODUCE undisturbed half of a li");

    let failure = half_a_preface.hear_failure();
    assert_eq!(failure.code, ErrorCode::HandshakeTimeout, "{failure}");
    half_a_preface.closed();
    bystander.goes_on();
    // What was whole before it is answered.
    half_a_frame.answer::<Fetch>(1).unwrap();
    let failure = half_a_frame.hear_failure();
    assert_eq!(failure.code, ErrorCode::FrameTimeout, "{failure}");
    half_a_frame.closed();
    bystander.goes_on();
    let line = half_a_line.hear().unwrap();
    assert!(
        line.starts_with("- FRAME_TIMEOUT a line was begun"),
        "{line}"
    );
    assert_eq!(half_a_line.hear(), None);
    // Nothing of it was stored.
    bystander.goes_on();
    assert_eq!(bystander.counter("handshakes_late"), 1);
    assert_eq!(bystander.counter("frames_late"), 2);
    until("the places are given back", || {
        bystander.counter("connections") == 1
    });
}

#[test]
fn a_frame_in_small_pieces_is_taken_as_long_as_it_goes_on() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let value = vec![b'x'; 100_000];
    let request = produce_accepted(topic, batch_of(Origin::default(), &[value]));
    for piece in frame_of(1, &request).chunks(100) {
        peer.write(piece);
        // The broker has taken what was sent so far, and has answered others.
        broker_looks(&broker);
    }
    let frame = peer.answer_frame(1).unwrap();
    assert_eq!((frame.opcode, frame.flags), (Produce::OPCODE, 0));
}

/// So many bytes of a frame that is to be as long as may be.
fn promised(bytes: usize) -> Vec<u8> {
    let mut begun = MAX_FRAME_BYTES.to_be_bytes().to_vec();
    begun.extend([Produce::OPCODE, 0, 0, 0, 0, 9]);
    begun.resize(bytes, 0);
    begun
}

#[test]
fn long_frames_that_do_not_end_take_bounded_memory_and_make_room_for_one_that_does() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let before = broker.resident_bytes();
    // Each as long as may be, and all of it but the end.
    let begun: Vec<Connection> = (0..8)
        .map(|_| {
            let mut peer = broker.connect();
            peer.write_at_once(&promised(MAX_FRAME_BYTES as usize - 1_000));
            peer
        })
        .collect();
    bystander.goes_on();
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{} MiB more", grown >> 20);

    let mut peer = broker.connect();
    let topic = peer.create("long");
    let value = vec![b'x'; 1_000_000];
    let request = produce_accepted(topic, batch_of(Origin::default(), &[value]));
    peer.ask(request).unwrap();
    // All room was taken by what had arrived: some had to go.
    assert!(bystander.counter("frames_late") > 0);
    let ended = begun.into_iter().take(4).map(|mut it| it.hear_failure());
    for failure in ended {
        assert_eq!(failure.code, ErrorCode::FrameTimeout, "{failure}");
    }
    bystander.goes_on();
}

/// The story: four frames that promised 8 MiB each and brought two bytes held all the room there was
/// for long ones, until each had been given two seconds.
#[test]
fn who_only_promises_a_long_frame_keeps_nobody_waiting() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let promising: Vec<Connection> = (0..200)
        .map(|number| {
            let mut peer = broker.connect();
            peer.write(&promised(if number % 2 == 0 { 12 } else { 20_000 }));
            peer
        })
        .collect();
    bystander.goes_on();
    let mut peer = broker.connect();
    let topic = peer.create("long");
    let value = vec![b'x'; 1_000_000];
    let request = produce_accepted(topic, batch_of(Origin::default(), &[value]));
    peer.ask(request).unwrap();
    // None had to be ended for that.
    assert_eq!(bystander.counter("frames_late"), 0);
    drop(promising);
    bystander.goes_on();
}

#[test]
fn long_lines_that_do_not_end_take_bounded_memory() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let before = broker.resident_bytes();
    let typing: Vec<_> = (0..100)
        .map(|_| {
            let socket = crate::support::binary::socket(broker.address);
            socket.set_nonblocking(true).unwrap();
            let mut line = b"PRODUCE app ".to_vec();
            line.resize(1_000_000, b'x');
            let mut left = &line[..];
            // As much as the broker and the system take of it now.
            while let Some(count) = (&socket).write(left).ok().filter(|it| *it > 0) {
                left = &left[count..];
            }
            bystander.goes_on();
            socket
        })
        .collect();
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{} MiB more", grown >> 20);
    drop(typing);
    bystander.goes_on();
}

/// A round trip of somebody else.
fn broker_looks(broker: &Broker) {
    let mut socket = crate::support::binary::socket(broker.address);
    socket.write_all(b"PING\n").unwrap();
    let mut answer = [0; 6];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+ pong");
}

#[test]
fn a_peer_that_never_reads_loses_its_connection_and_what_it_held_is_given_back() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let mut peer = broker.connect();
    let topic = peer.create("big");
    for _ in 0..8 {
        let value = vec![b'x'; 1_000_000];
        peer.ask(produce_accepted(
            topic,
            batch_of(Origin::default(), &[value]),
        ))
        .unwrap();
    }
    peer.produce(topic, &["the last one"]);
    let mut deaf = broker.connect();
    let mut ask = fetch(topic, 0);
    ask.max_bytes = u32::MAX;
    deaf.send_all(&vec![ask; 20]);
    until("it is given up", || bystander.counter("readers_late") == 1);
    bystander.goes_on();
    until("its place is given back", || {
        bystander.counter("connections") == 2
    });
}

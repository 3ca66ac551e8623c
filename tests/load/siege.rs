//! The sieges of `logdrive bench siege` in a small form, all at once.

use std::io::{Read, Write};
use std::net::TcpStream;

use logdrive_protocol::operations::{Consume, Operation, Produce};

use crate::support::asking::{Worker, produce_accepted};
use crate::support::binary::{preface, raw_frame, socket};
use crate::support::{Broker, batch_of, until};
use crate::{Bystander, allow_files};
use logdrive_protocol::batch::Origin;

const SLOW: usize = 300;
const IDLE: usize = 200;
const DEAF: usize = 10;
const BAD: usize = 500;
const MIB: u64 = 1 << 20;

/// Bytes of something that is begun, one of three kinds.
fn beginning(number: usize) -> Vec<u8> {
    match number % 3 {
        0 => preface()[..1].to_vec(),
        1 => [preface(), (1_u32 << 20).to_be_bytes().to_vec()].concat(),
        _ => b"PRODUCE undisturbed a".to_vec(),
    }
}

/// Hears the end of it, whatever is said before.
fn last_words(mut socket: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    socket.read_to_end(&mut said).unwrap();
    said
}

fn says(said: &[u8], words: &str) -> bool {
    said.windows(words.len()).any(|it| it == words.as_bytes())
}

#[test]
fn beside_slow_deaf_idle_and_faulty_ones_nothing_is_lost_and_all_is_given_back() {
    allow_files();
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let peer = &mut bystander.peer;
    let big = peer.create("big");
    for _ in 0..16 {
        let value = vec![b'x'; 1_000_000];
        let numbers =
            peer.send_all(&[produce_accepted(big, batch_of(Origin::default(), &[value]))]);
        peer.answer::<Produce>(numbers[0]).unwrap();
    }
    peer.produce(big, &["the last one"]);
    let registered: Vec<_> = (0..DEAF)
        .map(|number| peer.consumer("big", &format!("deaf-{number}")))
        .collect();
    bystander.goes_on();
    let (memory, files) = (broker.resident_bytes(), broker.open_files());

    let slow: Vec<_> = (0..SLOW)
        .map(|number| {
            let mut socket = socket(broker.address);
            socket.write_all(&beginning(number)).unwrap();
            (number, socket)
        })
        .collect();
    let idle: Vec<_> = (0..IDLE).map(|_| broker.connect()).collect();
    let deaf: Vec<_> = registered
        .iter()
        .map(|registered| {
            let mut deaf = broker.connect();
            let consume = Consume {
                max_bytes: u32::MAX,
                ..Worker::of(registered, 0).take(0, 0)
            };
            deaf.send_all(&vec![consume; 8]);
            deaf
        })
        .collect();
    bystander.goes_on();
    let before = bystander.counter("frames_bad");
    for number in 0..BAD {
        let mut bad = broker.connect();
        // Too long, or shorter than its own head.
        let mut bytes = raw_frame(Consume::OPCODE, 0, 9, &[]);
        bytes[..4].copy_from_slice(&[u32::MAX, 1][number % 2].to_be_bytes());
        bad.write(&bytes);
        let failure = bad.hear_failure();
        let expected = ["FRAME_TOO_LARGE", "BAD_FRAME"][number % 2];
        assert_eq!(failure.code.to_string(), expected);
        if number % 50 == 0 {
            bystander.goes_on();
        }
    }
    assert_eq!(bystander.counter("frames_bad") - before, BAD as u64);
    let grown = broker.resident_bytes().saturating_sub(memory);
    assert!(grown < 200 * MIB, "{} MiB more", grown / MIB);

    for (number, socket) in slow {
        let said = last_words(socket);
        match number % 3 {
            0 => assert!(says(&said, "the preface did not arrive"), "{said:?}"),
            1 => assert!(says(&said, "a frame was begun"), "{said:?}"),
            _ => assert!(says(&said, "- FRAME_TIMEOUT"), "{said:?}"),
        }
    }
    bystander.goes_on();
    assert_eq!(bystander.counter("connections_idle_ended"), 0);
    drop((idle, deaf));
    until("all places are given back", || {
        bystander.counter("connections") == 1
    });
    until("all files are given back", || {
        bystander.counter("connections");
        broker.open_files() <= files
    });
    bystander.goes_on();
}

//! Conversations that break off at any byte, and bytes that nobody meant.

use fastrand::Rng;
use logdrive_protocol::operations::{DeleteTopic, OPERATIONS, Operation, Ping, Produce};

use crate::Bystander;
use crate::support::asking::{Worker, produce};
use crate::support::binary::{frame_of, preface, raw_frame};
use crate::support::{Broker, Connection, batch};

#[test]
fn frames_cut_at_every_byte_are_done_whole_or_not_at_all() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let worker = Worker::of(&peer.consumer("app", "c"), 0);
    peer.produce(topic, &["first"]);

    let frames = [
        preface(),
        frame_of(1, &produce(topic, batch(&["a", "b"]))),
        frame_of(2, &worker.take(0, 1)),
        frame_of(3, &produce(topic, batch(&["c"]))),
    ];
    let whole = frames.concat();
    let ends: Vec<usize> = frames
        .iter()
        .scan(0, |end, frame| {
            *end += frame.len();
            Some(*end)
        })
        .collect();
    let (mut records, mut left) = (1, 1);
    for cut in 1..=whole.len() {
        let mut peer = Connection::silent(broker.address);
        peer.write(&whole[..cut]);
        peer.finish_sending();
        let mut answers = 0;
        if cut >= ends[0] {
            peer.greeted();
            while let Some(frame) = peer.hear() {
                assert_eq!(frame.flags, 0, "{frame:?}");
                answers += 1;
            }
        } else {
            // Told that the preface broke off.
            peer.hear_failure();
        }
        let done = ends[1..].iter().filter(|end| **end <= cut).count();
        assert_eq!(answers, done, "cut at {cut} of {}", whole.len());
        records += [0, 2, 2, 3][done];
        left += [0, 2, 1, 2][done];
        let size = bystander.peer.ask(worker.size()).unwrap();
        assert_eq!(size.records, left, "cut at {cut}");
    }
    assert_eq!(bystander.peer.all(topic).len(), records);
    bystander.outlives(broker);
}

fn random(rng: &mut Rng, most: usize) -> Vec<u8> {
    let length = rng.usize(..most);
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

/// Bytes of one of the kinds that a broker may meet.
fn noise(rng: &mut Rng) -> Vec<u8> {
    let (bytes, more) = (random(rng, 400), random(rng, 60));
    match rng.u8(..6) {
        0 => bytes,
        1 => [preface(), bytes].concat(),
        2 => {
            // Printable lines, some of them nearly commands.
            let verbs = [
                "PRODUCE",
                "FETCH",
                "SIZE",
                "LIST",
                "SEEK",
                "CREATE",
                "REGISTER CONSUMER",
            ];
            let verb = verbs[rng.usize(..verbs.len())];
            let typed = more.iter().map(|byte| byte % 95 + b' ');
            verb.bytes()
                .chain([b' '])
                .chain(typed)
                .chain([b'\n'])
                .collect()
        }
        3 => {
            // A good request with one byte changed.
            let mut frame = frame_of(1, &produce(logdrive_protocol::TopicId(1), batch(&["x"])));
            let at = rng.usize(4..frame.len());
            frame[at] = rng.u8(..);
            [preface(), frame].concat()
        }
        _ => {
            // Whole frames whose bodies mean nothing. A delete might mean the bystander's topic.
            let opcode = OPERATIONS[rng.usize(..OPERATIONS.len())].0;
            let opcode = if opcode == DeleteTopic::OPCODE {
                Ping::OPCODE
            } else {
                opcode
            };
            let frames = more
                .chunks(9)
                .flat_map(|body| raw_frame(opcode, rng.u8(..) & 0x8f, rng.u32(..), body));
            preface().into_iter().chain(frames).collect()
        }
    }
}

#[test]
fn random_bytes_never_panic_and_disturb_nobody() {
    let seed =
        std::env::var("LOGDRIVE_SEED").map_or_else(|_| fastrand::u64(..), |it| it.parse().unwrap());
    eprintln!("LOGDRIVE_SEED={seed} plays this again");
    let mut rng = Rng::with_seed(seed);
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    for _ in 0..40 {
        let mut peers: Vec<_> = (0..10)
            .map(|_| {
                let mut peer = Connection::silent(broker.address);
                peer.try_write(&noise(&mut rng));
                peer
            })
            .collect();
        for peer in &mut peers {
            peer.finish_sending();
        }
        for peer in peers {
            peer.drained();
        }
        // Not its own topic: a changed byte of a good request may be a record for that.
        bystander.peer.ask(Ping {}).unwrap();
    }
    let mut peer = broker.connect();
    let topic = peer.create("afterwards");
    peer.ask::<Produce>(produce(topic, batch(&["a"]))).unwrap();
    assert_eq!(peer.all(topic).len(), 1);
    broker.terminate();
    let (data, said) = broker.stopped();
    assert!(!said.contains("ERROR"), "{said}");
    let broker = Broker::start_on(data);
    assert_eq!(broker.connect().all(topic).len(), 1);
}

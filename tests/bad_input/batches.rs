//! Batches and names that are wrong: refused as a whole, and nothing of them is stored.

use bytes::BytesMut;
use logdrive_protocol::batch::Origin;
use logdrive_protocol::operations::{
    CreateTopic, Payload, Produce, RegisterConsumer, RegisterProducer, Setting,
};

use crate::support::asking::{fetch, produce, register};
use crate::support::{Broker, batch, batch_of};
use crate::{Bystander, names, refused};

/// Changes bytes of a good batch of three records and signs it again.
fn forged(at: usize, bytes: &[u8]) -> Payload {
    let mut forged = batch(&["a", "bb", "ccc"]).into_mut();
    forged[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&forged[48..]);
    forged[40..44].copy_from_slice(&crc.to_be_bytes());
    Payload::Owned(forged)
}

/// A good batch with one bit the wrong way round.
fn flipped(at: usize) -> Payload {
    let mut flipped = batch(&["a", "bb", "ccc"]).into_mut();
    flipped[at] ^= 1;
    Payload::Owned(flipped)
}

#[test]
fn a_batch_that_is_wrong_is_told_why_and_nothing_of_it_is_stored() {
    let broker = Broker::start();
    let bystander = Bystander::of(&broker);
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let cut = |len: usize| {
        let mut cut = batch(&["a", "bb", "ccc"]).into_mut();
        cut.truncate(len);
        Payload::Owned(cut)
    };
    for (batch, code, words) in [
        (
            Payload::Owned(BytesMut::new()),
            "BATCH_CORRUPT",
            "shorter than its head",
        ),
        (cut(95), "BATCH_CORRUPT", "shorter than its head"),
        (cut(100), "BATCH_CORRUPT", "length field"),
        (flipped(40), "BATCH_CORRUPT", "CRC-32C does not match"),
        (flipped(100), "BATCH_CORRUPT", "CRC-32C does not match"),
        (
            forged(44, &[2]),
            "NOT_SUPPORTED",
            "layout of another version",
        ),
        (forged(48, &[0, 1]), "BATCH_CORRUPT", "do not unpack"),
        (forged(48, &[0, 2]), "BATCH_CORRUPT", "do not unpack"),
        (forged(48, &[0, 3]), "NOT_SUPPORTED", "codec"),
        (forged(48, &[0, 0x10]), "NOT_SUPPORTED", "attribute"),
        (forged(52, &[0, 0, 0, 0]), "BATCH_CORRUPT", "no records"),
        (forged(52, &[0, 0, 0, 4]), "BATCH_CORRUPT", "count"),
        (forged(56, &[0; 8]), "BATCH_CORRUPT", "timestamps"),
        (forged(72, &[0, 0, 0, 9]), "BATCH_CORRUPT", "content bytes"),
        (forged(96, &[0x7f]), "BATCH_CORRUPT", "record's boundaries"),
        (forged(96, &[0]), "BATCH_CORRUPT", "record's boundaries"),
        (forged(97, &[7]), "BATCH_CORRUPT", "offset deltas"),
    ] {
        refused(&mut peer, produce(topic, batch), code, words);
    }
    peer.check(fetch(topic, 0), "empty next=0");
    assert_eq!(peer.produce(topic, &["good"]), 0, "no offset was used up");
    bystander.outlives(broker);
}

#[test]
fn what_is_over_its_limit_is_told_the_limit() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let of = |lengths: &[usize]| {
        let values: Vec<_> = lengths.iter().map(|len| vec![b'x'; *len]).collect();
        produce(topic, batch_of(Origin::default(), &values))
    };
    let mib = 1 << 20;
    let failure = peer.ask(of(&[5, mib + 1])).unwrap_err();
    names(
        &failure,
        "RECORD_TOO_LARGE",
        "record 1 of the batch has 1048577 bytes, the limit is 1048576",
    );
    assert_eq!(failure.first, 1_048_576);
    let failure = peer.ask(of(&[mib, mib, mib, mib])).unwrap_err();
    names(&failure, "BATCH_TOO_LARGE", "over the limit of 4194304");
    assert_eq!(failure.first, 4_194_304);
    peer.check(fetch(topic, 0), "empty next=0");
    assert_eq!(peer.ask(of(&[mib, mib, mib])).unwrap().base_offset, 0);

    let limit = Setting {
        key: "max_record_bytes".into(),
        value: "3".into(),
    };
    let small = peer
        .ask(CreateTopic {
            name: "small".into(),
            settings: vec![limit],
            if_not_exists: false,
        })
        .unwrap()
        .topic;
    refused(
        &mut peer,
        produce(small, batch(&["abc", "abcd"])),
        "RECORD_TOO_LARGE",
        "the limit is 3",
    );
    peer.check(produce(small, batch(&["abc"])), "offset=0 synced");
    bystander.goes_on();
}

/// Zeros without end as zstd frames them: four bytes for each 128 KiB.
fn endless_zeros(blocks: u32) -> Vec<u8> {
    // Magic number, no content size, a window of 1 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50];
    for block in 1..=blocks {
        let header = (128 << 10 << 3) | (1 << 1) | u32::from(block == blocks);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// A batch with a head that allows so much content, and this for its records.
fn bomb(content: u32, section: &[u8]) -> Payload {
    let mut bomb = batch(&["a", "bb", "ccc"]).into_mut();
    bomb.truncate(96);
    bomb.extend_from_slice(section);
    let length = u32::try_from(bomb.len()).unwrap();
    for (at, value) in [(4, length), (52, 60_000), (72, content)] {
        bomb[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    bomb[49] = 2;
    let crc = crc32c::crc32c(&bomb[48..]);
    bomb[40..44].copy_from_slice(&crc.to_be_bytes());
    Payload::Owned(bomb)
}

#[test]
fn a_bomb_costs_its_sender_an_error_and_the_broker_no_memory() {
    let broker = Broker::start();
    let bystander = Bystander::of(&broker);
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let before = broker.peak_bytes();
    // 128 KiB that unpack to 4 GiB.
    let section = endless_zeros(32_768);
    let requests: Vec<_> = [4 << 20, 4 << 20, 0]
        .into_iter()
        .cycle()
        .take(48)
        .map(|content| produce(topic, bomb(content, &section)))
        .collect();
    let numbers = peer.send_all(&requests);
    for (index, number) in numbers.into_iter().enumerate() {
        let failure = peer.answer::<Produce>(number).unwrap_err();
        if index % 3 == 2 {
            let words = "unpack to more than the batch's head allows";
            names(&failure, "BATCH_CORRUPT", words);
        } else {
            names(
                &failure,
                "BATCH_TOO_LARGE",
                "unpack to more than 4194304 bytes",
            );
            assert_eq!(failure.first, 4_194_304);
        }
    }
    let grown = broker.peak_bytes() - before;
    assert!(grown < 64 << 20, "grew by {grown} bytes");
    peer.check(fetch(topic, 0), "empty next=0");
    bystander.outlives(broker);
}

#[test]
fn a_bad_name_is_shown_in_part_and_printable() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let mut peer = broker.connect();
    peer.create("app");
    let topic = |name: &str| CreateTopic {
        name: name.into(),
        ..CreateTopic::default()
    };
    refused(
        &mut peer,
        topic("two words"),
        "INVALID_TOPIC_NAME",
        "\"two words\" (9 bytes) cannot name a topic",
    );
    refused(&mut peer, topic("a\nb"), "INVALID_TOPIC_NAME", "\"a\\nb\"");
    refused(
        &mut peer,
        topic(&"x".repeat(1 << 20)),
        "INVALID_TOPIC_NAME",
        "(1048576 bytes)",
    );
    refused(&mut peer, topic(""), "INVALID_TOPIC_NAME", "(0 bytes)");
    let consumer = |name: &str| RegisterConsumer {
        topic: "app".into(),
        name: name.into(),
        create: true,
        ..RegisterConsumer::default()
    };
    refused(
        &mut peer,
        consumer("a/b"),
        "INVALID_NAME",
        "cannot name a consumer",
    );
    refused(&mut peer, consumer(""), "INVALID_NAME", "(0 bytes)");
    refused(
        &mut peer,
        register("app", "a b", 1),
        "INVALID_NAME",
        "cannot name a producer",
    );
    let fresh = RegisterProducer {
        create_topic: true,
        ..register(".hidden", "", 1)
    };
    refused(
        &mut peer,
        fresh,
        "INVALID_TOPIC_NAME",
        "cannot name a topic",
    );
    // Looking for the closest name must not cost what a long one would.
    refused(
        &mut peer,
        register(&"x".repeat(4 << 20), "", 1),
        "TOPIC_NOT_FOUND",
        "there is no topic",
    );
    bystander.goes_on();
}

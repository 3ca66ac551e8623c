//! Packed batches: stored and delivered as they are, and no different for whoever reads.

use logdrive_protocol::Position;
use logdrive_protocol::batch::{Codec, Head, Origin};
use logdrive_protocol::operations::{Consume, Delivered, Fetch, Produce, Seek};

use crate::support::asking::{Worker, fetch, origin, packed, produce};
use crate::support::{Broker, Connection, batch_of};

const CODECS: [Option<Codec>; 3] = [Some(Codec::Zstd), None, Some(Codec::Lz4)];
/// Records of each batch.
const COUNT: u64 = 100;

/// Lines as a log has them; each says where it is.
fn values(from: u64) -> Vec<String> {
    let line = |at: u64| {
        format!(
            "{at} GET /index.html 200 {}",
            "-".repeat(usize::try_from(at % 7).unwrap())
        )
    };
    (from..from + COUNT).map(line).collect()
}

/// Bytes of the values before an offset.
fn bytes_before(offset: u64) -> u64 {
    (0..offset.div_ceil(COUNT))
        .flat_map(|batch| values(batch * COUNT))
        .take(usize::try_from(offset).unwrap())
        .map(|it| it.len() as u64)
        .sum()
}

/// Three batches, each with another codec.
fn mixed(peer: &mut Connection) -> logdrive_protocol::TopicId {
    let topic = peer.create("app");
    for (codec, from) in CODECS.into_iter().zip((0..).step_by(100)) {
        let batch = match codec {
            Some(codec) => packed(codec, Origin::default(), &values(from)),
            None => batch_of(Origin::default(), &values(from)),
        };
        let produced = peer.ask(produce(topic, batch)).unwrap();
        assert_eq!(produced.base_offset, from);
    }
    topic
}

/// The records of an answer, checked as a client does; they are what was produced.
#[track_caller]
fn offsets(mut delivered: Delivered, topic: logdrive_protocol::TopicId) -> Vec<u64> {
    delivered.check(topic).unwrap();
    let said = |record: &logdrive_protocol::operations::DeliveredRecord<'_>| {
        let batch = record.offset / COUNT * COUNT;
        let expected = &values(batch)[usize::try_from(record.offset - batch).unwrap()];
        assert_eq!(record.record.value, expected.as_bytes());
        record.offset
    };
    delivered.records().map(|it| said(&it)).collect()
}

#[test]
fn codecs_mix_in_one_topic_and_are_stored_and_delivered_as_they_came() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = mixed(&mut peer);
    let check = |peer: &mut Connection| {
        let delivered = peer.ask(fetch(topic, 0)).unwrap();
        let codecs: Vec<_> = delivered
            .batches
            .iter()
            .map(|it| Codec::of(Head::parse(it).unwrap().attributes).unwrap())
            .collect();
        assert_eq!(codecs, CODECS);
        assert_eq!(offsets(delivered, topic), (0..300).collect::<Vec<_>>());
        // From within one packed batch into another.
        let within = Fetch {
            max_records: 200,
            ..fetch(topic, 50)
        };
        let delivered = peer.ask(within).unwrap();
        assert_eq!(offsets(delivered, topic), (50..250).collect::<Vec<_>>());
    };
    check(&mut peer);
    let broker = broker.killed_and_restarted();
    check(&mut broker.connect());
}

#[test]
fn sizes_are_exact_wherever_a_consumer_stands_in_packed_batches() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = mixed(&mut peer);
    let registered = peer.consumer("app", "c");
    let all = bytes_before(300);
    let left = |offset: u64| {
        format!(
            "records={} bytes={}",
            300 - offset,
            all - bytes_before(offset)
        )
    };
    let mut worker = Worker::of(&registered, 7);
    let check = |peer: &mut Connection, worker: &Worker| {
        let (mut at, mut sequence) = (0, 1);
        for count in [1, 30, 69, 50, 70, 37, 43] {
            peer.check(worker.size(), &left(at));
            let delivered = peer.ask(worker.take(sequence, count)).unwrap();
            let to = at + u64::from(count);
            assert_eq!(offsets(delivered, topic), (at..to).collect::<Vec<_>>());
            (at, sequence) = (to, sequence + 1);
        }
        peer.check(worker.size(), &left(300));
        for at in [250, 99, 1, 0] {
            let seek = Seek {
                topic,
                consumer: worker.consumer,
                to: Position::Offset(at),
            };
            peer.check(seek, &format!("cursor={at}"));
            peer.check(worker.size(), &left(at));
        }
    };
    check(&mut peer, &worker);
    let broker = broker.killed_and_restarted();
    // Now from the disk, as another worker.
    worker.id = 8;
    check(&mut broker.connect(), &worker);
}

#[test]
fn a_retry_of_a_packed_batch_is_stored_once() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let registered = peer.producer("app");
    let topic = registered.topic;
    let batch = |sequence, from| packed(Codec::Zstd, origin(&registered, sequence), &values(from));
    peer.check(produce(topic, batch(0, 0)), "offset=0 synced");
    peer.check(produce(topic, batch(0, 0)), "offset=0 synced");
    peer.check(produce(topic, batch(0, 100)), "SEQUENCE_REUSED");
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(produce(topic, batch(0, 0)), "offset=0 synced");
    peer.check(produce(topic, batch(100, 100)), "offset=100 synced");
    let delivered = peer.ask(fetch(topic, 0)).unwrap();
    assert_eq!(offsets(delivered, topic), (0..200).collect::<Vec<_>>());
}

#[test]
fn an_answer_is_limited_by_what_its_batches_unpack_to() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let lines = vec!["x".repeat(1_000); 1_000];
    let requests: Vec<_> = (0..8)
        .map(|_| produce(topic, packed(Codec::Zstd, Origin::default(), &lines)))
        .collect();
    assert!(requests[0].batch.as_slice().len() < 10_000);
    for number in peer.send_all(&requests) {
        peer.answer::<Produce>(number).unwrap();
    }
    let check = |peer: &mut Connection| {
        for (max_bytes, batches) in [(1, 1), (1 << 20, 1), (3_100_000, 3), (8 << 20, 8)] {
            let limited = Fetch {
                max_bytes,
                ..fetch(topic, 0)
            };
            let delivered = peer.ask(limited).unwrap();
            assert_eq!(delivered.batches.len(), batches, "{max_bytes}");
        }
        let registered = peer.consumer("app", "c");
        let consume = Consume {
            max_bytes: 2_100_000,
            ..Worker::of(&registered, 0).take(0, 0)
        };
        assert_eq!(peer.ask(consume).unwrap().batches.len(), 2);
    };
    check(&mut peer);
    let broker = broker.killed_and_restarted();
    check(&mut broker.connect());
}

#[test]
fn text_mode_prints_packed_records_as_any_others() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    mixed(&mut peer);
    let mut text = broker.text();
    for (from, value) in [
        (99, &values(0)[99]),
        (100, &values(100)[0]),
        (299, &values(200)[99]),
    ] {
        let line = text.ask(&format!("FETCH app {from} n=1"));
        assert!(line.starts_with(&format!("* app {from} ")), "{line}");
        assert!(line.ends_with(value.as_str()), "{line}");
        assert_eq!(text.hear().unwrap(), "+ n=1");
    }
}

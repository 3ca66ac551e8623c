//! Appending batches: sequences, epochs, and what is durable when.

use logdrive_protocol::ProducerId;
use logdrive_protocol::batch::Origin;
use logdrive_protocol::operations::{Produce, RegisterProducer, UnregisterProducer};

use crate::support::asking::{fetch, origin, produce, produce_accepted, register};
use crate::support::{Broker, batch, batch_of, said};

#[test]
fn offsets_are_given_in_the_order_of_arrival() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    peer.check(produce(topic, batch(&["a", "b"])), "offset=0 synced");
    peer.check(produce_accepted(topic, batch(&["c"])), "offset=2 accepted");
    peer.check(produce(topic, batch(&["d"])), "offset=3 synced");
    peer.check(fetch(topic, 0), "0:a 1:b 2:c 3:d next=4");

    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(fetch(topic, 0), "0:a 1:b 2:c 3:d next=4");
    peer.check(produce(topic, batch(&["e"])), "offset=4 synced");
    peer.check(fetch(topic, 3), "3:d 4:e next=5");
}

#[test]
fn each_producers_records_keep_their_order_among_those_of_others() {
    let broker = Broker::start();
    let topic = broker.connect().create("app");
    std::thread::scope(|scope| {
        for who in 0..4 {
            let mut peer = broker.connect();
            scope.spawn(move || {
                let requests: Vec<_> = (0..200)
                    .map(|count| produce(topic, batch(&[&format!("{who} {count}")])))
                    .collect();
                for number in peer.send_all(&requests) {
                    peer.answer::<Produce>(number).unwrap();
                }
            });
        }
    });
    let broker = broker.killed_and_restarted();
    let records = broker.connect().all(topic);
    assert_eq!(records.len(), 800);
    let mut next = [0; 4];
    for (at, (offset, value)) in records.iter().enumerate() {
        assert_eq!(*offset, at as u64);
        let text = std::str::from_utf8(value).unwrap();
        let (who, count) = text.split_once(' ').unwrap();
        let next = &mut next[who.parse::<usize>().unwrap()];
        assert_eq!(count.parse(), Ok(*next), "{text}");
        *next += 1;
    }
}

#[test]
fn what_is_out_of_line_is_refused_and_told_where_to_go_on() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let registered = peer.producer("app");
    let topic = registered.topic;
    let at =
        |sequence, values: &[&str]| produce(topic, batch_of(origin(&registered, sequence), values));
    peer.check(at(0, &["a", "b"]), "offset=0 synced");
    peer.check(at(2, &["c"]), "offset=2 synced");
    peer.check(at(4, &["e"]), "OUT_OF_SEQUENCE 3");
    peer.check(at(1, &["b"]), "OUT_OF_SEQUENCE 3");
    peer.check(at(2, &["other"]), "SEQUENCE_REUSED");
    peer.check(at(2, &["c", "d"]), "SEQUENCE_REUSED");
    peer.check(at(3, &["d"]), "offset=3 synced");
    peer.check(fetch(topic, 0), "0:a 1:b 2:c 3:d next=4");
}

#[test]
fn a_batch_that_falls_out_takes_those_behind_it_out_too() {
    // The story: a producer pipelines three batches and the first one is refused. Where the second
    // is stored nevertheless, the order is lost, and resending the first makes it worse.
    let broker = Broker::start();
    let mut peer = broker.connect();
    let registered = peer.producer("app");
    let topic = registered.topic;
    let at =
        |sequence, value: &str| produce(topic, batch_of(origin(&registered, sequence), &[value]));
    let mut faulty = at(0, "a");
    let mut bytes = faulty.batch.clone().into_mut();
    *bytes.last_mut().unwrap() ^= 1;
    faulty.batch = logdrive_protocol::operations::Payload::Owned(bytes);
    let numbers = peer.send_all(&[faulty, at(1, "b"), at(2, "c")]);
    for (number, expected) in
        numbers
            .into_iter()
            .zip(["BATCH_CORRUPT", "OUT_OF_SEQUENCE", "OUT_OF_SEQUENCE"])
    {
        peer.check_answer::<Produce>(number, expected);
    }
    for number in peer.send_all(&[at(0, "a"), at(1, "b"), at(2, "c")]) {
        peer.answer::<Produce>(number).unwrap();
    }
    peer.check(fetch(topic, 0), "0:a 1:b 2:c next=3");
}

#[test]
fn a_new_instance_of_a_named_producer_fences_the_old_one() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let first = peer.ask(register("app", "p", 11)).unwrap();
    let again = peer.ask(register("app", "p", 11)).unwrap();
    assert_eq!(again, first, "a retry of the same instance fences nobody");
    peer.check(
        produce(topic, batch_of(origin(&first, 0), &["a"])),
        "offset=0 synced",
    );

    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(register("app", "p", 11), "epoch=1 next=1");
    let second = peer.ask(register("app", "p", 12)).unwrap();
    assert_eq!(second.producer, first.producer);
    assert_eq!((second.epoch, second.next_sequence), (2, 1));
    peer.check(
        produce(topic, batch_of(origin(&first, 1), &["b"])),
        "FENCED_EPOCH 2",
    );
    peer.check(
        produce(topic, batch_of(origin(&second, 1), &["B"])),
        "offset=1 synced",
    );
    let by_id = RegisterProducer {
        producer: first.producer,
        ..register("app", "", 13)
    };
    peer.check(by_id, "epoch=3 next=2");
    peer.check(
        produce(topic, batch_of(origin(&second, 2), &["c"])),
        "FENCED_EPOCH 3",
    );
    peer.check(fetch(topic, 0), "0:a 1:B next=2");
}

#[test]
fn a_producer_belongs_to_one_topic_and_ends_with_its_registration() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let mine = peer.producer("mine");
    let other = peer.create("other");
    let batch = |sequence| batch_of(origin(&mine, sequence), &["a"]);
    peer.check(produce(other, batch(0)), "NOT_REGISTERED_FOR_TOPIC");
    let nobody = Origin {
        producer: ProducerId(999),
        epoch: 1,
        sequence: 0,
    };
    peer.check(
        produce(other, batch_of(nobody, &["a"])),
        "PRODUCER_NOT_FOUND",
    );
    let elsewhere = RegisterProducer {
        producer: mine.producer,
        ..register("other", "", 5)
    };
    peer.check(elsewhere, "NOT_REGISTERED_FOR_TOPIC");

    peer.check(produce(mine.topic, batch(0)), "offset=0 synced");
    let unregister = UnregisterProducer {
        topic: mine.topic,
        producer: mine.producer,
        epoch: mine.epoch,
    };
    let fenced = UnregisterProducer {
        epoch: 7,
        ..unregister.clone()
    };
    peer.check(fenced, "FENCED_EPOCH 1");
    peer.check(unregister.clone(), "done");
    peer.check(unregister, "PRODUCER_NOT_FOUND");
    peer.check(produce(mine.topic, batch(1)), "PRODUCER_NOT_FOUND");
    peer.check(fetch(mine.topic, 0), "0:a next=1");
}

#[test]
fn nothing_that_was_seen_or_acknowledged_disappears_in_a_kill() {
    // Half of the records ask for an answer before they are on disk; a reader looks at the same
    // time. A kill may take what was only accepted, but nothing that the reader has seen.
    let broker = Broker::start();
    let registered = broker.connect().producer("app");
    let topic = registered.topic;
    let mut sender = broker.connect();
    let requests: Vec<_> = (0..60)
        .map(|sequence| {
            let batch = batch_of(
                origin(&registered, sequence),
                &[format!("value {sequence}")],
            );
            if sequence % 2 == 0 {
                produce_accepted(topic, batch)
            } else {
                produce(topic, batch)
            }
        })
        .collect();
    let numbers = sender.send_all(&requests);
    let mut reader = broker.connect();
    let mut seen = Vec::new();
    let mut synced = 0;
    for (sequence, number) in numbers.into_iter().enumerate().take(40) {
        let produced = sender.answer::<Produce>(number).unwrap();
        if produced.durability == Produce::SYNCED {
            synced = sequence as u64 + 1;
        }
        seen = reader.all(topic);
    }
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    let kept = peer.all(topic);
    assert!(kept.len() as u64 >= synced, "{} of {synced}", kept.len());
    assert_eq!(kept[..seen.len()], seen);
    for (offset, value) in &kept {
        assert_eq!(value, format!("value {offset}").as_bytes());
    }
    // The producer goes on from what is there, and is told where that is.
    let next = kept.len() as u64;
    let expected = format!("OUT_OF_SEQUENCE {next}");
    let beyond = produce(topic, batch_of(origin(&registered, next + 1), &["x"]));
    assert_eq!(said(peer.ask(beyond)), expected);
    let following = produce(topic, batch_of(origin(&registered, next), &["x"]));
    assert_eq!(said(peer.ask(following)), format!("offset={next} synced"));
}

#[test]
fn what_this_version_does_not_do_is_refused_and_not_guessed() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let with = |change: &dyn Fn(&mut Produce)| {
        let mut request = produce(topic, batch(&["a"]));
        change(&mut request);
        request
    };
    peer.check(with(&|it| it.ack = 2), "NOT_SUPPORTED");
    peer.check(fetch(topic, 0), "empty next=0");
}

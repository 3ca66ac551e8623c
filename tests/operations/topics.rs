//! Creating, listing and describing topics.

use std::sync::Barrier;
use std::thread;

use logdrive_protocol::TopicId;
use logdrive_protocol::operations::{
    CreateTopic, DescribeTopic, ListTopics, Metadata, RegisterProducer, Setting,
};

use crate::support::Broker;
use crate::support::asking::register;

fn create(name: &str, settings: &[(&str, &str)], if_not_exists: bool) -> CreateTopic {
    let setting = |(key, value): &(&str, &str)| Setting {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    };
    CreateTopic {
        name: name.to_owned(),
        settings: settings.iter().map(setting).collect(),
        if_not_exists,
    }
}

#[test]
fn a_topic_is_created_once_and_a_retry_with_the_same_settings_is_a_success() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let limit = [("max_record_bytes", "100")];
    peer.check(create("app", &limit, false), "created");
    peer.check(create("app", &limit, false), "TOPIC_EXISTS");
    peer.check(create("app", &limit, true), "exists");
    peer.check(create("app", &[], true), "TOPIC_EXISTS");

    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    peer.check(create("app", &limit, true), "exists");
    peer.check(
        create("app", &[("max_record_bytes", "99")], true),
        "TOPIC_EXISTS",
    );
}

#[test]
fn settings_and_names_that_do_not_fit_are_refused() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    for name in [
        "",
        ".hidden",
        "a b",
        "a/b",
        "\u{e4}",
        "x\n",
        &"x".repeat(129),
    ] {
        peer.check(create(name, &[], false), "INVALID_TOPIC_NAME");
    }
    for settings in [
        [("color", "red")],
        [("max_record_bytes", "0")],
        [("max_record_bytes", "many")],
        [("description", "x".repeat(257).as_str())],
    ] {
        peer.check(create("app", &settings, false), "INVALID_CONFIG");
    }
    peer.check(create(&"x".repeat(128), &[], false), "created");
}

#[test]
fn a_list_is_cut_into_pages_and_an_empty_one_is_a_success() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let list = |glob: &str, after: &str, limit| ListTopics {
        glob: glob.into(),
        after: after.into(),
        limit,
    };
    peer.check(list("", "", 0), "");
    for name in ["web.b", "web.a", "db", "web.c"] {
        peer.create(name);
    }
    peer.check(list("", "", 0), "db web.a web.b web.c");
    peer.check(list("web.*", "", 2), "web.a web.b ...");
    peer.check(list("web.*", "web.b", 2), "web.c");
    peer.check(list("web.[ac]", "", 1), "web.a ...");
    peer.check(list("??", "", 0), "db");
    peer.check(list("none*", "", 0), "");
    peer.check(list("[a", "", 0), "MALFORMED");
}

#[test]
fn a_description_counts_records_producers_and_consumers() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    peer.check(
        create("app", &[("description", "of the shop")], false),
        "created",
    );
    let registered = peer.producer("app");
    for name in ["c2", "c1", "c3"] {
        peer.consumer("app", name);
    }
    peer.produce(registered.topic, &["one", "three"]);
    let mut describe = |after: &str, limit| {
        peer.ask(DescribeTopic {
            name: "app".into(),
            after: after.into(),
            limit,
        })
        .unwrap()
    };
    let described = describe("", 2);
    assert_eq!((described.records, described.bytes), (2, 8));
    assert_eq!((described.log_start, described.high_watermark), (0, 2));
    assert_eq!((described.producers, described.consumer_count), (1, 3));
    assert_eq!(described.settings[0].value, "of the shop");
    assert!(described.more);
    let names: Vec<_> = described
        .consumers
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["c1", "c2"]);
    let rest = describe("c2", 2);
    assert!(!rest.more);
    assert_eq!(rest.consumers[0].name, "c3");
    assert_eq!((rest.consumers[0].records, rest.consumers[0].bytes), (2, 8));
}

/// Has eight peers do the same at the same moment, a few times over; what each of them got.
fn race<T: Send>(
    broker: &Broker,
    rounds: usize,
    act: impl Fn(&mut crate::support::Connection, usize) -> T + Sync,
) -> Vec<Vec<T>> {
    let barrier = Barrier::new(8);
    let by_peer: Vec<Vec<T>> = thread::scope(|scope| {
        let peer = || {
            let mut connection = broker.connect();
            let mut got = Vec::new();
            for round in 0..rounds {
                barrier.wait();
                got.push(act(&mut connection, round));
            }
            got
        };
        let peers: Vec<_> = (0..8).map(|_| scope.spawn(peer)).collect();
        peers.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let mut by_round: Vec<Vec<T>> = (0..rounds).map(|_| Vec::new()).collect();
    for got in by_peer {
        for (round, it) in by_round.iter_mut().zip(got) {
            round.push(it);
        }
    }
    by_round
}

fn same_topic(topics: impl IntoIterator<Item = TopicId>) -> bool {
    let mut topics: Vec<_> = topics.into_iter().collect();
    topics.dedup();
    topics.len() == 1
}

#[test]
fn two_racing_creations_of_one_name_make_one_topic() {
    let broker = Broker::start();
    let rounds = race(&broker, 10, |peer, round| {
        peer.ask(create(&format!("t{round}"), &[], true)).unwrap()
    });
    for created in rounds {
        assert!(same_topic(created.iter().map(|it| it.topic)), "{created:?}");
        let new = created.iter().filter(|it| it.created).count();
        assert_eq!(new, 1, "{created:?}");
    }
}

#[test]
fn two_racing_registrations_make_one_topic_of_one_name() {
    // The story: a registration creates its topic. Where looking the name up and creating it are
    // two steps, two producers that come together get a topic each, under one name.
    let broker = Broker::start();
    let rounds = race(&broker, 10, |peer, round| {
        peer.ask(RegisterProducer {
            create_topic: true,
            ..register(&format!("t{round}"), "", 1)
        })
        .unwrap()
    });
    let mut names = Vec::new();
    for (round, registered) in rounds.into_iter().enumerate() {
        assert!(
            same_topic(registered.iter().map(|it| it.topic)),
            "{registered:?}"
        );
        let mut ids: Vec<_> = registered.iter().map(|it| it.producer.0).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 8, "each has a registration of its own");
        names.push((format!("t{round}"), registered[0].topic));
    }
    let broker = broker.killed_and_restarted();
    let mut peer = broker.connect();
    let topics = names.iter().map(|it| it.0.clone()).collect();
    let located = peer.ask(Metadata { topics }).unwrap();
    for (place, (name, topic)) in located.topics.iter().zip(names) {
        assert_eq!((&place.name, place.id), (&name, topic));
    }
}

#[test]
fn two_racing_registrations_of_one_name_are_one_producer() {
    let broker = Broker::start();
    broker.connect().create("app");
    let rounds = race(&broker, 10, |peer, round| {
        let instance = u64::try_from(round).unwrap() + 1;
        peer.ask(register("app", "p", instance)).unwrap()
    });
    for (round, registered) in rounds.into_iter().enumerate() {
        let epoch = u32::try_from(round).unwrap() + 1;
        for it in &registered {
            assert_eq!((it.producer, it.epoch), (registered[0].producer, epoch));
        }
    }
}

#[test]
fn a_registration_without_leave_to_create_needs_its_topic() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    peer.check(register("app", "", 1), "TOPIC_NOT_FOUND");
    let create = |topic: &str| RegisterProducer {
        create_topic: true,
        ..register(topic, "", 1)
    };
    peer.check(create("a b"), "INVALID_TOPIC_NAME");
    peer.check(create("app"), "epoch=1 next=0 topic created");
    peer.check(create("app"), "epoch=1 next=0");
    peer.check(register("app", "bad name", 1), "INVALID_NAME");
}

#[test]
fn an_unknown_name_is_told_which_one_was_probably_meant() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    peer.create("payments");
    let failure = peer.ask(register("paymnets", "", 1)).unwrap_err();
    assert_eq!(failure.hint, "did you mean \"payments\"?");
}

//! What is asked of the broker as a whole.

use logdrive_protocol::operations::{Hello, Metadata, Ping, Stats};

use crate::support::binary::{frame_of, preface};
use crate::support::{Broker, Connection};

#[test]
fn a_program_is_told_whom_it_talks_to() {
    let broker = Broker::start();
    let mut peer = Connection::silent(broker.address);
    peer.write(&preface());
    let preface = peer.greeted();
    assert_eq!((preface.version, preface.node), (1, 1));
    assert_eq!(preface.cluster, [0; 16], "it stands alone");

    let greeted = peer.ask(Hello::default()).unwrap();
    assert_eq!(greeted.broker, "logdrive");
    assert_eq!(greeted.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(greeted.node.0, preface.node);
    let pinged = peer.ask(Ping {}).unwrap();
    assert_eq!(pinged.state, 0);
    assert!(pinged.now >= greeted.started_at);
    assert!(pinged.free_bytes > 0);
}

#[test]
fn requests_may_come_in_the_same_packet_as_the_preface() {
    // The story: what had been read together with the preface was looked at only when more came,
    // so that a client which did not wait for the broker's preface waited for ever.
    let broker = Broker::start();
    let mut peer = Connection::silent(broker.address);
    let number = peer.number();
    peer.write(&[preface(), frame_of(number, &Ping {})].concat());
    peer.greeted();
    assert_eq!(peer.answer::<Ping>(number).unwrap().state, 0);
}

#[test]
fn metadata_says_where_a_topic_is_and_that_another_is_nowhere() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let names = ["nowhere", "app"].map(str::to_owned).to_vec();
    let located = peer.ask(Metadata { topics: names }).unwrap();
    assert_eq!(located.nodes.len(), 1);
    assert_eq!(located.nodes[0].address, broker.address.to_string());
    let known: Vec<_> = located
        .topics
        .iter()
        .map(|it| (it.name.as_str(), it.id.0))
        .collect();
    assert_eq!(known, [("nowhere", 0), ("app", topic.0)]);
}

#[test]
fn counters_count_what_was_done() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    peer.produce(topic, &["a", "b"]);
    assert_eq!(peer.all(topic).len(), 2);
    assert_eq!(peer.counter("app", "batches_appended"), 1);
    assert_eq!(peer.counter("app", "records_fetched"), 2);
    assert_eq!(peer.counter("", "topics"), 1);
    assert_eq!(peer.counter("", "connections"), 1);
    assert!(peer.counter("", "sent_bytes") > 0);
    let nowhere = Stats {
        topic: "nowhere".into(),
    };
    assert_eq!(
        peer.ask(nowhere).unwrap_err().code.to_string(),
        "TOPIC_NOT_FOUND"
    );
}

//! A connection that asks more topics than it remembers.

use logdrive::limits::MAX_CACHED_ROUTES;
use logdrive_protocol::operations::{Cancel, Consume, CreateTopic};

use crate::support::Broker;
use crate::support::asking::Worker;

/// Requests that are sent at a time.
const AT_ONCE: usize = 2_000;

#[test]
fn a_topic_that_a_connection_has_forgotten_learns_of_its_end_all_the_same() {
    // The story: addresses beyond so many were forgotten, all at once, and what was leased of those
    // topics stayed leased for its whole time when the connection had ended.
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    peer.produce(topic, &["a"]);
    let registered = peer.consumer("app", "c");
    let mut topics = Vec::new();
    let names: Vec<_> = (0..=MAX_CACHED_ROUTES)
        .map(|number| CreateTopic {
            name: format!("t-{number}"),
            ..CreateTopic::default()
        })
        .collect();
    for some in names.chunks(AT_ONCE) {
        for number in peer.send_all(some) {
            topics.push(peer.answer::<CreateTopic>(number).unwrap().topic);
        }
    }
    let mut restless = broker.connect();
    let lease = Consume {
        lease_ms: 3_600_000,
        ..Worker::of(&registered, 1).take(1, 1)
    };
    restless.check(lease.clone(), "0:a next=1");
    for some in topics.chunks(AT_ONCE) {
        let requests: Vec<_> = some
            .iter()
            .map(|&topic| Cancel {
                topic,
                correlation: 1,
            })
            .collect();
        for number in restless.send_all(&requests) {
            restless.answer::<Cancel>(number).unwrap();
        }
    }
    drop(restless);
    // Within seconds, not when the hour is over: a peer that hears nothing for a minute fails.
    let again = Consume {
        lease_ms: lease.lease_ms,
        ..Worker::of(&registered, 2).wait(1)
    };
    peer.check(again, "0:a next=1");
}

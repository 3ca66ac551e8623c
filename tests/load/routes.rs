//! A connection that asks more topics than it remembers.

use logdrive::limits::MAX_CACHED_ROUTES;
use logdrive_protocol::operations::{
    AlterPrincipal, Authenticate, Cancel, Consume, CreatePrincipal, CreateTopic, Fetch, Grant,
};
use logdrive_protocol::{ErrorCode, Rights, Secret};

use crate::support::asking::{Worker, fetch_waiting};
use crate::support::{Broker, Connection};

/// Requests that are sent at a time.
const AT_ONCE: usize = 2_000;

fn log_in(peer: &mut Connection, token: &[u8]) {
    let request = Authenticate {
        mechanism: Authenticate::TOKEN.to_owned(),
        data: Secret::from(token.to_vec()),
    };
    assert!(peer.ask(request).unwrap().done);
}

#[test]
fn a_topic_that_a_connection_has_forgotten_learns_of_its_end_and_of_rights_all_the_same() {
    // The story: addresses beyond so many were forgotten, all at once, and what was leased of those
    // topics stayed leased for its whole time when the connection had ended; and what waited there
    // was given records when the right to them was taken away.
    let broker = Broker::start_with(tempfile::tempdir().unwrap(), &["--auth"]);
    let mut peer = broker.connect();
    let admin = std::fs::read_to_string(broker.data().join("admin.token")).unwrap();
    log_in(&mut peer, admin.trim_end().as_bytes());
    let topic = peer.create("app");
    let other = peer.create("other");
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
    let of_others = vec![Grant {
        rights: Rights::CONSUME,
        topics: "other".into(),
    }];
    let most = ["app", "t-*"].map(|topics| Grant {
        rights: Rights::CONSUME,
        topics: topics.into(),
    });
    let restless = CreatePrincipal {
        name: "restless".into(),
        grants: [&most[..], &of_others].concat(),
        tokens: vec!["test".into()],
        ..CreatePrincipal::default()
    };
    let tokens = peer.ask(restless).unwrap().tokens;
    let mut restless = broker.connect();
    log_in(&mut restless, tokens[0].token.expose());
    let waits = restless.send(&fetch_waiting(other, 0));
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
    let revoke = AlterPrincipal {
        name: "restless".into(),
        revoke: of_others,
        ..AlterPrincipal::default()
    };
    peer.ask(revoke).unwrap();
    let withdrawn = restless.answer::<Fetch>(waits).unwrap_err();
    assert_eq!(withdrawn.code, ErrorCode::PermissionDenied, "{withdrawn}");
    drop(restless);
    // Within seconds, not when the hour is over: a peer that hears nothing for a minute fails.
    let again = Consume {
        lease_ms: lease.lease_ms,
        ..Worker::of(&registered, 2).wait(1)
    };
    peer.check(again, "0:a next=1");
}

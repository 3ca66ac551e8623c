//! `logdrive serve`, as its operator sees it.

use crate::broker::{Broker, program, text};

#[test]
fn a_second_broker_on_the_same_data_is_refused_by_the_name_of_the_first() {
    let broker = Broker::start();
    let data = broker.data();
    let out = program(&["serve", "--listen", "127.0.0.1:0", "--data", &data])
        .output()
        .unwrap();
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains(&broker.id().to_string()), "{said}");
    broker.check(&["topic", "list", "-o", "raw"], b"", 0, "");
}

#[test]
fn serve_stops_gracefully_and_keeps_everything() {
    let mut broker = Broker::start();
    broker.check(&["produce", "app"], b"kept\n", 0, "");
    assert_eq!(broker.stop().code(), Some(0));
    broker.restart();
    broker.check(&["fetch", "app"], b"", 0, "kept\n");
}

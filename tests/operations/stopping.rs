//! A graceful stop: what was begun is answered, and everybody is told.

use logdrive_protocol::ErrorCode;
use logdrive_protocol::body::Body;
use logdrive_protocol::frame::NOTICE;
use logdrive_protocol::operations::{Fetch, GoingAway, Produce};

use crate::support::asking::{fetch_waiting, produce};
use crate::support::binary::read_answer;
use crate::support::{Broker, batch};

#[test]
fn a_stop_answers_what_was_begun_and_what_it_answers_is_stored() {
    // The story: the process ended as soon as its connections were told to, so answers that hung
    // on the last flush were never written, though their records were stored.
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let parked = peer.send(&fetch_waiting(topic, 0));
    let produces = peer.send_all(&vec![produce(topic, batch(&["a"])); 500]);
    peer.answer::<Produce>(produces[0]).unwrap();
    broker.terminate();

    let (mut stored, mut refused, mut going_away) = (1, 0, None);
    let mut woken = peer.answer_frame(parked).is_some();
    for number in &produces[1..] {
        // What was not read any more has no answer, and those behind it neither.
        let Some(frame) = peer.answer_frame(*number) else {
            break;
        };
        match read_answer::<Produce>(frame) {
            Ok(_) => stored += 1,
            Err(failure) => {
                assert_eq!(failure.code, ErrorCode::Unavailable, "{failure}");
                refused += 1;
            }
        }
    }
    while let Some(frame) = peer.hear() {
        woken |= frame.correlation == parked;
        if frame.correlation == NOTICE {
            peer.notices.push(frame);
        }
    }
    for notice in std::mem::take(&mut peer.notices) {
        assert_eq!(notice.opcode, GoingAway::OPCODE);
        going_away = Some(GoingAway::from_bytes(notice.body).unwrap());
    }
    assert!(going_away.is_some_and(|it| it.deadline_ms > 0));
    assert!(woken, "the fetch was answered");

    let (data, _) = broker.stopped();
    let broker = Broker::start_on(data);
    let kept = broker.connect().all(topic);
    assert_eq!(kept.len(), stored, "{refused} were refused");
}

#[test]
fn what_waits_for_records_is_answered_when_the_broker_stops() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let topic = peer.create("app");
    let waiting = peer.send(&fetch_waiting(topic, 0));
    peer.settle(topic);
    broker.terminate();
    peer.check_answer::<Fetch>(waiting, "UNAVAILABLE");
    while peer.hear().is_some() {}
    broker.stopped();
}

#[test]
fn a_text_session_ends_when_the_broker_stops() {
    let broker = Broker::start();
    let mut text = broker.text();
    text.check("PING", "+ pong state=ok");
    broker.terminate();
    assert_eq!(text.hear(), None);
    broker.stopped();
}

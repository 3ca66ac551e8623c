//! First bytes that are wrong: everybody is told what this port speaks.

use std::io::Read;

use bytes::BytesMut;
use logdrive_protocol::frame::NOTICE;
use logdrive_protocol::preface::{BROKER_PREFACE_HEAD_BYTES, BrokerPreface, ClientPreface, MAGIC};

use crate::support::binary::{preface, socket};
use crate::support::{Broker, Connection};
use crate::{Bystander, names};

/// What begins so is told this in a last frame.
fn check(broker: &Broker, bytes: &[u8], words: &str) {
    let mut peer = Connection::silent(broker.address);
    peer.write(bytes);
    let failure = peer.hear_failure();
    names(&failure, "BAD_PREFACE", words);
    let hint = if words == "TLS" {
        "connect without TLS, or start it with --tls-cert FILE --tls-key FILE"
    } else {
        "a binary client sends D4 4C 4F 47 first; a person types HELP"
    };
    assert_eq!(failure.hint, hint);
    peer.closed();
}

#[test]
fn what_is_neither_a_preface_nor_text_is_told_what_to_send() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    check(&broker, &[0], "garbage");
    check(&broker, &[0x80; 5000], "garbage");
    check(&broker, &[0x01, 0x02, b'P', b'I', b'N', b'G'], "garbage");
    check(
        &broker,
        b"\xd4LOX0000000000000000",
        "neither a preface nor text",
    );
    check(&broker, b"\xd4\xd4", "neither a preface nor text");
    let tls = [0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3];
    check(&broker, &tls, "TLS");
    bystander.goes_on();
}

#[test]
fn versions_without_one_in_common_are_answered_with_the_brokers_own() {
    let broker = Broker::start();
    for (lowest, highest) in [(2, 9), (0, 0), (9, 2), (u16::MAX, u16::MAX)] {
        let mut bytes = BytesMut::new();
        let features = 0;
        ClientPreface {
            lowest,
            highest,
            features,
        }
        .encode(&mut bytes);
        let mut peer = socket(broker.address);
        std::io::Write::write_all(&mut peer, &bytes).unwrap();
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).unwrap();
        let length = usize::from(u16::from_be_bytes([answer[4], answer[5]]));
        assert_eq!(
            answer.len(),
            BROKER_PREFACE_HEAD_BYTES + length,
            "and nothing more"
        );
        assert_eq!(answer[..4], MAGIC);
        let failure = BrokerPreface::decode(&mut answer[..].into()).unwrap_err();
        names(
            &failure,
            "UNSUPPORTED_VERSION",
            "the broker speaks versions 1 to 1",
        );
    }
}

#[test]
fn a_client_of_many_versions_and_unknown_features_is_welcome() {
    let broker = Broker::start();
    let mut bytes = BytesMut::new();
    ClientPreface {
        lowest: 1,
        highest: 700,
        features: u64::MAX,
    }
    .encode(&mut bytes);
    bytes[16..].copy_from_slice(&[0xff; 4]);
    let mut peer = Connection::silent(broker.address);
    peer.write(&bytes);
    let answer = peer.greeted();
    assert_eq!((answer.version, answer.features), (1, 0));
}

#[test]
fn a_preface_may_arrive_byte_by_byte() {
    let broker = Broker::start();
    let mut peer = Connection::silent(broker.address);
    for byte in preface() {
        peer.write(&[byte]);
    }
    assert_eq!(peer.greeted().version, 1);
    peer.create("app");
}

#[test]
fn one_byte_and_silence_is_told_after_five_seconds_and_holds_up_nobody() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let mut peer = Connection::silent(broker.address);
    peer.write(&MAGIC[..1]);
    bystander.goes_on();
    let frame = peer.hear().unwrap();
    assert_eq!((frame.opcode, frame.correlation), (0, NOTICE));
    let failure = crate::support::binary::read_answer::<logdrive_protocol::operations::Ping>(frame);
    names(&failure.unwrap_err(), "HANDSHAKE_TIMEOUT", "within 5s");
    peer.closed();
    bystander.goes_on();
}

#[test]
fn a_browser_is_told_that_this_is_not_http_and_nothing_is_executed() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    for request in [
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /x HTTP/1.1\r\nContent-Length: 42\r\n\r\nDELETE undisturbed CONFIRM undisturbed\r\n",
        "OPTIONS * HTTP/1.1\r\n\r\n",
        "DELETE /undisturbed HTTP/1.0\r\n\r\nDELETE undisturbed CONFIRM undisturbed\r\n",
        // The story: methods in small letters, which pages may send, were taken for commands that do
        // not exist, and the lines of the body for commands.
        "patch / HTTP/1.1\r\n\r\nDELETE undisturbed CONFIRM undisturbed\r\n",
        "x-y / http/1.1\r\n\r\nDELETE undisturbed CONFIRM undisturbed\r\n",
    ] {
        let mut peer = broker.text();
        peer.write(request.as_bytes());
        let answer = peer.rest();
        assert!(
            answer.starts_with("HTTP/1.1 421 Misdirected Request\r\n"),
            "{answer}"
        );
        assert!(
            answer.contains("logdrive's own protocol, not HTTP"),
            "{answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        assert!(!answer.contains("deleted"), "{answer}");
    }
    bystander.goes_on();
}

#[test]
fn a_header_of_http_ends_a_session_whatever_came_before_it() {
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    for first in ["GET /", "PRODUCE / HTTP/1.1", "PING"] {
        let mut peer = broker.text();
        let request = "HOST: localhost\r\n\r\nDELETE undisturbed CONFIRM undisturbed\r\n";
        peer.write(format!("{first}\r\n{request}").as_bytes());
        let answer = peer.rest();
        let misdirected = answer.lines().nth(1);
        assert_eq!(
            misdirected,
            Some("HTTP/1.1 421 Misdirected Request"),
            "{answer}"
        );
        assert!(!answer.contains("deleted"), "{answer}");
    }
    bystander.goes_on();
}

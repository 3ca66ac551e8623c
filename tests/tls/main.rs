//! TLS on the one port: real brokers, real certificates, and everybody who should not get in.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod certificates;
mod commands;
mod peers;
mod refused;
#[path = "../support/mod.rs"]
mod support;

use std::io::Read;
use std::net::{Shutdown, TcpStream};

use logdrive_client::blocking::Client;
use logdrive_client::{
    CreatePrincipal, Credentials, ErrorCode, FetchOptions, Grant, Identity, NewRecord, Options,
    Position, ProducerOptions, Tls,
};
use logdrive_protocol::Rights;
use logdrive_protocol::operations::Fetch;
use tokio_rustls::rustls::HandshakeKind;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use certificates::{Authority, NOW, arguments};
use peers::{Encrypted, client, remembering};
use support::asking::fetch;
use support::{Broker, until};

/// A broker with a certificate for 127.0.0.1, and further arguments.
fn broker(authority: &Authority, more: &[&str]) -> Broker {
    let identity = authority.sign("server", "127.0.0.1", NOW);
    broker_as(&identity, more)
}

fn broker_as(identity: &Identity, more: &[&str]) -> Broker {
    let mut arguments = arguments(identity);
    arguments.extend(more.iter().map(|&it| it.to_owned()));
    broker_with(&arguments)
}

fn broker_with(arguments: &[String]) -> Broker {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Broker::start_with(tempfile::tempdir().unwrap(), &arguments)
}

/// The value of a record of a kilobyte.
fn value(number: usize) -> Vec<u8> {
    let byte = |at: usize| ((number * 31 + at * 7) % 251).try_into().unwrap();
    (0..1024).map(byte).collect()
}

/// Produces megabytes and reads them back, byte for byte.
fn megabytes_pass(client: &Client) {
    const RECORDS: usize = 8 << 10;
    let mut producer = client
        .producer(&["big"], ProducerOptions::default())
        .unwrap();
    for number in 0..RECORDS {
        let value = value(number);
        let record = NewRecord {
            value: &value,
            ..NewRecord::default()
        };
        producer.push("big", &record).unwrap();
    }
    producer.close().unwrap();
    let mut next = 0;
    let options = FetchOptions::default();
    for portion in client.fetch("big", Position::Earliest, options).unwrap() {
        for record in portion.unwrap().records() {
            assert_eq!(record.record.value, value(next));
            next += 1;
        }
    }
    assert_eq!(next, RECORDS);
}

#[test]
fn programs_and_people_speak_within_tls_on_the_port_that_others_use_without_it() {
    let authority = Authority::new();
    let broker = broker(&authority, &[]);
    megabytes_pass(&client(broker.address, Some(authority.trusted())).unwrap());
    for version in [&TLS12, &TLS13] {
        let mut text = Encrypted::open(broker.address, &authority.path("ca.pem"), version);
        text.write(b"SIZE big c\n");
        let missing = text.hear().unwrap();
        assert!(missing.starts_with("- CONSUMER_NOT_FOUND"), "{missing}");
        text.write(b"PRODUCE small from a shell\nFETCH small\nQUIT\n");
        assert!(text.hear().unwrap().starts_with("- TOPIC_NOT_FOUND"));
        assert!(text.rest().ends_with(b"+ bye\n"));
        // Telnet negotiates, then types.
        let mut telnet = Encrypted::open(broker.address, &authority.path("ca.pem"), version);
        telnet.write(b"\xff\xfd\x03PING\r\n");
        assert_eq!(telnet.hear().unwrap(), "+ pong state=ok");
    }
    // Without TLS everything is as before.
    let plain = client(broker.address, None).unwrap();
    assert_eq!(plain.ping().unwrap().state, 0);
    broker.text().check("PING", "+ pong state=ok");
}

#[test]
fn a_peer_that_has_said_its_last_is_answered_and_one_that_is_cut_off_has_said_nothing() {
    let authority = Authority::new();
    let broker = broker(&authority, &[]);
    broker.connect().create("app");
    let mut text = Encrypted::open(broker.address, &authority.path("ca.pem"), &TLS13);
    text.write(b"PRODUCE app a\nPRODUCE app b\nFETCH app earliest n=5\n");
    text.finish();
    let said = String::from_utf8(text.rest()).unwrap();
    assert!(
        said.starts_with("+ offset=0 synced\n+ offset=1 synced\n* app 0"),
        "{said}"
    );
    assert!(said.ends_with("+ n=2\n"), "{said}");

    // Whoever can cut a connection could shorten a last line, if it counted without its end.
    let mut cut = Encrypted::open(broker.address, &authority.path("ca.pem"), &TLS13);
    cut.write(b"PRODUCE app c\nPRODUCE app shor");
    assert_eq!(cut.hear().unwrap(), "+ offset=2 synced");
    cut.cut();
    cut.rest();
    broker
        .connect()
        .check(fetch(logdrive_protocol::TopicId(1), 3), "empty next=3");
}

#[test]
fn a_reader_behind_tls_that_reads_nothing_is_pushed_back_and_cut_off() {
    let authority = Authority::new();
    let broker = broker(&authority, &[]);
    megabytes_pass(&client(broker.address, Some(authority.trusted())).unwrap());
    let mut peer = broker.connect();
    let topic = peer.ask(logdrive_protocol::operations::DescribeTopic {
        name: "big".to_owned(),
        ..Default::default()
    });
    let topic = topic.unwrap().topic;
    let nothing = peer.create("nothing");
    let before = broker.resident_bytes();

    let mut slow = Encrypted::open(broker.address, &authority.path("ca.pem"), &TLS13);
    slow.write(&support::binary::preface());
    let whole = Fetch {
        max_bytes: u32::MAX,
        ..fetch(topic, 0)
    };
    for number in 1..=200 {
        slow.write(&support::binary::frame_of(number, &whole));
    }
    until("it is given up", || {
        let grown = broker.resident_bytes().saturating_sub(before);
        assert!(grown < 100 << 20, "{grown} bytes more");
        // Others are served meanwhile.
        let waiting = Fetch {
            max_wait_ms: 500,
            ..fetch(nothing, 0)
        };
        peer.check(waiting, "empty next=0");
        peer.counter("", "connections") == 1
    });
}

#[test]
fn certificates_are_read_again_after_a_signal_and_connections_go_on() {
    let (first, second) = (Authority::new(), Authority::new());
    let broker = broker(&first, &[]);
    let old = client(broker.address, Some(first.trusted())).unwrap();
    old.ping().unwrap();

    // What cannot be used changes nothing.
    let identity = first.sign("server", "127.0.0.1", NOW);
    std::fs::write(&identity.key, "no key").unwrap();
    broker.hang_up();
    client(broker.address, Some(first.trusted())).unwrap();

    let next = second.sign("server", "127.0.0.1", NOW);
    std::fs::copy(next.certificate, identity.certificate).unwrap();
    std::fs::copy(next.key, identity.key).unwrap();
    broker.hang_up();
    until("the new certificate is shown", || {
        client(broker.address, Some(second.trusted())).is_ok()
    });
    client(broker.address, Some(first.trusted())).unwrap_err();
    old.ping().unwrap();
    broker.terminate();
    let (_, said) = broker.stopped();
    assert!(
        said.contains("the certificates stay as they were"),
        "{said}"
    );
    assert!(said.contains("holds no private key"), "{said}");
    assert!(
        said.contains("logdrive has read its certificates again"),
        "{said}"
    );
}

#[test]
fn what_is_not_a_handshake_is_told_so_and_what_stalls_in_one_is_cut_off() {
    let authority = Authority::new();
    let broker = broker(&authority, &[]);
    // A peer that sends the beginning of a handshake and nothing more, all the while.
    let mut stalled = support::binary::socket(broker.address);
    std::io::Write::write_all(&mut stalled, &[0x16, 3, 1, 2, 0, 1, 0]).unwrap();

    let garbage = |bytes: &[u8]| {
        let mut peer = support::binary::socket(broker.address);
        std::io::Write::write_all(&mut peer, bytes).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let mut said = Vec::new();
        peer.read_to_end(&mut said).unwrap();
        said
    };
    // An alert (15), fatal (2).
    for bytes in [
        &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0xff][..],
        &[0x16; 3000],
        // A certificate, before anybody has said hello.
        &[0x16, 3, 1, 0, 5, 0x0b, 0, 0, 1, 0],
    ] {
        let said = garbage(bytes);
        assert!(
            said.len() == 7 && (said[0], said[5]) == (0x15, 2),
            "{said:?}"
        );
    }
    // Cut in the middle: there is nothing to say.
    garbage(&[0x16, 3, 1]);
    // A message of 16 MiB, as it says, is not waited for: no more is kept than a real one needs.
    let piece = [[0x16, 3, 3, 0x40, 0].as_slice(), &[0xff; 0x4000]].concat();
    let mut endless = support::binary::socket(broker.address);
    let all_taken = std::io::Write::write_all(&mut endless, &piece.repeat(512));
    assert!(all_taken.is_err(), "8 MiB were read");
    // TLS within TLS is garbage like any other.
    let mut twice = Encrypted::open(broker.address, &authority.path("ca.pem"), &TLS13);
    twice.write(&[0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5]);
    let said = String::from_utf8_lossy(&twice.rest()).into_owned();
    assert!(said.contains("TLS came within TLS"), "{said}");
    let mut nonsense = Encrypted::open(broker.address, &authority.path("ca.pem"), &TLS13);
    nonsense.write(&[0x80; 100]);
    let said = String::from_utf8_lossy(&nonsense.rest()).into_owned();
    assert!(said.contains("garbage came first"), "{said}");

    client(broker.address, Some(authority.trusted())).unwrap();
    ends(stalled);
}

/// The broker ends this connection.
fn ends(mut peer: TcpStream) {
    let mut said = Vec::new();
    // A reset is an end too.
    let _ = peer.read_to_end(&mut said);
    assert_eq!(said, b"");
}

#[test]
fn a_certificate_logs_in_as_the_principal_whose_name_it_has_and_as_nobody_else() {
    let authority = Authority::new();
    let ca = authority.path("ca.pem");
    let ca = ca.to_str().unwrap();
    let broker = broker(&authority, &["--auth", "--tls-client-ca", ca]);
    let token = std::fs::read_to_string(broker.data().join("admin.token")).unwrap();
    let log_in = |credentials: Credentials, shows: Option<&str>| {
        let identity = shows.map(|name| authority.sign(name, name, NOW));
        let options = Options {
            tls: Some(Tls {
                identity,
                ..authority.trusted()
            }),
            credentials: Some(credentials),
            ..Options::default()
        };
        Client::connect_with(broker.address, options)
    };
    let admin = log_in(Credentials::Token(token.trim().to_owned()), None).unwrap();
    let billing = CreatePrincipal {
        name: "billing".to_owned(),
        grants: vec![Grant {
            rights: Rights::ALL,
            topics: "bills".to_owned(),
        }],
        ..CreatePrincipal::default()
    };
    admin.create_principal(billing).unwrap();
    let client = log_in(Credentials::Certificate, Some("billing")).unwrap();
    client.create_topic("bills", &[], false).unwrap();
    assert_eq!(client.describe_topic("bills").unwrap().owner, "billing");
    let denied = client.create_topic("app", &[], false).unwrap_err();
    assert_eq!(denied.code(), Some(ErrorCode::PermissionDenied));
    // A good certificate of somebody unknown, and none at all.
    for shows in [Some("stranger"), None] {
        let refused = log_in(Credentials::Certificate, shows).unwrap_err();
        let code = refused.code();
        assert_eq!(code, Some(ErrorCode::AuthenticationFailed), "{refused}");
    }
}

/// The story: a session that was resumed kept the certificate of the connection that began it, so one
/// that had expired meanwhile logged in for another day.
#[test]
fn where_certificates_are_looked_at_no_session_is_resumed() {
    let authority = Authority::new();
    let ca = authority.path("ca.pem");
    let identity = authority.sign("client", "client", NOW);
    let check = |more: &[&str], shows: Option<&Identity>, again: HandshakeKind| {
        let broker = broker(&authority, more);
        for version in [&TLS12, &TLS13] {
            let config = remembering(&ca, version, shows);
            for expected in [HandshakeKind::Full, again] {
                let mut text = Encrypted::open_again(broker.address, &config);
                text.write(b"PING\n");
                assert_eq!(text.hear().unwrap(), "+ pong state=ok");
                assert_eq!(text.handshake(), expected, "{version:?} {more:?}");
            }
        }
    };
    let looked_at = ["--tls-client-ca", ca.to_str().unwrap()];
    check(&looked_at, Some(&identity), HandshakeKind::Full);
    check(&looked_at, None, HandshakeKind::Full);
    check(&[], None, HandshakeKind::Resumed);
}

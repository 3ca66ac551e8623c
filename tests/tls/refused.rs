//! Whom the broker refuses, whom a client refuses, and what is said then.

use logdrive_client::{ErrorCode, ErrorKind, Identity, Outcome, Tls, TlsFault};

use crate::certificates::{Authority, FUTURE, NOW, PAST};
use crate::peers::client;
use crate::support::{Broker, Connection};
use crate::{broker, broker_as};

/// A client with these settings is told this: the kind, and words of text and hint.
#[track_caller]
fn check(broker: &Broker, tls: Option<Tls>, kind: ErrorKind, words: &[&str]) {
    let error = client(broker.address, tls)
        .and_then(|client| client.ping().map(drop))
        .unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    let said = format!("{} | {}", error.message(), error.hint());
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!error.hint().is_empty(), "{said}");
    assert!(!error.is_retryable(), "{said}");
    assert_eq!(error.outcome(), Outcome::NotDone, "{said}");
}

fn fault(fault: TlsFault) -> ErrorKind {
    ErrorKind::Tls(fault)
}

#[test]
fn a_client_says_by_name_why_it_does_not_trust_a_broker() {
    let (authority, other) = (Authority::new(), Authority::new());
    let trusted = Some(authority.trusted());
    let good = broker(&authority, &[]);
    check(
        &good,
        Some(other.trusted()),
        fault(TlsFault::Untrusted),
        &["nobody that is trusted", "--ca FILE"],
    );
    let wrong_name = Tls {
        server_name: Some("elsewhere.example".to_owned()),
        ..authority.trusted()
    };
    check(
        &good,
        Some(wrong_name),
        fault(TlsFault::WrongName),
        &["another name", "elsewhere.example", "--tls-server-name"],
    );
    for years in [PAST, FUTURE] {
        let identity = authority.sign("invalid", "127.0.0.1", years);
        check(
            &broker_as(&identity, &[]),
            trusted.clone(),
            fault(TlsFault::Expired),
            &["not valid now", "SIGHUP"],
        );
    }
    let named = authority.sign("named", "broker.example", NOW);
    let named = broker_as(&named, &[]);
    check(
        &named,
        trusted.clone(),
        fault(TlsFault::WrongName),
        &["broker.example"],
    );
    let right_name = Tls {
        server_name: Some("broker.example".to_owned()),
        ..authority.trusted()
    };
    client(named.address, Some(right_name)).unwrap();
    check(
        &Broker::start(),
        trusted,
        fault(TlsFault::NotSpoken),
        &["does not speak TLS", "--tls-cert"],
    );
    // The machine trusts somebody, or nobody: not the authority of this test.
    let error = client(good.address, Some(Tls::default())).unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Tls(TlsFault::Untrusted) | ErrorKind::Invalid
        ),
        "{error}"
    );
}

#[test]
fn a_client_shows_its_certificate_where_it_is_asked_and_is_refused_without_a_good_one() {
    let (authority, other) = (Authority::new(), Authority::new());
    let ca = authority.path("ca.pem");
    let ca = ca.to_str().unwrap();
    let optional = broker(&authority, &["--tls-client-ca", ca]);
    let demanded = broker(
        &authority,
        &["--tls-client-ca", ca, "--tls-client-required"],
    );
    let shows = |identity: Identity| Tls {
        identity: Some(identity),
        ..authority.trusted()
    };
    let good = shows(authority.sign("billing", "billing", NOW));
    let foreign = shows(other.sign("billing", "billing", NOW));
    let expired = shows(authority.sign("old", "billing", PAST));
    for broker in [&optional, &demanded] {
        let client = client(broker.address, Some(good.clone())).unwrap();
        assert_eq!(client.ping().unwrap().state, 0);
        for bad in [&foreign, &expired] {
            check(
                broker,
                Some(bad.clone()),
                fault(TlsFault::CertificateRefused),
                &["refuses the client's certificate", "--tls-client-ca"],
            );
        }
    }
    client(optional.address, Some(authority.trusted())).unwrap();
    check(
        &demanded,
        Some(authority.trusted()),
        fault(TlsFault::CertificateRequired),
        &["demands a certificate", "--cert FILE"],
    );
    // A broker that asks for none takes no offence at one.
    client(broker(&authority, &[]).address, Some(foreign)).unwrap();
}

#[test]
fn without_tls_nobody_gets_in_where_it_is_required() {
    let authority = Authority::new();
    let broker = broker(&authority, &["--tls-required"]);
    check(
        &broker,
        None,
        ErrorKind::Refused(ErrorCode::TlsRequired),
        &["TLS only", "--tls"],
    );
    client(broker.address, Some(authority.trusted())).unwrap();

    let mut peer = Connection::silent(broker.address);
    peer.write(&crate::support::binary::preface());
    let failure = peer.hear_failure();
    assert_eq!(failure.code, ErrorCode::TlsRequired);
    peer.closed();
    for typed in ["PING\n", "P", "\n", "GET / HTTP/1.1\r\n\r\n"] {
        let mut text = broker.text();
        text.write(typed.as_bytes());
        let said = text.rest();
        assert!(said.starts_with("- TLS_REQUIRED "), "{said}");
        assert!(said.contains("; try: "), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_broker_that_cannot_use_its_certificate_does_not_start() {
    let (authority, other) = (Authority::new(), Authority::new());
    let good = authority.sign("server", "127.0.0.1", NOW);
    let elsewhere = other.sign("server", "127.0.0.1", NOW);
    let missing = authority.path("missing.pem");
    let cases = [
        (&good.certificate, &missing, "cannot read"),
        (&good.key, &good.key, "holds no certificate"),
        (&good.certificate, &good.certificate, "holds no private key"),
        (&good.certificate, &elsewhere.key, "is that its key?"),
    ];
    for (certificate, key, words) in cases {
        let identity = Identity {
            certificate: certificate.clone(),
            key: key.clone(),
        };
        let directory = tempfile::tempdir().unwrap();
        let arguments = crate::arguments(&identity);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = Broker::refusal_with(directory.path(), &arguments);
        assert!(said.contains(words), "{words}: {said}");
    }
}

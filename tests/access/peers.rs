//! A broker at which everybody has to log in, and those who do.

use std::fs;
use std::path::Path;

use logdrive_protocol::operations::{
    AlterPrincipal, Authenticate, Authenticated, CreatePrincipal, Grant, Verifier,
};
use logdrive_protocol::scram::{Keys, Proven, Start};
use logdrive_protocol::{Failure, Rights, Secret};

use crate::support::{Broker, Connection, Text};

/// A guarded broker on a fresh directory.
pub(crate) fn guarded() -> Broker {
    Broker::start_with(tempfile::tempdir().unwrap(), &["--auth"])
}

/// The token that its first start has left.
pub(crate) fn admin_token(data: &Path) -> String {
    let token = fs::read_to_string(data.join("admin.token")).unwrap();
    token.trim_end().to_owned()
}

/// A step with a token.
pub(crate) fn token(token: &str) -> Authenticate {
    step(Authenticate::TOKEN, token.as_bytes())
}

/// A step.
pub(crate) fn step(mechanism: &str, data: &[u8]) -> Authenticate {
    Authenticate {
        mechanism: mechanism.to_owned(),
        data: Secret::from(data.to_vec()),
    }
}

/// Somebody who is logged in with a token.
pub(crate) fn logged_in(broker: &Broker, with: &str) -> Connection {
    let mut peer = broker.connect();
    assert!(peer.ask(token(with)).unwrap().done);
    peer
}

/// The administrator.
pub(crate) fn admin(broker: &Broker) -> Connection {
    logged_in(broker, &admin_token(broker.data()))
}

/// The same, typing.
pub(crate) fn typing(broker: &Broker, with: &str) -> Text {
    let mut peer = broker.text();
    let answer = peer.ask(&format!("AUTH TOKEN {with}"));
    assert!(answer.starts_with("+ logged in as "), "{answer}");
    peer
}

/// A grant.
pub(crate) fn grant(rights: Rights, topics: &str) -> Grant {
    Grant {
        rights,
        topics: topics.to_owned(),
    }
}

/// Creates a principal that may do this; its token.
pub(crate) fn principal(admin: &mut Connection, name: &str, grants: &[Grant]) -> String {
    let created = admin.ask(CreatePrincipal {
        name: name.to_owned(),
        grants: grants.to_vec(),
        tokens: vec!["test".to_owned()],
        ..CreatePrincipal::default()
    });
    let tokens = created.unwrap().tokens;
    tokens[0].token.expose_text().unwrap().to_owned()
}

/// Gives a principal a password.
pub(crate) fn set_password(admin: &mut Connection, name: &str, password: &str) {
    admin
        .ask(AlterPrincipal {
            name: name.to_owned(),
            password: vec![Verifier::of(password, fastrand_salt()).unwrap()],
            ..AlterPrincipal::default()
        })
        .unwrap();
}

fn fastrand_salt() -> [u8; 16] {
    fastrand::u128(..).to_be_bytes()
}

/// Both steps of a password; the broker's signature is checked.
pub(crate) fn scram(
    peer: &mut Connection,
    name: &str,
    password: &str,
) -> Result<Authenticated, Failure> {
    let (proven, last) = proof(peer, name, password)?;
    let last = peer.ask(last)?;
    proven.check(last.data.expose()).unwrap();
    Ok(last)
}

/// The first step of a password; the second, and what checks its answer.
pub(crate) fn proof(
    peer: &mut Connection,
    name: &str,
    password: &str,
) -> Result<(Proven, Authenticate), Failure> {
    let start = Start::new(name, "aNonceOfATest");
    let first = peer.ask(step(Authenticate::SCRAM, start.message().as_bytes()))?;
    assert!(!first.done);
    let challenged = start.challenged(first.data.expose()).unwrap();
    let keys = Keys::derive(password, &challenged.salt, challenged.iterations).unwrap();
    let (proven, last) = challenged.prove(&keys);
    Ok((proven, step(Authenticate::SCRAM, last.as_bytes())))
}

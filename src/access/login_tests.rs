//! Logging in, and every way not to.

use logdrive_protocol::operations::{AlterPrincipal, CreatePrincipal, Verifier};
use logdrive_protocol::scram::{Keys, Start};

use super::*;

const PASSWORD: &str = "correct horse";

/// `ann` with a token and a password, `bob` with neither; ann's token.
fn directory() -> (Directory, Secret) {
    let directory = Directory::load(true, &[]).with_secret([9; 32]);
    let ann = CreatePrincipal {
        name: "ann".into(),
        tokens: vec!["ci".into()],
        password: vec![Verifier::of(PASSWORD, [5; 16]).unwrap()],
        ..CreatePrincipal::default()
    };
    let change = directory.create(ann, 1).unwrap();
    let token = change.tokens[0].token.clone();
    let bob = CreatePrincipal {
        name: "bob".into(),
        ..CreatePrincipal::default()
    };
    (change.directory.create(bob, 2).unwrap().directory, token)
}

fn request(mechanism: &str, data: impl Into<Secret>) -> Authenticate {
    Authenticate {
        mechanism: mechanism.to_owned(),
        data: data.into(),
    }
}

fn said(step: &Step) -> String {
    match step {
        Step::Next(_) => "next".to_owned(),
        Step::Right(session, _) => session.name.clone(),
        Step::Wrong(failure) => failure.to_string(),
    }
}

fn one(request: &Authenticate, certified: Option<&str>) -> String {
    said(
        &Login::default()
            .step(request, &directory().0, certified)
            .unwrap(),
    )
}

const WRONG: &str = "AUTHENTICATION_FAILED the name, password, token or certificate is not right";

#[test]
fn a_token_is_right_or_wrong() {
    let (all, token) = directory();
    let step = Login::default().step(&request("TOKEN", token.expose().to_vec()), &all, None);
    assert_eq!(said(&step.unwrap()), "ann");
    for bad in ["", "ldt_", "ann", "ci"] {
        assert_eq!(one(&request("TOKEN", bad.as_bytes()), None), WRONG);
    }
    let mut near = token.expose().to_vec();
    near.push(b'\n');
    assert_eq!(one(&request("TOKEN", near), None), WRONG);
}

#[test]
fn a_certificate_is_its_name_and_only_tls_says_whose() {
    assert_eq!(one(&request("EXTERNAL", vec![]), Some("ann")), "ann");
    assert_eq!(one(&request("EXTERNAL", vec![]), Some("eve")), WRONG);
    assert_eq!(one(&request("EXTERNAL", vec![]), None), WRONG);
    assert_eq!(one(&request("EXTERNAL", &b"ann"[..]), None), WRONG);
}

#[test]
fn an_unknown_mechanism_is_named() {
    let expected = "NOT_SUPPORTED there is no mechanism \"PLAIN\"";
    assert_eq!(one(&request("PLAIN", &b"\0ann\0x"[..]), None), expected);
}

/// Both steps of a password; what the second comes to.
fn scram(name: &str, password: &str) -> String {
    let (all, mut login) = (directory().0, Login::default());
    let start = Start::new(name, "clientNonce");
    let first = request("SCRAM-SHA-256", start.message().into_bytes());
    let Step::Next(challenge) = login.step(&first, &all, None).unwrap() else {
        panic!("{name} was not challenged");
    };
    let challenged = start.challenged(challenge.expose()).unwrap();
    let keys = Keys::derive(password, &challenged.salt, challenged.iterations).unwrap();
    let (proven, last) = challenged.prove(&keys);
    let step = login.step(
        &request("SCRAM-SHA-256", last.clone().into_bytes()),
        &all,
        None,
    );
    let step = step.unwrap();
    if let Step::Right(_, signature) = &step {
        proven.check(signature.expose()).unwrap();
    }
    // The exchange is over: its last message opens no other.
    let replayed = login.step(&request("SCRAM-SHA-256", last.into_bytes()), &all, None);
    assert!(said(&replayed.unwrap()).starts_with("AUTHENTICATION_FAILED"));
    said(&step)
}

#[test]
fn a_wrong_password_no_password_and_nobody_are_answered_alike() {
    assert_eq!(scram("ann", PASSWORD), "ann");
    assert_eq!(scram("ann", "wrong"), WRONG);
    assert_eq!(scram("bob", PASSWORD), WRONG);
    assert_eq!(scram("eve", PASSWORD), WRONG);
    assert_eq!(scram("a,=b", PASSWORD), WRONG);
}

#[test]
fn who_does_not_exist_has_the_same_salt_at_every_try() {
    let (all, challenge) = (directory().0, |name: &str, all: &Directory| {
        let first = Start::new(name, "n").message().into_bytes();
        match Login::default().step(&request("SCRAM-SHA-256", first), all, None) {
            Ok(Step::Next(message)) => {
                let text = message.expose_text().unwrap().to_owned();
                text.split_once(",s=").unwrap().1.to_owned()
            }
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(challenge("eve", &all), challenge("eve", &all));
    assert_ne!(challenge("eve", &all), challenge("bob", &all));
    for name in ["ann", "bob", "eve"] {
        assert!(challenge(name, &all).ends_with(",i=65536"));
        assert_eq!(
            challenge(name, &all).len(),
            "MDEyMzQ1Njc4OWFiY2RlZg==,i=65536".len()
        );
    }
}

#[test]
fn a_password_that_is_changed_between_the_steps_is_not_the_old_one() {
    let (all, mut login) = (directory().0, Login::default());
    let start = Start::new("ann", "clientNonce");
    let first = request("SCRAM-SHA-256", start.message().into_bytes());
    let Ok(Step::Next(challenge)) = login.step(&first, &all, None) else {
        panic!("not challenged");
    };
    let challenged = start.challenged(challenge.expose()).unwrap();
    let keys = Keys::derive(PASSWORD, &challenged.salt, challenged.iterations).unwrap();
    let last = challenged.prove(&keys).1;
    let alter = AlterPrincipal {
        name: "ann".into(),
        password: vec![Verifier::of("another", [6; 16]).unwrap()],
        ..AlterPrincipal::default()
    };
    let altered = all.alter(alter, 3).unwrap().directory;
    let step = login.step(&request("SCRAM-SHA-256", last.into_bytes()), &altered, None);
    assert_eq!(said(&step.unwrap()), WRONG);
}

#[test]
fn nobody_finds_a_token_or_a_certificate_by_trying() {
    let guessed = |by| {
        let session = Session {
            name: "ann".into(),
            created_at: 1,
            by,
        };
        session.could_be_guessed()
    };
    assert!(guessed(By::Password([0; HASH_BYTES])));
    assert!(!guessed(By::Token([0; HASH_BYTES])));
    assert!(!guessed(By::Certificate));
}

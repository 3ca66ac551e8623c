//! What follows when principals change under those who are logged in.

use logdrive_protocol::frame::{FLAG_ERROR, NOTICE};
use logdrive_protocol::operations::{
    AlterPrincipal, DeletePrincipal, Fetch, ListPrincipals, Ping, Produce,
};
use logdrive_protocol::{ErrorCode, Failure, Rights};

use crate::peers::{
    admin, admin_token, grant, guarded, logged_in, principal, scram, set_password, token, typing,
};
use crate::support::asking::{fetch, fetch_waiting, produce};
use crate::support::{Broker, Connection, batch};

fn alter(admin: &mut Connection, alter: AlterPrincipal) {
    let name = "ann".to_owned();
    admin.ask(AlterPrincipal { name, ..alter }).unwrap();
}

/// The last frame of a connection that is let go.
fn last_words(peer: &mut Connection) -> Failure {
    let last = peer.hear().unwrap();
    assert_eq!(
        (last.opcode, last.flags, last.correlation),
        (0, FLAG_ERROR, NOTICE)
    );
    let failure = logdrive_protocol::body::Body::from_bytes(last.body).unwrap();
    peer.closed();
    failure
}

#[test]
fn rights_come_and_go_while_somebody_is_logged_in() {
    let broker = guarded();
    let mut root = admin(&broker);
    let topic = root.create("app");
    let token = principal(&mut root, "ann", &[grant(Rights::CONSUME, "app")]);
    let mut ann = logged_in(&broker, &token);
    let try_produce = |peer: &mut Connection| {
        let produced = peer.ask(produce(topic, batch(&["x"])));
        produced.map(|_| ()).map_err(|it| it.code)
    };
    assert_eq!(try_produce(&mut ann), Err(ErrorCode::PermissionDenied));
    let more = vec![grant(Rights::PRODUCE, "a*")];
    alter(
        &mut root,
        AlterPrincipal {
            grant: more.clone(),
            ..Default::default()
        },
    );
    assert_eq!(try_produce(&mut ann), Ok(()));
    alter(
        &mut root,
        AlterPrincipal {
            revoke: more,
            ..Default::default()
        },
    );
    assert_eq!(try_produce(&mut ann), Err(ErrorCode::PermissionDenied));
    ann.ask(fetch(topic, 0)).unwrap();
}

#[test]
fn what_waits_for_records_is_withdrawn_with_the_right_to_them() {
    let broker = guarded();
    let mut root = admin(&broker);
    let topic = root.create("app");
    let token = principal(&mut root, "ann", &[grant(Rights::CONSUME, "app")]);
    let mut ann = logged_in(&broker, &token);
    let waits = ann.send(&fetch_waiting(topic, 0));
    ann.settle(topic);
    let revoke = vec![grant(Rights::CONSUME, "app")];
    alter(
        &mut root,
        AlterPrincipal {
            revoke,
            ..Default::default()
        },
    );
    // Answered without a record, before there is one.
    let withdrawn = ann.answer::<Fetch>(waits);
    assert_eq!(
        withdrawn.map_err(|it| it.code).err(),
        Some(ErrorCode::PermissionDenied)
    );
    root.produce(topic, &["secret"]);
    let again = ann.ask(fetch(topic, 0)).unwrap_err();
    assert_eq!(again.code, ErrorCode::PermissionDenied);
}

#[test]
fn who_is_deleted_is_let_go_and_a_namesake_is_another() {
    let broker = guarded();
    let mut root = admin(&broker);
    root.create("app");
    let token = principal(&mut root, "ann", &[grant(Rights::ALL, "app")]);
    let (mut ann, mut typist) = (logged_in(&broker, &token), typing(&broker, &token));
    root.ask(DeletePrincipal { name: "ann".into() }).unwrap();
    assert_eq!(last_words(&mut ann).code, ErrorCode::AuthenticationRequired);
    let last = typist.hear().unwrap();
    assert!(last.starts_with("- AUTHENTICATION_REQUIRED"), "{last}");
    assert_eq!(typist.hear(), None);
    principal(&mut root, "ann", &[]);
    let refused = broker.connect().ask(crate::peers::token(&token));
    assert_eq!(refused.unwrap_err().code, ErrorCode::AuthenticationFailed);
}

#[test]
fn a_credential_that_is_taken_away_ends_those_who_came_with_it_and_no_others() {
    let broker = guarded();
    let mut root = admin(&broker);
    let token = principal(&mut root, "ann", &[]);
    set_password(&mut root, "ann", "first");
    let mut by_token = logged_in(&broker, &token);
    let mut by_password = broker.connect();
    scram(&mut by_password, "ann", "first").unwrap();
    set_password(&mut root, "ann", "second");
    assert_eq!(
        last_words(&mut by_password).code,
        ErrorCode::AuthenticationRequired
    );
    by_token.ask(Ping {}).unwrap();
    // Replaced by one of the same label.
    let tokens = vec!["test".to_owned()];
    alter(
        &mut root,
        AlterPrincipal {
            tokens,
            ..Default::default()
        },
    );
    assert_eq!(
        last_words(&mut by_token).code,
        ErrorCode::AuthenticationRequired
    );
}

#[test]
fn principals_outlive_a_kill_and_those_who_are_deleted_do_not() {
    let broker = guarded();
    let mut root = admin(&broker);
    let topic = root.create("app");
    let ann = principal(&mut root, "ann", &[grant(Rights::PRODUCE, "app")]);
    let bob = principal(&mut root, "bob", &[grant(Rights::ALL, "*")]);
    set_password(&mut root, "ann", "secret");
    root.ask(DeletePrincipal { name: "bob".into() }).unwrap();
    let broker = Broker::start_with(broker.kill(), &["--auth"]);
    let mut peer = logged_in(&broker, &ann);
    let produced: Produce = produce(topic, batch(&["x"]));
    peer.ask(produced).unwrap();
    assert_eq!(
        peer.ask(fetch(topic, 0)).unwrap_err().code,
        ErrorCode::PermissionDenied
    );
    scram(&mut broker.connect(), "ann", "secret").unwrap();
    let refused = broker.connect().ask(token(&bob)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::AuthenticationFailed);
    let mut root = logged_in(&broker, &admin_token(broker.data()));
    let names: Vec<_> = root.ask(ListPrincipals::default()).unwrap().principals;
    let names: Vec<_> = names.into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["admin", "ann"]);
}

#[test]
fn changes_that_are_sent_at_once_all_happen() {
    let broker = guarded();
    let mut root = admin(&broker);
    principal(&mut root, "ann", &[]);
    let changes: Vec<_> = (0..50)
        .map(|number| AlterPrincipal {
            name: "ann".into(),
            grant: vec![grant(Rights::PRODUCE, &format!("t{number}"))],
            ..AlterPrincipal::default()
        })
        .collect();
    for number in root.send_all(&changes) {
        root.answer::<AlterPrincipal>(number).unwrap();
    }
    let list = ListPrincipals {
        glob: "ann".into(),
        ..Default::default()
    };
    assert_eq!(root.ask(list).unwrap().principals[0].grants.len(), 50);
}

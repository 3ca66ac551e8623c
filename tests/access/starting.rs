//! The first principal, losing its token, and the door of the machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use logdrive_protocol::ErrorCode;
use logdrive_protocol::operations::{ListPrincipals, Stats};

use crate::peers::{admin, admin_token, grant, guarded, logged_in, principal, set_password, token};
use crate::support::Broker;
use logdrive_protocol::Rights;

#[test]
fn the_first_start_leaves_a_token_that_only_the_owner_can_read() {
    let broker = guarded();
    let file = broker.data().join("admin.token");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let first = admin_token(broker.data());
    let mut root = admin(&broker);
    root.ask(Stats::default()).unwrap();
    let principals = root.ask(ListPrincipals::default()).unwrap().principals;
    let shown: Vec<_> = principals
        .iter()
        .map(|it| format!("{} {}", it.name, it.grants[0].rights))
        .collect();
    assert_eq!(shown, ["admin produce,consume,admin"]);
    // The file is not needed for anything but reading it, and no later start makes another.
    fs::remove_file(&file).unwrap();
    let broker = Broker::start_with(broker.kill(), &["--auth"]);
    assert!(!broker.data().join("admin.token").exists());
    logged_in(&broker, &first);
}

#[test]
fn who_owns_the_directory_gets_in_again_and_old_credentials_do_not() {
    let broker = guarded();
    let first = admin_token(broker.data());
    let mut root = admin(&broker);
    let ann = principal(&mut root, "ann", &[grant(Rights::ALL, "*")]);
    set_password(&mut root, "admin", "known to somebody");
    let broker = Broker::start_with(broker.kill(), &["--auth", "--reset-admin"]);
    let refused = broker.connect().ask(token(&first)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::AuthenticationFailed);
    let mut root = admin(&broker);
    let principals = root.ask(ListPrincipals::default()).unwrap().principals;
    assert_eq!((principals.len(), principals[0].password), (2, false));
    logged_in(&broker, &ann);
}

#[test]
fn a_start_says_where_the_token_is_and_never_what_it_is() {
    let broker = guarded();
    let token = admin_token(broker.data());
    broker.terminate();
    let (data, said) = broker.stopped();
    let path = data.path().join("admin.token");
    assert!(said.contains(path.to_str().unwrap()), "{said}");
    assert!(!said.contains(&token), "{said}");
}

#[test]
fn a_broker_that_others_can_reach_does_not_start_without_authentication() {
    let data = tempfile::tempdir().unwrap();
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let said = Broker::refusal_with(data.path(), &["--listen", listen]);
        assert!(
            said.contains("--auth") && said.contains("--insecure"),
            "{said}"
        );
    }
    let told = ["--listen", "0.0.0.0:0", "--insecure"];
    let broker = Broker::start_with(tempfile::tempdir().unwrap(), &told);
    broker.terminate();
    broker.stopped();
    let asking = ["--listen", "0.0.0.0:0", "--auth"];
    let broker = Broker::start_with(tempfile::tempdir().unwrap(), &asking);
    broker.terminate();
    broker.stopped();
}

#[test]
fn principals_can_be_made_before_authentication_is_required() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    let ann = principal(&mut peer, "ann", &[grant(Rights::PRODUCE, "app")]);
    peer.create("app");
    let broker = Broker::start_with(broker.kill(), &["--auth"]);
    logged_in(&broker, &ann);
    // Somebody is there: no first principal is made.
    assert!(!broker.data().join("admin.token").exists());
}

//! Principals are changed as asked, and what is wrong changes nothing.

use logdrive_protocol::Rights;
use logdrive_protocol::operations::Setting;

use super::*;

fn grant(rights: Rights, topics: &str) -> Grant {
    Grant {
        rights,
        topics: topics.to_owned(),
    }
}

fn ann() -> Directory {
    let create = CreatePrincipal {
        name: "ann".into(),
        grants: vec![
            grant(Rights::PRODUCE, "app.*"),
            grant(Rights::CONSUME, "app.*"),
        ],
        tokens: vec!["ci".into()],
        ..CreatePrincipal::default()
    };
    let change = Directory::load(true, &[]).create(create, 7).unwrap();
    assert_eq!(change.tokens.len(), 1);
    change.directory
}

fn alter(name: &str) -> AlterPrincipal {
    AlterPrincipal {
        name: name.into(),
        ..AlterPrincipal::default()
    }
}

/// What a change makes of ann, or why it is refused.
fn check(alter: AlterPrincipal, expected: &str) {
    let got = match ann().alter(alter, 8) {
        Ok(change) => {
            let stored = [(change.row.key, change.row.value.unwrap())];
            let again = Directory::load(true, &stored);
            let row = again.find("ann").unwrap().row();
            assert_eq!(row, change.directory.find("ann").unwrap().row());
            let grants = row
                .grants
                .iter()
                .map(|it| format!("{}:{}", it.rights, it.topics));
            let quotas = row
                .quotas
                .iter()
                .map(|it| format!("{}={}", it.key, it.value));
            let tokens = row
                .tokens
                .iter()
                .map(|it| format!("{}@{}", it.label, it.created_at));
            grants
                .chain(quotas)
                .chain(tokens)
                .collect::<Vec<_>>()
                .join(" ")
        }
        Err(failure) => failure.to_string(),
    };
    assert_eq!(got, expected);
}

#[test]
fn grants_quotas_and_tokens_are_added_replaced_and_taken_away() {
    check(alter("ann"), "produce,consume:app.* ci@7");
    check(
        AlterPrincipal {
            grant: vec![grant(Rights::ADMIN, "x")],
            revoke: vec![grant(Rights::PRODUCE, "app.*")],
            set: vec![Setting {
                key: "connections".into(),
                value: "3".into(),
            }],
            tokens: vec!["laptop".into(), "ci".into()],
            ..alter("ann")
        },
        "consume:app.* admin:x connections=3 ci@8 laptop@8",
    );
    check(
        AlterPrincipal {
            revoke: vec![grant(Rights::ALL, "app.*")],
            forget_tokens: vec!["ci".into()],
            ..alter("ann")
        },
        "",
    );
}

#[test]
fn what_cannot_be_done_is_said_and_not_done() {
    check(
        alter("anne"),
        "PRINCIPAL_NOT_FOUND there is no principal \"anne\"",
    );
    check(
        AlterPrincipal {
            revoke: vec![grant(Rights::PRODUCE, "app")],
            ..alter("ann")
        },
        "INVALID_PRINCIPAL nothing is granted on \"app\"",
    );
    check(
        AlterPrincipal {
            forget_tokens: vec!["x".into()],
            ..alter("ann")
        },
        "INVALID_PRINCIPAL it has no token \"x\"",
    );
    check(
        AlterPrincipal {
            tokens: vec!["x".into(), "x".into()],
            ..alter("ann")
        },
        "INVALID_PRINCIPAL the label \"x\" stands twice",
    );
    check(
        AlterPrincipal {
            tokens: vec!["a b".into()],
            ..alter("ann")
        },
        "INVALID_PRINCIPAL \"a b\" cannot be a token's label",
    );
    check(
        AlterPrincipal {
            password: vec![Verifier::default()],
            ..alter("ann")
        },
        "INVALID_PRINCIPAL a principal has one password, of 65536 rounds and a salt of 16 bytes",
    );
    check(
        AlterPrincipal {
            tokens: (0..16).map(|it| it.to_string()).collect(),
            ..alter("ann")
        },
        "INVALID_PRINCIPAL 17 tokens are more than 16",
    );
    let again = CreatePrincipal {
        name: "ann".into(),
        ..CreatePrincipal::default()
    };
    let failure = ann().create(again, 9).unwrap_err();
    assert_eq!(failure.code, ErrorCode::PrincipalExists);
}

#[test]
fn a_list_is_cut_into_pages_and_holds_no_secret() {
    let mut directory = ann();
    for name in ["bob", "cid"] {
        let create = CreatePrincipal {
            name: name.into(),
            ..CreatePrincipal::default()
        };
        directory = directory.create(create, 1).unwrap().directory;
    }
    let list = |glob: &str, after: &str, limit| {
        let list = ListPrincipals {
            glob: glob.into(),
            after: after.into(),
            limit,
        };
        let page = directory.list(&list).unwrap();
        let names: Vec<_> = page.principals.into_iter().map(|it| it.name).collect();
        format!("{}{}", names.join(" "), if page.more { " ..." } else { "" })
    };
    assert_eq!(list("", "", 2), "ann bob ...");
    assert_eq!(list("", "bob", 2), "cid");
    assert_eq!(list("[ac]*", "", 0), "ann cid");
}

#[test]
fn who_is_deleted_is_gone_with_all_tokens_and_one_of_the_same_name_is_another() {
    let directory = ann();
    let hash = *directory.tokens.keys().next().unwrap();
    let session = Session {
        name: "ann".into(),
        created_at: 7,
        by: By::Token(hash),
    };
    assert!(directory.standing(&session).is_some());
    let deleted = directory.delete("ann").unwrap();
    assert!(deleted.row.value.is_none() && deleted.directory.is_empty());
    assert!(deleted.directory.standing(&session).is_none());
    assert!(deleted.directory.by_token(&hash).is_none());
    let create = CreatePrincipal {
        name: "ann".into(),
        ..CreatePrincipal::default()
    };
    let again = deleted.directory.create(create, 8).unwrap().directory;
    let by_certificate = Session {
        by: By::Certificate,
        ..session
    };
    assert!(directory.standing(&by_certificate).is_some());
    assert!(again.standing(&by_certificate).is_none());
}

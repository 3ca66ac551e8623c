//! Every mechanism, right and wrong; what is served before; and how often one may guess.

use logdrive_protocol::body::Body;
use logdrive_protocol::frame::NOTICE;
use logdrive_protocol::operations::{
    AlterPrincipal, Authenticate, CreateTopic, DeletePrincipal, Hello, Metadata, Operation, Ping,
    Stats,
};
use logdrive_protocol::scram::Start;
use logdrive_protocol::{ErrorCode, Failure, TopicId};

use crate::peers::{
    admin, admin_token, guarded, logged_in, principal, proof, scram, set_password, step, token,
    typing,
};
use crate::support::asking::fetch;
use crate::support::binary::raw_frame;
use crate::support::{Broker, Connection};

/// The error that a step ends with.
fn wrong(peer: &mut Connection, request: Authenticate) -> ErrorCode {
    peer.ask(request).unwrap_err().code
}

#[test]
fn a_token_opens_the_door_and_nothing_else_does() {
    let broker = guarded();
    let mut peer = broker.connect();
    assert_eq!(
        wrong(&mut peer, token("ldt_x")),
        ErrorCode::AuthenticationFailed
    );
    assert_eq!(wrong(&mut peer, token("")), ErrorCode::AuthenticationFailed);
    let last = peer.ask(token(&admin_token(broker.data()))).unwrap();
    assert_eq!((last.done, last.principal.as_str()), (true, "admin"));
    peer.create("app");
    assert_eq!(wrong(&mut peer, token("ldt_x")), ErrorCode::NotSupported);
    // Still who it was.
    peer.ask(Stats::default()).unwrap();
}

#[test]
fn a_password_is_proved_and_the_broker_proves_that_it_knows_its_verifier() {
    let broker = guarded();
    let mut root = admin(&broker);
    principal(&mut root, "ann", &[]);
    set_password(&mut root, "ann", "correct horse");
    let last = scram(&mut broker.connect(), "ann", "correct horse").unwrap();
    assert_eq!((last.done, last.principal.as_str()), (true, "ann"));
    let texts: Vec<String> = [("ann", "wrong"), ("admin", "x"), ("nobody", "x")]
        .into_iter()
        .map(|(name, password)| {
            let failure = scram(&mut broker.connect(), name, password).unwrap_err();
            assert_eq!(failure.code, ErrorCode::AuthenticationFailed);
            format!("{failure}; {}", failure.hint)
        })
        .collect();
    assert_eq!(texts[0], texts[1]);
    assert_eq!(texts[0], texts[2]);
    // The same connection may try again.
    let mut peer = broker.connect();
    scram(&mut peer, "ann", "wrong").unwrap_err();
    scram(&mut peer, "ann", "correct horse").unwrap();
}

#[test]
fn steps_out_of_order_and_messages_that_are_none_are_wrong_and_the_connection_goes_on() {
    let broker = guarded();
    let mut peer = broker.connect();
    for (mechanism, data, expected) in [
        (
            "SCRAM-SHA-256",
            "c=biws,r=x,p=AAAA",
            ErrorCode::AuthenticationFailed,
        ),
        (
            "SCRAM-SHA-256",
            "p=tls-unique,,n=ann,r=x",
            ErrorCode::AuthenticationFailed,
        ),
        (
            "SCRAM-SHA-256-PLUS",
            "n,,n=ann,r=x",
            ErrorCode::NotSupported,
        ),
        ("EXTERNAL", "admin", ErrorCode::AuthenticationFailed),
    ] {
        assert_eq!(
            wrong(&mut peer, step(mechanism, data.as_bytes())),
            expected,
            "{mechanism} {data}"
        );
    }
    assert_eq!(peer.ask(Ping {}).unwrap().state, 0);
    // All of them count, also that of a mechanism that there is not.
    assert_eq!(admin(&broker).counter("", "logins_failed"), 4);
    let says = |message: &str| {
        let answered = broker
            .connect()
            .ask(step("SCRAM-SHA-256", message.as_bytes()));
        answered.map_or_else(
            |failure| failure.code.to_string(),
            |next| next.done.to_string(),
        )
    };
    assert_eq!(says("y,,n=admin,r=x"), "false");
    assert_eq!(says("n,a=admin,n=admin,r=x"), "false");
    assert_eq!(says("n,a=other,n=admin,r=x"), "AUTHENTICATION_FAILED");
}

#[test]
fn before_the_login_only_ping_is_served() {
    let broker = guarded();
    let mut peer = broker.connect();
    peer.ask(Ping {}).unwrap();
    let refused = [
        peer.ask(Hello::default()).unwrap_err(),
        peer.ask(Metadata::default()).unwrap_err(),
        peer.ask(CreateTopic {
            name: "app".into(),
            ..CreateTopic::default()
        })
        .unwrap_err(),
        peer.ask(DeletePrincipal {
            name: "admin".into(),
        })
        .unwrap_err(),
    ];
    for failure in refused {
        assert_eq!(failure.code, ErrorCode::AuthenticationRequired);
    }
    // What is no request is answered for what it is.
    for (opcode, flags, body, expected) in [
        (0x9f, 0, &[][..], ErrorCode::UnknownOperation),
        (0xc0, 0, &[], ErrorCode::UnknownOperation),
        (Ping::OPCODE, 0x40, &[], ErrorCode::UnknownFlag),
        (CreateTopic::OPCODE, 0, &[0xff], ErrorCode::Malformed),
    ] {
        peer.write(&raw_frame(opcode, flags, 77, body));
        let answer = peer.answer_frame(77).unwrap();
        let failure = Failure::from_bytes(answer.body).unwrap();
        assert_eq!(failure.code, expected, "{opcode:#x} {flags:#x}");
    }
    peer.ask(token(&admin_token(broker.data()))).unwrap();
    peer.create("app");
}

#[test]
fn who_types_logs_in_too() {
    let broker = guarded();
    let mut root = admin(&broker);
    let token = principal(&mut root, "ann", &[]);
    set_password(&mut root, "ann", "two words");
    let mut peer = broker.text();
    for line in [
        "LIST",
        "INFO",
        "CREATE app",
        "FRAMES ON",
        "PRODUCE app x",
        "PASSWORD ann x",
        "PRINCIPALS",
    ] {
        let answer = peer.ask(line);
        assert!(
            answer.starts_with("- AUTHENTICATION_REQUIRED"),
            "{line}: {answer}"
        );
    }
    peer.check("PING", "+ pong state=ok");
    assert_eq!(peer.ask("HELP AUTH"), "= 1");
    assert!(
        peer.hear()
            .unwrap()
            .starts_with("AUTH TOKEN token | CERTIFICATE | name password")
    );
    let wrong = peer.ask("AUTH ann two");
    assert!(wrong.starts_with("- AUTHENTICATION_FAILED"), "{wrong}");
    assert_eq!(peer.ask("AUTH nobody two words"), wrong);
    assert_eq!(peer.ask("AUTH ann \u{7}"), wrong);
    peer.check("AUTH ann two words", "+ logged in as ann");
    peer.check("LIST", "= 0");
    let mut peer = broker.text();
    peer.check(&format!("auth token {token}"), "+ logged in as ann");
    peer.check("QUIT", "+ bye");
}

#[test]
fn before_the_login_long_frames_and_lines_end_the_connection() {
    let broker = guarded();
    let mut peer = broker.connect();
    // As long as it may be, and one more.
    peer.write(&raw_frame(0x02, 0, 1, &[0; 4096 - 6]));
    assert!(peer.answer_frame(1).is_some());
    peer.write(&raw_frame(0x02, 0, 2, &[0; 4096 - 5]));
    assert_eq!(peer.answer_frame(2).unwrap().opcode, 0);
    peer.closed();
    let mut peer = logged_in(&broker, &admin_token(broker.data()));
    peer.write(&raw_frame(0x02, 0, 99, &vec![0; 100_000]));
    assert_eq!(peer.answer_frame(99).unwrap().opcode, 2);

    let mut peer = broker.text();
    peer.say(&"x".repeat(4096));
    assert!(peer.hear().unwrap().starts_with("- UNKNOWN_COMMAND"));
    peer.say(&"x".repeat(4097));
    assert!(
        peer.rest()
            .starts_with("- LINE_TOO_LONG a command has at most 4096 bytes")
    );
    let mut peer = broker.text();
    let token = admin_token(broker.data());
    peer.check(&format!("AUTH TOKEN {token}"), "+ logged in as admin");
    peer.check("CREATE app", "+ id=1 created");
    peer.check(
        &format!("PRODUCE app {}", "x".repeat(5000)),
        "+ offset=0 synced",
    );
}

#[test]
fn who_does_not_log_in_is_let_go_with_a_last_frame() {
    let broker = guarded();
    let mut peer = broker.connect();
    let last = peer.hear().unwrap();
    assert_eq!((last.opcode, last.correlation), (0, NOTICE));
    peer.closed();
    // Also one that does something all the time, as long as it is not logging in.
    let mut busy = broker.connect();
    loop {
        let ping = busy.send(&Ping {});
        match busy.answer_frame(ping) {
            Some(_) => {}
            None => break,
        }
    }
}

#[test]
fn an_address_that_fails_too_often_is_heard_with_nothing_that_could_be_guessed() {
    let broker = guarded();
    let right = admin_token(broker.data());
    let mut root = logged_in(&broker, &right);
    principal(&mut root, "ann", &[]);
    set_password(&mut root, "ann", "correct horse");
    let mut proving = broker.connect();
    let proof = proof(&mut proving, "ann", "correct horse").unwrap().1;
    let mut peers: Vec<_> = (0..24).map(|_| broker.connect()).collect();
    let tries: Vec<_> = peers
        .iter_mut()
        .map(|peer| peer.send(&token("ldt_x")))
        .collect();
    let codes: Vec<_> = peers
        .iter_mut()
        .zip(tries)
        .map(|(peer, number)| peer.answer::<Authenticate>(number).unwrap_err())
        .collect();
    let failed = codes
        .iter()
        .filter(|it| it.code == ErrorCode::AuthenticationFailed)
        .count();
    let unheard: Vec<_> = codes
        .iter()
        .filter(|it| it.code == ErrorCode::RetryLater)
        .collect();
    // One is forgotten every six seconds, also while this runs.
    assert!((20..24).contains(&failed), "{failed}");
    assert_eq!(failed + unheard.len(), 24);
    assert!(unheard.iter().all(|it| (1..=6_000).contains(&it.first)));
    // A password that is right is not heard either: nobody learns that he has found it. All of these
    // are sent at once, before a failure is forgotten.
    let mut strangers: Vec<_> = (0..3).map(|_| broker.connect()).collect();
    let beginning = Start::new("ann", "another").message().into_bytes();
    let beginning = step(Authenticate::SCRAM, &beginning);
    let tries = [proof, beginning, token("ldt_x")];
    let peers = std::iter::once(&mut proving).chain(&mut strangers);
    let sent: Vec<_> = peers.zip(&tries).map(|(peer, it)| peer.send(it)).collect();
    // The story: one faulty client shut out everybody behind the same address. Nobody finds a token.
    let last = strangers[2].ask(token(&right)).unwrap();
    assert_eq!((last.done, last.principal.as_str()), (true, "admin"));
    typing(&broker, &right);
    let peers = std::iter::once(&mut proving).chain(&mut strangers);
    for (peer, number) in peers.zip(sent) {
        let refused = peer.answer::<Authenticate>(number).unwrap_err();
        assert_eq!(refused.code, ErrorCode::RetryLater, "{refused}");
        assert!((1..=6_000).contains(&refused.first), "{refused}");
    }
    let put_off = root.counter("", "logins_put_off");
    assert_eq!(put_off, unheard.len() as u64 + 3);
}

#[test]
fn a_broker_that_asks_nobody_says_so() {
    let broker = Broker::start();
    let mut peer = broker.connect();
    assert_eq!(wrong(&mut peer, token("ldt_x")), ErrorCode::NotSupported);
    peer.create("app");
}

/// The story: who guessed was seen nowhere but in a log that nobody keeps at that level.
#[test]
fn logins_that_fail_and_changes_of_principals_are_seen_and_nothing_secret_with_them() {
    let told = [("LOGDRIVE_LOG", "info")];
    let broker = Broker::start_told(tempfile::tempdir().unwrap(), &["--auth"], &told);
    let mut root = admin(&broker);
    let ann = principal(&mut root, "ann", &[]);
    let alter = AlterPrincipal {
        name: "ann".into(),
        ..AlterPrincipal::default()
    };
    root.ask(alter).unwrap();
    scram(&mut broker.connect(), "a-name-tried", "x").unwrap_err();
    broker.connect().ask(token("ldt_tried")).unwrap_err();
    let mut peer = logged_in(&broker, &ann);
    peer.ask(Stats::default()).unwrap_err();
    peer.ask(fetch(TopicId(1), 0)).unwrap_err();
    typing(&broker, &ann).ask("CREATE app");
    root.ask(DeletePrincipal { name: "ann".into() }).unwrap();
    assert_eq!(root.counter("", "logins_failed"), 2);
    assert_eq!(root.counter("", "logins_put_off"), 0);
    assert_eq!(root.counter("", "denied"), 3);
    broker.terminate();
    let (_, said) = broker.stopped();
    let warned = |line: &&str| line.contains("WARN") && line.contains("address=127.0.0.1");
    assert_eq!(said.lines().filter(warned).count(), 2, "{said}");
    for what in ["created", "altered", "deleted"] {
        let line = said
            .lines()
            .find(|it| it.contains(&format!("a principal was {what}")));
        let line = line.unwrap_or_else(|| panic!("{what}: {said}"));
        assert!(
            line.contains("INFO") && line.contains("principal=ann"),
            "{line}"
        );
    }
    assert!(!said.contains("tried"), "{said}");
}

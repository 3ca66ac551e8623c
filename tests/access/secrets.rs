//! No secret is ever printed: everything that logs in, good and bad, with every diagnostic that
//! there is, and then a search through all output of the broker and the commands.

use std::process::{Command, Stdio};

use logdrive_protocol::Rights;
use logdrive_protocol::operations::{Authenticate, CreatePrincipal, Verifier};
use logdrive_protocol::scram::{Keys, Start};

use crate::peers::{
    admin, admin_token, grant, principal, scram, set_password, step, token, typing,
};
use crate::support::Broker;

/// What was never to be printed, in every form that it takes.
#[derive(Default)]
struct Secrets(Vec<(&'static str, Vec<u8>)>);

impl Secrets {
    fn add(&mut self, what: &'static str, secret: &[u8]) {
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let listed = format!("{secret:?}");
        self.0.push((what, secret.to_vec()));
        self.0.push((what, hex.into_bytes()));
        self.0.push((
            what,
            listed.trim_matches(['[', ']']).to_owned().into_bytes(),
        ));
    }

    #[track_caller]
    fn absent(&self, output: &[u8]) {
        for (what, secret) in &self.0 {
            let found = output.windows(secret.len()).position(|it| it == secret);
            let around = found.map(|at| {
                let from = at.saturating_sub(200);
                String::from_utf8_lossy(&output[from..at]).into_owned()
            });
            assert_eq!(around, None, "{what} was printed");
        }
    }
}

#[test]
fn no_secret_is_printed_whoever_logs_in_and_however_much_is_told() {
    let traced = ["--auth"];
    // The broker inherits these; the test's own process prints nothing.
    let broker = Broker::start_told(
        tempfile::tempdir().unwrap(),
        &traced,
        &[("RUST_LOG", "trace"), ("LOGDRIVE_LOG", "trace")],
    );
    let mut secrets = Secrets::default();
    let mut printed = Vec::new();
    let root_token = admin_token(broker.data());
    secrets.add("the admin's token", root_token.as_bytes());
    let mut root = admin(&broker);
    let ann = principal(&mut root, "ann", &[grant(Rights::ALL, "*")]);
    secrets.add("a token", ann.as_bytes());
    let passwords = [
        "first-password-of-ann",
        "second-password-of-ann",
        "password-that-is-wrong",
        "password-that-is-typed",
    ];
    for password in passwords {
        secrets.add("a password", password.as_bytes());
    }
    set_password(&mut root, "ann", passwords[0]);
    scram(&mut broker.connect(), "ann", passwords[0]).unwrap();
    scram(&mut broker.connect(), "ann", passwords[2]).unwrap_err();
    scram(&mut broker.connect(), "nobody", passwords[2]).unwrap_err();
    let wrong = "ldt_a-token-that-is-wrong";
    secrets.add("a wrong token", wrong.as_bytes());
    broker.connect().ask(token(wrong)).unwrap_err();
    // A proof that is whole but for another exchange.
    let start = Start::new("ann", "nonce");
    let mut peer = broker.connect();
    let first = peer
        .ask(step(Authenticate::SCRAM, start.message().as_bytes()))
        .unwrap();
    let challenged = start.challenged(first.data.expose()).unwrap();
    let keys = Keys::derive(passwords[0], &challenged.salt, challenged.iterations).unwrap();
    let last = challenged.prove(&keys).1;
    secrets.add("a proof", last.split_once(",p=").unwrap().1.as_bytes());
    peer.ask(step(Authenticate::SCRAM, last.as_bytes()))
        .unwrap();
    broker
        .connect()
        .ask(step(Authenticate::SCRAM, last.as_bytes()))
        .unwrap_err();
    // Verifiers: good, and one that is refused.
    let verifier = Verifier::of(passwords[1], [3; 16]).unwrap();
    secrets.add("a stored key", verifier.stored_key.expose());
    secrets.add("a server key", verifier.server_key.expose());
    for name in ["bob", "bad name"] {
        let create = CreatePrincipal {
            name: name.to_owned(),
            password: vec![verifier.clone()],
            ..CreatePrincipal::default()
        };
        let _ = root.ask(create);
    }

    // Text, with frames shown: only the line that makes a token may hold it.
    let mut typist = typing(&broker, &root_token);
    let mut answers = String::new();
    for line in [
        "FRAMES ON".to_owned(),
        format!("PASSWORD ann {}", passwords[3]),
        format!("PASSWORD nobody {}", passwords[3]),
        format!("AUTH ann {}", passwords[3]),
        format!("AUTH {}", passwords[3]),
        "QUIT".to_owned(),
    ] {
        typist.say(&line);
    }
    answers.push_str(&typist.rest());
    let mut stranger = broker.text();
    for line in [
        format!("AUTH ann {}", passwords[3]),
        "FRAMES ON".to_owned(),
        "QUIT".to_owned(),
    ] {
        stranger.say(&line);
    }
    answers.push_str(&stranger.rest());
    for line in [
        format!("AUTH ann {}", passwords[2]),
        format!("AUTH TOKEN {wrong}"),
        format!("AUTH TOKEN {wrong} and more"),
        "QUIT".to_owned(),
    ] {
        let mut stranger = broker.text();
        stranger.say(&line);
        stranger.say("QUIT");
        answers.push_str(&stranger.rest());
    }
    assert!(answers.contains("# not shown"), "{answers}");
    printed.extend(answers.into_bytes());

    // Commands.
    for (user, secret, words) in [
        (None, root_token.as_str(), "topic list"),
        (None, wrong, "topic list"),
        (None, root_token.as_str(), "principal list -o json"),
        (None, root_token.as_str(), "principal describe ann -o json"),
        (Some("ann"), passwords[3], "ping"),
        (Some("ann"), passwords[2], "ping"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_logdrive"));
        command.args(["--server", &broker.address.to_string()]);
        command.args(words.split(' ')).stdin(Stdio::null());
        command
            .env("RUST_LOG", "trace")
            .env("LOGDRIVE_LOG", "trace");
        match user {
            Some(user) => command
                .args(["--user", user])
                .env("LOGDRIVE_PASSWORD", secret),
            None => command.env("LOGDRIVE_TOKEN", secret),
        };
        let output = command.output().unwrap();
        printed.extend(output.stdout);
        printed.extend(output.stderr);
    }

    let made = typing(&broker, &root_token).ask("TOKEN ann another");
    let made = made.strip_prefix("+ altered token=").unwrap();
    secrets.add("a token that was shown once", made.as_bytes());
    broker.terminate();
    let (_, said) = broker.stopped();
    assert!(
        said.contains("a login failed"),
        "the broker told little:\n{said}"
    );
    printed.extend(said.into_bytes());
    secrets.absent(&printed);
}

#[test]
fn the_search_finds_what_is_there() {
    let mut secrets = Secrets::default();
    secrets.add("a secret", b"hush");
    for output in ["it is hush.", "68757368", "Secret([104, 117, 115, 104])"] {
        let found = std::panic::catch_unwind(|| secrets.absent(output.as_bytes()));
        assert!(found.is_err(), "{output}");
    }
    secrets.absent(b"nothing");
}

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
        let digits = |text: String, byte: &u8| text + &format!("{byte:02x}");
        let hex = secret.iter().fold(String::new(), digits);
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

const FIRST: &str = "first-password-of-ann";
const TYPED: &str = "password-that-is-typed";
const WRONG: &str = "password-that-is-wrong";
const WRONG_TOKEN: &str = "ldt_a-token-that-is-wrong";

/// Logs in by frames, right and wrong, and sends verifiers.
fn by_frames(broker: &Broker, secrets: &mut Secrets) {
    let mut root = admin(broker);
    let ann = principal(&mut root, "ann", &[grant(Rights::ALL, "*")]);
    secrets.add("a token", ann.as_bytes());
    set_password(&mut root, "ann", FIRST);
    scram(&mut broker.connect(), "ann", FIRST).unwrap();
    scram(&mut broker.connect(), "ann", WRONG).unwrap_err();
    scram(&mut broker.connect(), "nobody", WRONG).unwrap_err();
    broker.connect().ask(token(WRONG_TOKEN)).unwrap_err();
    // A proof that is whole but for another exchange.
    let start = Start::new("ann", "nonce");
    let mut peer = broker.connect();
    let first = step(Authenticate::SCRAM, start.message().as_bytes());
    let challenged = start.challenged(peer.ask(first).unwrap().data.expose());
    let challenged = challenged.unwrap();
    let keys = Keys::derive(FIRST, &challenged.salt, challenged.iterations).unwrap();
    let last = challenged.prove(&keys).1;
    secrets.add("a proof", last.split_once(",p=").unwrap().1.as_bytes());
    let last = step(Authenticate::SCRAM, last.as_bytes());
    peer.ask(last.clone()).unwrap();
    broker.connect().ask(last).unwrap_err();
    // A verifier of somebody, and one that is refused.
    let verifier = Verifier::of("password-of-bob", [3; 16]).unwrap();
    secrets.add("a stored key", verifier.stored_key.expose());
    secrets.add("a server key", verifier.server_key.expose());
    for name in ["bob", "bad name"] {
        let create = CreatePrincipal {
            name: name.to_owned(),
            password: vec![verifier.clone()],
            ..CreatePrincipal::default()
        };
        assert_eq!(root.ask(create).is_ok(), name == "bob");
    }
}

/// Types, with frames shown; what was answered. Only the line that makes a token may show one.
fn by_typing(broker: &Broker, root_token: &str) -> String {
    let root = format!("AUTH TOKEN {root_token}");
    let sessions = [
        vec![
            root,
            "FRAMES ON".to_owned(),
            format!("PASSWORD ann {TYPED}"),
            format!("PASSWORD nobody {TYPED}"),
            format!("AUTH ann {TYPED}"),
            format!("AUTH {TYPED}"),
            format!("AUTH TOKEN {WRONG_TOKEN}"),
        ],
        vec![format!("AUTH ann {TYPED}"), "FRAMES ON".to_owned()],
        vec![format!("AUTH ann {WRONG}")],
        vec![format!("AUTH TOKEN {WRONG_TOKEN}")],
        vec![format!("AUTH TOKEN {WRONG_TOKEN} and more")],
    ];
    let mut answers = String::new();
    for lines in sessions {
        let mut peer = broker.text();
        for line in lines {
            peer.say(&line);
        }
        peer.say("QUIT");
        answers.push_str(&peer.rest());
    }
    assert!(answers.contains("# not shown"), "{answers}");
    assert_eq!(answers.matches("+ logged in as").count(), 2, "{answers}");
    answers
}

/// Runs commands; all that they print.
fn by_commands(broker: &Broker, root_token: &str) -> Vec<u8> {
    let mut printed = Vec::new();
    for (user, secret, words) in [
        (None, root_token, "topic list"),
        (None, WRONG_TOKEN, "topic list"),
        (None, root_token, "principal list -o json"),
        (None, root_token, "principal describe ann -o json"),
        (Some("ann"), TYPED, "ping"),
        (Some("ann"), WRONG, "ping"),
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
        let expected = secret != WRONG && secret != WRONG_TOKEN;
        assert_eq!(output.status.success(), expected, "{words}");
        printed.extend(output.stdout);
        printed.extend(output.stderr);
    }
    printed
}

#[test]
fn no_secret_is_printed_whoever_logs_in_and_however_much_is_told() {
    let told = [("RUST_LOG", "trace"), ("LOGDRIVE_LOG", "trace")];
    let broker = Broker::start_told(tempfile::tempdir().unwrap(), &["--auth"], &told);
    let mut secrets = Secrets::default();
    let root_token = admin_token(broker.data());
    secrets.add("the admin's token", root_token.as_bytes());
    for password in [FIRST, TYPED, WRONG] {
        secrets.add("a password", password.as_bytes());
    }
    secrets.add("a wrong token", WRONG_TOKEN.as_bytes());
    by_frames(&broker, &mut secrets);
    let mut printed = by_typing(&broker, &root_token).into_bytes();
    printed.extend(by_commands(&broker, &root_token));
    let made = typing(&broker, &root_token).ask("TOKEN ann another");
    let made = made.strip_prefix("+ altered token=").unwrap();
    secrets.add("a token that was shown once", made.as_bytes());
    broker.terminate();
    let (_, said) = broker.stopped();
    assert!(
        said.contains("a login failed") && said.contains("DEBUG"),
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

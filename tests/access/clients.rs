//! The Rust client and the command line, and a broker that is none.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use bytes::BytesMut;
use logdrive_client::{
    Client, ConsumerOptions, Credentials, ErrorCode, ErrorKind, Options, ProducerOptions,
};
use logdrive_protocol::Rights;
use logdrive_protocol::frame::FrameDecoder;
use logdrive_protocol::operations::{Answer, Authenticated, DeletePrincipal, Request, Verifier};
use logdrive_protocol::preface::{BrokerPreface, ClientPreface, Limits, VERSION};
use logdrive_protocol::scram::Opening;
use tokio_util::codec::Decoder;

use crate::peers::{admin, admin_token, grant, guarded, principal, set_password};
use crate::support::Broker;

fn with(credentials: Credentials) -> Options {
    Options {
        credentials: Some(credentials),
        ..Options::default()
    }
}

fn password(name: &str, password: &str) -> Credentials {
    Credentials::Password {
        name: name.to_owned(),
        password: password.to_owned(),
    }
}

/// How connecting fails.
async fn refusal(broker: &Broker, options: Options) -> ErrorKind {
    let address = broker.address.to_string();
    Client::connect_with(address, options)
        .await
        .unwrap_err()
        .kind()
}

#[tokio::test]
async fn a_client_logs_in_on_every_connection_and_again_after_a_restart() {
    let broker = guarded();
    let mut root = admin(&broker);
    principal(&mut root, "ann", &[grant(Rights::ALL, "app")]);
    set_password(&mut root, "ann", "correct horse");
    let address = broker.address.to_string();
    let client = Client::connect_with(address.as_str(), with(password("ann", "correct horse")))
        .await
        .unwrap();
    let mut producer = client
        .producer(&["app"], ProducerOptions::default())
        .await
        .unwrap();
    producer.send("app", "one").await.unwrap();
    let listen = ["--auth", "--listen", address.as_str()];
    let broker = Broker::start_with(broker.kill(), &listen);
    producer.send("app", "two").await.unwrap();
    producer.close().await.unwrap();
    let options = ConsumerOptions::default();
    let mut consumer = client.consumer("c", &["app"], options).await.unwrap();
    assert!(consumer.try_next().await.unwrap().is_some());
    drop(broker);
}

#[tokio::test]
async fn what_is_wrong_is_named_and_not_tried_again() {
    let broker = guarded();
    let refused = ErrorKind::Refused(ErrorCode::AuthenticationFailed);
    let token = |token: &str| with(Credentials::Token(token.to_owned()));
    assert_eq!(refusal(&broker, token("ldt_x")).await, refused);
    assert_eq!(
        refusal(&broker, with(password("admin", "x"))).await,
        refused
    );
    assert_eq!(
        refusal(&broker, with(Credentials::Certificate)).await,
        refused
    );
    let none = Client::connect(broker.address.to_string()).await.unwrap();
    let error = none.list_topics("").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::AuthenticationRequired));
    // A broker that asks nobody is not one to which credentials were meant to go.
    let open = Broker::start();
    let refused = ErrorKind::Refused(ErrorCode::NotSupported);
    assert_eq!(refusal(&open, token("ldt_x")).await, refused);
}

#[tokio::test]
async fn a_producer_whose_principal_is_deleted_ends_with_the_cause_and_does_not_hammer() {
    let broker = guarded();
    let mut root = admin(&broker);
    let token = principal(&mut root, "ann", &[grant(Rights::ALL, "app")]);
    let address = broker.address.to_string();
    let client = Client::connect_with(address, with(Credentials::Token(token)))
        .await
        .unwrap();
    let options = ProducerOptions::default();
    let mut producer = client.producer(&["app"], options).await.unwrap();
    producer.send("app", "one").await.unwrap();
    let before = root.counter("", "connections_accepted");
    root.ask(DeletePrincipal { name: "ann".into() }).unwrap();
    let error = producer.send("app", "two").await.unwrap_err();
    // What was under way when the connection ended is of unknown outcome; its cause is told.
    assert!(
        error.to_string().contains("AUTHENTICATION_FAILED"),
        "{error}"
    );
    let after = root.counter("", "connections_accepted");
    assert!(after - before <= 3, "{} more connections", after - before);
}

#[tokio::test]
async fn a_topic_that_one_may_not_see_is_denied_and_not_missing() {
    let broker = guarded();
    let mut root = admin(&broker);
    root.create("payroll");
    let token = principal(&mut root, "ann", &[grant(Rights::ALL, "app")]);
    let address = broker.address.to_string();
    let client = Client::connect_with(address, with(Credentials::Token(token)))
        .await
        .unwrap();
    let denied = client.delete_topic("payroll").await.unwrap_err();
    assert_eq!(denied.code(), Some(ErrorCode::PermissionDenied));
    let missing = client.delete_topic("app").await.unwrap_err();
    assert_eq!(missing.code(), Some(ErrorCode::TopicNotFound));
}

#[test]
fn the_blocking_client_logs_in_and_makes_principals() {
    use logdrive_client::blocking;
    let broker = guarded();
    let token = admin_token(broker.data());
    let address = broker.address.to_string();
    let client = blocking::Client::connect_with(address.as_str(), with(Credentials::Token(token)));
    let client = client.unwrap();
    let verifier = client.verifier("secret").unwrap();
    let create = logdrive_client::CreatePrincipal {
        name: "ann".into(),
        password: vec![verifier],
        ..Default::default()
    };
    assert!(client.create_principal(create).unwrap().is_empty());
    assert_eq!(client.list_principals("a*").unwrap().len(), 2);
    blocking::Client::connect_with(address, with(password("ann", "secret"))).unwrap();
    client.delete_principal("ann").unwrap();
}

/// A broker that does not know the password: it answers the first step, and signs the last with what
/// it has.
fn impostor(sign: impl Fn(&str) -> Authenticated + Send + 'static, rounds: u32) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut preface = [0; 20];
        socket.read_exact(&mut preface).unwrap();
        ClientPreface::decode(&mut preface[..].into()).unwrap();
        let mut out = BytesMut::new();
        BrokerPreface {
            version: VERSION,
            lowest: VERSION,
            highest: VERSION,
            features: 0,
            cluster: [0; 16],
            node: 1,
            limits: Limits::default(),
        }
        .encode(&mut out);
        socket.write_all(&out).unwrap();
        let (mut input, mut decoder) = (BytesMut::new(), FrameDecoder::new(4096));
        let mut steps = 0;
        let mut some = [0; 4096];
        while let Ok(count @ 1..) = socket.read(&mut some) {
            input.extend_from_slice(&some[..count]);
            while let Ok(Some(frame)) = decoder.decode(&mut input) {
                let correlation = frame.correlation;
                let Ok(Request::Authenticate(request)) = Request::from_frame(frame) else {
                    panic!("something else was sent before the login was over");
                };
                steps += 1;
                let answer = if steps == 1 {
                    let opening = Opening::parse(request.data.expose()).unwrap();
                    let verifier = Verifier {
                        salt: vec![1; 16].into(),
                        iterations: rounds,
                        ..Verifier::default()
                    };
                    let message = opening.challenge(verifier, "more").1;
                    Authenticated {
                        data: message.into_bytes().into(),
                        ..Authenticated::default()
                    }
                } else {
                    sign(request.data.expose_text().unwrap())
                };
                let parts = Answer::Authenticate(answer).encode(correlation);
                socket.write_all(&parts.concat()).unwrap();
            }
        }
    });
    address
}

#[tokio::test]
async fn a_broker_that_does_not_know_the_password_is_sent_nothing_else() {
    let done = |data: &[u8]| Authenticated {
        done: true,
        data: data.to_vec().into(),
        principal: "ann".into(),
    };
    let signatures: [&[u8]; 4] = [
        b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        b"",
        b"v=",
        b"m=x,v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    ];
    for signature in signatures {
        let address = impostor(move |_| done(signature), 65_536);
        let refused = Client::connect_with(address, with(password("ann", "secret"))).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Impostor);
    }
    // One that says the login was over before it has proved anything.
    let address = impostor(|_| Authenticated::default(), 65_536);
    let refused = Client::connect_with(address, with(password("ann", "secret"))).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Impostor);
    // One that wants a key that is cheap to guess from, or the client's time.
    for rounds in [1, 4_095, 4_194_305] {
        let address = impostor(|_| Authenticated::default(), rounds);
        let refused = Client::connect_with(address, with(password("ann", "secret"))).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Impostor);
    }
}

/// The program against a broker; what is typed on stdin.
fn run(broker: &Broker, envs: &[(&str, &str)], arguments: &[&str], typed: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_logdrive"))
        .args(["--server", &broker.address.to_string()])
        .args(arguments)
        .env_remove("LOGDRIVE_TOKEN")
        .env_remove("LOGDRIVE_PASSWORD")
        .envs(envs.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may have ended without reading it.
    let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
    child.wait_with_output().unwrap()
}

/// What goes to stdout where it must succeed.
fn told(output: &Output) -> String {
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{talk}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_command_line_makes_principals_and_logs_in_as_them() {
    let broker = guarded();
    let root = admin_token(broker.data());
    let root = [("LOGDRIVE_TOKEN", root.as_str())];
    let as_root = |line: &str, typed: &str| {
        let words: Vec<_> = line.split(' ').collect();
        run(&broker, &root, &words, typed)
    };
    told(&as_root("topic create app", ""));
    let token = told(&as_root(
        "principal create ann --grant produce,consume:app* --quota connections=5",
        "",
    ));
    let token = token.trim_end();
    assert!(token.starts_with("ldt_") && token.len() == 47, "{token}");
    told(&as_root(
        "principal create bob --with-password",
        "correct horse\n",
    ));
    told(&as_root("principal grant bob consume app", ""));
    told(&as_root(
        "principal quota ann connections= requests_per_second=9",
        "",
    ));
    assert_eq!(
        told(&as_root("principal list -o raw", "")),
        "admin\nann\nbob\n"
    );
    let shown = told(&as_root("principal describe ann -o json", ""));
    assert!(
        shown.contains("\"rights\":\"produce,consume\"") && shown.contains("requests_per_second"),
        "{shown}"
    );
    assert!(!shown.contains(token));

    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("token");
    std::fs::write(&path, format!("{token}\n")).unwrap();
    let path = path.to_str().unwrap();
    let ann = |line: &str, typed: &str| {
        let words: Vec<_> = line.split(' ').chain(["--token-file", path]).collect();
        run(&broker, &[], &words, typed)
    };
    told(&ann("produce app", "one\ntwo\n"));
    told(&ann("ping", ""));
    let denied = ann("topic delete app --yes", "");
    assert_eq!(denied.status.code(), Some(8));

    let bob = [("LOGDRIVE_PASSWORD", "correct horse")];
    let read = run(&broker, &bob, &["--user", "bob", "fetch", "app"], "");
    assert_eq!(told(&read), "one\ntwo\n");
    let path = file.path().join("password");
    std::fs::write(&path, "correct horse").unwrap();
    let words = [
        "--user",
        "bob",
        "--password-file",
        path.to_str().unwrap(),
        "fetch",
        "app",
        "-n",
        "1",
    ];
    assert_eq!(told(&run(&broker, &[], &words, "")), "one\n");
    let wrong = run(
        &broker,
        &[("LOGDRIVE_PASSWORD", "x")],
        &["--user", "bob", "ping"],
        "",
    );
    assert_eq!(wrong.status.code(), Some(8));
    let nobody = run(&broker, &[], &["topic", "list"], "");
    assert_eq!(nobody.status.code(), Some(8));

    told(&as_root("principal revoke bob consume app", ""));
    let denied = run(&broker, &bob, &["--user", "bob", "fetch", "app"], "");
    assert_eq!(denied.status.code(), Some(8));
    told(&as_root("principal password bob", "another\n"));
    told(&as_root("principal token ann laptop", ""));
    told(&as_root("principal token ann --forget", ""));
    assert_eq!(ann("ping", "").status.code(), Some(8));
    assert_eq!(as_root("principal delete bob", "").status.code(), Some(2));
    told(&as_root("principal delete bob --yes", ""));
    assert_eq!(as_root("principal describe bob", "").status.code(), Some(3));
    assert_eq!(as_root("principal create ann", "").status.code(), Some(7));
}

#[test]
fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
    let broker = guarded();
    for words in [["ping", "--token", "hush"], ["ping", "--password", "hush"]] {
        let output = run(&broker, &[], &words, "");
        assert_eq!(output.status.code(), Some(2));
        let talk = String::from_utf8(output.stderr).unwrap();
        assert!(
            talk.contains("does not belong on the command line"),
            "{talk}"
        );
        assert!(!talk.contains("hush"), "{talk}");
    }
}

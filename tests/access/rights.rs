//! Every operation is refused without its right: a table that has a line for each opcode, and for
//! text mode one that has each verb.

use std::collections::BTreeSet;

use logdrive_protocol::batch::Origin;
use logdrive_protocol::body::Body;
use logdrive_protocol::frame::FLAG_ERROR;
use logdrive_protocol::operations::*;
use logdrive_protocol::{ConsumerId, ErrorCode, Failure, Position, ProducerId, Rights, TopicId};

use crate::peers::{admin, grant, guarded, logged_in, principal, typing};
use crate::support::asking::{fetch, produce, produce_all, register};
use crate::support::{Broker, Connection, batch, batch_of};

/// What an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Not even a login.
    Nothing,
    /// A login.
    Login,
    /// Any right on the topic.
    Any,
    /// This right on the topic.
    On(Rights),
    /// Admin on everything.
    Broker,
}

/// What an operation needs, and a request for it. Whoever adds an operation adds a line.
#[allow(clippy::too_many_lines, reason = "one for each operation")]
fn case(opcode: u8, topic: TopicId, name: &str) -> (Need, Request) {
    const PRODUCE: Need = Need::On(Rights::PRODUCE);
    const CONSUME: Need = Need::On(Rights::CONSUME);
    const ADMIN: Need = Need::On(Rights::ADMIN);
    let name = name.to_owned();
    match opcode {
        0x01 => (Need::Login, Hello::default().into()),
        0x02 => (Need::Nothing, Ping {}.into()),
        0x03 => (Need::Login, Metadata { topics: vec![name] }.into()),
        0x04 => (
            CONSUME,
            Cancel {
                topic,
                correlation: 9,
            }
            .into(),
        ),
        0x05 => (Need::Nothing, Authenticate::default().into()),
        0x06 => (Need::Broker, Stats::default().into()),
        0x10 => (
            ADMIN,
            CreateTopic {
                name,
                ..CreateTopic::default()
            }
            .into(),
        ),
        0x11 => (ADMIN, DeleteTopic { topic }.into()),
        0x12 => (Need::Login, ListTopics::default().into()),
        0x13 => (
            Need::Any,
            DescribeTopic {
                name,
                ..DescribeTopic::default()
            }
            .into(),
        ),
        0x14 => (
            ADMIN,
            AlterTopic {
                topic,
                ..AlterTopic::default()
            }
            .into(),
        ),
        0x15 => (
            ADMIN,
            PurgeTopic {
                topic,
                before: Position::Earliest,
            }
            .into(),
        ),
        0x20 => (PRODUCE, register(&name, "", 1).into()),
        0x21 => (
            PRODUCE,
            UnregisterProducer {
                topic,
                ..UnregisterProducer::default()
            }
            .into(),
        ),
        0x22 => (PRODUCE, produce(topic, batch(&["x"])).into()),
        0x23 => (PRODUCE, produce_all([(topic, batch(&["x"]))]).into()),
        0x30 => (CONSUME, fetch(topic, 0).into()),
        0x40 => {
            let register = RegisterConsumer {
                topic: name,
                name: "c".into(),
                create: true,
                ..RegisterConsumer::default()
            };
            (CONSUME, register.into())
        }
        0x41 => (
            CONSUME,
            UnregisterConsumer {
                topic,
                ..UnregisterConsumer::default()
            }
            .into(),
        ),
        0x42 => (
            CONSUME,
            Consume {
                topic,
                ..Consume::default()
            }
            .into(),
        ),
        0x43 => (
            CONSUME,
            Seek {
                topic,
                ..Seek::default()
            }
            .into(),
        ),
        0x44 => (
            CONSUME,
            Size {
                topic,
                ..Size::default()
            }
            .into(),
        ),
        0x45 => (
            CONSUME,
            Ack {
                topic,
                ..Ack::default()
            }
            .into(),
        ),
        0x46 => (
            CONSUME,
            Nack {
                topic,
                ..Nack::default()
            }
            .into(),
        ),
        0x47 => (
            CONSUME,
            Extend {
                topic,
                ..Extend::default()
            }
            .into(),
        ),
        0x48 => (
            CONSUME,
            Requeue {
                topic,
                dead_letters: topic,
                ..Requeue::default()
            }
            .into(),
        ),
        0x49 => (
            CONSUME,
            AlterConsumer {
                topic,
                ..AlterConsumer::default()
            }
            .into(),
        ),
        0x4a => (
            CONSUME,
            UnregisterWorker {
                topic,
                ..UnregisterWorker::default()
            }
            .into(),
        ),
        0x4b => (
            CONSUME,
            DescribeConsumer {
                topic,
                ..DescribeConsumer::default()
            }
            .into(),
        ),
        0x50 => (
            Need::Broker,
            CreatePrincipal {
                name: "eve".into(),
                ..CreatePrincipal::default()
            }
            .into(),
        ),
        0x51 => (
            Need::Broker,
            AlterPrincipal {
                name,
                ..AlterPrincipal::default()
            }
            .into(),
        ),
        0x52 => (Need::Broker, DeletePrincipal { name: "eve".into() }.into()),
        0x53 => (Need::Broker, ListPrincipals::default().into()),
        other => panic!("opcode {other:#04x} has no line here: what does it need?"),
    }
}

/// The error that a request is answered with.
fn failure(peer: &mut Connection, request: &Request) -> Option<Failure> {
    let number = peer.number();
    peer.write(&request.encode(number).concat());
    let frame = peer.answer_frame(number).unwrap();
    (frame.flags & FLAG_ERROR != 0).then(|| Failure::from_bytes(frame.body).unwrap())
}

fn code(peer: &mut Connection, request: &Request) -> Option<ErrorCode> {
    failure(peer, request).map(|it| it.code)
}

#[test]
fn every_operation_is_refused_without_its_right_and_served_with_it() {
    let broker = guarded();
    let mut root = admin(&broker);
    let bystander = grant(Rights::ALL, "elsewhere");
    for (opcode, operation) in OPERATIONS {
        let name = format!("t{opcode:02x}");
        let topic = root.create(&name);
        let (need, request) = case(*opcode, topic, &name);
        assert_eq!(
            request.opcode(),
            *opcode,
            "the line of {operation} is another's"
        );
        let (lacks, has) = match need {
            Need::Nothing | Need::Login => (None, Rights::NONE),
            Need::Any => (Some(Rights::NONE), Rights::PRODUCE),
            Need::On(right) => (Some(Rights::ALL.without(right)), right),
            Need::Broker => (Some(Rights::ALL), Rights::NONE),
        };
        // Nobody who is not logged in.
        let mut stranger = broker.connect();
        let answered = code(&mut stranger, &request);
        let refused = answered == Some(ErrorCode::AuthenticationRequired);
        assert_eq!(refused, need != Need::Nothing, "{operation}: {answered:?}");
        // Nobody who has every right but the one.
        if let Some(lacks) = lacks {
            let grants = [grant(lacks, &name), bystander.clone()];
            let grants = if lacks.is_none() {
                &grants[1..]
            } else {
                &grants[..]
            };
            let token = principal(&mut root, &format!("lacks-{name}"), grants);
            let mut peer = logged_in(&broker, &token);
            let answered = code(&mut peer, &request);
            assert_eq!(answered, Some(ErrorCode::PermissionDenied), "{operation}");
        }
        // Whoever has the one and no other.
        let grants = match need {
            Need::Broker => vec![grant(Rights::ADMIN, "*")],
            _ if has.is_none() => vec![],
            _ => vec![grant(has, &name)],
        };
        let token = principal(&mut root, &format!("has-{name}"), &grants);
        let answered = code(&mut logged_in(&broker, &token), &request);
        let refused = matches!(
            answered,
            Some(ErrorCode::PermissionDenied | ErrorCode::AuthenticationRequired)
        );
        assert!(!refused, "{operation}: {answered:?}");
    }
}

#[test]
fn who_has_no_right_cannot_tell_a_topic_that_is_there_from_one_that_is_not() {
    let broker = guarded();
    let mut root = admin(&broker);
    let there = root.create("there");
    let missing = TopicId(there.0 + 1_000_000);
    let token = principal(&mut root, "eve", &[grant(Rights::ALL, "elsewhere")]);
    let mut eve = logged_in(&broker, &token);
    for (opcode, operation) in OPERATIONS {
        let (need, here) = case(*opcode, there, "there");
        if !matches!(need, Need::Any | Need::On(_)) {
            continue;
        }
        let (_, nowhere) = case(*opcode, missing, "nowhere");
        let told = |failure: Option<Failure>| {
            let text = format!("{failure:?}");
            text.replace("\\\"nowhere\\\"", "\\\"there\\\"")
                .replace(&missing.to_string(), &there.to_string())
        };
        let (first, second) = (failure(&mut eve, &here), failure(&mut eve, &nowhere));
        assert_eq!(told(first), told(second), "{operation}");
    }
    // With the right on everything it is told.
    assert_eq!(
        code(&mut root, &fetch(missing, 0).into()),
        Some(ErrorCode::TopicNotFound)
    );
    let token = principal(&mut root, "reader", &[grant(Rights::CONSUME, "*")]);
    let mut reader = logged_in(&broker, &token);
    assert_eq!(
        code(&mut reader, &fetch(missing, 0).into()),
        Some(ErrorCode::TopicNotFound)
    );
    let register = produce(missing, batch(&["x"])).into();
    assert_eq!(
        code(&mut reader, &register),
        Some(ErrorCode::PermissionDenied)
    );
}

/// The story: ids are given in order, and who tried them all on a topic of his own was told which of
/// them were registered, and for topics of which ids.
#[test]
fn whose_an_id_is_is_told_only_to_who_may_see_that_topic() {
    let broker = guarded();
    let mut root = admin(&broker);
    root.create("payroll");
    let producer = root.producer("payroll").producer.0;
    let consumer = root.consumer("payroll", "c").consumer.0;
    let own = root.create("own");
    let token = principal(&mut root, "eve", &[grant(Rights::ALL, "own")]);
    let mut eve = logged_in(&broker, &token);
    let token = principal(
        &mut root,
        "ann",
        &[grant(Rights::ALL, "own"), grant(Rights::PRODUCE, "payroll")],
    );
    let mut ann = logged_in(&broker, &token);
    let asked = |id: u64| -> Vec<Request> {
        let origin = Origin {
            producer: ProducerId(id),
            epoch: 1,
            ..Origin::default()
        };
        let (topic, batch) = (own, batch_of(origin, &["x"]));
        let unregister = UnregisterProducer {
            topic,
            producer: ProducerId(id),
            epoch: 1,
        };
        let consumer = ConsumerId(id);
        vec![
            produce(topic, batch.clone()).into(),
            produce_all([(topic, batch)]).into(),
            unregister.into(),
            Size { topic, consumer }.into(),
            UnregisterConsumer { topic, consumer }.into(),
        ]
    };
    let nobodys = 1_000_000;
    for id in [producer, consumer] {
        for (theirs, nobodys_own) in asked(id).iter().zip(asked(nobodys)) {
            let told = format!("{:?}", failure(&mut eve, theirs).unwrap());
            let of_nobody = format!("{:?}", failure(&mut eve, &nobodys_own).unwrap());
            assert_eq!(
                told,
                of_nobody.replace(&nobodys.to_string(), &id.to_string())
            );
            let told = [&mut root, &mut ann].map(|it| code(it, theirs));
            assert_eq!(
                told,
                [Some(ErrorCode::NotRegisteredForTopic); 2],
                "{theirs:?}"
            );
        }
    }
}

#[test]
fn a_topic_that_is_deleted_is_missing_for_who_had_a_right_to_it() {
    let broker = guarded();
    let mut root = admin(&broker);
    let topic = root.create("app");
    let token = principal(&mut root, "ann", &[grant(Rights::CONSUME, "app")]);
    let mut ann = logged_in(&broker, &token);
    ann.ask(fetch(topic, 0)).unwrap();
    root.ask(DeleteTopic { topic }).unwrap();
    let answered = code(&mut ann, &fetch(topic, 0).into());
    assert_eq!(answered, Some(ErrorCode::TopicNotFound));
}

#[test]
fn lists_places_and_hints_show_only_what_one_may_see() {
    let broker = guarded();
    let mut root = admin(&broker);
    for name in ["app.web", "app.db", "payroll"] {
        root.create(name);
    }
    let token = principal(&mut root, "ann", &[grant(Rights::PRODUCE, "app.*")]);
    let mut ann = logged_in(&broker, &token);
    ann.check(ListTopics::default(), "app.db app.web");
    ann.check(
        ListTopics {
            limit: 1,
            ..ListTopics::default()
        },
        "app.db ...",
    );
    ann.check(
        ListTopics {
            glob: "p*".into(),
            ..ListTopics::default()
        },
        "",
    );
    let topics = vec![
        "app.db".to_owned(),
        "payroll".to_owned(),
        "nowhere".to_owned(),
    ];
    let places = ann.ask(Metadata { topics }).unwrap().topics;
    let found: Vec<_> = places.iter().map(|it| !it.id.is_none()).collect();
    assert_eq!(found, [true, false, false]);
    // A glob that matches a name which is not there: the hint may name what one may see.
    let token = principal(
        &mut root,
        "bob",
        &[
            grant(Rights::PRODUCE, "payrol"),
            grant(Rights::PRODUCE, "app.*"),
        ],
    );
    let mut bob = logged_in(&broker, &token);
    let refused = failure(&mut bob, &register("payrol", "", 1).into()).unwrap();
    assert_eq!(
        (refused.code, refused.hint.as_str()),
        (ErrorCode::TopicNotFound, "create it first")
    );
    let refused = failure(&mut bob, &register("app.wbe", "", 1).into()).unwrap();
    assert_eq!(refused.hint, "did you mean \"app.web\"?");
}

#[test]
fn a_producer_creates_its_topic_only_if_it_may_create_topics() {
    let broker = guarded();
    let mut root = admin(&broker);
    let token = principal(
        &mut root,
        "ann",
        &[
            grant(Rights::PRODUCE, "app*"),
            grant(Rights::ADMIN, "app.own"),
        ],
    );
    let mut ann = logged_in(&broker, &token);
    let creating = |topic: &str| RegisterProducer {
        create_topic: true,
        ..register(topic, "", 1)
    };
    assert_eq!(
        code(&mut ann, &creating("app").into()),
        Some(ErrorCode::TopicNotFound)
    );
    assert!(ann.ask(creating("app.own")).unwrap().topic_created);
    root.create("app");
    ann.ask(creating("app")).unwrap();
}

#[test]
fn dead_letters_go_only_where_one_may_produce() {
    let broker = guarded();
    let mut root = admin(&broker);
    let topic = root.create("app");
    root.create("theirs");
    let token = principal(
        &mut root,
        "ann",
        &[
            grant(Rights::CONSUME, "app"),
            grant(Rights::PRODUCE, "app.dead"),
        ],
    );
    let mut ann = logged_in(&broker, &token);
    let settings = |dead: &str| {
        let setting = |key: &str, value: &str| Setting {
            key: key.into(),
            value: value.into(),
        };
        vec![
            setting("dead_letter_topic", dead),
            setting("max_deliveries", "3"),
        ]
    };
    let register = |dead: &str| RegisterConsumer {
        topic: "app".into(),
        name: "c".into(),
        settings: settings(dead),
        create: true,
        ..RegisterConsumer::default()
    };
    assert_eq!(
        code(&mut ann, &register("theirs").into()),
        Some(ErrorCode::PermissionDenied)
    );
    let consumer = ann.ask(register("app.dead")).unwrap().consumer;
    let alter = |dead: &str| AlterConsumer {
        topic,
        consumer,
        set: settings(dead),
        ..AlterConsumer::default()
    };
    assert_eq!(
        code(&mut ann, &alter("theirs").into()),
        Some(ErrorCode::PermissionDenied)
    );
    ann.ask(alter("app.dead")).unwrap();
}

#[test]
fn a_request_for_several_topics_needs_its_right_on_each() {
    let broker = guarded();
    let mut root = admin(&broker);
    let [a, b] = ["a", "b"].map(|name| root.create(name));
    let consumer = root.consumer("b", "c").consumer;
    let token = principal(&mut root, "ann", &[grant(Rights::PRODUCE, "a")]);
    let mut ann = logged_in(&broker, &token);
    let both: Request = produce_all([(a, batch(&["x"])), (b, batch(&["x"]))]).into();
    assert_eq!(code(&mut ann, &both), Some(ErrorCode::PermissionDenied));
    let acking: Request = ProduceAll {
        consumed: vec![Consumed {
            topic: b,
            consumer,
            ..Consumed::default()
        }],
        ..produce_all([(a, batch(&["x"]))])
    }
    .into();
    assert_eq!(code(&mut ann, &acking), Some(ErrorCode::PermissionDenied));
    let letters: Request = Requeue {
        topic: b,
        consumer,
        dead_letters: a,
        ..Requeue::default()
    }
    .into();
    let token = principal(&mut root, "bob", &[grant(Rights::CONSUME, "b")]);
    assert_eq!(
        code(&mut logged_in(&broker, &token), &letters),
        Some(ErrorCode::PermissionDenied)
    );
    assert_eq!(root.all(a), []);
    ann.ask(produce_all([(a, batch(&["x"]))])).unwrap();
}

/// A line for each verb; those that need no right say what they are answered with.
const LINES: &[(&str, &str)] = &[
    ("ACK t c 1 0", "-"),
    ("ALTER t description=x", "-"),
    ("ALTER CONSUMER t c description=x", "-"),
    ("ALTER PRINCIPAL ann connections=1", "-"),
    ("AUTH TOKEN x", "- NOT_SUPPORTED"),
    ("CONSUME t c", "-"),
    ("CREATE u", "-"),
    ("CREATE PRINCIPAL eve", "-"),
    ("DELETE t CONFIRM t", "-"),
    ("DELETE PRINCIPAL ann CONFIRM ann", "-"),
    ("DEQUEUE t c", "-"),
    ("DESCRIBE t", "-"),
    ("DESCRIBE t c", "-"),
    ("ENQUEUE t x", "-"),
    ("EXTEND t c 1 30s", "-"),
    ("FETCH t earliest", "-"),
    ("FORGET TOKEN ann test", "-"),
    ("FORGET PASSWORD ann", "-"),
    ("FRAMES OFF", "+ frames off"),
    ("GRANT ann all *", "-"),
    ("HELP PING", "= 1"),
    ("INFO", "= "),
    ("LIST", "= "),
    ("METADATA t", "= "),
    ("NACK t c 1 0", "-"),
    ("PASSWORD ann x", "-"),
    ("PAUSE t c", "-"),
    ("PING", "+ pong"),
    ("PRINCIPALS", "-"),
    ("PRODUCE t x", "-"),
    ("PRODUCEALL t,t2 x", "-"),
    ("PURGE t -1 CONFIRM t", "-"),
    ("REGISTER PRODUCER t", "-"),
    ("REGISTER CONSUMER t c", "-"),
    ("REQUEUE t c t2 0", "-"),
    ("RESUME t c", "-"),
    ("REVOKE ann all *", "-"),
    ("SCHEDULE t 5m x", "-"),
    ("SEEK t c 0", "-"),
    ("SIZE t c", "-"),
    ("STATS", "-"),
    ("STATS t", "-"),
    ("TOKEN ann more", "-"),
    ("UNREGISTER CONSUMER t c", "-"),
    ("UNREGISTER WORKER t c 1", "-"),
    ("UNREGISTER PRODUCER t", "- PRODUCER_NOT_FOUND"),
    ("QUIT", "+ bye"),
];

/// Types every line; each that needs a right is refused.
fn check_lines(broker: &Broker, token: &str, skip: &[&str]) {
    let mut peer = typing(broker, token);
    for (line, expected) in LINES.iter().filter(|it| !skip.contains(&it.0)) {
        let answer = peer.ask(line);
        let expected = match *expected {
            "-" => "- PERMISSION_DENIED",
            other => other,
        };
        assert!(answer.starts_with(expected), "{line}: {answer}");
        if let Some(count) = answer.strip_prefix("= ") {
            for _ in 0..count.parse::<usize>().unwrap() {
                peer.hear();
            }
        }
    }
}

#[test]
fn every_verb_is_refused_without_its_right() {
    let broker = guarded();
    let mut root = admin(&broker);
    root.create("t");
    root.create("t2");
    root.consumer("t", "c");
    let nobody = principal(&mut root, "ann", &[]);
    check_lines(&broker, &nobody, &[]);
    // Who may see the topic gets past its name, and no further.
    let admin_only = principal(&mut root, "bob", &[grant(Rights::ADMIN, "t*")]);
    let theirs = [
        "ALTER t description=x",
        "DESCRIBE t",
        "STATS t",
        "DELETE t CONFIRM t",
        "PURGE t -1 CONFIRM t",
    ];
    check_lines(&broker, &admin_only, &theirs);
    // Every verb that HELP knows has a line.
    let mut peer = typing(&broker, &nobody);
    let count: usize = peer.ask("HELP")[2..].parse().unwrap();
    let verb = |line: &str| line.split(' ').next().unwrap().to_owned();
    let known: BTreeSet<_> = (0..count).map(|_| verb(&peer.hear().unwrap())).collect();
    let listed: BTreeSet<_> = LINES.iter().map(|it| verb(it.0)).collect();
    assert_eq!(known, listed);
}

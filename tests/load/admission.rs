//! Connections: how many there may be, of all and of one address, and how long they may be silent.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use logdrive::limits::MAX_SILENT;
use logdrive_client::Client;
use logdrive_protocol::ErrorCode;
use logdrive_protocol::operations::{Fetch, Hello, Ping};

use crate::support::asking::fetch_waiting;
use crate::support::binary::preface;
use crate::support::{Broker, until};
use crate::{Bystander, allow_files, socket_from};

/// Whether the broker answers what is begun here.
fn is_served(socket: &mut TcpStream) -> bool {
    // The broker may have closed it already.
    if socket.write_all(&preface()).is_err() {
        return false;
    }
    match socket.read(&mut [0; 128]) {
        Ok(count) => count > 0,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
        Err(error) => panic!("neither served nor closed: {error}"),
    }
}

#[test]
fn connections_are_bounded_in_all_and_for_each_address_and_places_are_given_back() {
    let broker = Broker::start_with(
        tempfile::tempdir().unwrap(),
        &[
            "--max-connections",
            "6",
            "--max-connections-per-address",
            "3",
        ],
    );
    let mut bystander = Bystander::of(&broker);
    let mut served = Vec::new();
    let mut check = |address: &str, expected: bool| {
        let mut socket = socket_from(address, &broker);
        assert_eq!(is_served(&mut socket), expected, "{address}");
        if expected {
            served.push(socket);
        }
    };
    // The bystander has one of these.
    check("127.0.0.1", true);
    check("127.0.0.1", true);
    check("127.0.0.1", false);
    check("127.0.0.2", true);
    check("127.0.0.2", true);
    check("127.0.0.3", true);
    check("127.0.0.3", false);
    check("127.0.0.2", false);
    bystander.goes_on();
    assert_eq!(bystander.counter("connections"), 6);
    assert_eq!(bystander.counter("connections_turned_away"), 3);
    assert_eq!(bystander.counter("connections_turned_away_address"), 1);
    drop(served);
    until("the places are given back", || {
        bystander.counter("connections") == 1
    });
    for _ in 0..2 {
        assert!(is_served(&mut socket_from("127.0.0.1", &broker)));
    }
    bystander.goes_on();
}

#[test]
fn thousands_that_say_nothing_use_up_no_places_and_the_oldest_makes_room() {
    allow_files();
    let broker = Broker::start();
    let mut bystander = Bystander::of(&broker);
    let open = || socket_from("127.0.0.1", &broker);
    let mut first: Vec<_> = (0..10).map(|_| open()).collect();
    let mut others: Vec<_> = (0..MAX_SILENT).map(|_| open()).collect();
    for socket in &mut first {
        assert_eq!(
            socket.read(&mut [0; 8]).unwrap(),
            0,
            "the oldest are closed"
        );
    }
    assert_eq!(bystander.counter("connections_silent_ended"), 10);
    // Those that are left are served when they speak, the oldest of them too.
    assert!(is_served(&mut others[0]));
    assert!(is_served(others.last_mut().unwrap()));
    assert!(is_served(&mut open()));
    bystander.goes_on();
    drop((first, others));
    until("the places are given back", || {
        bystander.counter("connections") == 1
    });
}

#[test]
fn the_broker_allows_itself_the_files_that_it_may_have_and_keeps_some_for_its_store() {
    let soft = Broker::start_after("ulimit -Sn 200;");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", soft.pid())).unwrap();
    let files = limits.lines().find(|it| it.starts_with("Max open files"));
    let files: Vec<_> = files.unwrap().split_whitespace().collect();
    assert_eq!(files[3], files[4], "soft and hard limit: {files:?}");

    let hard = Broker::start_after("ulimit -n 100;");
    let mut bystander = Bystander::of(&hard);
    let greeted = bystander.peer.ask(Hello::default()).unwrap();
    let limit = greeted.limits.iter().find(|it| it.key == "connections");
    assert_eq!(limit.unwrap().value, "50");
    let mut sockets: Vec<_> = (0..200).map(|_| socket_from("127.0.0.1", &hard)).collect();
    let served = sockets
        .iter_mut()
        .filter_map(|it| is_served(it).then_some(()));
    assert_eq!(served.count(), 49);
    bystander.goes_on();
}

#[test]
fn a_connection_on_which_nothing_is_said_is_ended_by_name_and_one_that_waits_is_not() {
    let broker = Broker::start_with(tempfile::tempdir().unwrap(), &["--idle-time", "300ms"]);
    let mut waiting = broker.connect();
    let topic = waiting.create("app");
    let number = waiting.send(&fetch_waiting(topic, 0));
    for _ in 0..4 {
        let mut idle = broker.connect();
        let failure = idle.hear_failure();
        assert_eq!(failure.code, ErrorCode::IdleTimeout, "{failure}");
        idle.closed();
    }
    let mut peer = broker.connect();
    peer.produce(topic, &["a"]);
    waiting.check_answer::<Fetch>(number, "0:a next=1");
    // What was answered is said too: the silence begins only now.
    waiting.ask(Ping {}).unwrap();
    assert_eq!(waiting.hear_failure().code, ErrorCode::IdleTimeout);
    assert!(broker.connect().counter("", "connections_idle_ended") >= 5);
}

#[test]
fn the_client_says_in_time_that_it_is_there_and_keeps_its_connection() {
    let broker = Broker::start_with(tempfile::tempdir().unwrap(), &["--idle-time", "600ms"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let accepted = |client: &Client| {
        let counters = runtime.block_on(client.stats(None)).unwrap();
        let accepted = counters.iter().find(|it| it.name == "connections_accepted");
        accepted.unwrap().value
    };
    let client = runtime.block_on(Client::connect(broker.address)).unwrap();
    let before = accepted(&client);
    for _ in 0..3 {
        let mut bare = broker.connect();
        assert_eq!(bare.hear_failure().code, ErrorCode::IdleTimeout);
    }
    assert_eq!(accepted(&client), before + 3, "it did not connect again");
}

#[test]
fn the_preface_says_the_idle_time_and_zero_is_never() {
    for (typed, told) in [("2m", 120_000), ("0", 0)] {
        let broker = Broker::start_with(tempfile::tempdir().unwrap(), &["--idle-time", typed]);
        let mut peer = crate::support::Connection::silent(broker.address);
        peer.write(&preface());
        assert_eq!(peer.greeted().limits.idle_ms, told);
    }
}

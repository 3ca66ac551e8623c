//! Limits and bad load, against a broker process over real sockets: each limit is reached, who goes
//! beyond it is told by name or closed and counted, and somebody else works on undisturbed.
//!
//! No time is measured here, only what happens; how long an honest client waits meanwhile is what
//! `logdrive bench siege` shows.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod counts;
mod routes;
mod siege;
mod slow;

use std::net::{IpAddr, SocketAddr, TcpStream};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use support::{Broker, Connection, PATIENCE};

/// Lets this process open as many files as it may.
fn allow_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

/// A socket from one of this machine's addresses on which nothing was said yet.
fn socket_from(address: &str, broker: &Broker) -> TcpStream {
    let address: IpAddr = address.parse().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
    socket.connect(&broker.address.into()).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Somebody who works on while others do not.
struct Bystander {
    peer: Connection,
    topic: logdrive_protocol::TopicId,
    stored: u64,
}

impl Bystander {
    fn of(broker: &Broker) -> Self {
        let mut peer = broker.connect();
        let topic = peer.create("undisturbed");
        let stored = 0;
        let mut it = Self {
            peer,
            topic,
            stored,
        };
        it.goes_on();
        it
    }

    /// A record is taken on the same connection, and all are there.
    #[track_caller]
    fn goes_on(&mut self) {
        let value = format!("record {}", self.stored);
        assert_eq!(self.peer.produce(self.topic, &[&value]), self.stored);
        self.stored += 1;
        let records = self.peer.all(self.topic);
        assert_eq!(records.len() as u64, self.stored);
        for (offset, value) in records {
            assert_eq!(value, format!("record {offset}").as_bytes());
        }
    }

    fn counter(&mut self, name: &str) -> u64 {
        self.peer.counter("", name)
    }
}

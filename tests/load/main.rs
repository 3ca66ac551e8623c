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

use support::{Broker, Bystander, PATIENCE};

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

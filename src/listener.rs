//! Accepting: who comes in, when, and on which thread it is served.
//!
//! Owns the loop around the listening socket and the [`Gate`] that it asks; it never looks at what a
//! connection says. Its neighbours: the [server](crate::server) calls it, a connection's task begins
//! here and ends here.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::ArbiterHandle;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::connection::{self, Peer};
use crate::counters::Counters;
use crate::gate::{Entered, Gate, Refusal};
use crate::limits::{ACCEPT_STEP, Admission, FIRST_BYTE_WAIT, RESERVED_FILES, UNSENT_BYTES};
use crate::net::{TcpListener, TcpStream, split_tcp};
use crate::reply::ConnectionId;

/// How long accepting pauses when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Raises the limit of open files as far as the system lets, and keeps connections below it: the
/// store must always be able to open its files.
pub(crate) fn allow_files(admission: &mut Admission) {
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: now.maximum,
        maximum: now.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let Some(files) = getrlimit(Resource::Nofile).current else {
        return;
    };
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    // Where there are few files at all, half of them are for connections.
    let room = files.saturating_sub(RESERVED_FILES).max(files / 2);
    if room < admission.connections {
        tracing::info!(
            files,
            "the limit of open files leaves room for {room} connections"
        );
        admission.connections = room;
    }
}

/// Accepts until the server is given up.
pub(crate) async fn accept(
    listener: &TcpListener,
    around: &connection::Surroundings,
    arbiters: &[ArbiterHandle],
    connections: &mut JoinSet<IpAddr>,
) {
    let mut gate = Gate::new(around.about.admission, Instant::now());
    let mut last = 0_usize;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                left(&mut gate, around, &ended);
                continue;
            }
        };
        while let Some(ended) = connections.try_join_next() {
            left(&mut gate, around, &ended);
        }
        let now = Instant::now();
        match accepted {
            Ok((socket, peer)) => match gate.enter(peer.ip(), now) {
                Ok(entered) => {
                    last += 1;
                    let id = ConnectionId(last as u64);
                    count_entered(&around.counters, &entered, now);
                    let address = peer.ip();
                    let arbiter = arbiters.get(last % arbiters.len().max(1));
                    let end = serve_in(arbiter, socket, (entered, address), id, around.clone());
                    connections.spawn_local(async move {
                        match end {
                            Ok(end) => end.await.unwrap_or(()),
                            Err(error) => tracing::warn!(%error, "cannot serve a connection"),
                        }
                        address
                    });
                }
                Err(refusal) => {
                    drop(socket);
                    refused(&mut gate, &around.counters, refusal, peer, now);
                }
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
        // Each that was accepted is counted, also one that was refused: a flood is work either way.
        let turn = gate.pace(now);
        if turn > now {
            sleep_until(turn.max(now + ACCEPT_STEP)).await;
        }
    }
}

fn count_entered(counters: &Counters, entered: &Entered, now: Instant) {
    Counters::add(&counters.accepted, 1);
    counters.connections.fetch_add(1, Ordering::Relaxed);
    if entered.in_place_of_silent {
        Counters::add(&counters.silent_ended, 1);
    }
    if entered.turn > now {
        Counters::add(&counters.paced, 1);
    }
}

fn left(gate: &mut Gate, around: &connection::Surroundings, ended: &Result<IpAddr, JoinError>) {
    // A connection's task neither panics nor is it aborted.
    if let Ok(peer) = ended {
        gate.leave(*peer);
        around.counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn refused(gate: &mut Gate, counters: &Counters, refusal: Refusal, peer: SocketAddr, now: Instant) {
    Counters::add(&counters.turned_away, 1);
    if refusal == Refusal::AddressFull {
        Counters::add(&counters.turned_away_address, 1);
    }
    if let Some(count) = gate.refused(now) {
        let why = match refusal {
            Refusal::Full => "as many are open as may be; see --max-connections",
            Refusal::AddressFull => {
                "as many of its address are open as may be; see --max-connections-per-address"
            }
        };
        tracing::warn!(%peer, count, "turned away: {why}");
    }
}

/// Serves a connection on the thread of `arbiter`, to which the socket moves; what is returned ends
/// with the connection.
fn serve_in(
    arbiter: Option<&ArbiterHandle>,
    socket: TcpStream,
    (entered, address): (Entered, IpAddr),
    id: ConnectionId,
    around: connection::Surroundings,
) -> io::Result<oneshot::Receiver<()>> {
    let (ended, end) = oneshot::channel();
    let socket = socket.into_std()?;
    let serving = async move {
        match TcpStream::from_std(socket) {
            Ok(socket) => {
                // Answers are written when they are ready; waiting for more would only add delay.
                let _ = socket.set_nodelay(true);
                limit_unsent(&socket);
                if speaks(&socket, entered, &around.counters).await {
                    let name = None;
                    let peer = Peer { address, name };
                    // It is over when the conversation begins: nobody keeps the memory that his
                    // handshake took.
                    connection::serve(split_tcp(socket), peer, id, around, ended).await;
                }
            }
            Err(error) => tracing::warn!(%error, "cannot move a connection to its thread"),
        }
    };
    match arbiter {
        Some(arbiter) if !arbiter.spawn(serving) => {
            Err(io::Error::other("the arbiter has stopped"))
        }
        Some(_) => Ok(end),
        None => Err(io::Error::other("there is no arbiter")),
    }
}

/// The system would take megabytes of a peer that reads nothing, and copying them is what others wait
/// for.
fn limit_unsent(socket: &TcpStream) {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = socket2::SockRef::from(socket).set_tcp_notsent_lowat(UNSENT_BYTES);
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    let _ = socket;
}

/// Waits until a connection says something and it is its turn; false if it does not, or had to make
/// room for others that may.
async fn speaks(socket: &TcpStream, entered: Entered, counters: &Counters) -> bool {
    let speaks = tokio::select! {
        biased;
        readable = socket.readable() => readable.is_ok(),
        _ = entered.make_room => false,
        () = sleep(FIRST_BYTE_WAIT) => {
            Counters::add(&counters.silent_ended, 1);
            false
        }
    };
    if speaks && entered.turn > Instant::now() {
        sleep_until(entered.turn).await;
    }
    speaks
}

//! Starting, listening and stopping.
//!
//! Owns the listening socket and the order of things: the store first, then the broker, then the
//! port; and back. Its neighbours: the command line calls it, connections are started by it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Arbiter, ArbiterHandle, System};
use anyhow::Context;
use logdrive_protocol::NodeId;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::broker::{About, Broker, Ground, state_number};
use crate::clock;
use crate::connection::{self, News};
use crate::counters::Counters;
use crate::limits::{MAX_CONNECTIONS, STOP_WAIT};
use crate::net::{TcpListener, TcpStream, split_tcp};
use crate::pool::Pool;
use crate::reply::ConnectionId;
use crate::storage::disk::RealDisk;
use crate::storage::{self, Disk, Health, Recovered, Storage};
use crate::window::Budget;

/// How often the store's condition is looked at, to tell connections when it changes.
const CONDITION_INTERVAL: Duration = Duration::from_millis(500);
/// How long accepting pauses when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a broker is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where segments are kept.
    pub data: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Files of a segment's size that are written ahead.
    pub write_ahead: usize,
}

/// Serves until SIGINT or SIGTERM; blocks. Prints `logdrive listening on ADDR` on stderr when it is
/// ready.
///
/// # Errors
/// The directory is in use, unreadable or of a newer format; the port is taken.
pub fn serve(options: Options) -> anyhow::Result<()> {
    System::new().block_on(run(options))
}

async fn run(options: Options) -> anyhow::Result<()> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&options.data)?);
    let listener = TcpListener::bind(options.listen).await.with_context(|| {
        format!(
            "cannot listen on {}; is another broker running there?",
            options.listen
        )
    })?;
    let address = listener.local_addr().context("asking for the port")?;
    let opening = storage::Options {
        ahead_segments: options.write_ahead,
        ..storage::Options::default()
    };
    let opened = disk.clone();
    let (storage, recovered) = tokio::task::spawn_blocking(move || Storage::open(opened, opening))
        .await
        .context("opening the store")??;
    let arbiters = arbiters();
    let ground = Ground {
        disk,
        storage: storage.handle(),
        pool: Pool::default(),
        wall: clock::wall,
        arbiters: arbiters.clone(),
    };
    let (tell, news) = watch::channel(News::default());
    let around = begin(address.to_string(), ground, recovered, news);
    // From here on a signal is a graceful stop, so it may come as soon as the address is known.
    let stop = stop_signal()?;
    eprintln!("logdrive listening on {address}");
    let watching = actix::spawn(watch_condition(storage.health(), tell.clone()));
    let mut connections = JoinSet::new();
    tokio::select! {
        () = accept(&listener, &around, &arbiters, &mut connections) => {}
        () = stop => {}
    }
    drop(listener);
    watching.abort();
    tracing::info!("stopping: what was begun is finished");
    tell.send_modify(|news| news.going_away = true);
    let all_gone = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(STOP_WAIT, all_gone).await;
    drop(around);
    tokio::task::spawn_blocking(move || storage.close())
        .await
        .context("closing the store")
}

/// Starts the broker over what its store has recovered: what connections need from then on.
pub(crate) fn begin(
    address: String,
    ground: Ground,
    recovered: Recovered,
    news: watch::Receiver<News>,
) -> connection::Surroundings {
    let about = About {
        address,
        node: NodeId(recovered.node_id.max(1)),
        cluster: recovered.cluster_id,
        started_at: (ground.wall)(),
    };
    let (budget, counters): (Arc<Budget>, Arc<Counters>) = Default::default();
    let broker = Broker::new(
        about.clone(),
        ground,
        recovered,
        budget.clone(),
        counters.clone(),
    );
    connection::Surroundings {
        broker: broker.start(),
        budget,
        counters,
        ending: news.clone(),
        news,
        about,
    }
}

/// One for each core but one, at least one; the first is this thread's own.
fn arbiters() -> Vec<ArbiterHandle> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let own = [Arbiter::current()];
    own.into_iter()
        .chain((2..cores).map(|_| Arbiter::new().handle()))
        .collect()
}

async fn accept(
    listener: &TcpListener,
    around: &connection::Surroundings,
    arbiters: &[ArbiterHandle],
    connections: &mut JoinSet<()>,
) {
    let mut last = 0_usize;
    loop {
        match listener.accept().await {
            Ok((socket, _)) if connections.len() < MAX_CONNECTIONS => {
                last += 1;
                let arbiter = arbiters.get(last % arbiters.len().max(1));
                let id = ConnectionId(last as u64);
                match serve_in(arbiter, socket, id, around.clone()) {
                    Ok(end) => drop(connections.spawn_local(async { end.await.unwrap_or(()) })),
                    Err(error) => tracing::warn!(%error, "cannot serve a connection"),
                }
            }
            Ok((socket, peer)) => {
                Counters::add(&around.counters.turned_away, 1);
                tracing::warn!(%peer, "turned away: {MAX_CONNECTIONS} connections are open");
                drop(socket);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Serves a connection on the thread of `arbiter`, to which the socket moves; what is returned ends
/// with the connection.
fn serve_in(
    arbiter: Option<&ArbiterHandle>,
    socket: TcpStream,
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
                connection::serve(split_tcp(socket), id, around).await;
            }
            Err(error) => tracing::warn!(%error, "cannot move a connection to its thread"),
        }
        drop(ended);
    };
    match arbiter {
        Some(arbiter) if !arbiter.spawn(serving) => {
            Err(io::Error::other("the arbiter has stopped"))
        }
        Some(_) => Ok(end),
        None => Err(io::Error::other("there is no arbiter")),
    }
}

/// Tells connections what becomes of the store.
pub(crate) async fn watch_condition(health: Health, tell: watch::Sender<News>) {
    let mut interval = tokio::time::interval(CONDITION_INTERVAL);
    loop {
        interval.tick().await;
        let state = state_number(health.condition());
        tell.send_if_modified(|news| {
            let changed = news.state != state;
            news.state = state;
            changed
        });
    }
}

/// Takes the signals over; what is returned waits for the first of them.
#[cfg(unix)]
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without the signal only a kill is left, which loses nothing either.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    })
}

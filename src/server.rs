//! Starting, listening and stopping.
//!
//! Owns the listening socket and the order of things: the store first, then the broker, then the
//! port; and back. Its neighbours: the command line calls it, connections are started by it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{Actor, Arbiter, ArbiterHandle, System};
use anyhow::{Context, bail};
use logdrive_protocol::{NodeId, TopicId};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::access::Directory;
use crate::access::beginning::{self, ADMIN, Beginning};
use crate::broker::{About, Broker, Ground, Principals, state_number};
use crate::clock::Clock;
use crate::connection::{self, News, Peer};
use crate::counters::Counters;
use crate::gate::{Entered, Gate, Refusal};
use crate::limits::{
    ACCEPT_STEP, Admission, DERIVING_THREADS, FIRST_BYTE_WAIT, RESERVED_FILES, STOP_WAIT,
};
use crate::net::{TcpListener, TcpStream, split_tcp};
use crate::pool::Pool;
use crate::reply::ConnectionId;
use crate::storage::disk::RealDisk;
use crate::storage::{self, Disk, Health, Recovered, Storage};
use crate::tls;
use crate::window::Budget;

/// How often the store's condition is looked at, to tell connections when it changes.
const CONDITION_INTERVAL: Duration = Duration::from_millis(500);
/// How long the first principal may take to be stored.
const BEGINNING_WAIT: Duration = Duration::from_secs(30);
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
    /// Free space in bytes below which nothing new is taken.
    pub low_space: u64,
    /// How TLS is spoken, if it is.
    pub tls: Option<tls::Options>,
    /// What is taken of connections; fewer if the system lets this process have fewer files.
    pub admission: Admission,
    /// Whether everybody has to log in.
    pub auth: bool,
    /// Whether the principal `admin` gets a new token, and every right again.
    pub reset_admin: bool,
    /// Whether everybody who can reach it may do everything, also beyond this machine.
    pub insecure: bool,
}

/// Serves until SIGINT or SIGTERM; blocks. Prints `logdrive listening on ADDR` on stderr when it is
/// ready.
///
/// # Errors
/// The directory is in use, unreadable or of a newer format; the port is taken; a certificate or key
/// cannot be used.
pub fn serve(options: Options) -> anyhow::Result<()> {
    System::new().block_on(run(options))
}

/// Nobody opens a broker to a network by forgetting something.
fn check_reach(options: &Options) -> anyhow::Result<()> {
    let address = options.listen;
    if options.auth || options.insecure || address.ip().is_loopback() {
        return Ok(());
    }
    bail!(
        "{address} can be reached from other machines, and nobody would have to log in; add --auth \
         so that everybody has to, or --insecure to let everybody do everything"
    )
}

async fn run(mut options: Options) -> anyhow::Result<()> {
    check_reach(&options)?;
    allow_files(&mut options.admission);
    let (tls, renewal) = options.tls.clone().map(tls::open).transpose()?.unzip();
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
        ..storage::Options::default().with_low_space(options.low_space)
    };
    let opened = disk.clone();
    let (storage, recovered) = tokio::task::spawn_blocking(move || Storage::open(opened, opening))
        .await
        .context("opening the store")??;
    let guard = principals(&options, &recovered).await?;
    let arbiters = arbiters();
    let ground = Ground {
        disk,
        storage: storage.handle(),
        pool: Pool::default(),
        clock: Clock::default(),
        arbiters: arbiters.clone(),
    };
    let (tell, news) = watch::channel(News::default());
    let around = connection::Surroundings {
        tls,
        ..begin(
            address.to_string(),
            options.admission,
            ground,
            recovered,
            guard,
            news,
        )
    };
    if options.auth {
        let mut access = around.access.clone();
        let begun = timeout(BEGINNING_WAIT, access.wait_for(|it| it.has_secret())).await;
        begun.context("the first principal could not be stored")??;
    }
    if let Some(renewal) = renewal {
        renew_on_hangup(renewal)?;
    }
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

/// Principals, and what is published of them.
pub(crate) type Guarded = (Principals, watch::Receiver<Arc<Directory>>);

/// Starts the broker over what its store has recovered: what connections need from then on, without
/// TLS.
pub(crate) fn begin(
    address: String,
    admission: Admission,
    ground: Ground,
    recovered: Recovered,
    (principals, access): Guarded,
    news: watch::Receiver<News>,
) -> connection::Surroundings {
    let about = About {
        address,
        node: NodeId(recovered.node_id.max(1)),
        cluster: recovered.cluster_id,
        started_at: ground.clock.clone().now(),
        admission,
    };
    let (budget, counters): (Arc<Budget>, Arc<Counters>) = Default::default();
    let clock = ground.clock.clone();
    let broker = Broker::new(
        about.clone(),
        ground,
        recovered,
        budget.clone(),
        counters.clone(),
    );
    connection::Surroundings {
        broker: broker.guarded(principals).start(),
        budget,
        counters,
        ending: news.clone(),
        news,
        about,
        clock,
        tls: None,
        access,
        deriving: Arc::new(Semaphore::new(DERIVING_THREADS)),
    }
}

/// What is stored of principals; with authentication also what a first start has to make.
async fn principals(options: &Options, recovered: &Recovered) -> anyhow::Result<Guarded> {
    let stored = recovered.topics.get(&TopicId::NONE);
    let stored = stored.map(Vec::as_slice).unwrap_or_default();
    let directory = Directory::load(options.auth, stored);
    let any = beginning::any_stored(stored);
    let (reset, data) = (options.reset_admin, options.data.clone());
    let making = move || Beginning::of(directory, any, reset, &data);
    let begun = tokio::task::spawn_blocking(making)
        .await
        .context("making the first principal")??;
    if let Some(path) = begun.token {
        eprintln!(
            "logdrive: the token of the principal {ADMIN} is in {}",
            path.display()
        );
    }
    Ok(Principals::new(begun.directory, begun.rows))
}

/// One for each core but one, at least one; the first is this thread's own.
fn arbiters() -> Vec<ArbiterHandle> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let own = [Arbiter::current()];
    own.into_iter()
        .chain((2..cores).map(|_| Arbiter::new().handle()))
        .collect()
}

/// Raises the limit of open files as far as the system lets, and keeps connections below it: the
/// store must always be able to open its files.
fn allow_files(admission: &mut Admission) {
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
async fn accept(
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
                if speaks(&socket, entered, &around.counters).await {
                    let name = None;
                    let peer = Peer { address, name };
                    connection::serve(split_tcp(socket), peer, id, around).await;
                }
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

/// Reads certificates again after each SIGHUP, as long as the process lives.
#[cfg(unix)]
fn renew_on_hangup(renewal: tls::Renewal) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangups = signal(SignalKind::hangup())?;
    let renewal = Arc::new(renewal);
    actix::spawn(async move {
        while hangups.recv().await.is_some() {
            let again = renewal.clone();
            match tokio::task::spawn_blocking(move || again.renew()).await {
                Ok(Ok(())) => eprintln!("logdrive has read its certificates again"),
                Ok(Err(error)) => tracing::error!("the certificates stay as they were: {error:#}"),
                Err(error) => tracing::error!(%error, "reading certificates"),
            }
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn renew_on_hangup(_: tls::Renewal) -> anyhow::Result<()> {
    Ok(())
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

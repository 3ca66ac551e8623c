//! Starting, listening and stopping.
//!
//! Owns the order of things: the store first, then the broker, then the port; and back. Its
//! neighbours: the command line calls it, the [listener](crate::listener) takes connections for it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Arbiter, ArbiterHandle, System};
use anyhow::{Context, bail};
use logdrive_protocol::{NodeId, TopicId};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::access::Directory;
use crate::access::beginning::{self, ADMIN, Beginning};
use crate::broker::{About, Broker, Ground, Principals, state_number};
use crate::clock::Clock;
use crate::connection::{self, News};
use crate::counters::Counters;
use crate::limits::{Admission, DERIVING_THREADS, STOP_WAIT, connection_threads};
use crate::listener::{accept, allow_files};
use crate::net::TcpListener;
use crate::pool::Pool;
use crate::storage::disk::RealDisk;
use crate::storage::{self, Disk, Health, Recovered, Storage};
use crate::tls;
use crate::window::Budget;

/// How often the store's condition is looked at, to tell connections when it changes.
const CONDITION_INTERVAL: Duration = Duration::from_millis(500);
/// How long the first principal may take to be stored.
const BEGINNING_WAIT: Duration = Duration::from_secs(30);

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

/// One for each thread; the first is this thread's own.
fn arbiters() -> Vec<ArbiterHandle> {
    let own = [Arbiter::current()];
    own.into_iter()
        .chain((1..connection_threads()).map(|_| Arbiter::new().handle()))
        .collect()
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

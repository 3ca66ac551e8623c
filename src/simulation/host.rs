//! The host that the broker runs on: the server's own start-up over a simulated disk and network.
//!
//! Owns the disk, which outlives the broker. Its neighbours: [`server`](crate::server) starts the
//! broker, [`storage`](crate::storage) runs inline, [`run`](super::run) crashes it all.

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use turmoil::net::TcpListener;

use super::trace;
use crate::access::Directory;
use crate::broker::Ground;
use crate::broker::Principals;
use crate::clock::Clock;
use crate::connection::{self, News, Peer};
use crate::limits::Admission;
use crate::limits::STOP_WAIT;
use crate::net::split_duplex;
use crate::pool::Pool;
use crate::reply::ConnectionId;
use crate::server;
use crate::storage::disk::SimDisk;
use crate::storage::{Inline, Options};

/// The broker's name in the simulated network, and its port.
pub(super) const NAME: &str = "broker";
pub(super) const PORT: u16 = 7440;

thread_local! {
    /// In how many milliseconds a write is through, at most; now and then.
    static SLOWEST: Cell<u64> = const { Cell::new(0) };
}

/// The machine, whether it runs or not.
#[derive(Clone, Debug)]
pub(super) struct Machine(Rc<Parts>);

#[derive(Debug)]
struct Parts {
    disk: RefCell<SimDisk>,
    stop: watch::Sender<u64>,
    starts: Cell<u64>,
}

impl Machine {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rc::new(Parts {
            disk: RefCell::new(SimDisk::new(seed)),
            stop: watch::Sender::default(),
            starts: Cell::new(0),
        }))
    }

    pub(super) fn disk(&self) -> SimDisk {
        self.0.disk.borrow().clone()
    }

    /// What the disk is found as at the next start.
    pub(super) fn set_disk(&self, disk: SimDisk) {
        self.0.disk.replace(disk);
    }

    /// How often a broker came up.
    pub(super) fn starts(&self) -> u64 {
        self.0.starts.get()
    }

    /// Lets the broker stop as it does at a signal.
    pub(super) fn stop(&self) {
        self.0.stop.send_modify(|stops| *stops += 1);
    }

    /// The broker from its start to its end.
    pub(super) async fn serve(self) -> turmoil::Result {
        let disk = Arc::new(self.disk());
        let mut stop = self.0.stop.subscribe();
        // A disk that fails at the start is what a supervisor starts again after.
        let (store, recovered) = loop {
            match Inline::open(disk.clone(), options(), write_takes) {
                Ok(opened) => break opened,
                Err(error) => trace::note(&format!("cannot open: {error:?}"), 0, &[]),
            }
            sleep(Duration::from_millis(50)).await;
        };
        let storage = store.handle();
        let writing = tokio::task::spawn_local(store.run());
        let ground = Ground {
            disk,
            storage: storage.clone(),
            pool: Pool::inline(read_takes),
            clock: Clock::new(trace::wall),
            arbiters: Vec::new(),
        };
        let (tell, news) = watch::channel(News::default());
        let around = server::begin(
            format!("{NAME}:{PORT}"),
            Admission::default(),
            ground,
            recovered,
            Principals::new(Directory::default(), Vec::new()),
            news.clone(),
        );
        let watching =
            tokio::task::spawn_local(server::watch_condition(storage.health(), tell.clone()));
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
        self.0.starts.set(self.starts() + 1);
        trace::note("the broker is up", self.starts(), &[]);
        let mut connections = JoinSet::new();
        let mut told = Vec::new();
        tokio::select! {
            biased;
            stopped = stop.changed() => stopped?,
            never = accept(&listener, &around, news, &mut connections, &mut told) => never?,
        }
        drop(listener);
        watching.abort();
        drop(tell);
        for one in told.iter().flatten() {
            one.send_modify(|news: &mut News| news.going_away = true);
        }
        let all_gone = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(STOP_WAIT, all_gone).await;
        drop(around);
        Inline::close(&storage);
        writing.await?;
        trace::note("the broker has stopped", self.starts(), &[]);
        Ok(())
    }
}

/// Each connection's actor and writer hear news from channels of their own: a shared one wakes those
/// who wait for it in a random order, and no seed would give the same trace twice.
async fn accept(
    listener: &TcpListener,
    around: &connection::Surroundings,
    mut news: watch::Receiver<News>,
    connections: &mut JoinSet<()>,
    told: &mut Vec<[watch::Sender<News>; 2]>,
) -> std::io::Result<()> {
    let mut last = 0;
    loop {
        tokio::select! {
            biased;
            Ok(()) = news.changed() => {
                let now = *news.borrow_and_update();
                told.retain(|both| both.iter().filter(|it| it.send(now).is_ok()).count() > 0);
            }
            accepted = listener.accept() => {
                let (socket, from) = accepted?;
                let peer = Peer {
                    address: from.ip(),
                    name: None,
                };
                last += 1;
                let now = *news.borrow();
                let ((writer, news), (actor, ending)) = (watch::channel(now), watch::channel(now));
                told.push([writer, actor]);
                let around = connection::Surroundings { news, ending, ..around.clone() };
                let (halves, id) = (split_duplex(socket), ConnectionId(last));
                connections.spawn_local(async move {
                    let (ended, end) = oneshot::channel();
                    connection::serve(halves, peer, id, around, ended).await;
                    let _ = end.await;
                });
            }
        }
    }
}

/// From now on a write takes so many milliseconds at most.
pub(super) fn set_slowest_write(millis: u64) {
    SLOWEST.set(millis);
}

fn write_takes() -> Duration {
    let most = if fastrand::u8(..8) == 0 {
        SLOWEST.get()
    } else {
        2
    };
    Duration::from_millis(fastrand::u64(0..=most))
}

fn read_takes() -> Duration {
    Duration::from_millis(fastrand::u64(0..4))
}

/// Small enough that a short simulation rotates, merges and gives back.
fn options() -> Options {
    Options {
        segment_bytes: 24 << 10,
        chunk_bytes: 3 << 10,
        flush_bytes: 8 << 10,
        journal_bytes: 16 << 10,
        journal_flush_bytes: 1 << 10,
        active_cache_bytes: 256 << 10,
        sealed_cache_bytes: 64 << 10,
        carry_bytes: 8 << 10,
        low_space_bytes: 64 << 10,
        ballast_bytes: 0,
        ahead_segments: 0,
        dead_bytes: 16 << 10,
        expired_wait: Duration::from_secs(2),
        retry_first: Duration::from_millis(50),
        retry_longest: Duration::from_millis(400),
        ..Options::default()
    }
}

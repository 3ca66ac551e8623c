//! A server under comparison: a child process on a fresh directory and a free port.
//!
//! Owns the process and its files. Dropping a [`Server`] kills the one and removes the others,
//! however the comparison ends. What is sent to it is the business of the others.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::peer::Peer;
use crate::cli::bench::ground::blocking;
use crate::cli::bench::{footprint, machine};

/// How long a start may take; Redis reads its whole file before it is ready.
const START_LIMIT: Duration = Duration::from_mins(5);
/// How long a graceful stop may take.
const STOP_LIMIT: Duration = Duration::from_mins(1);
/// Between two questions whether a server is ready: also how exactly a restart is timed.
const ASK_AGAIN: Duration = Duration::from_millis(2);
/// Ports to choose from: below those that systems give to outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How many of them are tried.
const PORT_TRIES: usize = 100;

/// A server that runs, or was stopped.
pub(super) struct Server<'a, P> {
    peer: &'a P,
    port: u16,
    /// `None` while it is stopped.
    child: Option<Child>,
    // Dropped after the process.
    directory: TempDir,
}

impl<'a, P: Peer> Server<'a, P> {
    /// Starts one in a fresh directory below `ground`, and waits until it is ready.
    pub(super) async fn start(peer: &'a P, ground: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("compare-")
            .tempdir_in(ground)?;
        std::fs::create_dir(directory.path().join("data"))?;
        let port = (0..PORT_TRIES)
            .map(|_| fastrand::u16(PORTS))
            .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
            .ok_or_else(|| anyhow!("none of {PORT_TRIES} ports on 127.0.0.1 is free"))?;
        let mut server = Self {
            peer,
            port,
            child: None,
            directory,
        };
        server.start_again().await?;
        Ok(server)
    }

    /// Starts it where it was, and waits until it is ready.
    pub(super) async fn start_again(&mut self) -> Result<()> {
        self.spawn()?;
        self.until(async |peer, at| peer.idle(at).await).await?;
        Ok(())
    }

    /// Starts it where it was, without waiting until it is ready.
    pub(super) fn spawn(&mut self) -> Result<()> {
        let words = self.peer.command(&self.data(), self.port)?;
        let (program, arguments) = words.split_first().context("there is nothing to start")?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C on the terminal is for the comparison, which then ends the server itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        self.child = Some(child.with_context(|| format!("cannot start {}", program.display()))?);
        Ok(())
    }

    /// Asks again and again until there is an answer: what a client does whose server is starting.
    pub(super) async fn until<T>(
        &mut self,
        mut ask: impl AsyncFnMut(&P, SocketAddr) -> Result<T>,
    ) -> Result<T> {
        let begun = Instant::now();
        loop {
            let error = match ask(self.peer, self.at()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if let Some(status) = self
                .child
                .as_mut()
                .map(Child::try_wait)
                .transpose()?
                .flatten()
            {
                bail!("the server ended with {status}: {}", self.last_words());
            }
            if begun.elapsed() > START_LIMIT {
                return Err(error.context(format!("no answer in {} s", START_LIMIT.as_secs())));
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// The last line that it printed.
    fn last_words(&self) -> String {
        let log = std::fs::read(self.directory.path().join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        log.lines().last().unwrap_or("it said nothing").to_owned()
    }

    fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    /// Where it listens.
    pub(super) fn at(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// What speaks to it.
    pub(super) fn peer(&self) -> &'a P {
        self.peer
    }

    /// Waits until it has done what it had put off.
    pub(super) async fn settle(&self) {
        if let Some(id) = self.child.as_ref().and_then(Child::id) {
            machine::settle(id).await;
        }
    }

    /// Memory that it has now, in bytes.
    pub(super) fn resident(&self) -> Result<u64> {
        let id = self.child.as_ref().and_then(Child::id);
        let bytes = id.and_then(machine::resident);
        bytes.context("the system does not say what memory the server has")
    }

    /// Kills it with SIGKILL.
    pub(super) async fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the server is not running")?;
        child.kill().await.context("cannot kill the server")
    }

    /// Stops it as an operator would.
    pub(super) async fn stop(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the server is not running")?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        kill_process(id.context("the server ended by itself")?, Signal::TERM)?;
        let stopped = timeout(STOP_LIMIT, child.wait()).await;
        stopped.context("the server does not stop")??;
        Ok(())
    }

    /// What its files take up, once it is stopped.
    pub(super) async fn disk_bytes(&self) -> Result<u64> {
        let data = self.data();
        blocking(move |_| {
            // Blocks are given to a file only when its pages are written.
            machine::drop_cached_below(&data)?;
            footprint::on_disk(&data)
        })
        .await
    }
}

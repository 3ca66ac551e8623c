//! A broker in a child process, which commands start, kill and start again.
//!
//! Owns the process, and ends it by its handle alone, also when its command is given up or panics:
//! dropping a [`Broker`] kills it and returns when it is gone. Everything that the broker says on
//! stderr goes to `broker.log` beside its data. What it is started for is known to
//! [`demo`](super::demo) and [`bench`](super::bench).

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// What the broker says first when it is ready.
const READY: &str = "logdrive listening on ";
/// How long it may take until then.
const START_LIMIT: Duration = Duration::from_secs(45);
/// How long a graceful stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Ports to choose from: below those that systems give to outgoing connections, so that nobody
/// takes the port, and no client connects to itself, while the broker is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How many of them are tried.
const PORT_TRIES: usize = 100;

/// Where a broker runs; the same for every start.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The program.
    program: PathBuf,
    /// Its data, and its `broker.log`.
    directory: PathBuf,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// More arguments of `logdrive serve`.
    arguments: Vec<OsString>,
}

/// A running broker.
#[derive(Debug)]
pub(crate) struct Broker(Child);

impl Place {
    /// This program, on a port that is free now.
    pub(crate) fn new(directory: &Path, arguments: &[OsString]) -> anyhow::Result<Self> {
        let port = (0..PORT_TRIES)
            .map(|_| fastrand::u16(PORTS))
            .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
            .ok_or_else(|| anyhow!("none of {PORT_TRIES} ports on 127.0.0.1 is free"))?;
        Ok(Self {
            program: std::env::current_exe().context("cannot find the program's own file")?,
            directory: directory.to_owned(),
            address: (Ipv4Addr::LOCALHOST, port).into(),
            arguments: arguments.to_vec(),
        })
    }

    /// Where its data is.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Starts a broker and waits until it says that it is ready.
    pub(crate) async fn start(&self) -> anyhow::Result<Broker> {
        let log = self.directory.join("broker.log");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = Command::new(&self.program)
            .arg("serve")
            .arg("--data")
            .arg(self.data())
            .arg("--listen")
            .arg(self.address.to_string())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C on the terminal is for the command, which then ends the broker itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let stderr = child.stderr.take();
        let broker = Broker(child);
        let (ready, said) = oneshot::channel();
        tokio::spawn(keep(
            stderr.context("the broker has no stderr")?,
            log,
            ready,
        ));
        match timeout(START_LIMIT, said).await {
            Ok(Ok(())) => Ok(broker),
            Ok(Err(_)) => bail!(
                "the broker ended before it was ready: {}",
                self.last_words()
            ),
            Err(_) => bail!("the broker was not ready in {} s", START_LIMIT.as_secs()),
        }
    }

    /// The last line of `broker.log`.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.directory.join("broker.log")).unwrap_or_default();
        log.lines().last().unwrap_or("it said nothing").to_owned()
    }
}

/// Copies what the broker says to its log, and says when it is ready.
async fn keep(stderr: ChildStderr, mut log: File, ready: oneshot::Sender<()>) {
    let mut ready = Some(ready);
    let mut lines = BufReader::new(stderr).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        // Should the disk be full, the broker's pipe must be emptied anyway.
        let _ = log.write_all(&[&line[..], b"\n"].concat());
        if line.starts_with(READY.as_bytes())
            && let Some(ready) = ready.take()
        {
            // Nobody waits any more when the demo was given up.
            let _ = ready.send(());
        }
    }
}

impl Broker {
    /// Its process, as long as it was not seen to end.
    pub(crate) fn id(&self) -> Option<u32> {
        self.0.id()
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.0.try_wait()? {
            bail!("the broker ended by itself: {status}");
        }
        self.0.kill().await.context("cannot kill the broker")
    }

    /// Stops it with SIGTERM, as an operator would; one that does not stop is killed.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let id = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let id = id.ok_or_else(|| anyhow!("the broker ended by itself"))?;
        kill_process(id, Signal::TERM).context("cannot stop the broker")?;
        match timeout(STOP_LIMIT, self.0.wait()).await {
            Ok(status) => match status? {
                status if status.success() => Ok(()),
                status => bail!("the broker was asked to stop and ended with {status}"),
            },
            Err(_) => bail!("the broker did not stop within {} s", STOP_LIMIT.as_secs()),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let Some(id) = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed())) else {
            return;
        };
        // Whoever comes next removes its directory: nothing may be written there any more. The
        // process stays a zombie for the runtime to collect.
        if self.0.start_kill().is_ok() {
            let _ = waitid(
                WaitId::Pid(id),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            );
        }
    }
}

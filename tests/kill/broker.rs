//! The broker on trial: a child process that is started, killed and started again where it was.
//!
//! Owns the process, its directory and its port, and ends the process by its handle alone. When a
//! test fails, the directory with the data and `broker.log` is kept, and its path is printed.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::PATIENCE;

/// Its data, in its directory.
const DATA: &str = "data";
/// What the broker says first when it is ready.
const READY: &str = "logdrive listening on ";
/// Ports to choose from: below those that systems give to outgoing connections, so that no client
/// connects to itself, and nobody takes the port, while the broker is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A broker that runs, starts, or was killed and not started again yet.
pub(crate) struct Broker {
    child: Child,
    /// Gets a word when the broker is ready; ends with the broker.
    ready: Receiver<()>,
    /// Where it listens, every time.
    pub(crate) address: SocketAddr,
    directory: Option<TempDir>,
}

impl Broker {
    /// Starts one on an empty directory and waits until it is ready.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let port = std::iter::repeat_with(|| fastrand::u16(PORTS)).find(free);
        let address = (Ipv4Addr::LOCALHOST, port.unwrap()).into();
        let (child, ready) = spawn(directory.path(), address);
        let broker = Self {
            child,
            ready,
            address,
            directory: Some(directory),
        };
        broker.is_ready();
        broker
    }

    /// Waits until it is ready.
    pub(crate) fn is_ready(&self) {
        let ready = self.ready.recv_timeout(PATIENCE).is_ok();
        assert!(ready, "the broker did not start: {}", self.last_words());
    }

    /// Kills it with SIGKILL, ready or not.
    pub(crate) fn kill(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!(
                "the broker ended by itself, {status}: {}",
                self.last_words()
            );
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets it stand still.
    pub(crate) fn suspend(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    /// Lets it run on.
    pub(crate) fn resume(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    /// Stops it with SIGTERM, as an operator would, and waits until it is gone.
    pub(crate) fn stop(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.last_words());
    }

    /// Starts it again, and does not wait until it is ready.
    pub(crate) fn start_again(&mut self) {
        (self.child, self.ready) = spawn(self.directory(), self.address);
    }

    /// Its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Where its data is.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory().join(DATA)
    }

    fn directory(&self) -> &Path {
        self.directory.as_ref().unwrap().path()
    }

    /// The last line of `broker.log`.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.directory().join("broker.log"));
        let log = log.unwrap_or_default();
        log.lines().last().unwrap_or("it said nothing").to_owned()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking()
            && let Some(directory) = self.directory.take()
        {
            eprintln!("kept: {}", directory.keep().display());
        }
    }
}

fn spawn(directory: &Path, address: SocketAddr) -> (Child, Receiver<()>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_logdrive"))
        .arg("serve")
        .arg("--data")
        .arg(directory.join(DATA))
        .arg("--listen")
        .arg(address.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = child.stderr.take().unwrap();
    let log = directory.join("broker.log");
    let (tell, ready) = mpsc::channel();
    std::thread::spawn(move || keep(stderr, &log, &tell));
    (child, ready)
}

/// Copies what the broker says to its log, to the end, and says when it is ready.
fn keep(stderr: ChildStderr, log: &Path, ready: &mpsc::Sender<()>) {
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .unwrap();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if line.starts_with(READY) {
            // One that is killed before it is ready is not waited for.
            let _ = ready.send(());
        }
        writeln!(log, "{line}").unwrap();
    }
}

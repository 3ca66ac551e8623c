//! A broker of a test's own: a child process on a directory of its own.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Connection, PATIENCE, Text};

/// A running broker; it is killed when this is dropped.
pub(crate) struct Broker {
    process: Process,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    data: Option<TempDir>,
}

/// The child, and what it says on stderr.
/// No further arguments.
const NONE: &[&str] = &[];

struct Process {
    child: Child,
    talk: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts a broker on a directory, with more arguments and variables of its environment, in a
    /// shell that has done `first`; the receiver gets the address when it is ready.
    fn start(
        data: &Path,
        first: &str,
        arguments: &[impl AsRef<OsStr>],
        variables: &[(&str, &str)],
    ) -> (Self, Receiver<SocketAddr>) {
        let listens = arguments.iter().any(|it| it.as_ref() == "--listen");
        let address = if listens {
            &[][..]
        } else {
            &["--listen", "127.0.0.1:0"]
        };
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("{first} exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_logdrive"))
            .args(["serve", "--data"])
            .arg(data)
            .args(address)
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (ready, address) = mpsc::channel();
        let stderr = child.stderr.take().unwrap();
        let talk = std::thread::spawn(move || listen(stderr, &ready));
        let talk = Some(talk);
        (Self { child, talk }, address)
    }

    /// Waits for its end; how it ended, and all it has said.
    fn ended(&mut self) -> (ExitStatus, String) {
        let said = self.talk.take().unwrap().join().unwrap();
        // A panic ends one actor, not the process: only this shows it.
        assert!(!said.contains("panicked"), "{said}");
        (self.child.wait().unwrap(), said)
    }
}

/// Whatever a test has done with a broker, nothing is wrong with what it has stored.
fn check_whole(data: &Path) {
    let out = Command::new(env!("CARGO_BIN_EXE_logdrive"))
        .arg("verify")
        .arg(data)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    let also = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{said}{also}");
}

/// Reads to the end, so that the broker can always go on talking.
fn listen(stderr: ChildStderr, ready: &mpsc::Sender<SocketAddr>) -> String {
    let mut said = String::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if let Some(address) = line.strip_prefix("logdrive listening on ") {
            // Nobody waits for it where a start is expected to be refused.
            let _ = ready.send(address.parse().unwrap());
        }
        said.push_str(&line);
        said.push('\n');
    }
    said
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed then.
        let _ = self.child.kill();
        if self.talk.is_some() && !std::thread::panicking() {
            self.ended();
        }
        let _ = self.child.wait();
    }
}

impl Broker {
    /// Starts on a fresh directory and waits until it is ready.
    pub(crate) fn start() -> Self {
        Self::start_on(tempfile::tempdir().unwrap())
    }

    /// Starts with further arguments.
    pub(crate) fn start_with(data: TempDir, arguments: &[impl AsRef<OsStr>]) -> Self {
        Self::start_told(data, arguments, &[])
    }

    /// Starts on a directory and waits until it is ready.
    pub(crate) fn start_on(data: TempDir) -> Self {
        Self::start_told(data, NONE, &[])
    }

    /// Starts on a fresh directory, in a shell that has done this first.
    pub(crate) fn start_after(first: &str) -> Self {
        Self::start_so(tempfile::tempdir().unwrap(), first, NONE, &[])
    }

    /// Starts with further arguments, and variables of its environment.
    pub(crate) fn start_told(
        data: TempDir,
        arguments: &[impl AsRef<OsStr>],
        variables: &[(&str, &str)],
    ) -> Self {
        Self::start_so(data, "", arguments, variables)
    }

    fn start_so(
        data: TempDir,
        first: &str,
        arguments: &[impl AsRef<OsStr>],
        variables: &[(&str, &str)],
    ) -> Self {
        let mut started = Self::begin(data.path(), first, arguments, variables);
        started.data = Some(data);
        started
    }

    /// Starts on a directory that is somebody else's, with further arguments, and waits until it is
    /// ready.
    pub(crate) fn start_in(data: &Path, arguments: &[impl AsRef<OsStr>]) -> Self {
        Self::begin(data, "", arguments, &[])
    }

    fn begin(
        data: &Path,
        first: &str,
        arguments: &[impl AsRef<OsStr>],
        variables: &[(&str, &str)],
    ) -> Self {
        let (mut process, address) = Process::start(data, first, arguments, variables);
        let Ok(address) = address.recv_timeout(PATIENCE) else {
            let _ = process.child.kill();
            panic!("the broker did not start: {}", process.ended().1);
        };
        Self {
            process,
            address,
            data: None,
        }
    }

    /// Starts on a directory where it must refuse to; what it says. The exit code is that of a
    /// failure.
    pub(crate) fn refusal(data: &Path) -> String {
        Self::refusal_with(data, NONE)
    }

    /// The same with further arguments.
    pub(crate) fn refusal_with(data: &Path, arguments: &[impl AsRef<OsStr>]) -> String {
        let (mut process, address) = Process::start(data, "", arguments, &[]);
        // The sender is dropped when stderr ends.
        if let Ok(address) = address.recv_timeout(PATIENCE) {
            panic!("it started, at {address}");
        }
        let (status, said) = process.ended();
        assert_eq!(status.code(), Some(1), "{said}");
        said
    }

    /// The directory.
    pub(crate) fn data(&self) -> &Path {
        self.data.as_ref().unwrap().path()
    }

    /// The process's id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Kills it with SIGKILL; the directory is somebody else's.
    pub(crate) fn kill_in_place(mut self) {
        self.process.child.kill().unwrap();
        self.process.ended();
    }

    /// Kills it with SIGKILL; the directory as it was then.
    pub(crate) fn kill(mut self) -> TempDir {
        self.process.child.kill().unwrap();
        self.process.ended();
        check_whole(self.data());
        self.data.take().unwrap()
    }

    /// Kills it with SIGKILL and starts another one on the same directory.
    pub(crate) fn killed_and_restarted(self) -> Self {
        Self::start_on(self.kill())
    }

    /// Asks it to stop, with SIGTERM.
    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.process.child), Signal::TERM).unwrap();
    }

    /// Sends it SIGHUP.
    pub(crate) fn hang_up(&self) {
        kill_process(Pid::from_child(&self.process.child), Signal::HUP).unwrap();
    }

    /// Waits until it has stopped by itself, without a fault; all that it has said.
    pub(crate) fn stopped(mut self) -> (TempDir, String) {
        let (status, said) = self.process.ended();
        assert!(status.success(), "{status}: {said}");
        check_whole(self.data());
        (self.data.take().unwrap(), said)
    }

    /// A new connection that speaks frames.
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// A new connection that types.
    pub(crate) fn text(&self) -> Text {
        Text::open(self.address)
    }

    /// Memory that it holds now, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most memory that it ever held, in bytes.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Bytes that it has sent to the disk since its start.
    pub(crate) fn written_bytes(&self) -> u64 {
        let file = format!("/proc/{}/io", self.pid());
        let text = std::fs::read_to_string(file).unwrap();
        let line = text.lines().find_map(|it| it.strip_prefix("write_bytes: "));
        line.unwrap().parse().unwrap()
    }

    /// Files that it has open, sockets among them.
    pub(crate) fn open_files(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid()));
        files.unwrap().count()
    }

    fn memory(&self, which: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(which));
        let kib: u64 = line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kib * 1024
    }
}

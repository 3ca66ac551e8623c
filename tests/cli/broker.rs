//! A broker in a child process for one test, and running the program against it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A running broker; ended by its handle when dropped.
pub(crate) struct Broker {
    child: Child,
    /// Where it listens.
    pub(crate) address: String,
    directory: TempDir,
}

/// The program with arguments, and no server of the caller's environment.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logdrive"));
    command
        .args(arguments)
        .env_remove("LOGDRIVE_SERVER")
        .stdin(Stdio::null());
    command
}

/// What a program printed.
pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Sends a signal to a program that a test has started.
pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

impl Broker {
    /// Starts one on an empty directory.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (child, address) = spawn(&directory, "127.0.0.1:0");
        Self {
            child,
            address,
            directory,
        }
    }

    /// Starts it again where it was.
    pub(crate) fn restart(&mut self) {
        let (child, address) = spawn(&self.directory, &self.address);
        (self.child, self.address) = (child, address);
    }

    /// Asks it to stop, and waits.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        signal(&self.child, Signal::TERM);
        self.child.wait().unwrap()
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> String {
        path(&self.directory, "data")
    }

    /// Writes a file beside its data and gives the path.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> String {
        let path = path(&self.directory, name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A command against it, to be started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(arguments);
        command
            .env("LOGDRIVE_SERVER", &self.address)
            .stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program against it to its end.
    pub(crate) fn run(&self, arguments: &[&str], stdin: &[u8]) -> Output {
        let mut child = self.command(arguments).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let stdin = stdin.to_vec();
        // A program that does not read its stdin may be gone before all of it is written.
        let feeder = std::thread::spawn(move || input.write_all(&stdin));
        let output = child.wait_with_output().unwrap();
        let _ = feeder.join().unwrap();
        output
    }

    /// Runs the program and compares exit code and stdout.
    #[track_caller]
    pub(crate) fn check(&self, arguments: &[&str], stdin: &[u8], exit: i32, stdout: &str) {
        let output = self.run(arguments, stdin);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{arguments:?} {said}");
        let got = text(&output.stdout);
        assert!(
            got == stdout,
            "{arguments:?} printed {got:.1000}, not {stdout:.1000}; {said}"
        );
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // One that was stopped is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn path(directory: &TempDir, name: &str) -> String {
    directory.path().join(name).to_str().unwrap().to_owned()
}

fn spawn(directory: &TempDir, listen: &str) -> (Child, String) {
    let mut child = program(&[
        "serve",
        "--listen",
        listen,
        "--data",
        &path(directory, "data"),
    ])
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| {
            line.strip_prefix("logdrive listening on ")
                .map(str::to_owned)
        })
        .expect("the broker ended before it was ready");
    // Its pipe must not fill up.
    std::thread::spawn(move || lines.for_each(drop));
    (child, address)
}

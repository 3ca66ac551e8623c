//! The machine and the processes on it: what they are, what they use, and which limits they have.
//!
//! Owns the reading of `/proc`, the limit of open files, and dropping files from the page cache.
//! Where the system does not tell, the answer is `None` and no figure is made of it.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::fs::{Advice, fadvise};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

/// A process that takes no CPU time for so long has nothing left to do.
const SETTLE_STEP: Duration = Duration::from_millis(300);
/// How long to wait for that at most.
const SETTLE_MOST: Duration = Duration::from_secs(30);

/// What figures depend on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    memory_bytes: Option<u64>,
    filesystem: String,
}

impl Machine {
    /// This one, with the file system of `data`.
    pub(crate) fn of(data: &Path) -> Self {
        let system = rustix::system::uname();
        let [name, release] = [system.sysname(), system.release()].map(|it| it.to_string_lossy());
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: first_line("/proc/cpuinfo", "model name").unwrap_or_default(),
            kernel: format!("{name} {release}"),
            memory_bytes: first_line("/proc/meminfo", "MemTotal").and_then(|it| kib(&it)),
            filesystem: filesystem(data).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cores", self.cores)?;
        if let Some(bytes) = self.memory_bytes {
            write!(f, ", {} GiB", bytes.div_ceil(1 << 30))?;
        }
        for text in [&self.processor, &self.kernel, &self.filesystem] {
            if !text.is_empty() {
                write!(f, ", {text}")?;
            }
        }
        Ok(())
    }
}

/// The value of the first line `name: value` of a file.
fn first_line(file: impl AsRef<Path>, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    value_of(&text, name).map(str::to_owned)
}

fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// `1234 kB`, in bytes.
fn kib(text: &str) -> Option<u64> {
    let number: u64 = text.strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1 << 10)
}

/// The kind of the file system that a path is on: that of the longest mount point before it.
fn filesystem(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((Path::new(words.next()?), words.next()?))
    });
    let under = mounts.filter(|(point, _)| path.starts_with(point));
    let (_, kind) = under.max_by_key(|(point, _)| point.as_os_str().len())?;
    Some(kind.to_owned())
}

/// What a process has used: CPU time since its start.
pub(crate) fn cpu(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = cpu_ticks(&stat)?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs(ticks) / u32::try_from(per_second).ok()?.max(1))
}

/// Waits until a process has done what it had put off, as far as its CPU time tells.
pub(crate) async fn settle(pid: u32) {
    let begun = Instant::now();
    let mut used = cpu(pid);
    while begun.elapsed() < SETTLE_MOST {
        tokio::time::sleep(SETTLE_STEP).await;
        let now = cpu(pid);
        if now == used {
            return;
        }
        used = now;
    }
}

/// User and system time of a line of `/proc/PID/stat`; the name in parentheses may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    // From the state, which is the third field, to utime and stime, the fourteenth and fifteenth.
    let mut fields = fields.split_whitespace().skip(11);
    let [user, system] = [fields.next()?, fields.next()?];
    Some(user.parse::<u64>().ok()? + system.parse::<u64>().ok()?)
}

/// What a process has of memory now, in bytes.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    kib(&first_line(format!("/proc/{pid}/status"), "VmRSS")?)
}

/// Files that a process has open, sockets among them.
pub(crate) fn open_files(pid: u32) -> Option<usize> {
    Some(std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// The most that it had, in bytes, since its start or since [`forget_peak`].
fn peak(pid: u32) -> Option<u64> {
    kib(&first_line(format!("/proc/{pid}/status"), "VmHWM")?)
}

/// Lets a process's peak begin again; where that is not allowed it goes on from its start.
fn forget_peak(pid: u32) {
    let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// What one process took for a piece of work.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Usage {
    cpu_seconds: f64,
    /// The same for a million records, where records were counted.
    cpu_seconds_per_million: Option<f64>,
    peak_bytes: u64,
}

/// What both sides took.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Costs {
    /// Of a broker whose process is known.
    pub(crate) broker: Option<Usage>,
    pub(crate) load: Option<Usage>,
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (name, usage) in [("broker", self.broker), ("load", self.load)] {
            let Some(usage) = usage else { continue };
            write!(f, "{between}{name}")?;
            if let Some(seconds) = usage.cpu_seconds_per_million {
                write!(f, " {seconds:.2} s")?;
            }
            write!(f, " {} MB", usage.peak_bytes / 1_000_000)?;
            between = ", ";
        }
        Ok(())
    }
}

/// Measures what broker and load generator take, from its making on.
pub(crate) struct Meter {
    /// Processes with their CPU time at the start: the broker's, if it is known, and this one.
    broker: Option<(u32, Duration)>,
    load: Option<(u32, Duration)>,
}

impl Meter {
    /// Begins now.
    pub(crate) fn begin(broker: Option<u32>) -> Self {
        let begin = |pid| {
            forget_peak(pid);
            Some((pid, cpu(pid)?))
        };
        Self {
            broker: broker.and_then(begin),
            load: begin(std::process::id()),
        }
    }

    /// What was taken until now, for so many records; 0 where records are not what was done.
    pub(crate) fn costs(&self, records: u64) -> Costs {
        let usage = |begun: Option<(u32, Duration)>| {
            let (pid, before) = begun?;
            let cpu_seconds = cpu(pid)?.checked_sub(before)?.as_secs_f64();
            Some(Usage {
                cpu_seconds,
                cpu_seconds_per_million: (records > 0).then(|| cpu_seconds * 1e6 / records as f64),
                peak_bytes: peak(pid)?,
            })
        };
        Costs {
            broker: usage(self.broker),
            load: usage(self.load),
        }
    }
}

/// Allows this process, and those that it starts, as many open files as the system lets it have.
///
/// # Errors
/// If fewer than `needed` are allowed.
pub(crate) fn allow_files(needed: u64) -> anyhow::Result<()> {
    let now = getrlimit(Resource::Nofile);
    let most = now.maximum.unwrap_or(u64::MAX);
    if now.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    anyhow::ensure!(
        most >= needed,
        "{needed} open files are needed and {most} are allowed: raise the hard limit (ulimit -Hn)"
    );
    let raised = Rlimit {
        current: Some(needed),
        maximum: now.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")
}

/// Drops a file's pages from the cache; they must be on the disk already.
pub(crate) fn drop_cached(file: &File) -> anyhow::Result<()> {
    file.sync_all()?;
    fadvise(file, 0, None, Advice::DontNeed).context("cannot drop a file from the page cache")
}

/// Likewise for all files of a directory and below.
pub(crate) fn drop_cached_below(directory: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            drop_cached_below(&entry.path())?;
        } else {
            drop_cached(&File::open(entry.path())?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_name_with_spaces_and_parentheses() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 100";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn memory_is_read_from_lines_in_kib() {
        let status = "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t     1 kB\n";
        assert_eq!(value_of(status, "VmHWM").and_then(kib), Some(2 << 20));
        assert_eq!(value_of(status, "VmRSS").and_then(kib), Some(1 << 10));
        assert_eq!(value_of(status, "VmPeak").and_then(kib), None);
        assert_eq!(kib("x kB"), None);
    }

    #[test]
    fn this_process_uses_something_and_stands_on_a_file_system() {
        let id = std::process::id();
        assert!(resident(id).is_some_and(|bytes| bytes > 0));
        assert!(cpu(id).is_some());
        let costs = Meter::begin(Some(id)).costs(0);
        assert!(costs.broker.is_some() && costs.load.is_some());
        let machine = Machine::of(Path::new("."));
        assert!(!machine.filesystem.is_empty() && machine.memory_bytes.is_some());
    }
}

//! What the storage costs over a bare file: single flushes, many in flight, reads, rotation.
//!
//! `cargo bench --bench storage [-- DIR]` works in a temporary directory, in DIR if one is named:
//! the disk under it is what is measured. Each figure stands beside the raw one of the same minute.

#![expect(
    clippy::cast_precision_loss,
    reason = "figures are printed with few digits"
)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use logdrive::storage::disk::RealDisk;
use logdrive::storage::{
    Announce, Appended, At, Job, JobKind, Notice, Options, Row, Storage, Totals,
};
use logdrive_protocol::TopicId;
use logdrive_protocol::batch::{BatchBuilder, Head, NewRecord, Origin, Place, next_digest, place};

const MIB: usize = 1 << 20;
const SMALL_FLUSHES: usize = 1_000;
const LARGE_FLUSHES: usize = 50;
const LARGE_TOTAL: usize = 1 << 30;
const IN_FLIGHT: usize = 16;
/// Topics that share a segment.
const SPREAD_TOPICS: u64 = 256;
/// What an unclean start finds.
const STORED: usize = 2 << 30;
/// Names, to a child process, the directory that it fills before it aborts.
const FILL: &str = "LOGDRIVE_BENCH_FILL";

fn main() -> Result<()> {
    if let Some(directory) = std::env::var_os(FILL) {
        return fill_and_abort(Path::new(&directory));
    }
    // Cargo hands flags of its own to a bench.
    let base = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"));
    let base = base.map_or_else(std::env::temp_dir, Into::into);
    let directory = tempfile::tempdir_in(base)?;
    flushes(directory.path())?;
    large_commits(directory.path())?;
    spread_commits(directory.path())?;
    rotation(directory.path())?;
    unclean_start(&directory.path().join("unclean"))
}

/// The storage, one topic, and what it says.
struct Bench {
    storage: Storage,
    topic: Topic,
    sender: Sender<Notice>,
    notices: Receiver<Notice>,
}

/// Makes a topic's batches, as its owner would.
struct Topic {
    id: TopicId,
    next: u64,
    totals: Totals,
    digest: u64,
    ticket: u64,
}

impl Topic {
    fn new(id: u64) -> Self {
        Self {
            id: TopicId(id),
            next: 0,
            totals: Totals::default(),
            digest: 0,
            ticket: 0,
        }
    }

    fn batch(&mut self, records: usize, value: &[u8]) -> Result<Appended> {
        let mut builder = BatchBuilder::with_capacity(records * (value.len() + 16));
        for _ in 0..records {
            builder.push(&NewRecord {
                timestamp: self.next,
                value,
                ..NewRecord::default()
            });
        }
        let mut bytes = builder.finish(Origin::default());
        let (topic, base_offset) = (self.id, self.next);
        place(
            &mut bytes,
            Place {
                topic,
                base_offset,
                append_time: self.next,
                leader_epoch: 0,
            },
        );
        let head = Head::parse(&bytes).context("a batch has a head")?;
        let appended = Appended {
            bytes: bytes.freeze(),
            totals: self.totals,
            digest: next_digest(self.digest, &head),
        };
        self.next = head.end_offset();
        self.totals.records += u64::from(head.count);
        self.totals.bytes += u64::from(head.content_bytes);
        self.digest = appended.digest;
        Ok(appended)
    }

    fn job(&mut self, batches: Vec<Appended>, sender: &Sender<Notice>) -> Job {
        self.ticket += 1;
        let mut key = self.id.0.to_be_bytes().to_vec();
        key.push(1);
        let sender = sender.clone();
        Job {
            topic: self.id,
            generation: 1,
            ticket: self.ticket,
            batches,
            rows: vec![Row {
                key,
                value: Some(vec![7; 64]),
            }],
            // Nobody listens any more once the bench has failed.
            announce: Announce::new(move |notice| drop(sender.send(notice))),
            kind: JobKind::Change,
        }
    }
}

impl Bench {
    fn open(directory: &Path, options: Options) -> Result<Self> {
        let disk = Arc::new(RealDisk::open(directory)?);
        let (storage, _) = Storage::open(disk, options)?;
        let (sender, notices) = mpsc::channel();
        Ok(Self {
            storage,
            topic: Topic::new(1),
            sender,
            notices,
        })
    }

    fn submit(&mut self, batches: Vec<Appended>) {
        let job = self.topic.job(batches, &self.sender);
        self.storage.submit(job);
    }

    /// Waits until a ticket is durable.
    fn committed(&self) -> Result<u64> {
        match self.notices.recv()? {
            Notice::Committed { ticket, .. } => Ok(ticket),
            other => bail!("a commit failed: {other:?}"),
        }
    }
}

fn percentile(times: &mut [Duration], share: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * share / 100]
}

/// One flush after another with a state row in each, against the same bytes appended and synced, in
/// turns: one small record, 64 of them in batches of their own, and eight batches of 1 MiB.
fn flushes(directory: &Path) -> Result<()> {
    let small: &[u8] = &[b'x'; 100];
    for (name, batches, records, value, flushes) in [
        ("1 x 100 bytes", 1, 1, small, SMALL_FLUSHES),
        ("64 x 100 bytes", 64, 1, small, SMALL_FLUSHES),
        ("8 x 1 MiB", 8, MIB / 210 - 1, &[b'x'; 200], LARGE_FLUSHES),
    ] {
        let directory = directory.join(name);
        let mut bench = Bench::open(&directory, Options::default())?;
        let mut raw = File::create(directory.with_extension("raw"))?;
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..flushes {
            let batches = (0..batches)
                .map(|_| bench.topic.batch(records, value))
                .collect::<Result<Vec<_>>>()?;
            let bytes: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
            let block = vec![1; bytes.next_multiple_of(4096)];
            let begin = Instant::now();
            raw.write_all(&block)?;
            raw.sync_data()?;
            bare.push(begin.elapsed());
            // One job is in one flush, whatever the storage thread is doing meanwhile.
            let begin = Instant::now();
            bench.submit(batches);
            bench.committed()?;
            ours.push(begin.elapsed());
        }
        for share in [50, 99] {
            println!(
                "flush of {name:<15} p{share} {:>9.0?}   raw append + fdatasync {:>9.0?}",
                percentile(&mut ours, share),
                percentile(&mut bare, share)
            );
        }
        bench.storage.close();
    }
    Ok(())
}

/// Batches of 1 MiB with some in flight, then all of them read again.
fn large_commits(directory: &Path) -> Result<()> {
    let value = vec![b'x'; 200];
    let jobs = LARGE_TOTAL / MIB;
    let raw = raw_append(&directory.join("raw-large"))?;
    let mut bench = Bench::open(&directory.join("large"), Options::default())?;
    let payload = MIB - 1024;
    let records = payload / 210;
    let mut committed = 0;
    let mut spent = Duration::ZERO;
    let mut bytes = 0;
    for ticket in 1..=jobs as u64 {
        let batch = bench.topic.batch(records, &value)?;
        bytes += batch.bytes.len();
        let begin = Instant::now();
        bench.submit(vec![batch]);
        while ticket - committed >= IN_FLIGHT as u64 {
            committed = bench.committed()?;
        }
        spent += begin.elapsed();
    }
    let begin = Instant::now();
    while committed < jobs as u64 {
        committed = bench.committed()?;
    }
    spent += begin.elapsed();
    println!(
        "1 MiB jobs, {IN_FLIGHT} in flight   {:>6.0} MB/s   raw append + fdatasync of 8 MiB {raw:>6.0} MB/s",
        rate(bytes, spent)
    );
    let files = std::fs::read_dir(directory.join("large"))?;
    let stored: u64 = files
        .filter_map(|f| f.ok()?.metadata().ok())
        .map(|m| m.len())
        .sum();
    let ballast = Options::default().ballast_bytes;
    println!(
        "files per payload byte   {:.3}",
        (stored - ballast) as f64 / bytes as f64
    );

    let reader = bench.storage.reader();
    let (begin, end) = (Instant::now(), bench.topic.next);
    let (mut next, mut read) = (0, 0);
    while next < end {
        let batches = reader.read(bench.topic.id, next, end, 4 * MIB)?.batches;
        let last = batches
            .last()
            .and_then(|b| Head::parse(b))
            .context("nothing was read")?;
        read += batches.iter().map(Bytes::len).sum::<usize>();
        next = last.end_offset();
    }
    println!(
        "reading it, checked   {:>6.0} MB/s",
        rate(read, begin.elapsed())
    );
    let begin = Instant::now();
    let searches = 100;
    for i in 0..searches {
        reader.locate(bench.topic.id, At::Time(end * i / searches), end)?;
    }
    println!(
        "finding a time   {:.0?} each",
        begin.elapsed() / u32::try_from(searches)?
    );
    bench.storage.close();

    let disk = Arc::new(RealDisk::open(&directory.join("large"))?);
    let begin = Instant::now();
    let (storage, _) = Storage::open(disk, Options::default())?;
    println!("opening it after a clean end   {:.0?}", begin.elapsed());
    storage.close();
    Ok(())
}

/// Batches of 1 MiB to four of many topics at a time, each of which has a small record already.
fn spread_commits(directory: &Path) -> Result<()> {
    let directory = directory.join("spread");
    let bench = Bench::open(&directory, Options::default())?;
    let mut topics: Vec<Topic> = (1..=SPREAD_TOPICS).map(Topic::new).collect();
    for topic in &mut topics {
        let batch = topic.batch(1, b"a record")?;
        bench.storage.submit(topic.job(vec![batch], &bench.sender));
        bench.committed()?;
    }
    let (value, records) = (vec![b'x'; 200], (MIB - 1024) / 210);
    let (mut bytes, mut spent) = (0, Duration::ZERO);
    for group in 0..LARGE_TOTAL / MIB / 4 {
        let mut jobs = Vec::new();
        for number in 0..4 {
            let number = (group * 37 + number * 64) % topics.len();
            let topic = &mut topics[number];
            let batch = topic.batch(records, &value)?;
            bytes += batch.bytes.len();
            jobs.push(topic.job(vec![batch], &bench.sender));
        }
        let begin = Instant::now();
        let count = jobs.len();
        for job in jobs {
            bench.storage.submit(job);
        }
        for _ in 0..count {
            bench.committed()?;
        }
        spent += begin.elapsed();
    }
    bench.storage.close();
    let files = std::fs::read_dir(&directory)?;
    let stored: u64 = files
        .filter_map(|f| f.ok()?.metadata().ok())
        .map(|m| m.len())
        .sum();
    let ballast = Options::default().ballast_bytes;
    println!(
        "4 x 1 MiB, {SPREAD_TOPICS} topics   {:>6.0} MB/s   files per payload byte {:.3}",
        rate(bytes, spent),
        (stored - ballast) as f64 / bytes as f64
    );
    Ok(())
}

fn raw_append(path: &Path) -> Result<f64> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let block = vec![1; 8 * MIB];
    let begin = Instant::now();
    for _ in 0..LARGE_TOTAL / block.len() {
        file.write_all(&block)?;
        file.sync_data()?;
    }
    let spent = begin.elapsed();
    std::fs::remove_file(path)?;
    Ok(rate(LARGE_TOTAL, spent))
}

fn rate(bytes: usize, spent: Duration) -> f64 {
    bytes as f64 / spent.as_secs_f64() / 1e6
}

/// A rotation that carries the state of a large broker, against a commit that does not rotate.
fn rotation(directory: &Path) -> Result<()> {
    let directory = directory.join("rotation");
    let segment_bytes = 8 * MIB as u64;
    let mut bench = Bench::open(
        &directory,
        Options {
            segment_bytes,
            ..Options::default()
        },
    )?;
    for id in 2..=10_000 {
        let mut topic = Topic::new(id);
        let batch = topic.batch(1, b"a record")?;
        let mut job = topic.job(vec![batch], &bench.sender);
        let mut row = |kind: u8, bytes: usize| {
            let mut key = id.to_be_bytes().to_vec();
            key.push(kind);
            job.rows.push(Row {
                key,
                value: Some(vec![7; bytes]),
            });
        };
        row(2, 1_300);
        if id % 10 == 0 {
            row(3, 200);
        }
        bench.storage.submit(job);
        bench.committed()?;
    }
    let (mut plain, mut rotating) = (Vec::new(), Vec::new());
    let mut newest = newest_segment(&directory)?;
    while rotating.len() < 20 {
        let batch = bench.topic.batch(1_000, &[b'x'; 500])?;
        let begin = Instant::now();
        bench.submit(vec![batch]);
        bench.committed()?;
        let spent = begin.elapsed();
        let now = newest_segment(&directory)?;
        let times = if now == newest {
            &mut plain
        } else {
            &mut rotating
        };
        times.push(spent);
        newest = now;
    }
    println!(
        "rotation with 10,000 topics, 10,000 producers, 1,000 consumers   p50 {:.1?}  max {:.1?}   (0.5 MB commit without: {:.1?})",
        percentile(&mut rotating, 50),
        percentile(&mut rotating, 100),
        percentile(&mut plain, 50)
    );
    bench.storage.close();
    Ok(())
}

fn newest_segment(directory: &Path) -> Result<Option<String>> {
    let names = std::fs::read_dir(directory)?;
    let names = names.filter_map(|file| file.ok()?.file_name().into_string().ok());
    Ok(names
        .filter_map(|name| name.strip_suffix(".redb").map(str::to_owned))
        .max())
}

/// Opening 2 GiB after the process that wrote them has died.
fn unclean_start(directory: &Path) -> Result<()> {
    let child = std::process::Command::new(std::env::current_exe()?)
        .env(FILL, directory)
        .status()?;
    if child.success() {
        bail!("the child was to die");
    }
    let disk = Arc::new(RealDisk::open(directory)?);
    let begin = Instant::now();
    let (storage, recovered) = Storage::open(disk, Options::default())?;
    let spent = begin.elapsed();
    println!(
        "opening 2 GiB after an unclean end   {spent:.0?}   ({} topics)",
        recovered.topics.len()
    );
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let resident = status
            .lines()
            .filter(|l| l.starts_with("VmRSS") || l.starts_with("VmHWM"));
        println!(
            "memory then   {}",
            resident.collect::<Vec<_>>().join("   ").replace('\t', " ")
        );
    }
    let begin = Instant::now();
    storage.reader().read(TopicId(1), 0, u64::MAX, 1)?;
    println!(
        "its first read of the oldest segment   {:.0?}",
        begin.elapsed()
    );
    storage.close();
    Ok(())
}

fn fill_and_abort(directory: &Path) -> Result<()> {
    let mut bench = Bench::open(directory, Options::default())?;
    let (records, value) = ((MIB - 1024) / 210, vec![b'x'; 200]);
    let mut committed = 0;
    for ticket in 1..=(STORED / MIB) as u64 {
        let batch = bench.topic.batch(records, &value)?;
        bench.submit(vec![batch]);
        while ticket - committed >= IN_FLIGHT as u64 {
            committed = bench.committed()?;
        }
    }
    while committed < (STORED / MIB) as u64 {
        committed = bench.committed()?;
    }
    std::process::abort()
}

//! Measures how chunks are best laid out in a segment.
//!
//! `cargo bench --bench layout [-- --quick]` prints tables; it asserts nothing about time. Compared
//! are a table per topic, one table for all, and an index beside a log. It also prints what storage
//! relies on in redb ([`facts`]). It measures redb on the crate's own back end, and none of the
//! code above that.

mod facts;
mod layouts;

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use logdrive::storage::disk::{Disk, RealDisk};
use logdrive::storage::overlay::Overlay;
use redb::{Builder, ReadableDatabase};
use rustix::fs::{Advice, fadvise};

use layouts::{CACHE, Commit, HEAD, Layout, Segment};

const MIB: usize = 1 << 20;
const TINY: usize = 256;
/// The largest chunk whose row fills 1 MiB of pages: redb's leaf header, key and lengths fit too.
const LARGE: usize = MIB - HEAD - 64;
/// The same with room for a page of small neighbours.
const ROOMY: usize = MIB - 8192;

/// One workload: so many topics live in the segment, each flush writes chunks to some of them.
#[derive(Debug, Clone, Copy)]
struct Workload {
    topics: u64,
    /// Topics that get a chunk of `TINY` bytes.
    tiny: u64,
    /// Topics that get one of `large_bytes`.
    large: u64,
    large_bytes: usize,
    flushes: u64,
}

impl Workload {
    const fn tiny(tiny: u64, flushes: u64) -> Self {
        Self {
            topics: 1,
            tiny,
            large: 0,
            large_bytes: 0,
            flushes,
        }
    }

    const fn large(large: u64, large_bytes: usize, flushes: u64) -> Self {
        Self {
            topics: 1,
            tiny: 0,
            large,
            large_bytes,
            flushes,
        }
    }

    /// Topics of a flush: all different, spread over the whole range.
    fn spread(self, flush: u64, touched: u64) -> impl Iterator<Item = u64> {
        let start = flush.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
        let stride = self.topics / touched.max(1);
        (0..touched).map(move |number| (start + number * stride) % self.topics)
    }

    fn flushed(self) -> u64 {
        self.flushes * (self.tiny * TINY as u64 + self.large * self.large_bytes as u64)
    }

    fn name(self) -> String {
        let size = if self.large_bytes == ROOMY {
            "1M-8K"
        } else {
            "1M"
        };
        let tiny = (self.tiny > 0).then(|| format!("{} x 256", self.tiny));
        let large = (self.large > 0).then(|| format!("{} x {size}", self.large));
        let parts: Vec<String> = tiny.into_iter().chain(large).collect();
        format!("{:>6} | {:<20}", self.topics, parts.join(" + "))
    }
}

/// What is flushed into a segment of 1, 256 and 10,000 topics, where it has that many.
const WORKLOADS: [Workload; 7] = [
    Workload::tiny(1, 400),
    Workload::tiny(64, 200),
    Workload::tiny(1000, 40),
    Workload::large(1, LARGE, 200),
    Workload::large(4, LARGE, 50),
    Workload::large(4, ROOMY, 50),
    Workload {
        large: 2,
        large_bytes: ROOMY,
        ..Workload::tiny(62, 100)
    },
];

fn main() -> anyhow::Result<()> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let scale = if quick { 10 } else { 1 };
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let disk = RealDisk::open(scratch.path())?;

    facts::syncs_of_a_commit(&disk)?;
    facts::sealed_values_are_owned(&disk)?;

    println!("\n## Layouts");
    println!(
        "file, used, written: bytes per payload byte; open: after a kill, not in the page cache"
    );
    println!(
        "topics | a flush              | layout          | p50 ms | p99 ms |   MB/s |   file |   used | \
         written | scan us/chunk | open ms"
    );
    for topics in [1, 256, 10_000] {
        for work in WORKLOADS
            .into_iter()
            .filter(|work| work.tiny + work.large <= topics)
        {
            let work = Workload {
                topics,
                flushes: work.flushes / scale,
                ..work
            };
            for layout in Layout::ALL {
                measure(&disk, scratch.path(), layout, work)?;
            }
        }
        raw(&disk, 4096, 400 / scale)?;
        raw(&disk, MIB, 200 / scale)?;
    }
    Ok(())
}

/// Fills a segment, flushes into it, and opens it as a kill would leave it; prints a line.
fn measure(
    disk: &RealDisk,
    directory: &Path,
    layout: Layout,
    work: Workload,
) -> anyhow::Result<()> {
    let name = "layout.redb";
    let segment = Segment::create(disk, name)?;
    let random = |bytes| {
        std::iter::repeat_with(|| fastrand::u8(..))
            .take(bytes)
            .collect()
    };
    let (tiny, large): (Vec<u8>, Vec<u8>) = (random(TINY), random(work.large_bytes));
    for first in (0..work.topics).step_by(1000) {
        let topics = first..work.topics.min(first + 1000);
        let chunks = |change: &_| layout.put(change, topics, 0, &tiny);
        segment.flush(0, Commit::OnePhase, chunks)?;
    }

    let written = segment.witness.written();
    let started = Instant::now();
    let mut times = Vec::new();
    for flush in 1..=work.flushes {
        let began = Instant::now();
        segment.flush(flush, Commit::OnePhase, |change| {
            layout.put(change, work.spread(flush, work.tiny), flush, &tiny)?;
            // Other topics than those of the small chunks, if there are any.
            layout.put(change, work.spread(flush + 7, work.large), flush, &large)
        })?;
        times.push(began.elapsed());
    }
    let elapsed = started.elapsed();
    let written = segment.witness.written() - written;

    let stored = work.flushed() + work.topics * TINY as u64;
    let stats = segment.database.begin_write()?.stats()?;
    let used = stats.allocated_pages() * stats.page_size() as u64;
    println!(
        "{} | {:<15} | {:>6.2} | {:>6.2} | {:>6.1} | {:>6.2} | {:>6.2} | {:>7.2} | {:>13.1} | {:>7.1}",
        work.name(),
        layout.name(),
        milliseconds(percentile(&mut times, 50)),
        milliseconds(percentile(&mut times, 99)),
        rate(work.flushed(), elapsed),
        ratio(segment.file.len()?, stored),
        ratio(used, stored),
        ratio(written, work.flushed()),
        scan(&segment, layout, work)?,
        milliseconds(cold_open(disk, &directory.join(name), name)?),
    );
    drop(segment);
    Ok(disk.unlink(name)?)
}

/// Microseconds per chunk of reading whole topics that were just written.
fn scan(segment: &Segment, layout: Layout, work: Workload) -> anyhow::Result<f64> {
    let started = Instant::now();
    let snapshot = segment.database.begin_read()?;
    let mut chunks = 0;
    for topic in work.spread(1, work.topics.min(100)) {
        chunks += layout.scan(&snapshot, topic)?;
    }
    Ok(milliseconds(started.elapsed()) * 1e3 / f64::from(chunks))
}

/// How long redb takes to open a file that was not closed, and is not in the page cache.
///
/// The file is still open here, which redb cannot tell from a kill: its writes stay in memory.
fn cold_open(disk: &RealDisk, path: &Path, name: &str) -> anyhow::Result<Duration> {
    fadvise(File::open(path)?, 0, None, Advice::DontNeed)?;
    let started = Instant::now();
    let view = Overlay::new(disk.open(name)?)?;
    let database = Builder::new()
        .set_cache_size(CACHE)
        .create_with_backend(view)?;
    let elapsed = started.elapsed();
    drop(database);
    Ok(elapsed)
}

/// What the machine itself does: append and `fdatasync`; prints a line.
fn raw(disk: &RealDisk, bytes: usize, writes: u64) -> anyhow::Result<()> {
    let file = disk.create("raw")?;
    let payload = vec![7; bytes];
    let started = Instant::now();
    let mut times = Vec::new();
    for number in 0..writes {
        let began = Instant::now();
        file.write_at(number * bytes as u64, &payload)?;
        file.sync()?;
        times.push(began.elapsed());
    }
    let elapsed = started.elapsed();
    println!(
        "   raw | {:>4} KiB             | append, sync    | {:>6.2} | {:>6.2} | {:>6.1} |",
        bytes / 1024,
        milliseconds(percentile(&mut times, 50)),
        milliseconds(percentile(&mut times, 99)),
        rate(writes * bytes as u64, elapsed),
    );
    Ok(disk.unlink("raw")?)
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times
        .get((times.len() * percent / 100).min(times.len() - 1))
        .copied()
        .unwrap_or_default()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "printed with a few digits")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

fn rate(bytes: u64, time: Duration) -> f64 {
    ratio(bytes, 1_000_000) / time.as_secs_f64()
}

//! The disk's own limits: what appending with fdatasync gives without any broker.
//!
//! Owns `bench disk`, and the measurements of the disk that others put around their own.
//!
//! *The disk's limit* is the better of appending 1 MiB and 8 MiB at a time, each write followed by
//! its fdatasync. Around other measurements both sizes take turns in one new file, so that a disk
//! that slows down is felt by both alike.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::args::DiskArgs;
use super::course::{Course, per_second};
use super::figure::{Figure, Limit, Unit};
use super::ground::{Ground, blocking, go_on};
use super::latencies::Latencies;
use super::machine::drop_cached;

/// A small write: what a commit of one record cannot be faster than.
const SMALL: usize = 4 << 10;
/// Large writes, whose better one is the limit.
const LARGE: [usize; 2] = [1 << 20, 8 << 20];
/// Bytes that are written with one size before it is the other's turn.
const TURN: u64 = 64 << 20;
/// A read of a file that is not in the page cache.
const READ: usize = 1 << 20;
/// What a limit is called.
const APPEND: &str = "append + fdatasync";

/// Large appends to one new file, in the order in which they were done.
pub(crate) struct Appends(Vec<Append>);

struct Append {
    /// Of [`LARGE`].
    size: usize,
    bytes: u64,
    took: Duration,
}

impl Appends {
    /// Appends so many bytes, in turns of both sizes.
    pub(crate) async fn measure(ground: &Ground, bytes: u64) -> anyhow::Result<Self> {
        let path = ground.path().join("append");
        blocking(move |stop| {
            let mut file = Scratch::create(&path)?;
            let turn = TURN.min(bytes / 2).max(LARGE[1] as u64);
            let (mut appends, mut written) = (Vec::new(), 0);
            let block = noise(LARGE[1]);
            let mut size = 0;
            while written < bytes || size > 0 {
                let mut left = turn;
                while left > 0 {
                    go_on(stop)?;
                    let block = &block[..LARGE[size]];
                    let took = file.write(block)?;
                    let bytes = block.len() as u64;
                    appends.push(Append { size, bytes, took });
                    left = left.saturating_sub(bytes);
                    written += bytes;
                }
                size = (size + 1) % LARGE.len();
            }
            Ok(Self(appends))
        })
        .await
    }

    /// The disk's limit over all of them, in bytes per second.
    pub(crate) fn rate(&self) -> f64 {
        better(&self.0)
    }

    /// The limit over the first bytes, and over the rest.
    pub(crate) fn rates_apart(&self, bytes: u64) -> (f64, f64) {
        let mut written = 0;
        let within = self.0.iter().take_while(|it| {
            written += it.bytes;
            written <= bytes
        });
        let within = within.count();
        (better(&self.0[..within]), better(&self.0[within..]))
    }
}

/// The better rate of both sizes.
fn better(appends: &[Append]) -> f64 {
    let rate = |size| {
        let of_size = appends.iter().filter(|it| it.size == size);
        let sum = of_size.fold((0, Duration::ZERO), |(bytes, took), it| {
            (bytes + it.bytes, took + it.took)
        });
        per_second(sum.0, sum.1)
    };
    (0..LARGE.len()).map(rate).fold(0.0, f64::max)
}

/// The disk's limit as it is put beside a figure.
pub(crate) fn limit(before: f64, after: f64) -> Limit {
    Limit::around(
        format!("{APPEND}, the better of 1 and 8 MiB"),
        before,
        after,
    )
}

/// 4 KiB appends to a new file, each with its fdatasync.
pub(crate) async fn small_appends(ground: &Ground, count: u32) -> anyhow::Result<Latencies> {
    let path = ground.path().join("small");
    blocking(move |stop| {
        let mut file = Scratch::create(&path)?;
        let block = noise(SMALL);
        let mut latencies = Latencies::new()?;
        for _ in 0..count {
            go_on(stop)?;
            latencies.record(file.write(&block)?);
        }
        Ok(latencies)
    })
    .await
}

/// The median of small appends, as it is put beside a latency.
pub(crate) fn small_limit(before: &Latencies, after: &Latencies) -> Limit {
    let [before, after] = [before, after].map(|it| it.percentile(50.0).as_secs_f64());
    Limit::around(format!("4 KiB {APPEND}, p50"), before, after)
}

/// Reads a file of so many bytes that is not in the page cache; bytes per second.
pub(crate) async fn cold_read(ground: &Ground, bytes: u64) -> anyhow::Result<f64> {
    let path = ground.path().join("cold");
    blocking(move |stop| {
        let mut file = Scratch::create(&path)?;
        let block = noise(LARGE[1]);
        let mut written = 0;
        while written < bytes {
            go_on(stop)?;
            file.0.write_all(&block)?;
            written += block.len() as u64;
        }
        drop_cached(&file.0)?;
        file.0.rewind()?;
        let mut block = vec![0; READ];
        let begun = Instant::now();
        while file.0.read(&mut block)? > 0 {
            go_on(stop)?;
        }
        Ok(per_second(written, begun.elapsed()))
    })
    .await
}

/// Measures the disk.
pub(super) async fn run(ground: &Ground, arguments: &DiskArgs) -> anyhow::Result<Vec<Figure>> {
    let (bytes, writes) = (arguments.bytes.0, arguments.writes);
    let path = ground.path().join("disk");
    let (small, large) = blocking(move |stop| {
        let small = twice(&path, SMALL, u64::from(writes) * SMALL as u64, stop)?;
        let large = LARGE.map(|size| twice(&path, size, bytes, stop));
        Ok((small, large))
    })
    .await?;
    let mut figures = Vec::new();
    let [appended, overwritten] = &small;
    for (percent, name) in [(50.0, "p50"), (99.0, "p99")] {
        let [append, over] = [appended, overwritten].map(|it| it.latencies.percentile(percent));
        let figure = Figure::seconds(format!("disk, append 4 KiB + fdatasync, {name}"), append);
        figures.push(figure.with_series(appended.latencies.series("append 4 KiB + fdatasync")));
        let figure = Figure::seconds(format!("disk, overwrite 4 KiB + fdatasync, {name}"), over);
        figures
            .push(figure.with_series(overwritten.latencies.series("overwrite 4 KiB + fdatasync")));
    }
    let mut limit = 0.0_f64;
    for (size, passes) in [1, 8].into_iter().zip(large) {
        let [append, over] = passes?;
        limit = limit.max(append.course.rate());
        for (verb, pass) in [("append", append), ("overwrite", over)] {
            let name = format!("disk, {verb} {size} MiB + fdatasync");
            let figure = Figure::new(&name, pass.course.rate(), Unit::BytesPerSecond);
            let series = pass.course.series(&name, 1.0, "bytes/s");
            figures.push(figure.parameter("bytes", bytes).with_series(series));
        }
    }
    figures.push(Figure::new("the disk's limit", limit, Unit::BytesPerSecond));
    let read = cold_read(ground, bytes).await?;
    figures
        .push(Figure::new("disk, cold read", read, Unit::BytesPerSecond).parameter("bytes", bytes));
    Ok(figures)
}

/// What one pass over a file gave.
struct Pass {
    latencies: Latencies,
    course: Course,
}

/// Appends to a new file, then overwrites the blocks that are written now.
fn twice(
    path: &Path,
    size: usize,
    bytes: u64,
    stop: &CancellationToken,
) -> anyhow::Result<[Pass; 2]> {
    let mut file = Scratch::create(path)?;
    let block = noise(size);
    let append = pass(&mut file, &block, bytes, stop)?;
    file.0.rewind()?;
    let over = pass(&mut file, &block, bytes, stop)?;
    Ok([append, over])
}

fn pass(
    file: &mut Scratch,
    block: &[u8],
    bytes: u64,
    stop: &CancellationToken,
) -> anyhow::Result<Pass> {
    let mut latencies = Latencies::new()?;
    let (mut course, mut written, mut took) = (Course::default(), 0, Duration::ZERO);
    while written < bytes {
        go_on(stop)?;
        let this = file.write(block)?;
        latencies.record(this);
        took += this;
        written += block.len() as u64;
        course.look(took, written);
    }
    Ok(Pass { latencies, course })
}

/// A file that is removed when it is done with.
struct Scratch(File, PathBuf);

impl Scratch {
    fn create(path: &Path) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true);
        let file = file.open(path);
        let file = file.with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(file, path.to_owned()))
    }

    /// Writes where it stands, and has it on the disk.
    fn write(&mut self, block: &[u8]) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        self.0.write_all(block)?;
        self.0.sync_data()?;
        Ok(begun.elapsed())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays goes with the directory.
        let _ = std::fs::remove_file(&self.1);
    }
}

/// Bytes in which nothing repeats, should the disk look for that.
fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    fastrand::Rng::with_seed(bytes as u64).fill(&mut noise);
    noise
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(size: usize, milliseconds: u64) -> Append {
        Append {
            size,
            bytes: 1000,
            took: Duration::from_millis(milliseconds),
        }
    }

    #[test]
    fn the_limit_is_that_of_the_better_size_of_the_whole_and_of_both_parts() {
        let appends = Appends(vec![
            append(0, 10),
            append(1, 20),
            append(0, 50),
            append(1, 40),
        ]);
        let rounded = |rate: f64| rate.round() as u64;
        assert_eq!(rounded(appends.rate()), 33_333);
        let (first, rest) = appends.rates_apart(2000);
        assert_eq!((rounded(first), rounded(rest)), (100_000, 25_000));
    }
}

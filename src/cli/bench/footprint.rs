//! `bench footprint`: bytes on the disk for each byte that was produced.
//!
//! Owns the figures. What the disk holds is counted as `du` does, in blocks, when the broker has
//! stopped, of everything below the data directory: less what an empty one holds, and without the
//! files that were written ahead and wait for a segment, whose number is bounded.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use logdrive_client::{NewRecord, ProducerOptions};

use super::args::FootprintArgs;
use super::figure::{Figure, Unit};
use super::ground::Ground;
use super::payload::Payload;
use super::volume::Volume;
use crate::cli::progress::Progress;

/// Unit of a file's block count.
const BLOCK: u64 = 512;
/// In the name of every file that is written ahead.
const AHEAD: &str = ".ahead";
/// Records in a batch, and whether each batch is waited for, which makes it a flush of its own.
const SHAPES: [(usize, bool); 4] = [(1000, false), (1, true), (10, true), (100, true)];

/// Measures every shape.
pub(super) async fn run(ground: &Ground, arguments: &FootprintArgs) -> anyhow::Result<Vec<Figure>> {
    let size = Volume(arguments.size.into());
    let payload = Payload::generated(size, arguments.records)?;
    let mut figures = Vec::new();
    for (batch, waits) in SHAPES {
        let batches = if waits {
            u64::from(arguments.flushes)
        } else {
            arguments.records.div_ceil(batch as u64)
        };
        let how = if waits { "one per flush" } else { "pipelined" };
        let name = format!("bytes on disk per byte, {size}, batches of {batch}, {how}");
        let records = batches * batch as u64;
        let value = shape(ground, &payload, &name, (batch, waits), records).await?;
        figures.push(Figure::new(name, value, Unit::Times).parameter("records", records));
    }
    Ok(figures)
}

async fn shape(
    ground: &Ground,
    payload: &Payload,
    name: &str,
    (batch, waits): (usize, bool),
    records: u64,
) -> anyhow::Result<f64> {
    let mut target = ground.broker().await?;
    let data = target.data()?;
    let topic = target.topic("footprint");
    let client = target.client().await?;
    client.create_topic(&topic, &[], true).await?;
    client.close().await;
    target.stop().await?;
    let before = on_disk(&data)?;
    target.start().await?;
    let options = ProducerOptions {
        batch_records: batch,
        ..ProducerOptions::default()
    };
    let mut producer = target.client().await?.producer(&[&topic], options).await?;
    let progress = Progress::new(Some(records), name);
    let mut bytes = 0;
    for (number, value) in (1..=records).zip(payload.from(0)) {
        let record = NewRecord {
            value,
            ..NewRecord::default()
        };
        producer.push(&topic, &record).await?;
        bytes += value.len() as u64;
        if waits && number.is_multiple_of(batch as u64) {
            producer.flush().await?;
            progress.set(number);
        }
    }
    producer.close().await?;
    target.stop().await?;
    let after = on_disk(&data)?;
    target.end().await?;
    Ok(after.saturating_sub(before) as f64 / bytes as f64)
}

/// Bytes that the files of a directory and below take up, those written ahead apart.
pub(super) fn on_disk(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let found = entry.metadata()?;
        if found.is_dir() {
            bytes += on_disk(&entry.path())?;
        } else if !entry.file_name().to_string_lossy().contains(AHEAD) {
            bytes += found.blocks() * BLOCK;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_below_the_directory_too_but_no_holes_and_nothing_written_ahead() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(on_disk(directory.path()).unwrap(), 0);
        let below = directory.path().join("below");
        std::fs::create_dir(&below).unwrap();
        std::fs::write(below.join("file"), vec![1; 10_000]).unwrap();
        let written = std::fs::File::open(below.join("file")).unwrap();
        written.sync_all().unwrap();
        std::fs::write(directory.path().join("1.ahead"), vec![1; 2 << 20]).unwrap();
        let hole = std::fs::File::create(directory.path().join("hole")).unwrap();
        hole.set_len(1 << 30).unwrap();
        let bytes = on_disk(directory.path()).unwrap();
        assert!((10_000..1 << 20).contains(&bytes), "{bytes}");
    }
}

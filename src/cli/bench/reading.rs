//! The load of readers: a whole topic through the client, batches or records.
//!
//! Owns how a reader goes through what it is given, which is what a user's program would do. That
//! everything was read, and not more, is checked by counting.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use logdrive_client::{
    Client, Consumer, ConsumerOptions, FetchOptions, Fetcher, Portion, Position,
};
use tokio_util::task::AbortOnDropHandle;

use super::course::{Course, SLICE};

/// How long a consumer waits for records that must be there.
const PATIENCE: Duration = Duration::from_secs(30);

/// A way to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By offset, batches as they are: only checksums are looked at.
    FetchBatches,
    /// By offset, each record looked at.
    FetchRecords,
    /// With a consumer, each record looked at.
    Consume,
}

enum Reader {
    Fetch(Fetcher),
    Consume(Consumer),
}

impl Reader {
    async fn next(&mut self) -> anyhow::Result<Portion> {
        let portion = match self {
            Self::Fetch(fetcher) => fetcher.next().await?,
            Self::Consume(consumer) => consumer.get_batch(Some(PATIENCE)).await?,
        };
        portion.context("there were fewer records than were produced")
    }
}

/// Reads that many records from the beginning; says how that went on.
///
/// The reader is a task, as it would be in a user's program.
pub(crate) async fn read_all(
    client: &Client,
    topic: &str,
    way: Way,
    records: u64,
) -> anyhow::Result<Course> {
    let begun = Instant::now();
    let reader = if way == Way::Consume {
        let name = format!("consumer-{:08x}", fastrand::u32(..));
        let options = ConsumerOptions::default();
        Reader::Consume(client.consumer(&name, &[topic], options).await?)
    } else {
        let options = FetchOptions::default();
        Reader::Fetch(client.fetch(topic, Position::Earliest, options).await?)
    };
    let read = AbortOnDropHandle::new(tokio::spawn(through(reader, way, records, begun)));
    read.await.context("a reader panicked")?
}

async fn through(
    mut reader: Reader,
    way: Way,
    records: u64,
    begun: Instant,
) -> anyhow::Result<Course> {
    let mut course = Course::default();
    let (mut count, mut bytes, mut looked) = (0, 0, Duration::ZERO);
    while count < records {
        let portion = reader.next().await?;
        if way == Way::FetchBatches {
            count += portion.record_count();
        } else {
            for record in portion.records() {
                count += 1;
                bytes += record.record.value.len();
            }
        }
        let now = begun.elapsed();
        if now.saturating_sub(looked) >= SLICE {
            course.look(now, count);
            looked = now;
        }
    }
    course.look(begun.elapsed(), count);
    ensure!(
        count == records && (way == Way::FetchBatches || bytes > 0),
        "{count} records of {bytes} bytes were read, {records} were produced"
    );
    Ok(course)
}

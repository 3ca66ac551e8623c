//! What must hold of the client whatever a broker answers; part of no build but the fuzz targets'
//! and the tests'.
//!
//! The real client talks to a broker over a stream in memory. What the broker answers are the
//! bytes:
//!
//! ```text
//! what the client does (1), then for each answer: how (1) | length (2) | body
//! ```
//!
//! Time passes only while everybody waits, and then at once: a broker that does not answer costs the
//! client its patience, and the test nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use logdrive_protocol::Position;
use logdrive_protocol::frame::{self, FLAG_ERROR, FrameDecoder, HEADER_BYTES};
use logdrive_protocol::limits::MAX_FRAME_BYTES;
use logdrive_protocol::operations::Ping;
use logdrive_protocol::preface::{BrokerPreface, ClientPreface, Limits, VERSION};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;
use tokio_util::codec::Decoder;

use crate::{Client, Connector, ConsumerOptions, Error, FetchOptions, Options, ProducerOptions};

/// How an answer is sent: as an error, under another correlation id, with another opcode.
const AS_ERROR: u8 = 1;
const MISDIRECTED: u8 = 2;
const RENAMED: u8 = 4;
/// Records that are taken before the client stops asking.
const RECORDS: usize = 1_000;
/// By then every client has given up, whose requests wait half a minute and are not tried again for
/// long; of the clock that stands still.
const PATIENCE: Duration = Duration::from_mins(2);

/// Whatever a broker answers, every call of the client ends, and gives only records that ascend.
pub fn broker(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let Ok(runtime) = runtime else {
        return;
    };
    let (what, answers) = bytes.split_first().unwrap_or((&0, &[]));
    let talk = talk(*what, Bytes::copy_from_slice(answers));
    let end = runtime.block_on(async { timeout(PATIENCE, talk).await });
    // An error is as good an end as any.
    assert!(end.is_ok(), "the client never gives up");
}

async fn talk(what: u8, answers: Bytes) -> Result<(), Error> {
    let taken = Arc::new(AtomicBool::new(false));
    let connector = Connector::new(move |_| {
        let first = !taken.swap(true, Ordering::Relaxed);
        let answers = answers.clone();
        async move {
            let (near, far) = tokio::io::duplex(1 << 16);
            if first {
                tokio::spawn(answer(far, answers));
                Ok(near)
            } else {
                Err(io::Error::from(io::ErrorKind::ConnectionRefused))
            }
        }
    });
    let options = Options {
        client_name: String::new(),
        retry_for: Duration::ZERO,
        connector: Some(connector),
        ..Options::default()
    };
    let client = Client::connect_with("broker:1", options).await?;
    match what % 6 {
        0 => {
            let options = FetchOptions::default();
            let mut fetcher = client.fetch("t", Position::Earliest, options).await?;
            while let Some(portion) = fetcher.next().await? {
                ascending(portion.records().map(|record| record.offset));
            }
        }
        1 => consume(&client, ConsumerOptions::default()).await?,
        2 => {
            let lease = Some(Duration::from_mins(1));
            let options = ConsumerOptions {
                lease,
                ..ConsumerOptions::default()
            };
            consume(&client, options).await?;
        }
        3 => {
            let mut producer = client.producer(&["t"], ProducerOptions::default()).await?;
            producer.send("t", "value").await?;
        }
        4 => {
            client.list_topics("*").await?;
            client.describe_topic("t").await?;
        }
        _ => {
            client.describe_consumer("t", "c").await?;
        }
    }
    Ok(())
}

async fn consume(client: &Client, options: ConsumerOptions) -> Result<(), Error> {
    let mut consumer = client.consumer("c", &["t"], options).await?;
    for _ in 0..RECORDS {
        match consumer.get_batch(Some(Duration::ZERO)).await? {
            Some(portion) => {
                ascending(portion.records().map(|record| record.offset));
                if portion.lease().is_some() {
                    consumer.ack_portion(&portion).await?;
                }
            }
            None => break,
        }
    }
    Ok(())
}

fn ascending(offsets: impl Iterator<Item = u64>) {
    let offsets: Vec<u64> = offsets.collect();
    assert!(offsets.is_sorted_by(|one, next| one < next), "{offsets:?}");
}

/// Answers one request after the other until the answers are used up, then closes.
async fn answer(mut socket: DuplexStream, mut answers: Bytes) -> io::Result<()> {
    let mut input = BytesMut::new();
    while !matches!(ClientPreface::decode(&mut input), Ok(Some(_))) {
        if socket.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
    let mut out = BytesMut::new();
    let preface = BrokerPreface {
        version: VERSION,
        lowest: VERSION,
        highest: VERSION,
        features: 0,
        cluster: [0; 16],
        node: 1,
        limits: Limits::default(),
    };
    preface.encode(&mut out);
    let mut frames = FrameDecoder::new(MAX_FRAME_BYTES);
    loop {
        socket.write_all(&out).await?;
        out.clear();
        let Ok(decoded) = frames.decode(&mut input) else {
            return Ok(());
        };
        let Some(request) = decoded else {
            if socket.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
            continue;
        };
        if answers.len() < 3 {
            return Ok(());
        }
        let how = answers.get_u8();
        let length = usize::from(answers.get_u16()).min(answers.len());
        let body = answers.split_to(length);
        let flags = if how & AS_ERROR == 0 { 0 } else { FLAG_ERROR };
        let opcode = request.opcode ^ (how & RENAMED);
        let correlation = request.correlation ^ u32::from(how & MISDIRECTED);
        let parts = frame::encode(opcode, flags, correlation, &Ping {});
        out.extend_from_slice(&parts.concat());
        // The frame of an empty body, and then the body.
        let counted = u32::try_from(HEADER_BYTES - frame::LENGTH_BYTES + body.len());
        let counted = counted.unwrap_or(u32::MAX).to_be_bytes();
        out[..frame::LENGTH_BYTES].copy_from_slice(&counted);
        out.extend_from_slice(&body);
    }
}

#[cfg(test)]
#[path = "../../fuzz/trial.rs"]
mod trial;

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static PANICKED: Cell<bool> = const { Cell::new(false) };
    }

    /// The runtime catches what panics in a task, all of which run on this thread.
    fn broker_without_panic(bytes: &[u8]) {
        PANICKED.set(false);
        broker(bytes);
        assert!(!PANICKED.get(), "a task of the client panicked");
    }

    #[test]
    fn no_answer_breaks_a_client() {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICKED.set(true);
            told(panic);
        }));
        trial::check("client", 200, broker_without_panic);
    }
}

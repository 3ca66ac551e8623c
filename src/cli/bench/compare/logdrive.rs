//! logdrive under comparison: through its client, as a user would call it.
//!
//! Every acknowledgement is `synced`, and a consume moves a durable cursor.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;

use anyhow::{Context, Result};
use bytes::Bytes;
use logdrive_client::{
    Client, Consumer, ConsumerOptions, Delivery, FetchOptions, Fetcher, NewRecord, Options,
    Portion, Position, ProducerOptions,
};

use super::peer::{Peer, Produce, Read};

/// The broker of this program.
#[derive(Clone, Debug)]
pub(super) struct Logdrive {
    /// What it is started with besides.
    pub(super) serve_args: Vec<OsString>,
}

async fn connect(at: SocketAddr) -> Result<Client> {
    let options = Options {
        client_name: "logdrive-bench".to_owned(),
        ..Options::default()
    };
    Ok(Client::connect_with(at, options).await?)
}

impl Peer for Logdrive {
    type Producer = Producer;
    type Reader = Reader;
    type Idle = Client;

    fn command(&self, directory: &Path, port: u16) -> Result<Vec<OsString>> {
        let program = std::env::current_exe().context("cannot find the program's own file")?;
        let mut words = vec![
            program.into(),
            "serve".into(),
            "--listen".into(),
            format!("127.0.0.1:{port}").into(),
            "--data".into(),
            directory.into(),
        ];
        words.extend_from_slice(&self.serve_args);
        Ok(words)
    }

    async fn create(&self, at: SocketAddr, topic: &str) -> Result<()> {
        connect(at).await?.create_topic(topic, &[], false).await?;
        Ok(())
    }

    async fn count(&self, at: SocketAddr, topic: &str) -> Result<u64> {
        Ok(connect(at).await?.describe_topic(topic).await?.records)
    }

    async fn producer(&self, at: SocketAddr, topic: &str, batch_bytes: usize) -> Result<Producer> {
        let client = connect(at).await?;
        let options = ProducerOptions::default();
        let options = ProducerOptions {
            batch_bytes: batch_bytes.min(options.batch_bytes),
            ..options
        };
        Ok(Producer {
            inner: client.producer(&[topic], options).await?,
            topic: topic.to_owned(),
            deliveries: VecDeque::new(),
        })
    }

    async fn fetcher(&self, at: SocketAddr, topic: &str) -> Result<Reader> {
        let client = connect(at).await?;
        let options = FetchOptions::default();
        let fetcher = client.fetch(topic, Position::Earliest, options).await?;
        Ok(Reader::Fetch(fetcher))
    }

    async fn consumer(&self, at: SocketAddr, topic: &str) -> Result<Reader> {
        let client = connect(at).await?;
        let options = ConsumerOptions::default();
        let consumer = client.consumer("bench", &[topic], options).await?;
        Ok(Reader::Consume(consumer))
    }

    async fn idle(&self, at: SocketAddr) -> Result<Client> {
        let client = connect(at).await?;
        client.ping().await?;
        Ok(client)
    }
}

/// Produces to one topic.
#[derive(Debug)]
pub(super) struct Producer {
    inner: logdrive_client::Producer,
    topic: String,
    /// Of the last record of each request, oldest first.
    deliveries: VecDeque<Delivery>,
}

impl Produce for Producer {
    async fn send(&mut self, values: &[Bytes]) -> Result<()> {
        let Some((last, values)) = values.split_last() else {
            return Ok(());
        };
        for value in values {
            self.inner.push(&self.topic, &record(value)).await?;
        }
        let delivery = self.inner.enqueue(&self.topic, &record(last)).await?;
        self.deliveries.push_back(delivery);
        Ok(())
    }

    async fn acknowledged(&mut self) -> Result<()> {
        let Some(oldest) = self.deliveries.front_mut() else {
            return std::future::pending().await;
        };
        Pin::new(oldest).await?;
        self.deliveries.pop_front();
        Ok(())
    }
}

fn record(value: &[u8]) -> NewRecord<'_> {
    NewRecord {
        value,
        ..NewRecord::default()
    }
}

/// Reads one topic.
#[derive(Debug)]
pub(super) enum Reader {
    Fetch(Fetcher),
    Consume(Consumer),
}

impl Read for Reader {
    async fn next(&mut self, mut each: impl FnMut(&[u8]) + Send) -> Result<u64> {
        let portion = match self {
            Self::Fetch(fetcher) => fetcher.next().await?,
            Self::Consume(consumer) => consumer.get_batch(None).await?,
        };
        let mut count = 0;
        for record in portion.iter().flat_map(Portion::records) {
            each(record.record.value);
            count += 1;
        }
        Ok(count)
    }
}

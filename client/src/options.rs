//! Every setting of the client, with its unit and default. Nothing here acts.

use std::net::SocketAddr;
use std::time::Duration;

use logdrive_protocol::batch::Codec;
use logdrive_protocol::operations::Setting;
use logdrive_protocol::{Position, WorkerId};

use crate::{Connector, Credentials, Filter, Tls};

/// How a [`Client`](crate::Client) behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name that the broker's diagnostics show; default `logdrive-client`.
    pub client_name: String,
    /// How long one attempt to connect, handshake included, may take; default 5 s.
    pub connect_timeout: Duration,
    /// How long a request may stay unanswered, besides what it asks to wait; default 30 s.
    pub request_timeout: Duration,
    /// How long producers, consumers and fetchers go on reconnecting and retrying before they
    /// report an error; default 1 min. A request that waited at a broker for longer than the longest
    /// pause of [`backoff`](Self::backoff) begins this anew. Single operations do not wait for an
    /// unreachable broker.
    pub retry_for: Duration,
    /// The pauses between attempts.
    pub backoff: Backoff,
    /// How an address is reached; default `None`: by TCP.
    pub connector: Option<Connector>,
    /// How TLS is spoken; default `None`: it is not.
    pub tls: Option<Tls>,
    /// What every new connection logs in with; default `None`: the broker asks nobody.
    pub credentials: Option<Credentials>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_name: "logdrive-client".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            retry_for: Duration::from_mins(1),
            backoff: Backoff::default(),
            connector: None,
            tls: None,
            credentials: None,
        }
    }
}

/// Pauses that double from the first to the longest, each shortened at random by up to a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause; default 20 ms.
    pub first: Duration,
    /// No pause is longer; default 1 s.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(20),
            longest: Duration::from_secs(1),
        }
    }
}

/// The brokers to try, in order: `host:port` each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses(pub Vec<String>);

/// Several addresses are separated by commas.
impl From<&str> for Addresses {
    fn from(list: &str) -> Self {
        let parts = list.split(',').map(str::trim);
        Self(
            parts
                .filter(|it| !it.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }
}

impl From<String> for Addresses {
    fn from(list: String) -> Self {
        list.as_str().into()
    }
}

impl From<&String> for Addresses {
    fn from(list: &String) -> Self {
        list.as_str().into()
    }
}

impl From<SocketAddr> for Addresses {
    fn from(address: SocketAddr) -> Self {
        Self(vec![address.to_string()])
    }
}

impl From<Vec<String>> for Addresses {
    fn from(list: Vec<String>) -> Self {
        Self(list)
    }
}

impl From<&[&str]> for Addresses {
    fn from(list: &[&str]) -> Self {
        Self(list.iter().map(|&it| it.to_owned()).collect())
    }
}

/// When a produced batch is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// After the fsync that made it durable.
    #[default]
    Synced,
    /// When it is staged: a crash of the broker may lose it, and its offset is provisional. A
    /// registered producer sends again what it learns to be lost, as far as it still holds it.
    Accepted,
}

/// How a [`Producer`](crate::Producer) packs the records of a batch. Stored and delivered as they
/// are packed, they are unpacked by whoever reads them.
///
/// A batch of one record is not packed, nor is one of less than 1 KiB, nor one that would keep more
/// than half of its length; after those only every second, fourth, up to 64th batch is tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: the least work for a single reader on a fast network.
    None,
    /// lz4: the least work for readers of what is packed.
    Lz4,
    /// zstd at its first level: the fewest bytes, and the least work for all together.
    #[default]
    Zstd,
}

impl Compression {
    pub(crate) fn codec(self) -> Option<Codec> {
        match self {
            Self::None => None,
            Self::Lz4 => Some(Codec::Lz4),
            Self::Zstd => Some(Codec::Zstd),
        }
    }
}

/// How a [`Producer`](crate::Producer) behaves.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// A name gives the same registration again after a restart of the program; none by default.
    pub name: Option<String>,
    /// Whether missing topics are created; default true.
    pub create_topic: bool,
    /// Whether the producer registers, so that a retry is never stored twice; default true. An
    /// unregistered one never sends again what may have been stored.
    pub registered: bool,
    /// When a record counts as acknowledged; default [`Ack::Synced`].
    pub ack: Ack,
    /// Whether batches are packed; default [`Compression::Zstd`].
    pub compression: Compression,
    /// A batch of so many bytes is full; default 1 MiB less 1 KiB. A larger record travels alone.
    /// They are counted before packing.
    pub batch_bytes: usize,
    /// A batch of so many records is full; default 65,536.
    pub batch_records: usize,
    /// Bytes of unanswered batches for each topic; default 16 MiB. A full window makes callers
    /// wait.
    pub window_bytes: usize,
    /// Unanswered batches for each topic; default 64, and never more than the broker allows.
    pub batches_in_flight: usize,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            name: None,
            create_topic: true,
            registered: true,
            ack: Ack::Synced,
            compression: Compression::default(),
            // With the head of the row that stores it, a full batch fills a page of 1 MiB.
            batch_bytes: (1 << 20) - (1 << 10),
            batch_records: 1 << 16,
            window_bytes: 16 << 20,
            batches_in_flight: 64,
        }
    }
}

/// How a [`Consumer`](crate::Consumer) behaves.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// Where a consumer that does not exist yet begins; default earliest.
    pub from: Position,
    /// Settings of a consumer that does not exist yet; one that exists must have the same. Empty,
    /// the default, takes it as it is.
    pub settings: Vec<Setting>,
    /// Whether a missing consumer is created; default true.
    pub create: bool,
    /// At most so many records are taken at a time; default 0, no limit.
    pub max_records: u32,
    /// At most so many bytes are taken at a time, but always one batch; default 1 MiB.
    pub max_bytes: u32,
    /// How long [`Consumer::get_next`](crate::Consumer::get_next) waits before it gives `None`;
    /// default `None`: as long as it takes.
    pub max_wait: Option<Duration>,
    /// Whether the next records are asked for while the last are still being handed out, one
    /// answer ahead for each topic; default false.
    pub prefetch: bool,
    /// Who takes; default a random worker. [`WorkerId::NONE`] loses an answer that gets lost.
    pub worker: Option<WorkerId>,
    /// How long records are lent before they are given to another, in whole milliseconds and at
    /// most 12 hours, from the moment at which the broker gives them; default `None`: they are
    /// taken for good.
    pub lease: Option<Duration>,
    /// Whether leases are extended when half of them is over, as long as the consumer lives; a
    /// record that is never acked nor given back is then never given to another. Default false.
    pub auto_extend: bool,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            from: Position::Earliest,
            settings: Vec::new(),
            create: true,
            max_records: 0,
            max_bytes: 1 << 20,
            max_wait: None,
            prefetch: false,
            worker: None,
            lease: None,
            auto_extend: false,
        }
    }
}

/// Where a [`Fetcher`](crate::Fetcher) ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// At the high watermark as it was when the fetcher began.
    #[default]
    HighWatermark,
    /// Before this position, which is looked up when the fetcher begins, and at the high watermark
    /// of that moment at the latest.
    Before(Position),
    /// Never: it waits for new records.
    Follow,
}

/// How a [`Fetcher`](crate::Fetcher) behaves.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// Where it ends; default the high watermark of the start.
    pub end: End,
    /// At most so many records in all; default 0, no limit.
    pub max_records: u64,
    /// Bytes asked for at a time, but always one batch; default 2 MiB.
    pub max_bytes: u32,
    /// Which records; the broker leaves out all others. Default: every record.
    pub filter: Filter,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            end: End::HighWatermark,
            max_records: 0,
            max_bytes: 2 << 20,
            filter: Filter::default(),
        }
    }
}

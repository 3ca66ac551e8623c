//! The Rust client of logdrive: producers, consumers, fetch and administration, async and blocking.
//!
//! ```no_run
//! use logdrive_client::{Client, ConsumerOptions, Event, Position, ProducerOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("127.0.0.1:7440").await?;
//!
//! let mut producer = client.producer(&["app", "audit"], ProducerOptions::default()).await?;
//! let receipt = producer.send("app", "started").await?; // on disk
//! println!("app has it at offset {}", receipt.offset);
//! producer.close().await?;
//!
//! let mut consumer = client.consumer("reports", &["app"], ConsumerOptions::default()).await?;
//! while let Some(event) = consumer.try_next().await? {
//!     match event {
//!         Event::Record(record) => println!("{} {:?}", record.offset, record.value),
//!         Event::Gap { gap, .. } => println!("{} records were removed unread", gap.records),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `client` | addresses, operations by name, what opens producers, consumers and fetchers |
//! | `dialer` | which connection is the current one |
//! | `connection` | one socket: requests out, answers matched to who asked |
//! | `pen` | the right to write to a socket, and who has it |
//! | `alarm` | one timer for all that a connection waits for |
//! | `net` | socket types, and other ways to an address than TCP |
//! | `tls` | whom the client trusts, and what it shows |
//! | `link` | handing a request to a connection and awaiting its answer |
//! | `producer` | batching, the window, sequences, resending |
//! | `consumer` | worker and sequence, so that no answer is lost and none comes twice; leases |
//! | `consumers` | registering, describing, altering and removing consumers by name |
//! | `credentials` | logging in, on every new connection |
//! | `principals` | who may log in, and what they may do |
//! | `fetch` | reading a topic without changing anything |
//! | `filter` | which records a reader wants |
//! | `reading` | what both share: asking until answered, and distrusting the answer |
//! | [`blocking`] | all of it for programs without a runtime |
//!
//! All state has one owner: a connection, and each topic of a producer, is a task that others send
//! messages to. Everything must be called within a tokio runtime, [`blocking`] apart.

mod alarm;
mod arrivals;
mod backoff;
pub mod blocking;
mod client;
mod connection;
mod consumer;
mod consumers;
mod credentials;
mod dialer;
mod error;
mod fetch;
mod filter;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod link;
mod net;
mod options;
mod pen;
mod principals;
mod producer;
mod reading;
mod record;
mod tls;

pub use client::Client;
pub use consumer::Consumer;
pub use credentials::Credentials;
pub use error::{Error, ErrorKind, TlsFault};
pub use fetch::Fetcher;
pub use filter::Filter;
pub use net::{Connector, Duplex};
pub use options::{
    Ack, Addresses, Backoff, Compression, ConsumerOptions, End, FetchOptions, Options,
    ProducerOptions,
};
pub use principals::verifier;
pub use producer::{
    Acknowledgements, Delivery, Durability, Producer, Receipt, Sender, Unacknowledged,
    UnacknowledgedTopic,
};
pub use record::{Event, Lease, Portion, Record};
pub use tls::{Identity, Tls};

pub use logdrive_protocol::batch::NewRecord;
pub use logdrive_protocol::operations::{
    AlterPrincipal, CreatePrincipal, Grant, IssuedToken, PrincipalSummary, TokenSummary, Verifier,
};
pub use logdrive_protocol::operations::{
    ConsumerAltered, ConsumerDescribed, ConsumerRegistered, ConsumerSummary, Counted, Counter, Gap,
    Greeted, LeaseSummary, Located, Measured, Pinged, Setting, TopicCreated, TopicDescribed,
    TopicPlace, TopicPurged, TopicSummary,
};
pub use logdrive_protocol::preface::Limits;
pub use logdrive_protocol::{ErrorCode, Failure, Outcome, Position, Rights, Secret, Severity};

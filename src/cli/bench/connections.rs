//! `bench connections`: what a connection that does nothing costs the broker.
//!
//! Owns the sockets: bare ones that have exchanged prefaces and one Hello, so that ten thousand of
//! them fit into the load generator as well.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use bytes::BytesMut;
use futures_util::{StreamExt, TryStreamExt, stream};
use logdrive_protocol::frame::{self, FLAG_ERROR, FrameDecoder};
use logdrive_protocol::limits::MAX_FRAME_BYTES;
use logdrive_protocol::operations::{Hello, Operation};
use logdrive_protocol::preface::{BrokerPreface, ClientPreface};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::codec::Decoder;

use super::args::ConnectionsArgs;
use super::figure::{Figure, Unit};
use super::ground::{Ground, Target};
use super::machine::{self, allow_files};
use crate::cli::progress::Progress;

/// Connections that are being made at once.
const AT_ONCE: usize = 64;
/// Files besides the sockets.
const OTHER_FILES: u64 = 256;

/// Measures connections.
pub(super) async fn run(
    ground: &Ground,
    arguments: &ConnectionsArgs,
) -> anyhow::Result<Vec<Figure>> {
    // Before the broker starts, which inherits it.
    allow_files(u64::from(arguments.count) + OTHER_FILES)?;
    let target = ground.broker().await?;
    let address: SocketAddr = target.address.parse()?;
    // What the first connection brings along is no matter of their number.
    drop(open(address).await?);
    let before = resident(&target)?;
    let progress = Progress::new(Some(arguments.count.into()), "connections");
    let mut opened = stream::iter(0..arguments.count)
        .map(|_| open(address))
        .buffer_unordered(AT_ONCE);
    let mut sockets = Vec::new();
    while let Some(socket) = opened.try_next().await? {
        sockets.push(socket);
        progress.set(sockets.len() as u64);
    }
    drop(opened);
    drop(progress);
    let after = resident(&target)?;
    // None of them was closed meanwhile.
    target.client().await?.ping().await?;
    for socket in &sockets {
        ensure!(
            socket
                .try_read(&mut [0])
                .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
            "the broker closed an idle connection"
        );
    }
    drop(sockets);
    target.end().await?;
    let each = after.saturating_sub(before) as f64 / f64::from(arguments.count);
    let count = arguments.count;
    Ok(vec![
        Figure::new("an idle connection, memory", each, Unit::Bytes)
            .parameter("connections", count),
        Figure::new("the broker with them, memory", after as f64, Unit::Bytes)
            .parameter("connections", count),
    ])
}

fn resident(target: &Target) -> anyhow::Result<u64> {
    let resident = target.pid().and_then(machine::resident);
    resident.context("the system does not tell what memory the broker has")
}

/// A connection that was greeted: nothing is on its way.
pub(super) async fn open(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut socket = TcpStream::connect(address).await?;
    let mut bytes = BytesMut::new();
    ClientPreface::default().encode(&mut bytes);
    let hello = Hello {
        client: "logdrive-bench".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    for part in frame::encode(Hello::OPCODE, 0, 1, &hello) {
        bytes.extend_from_slice(&part);
    }
    socket.write_all(&bytes).await?;
    bytes.clear();
    let mut greeted = false;
    let mut frames = FrameDecoder::new(MAX_FRAME_BYTES);
    loop {
        if socket.read_buf(&mut bytes).await? == 0 {
            bail!("the broker closed a connection instead of greeting it");
        }
        greeted = greeted || BrokerPreface::decode(&mut bytes)?.is_some();
        if !greeted {
            continue;
        }
        if let Some(answer) = frames.decode(&mut bytes)? {
            ensure!(answer.flags & FLAG_ERROR == 0, "the broker refused a Hello");
            return Ok(socket);
        }
    }
}

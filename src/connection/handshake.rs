//! The first bytes of a connection: who is there, a program or a person?
//!
//! Owns the socket until that is known. The broker never speaks first.
//!
//! | first byte | who |
//! |---|---|
//! | D4, the preface's magic | a binary client |
//! | FF | telnet, negotiating: swallowed, then text |
//! | printable ASCII, CR, LF, tab | a person, or a script with `nc` |
//! | 16 | TLS, which this version does not speak |

use std::io;

use anyhow::{Context, bail};
use bytes::BytesMut;
use logdrive_protocol::frame::{self, FLAG_ERROR, NOTICE};
use logdrive_protocol::preface::{BrokerPreface, ClientPreface, MAGIC};
use logdrive_protocol::{ErrorCode, Failure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::limits::{FIRST_BYTE_WAIT, FIRST_READ_BYTES, PREFACE_WAIT};
use crate::net::{ReadHalf, WriteHalf};

/// Telnet's "interpret as command".
pub(super) const IAC: u8 = 0xff;
/// The first byte of a TLS handshake record.
const TLS: u8 = 0x16;

/// Who is there; `buffer` is what was read beyond the preface.
pub(super) enum Opening {
    Binary {
        read: ReadHalf,
        write: WriteHalf,
        buffer: BytesMut,
    },
    Text {
        read: ReadHalf,
        write: WriteHalf,
        buffer: BytesMut,
        telnet: bool,
    },
}

/// Finds out who is there, and greets a program.
///
/// # Errors
/// The peer left, sent garbage or stopped in the middle; it was told why.
pub(super) async fn open(
    mut read: ReadHalf,
    mut write: WriteHalf,
    preface: BrokerPreface,
) -> anyhow::Result<Opening> {
    let mut buffer = BytesMut::with_capacity(FIRST_READ_BYTES);
    match timeout(FIRST_BYTE_WAIT, read.read_buf(&mut buffer)).await {
        Ok(Ok(0)) => bail!("the peer left without a word"),
        Ok(read) => read.context("reading the first byte")?,
        Err(_) => bail!("nothing was sent within {FIRST_BYTE_WAIT:?}"),
    };
    let first = buffer[0];
    if first == MAGIC[0] {
        let client = match timeout(PREFACE_WAIT, read_preface(&mut read, &mut buffer)).await {
            Ok(client) => client,
            Err(_) => Err(Failure::new(
                ErrorCode::HandshakeTimeout,
                format!("the preface did not arrive within {PREFACE_WAIT:?}"),
            )),
        };
        return match client {
            Ok(client) => greet(client, read, write, buffer, preface).await,
            Err(failure) => refuse(&mut write, failure).await,
        };
    }
    let text = first.is_ascii_graphic() || b" \r\n\t".contains(&first);
    if text || first == IAC {
        return Ok(Opening::Text {
            read,
            write,
            buffer,
            telnet: first == IAC,
        });
    }
    let what = if first == TLS {
        "this broker does not speak TLS"
    } else {
        "garbage came first"
    };
    let failure = Failure::new(ErrorCode::BadPreface, what)
        .hint("a binary client sends D4 4C 4F 47 first; a person types HELP");
    refuse(&mut write, failure).await
}

async fn read_preface(
    read: &mut ReadHalf,
    buffer: &mut BytesMut,
) -> Result<ClientPreface, Failure> {
    loop {
        if let Some(client) = ClientPreface::decode(buffer)? {
            return Ok(client);
        }
        match read.read_buf(buffer).await {
            Ok(0) => return Err(cut("the peer left in the middle of its preface")),
            Ok(_) => {}
            Err(error) => return Err(cut(&error.to_string())),
        }
    }
}

fn cut(what: &str) -> Failure {
    Failure::new(ErrorCode::BadPreface, what)
}

async fn greet(
    client: ClientPreface,
    read: ReadHalf,
    mut write: WriteHalf,
    buffer: BytesMut,
    preface: BrokerPreface,
) -> anyhow::Result<Opening> {
    let version = client.negotiate();
    let mut answer = BytesMut::new();
    BrokerPreface { version, ..preface }.encode(&mut answer);
    send(&mut write, &answer).await?;
    if version == 0 {
        bail!(
            "the client speaks versions {} to {}",
            client.lowest,
            client.highest
        );
    }
    Ok(Opening::Binary {
        read,
        write,
        buffer,
    })
}

/// Says why as a last frame, then ends the connection.
async fn refuse(write: &mut WriteHalf, failure: Failure) -> anyhow::Result<Opening> {
    let last = frame::encode(0, FLAG_ERROR, NOTICE, &failure).concat();
    send(write, &last).await?;
    Err(failure.into())
}

async fn send(write: &mut WriteHalf, bytes: &[u8]) -> anyhow::Result<()> {
    match timeout(PREFACE_WAIT, write.write_all(bytes)).await {
        Ok(sent) => sent.context("answering the preface"),
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

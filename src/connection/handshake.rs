//! The first bytes of a connection: who is there, a program or a person?
//!
//! Owns the socket until that is known. The broker never speaks first.
//!
//! | first byte | who |
//! |---|---|
//! | D4, the preface's magic | a binary client |
//! | FF | telnet, negotiating: swallowed, then text |
//! | printable ASCII, CR, LF, tab | a person, or a script with `nc` |
//! | 16 | TLS, where the broker has a certificate: within it the same again, but for TLS |

use std::io;

use anyhow::{Context, bail};
use bytes::BytesMut;
use logdrive_protocol::frame::{self, FLAG_ERROR, NOTICE};
use logdrive_protocol::preface::{BrokerPreface, ClientPreface, MAGIC};
use logdrive_protocol::{ErrorCode, Failure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::text;
use crate::limits::{FIRST_BYTE_WAIT, FIRST_READ_BYTES, PREFACE_WAIT};
use crate::net::{ReadHalf, WriteHalf};
use crate::tls::{Accepted, Tls};

/// Telnet's "interpret as command".
pub(super) const IAC: u8 = 0xff;
/// The first byte of a TLS handshake record.
const TLS: u8 = 0x16;
/// What to do without TLS where it is required.
const SPEAK_TLS: &str =
    "try: logdrive --tls --ca FILE, or openssl s_client -quiet -connect HOST:PORT";

/// Who is there.
pub(super) struct Opening {
    pub(super) read: ReadHalf,
    pub(super) write: WriteHalf,
    /// What was read beyond the preface.
    pub(super) buffer: BytesMut,
    /// The name in the certificate that the peer has shown and that was verified, if it has one.
    pub(super) peer: Option<String>,
    pub(super) speaks: Language,
}

/// What is spoken from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    /// Frames.
    Binary,
    /// Lines, perhaps with telnet's negotiation among them.
    Text { telnet: bool },
}

/// Finds out who is there, and greets a program.
///
/// # Errors
/// The peer left, sent garbage or stopped in the middle; it was told why.
pub(super) async fn open(
    mut read: ReadHalf,
    mut write: WriteHalf,
    preface: BrokerPreface,
    tls: Option<&Tls>,
) -> anyhow::Result<Opening> {
    let (mut buffer, mut peer) = (first_bytes(&mut read).await?, None);
    let encrypted = tls.filter(|_| buffer[0] == TLS);
    if let Some(tls) = encrypted {
        let accepted = tls.accept(buffer, read, write).await?;
        Accepted { read, write, peer } = accepted;
        buffer = first_bytes(&mut read).await?;
    }
    let naked = encrypted.is_none() && tls.is_some_and(Tls::is_required);
    let first = buffer[0];
    if first == MAGIC[0] {
        let client = match timeout(PREFACE_WAIT, read_preface(&mut read, &mut buffer)).await {
            Ok(client) => client,
            Err(_) => Err(Failure::new(
                ErrorCode::HandshakeTimeout,
                format!("the preface did not arrive within {PREFACE_WAIT:?}"),
            )),
        };
        match client {
            Ok(_) if naked => return refuse(write, tls_required()).await,
            Ok(client) => greet(client, &mut write, preface).await?,
            Err(failure) => return refuse(write, failure).await,
        }
        return Ok(Opening {
            read,
            write,
            buffer,
            peer,
            speaks: Language::Binary,
        });
    }
    let text = first.is_ascii_graphic() || b" \r\n\t".contains(&first);
    if text || first == IAC {
        if naked {
            return turn_away(write, tls_required()).await;
        }
        let telnet = first == IAC;
        return Ok(Opening {
            read,
            write,
            buffer,
            peer,
            speaks: Language::Text { telnet },
        });
    }
    let first_words = "a binary client sends D4 4C 4F 47 first; a person types HELP";
    let (what, hint) = match first {
        TLS if encrypted.is_some() => ("TLS came within TLS", first_words),
        TLS => (
            "this broker does not speak TLS",
            "connect without TLS, or start it with --tls-cert FILE --tls-key FILE",
        ),
        _ => ("garbage came first", first_words),
    };
    refuse(write, Failure::new(ErrorCode::BadPreface, what).hint(hint)).await
}

/// What the peer sends first, at least one byte of it.
async fn first_bytes(read: &mut ReadHalf) -> anyhow::Result<BytesMut> {
    let mut buffer = BytesMut::with_capacity(FIRST_READ_BYTES);
    match timeout(FIRST_BYTE_WAIT, read.read_buf(&mut buffer)).await {
        Ok(Ok(0)) => bail!("the peer left without a word"),
        Ok(read) => read.context("reading the first byte")?,
        Err(_) => bail!("nothing was sent within {FIRST_BYTE_WAIT:?}"),
    };
    Ok(buffer)
}

fn tls_required() -> Failure {
    let what = "this broker takes connections with TLS only";
    Failure::new(ErrorCode::TlsRequired, what).hint(SPEAK_TLS)
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
    write: &mut WriteHalf,
    preface: BrokerPreface,
) -> anyhow::Result<()> {
    let version = client.negotiate();
    let mut answer = BytesMut::new();
    BrokerPreface { version, ..preface }.encode(&mut answer);
    send(write, &answer).await?;
    if version == 0 {
        bail!(
            "the client speaks versions {} to {}",
            client.lowest,
            client.highest
        );
    }
    Ok(())
}

/// Says why as a last frame, then ends the connection.
async fn refuse(mut write: WriteHalf, failure: Failure) -> anyhow::Result<Opening> {
    let last = frame::encode(0, FLAG_ERROR, NOTICE, &failure).concat();
    send(&mut write, &last).await?;
    let _ = timeout(PREFACE_WAIT, write.shutdown()).await;
    Err(failure.into())
}

/// Says why as a line, then ends the connection.
async fn turn_away(mut write: WriteHalf, failure: Failure) -> anyhow::Result<Opening> {
    send(&mut write, text::refusal(&failure).as_bytes()).await?;
    let _ = timeout(PREFACE_WAIT, write.shutdown()).await;
    Err(failure.into())
}

async fn send(write: &mut WriteHalf, bytes: &[u8]) -> anyhow::Result<()> {
    let sending = async {
        write.write_all(bytes).await?;
        write.flush().await
    };
    match timeout(PREFACE_WAIT, sending).await {
        Ok(sent) => sent.context("answering the preface"),
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

//! The text protocol of NATS, cut into what the server says.
//!
//! Owns the parser and the writer of requests; knows nothing of JetStream. It distrusts what it
//! reads: lines and payloads are bounded, and nothing is allocated from a length.
//!
//! ```text
//! INFO {json} CRLF        MSG subject sid [reply] length CRLF payload CRLF
//! PING CRLF PONG CRLF     HMSG subject sid [reply] head-length length CRLF head payload CRLF
//! +OK CRLF -ERR 'text' CRLF
//! ```

use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A line with more is not one; the longest is INFO.
const MAX_LINE: usize = 32 << 10;
/// A payload with more is none that was asked for.
const MAX_PAYLOAD: usize = 8 << 20;

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// About itself, as JSON.
    Info(Bytes),
    /// A message of a subscription.
    Message(Message),
    Ping,
    Pong,
    Ok,
    /// It refuses something, mostly before it closes the connection.
    Error(String),
}

/// A message of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Where an answer to it goes; empty if nobody waits for one.
    pub(super) reply: Bytes,
    /// Status and headers, as they stand; empty if it has none.
    pub(super) head: Bytes,
    pub(super) payload: Bytes,
}

/// The next thing that the server says, if it has arrived.
///
/// # Errors
/// The bytes are not the protocol; the connection is of no use any more.
pub(super) fn take(input: &mut BytesMut) -> Result<Option<Said>> {
    let within = &input[..input.len().min(MAX_LINE)];
    let Some(end) = memchr::memmem::find(within, b"\r\n") else {
        ensure!(
            input.len() < MAX_LINE,
            "a line of the server is over {MAX_LINE} bytes"
        );
        return Ok(None);
    };
    let line = std::str::from_utf8(&input[..end]).context("a line of the server is not UTF-8")?;
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let said = match verb {
        "MSG" => {
            let (reply, lengths) = subscribed::<1>(rest)?;
            return take_message(input, end + 2, reply, [0, lengths[0]]);
        }
        "HMSG" => {
            let (reply, lengths) = subscribed::<2>(rest)?;
            return take_message(input, end + 2, reply, lengths);
        }
        "PING" => Said::Ping,
        "PONG" => Said::Pong,
        "+OK" => Said::Ok,
        "INFO" => Said::Info(Bytes::copy_from_slice(rest.as_bytes())),
        "-ERR" => Said::Error(rest.trim_matches('\'').to_owned()),
        _ => bail!("the server says \"{}\"", line.escape_debug()),
    };
    input.advance(end + 2);
    Ok(Some(said))
}

/// `subject sid [reply] length...`: the reply, and the lengths.
fn subscribed<const N: usize>(rest: &str) -> Result<(String, [usize; N])> {
    let mut words = rest.split_ascii_whitespace().skip(2);
    let mut following = [""; 4];
    let mut count = 0;
    for (place, word) in following.iter_mut().zip(&mut words) {
        *place = word;
        count += 1;
    }
    let (reply, numbers) = match &following[..count] {
        numbers if numbers.len() == N => ("", numbers),
        [reply, numbers @ ..] if numbers.len() == N => (*reply, numbers),
        _ => bail!("a message of the server is \"{}\"", rest.escape_debug()),
    };
    let mut lengths = [0; N];
    for (length, word) in lengths.iter_mut().zip(numbers) {
        *length = match word.parse() {
            Ok(len) if len <= MAX_PAYLOAD => len,
            _ => bail!("a length of \"{word}\" is not within 0 and {MAX_PAYLOAD}"),
        };
    }
    Ok((reply.to_owned(), lengths))
}

/// The payload that begins at `begin`; its length counts the head that stands before it.
fn take_message(
    input: &mut BytesMut,
    begin: usize,
    reply: String,
    [head, whole]: [usize; 2],
) -> Result<Option<Said>> {
    ensure!(
        head <= whole,
        "a message of {whole} bytes has a head of {head}"
    );
    let Some(end) = input.get(begin + whole..begin + whole + 2) else {
        return Ok(None);
    };
    ensure!(
        end == b"\r\n",
        "a message of {whole} bytes does not end where it says"
    );
    input.advance(begin);
    let mut payload = input.split_to(whole).freeze();
    input.advance(2);
    Ok(Some(Said::Message(Message {
        reply: reply.into(),
        head: payload.split_to(head),
        payload,
    })))
}

/// Appends a message to a subject; the answer goes to `reply` if that is not empty.
pub(super) fn put_message(out: &mut BytesMut, subject: &str, reply: &str, payload: &[u8]) {
    let mut writer = out.writer();
    let between = if reply.is_empty() { "" } else { " " };
    // Writing to a buffer that grows cannot fail.
    let _ = write!(
        writer,
        "PUB {subject} {reply}{between}{}\r\n",
        payload.len()
    );
    let _ = writer.write_all(payload);
    let _ = writer.write_all(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds bytes in pieces of `step` and writes what the server said, a line each.
    fn told(bytes: &[u8], step: usize) -> String {
        let mut input = BytesMut::new();
        let mut told = Vec::new();
        for piece in bytes.chunks(step) {
            input.extend_from_slice(piece);
            loop {
                match take(&mut input) {
                    Ok(Some(Said::Message(it))) => {
                        told.push(format!("{:?} {:?} {:?}", it.reply, it.head, it.payload));
                    }
                    Ok(Some(said)) => told.push(format!("{said:?}")),
                    Ok(None) => break,
                    Err(error) => {
                        told.push(error.to_string());
                        return told.join("\n");
                    }
                }
            }
        }
        if !input.is_empty() {
            told.push(format!("{} bytes wait", input.len()));
        }
        told.join("\n")
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        for step in 1..=bytes.len() {
            assert_eq!(told(bytes, step), expected, "in pieces of {step}");
        }
    }

    #[test]
    fn what_the_server_says_is_the_same_wherever_it_is_cut() {
        check(
            b"INFO {\"version\":\"2.9\"} \r\nPING\r\nPONG\r\n+OK\r\n-ERR 'Slow Consumer'\r\n",
            "Info(b\"{\\\"version\\\":\\\"2.9\\\"} \")\nPing\nPong\nOk\nError(\"Slow Consumer\")",
        );
        check(
            b"MSG s 1 4\r\na\r\nb\r\nMSG s 1 r.2 0\r\n\r\nHMSG s 1 16 18\r\nNATS/1.0 408 x\r\nab\r\n",
            "b\"\" b\"\" b\"a\\r\\nb\"\nb\"r.2\" b\"\" b\"\"\nb\"\" b\"NATS/1.0 408 x\\r\\n\" b\"ab\"",
        );
        check(b"MSG s 1 9\r\nabc", "14 bytes wait");
    }

    #[test]
    fn what_is_not_the_protocol_is_refused() {
        check(b"HTTP/1.1 400\r\n", "the server says \"HTTP/1.1 400\"");
        check(b"MSG s 4\r\n", "a message of the server is \"s 4\"");
        check(
            b"MSG a b c d e\r\n",
            "a message of the server is \"a b c d e\"",
        );
        let over = "a length of \"8388609\" is not within 0 and 8388608";
        check(b"MSG s 1 8388609\r\n", over);
        check(b"MSG s 1 -1\r\n", &over.replace("8388609\"", "-1\""));
        check(b"HMSG s 1 5 4\r\n", "a message of 4 bytes has a head of 5");
        check(
            b"MSG s 1 1\r\nabc",
            "a message of 1 bytes does not end where it says",
        );
        check(b"\xff\r\n", "a line of the server is not UTF-8");
        let long = told(&vec![b'I'; MAX_LINE], MAX_LINE);
        assert_eq!(long, "a line of the server is over 32768 bytes");
    }

    #[test]
    fn a_message_names_its_length_and_where_the_answer_goes() {
        let mut out = BytesMut::new();
        put_message(&mut out, "s", "r", b"abc");
        put_message(&mut out, "s", "", b"");
        assert_eq!(&out[..], b"PUB s r 3\r\nabc\r\nPUB s 0\r\n\r\n");
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), step in 1..20_usize) {
            let _ = told(&bytes, step);
        }
    }
}

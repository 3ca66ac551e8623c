//! The answers of Redis, cut into tokens as they arrive.
//!
//! Owns the parser of RESP 2 and the writer of requests; knows no command. It distrusts what it
//! reads: lines, strings and nesting are bounded, and nothing is allocated from a length.
//!
//! ```text
//! +text CRLF    -error CRLF    :number CRLF    $length CRLF bytes CRLF    *elements CRLF element...
//! $-1 CRLF, *-1 CRLF: none
//! ```

use std::io::Write;

use anyhow::{Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A line with more is not one.
const MAX_LINE: usize = 4 << 10;
/// A string with more is none that was asked for.
const MAX_BULK: usize = 8 << 20;
/// Elements of an array; answers of the comparison have a few thousand.
const MAX_ELEMENTS: usize = 1 << 20;
/// Arrays within arrays; answers about several streams have five.
const MAX_DEPTH: usize = 8;

/// One step through an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// `+OK` and its like.
    Simple(Bytes),
    /// The server refuses something.
    Error(String),
    Integer(i64),
    /// A string of bytes.
    Bulk(Bytes),
    /// No string, or no array.
    Null,
    /// So many elements follow.
    Array(usize),
}

/// A token and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) token: Token,
    /// Arrays that it is in.
    pub(super) depth: usize,
    /// Whether an answer ends with it.
    pub(super) last: bool,
}

/// Cuts answers into tokens.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Elements that are missing of each open array, outermost first; none of them is 0.
    missing: Vec<usize>,
}

impl Answers {
    /// The next token, if it has arrived.
    ///
    /// # Errors
    /// The bytes are not RESP; the connection is of no use any more.
    pub(super) fn take(&mut self, input: &mut BytesMut) -> Result<Option<Placed>> {
        let Some(token) = take_token(input)? else {
            return Ok(None);
        };
        let depth = self.missing.len();
        match token {
            Token::Array(elements) if elements > 0 => {
                ensure!(depth < MAX_DEPTH, "an answer nests over {MAX_DEPTH} arrays");
                self.missing.push(elements);
            }
            _ => self.close(),
        }
        Ok(Some(Placed {
            token,
            depth,
            last: self.missing.is_empty(),
        }))
    }

    /// An element is whole: so may be the arrays around it.
    fn close(&mut self) {
        while let Some(missing) = self.missing.last_mut() {
            *missing -= 1;
            if *missing > 0 {
                break;
            }
            self.missing.pop();
        }
    }
}

fn take_token(input: &mut BytesMut) -> Result<Option<Token>> {
    let within = &input[..input.len().min(MAX_LINE)];
    let Some(end) = memchr::memmem::find(within, b"\r\n") else {
        ensure!(
            input.len() < MAX_LINE,
            "a line of an answer is over {MAX_LINE} bytes"
        );
        return Ok(None);
    };
    let Some((&kind, rest)) = input[..end].split_first() else {
        bail!("an answer begins with an empty line");
    };
    let text = String::from_utf8_lossy(rest);
    let number = || match text.parse::<i64>() {
        Ok(number) => Ok(number),
        Err(_) => bail!("\"{text}\" in an answer is no number"),
    };
    let token = match kind {
        b'+' => Token::Simple(Bytes::copy_from_slice(rest)),
        b'-' => Token::Error(text.into_owned()),
        b':' => Token::Integer(number()?),
        b'*' => match bounded(number()?, MAX_ELEMENTS)? {
            Some(elements) => Token::Array(elements),
            None => Token::Null,
        },
        b'$' => match bounded(number()?, MAX_BULK)? {
            Some(len) => return take_bulk(input, end + 2, len),
            None => Token::Null,
        },
        other => bail!("an answer begins with byte {other:#04x}"),
    };
    input.advance(end + 2);
    Ok(Some(token))
}

/// A length; `None` for -1.
fn bounded(number: i64, most: usize) -> Result<Option<usize>> {
    if number == -1 {
        return Ok(None);
    }
    match usize::try_from(number) {
        Ok(len) if len <= most => Ok(Some(len)),
        _ => bail!("a length of {number} in an answer is not within 0 and {most}"),
    }
}

fn take_bulk(input: &mut BytesMut, begin: usize, len: usize) -> Result<Option<Token>> {
    let Some(end) = input.get(begin + len..begin + len + 2) else {
        return Ok(None);
    };
    ensure!(
        end == b"\r\n",
        "a string of {len} bytes does not end where it says"
    );
    input.advance(begin);
    let bulk = input.split_to(len).freeze();
    input.advance(2);
    Ok(Some(Token::Bulk(bulk)))
}

/// Appends a command.
pub(super) fn put_command(out: &mut BytesMut, words: &[&[u8]]) {
    let mut writer = out.writer();
    // Writing to a buffer that grows cannot fail.
    let _ = write!(writer, "*{}\r\n", words.len());
    for word in words {
        let _ = write!(writer, "${}\r\n", word.len());
        let _ = writer.write_all(word);
        let _ = writer.write_all(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds bytes in pieces of `step` and writes what comes out, a token a line.
    fn told(bytes: &[u8], step: usize) -> String {
        let (mut answers, mut input) = (Answers::default(), BytesMut::new());
        let mut told = Vec::new();
        for piece in bytes.chunks(step) {
            input.extend_from_slice(piece);
            loop {
                match answers.take(&mut input) {
                    Ok(Some(it)) => {
                        let end = if it.last { " end" } else { "" };
                        told.push(format!("{}{:?}{end}", " ".repeat(it.depth), it.token));
                    }
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
    fn an_answer_is_the_same_wherever_it_is_cut() {
        check(
            b"+OK\r\n*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nv\r\n$4\r\na\r\nb\r\n*0\r\n:-7\r\n$-1\r\n*-1\r\n$0\r\n\r\n",
            "Simple(b\"OK\") end\nArray(2)\n Array(2)\n  Bulk(b\"1-0\")\n  Array(2)\n   Bulk(b\"v\")\n   \
             Bulk(b\"a\\r\\nb\")\n Array(0) end\nInteger(-7) end\nNull end\nNull end\nBulk(b\"\") end",
        );
        check(
            b"-ERR no such thing\r\n",
            "Error(\"ERR no such thing\") end",
        );
        check(b"$5\r\nab", "6 bytes wait");
    }

    #[test]
    fn what_is_not_resp_is_refused() {
        check(b"HTTP/1.1 400\r\n", "an answer begins with byte 0x48");
        check(b"\r\n", "an answer begins with an empty line");
        check(b":1x\r\n", "\"1x\" in an answer is no number");
        check(
            b"$8388609\r\n",
            "a length of 8388609 in an answer is not within 0 and 8388608",
        );
        check(
            b"*-2\r\n",
            "a length of -2 in an answer is not within 0 and 1048576",
        );
        check(
            b"$1\r\nabc",
            "a string of 1 bytes does not end where it says",
        );
        let long = told(&[b'+'; MAX_LINE], MAX_LINE);
        assert_eq!(long, "a line of an answer is over 4096 bytes");
        let deep = told(&b"*1\r\n".repeat(9), 4);
        assert!(deep.ends_with("an answer nests over 8 arrays"), "{deep}");
    }

    #[test]
    fn a_command_is_an_array_of_strings() {
        let mut out = BytesMut::new();
        put_command(&mut out, &[b"XLEN", b"a topic"]);
        assert_eq!(&out[..], b"*2\r\n$4\r\nXLEN\r\n$7\r\na topic\r\n");
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), step in 1..20_usize) {
            let _ = told(&bytes, step);
        }
    }
}

//! A connection that types: lines out, lines in.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::binary;

/// One peer in text mode.
pub(crate) struct Text {
    reader: BufReader<TcpStream>,
}

impl Text {
    /// Connects; the broker waits for the first line.
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self {
            reader: BufReader::new(binary::socket(address)),
        }
    }

    /// Sends bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    /// Gives up sending when nothing was taken for so long.
    pub(crate) fn set_write_patience(&mut self, patience: Duration) {
        let socket = self.reader.get_ref();
        socket.set_write_timeout(Some(patience)).unwrap();
    }

    /// Whether the broker took all of it.
    pub(crate) fn sends_all(&mut self, bytes: &[u8]) -> bool {
        self.reader.get_mut().write_all(bytes).is_ok()
    }

    /// Types a line.
    pub(crate) fn say(&mut self, line: &str) {
        self.write(format!("{line}\n").as_bytes());
    }

    /// The next line without its end; none once the broker has closed the connection.
    pub(crate) fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).unwrap();
        (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Types a line and reads one of the answer.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.hear()
            .unwrap_or_else(|| panic!("closed instead of an answer to {line}"))
    }

    /// Types a line whose answer begins with this line.
    #[track_caller]
    pub(crate) fn check(&mut self, line: &str, expected: &str) {
        assert_eq!(self.ask(line), expected, "{line}");
    }

    /// Everything up to the end of the connection.
    pub(crate) fn rest(mut self) -> String {
        let mut rest = Vec::new();
        // The broker may close while bytes that it does not want are on their way to it.
        let _ = self.reader.read_to_end(&mut rest);
        String::from_utf8(rest).unwrap()
    }
}

//! A connection that speaks frames: blocking, and exact about what it sends.

use std::collections::HashMap;
use std::fmt::Debug;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use bytes::BytesMut;
use logdrive_protocol::Failure;
use logdrive_protocol::body::Body;
use logdrive_protocol::frame::{self, FLAG_ERROR, Frame, FrameDecoder, NOTICE};
use logdrive_protocol::limits::MAX_FRAME_BYTES;
use logdrive_protocol::operations::Operation;
use logdrive_protocol::preface::{BrokerPreface, ClientPreface};
use tokio_util::codec::Decoder;

use super::PATIENCE;
use super::said::{Said, said};

/// One peer.
pub(crate) struct Connection {
    socket: TcpStream,
    input: BytesMut,
    decoder: FrameDecoder,
    last: u32,
    /// Answers that came before they were asked about.
    early: HashMap<u32, Frame>,
    /// Notices, in the order in which they came.
    pub(crate) notices: Vec<Frame>,
}

/// A client's preface, as bytes.
pub(crate) fn preface() -> Vec<u8> {
    let mut bytes = BytesMut::new();
    ClientPreface::default().encode(&mut bytes);
    bytes.to_vec()
}

/// A request as a frame.
pub(crate) fn frame_of<O: Operation>(correlation: u32, request: &O) -> Vec<u8> {
    frame::encode(O::OPCODE, 0, correlation, request).concat()
}

/// A frame of any bytes.
pub(crate) fn raw_frame(opcode: u8, flags: u8, correlation: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 6).unwrap();
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend([opcode, flags]);
    bytes.extend(correlation.to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A socket on which nothing was said yet.
pub(crate) fn socket(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

impl Connection {
    /// Connects and exchanges prefaces.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let mut connection = Self::silent(address);
        connection.write(&preface());
        connection.greeted();
        connection
    }

    /// Connects and says nothing yet.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        Self {
            socket: socket(address),
            input: BytesMut::new(),
            decoder: FrameDecoder::new(MAX_FRAME_BYTES),
            last: 0,
            early: HashMap::new(),
            notices: Vec::new(),
        }
    }

    /// Reads the broker's preface.
    pub(crate) fn greeted(&mut self) -> BrokerPreface {
        loop {
            if let Some(preface) = BrokerPreface::decode(&mut self.input).unwrap() {
                return preface;
            }
            assert!(self.read(), "the broker closed the connection instead");
        }
    }

    /// Sends bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Sends bytes to a broker that may have stopped reading; whether it took them all.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    /// Sends as much of it as the system takes without waiting for the broker.
    pub(crate) fn write_at_once(&mut self, bytes: &[u8]) {
        self.socket.set_nonblocking(true).unwrap();
        let mut rest = bytes;
        while let Ok(written) = self.socket.write(rest)
            && written > 0
        {
            rest = &rest[written..];
        }
        self.socket.set_nonblocking(false).unwrap();
    }

    /// The number of a further request.
    pub(crate) fn number(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    /// Sends a request and does not wait for its answer.
    pub(crate) fn send<O: Operation>(&mut self, request: &O) -> u32 {
        let correlation = self.number();
        self.write(&frame_of(correlation, request));
        correlation
    }

    /// Sends requests in one write; their numbers.
    pub(crate) fn send_all<O: Operation>(&mut self, requests: &[O]) -> Vec<u32> {
        let numbers: Vec<_> = requests.iter().map(|_| self.number()).collect();
        let frames: Vec<u8> = requests
            .iter()
            .zip(&numbers)
            .flat_map(|(request, number)| frame_of(*number, request))
            .collect();
        self.write(&frames);
        numbers
    }

    /// Waits for the answer to a request that was sent.
    pub(crate) fn answer<O: Operation>(&mut self, correlation: u32) -> Result<O::Answer, Failure> {
        let frame = self
            .answer_frame(correlation)
            .unwrap_or_else(|| panic!("{} was not answered", O::NAME));
        assert_eq!(frame.opcode, O::OPCODE);
        read_answer::<O>(frame)
    }

    /// The answer to a request as a frame; none if the connection ends before it.
    pub(crate) fn answer_frame(&mut self, correlation: u32) -> Option<Frame> {
        if let Some(frame) = self.early.remove(&correlation) {
            return Some(frame);
        }
        loop {
            let frame = self.hear()?;
            if frame.correlation == correlation {
                return Some(frame);
            }
            if frame.correlation == NOTICE && frame.flags & FLAG_ERROR == 0 {
                self.notices.push(frame);
                continue;
            }
            let twice = self.early.insert(frame.correlation, frame);
            assert!(twice.is_none(), "answered twice: {twice:?}");
        }
    }

    /// Sends a request and waits for its answer.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "requests are mostly made where they are sent"
    )]
    pub(crate) fn ask<O: Operation>(&mut self, request: O) -> Result<O::Answer, Failure> {
        let correlation = self.send(&request);
        self.answer::<O>(correlation)
    }

    /// Sends a request whose answer must be this, as [`said`] prints it.
    #[track_caller]
    pub(crate) fn check<O>(&mut self, request: O, expected: &str)
    where
        O: Operation + Debug,
        O::Answer: Said,
    {
        let shown = format!("{request:?}");
        assert_eq!(said(self.ask(request)), expected, "{shown}");
    }

    /// The answer to a request that was sent must be this.
    #[track_caller]
    pub(crate) fn check_answer<O>(&mut self, correlation: u32, expected: &str)
    where
        O: Operation,
        O::Answer: Said,
    {
        assert_eq!(said(self.answer::<O>(correlation)), expected);
    }

    /// The next frame, whatever it is; none once the broker has closed the connection.
    pub(crate) fn hear(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.input).unwrap() {
                return Some(frame);
            }
            if !self.read() {
                assert!(self.input.is_empty(), "the last frame was cut");
                return None;
            }
        }
    }

    /// The next frame, which must be an error.
    pub(crate) fn hear_failure(&mut self) -> Failure {
        let frame = self.hear().unwrap();
        assert_eq!(frame.flags, FLAG_ERROR, "{frame:?}");
        Failure::from_bytes(frame.body).unwrap()
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish_sending(&mut self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads to the end of the connection; nothing may come any more.
    pub(crate) fn closed(&mut self) {
        if let Some(frame) = self.hear() {
            panic!("the connection goes on: {frame:?}");
        }
    }

    /// Reads to the end of the connection, whatever comes.
    pub(crate) fn drained(mut self) {
        while self.read() {
            self.input.clear();
        }
    }

    /// Whether there was more to read.
    fn read(&mut self) -> bool {
        let mut some = [0; 16 << 10];
        match self.socket.read(&mut some) {
            Ok(0) => false,
            Ok(count) => {
                self.input.extend_from_slice(&some[..count]);
                true
            }
            // The broker may close while bytes that it does not want are on their way to it.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("heard nothing: {error}"),
        }
    }
}

/// The answer that a frame holds.
pub(crate) fn read_answer<O: Operation>(frame: Frame) -> Result<O::Answer, Failure> {
    if frame.flags & FLAG_ERROR == 0 {
        Ok(O::Answer::from_bytes(frame.body).unwrap())
    } else {
        Err(Failure::from_bytes(frame.body).unwrap())
    }
}

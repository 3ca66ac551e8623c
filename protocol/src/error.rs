//! The registry of errors: numbers that are never reused, and what a client may conclude from each.

use std::fmt;

use crate::body::{Body, Malformed, Reader, Writer};

/// What a client knows about its request after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was changed.
    NotDone,
    /// It may have been done: only a retry that the broker recognizes (same sequence) is safe.
    Unknown,
}

macro_rules! errors {
    ($($number:literal $variant:ident $name:literal $retryable:literal $meaning:literal)*) => {
        /// Every error that a broker answers with; the table stands in PROTOCOL.md.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $(#[doc = $meaning] $variant,)*
            /// A number that this version does not know: not retryable.
            Other(u32),
        }

        impl ErrorCode {
            /// All errors in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The number on the wire.
            pub fn number(self) -> u32 {
                match self {
                    $(Self::$variant => $number,)*
                    Self::Other(number) => number,
                }
            }

            /// The error of a number.
            pub fn from_number(number: u32) -> Self {
                match number {
                    $($number => Self::$variant,)*
                    other => Self::Other(other),
                }
            }

            /// The spelling in text mode and on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other(_) => "OTHER",
                }
            }

            /// Whether the same request can succeed later without anything being changed in it.
            pub fn is_retryable(self) -> bool {
                match self {
                    $(Self::$variant => $retryable,)*
                    Self::Other(_) => false,
                }
            }

            /// What it means, in one sentence.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)*
                    Self::Other(_) => "An error of a newer version.",
                }
            }
        }
    };
}

errors! {
    1  Malformed "MALFORMED" false "The body does not parse."
    2  UnknownOperation "UNKNOWN_OPERATION" false "No operation has this opcode."
    3  UnknownFlag "UNKNOWN_FLAG" false "A critical flag is not known here."
    4  BadFrame "BAD_FRAME" false "The boundary between frames is lost; the connection ends."
    5  FrameTooLarge "FRAME_TOO_LARGE" false "The length field is over the limit; the connection ends."
    6  BadPreface "BAD_PREFACE" false "The connection began with neither a preface nor text."
    7  UnsupportedVersion "UNSUPPORTED_VERSION" false "Client and broker share no version of the protocol."
    8  HandshakeTimeout "HANDSHAKE_TIMEOUT" true "The preface or the login did not arrive in time."
    9  Cancelled "CANCELLED" true "The request was cancelled before it took effect."
    10 NotSupported "NOT_SUPPORTED" false "A field asks for something that this version does not do."
    11 UnknownCommand "UNKNOWN_COMMAND" false "No text command has this verb."
    12 Syntax "SYNTAX" false "The text command lacks a word or has one that does not fit."
    13 Misdirected "MISDIRECTED" false "An HTTP request reached the port of logdrive's own protocol."
    14 InvalidPosition "INVALID_POSITION" false "The position is none of those in the grammar."
    15 LineTooLong "LINE_TOO_LONG" false "A text command is over the limit; the connection ends."
    16 InvalidFilter "INVALID_FILTER" false "A filter is unknown, given twice where once is meant, does not parse, or its regular expression is too large."
    17 TlsRequired "TLS_REQUIRED" false "The broker takes connections with TLS only."
    18 FrameTimeout "FRAME_TIMEOUT" true "A frame or a line was begun and did not go on; the connection ends."
    19 IdleTimeout "IDLE_TIMEOUT" true "Nothing was said for the idle time; the connection ends."
    20 TopicNotFound "TOPIC_NOT_FOUND" false "No topic has this name or id."
    21 TopicExists "TOPIC_EXISTS" false "A topic of this name exists."
    22 InvalidTopicName "INVALID_TOPIC_NAME" false "A topic's name is 1 to 128 of A-Z a-z 0-9 . _ - and does not start with a dot."
    23 InvalidConfig "INVALID_CONFIG" false "A setting is unknown or its value does not fit."
    30 ProducerNotFound "PRODUCER_NOT_FOUND" false "No producer has this id: it was forgotten, unregistered or never registered."
    31 NotRegisteredForTopic "NOT_REGISTERED_FOR_TOPIC" false "The id is registered for another topic."
    32 OutOfSequence "OUT_OF_SEQUENCE" false "The batch does not follow the producer's last one; `first` says which sequence is next."
    33 SequenceReused "SEQUENCE_REUSED" false "This sequence was used for other records."
    34 FencedEpoch "FENCED_EPOCH" false "Another instance of this producer has registered, under the epoch that `first` says."
    35 InvalidName "INVALID_NAME" false "A producer's or consumer's name follows the rules of topic names."
    40 RecordTooLarge "RECORD_TOO_LARGE" false "A record is over the limit, which `first` says in bytes."
    41 BatchCorrupt "BATCH_CORRUPT" false "The batch's checksum, count, times or record boundaries do not agree."
    42 BatchTooLarge "BATCH_TOO_LARGE" false "The batch is over the limit, which `first` says in bytes."
    44 InvalidDelay "INVALID_DELAY" false "`not_before` lies in the past or too far ahead; `first` is the broker's clock."
    45 InvalidParts "INVALID_PARTS" false "The request names nothing to do, one topic twice, or batches of registered producers beside others."
    46 PartlyStored "PARTLY_STORED" false "Some batches of the request are stored already and others are not."
    50 ConsumerNotFound "CONSUMER_NOT_FOUND" false "The topic has no consumer of this name or id."
    51 ConsumerExists "CONSUMER_EXISTS" false "A consumer of this name exists with another configuration."
    52 StaleSequence "STALE_SEQUENCE" false "The worker's sequence is neither its last one, which `first` says, nor the next."
    53 WorkerForgotten "WORKER_FORGOTTEN" false "The consumer does not know this worker: it starts again at sequence 1."
    54 TooManyWorkers "TOO_MANY_WORKERS" true "All places for workers of this consumer are taken by active ones."
    55 LeaseLost "LEASE_LOST" false "The lease does not hold these records any more: its time is over, or they were given back; others may have them."
    56 NotLeased "NOT_LEASED" false "The records from `first` up to, not including, `second` are not leased."
    57 WrongConsumer "WRONG_CONSUMER" false "The lease is one of the consumer whose id `first` says."
    58 InvalidLease "INVALID_LEASE" false "A lease lasts from 1 millisecond to what `first` says, in milliseconds."
    59 NotADeadLetter "NOT_A_DEAD_LETTER" false "The record at offset `first` of that topic was not given up by this consumer."
    60 OffsetOutOfRange "OFFSET_OUT_OF_RANGE" false "The offset is beyond the end of the topic, which `first` says."
    61 DataDamaged "DATA_DAMAGED" false "The records from `first` up to, not including, `second` cannot be read."
    70 LowSpace "LOW_SPACE" true "The disk is nearly full: nothing new is taken until there is room."
    71 StorageFailed "STORAGE_FAILED" true "The last write failed: nothing is written until the store has recovered."
    72 OutcomeUnknown "OUTCOME_UNKNOWN" true "The request was begun and its end is not known: retry with the same sequence."
    73 Unavailable "UNAVAILABLE" true "The broker could not take the request; nothing was done."
    74 LimitReached "LIMIT_REACHED" false "A limit of the broker is reached; the text names it."
    80 NotLeader "NOT_LEADER" true "Another broker leads this topic; `address` says which: reconnect there."
    81 TopicMoved "TOPIC_MOVED" true "The topic has moved: look it up again."
    82 RetryLater "RETRY_LATER" true "Retry after `first` milliseconds."
    83 NotReady "NOT_READY" true "The broker is starting."
    90 AuthenticationRequired "AUTHENTICATION_REQUIRED" false "The connection is not logged in, or not any more."
    91 AuthenticationFailed "AUTHENTICATION_FAILED" false "The name, password, token, certificate or proof is wrong: which of them is not told."
    92 PermissionDenied "PERMISSION_DENIED" false "The principal lacks the right; whether there is such a topic is not told."
    93 QuotaExceeded "QUOTA_EXCEEDED" true "A quota of the principal is used up, and slowing down cannot help; the text names it."
    94 PrincipalNotFound "PRINCIPAL_NOT_FOUND" false "No principal has this name."
    95 PrincipalExists "PRINCIPAL_EXISTS" false "A principal of this name exists."
    96 InvalidPrincipal "INVALID_PRINCIPAL" false "A grant, quota, label or password of a principal does not fit."
}

impl ErrorCode {
    /// What the error says about the request's effect.
    pub fn outcome(self) -> Outcome {
        match self {
            // An error of a newer version may be of either class: the careful one is safe.
            Self::OutcomeUnknown | Self::Other(_) => Outcome::Unknown,
            _ => Outcome::NotDone,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => write!(f, "OTHER({number})"),
            known => f.write_str(known.name()),
        }
    }
}

/// An error as it is answered: the body of a frame with [`FLAG_ERROR`](crate::frame::FLAG_ERROR).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} {message}")]
pub struct Failure {
    /// Which error.
    pub code: ErrorCode,
    /// What happened, for a person.
    pub message: String,
    /// What to do about it; empty if there is nothing to say.
    pub hint: String,
    /// A number whose meaning the registry states (the next sequence, a limit, milliseconds).
    pub first: u64,
    /// A second number, likewise.
    pub second: u64,
    /// Another broker's address, where the registry says so.
    pub address: String,
}

impl Failure {
    /// An error with a text and nothing else.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: String::new(),
            first: 0,
            second: 0,
            address: String::new(),
        }
    }

    /// Whether the same request can succeed later, unchanged. One that is too large for a quota never
    /// does, which `first` = 0 says.
    pub fn is_retryable(&self) -> bool {
        self.code.is_retryable() && (self.code != ErrorCode::QuotaExceeded || self.first != 0)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Adds the numbers that the registry names for this error.
    #[must_use]
    pub fn numbers(mut self, first: u64, second: u64) -> Self {
        (self.first, self.second) = (first, second);
        self
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self::new(ErrorCode::Malformed, malformed.to_string())
    }
}

impl Body for Failure {
    fn encode(&self, out: &mut Writer) {
        out.u32(self.code.number());
        out.string(&self.message);
        out.string(&self.hint);
        out.u64(self.first);
        out.u64(self.second);
        out.string(&self.address);
    }

    fn decode(body: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self {
            code: ErrorCode::from_number(body.u32("code")?),
            message: body.string("message")?,
            hint: body.string("hint")?,
            first: body.u64("first")?,
            second: body.u64("second")?,
            address: body.string("address")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_lead_back() {
        for (index, &code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(ErrorCode::from_number(code.number()), code);
            for other in &ErrorCode::ALL[..index] {
                assert!(other.number() < code.number(), "{code} out of order");
                assert_ne!(other.name(), code.name());
            }
        }
        let newer = ErrorCode::from_number(9999);
        assert_eq!(newer.to_string(), "OTHER(9999)");
        assert_eq!(newer.outcome(), Outcome::Unknown);
    }
}

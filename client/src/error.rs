//! What can go wrong, as the caller sees it: a kind to act on, a text that names cause and fix.

use std::fmt;

use logdrive_protocol::{ErrorCode, Failure, Outcome};

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The broker answered with this error.
    Refused(ErrorCode),
    /// No broker could be reached: nothing was sent.
    Unreachable,
    /// No connection, because of TLS or of a certificate: nothing was sent.
    Tls(TlsFault),
    /// The connection ended before the answer came.
    ConnectionLost,
    /// The answer did not come in time.
    Timeout,
    /// The other side sent something that the protocol does not allow; the connection was dropped.
    Protocol,
    /// The broker could not prove that it knows what it keeps of the password: nothing else was sent.
    Impostor,
    /// Records may have been stored or not; they were not sent again.
    OutcomeUnknown,
    /// Acknowledged records that the broker says it does not have.
    Lost,
    /// The client, producer or consumer was closed.
    Closed,
    /// The caller's arguments cannot be served; nothing was sent.
    Invalid,
}

/// Why there is no connection with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// Nobody whom the client trusts has signed the broker's certificate.
    Untrusted,
    /// The broker's certificate is not valid any more, or not yet.
    Expired,
    /// The broker's certificate is for another name.
    WrongName,
    /// The other side does not speak TLS.
    NotSpoken,
    /// The broker demands a certificate of the client.
    CertificateRequired,
    /// The broker refuses the client's certificate.
    CertificateRefused,
    /// Another fault in the handshake, which the text names.
    Failed,
}

/// An error of the client.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: String,
    failure: Option<Box<Failure>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: String::new(),
            failure: None,
        }
    }

    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    pub(crate) fn protocol(message: impl fmt::Display) -> Self {
        Self::new(
            ErrorKind::Protocol,
            format!("the broker broke the protocol: {message}"),
        )
        .with_hint("is this address a logdrive broker of this version?")
    }

    /// The same error, its text led by what it put an end to.
    #[must_use]
    pub(crate) fn after(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The broker's error, if it is one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self.kind {
            ErrorKind::Refused(code) => Some(code),
            _ => None,
        }
    }

    /// What the broker answered, with its numbers, if it did.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_deref()
    }

    /// What happened, without the hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it; may be empty.
    pub fn hint(&self) -> &str {
        &self.hint
    }

    /// Whether the same call can succeed later. Mind [`Error::outcome`]: what may have been done
    /// is done twice by a retry, unless the operation can be repeated.
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            ErrorKind::Refused(code) => match &self.failure {
                Some(failure) => failure.is_retryable(),
                None => code.is_retryable(),
            },
            ErrorKind::Unreachable | ErrorKind::ConnectionLost | ErrorKind::Timeout => true,
            ErrorKind::Tls(_)
            | ErrorKind::Protocol
            | ErrorKind::Impostor
            | ErrorKind::OutcomeUnknown
            | ErrorKind::Lost
            | ErrorKind::Closed
            | ErrorKind::Invalid => false,
        }
    }

    /// Whether the request may have taken effect.
    pub fn outcome(&self) -> Outcome {
        match self.kind {
            ErrorKind::Refused(code) => code.outcome(),
            ErrorKind::Unreachable
            | ErrorKind::Tls(_)
            | ErrorKind::Impostor
            | ErrorKind::Invalid
            | ErrorKind::Lost => Outcome::NotDone,
            ErrorKind::ConnectionLost
            | ErrorKind::Timeout
            | ErrorKind::Protocol
            | ErrorKind::OutcomeUnknown
            | ErrorKind::Closed => Outcome::Unknown,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.hint.is_empty() {
            return Ok(());
        }
        write!(f, "; {}", self.hint)
    }
}

impl std::error::Error for Error {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self {
            kind: ErrorKind::Refused(failure.code),
            message: failure.to_string(),
            hint: failure.hint.clone(),
            failure: Some(Box::new(failure)),
        }
    }
}

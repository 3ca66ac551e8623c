//! How the program ends: the exit codes, and the errors that carry one.
//!
//! Owns the mapping from errors to codes and the one place where an error is printed. Never decides
//! whether something is an error.

use std::fmt;
use std::io;
use std::process::ExitCode;

use logdrive_client::{Error as ClientError, ErrorKind};
use logdrive_protocol::{ErrorCode, Outcome};

/// The table at the end of `logdrive help`.
pub(crate) const TABLE: &str = "\
Exit codes:
    0  done; also when the reader of stdout went away (head, less)
    1  failed, or done in part: stderr says what; also a start that damage forbids
    2  the command line was not understood, or --yes is missing
    3  no such topic, consumer or file
    4  the broker cannot be reached, or was lost for too long
    5  outcome unknown: it may have been done or not
    6  refused for now: disk nearly full or failing, a quota used up; try again later
    7  it exists already
    8  not logged in, or not allowed
    9  verify: what is stored is damaged, or doubtful, and it has named where
  130  interrupted (SIGINT or SIGTERM), after saying what was done

Data goes to stdout, everything else to stderr. JSON has times as RFC 3339 text in UTC; a key or
value that is not UTF-8 stands as hexadecimal under key_hex or value_hex.";

/// Every way to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Unreachable = 4,
    OutcomeUnknown = 5,
    Refused = 6,
    Exists = 7,
    Denied = 8,
    Damaged = 9,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// How the program ends after an error of many possible kinds: a file or directory that is not
    /// there is as any that is not there.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        if let Some(error) = error.downcast_ref::<ClientError>() {
            return Fault::from(error).exit;
        }
        match error.downcast_ref::<io::Error>() {
            Some(error) if error.kind() == io::ErrorKind::NotFound => Self::NotFound,
            _ => Self::Failed,
        }
    }
}

/// An error that knows how the program ends.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Fault {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    /// What to do about it; empty if there is nothing to say.
    pub(crate) hint: String,
}

impl Fault {
    /// An error without advice.
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
            hint: String::new(),
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = hint.to_string();
        self
    }
}

impl Fault {
    /// What came of writing to stdout: quiet, and no failure, where the reader went away.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::new(Exit::Done, "")
        } else {
            Self::new(
                Exit::Failed,
                format_args!("cannot write to stdout: {error}"),
            )
        }
    }

    /// An error of an operation that changes something: a lost answer leaves its outcome unknown.
    pub(crate) fn of_change(error: &ClientError) -> Self {
        let mut fault = Self::from(error);
        if fault.exit == Exit::Unreachable && error.outcome() == Outcome::Unknown {
            fault.exit = Exit::OutcomeUnknown;
        }
        fault
    }

    /// Says it on stderr, and how the program ends.
    pub(crate) fn report(&self) -> Exit {
        if !self.message.is_empty() {
            eprintln!("logdrive: {}", self.message);
        }
        if !self.hint.is_empty() {
            eprintln!("  {}", self.hint);
        }
        self.exit
    }
}

impl From<&ClientError> for Fault {
    fn from(error: &ClientError) -> Self {
        let exit = match error.kind() {
            ErrorKind::Refused(code) => match exit_of(code) {
                Exit::Refused if !error.is_retryable() => Exit::Failed,
                exit => exit,
            },
            ErrorKind::Unreachable | ErrorKind::ConnectionLost | ErrorKind::Timeout => {
                Exit::Unreachable
            }
            ErrorKind::OutcomeUnknown => Exit::OutcomeUnknown,
            ErrorKind::Invalid => Exit::Usage,
            ErrorKind::Impostor => Exit::Denied,
            _ => Exit::Failed,
        };
        Self::new(exit, error.message()).hint(error.hint())
    }
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        Self::from(&error)
    }
}

fn exit_of(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::TopicNotFound
        | ErrorCode::ConsumerNotFound
        | ErrorCode::ProducerNotFound
        | ErrorCode::PrincipalNotFound => Exit::NotFound,
        ErrorCode::TopicExists | ErrorCode::ConsumerExists | ErrorCode::PrincipalExists => {
            Exit::Exists
        }
        ErrorCode::AuthenticationRequired
        | ErrorCode::AuthenticationFailed
        | ErrorCode::PermissionDenied => Exit::Denied,
        ErrorCode::InvalidTopicName
        | ErrorCode::InvalidName
        | ErrorCode::InvalidPrincipal
        | ErrorCode::InvalidConfig
        | ErrorCode::InvalidDelay
        | ErrorCode::InvalidPosition => Exit::Usage,
        ErrorCode::OutcomeUnknown => Exit::OutcomeUnknown,
        retryable if retryable.is_retryable() => Exit::Refused,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logdrive_protocol::Failure;

    #[test]
    fn every_code_of_the_table_is_one_that_the_program_ends_with() {
        let listed: Vec<u8> = TABLE
            .lines()
            .filter_map(|line| line.split_whitespace().next()?.parse().ok())
            .collect();
        let known = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::NotFound,
            Exit::Unreachable,
            Exit::OutcomeUnknown,
            Exit::Refused,
            Exit::Exists,
            Exit::Denied,
            Exit::Damaged,
            Exit::Interrupted,
        ];
        assert_eq!(listed, known.map(|exit| exit as u8));
    }

    #[test]
    fn the_brokers_errors_have_exit_codes() {
        for (code, exit) in [
            (ErrorCode::TopicNotFound, Exit::NotFound),
            (ErrorCode::TopicExists, Exit::Exists),
            (ErrorCode::InvalidTopicName, Exit::Usage),
            (ErrorCode::LowSpace, Exit::Refused),
            (ErrorCode::OutcomeUnknown, Exit::OutcomeUnknown),
            (ErrorCode::DataDamaged, Exit::Failed),
        ] {
            let error = ClientError::from(Failure::new(code, "text"));
            assert_eq!(Fault::from(error).exit, exit, "{code}");
        }
    }

    #[test]
    fn a_reader_that_goes_away_is_no_failure_and_nothing_is_said() {
        let fault = Fault::stdout(&io::ErrorKind::BrokenPipe.into());
        assert_eq!((fault.exit, fault.message.as_str()), (Exit::Done, ""));
        let fault = Fault::stdout(&io::ErrorKind::StorageFull.into());
        assert_eq!(fault.exit, Exit::Failed);
    }
}

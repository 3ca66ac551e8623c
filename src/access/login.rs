//! The steps of logging in: pure, whatever it is that a connection was sent.
//!
//! Every way to fail has one text, so that nobody learns which part of what he sent was wrong, and
//! for passwords all ways take the same steps: somebody who does not exist has a verifier, too.

use logdrive_protocol::operations::{Authenticate, Verifier};
use logdrive_protocol::scram::{Exchange, HASH_BYTES, Opening, ScramError, sha256};
use logdrive_protocol::{ErrorCode, Failure, Secret};

use super::Directory;

/// Who is logged in, and by what.
#[derive(Clone)]
pub struct Session {
    /// The principal's name.
    pub name: String,
    /// When that was created: another one of its name is somebody else.
    pub created_at: u64,
    pub(super) by: By,
}

/// The credential that was shown.
#[derive(Clone)]
pub(super) enum By {
    /// The token's hash.
    Token([u8; HASH_BYTES]),
    /// The stored key of the password.
    Password([u8; HASH_BYTES]),
    Certificate,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.name)
    }
}

impl Session {
    /// Whether its credential is one that somebody finds who tries often enough: a password is, 32
    /// random bytes and what a certificate's authority has signed are not.
    pub fn could_be_guessed(&self) -> bool {
        matches!(self.by, By::Password(_))
    }
}

/// What comes of a step.
#[derive(Debug)]
pub enum Step {
    /// Another step follows; this is said first.
    Next(Secret),
    /// The credential is right; this is said last.
    Right(Session, Secret),
    /// It is not, or cannot be read.
    Wrong(Failure),
}

/// A login that is under way.
#[derive(Debug, Default)]
pub struct Login {
    /// A challenge that was sent, and who is logged in if it is met.
    challenged: Option<Box<(Session, Exchange)>>,
}

impl Login {
    /// Takes a step; `certified` is the name in a certificate that TLS has checked.
    ///
    /// # Errors
    /// `UNAVAILABLE`: there is no nonce.
    pub fn step(
        &mut self,
        request: &Authenticate,
        directory: &Directory,
        certified: Option<&str>,
    ) -> Result<Step, Failure> {
        let data = request.data.expose();
        // Boxed, because every connection has room for it and hardly one has it.
        let challenged = self.challenged.take().map(|it| *it);
        Ok(match (request.mechanism.as_str(), challenged) {
            (Authenticate::TOKEN, _) => token(data, directory),
            (Authenticate::SCRAM, None) => match Opening::parse(data) {
                Ok(opening) => {
                    let verifier = directory.verifier(&opening.name);
                    let session = session_by(&opening.name, &verifier, directory);
                    let (exchange, message) = opening.challenge(verifier, &super::nonce()?);
                    self.challenged = Some(Box::new((session, exchange)));
                    Step::Next(message.into_bytes().into())
                }
                Err(error) => Step::Wrong(unread(&error)),
            },
            (Authenticate::SCRAM, Some((session, exchange))) => match exchange.finish(data) {
                // The principal or its password may have changed since the challenge.
                Ok(message) if directory.standing(&session).is_some() => {
                    Step::Right(session, message.into_bytes().into())
                }
                Ok(_) | Err(ScramError::Proof) => Step::Wrong(wrong()),
                Err(error) => Step::Wrong(unread(&error)),
            },
            (Authenticate::EXTERNAL, _) => certificate(certified, directory),
            (other, _) => Step::Wrong(
                Failure::new(
                    ErrorCode::NotSupported,
                    format!(
                        "there is no mechanism {}",
                        super::principal::printable(other)
                    ),
                )
                .hint("the mechanisms are TOKEN, SCRAM-SHA-256 and EXTERNAL"),
            ),
        })
    }
}

fn token(data: &[u8], directory: &Directory) -> Step {
    // Looked up by its hash: how long that takes says nothing of the token.
    let hash = sha256(data);
    match directory.by_token(&hash) {
        Some(principal) => Step::Right(
            Session {
                name: principal.name().to_owned(),
                created_at: principal.created_at(),
                by: By::Token(hash),
            },
            Secret::default(),
        ),
        None => Step::Wrong(wrong()),
    }
}

/// Who is logged in when the password of this verifier is proved.
fn session_by(name: &str, verifier: &Verifier, directory: &Directory) -> Session {
    Session {
        name: name.to_owned(),
        created_at: directory.find(name).map_or(0, |it| it.created_at()),
        by: By::Password(verifier.stored_key.expose().try_into().unwrap_or_default()),
    }
}

fn certificate(certified: Option<&str>, directory: &Directory) -> Step {
    match certified.and_then(|name| directory.find(name)) {
        Some(principal) => Step::Right(
            Session {
                name: principal.name().to_owned(),
                created_at: principal.created_at(),
                by: By::Certificate,
            },
            Secret::default(),
        ),
        None => Step::Wrong(wrong()),
    }
}

/// The one answer to what is wrong.
fn wrong() -> Failure {
    Failure::new(
        ErrorCode::AuthenticationFailed,
        "the name, password, token or certificate is not right",
    )
    .hint("which of them is not told; an administrator can make another token or password")
}

/// The answer to what is no message of SCRAM, the same for every name.
fn unread(error: &ScramError) -> Failure {
    Failure::new(ErrorCode::AuthenticationFailed, error.to_string())
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;

//! What a client logs in with, and how: on every new connection, before anything else is sent.
//!
//! The client is as distrustful as the broker: with a password it learns whether the broker knows
//! what it should, and sends nothing to one that does not.

use std::fmt;

use logdrive_protocol::operations::{Authenticate, Authenticated};
use logdrive_protocol::scram::{self, Keys, ScramError, Start};
use logdrive_protocol::{ErrorCode, Secret};

use crate::link::{Link, Parking};
use crate::{Error, ErrorKind};

/// What a client logs in with. Printing it shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A token, as the broker told it when it was made. Whoever reads the traffic learns it, unless
    /// TLS is used.
    Token(String),
    /// A principal's name and its password. The password never leaves the program.
    Password {
        /// The principal's name.
        name: String,
        /// Its password.
        password: String,
    },
    /// The certificate that the client shows in TLS: nothing else is sent.
    Certificate,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token(...)"),
            Self::Password { name, .. } => write!(f, "Password({name:?}, ...)"),
            Self::Certificate => f.write_str("Certificate"),
        }
    }
}

/// The keys of a password, kept for the next connection: deriving them takes a while.
#[derive(Default)]
pub(crate) struct Derived(Option<(Vec<u8>, u32, Keys)>);

impl Derived {
    async fn keys(&mut self, password: &str, salt: &[u8], iterations: u32) -> Result<Keys, Error> {
        if let Some((known, rounds, keys)) = &self.0
            && known == salt
            && *rounds == iterations
        {
            return Ok(keys.clone());
        }
        let (password, own) = (password.to_owned(), salt.to_vec());
        let deriving =
            tokio::task::spawn_blocking(move || Keys::derive(&password, &own, iterations));
        let keys = deriving
            .await
            .map_err(|_| Error::new(ErrorKind::Closed, "the runtime is stopping"))?
            .map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
        self.0 = Some((salt.to_vec(), iterations, keys.clone()));
        Ok(keys)
    }
}

/// Logs in on a new connection.
pub(crate) async fn log_in(
    link: &Link,
    credentials: &Credentials,
    derived: &mut Derived,
) -> Result<(), Error> {
    let last = match credentials {
        Credentials::Token(token) => {
            let token = token.trim().as_bytes().to_vec();
            step(link, Authenticate::TOKEN, token).await?
        }
        Credentials::Certificate => step(link, Authenticate::EXTERNAL, Vec::new()).await?,
        Credentials::Password { name, password } => prove(link, name, password, derived).await?,
    };
    if !last.done {
        return Err(Error::protocol("a login that does not end"));
    }
    tracing::debug!(principal = %last.principal, "logged in");
    Ok(())
}

async fn prove(
    link: &Link,
    name: &str,
    password: &str,
    derived: &mut Derived,
) -> Result<Authenticated, Error> {
    let start = Start::new(name, &nonce()?);
    let first = step(link, Authenticate::SCRAM, start.message().into_bytes()).await?;
    let challenged = start
        .challenged(first.data.expose())
        .map_err(|error| distrusted(link, &error))?;
    let keys = derived
        .keys(password, &challenged.salt, challenged.iterations)
        .await?;
    let (proven, message) = challenged.prove(&keys);
    let last = step(link, Authenticate::SCRAM, message.into_bytes()).await?;
    proven
        .check(last.data.expose())
        .map_err(|error| distrusted(link, &error))?;
    Ok(last)
}

/// An end to a connection whose other side is not what it should be.
fn distrusted(link: &Link, error: &ScramError) -> Error {
    let (kind, message, hint) = match error {
        ScramError::Refused(_) => (
            ErrorKind::Refused(ErrorCode::AuthenticationFailed),
            error.to_string(),
            "are the name and the password right?",
        ),
        _ => (
            ErrorKind::Impostor,
            format!("the broker could not prove who it is: {error}"),
            "is the address right? nothing else was sent there",
        ),
    };
    let error = Error::new(kind, message).with_hint(hint);
    link.distrust(error.clone());
    error
}

async fn step(link: &Link, mechanism: &str, data: Vec<u8>) -> Result<Authenticated, Error> {
    let request = Authenticate {
        mechanism: mechanism.to_owned(),
        data: Secret::from(data),
    };
    link.ask(&request, Parking::default()).await
}

fn nonce() -> Result<String, Error> {
    let mut random = [0; scram::NONCE_BYTES];
    getrandom::fill(&mut random).map_err(|error| {
        let message = format!("the system gives no random bytes: {error}");
        Error::new(ErrorKind::Invalid, message)
    })?;
    Ok(scram::nonce(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_printed_without_their_secret() {
        let password = Credentials::Password {
            name: "ann".into(),
            password: "hush".into(),
        };
        let shown = format!("{:?} {password:?}", Credentials::Token("ldt_hush".into()));
        assert_eq!(shown, "Token(...) Password(\"ann\", ...)");
    }
}

//! Logging in by typing, and passwords of principals.
//!
//! A password goes no further than here: the session plays the client's part of SCRAM against the
//! same dispatcher, and derives keys beside the actors. No line with a secret is shown again, in an
//! answer, a frame or a log.

use logdrive_protocol::limits::{MAX_PRINCIPALS_LISTED, SCRAM_ITERATIONS};
use logdrive_protocol::operations::{
    AlterPrincipal, Answer, Authenticate, Authenticated, Hello, ListPrincipals, PrincipalSummary,
    Request,
};
use logdrive_protocol::scram::{Keys, ScramError, Start};
use logdrive_protocol::{ErrorCode, Failure, Secret};

use super::command::Credential;
use super::{Typing, print};
use crate::access;

/// Whether a request is not to be shown.
pub(super) fn holds_secret(request: &Request) -> bool {
    match request {
        Request::Authenticate(_) => true,
        Request::CreatePrincipal(create) => !create.password.is_empty(),
        Request::AlterPrincipal(alter) => !alter.password.is_empty(),
        _ => false,
    }
}

fn refused(error: &ScramError) -> Failure {
    let code = match error {
        ScramError::Password => ErrorCode::InvalidPrincipal,
        _ => ErrorCode::AuthenticationFailed,
    };
    Failure::new(code, error.to_string())
}

impl Typing {
    pub(super) async fn log_in(&mut self, credential: Credential<'_>) -> Result<String, Failure> {
        let last = match credential {
            Credential::Token(token) => {
                let token = token.as_bytes().to_vec();
                self.step(Authenticate::TOKEN, token).await?
            }
            Credential::Password(name, password) => self.prove(name, password).await?,
            Credential::Certificate => self.step(Authenticate::EXTERNAL, Vec::new()).await?,
        };
        self.known = true;
        Ok(format!("+ logged in as {}\n", last.principal))
    }

    async fn prove(&mut self, name: &str, password: &str) -> Result<Authenticated, Failure> {
        let start = Start::new(name, &access::nonce()?);
        let first = start.message().into_bytes();
        let challenge = self.step(Authenticate::SCRAM, first).await?;
        let challenged = start
            .challenged(challenge.data.expose())
            .map_err(|error| refused(&error))?;
        let (salt, iterations) = (challenged.salt.clone(), challenged.iterations);
        let keys = match self.derive(password, salt, iterations).await {
            // What cannot be a password is wrong as any other.
            Err(failure) if failure.code == ErrorCode::InvalidPrincipal => {
                self.derive("x", challenged.salt.clone(), iterations)
                    .await?
            }
            derived => derived?,
        };
        let (proven, last) = challenged.prove(&keys);
        let last = self.step(Authenticate::SCRAM, last.into_bytes()).await?;
        proven
            .check(last.data.expose())
            .map_err(|error| refused(&error))?;
        Ok(last)
    }

    async fn step(&mut self, mechanism: &str, data: Vec<u8>) -> Result<Authenticated, Failure> {
        let request = Authenticate {
            mechanism: mechanism.to_owned(),
            data: Secret::from(data),
        };
        match self.show(request.into()).await? {
            Answer::Authenticate(authenticated) => Ok(authenticated),
            _ => Err(Failure::new(ErrorCode::Unavailable, "the login broke off")),
        }
    }

    /// Derives keys where it holds up nobody.
    async fn derive(
        &self,
        password: &str,
        salt: Vec<u8>,
        iterations: u32,
    ) -> Result<Keys, Failure> {
        let password = password.to_owned();
        let stops = || Failure::new(ErrorCode::Unavailable, "the broker stops");
        let place = self.deriving.clone().acquire_owned().await;
        let place = place.map_err(|_| stops())?;
        let derived = tokio::task::spawn_blocking(move || {
            let _held_until_done = place;
            Keys::derive(&password, &salt, iterations)
        });
        let derived = derived.await.map_err(|_| stops())?;
        derived.map_err(|error| refused(&error))
    }

    pub(super) async fn set_password(
        &mut self,
        name: &str,
        password: &str,
    ) -> Result<String, Failure> {
        // Work is done for those alone who are logged in.
        self.ask(Hello::default().into()).await?;
        let salt: [u8; 16] = access::random()?;
        let keys = self
            .derive(password, salt.to_vec(), SCRAM_ITERATIONS)
            .await?;
        let alter = AlterPrincipal {
            name: name.to_owned(),
            password: vec![keys.verifier(&salt, SCRAM_ITERATIONS)],
            ..AlterPrincipal::default()
        };
        let answer = self.show(alter.into()).await?;
        Ok(print::answer(&answer, ""))
    }

    /// All principals, page by page.
    pub(super) async fn principals(&mut self, glob: &str) -> Result<String, Failure> {
        let mut principals: Vec<PrincipalSummary> = Vec::new();
        let mut list = ListPrincipals {
            glob: glob.to_owned(),
            limit: MAX_PRINCIPALS_LISTED,
            ..ListPrincipals::default()
        };
        let mut answer = self.show(list.clone().into()).await?;
        while let Answer::ListPrincipals(page) = answer {
            principals.extend(page.principals);
            let after = principals.last().map(|it| it.name.clone());
            list.after = after.unwrap_or_default();
            if !page.more {
                break;
            }
            answer = self.ask(list.clone().into()).await?;
        }
        Ok(print::principals(&principals))
    }
}

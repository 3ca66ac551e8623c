//! Principals: who may log in, and what they may do. For who may administer all.

use logdrive_protocol::limits;
use logdrive_protocol::operations::{
    AlterPrincipal, CreatePrincipal, DeletePrincipal, IssuedToken, ListPrincipals,
    PrincipalSummary, Verifier,
};

use crate::{Client, Error, ErrorCode, ErrorKind};

/// What a broker is to keep of a password: derived here, so that the password goes nowhere. It takes
/// tens of milliseconds.
///
/// # Errors
/// The password is empty, too long, or holds characters that RFC 4013 prohibits.
pub async fn verifier(password: &str) -> Result<Verifier, Error> {
    let invalid = |message: String| Error::new(ErrorKind::Invalid, message);
    let mut salt = [0; limits::SALT_BYTES];
    getrandom::fill(&mut salt)
        .map_err(|error| invalid(format!("the system gives no random bytes: {error}")))?;
    let password = password.to_owned();
    tokio::task::spawn_blocking(move || Verifier::of(&password, salt))
        .await
        .map_err(|_| Error::new(ErrorKind::Closed, "the runtime is stopping"))?
        .map_err(|error| invalid(error.to_string()))
}

impl Client {
    /// Creates a principal; the tokens that were asked for are told this once.
    pub async fn create_principal(
        &self,
        create: CreatePrincipal,
    ) -> Result<Vec<IssuedToken>, Error> {
        // Never asked twice: the first answer may have had the only copy of a token.
        Ok(self.ask(&create).await?.tokens)
    }

    /// Changes a principal; all of it or nothing. Tokens that were asked for are told this once.
    pub async fn alter_principal(&self, alter: AlterPrincipal) -> Result<Vec<IssuedToken>, Error> {
        Ok(self.ask(&alter).await?.tokens)
    }

    /// Deletes a principal, and ends its connections.
    pub async fn delete_principal(&self, name: &str) -> Result<(), Error> {
        let delete = DeletePrincipal {
            name: name.to_owned(),
        };
        match self.repeat(&delete).await {
            (Ok(_), _) => Ok(()),
            // The first request has done it, and its answer was lost.
            (Err(error), true) if error.code() == Some(ErrorCode::PrincipalNotFound) => Ok(()),
            (Err(error), _) => Err(error),
        }
    }

    /// All principals whose names match, in the order of their names; an empty glob matches all.
    pub async fn list_principals(&self, glob: &str) -> Result<Vec<PrincipalSummary>, Error> {
        let mut principals: Vec<PrincipalSummary> = Vec::new();
        loop {
            let list = ListPrincipals {
                glob: glob.to_owned(),
                after: principals
                    .last()
                    .map_or_else(String::new, |it| it.name.clone()),
                limit: limits::MAX_PRINCIPALS_LISTED,
            };
            let page = self.repeat(&list).await.0?;
            let advances = page
                .principals
                .first()
                .is_some_and(|it| it.name > list.after);
            principals.extend(page.principals);
            if !page.more {
                return Ok(principals);
            }
            if !advances {
                return Err(Error::protocol("a list that goes on without getting on"));
            }
        }
    }
}

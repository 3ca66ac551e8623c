//! Who may do what: principals, their credentials, rights and quotas.
//!
//! Plain values without actor, runtime or clock. One [`Directory`] holds all principals; the broker
//! owns it, writes every change as a row of topic 0, and publishes it when that is durable.
//! Connections read what was published last: to log somebody in, and for what he may do. The checks
//! of requests are in the [connection](crate::connection), in one place.
//!
//! | module | owns |
//! |---|---|
//! | [`directory`] | all principals, and the changes of them |
//! | [`principal`] | one principal: what is kept of it, its quotas |
//! | [`grants`] | which rights on which topics |
//! | [`login`] | the steps of logging in |
//! | [`throttle`] | how often an address may guess |
//! | [`beginning`] | the first principal, and the file with its token |
//! | [`rows`] | how all of that is stored |

pub mod beginning;
pub mod directory;
pub mod grants;
pub mod login;
pub mod principal;
pub mod rows;
pub mod throttle;

use base64ct::{Base64UrlUnpadded, Encoding};
use logdrive_protocol::scram::{self, HASH_BYTES, sha256};
use logdrive_protocol::{ErrorCode, Failure, Secret};

pub use directory::Directory;
pub use login::{Login, Session, Step};
pub use principal::{Principal, Quotas};

/// What every token begins with, so that one is recognized where it should not be.
const TOKEN_MARK: &str = "ldt_";

/// Random bytes of the operating system.
///
/// # Errors
/// `UNAVAILABLE`: it has none.
pub fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => {
            tracing::error!(%error, "the system gives no random bytes");
            let message = "the system gives no random bytes";
            Err(Failure::new(ErrorCode::Unavailable, message))
        }
    }
}

/// A token, and what is kept of it.
///
/// # Errors
/// As [`random`].
pub fn new_token() -> Result<(Secret, [u8; HASH_BYTES]), Failure> {
    let random: [u8; 32] = random()?;
    let token = format!("{TOKEN_MARK}{}", Base64UrlUnpadded::encode_string(&random));
    let hash = sha256(token.as_bytes());
    Ok((token.into_bytes().into(), hash))
}

/// A nonce for SCRAM.
///
/// # Errors
/// As [`random`].
pub fn nonce() -> Result<String, Failure> {
    Ok(scram::nonce(random()?))
}

//! SCRAM-SHA-256 (RFC 5802, RFC 7677): proving a password to a broker that does not know it, and
//! seeing that the broker knows what it should.
//!
//! Owns the messages of both sides and the keys behind them; random bytes, time and sockets are the
//! caller's. Without channel binding: the broker offers no `-PLUS`.
//!
//! ```text
//!  client   Start      --  n,,n=NAME,r=NONCE                -->   Opening   broker
//!           Challenged <-- r=NONCE+ITS,s=SALT,i=ITERATIONS  --    Exchange
//!           Proven     --  c=biws,r=NONCE+ITS,p=PROOF       -->
//!           done       <-- v=SIGNATURE                      --    done
//! ```
//!
//! Written here because the crates that there are do not fit. `scram` 0.6 keeps the salted password,
//! with which one can log in, where the RFC keeps a hash of it; compares proofs byte by byte; panics
//! on a short nonce; and leaves at once when a user is unknown. `rsasl` compares with `==` and slices
//! without looking, too; `scram-rs` brings a library of ciphers in C. All hashing is the RustCrypto
//! crates', comparing is `subtle`'s, and base64 is that of `base64ct`.

mod client;
mod server;
#[cfg(test)]
mod tests;

use std::fmt;

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

pub use client::{Challenged, Proven, Start};
pub use server::{Exchange, Opening};

use crate::limits::{MAX_PASSWORD_BYTES, MAX_SCRAM_BYTES, SALT_BYTES, SCRAM_ITERATIONS};
use crate::operations::Verifier;

/// Bytes of SHA-256.
pub const HASH_BYTES: usize = 32;
/// Random bytes of a nonce.
pub const NONCE_BYTES: usize = 18;
/// What an HMAC's key is filled up to.
const BLOCK_BYTES: usize = 64;

/// Why an exchange cannot go on. Nothing in it is secret, and nothing tells a known user from an
/// unknown one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each says what it means")]
pub enum ScramError {
    #[error("a message is longer than {MAX_SCRAM_BYTES} bytes")]
    TooLong,
    #[error("a message of SCRAM does not parse: {0}")]
    Malformed(&'static str),
    #[error("channel binding is not offered here")]
    ChannelBinding,
    #[error("the extension m= is mandatory and not known")]
    MandatoryExtension,
    #[error("logging in as one to act as another is not offered")]
    OtherIdentity,
    #[error("the nonce is not that of this exchange")]
    Nonce,
    #[error("{0} rounds are too few to keep a password safe")]
    TooFewIterations(u32),
    #[error("{0} rounds are more than a client does for anybody")]
    TooManyIterations(u32),
    #[error("the proof is wrong")]
    Proof,
    #[error("the broker's signature is wrong: it does not know the password's verifier")]
    Signature,
    #[error("the broker refused: {0}")]
    Refused(String),
    #[error(
        "a password is 1 to {MAX_PASSWORD_BYTES} bytes without characters that RFC 4013 prohibits"
    )]
    Password,
}

/// What a password becomes: it proves the client's knowledge and the broker's.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    client: [u8; HASH_BYTES],
    server: [u8; HASH_BYTES],
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(...)")
    }
}

impl Keys {
    /// Derives them, which takes tens of milliseconds of a processor: never on a thread that serves
    /// others.
    ///
    /// # Errors
    /// The password is empty, too long, or holds what SASLprep prohibits.
    pub fn derive(password: &str, salt: &[u8], iterations: u32) -> Result<Self, ScramError> {
        let fits = (1..=MAX_PASSWORD_BYTES).contains(&password.len());
        let prepared = stringprep::saslprep(password).ok().filter(|_| fits);
        let prepared = prepared.filter(|it| !it.is_empty());
        let prepared = prepared.ok_or(ScramError::Password)?;
        let mut salted = [0; HASH_BYTES];
        pbkdf2::pbkdf2_hmac::<Sha256>(prepared.as_bytes(), salt, iterations, &mut salted);
        Ok(Self {
            client: hmac(&salted, b"Client Key"),
            server: hmac(&salted, b"Server Key"),
        })
    }

    /// What a broker keeps.
    pub fn verifier(&self, salt: &[u8], iterations: u32) -> Verifier {
        Verifier {
            salt: salt.to_vec().into(),
            iterations,
            stored_key: sha256(&self.client).to_vec().into(),
            server_key: self.server.to_vec().into(),
        }
    }
}

impl Verifier {
    /// Of a password, with a salt of [`SALT_BYTES`] random bytes; as slow as [`Keys::derive`].
    ///
    /// # Errors
    /// As [`Keys::derive`].
    pub fn of(password: &str, salt: [u8; SALT_BYTES]) -> Result<Self, ScramError> {
        Keys::derive(password, &salt, SCRAM_ITERATIONS)
            .map(|keys| keys.verifier(&salt, SCRAM_ITERATIONS))
    }

    /// Whether it is one that a broker keeps.
    pub fn fits(&self) -> bool {
        self.salt.len() == SALT_BYTES
            && self.iterations == SCRAM_ITERATIONS
            && self.stored_key.expose().len() == HASH_BYTES
            && self.server_key.expose().len() == HASH_BYTES
    }

    /// Stands in for that of a user who is unknown or has no password, so that it is answered as
    /// everybody: the same for a name every time, as a real one would be.
    pub fn of_nobody(secret: &[u8; HASH_BYTES], name: &str) -> Self {
        let part = |what: &str| hmac(secret, format!("{what} {name}").as_bytes());
        Self {
            salt: part("salt")[..SALT_BYTES].to_vec().into(),
            iterations: SCRAM_ITERATIONS,
            stored_key: part("stored key").to_vec().into(),
            server_key: part("server key").to_vec().into(),
        }
    }
}

/// A nonce of random bytes: printable, and without commas.
pub fn nonce(random: [u8; NONCE_BYTES]) -> String {
    encode(&random)
}

/// HMAC with SHA-256; `key` has at most 64 bytes.
pub fn hmac(key: &[u8], message: &[u8]) -> [u8; HASH_BYTES] {
    // HMAC fills a short key up with zeros; done here, its length cannot be wrong.
    let mut block = [0; BLOCK_BYTES];
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// SHA-256.
pub fn sha256(message: &[u8]) -> [u8; HASH_BYTES] {
    Sha256::digest(message).into()
}

fn xor(one: &[u8; HASH_BYTES], other: &[u8; HASH_BYTES]) -> [u8; HASH_BYTES] {
    std::array::from_fn(|at| one[at] ^ other[at])
}

fn malformed(what: &'static str) -> ScramError {
    ScramError::Malformed(what)
}

/// The text of a message within the limit.
fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MAX_SCRAM_BYTES {
        return Err(ScramError::TooLong);
    }
    std::str::from_utf8(message).map_err(|_| malformed("it is not UTF-8"))
}

/// Attributes with commas between them, in the order of the grammar.
struct Attributes<'a>(std::iter::Peekable<std::str::Split<'a, char>>);

impl<'a> Attributes<'a> {
    fn of(text: &'a str) -> Self {
        Self(text.split(',').peekable())
    }

    /// The value of the next one, which has to be of this letter.
    fn take(&mut self, letter: char, what: &'static str) -> Result<&'a str, ScramError> {
        let next = self.0.next().ok_or(malformed(what))?;
        if next.starts_with("m=") && letter != 'm' {
            return Err(ScramError::MandatoryExtension);
        }
        let value = next
            .strip_prefix(letter)
            .and_then(|it| it.strip_prefix('='));
        value.ok_or(malformed(what))
    }

    /// Passes by extensions, which need not be known, up to one of this letter or the end.
    fn pass_extensions(&mut self, until: Option<char>) -> Result<(), ScramError> {
        let is_last = |it: &&str| until.is_some_and(|letter| it.starts_with(letter));
        while let Some(extension) = self.0.next_if(|it| !is_last(it)) {
            if extension.starts_with("m=") {
                return Err(ScramError::MandatoryExtension);
            }
            let mut letters = extension.chars();
            let letter = letters.next().is_some_and(|it| it.is_ascii_alphabetic());
            if !letter || letters.next() != Some('=') || letters.next().is_none() {
                return Err(malformed("an attribute is a letter, = and a value"));
            }
        }
        Ok(())
    }
}

/// A nonce is printable ASCII without a comma.
fn check_nonce(nonce: &str) -> Result<&str, ScramError> {
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b',';
    if nonce.is_empty() || !nonce.bytes().all(fits) {
        return Err(malformed("a nonce is printable and not empty"));
    }
    Ok(nonce)
}

/// A name as it stands in a message: `=` and `,` have another form there.
fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

fn unescape(escaped: &str) -> Result<String, ScramError> {
    let mut pieces = escaped.split('=');
    let mut name = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (sign, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(malformed("= in a name is =3D, and a comma =2C")),
        };
        name.push(sign);
        name.push_str(rest);
    }
    if name.is_empty() || name.contains('\0') {
        return Err(malformed("a name is not empty"));
    }
    Ok(name)
}

fn encode(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

fn decode(text: &str, what: &'static str) -> Result<Vec<u8>, ScramError> {
    Base64::decode_vec(text).map_err(|_| malformed(what))
}

fn decode_hash(text: &str, what: &'static str) -> Result<[u8; HASH_BYTES], ScramError> {
    let bytes = decode(text, what)?;
    bytes.try_into().map_err(|_| malformed(what))
}

#[cfg(test)]
pub(crate) fn keys_of_rfc() -> (Keys, Vec<u8>) {
    // RFC 7677, section 3.
    let salt = Base64::decode_vec("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap_or_default();
    let keys = Keys::derive("pencil", &salt, 4096);
    (keys.unwrap_or_else(|error| panic!("{error}")), salt)
}

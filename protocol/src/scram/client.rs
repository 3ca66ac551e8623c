//! The client's side of an exchange: as distrustful as the broker.

use subtle::ConstantTimeEq;

use super::{
    Attributes, HASH_BYTES, Keys, ScramError, check_nonce, decode, decode_hash, encode, escape,
    hmac, malformed, sha256, text, xor,
};
use crate::limits::{MAX_SCRAM_ITERATIONS, MIN_SCRAM_ITERATIONS};

/// The first message was made.
#[derive(Clone, Debug)]
pub struct Start {
    bare: String,
    nonce: String,
}

/// The broker has answered: keys are to be derived from its salt.
#[derive(Clone, Debug)]
pub struct Challenged {
    /// The password's salt.
    pub salt: Vec<u8>,
    /// Rounds of PBKDF2, within what a client does.
    pub iterations: u32,
    without_proof: String,
    signed: String,
}

/// The proof was made; the broker owes its own.
#[derive(Clone, Debug)]
pub struct Proven {
    signature: [u8; HASH_BYTES],
}

impl Start {
    /// Begins; `nonce` is random and printable, without commas.
    pub fn new(name: &str, nonce: &str) -> Self {
        Self {
            bare: format!("n={},r={nonce}", escape(name)),
            nonce: nonce.to_owned(),
        }
    }

    /// The first message.
    pub fn message(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// Reads the broker's first message.
    ///
    /// # Errors
    /// It does not parse, its nonce is none that follows ours, or it asks for too little or too much
    /// work.
    pub fn challenged(self, message: &[u8]) -> Result<Challenged, ScramError> {
        let message = text(message)?;
        if let Some(error) = message.strip_prefix("e=") {
            return Err(ScramError::Refused(error.escape_default().to_string()));
        }
        let mut attributes = Attributes::of(message);
        let nonce = check_nonce(attributes.take('r', "the nonce r= comes first")?)?;
        let salt = attributes.take('s', "the salt s= follows the nonce")?;
        let rounds = attributes.take('i', "the rounds i= follow the salt")?;
        attributes.pass_extensions(None)?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Nonce);
        }
        let salt = decode(salt, "the salt is base64")?;
        if salt.is_empty() {
            return Err(malformed("the salt is empty"));
        }
        let digits = !rounds.starts_with('0') && rounds.bytes().all(|it| it.is_ascii_digit());
        let iterations = match rounds.parse() {
            Ok(iterations) if digits => iterations,
            Err(_) if digits && !rounds.is_empty() => u32::MAX,
            _ => return Err(malformed("the rounds are a number")),
        };
        match iterations {
            0..MIN_SCRAM_ITERATIONS => return Err(ScramError::TooFewIterations(iterations)),
            MIN_SCRAM_ITERATIONS..=MAX_SCRAM_ITERATIONS => {}
            _ => return Err(ScramError::TooManyIterations(iterations)),
        }
        // biws is `n,,` in base64.
        let without_proof = format!("c=biws,r={nonce}");
        Ok(Challenged {
            salt,
            iterations,
            signed: format!("{},{message},{without_proof}", self.bare),
            without_proof,
        })
    }
}

impl Challenged {
    /// Proves that the keys are known; the last message.
    pub fn prove(self, keys: &Keys) -> (Proven, String) {
        let signed = self.signed.as_bytes();
        let proof = xor(&keys.client, &hmac(&sha256(&keys.client), signed));
        let proven = Proven {
            signature: hmac(&keys.server, signed),
        };
        (
            proven,
            format!("{},p={}", self.without_proof, encode(&proof)),
        )
    }
}

impl Proven {
    /// Checks the broker's last message: only who has the verifier can have made it.
    ///
    /// # Errors
    /// It refuses, does not parse, or is signed by somebody else.
    pub fn check(self, message: &[u8]) -> Result<(), ScramError> {
        let message = text(message)?;
        if let Some(error) = message.strip_prefix("e=") {
            return Err(ScramError::Refused(error.escape_default().to_string()));
        }
        let mut attributes = Attributes::of(message);
        let signature = attributes.take('v', "the signature v= comes first")?;
        attributes.pass_extensions(None)?;
        let signature = decode_hash(signature, "the signature is 32 bytes in base64")?;
        if bool::from(signature.ct_eq(&self.signature)) {
            Ok(())
        } else {
            Err(ScramError::Signature)
        }
    }
}

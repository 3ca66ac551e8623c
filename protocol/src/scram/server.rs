//! The broker's side of an exchange.

use subtle::ConstantTimeEq;

use super::{
    Attributes, HASH_BYTES, ScramError, check_nonce, decode, decode_hash, encode, hmac, malformed,
    sha256, text, unescape, xor,
};
use crate::operations::Verifier;

/// The client's first message, read.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Who wants to log in.
    pub name: String,
    gs2: String,
    bare: String,
    nonce: String,
}

/// The broker has answered; the client's proof is next.
#[derive(Clone, Debug)]
pub struct Exchange {
    verifier: Verifier,
    gs2: String,
    nonce: String,
    signed: String,
}

impl Opening {
    /// Reads the client's first message.
    ///
    /// # Errors
    /// It does not parse, wants channel binding or an extension, or to act as somebody else.
    pub fn parse(message: &[u8]) -> Result<Self, ScramError> {
        let message = text(message)?;
        let mut parts = message.splitn(3, ',');
        match parts.next().unwrap_or_default() {
            // `y`: the client could bind, and sees that the broker does not offer it.
            "n" | "y" => {}
            binding if binding.starts_with("p=") => return Err(ScramError::ChannelBinding),
            _ => return Err(malformed("it begins with n or y")),
        }
        let identity = parts
            .next()
            .ok_or(malformed("it has a header of two parts"))?;
        let bare = parts
            .next()
            .ok_or(malformed("it has a header of two parts"))?;
        let mut attributes = Attributes::of(bare);
        let name = attributes.take('n', "the name n= comes first")?;
        let name = unescape(name)?;
        let nonce = check_nonce(attributes.take('r', "the nonce r= follows the name")?)?;
        attributes.pass_extensions(None)?;
        if !identity.is_empty() {
            let identity = identity
                .strip_prefix("a=")
                .ok_or(malformed("the header holds a= or nothing"))?;
            if unescape(identity)? != name {
                return Err(ScramError::OtherIdentity);
            }
        }
        Ok(Self {
            name,
            gs2: message[..message.len() - bare.len()].to_owned(),
            bare: bare.to_owned(),
            nonce: nonce.to_owned(),
        })
    }

    /// Answers with what the client needs for its proof; `nonce` is random, printable and without
    /// commas.
    pub fn challenge(self, verifier: Verifier, nonce: &str) -> (Exchange, String) {
        let nonce = format!("{}{nonce}", self.nonce);
        let message = format!(
            "r={nonce},s={},i={}",
            encode(&verifier.salt),
            verifier.iterations
        );
        let exchange = Exchange {
            verifier,
            gs2: self.gs2,
            signed: format!("{},{message}", self.bare),
            nonce,
        };
        (exchange, message)
    }
}

impl Exchange {
    /// Checks the client's proof; the broker's own.
    ///
    /// # Errors
    /// It does not parse, belongs to another exchange, or its proof is wrong.
    pub fn finish(self, message: &[u8]) -> Result<String, ScramError> {
        let message = text(message)?;
        let mut attributes = Attributes::of(message);
        let binding = attributes.take('c', "the header c= comes first")?;
        let nonce = attributes.take('r', "the nonce r= follows the header")?;
        attributes.pass_extensions(Some('p'))?;
        let proof = attributes.take('p', "the proof p= comes last")?;
        if attributes.0.next().is_some() {
            return Err(malformed("the proof p= comes last"));
        }
        let proof = decode_hash(proof, "the proof is 32 bytes in base64")?;
        if decode(binding, "the header is base64")? != self.gs2.as_bytes() {
            return Err(ScramError::ChannelBinding);
        }
        if nonce != self.nonce {
            return Err(ScramError::Nonce);
        }
        let without_proof = message.rsplit_once(',').map_or("", |it| it.0);
        let signed = format!("{},{without_proof}", self.signed);
        let stored_key = self.verifier.stored_key.expose();
        let signature = hmac(stored_key, signed.as_bytes());
        let client_key: [u8; HASH_BYTES] = xor(&proof, &signature);
        let own = hmac(self.verifier.server_key.expose(), signed.as_bytes());
        if bool::from(sha256(&client_key).ct_eq(stored_key)) {
            Ok(format!("v={}", encode(&own)))
        } else {
            Err(ScramError::Proof)
        }
    }
}

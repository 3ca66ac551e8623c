//! Principals as rows of topic 0, the broker's own.
//!
//! ```text
//! key = 0 (8) | kind (1) | rest        value, by the rules of bodies
//!   40  name                           Principal  grants, quotas, hashes of tokens, verifier
//!   41                                 Secret     32 random bytes, behind salts of nobody
//! ```
//!
//! Values begin with a version and grow at their end. A row of a higher version is not taken up: its
//! principal may do nothing here.

use bytes::BytesMut;
use logdrive_protocol::body::{Body, Malformed, Writer};
use logdrive_protocol::operations::{Grant, Setting, Verifier};
use logdrive_protocol::scram::HASH_BYTES;
use logdrive_protocol::{Secret, TopicId, bodies};

use crate::storage::Row;

const KIND_AT: usize = 8;
const PRINCIPAL: u8 = 0x40;
const SECRET: u8 = 0x41;
/// The version that is written.
const VERSION: u32 = 1;

bodies! {
    /// What is kept of a principal.
    pub struct PrincipalRow {
        /// The row's version.
        pub version: u32,
        /// Its name.
        pub name: String,
        /// When it was created, in microseconds.
        pub created_at: u64,
        /// What it may do.
        pub grants: Vec<Grant>,
        /// Quotas other than none.
        pub quotas: Vec<Setting>,
        /// Its tokens.
        pub tokens: Vec<TokenRow>,
        /// What is kept of its password: one, or none.
        pub password: Vec<Verifier>,
    }

    /// What is kept of a token.
    pub struct TokenRow {
        /// Its label.
        pub label: String,
        /// SHA-256 of the token.
        pub hash: Secret,
        /// When it was made, in microseconds.
        pub created_at: u64,
    }
}

impl PrincipalRow {
    /// A new principal's row.
    pub fn new(name: &str, created_at: u64) -> Self {
        Self {
            version: VERSION,
            name: name.to_owned(),
            created_at,
            ..Self::default()
        }
    }
}

/// One row, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the rows above")]
pub enum Decoded {
    Principal(PrincipalRow),
    Secret([u8; HASH_BYTES]),
    /// A principal of a newer version.
    Newer(u32),
    /// Another row.
    Other,
}

/// Decodes a row of topic 0.
///
/// # Errors
/// The row is not what this version or an older one writes.
pub fn decode(key: &[u8], value: &[u8]) -> Result<Decoded, Malformed> {
    Ok(match key.get(KIND_AT) {
        Some(&PRINCIPAL) => {
            let row = PrincipalRow::from_bytes(BytesMut::from(value))?;
            match row.version {
                VERSION => Decoded::Principal(row),
                newer => Decoded::Newer(newer),
            }
        }
        Some(&SECRET) => match value.try_into() {
            Ok(secret) => Decoded::Secret(secret),
            Err(_) => Decoded::Other,
        },
        _ => Decoded::Other,
    })
}

fn key(kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = TopicId::NONE.0.to_be_bytes().to_vec();
    key.push(kind);
    key.extend_from_slice(rest);
    key
}

/// The row of a principal.
pub fn principal(row: &PrincipalRow) -> Row {
    let mut out = Writer::default();
    row.encode(&mut out);
    Row {
        key: key(PRINCIPAL, row.name.as_bytes()),
        value: Some(out.into_bytes().to_vec()),
    }
}

/// Deletes a principal's row.
pub fn forget(name: &str) -> Row {
    Row {
        key: key(PRINCIPAL, name.as_bytes()),
        value: None,
    }
}

/// The row of the secret.
pub fn secret(secret: [u8; HASH_BYTES]) -> Row {
    Row {
        key: key(SECRET, &[]),
        value: Some(secret.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logdrive_protocol::Rights;

    fn hex(bytes: &[u8]) -> String {
        let digits = |text: String, byte: &u8| text + &format!("{byte:02x}");
        bytes.iter().fold(String::new(), digits)
    }

    #[test]
    fn rows_are_these_bytes_for_ever() {
        let mut row = PrincipalRow::new("ann", 1_000_000);
        row.grants = vec![Grant {
            rights: Rights::PRODUCE | Rights::CONSUME,
            topics: "app.*".into(),
        }];
        row.quotas = vec![Setting {
            key: "connections".into(),
            value: "5".into(),
        }];
        row.tokens = vec![TokenRow {
            label: "ci".into(),
            hash: vec![0xaa; 32].into(),
            created_at: 2,
        }];
        row.password = vec![Verifier {
            salt: vec![0xbb; 16].into(),
            iterations: 65_536,
            stored_key: vec![0xcc; 32].into(),
            server_key: vec![0xdd; 32].into(),
        }];
        let stored = principal(&row);
        assert_eq!(hex(&stored.key), "000000000000000040616e6e");
        let value = stored.value.unwrap();
        let expected = [
            "01 03616e6e c0843d",
            "01 07 03 056170702e2a",
            "01 0e 0b636f6e6e656374696f6e73 0135",
            &format!("01 25 026369 20{} 02", "aa".repeat(32)),
            &format!(
                "01 56 10{} 808004 20{}20{}",
                "bb".repeat(16),
                "cc".repeat(32),
                "dd".repeat(32)
            ),
        ];
        assert_eq!(hex(&value), expected.concat().replace(' ', ""));
        let decoded = decode(&stored.key, &value).unwrap();
        assert_eq!(decoded, Decoded::Principal(row));
        let stored = secret([7; 32]);
        assert_eq!(hex(&stored.key), "000000000000000041");
        let decoded = decode(&stored.key, &stored.value.unwrap()).unwrap();
        assert_eq!(decoded, Decoded::Secret([7; 32]));
    }

    #[test]
    fn a_row_of_a_newer_version_is_known_as_such_and_may_be_longer() {
        let mut row = PrincipalRow::new("ann", 1);
        row.version = 2;
        let stored = principal(&row);
        let mut value = stored.value.unwrap();
        value.extend([1, 2, 3]);
        assert_eq!(decode(&stored.key, &value).unwrap(), Decoded::Newer(2));
    }
}

//! Bytes that are shown to nobody: tokens, proofs, verifiers.
//!
//! Owns how they are printed, which is not at all: whoever prints a request that holds one, in a log
//! or an error, prints three dots. On the wire they are plain bytes.

use std::fmt;

use bytes::Bytes;

use crate::body::{Field, Malformed, Reader, Writer};

/// Bytes whose `Debug` says nothing about them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Bytes);

impl Secret {
    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text, if they are text.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Into<Bytes>> From<T> for Secret {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

impl Field for Secret {
    fn put(&self, out: &mut Writer) {
        out.bytes(&self.0);
    }
    fn take(body: &mut Reader, name: &'static str) -> Result<Self, Malformed> {
        Bytes::take(body, name).map(Self)
    }
}

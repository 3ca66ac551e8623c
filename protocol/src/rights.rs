//! Rights: what a principal may do with topics.
//!
//! Owns their bits and their names. Who has which is decided by the broker; which operation needs
//! which stands in the chapter *Security* of PROTOCOL.md.

use std::fmt;
use std::ops::BitOr;

use crate::body::{Field, Malformed, Reader, Writer};

/// A set of rights.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Rights(pub u8);

/// Each right with its name.
const NAMES: [(Rights, &str); 3] = [
    (Rights::PRODUCE, "produce"),
    (Rights::CONSUME, "consume"),
    (Rights::ADMIN, "admin"),
];

impl Rights {
    /// None.
    pub const NONE: Self = Self(0);
    /// To append records.
    pub const PRODUCE: Self = Self(1);
    /// To read records, and to register, move and settle consumers.
    pub const CONSUME: Self = Self(2);
    /// To create, alter, purge and delete.
    pub const ADMIN: Self = Self(4);
    /// All of them.
    pub const ALL: Self = Self(7);

    /// Whether all of `others` are among them.
    pub fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Whether there are none.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Without those of `others`.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether every bit is a right that this version knows.
    pub fn is_known(self) -> bool {
        Self::ALL.contains(self)
    }

    /// The rights of names with commas between them, such as `produce,consume`; `all` is all of them.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rights = Self::NONE;
        for word in text.split(',') {
            let word = word.to_ascii_lowercase();
            let known = NAMES.iter().find(|(_, name)| *name == word);
            rights = rights
                | match known {
                    Some((right, _)) => *right,
                    None if word == "all" => Self::ALL,
                    None => return None,
                };
        }
        Some(rights)
    }
}

impl BitOr for Rights {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (right, name) in NAMES {
            if self.contains(right) {
                write!(f, "{comma}{name}")?;
                comma = ",";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rights({self})")
    }
}

impl Field for Rights {
    fn put(&self, out: &mut Writer) {
        out.u8(self.0);
    }
    fn take(body: &mut Reader, name: &'static str) -> Result<Self, Malformed> {
        body.u8(name).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_as_they_are_written() {
        for (text, expected) in [
            ("produce", "produce"),
            ("Admin,PRODUCE", "produce,admin"),
            ("all", "produce,consume,admin"),
        ] {
            assert_eq!(Rights::parse(text).unwrap().to_string(), expected);
        }
        for text in ["", "produce,", "write", "produce consume"] {
            assert_eq!(Rights::parse(text), None, "{text}");
        }
        assert!(Rights::ALL.contains(Rights::CONSUME | Rights::ADMIN));
        assert!(!Rights(8).is_known());
    }
}

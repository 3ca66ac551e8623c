//! Numbers of bytes as people type and read them.
//!
//! Owns the units; knows nothing of what is counted.

use std::fmt;
use std::str::FromStr;

/// A number of bytes, typed as `4096`, `64KiB`, `1MiB` or `5GB`; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Volume(pub(super) u64);

/// Units of [`Volume`], longest first where one ends another.
const UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit = UNITS.iter().find_map(|&(name, unit)| {
            let number = text.strip_suffix(name)?;
            Some((number, unit))
        });
        let (number, unit) = unit.unwrap_or((text, 1));
        let number: Option<u64> = number.trim().parse().ok();
        match number.and_then(|number| number.checked_mul(unit)) {
            Some(bytes) if bytes > 0 => Ok(Self(bytes)),
            _ => Err("bytes are such as 4096, 64KiB, 1MiB or 5GB".to_owned()),
        }
    }
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |&&(_, unit): &&(&str, u64)| self.0.is_multiple_of(unit);
        let (name, unit) = UNITS
            .iter()
            .filter(fits)
            .max_by_key(|it| it.1)
            .unwrap_or(&("B", 1));
        write!(f, "{} {name}", self.0 / unit)
    }
}

impl Volume {
    /// As a length in memory.
    pub(super) fn length(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let got = match text.parse::<Volume>() {
            Ok(volume) => format!("{} = {volume}", volume.0),
            Err(error) => error,
        };
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn bytes_are_typed_with_units_of_both_kinds() {
        check("4096", "4096 = 4 KiB");
        check("100B", "100 = 100 B");
        check("64KiB", "65536 = 64 KiB");
        check("5GB", "5000000000 = 5 GB");
        check("3 MB", "3000000 = 3 MB");
        for wrong in ["", "KiB", "0", "1.5MB", "-1", "20000000000GB", "1mb"] {
            check(wrong, "bytes are such as 4096, 64KiB, 1MiB or 5GB");
        }
    }
}

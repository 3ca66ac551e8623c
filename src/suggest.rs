//! "Did you mean": the name that somebody probably wanted to type.

use logdrive_protocol::limits::MAX_NAME_BYTES;

/// What is longer than this was no slip: comparing it with every name would take seconds.
const MAX_GIVEN_BYTES: usize = 2 * MAX_NAME_BYTES;

/// The closest of `known` to `given`, if it is close enough to be meant.
pub fn closest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > MAX_GIVEN_BYTES {
        return None;
    }
    // One letter in three may be wrong; what is farther off was not meant.
    let farthest = given.chars().count().div_ceil(3).max(1);
    known
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .filter(|(distance, _)| *distance <= farthest)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognized_and_another_word_is_not() {
        let known = || ["app", "access", "audit"].into_iter();
        assert_eq!(closest("ap", known()), Some("app"));
        assert_eq!(closest("acess", known()), Some("access"));
        assert_eq!(closest("adiut", known()), Some("audit"));
        assert_eq!(closest("payments", known()), None);
        let long = "x".repeat(MAX_GIVEN_BYTES + 1);
        assert_eq!(closest(&long, [long.as_str()].into_iter()), None);
    }
}

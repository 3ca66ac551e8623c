//! Names of topics, producers and consumers: one rule for all.

use crate::error::{ErrorCode, Failure};
use crate::limits::MAX_NAME_BYTES;

/// Whether `name` is 1 to 128 of `A-Za-z0-9._-` and does not start with a dot.
pub fn is_valid(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Refuses a name that breaks the rule, with `code` and the words `what` for the kind of name.
pub fn check(name: &str, code: ErrorCode, what: &str) -> Result<(), Failure> {
    if is_valid(name) {
        return Ok(());
    }
    // A hostile name is echoed in part and printable, so that an answer stays one line.
    let shown: String = name
        .chars()
        .take(40)
        .flat_map(char::escape_default)
        .collect();
    Err(Failure::new(
        code,
        format!("\"{shown}\" ({} bytes) cannot name a {what}", name.len()),
    )
    .hint("use 1 to 128 of A-Z a-z 0-9 . _ - and no dot at the start"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_one_rule() {
        for name in ["a", "T-1", "app.web_2", "-", &"x".repeat(128)] {
            assert!(is_valid(name), "{name}");
        }
        for name in [
            "",
            ".hidden",
            "a b",
            "ä",
            "a/b",
            "a\n",
            "*",
            &"x".repeat(129),
        ] {
            assert!(!is_valid(name), "{name}");
        }
    }
}

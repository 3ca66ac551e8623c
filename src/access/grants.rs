//! Which rights on which topics: globs, compiled once.

use globset::{Glob, GlobMatcher};
use logdrive_protocol::limits::{MAX_GLOB_BYTES, MAX_GRANTS};
use logdrive_protocol::operations::Grant;
use logdrive_protocol::{ErrorCode, Failure, Rights};

/// What stands for every topic, and for the broker itself.
pub const EVERYTHING: &str = "*";

/// What a principal may do.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    everywhere: Rights,
    patterns: Vec<(Rights, Pattern)>,
}

/// Which names. Most globs are a name, or its beginning: those need no automaton.
#[derive(Clone, Debug)]
enum Pattern {
    Name(String),
    Prefix(String),
    Glob(Box<GlobMatcher>),
}

impl Pattern {
    fn of(glob: &str) -> Option<Self> {
        // Measured first: understanding a long one takes more stack than there is.
        if glob.is_empty() || glob.len() > MAX_GLOB_BYTES {
            return None;
        }
        // Names are printable and without spaces; so is what is shown of grants.
        if !glob.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let plain = |text: &str| logdrive_protocol::name::is_valid(text);
        if plain(glob) {
            return Some(Self::Name(glob.to_owned()));
        }
        match glob.strip_suffix('*') {
            Some(prefix) if plain(prefix) => Some(Self::Prefix(prefix.to_owned())),
            _ => Glob::new(glob)
                .ok()
                .map(|it| Self::Glob(Box::new(it.compile_matcher()))),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(only) => only == name,
            Self::Prefix(prefix) => name.starts_with(prefix),
            Self::Glob(glob) => glob.is_match(name),
        }
    }
}

impl Grants {
    /// Compiles grants.
    ///
    /// # Errors
    /// `INVALID_PRINCIPAL`: too many, no rights, unknown rights, or a glob that is not well formed.
    pub fn of(grants: &[Grant]) -> Result<Self, Failure> {
        if grants.len() > MAX_GRANTS {
            let message = format!("{} grants are more than {MAX_GRANTS}", grants.len());
            return Err(Failure::new(ErrorCode::InvalidPrincipal, message)
                .hint("a glob like app.* grants rights on many topics at once"));
        }
        let mut all = Self::default();
        for Grant { rights, topics } in grants {
            if rights.is_none() || !rights.is_known() {
                let message = format!("{:#04x} is no set of rights", rights.0);
                return Err(Failure::new(ErrorCode::InvalidPrincipal, message)
                    .hint("rights are produce, consume and admin"));
            }
            if topics == EVERYTHING {
                all.everywhere = all.everywhere | *rights;
                continue;
            }
            let Some(pattern) = Pattern::of(topics) else {
                let message = "the glob of a grant is empty, too long or not well formed";
                return Err(Failure::new(ErrorCode::InvalidPrincipal, message)
                    .hint("* stands for any characters, ? for one, [ab] for one of these"));
            };
            all.patterns.push((*rights, pattern));
        }
        Ok(all)
    }

    /// The rights on a topic of this name.
    pub fn on(&self, topic: &str) -> Rights {
        let mut rights = self.everywhere;
        for (more, pattern) in &self.patterns {
            if !rights.contains(*more) && pattern.matches(topic) {
                rights = rights | *more;
            }
        }
        rights
    }

    /// The rights on everything: every topic there is or may be, and the broker itself.
    pub fn everywhere(&self) -> Rights {
        self.everywhere
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(list: &[(&str, &str)]) -> Result<Grants, Failure> {
        let grant = |(rights, topics): &(&str, &str)| Grant {
            rights: Rights::parse(rights).unwrap_or_default(),
            topics: (*topics).to_owned(),
        };
        Grants::of(&list.iter().map(grant).collect::<Vec<_>>())
    }

    fn check(list: &[(&str, &str)], topic: &str, expected: &str) {
        let on = grants(list).unwrap().on(topic);
        assert_eq!(on.to_string(), expected, "{topic}");
    }

    #[test]
    fn rights_on_a_topic_are_those_of_all_globs_that_match_and_no_others() {
        let list = [
            ("produce", "app.*"),
            ("consume", "app.web"),
            ("admin", "*.web"),
            ("consume", "t[12]"),
        ];
        check(&list, "app.web", "produce,consume,admin");
        check(&list, "app.db", "produce");
        check(&list, "app", "");
        check(&list, "shop.web", "admin");
        check(&list, "t1", "consume");
        check(&list, "t3", "");
        check(&[], "app", "");
        check(&[("all", "*")], "anything", "produce,consume,admin");
        assert_eq!(grants(&list).unwrap().everywhere(), Rights::NONE);
        assert_eq!(
            grants(&[("admin", "*")]).unwrap().everywhere(),
            Rights::ADMIN
        );
        // A glob that happens to match everything is not the broker itself.
        assert_eq!(grants(&[("all", "**")]).unwrap().everywhere(), Rights::NONE);
    }

    /// The names that a glob matches, of those that PROTOCOL.md says it by.
    fn matched(glob: &str) -> String {
        let pattern = Pattern::of(glob).unwrap_or_else(|| panic!("{glob} is not well formed"));
        let names = ["a", "b", "c", "ab", "a.b", "A", "-", "app.web", "app.db"];
        let all: Vec<_> = names.into_iter().filter(|it| pattern.matches(it)).collect();
        all.join(" ")
    }

    #[test]
    fn a_glob_is_what_the_protocol_says() {
        for (glob, expected) in [
            ("*", "a b c ab a.b A - app.web app.db"),
            ("**", "a b c ab a.b A - app.web app.db"),
            ("a*", "a ab a.b app.web app.db"),
            ("a*b", "ab a.b app.web app.db"),
            ("?", "a b c A -"),
            ("[ab]", "a b"),
            ("[a-b]", "a b"),
            ("[a-b][b-c]", "ab"),
            ("[!a-b]", "c A -"),
            ("[^a-b]", "c A -"),
            ("[-a]", "a -"),
            ("{a,app.*}", "a app.web app.db"),
            ("app.{web,[c-e]?}", "app.web app.db"),
            ("{a,{b,c}}", "a b c"),
            ("a,b", ""),
            ("\\a", "a"),
            ("\\a\\.\\b", "a.b"),
            ("\\*", ""),
            ("[*]", ""),
            ("A", "A"),
        ] {
            assert_eq!(matched(glob), expected, "{glob}");
        }
        for glob in ["[a", "[b-a]", "{a", "a}", "a\\", "{a,[b}", "[]"] {
            assert!(Pattern::of(glob).is_none(), "{glob}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let long = "x".repeat(MAX_GLOB_BYTES + 1);
        for list in [
            ("nothing", "a"),
            ("produce", ""),
            ("produce", "[a"),
            ("produce", "a b"),
            ("produce", long.as_str()),
        ] {
            let failure = grants(&[list]).unwrap_err();
            assert_eq!(failure.code, ErrorCode::InvalidPrincipal, "{list:?}");
        }
        assert!(grants(&[("produce", "a"); MAX_GRANTS]).is_ok());
        assert!(grants(&[("produce", "a"); MAX_GRANTS + 1]).is_err());
    }
}

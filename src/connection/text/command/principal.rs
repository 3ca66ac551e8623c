//! Commands about principals, and logging in: some of their words are secrets.
//!
//! Owns how a secret is told from the words before it. No error here repeats a word that may be one.

use std::fmt;

use logdrive_protocol::operations::{
    AlterPrincipal, CreatePrincipal, DeletePrincipal, Grant, Request, Setting,
};
use logdrive_protocol::{Failure, Rights};

use super::{Command, Words, settings, shown};

/// What somebody logs in with.
#[derive(PartialEq, Eq)]
pub(in crate::connection::text) enum Credential<'a> {
    Token(&'a str),
    Password(&'a str, &'a str),
    Certificate,
}

/// A word that is shown to nobody.
#[derive(PartialEq, Eq)]
pub(in crate::connection::text) struct Hidden<'a>(pub(in crate::connection::text) &'a str);

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token(...)"),
            Self::Password(name, _) => write!(f, "Password({name:?}, ...)"),
            Self::Certificate => f.write_str("Certificate"),
        }
    }
}

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

/// Understands `AUTH` and `PASSWORD`: the rest of the line behind one space is the secret.
pub(super) fn parse_secret<'a>(verb: &'static str, rest: &'a str) -> Result<Command<'a>, Failure> {
    let words = Words {
        verb,
        words: "".split_ascii_whitespace(),
    };
    let rest = rest.trim_ascii_start();
    if verb == "AUTH" && rest.trim_ascii_end().eq_ignore_ascii_case("certificate") {
        return Ok(Command::LogIn(Credential::Certificate));
    }
    let (name, secret) = rest.split_once(' ').unwrap_or((rest, ""));
    if name.is_empty() || secret.is_empty() {
        return Err(words.wrong(format!("{verb} needs two words")));
    }
    Ok(match verb {
        "PASSWORD" => Command::SetPassword(name, Hidden(secret)),
        _ if name.eq_ignore_ascii_case("token") => {
            Command::LogIn(Credential::Token(secret.trim_ascii()))
        }
        _ => Command::LogIn(Credential::Password(name, secret)),
    })
}

impl<'a> Command<'a> {
    /// `GRANT` and `REVOKE`.
    pub(super) fn parse_grant(words: &mut Words<'a>) -> Result<Self, Failure> {
        let name = words.word("principal")?.to_owned();
        let rights = words.word("right")?;
        let Some(rights) = Rights::parse(rights) else {
            return Err(words.wrong(format!(
                "\"{}\" is none of produce, consume, admin and all",
                shown(rights)
            )));
        };
        let topics = words.word("topic or glob")?.to_owned();
        let grants = vec![Grant { rights, topics }];
        let alter = AlterPrincipal {
            name,
            ..AlterPrincipal::default()
        };
        Ok(Self::Plain(Request::AlterPrincipal(match words.verb {
            "GRANT" => AlterPrincipal {
                grant: grants,
                ..alter
            },
            _ => AlterPrincipal {
                revoke: grants,
                ..alter
            },
        })))
    }

    /// `TOKEN` and `FORGET`.
    pub(super) fn parse_token(words: &mut Words<'a>) -> Result<Self, Failure> {
        if words.verb == "TOKEN" {
            let (name, label) = (words.word("principal")?, words.word("label")?);
            return Ok(Self::alter(AlterPrincipal {
                name: name.to_owned(),
                tokens: vec![label.to_owned()],
                ..AlterPrincipal::default()
            }));
        }
        let what = words.word("TOKEN or PASSWORD")?;
        let name = words.word("principal")?.to_owned();
        match what {
            what if what.eq_ignore_ascii_case("token") => {
                let label = words.word("label")?.to_owned();
                Ok(Self::alter(AlterPrincipal {
                    name,
                    forget_tokens: vec![label],
                    ..AlterPrincipal::default()
                }))
            }
            what if what.eq_ignore_ascii_case("password") => Ok(Self::alter(AlterPrincipal {
                name,
                forget_password: true,
                ..AlterPrincipal::default()
            })),
            _ => Err(words.wrong("only a token or a password can be forgotten")),
        }
    }

    fn alter(alter: AlterPrincipal) -> Self {
        Self::Plain(Request::AlterPrincipal(alter))
    }

    /// What follows `CREATE PRINCIPAL`.
    pub(super) fn parse_create_principal(
        name: &str,
        words: &mut Words<'a>,
    ) -> Result<Self, Failure> {
        let create = CreatePrincipal {
            name: name.to_owned(),
            quotas: settings(words)?,
            ..CreatePrincipal::default()
        };
        Ok(Self::Plain(create.into()))
    }

    /// What follows `ALTER PRINCIPAL`.
    pub(super) fn parse_alter_principal(words: &mut Words<'a>) -> Result<Self, Failure> {
        let name = words.word("principal")?.to_owned();
        let (unset, set): (Vec<Setting>, Vec<_>) = settings(words)?
            .into_iter()
            .partition(|it| it.value.is_empty());
        if unset.is_empty() && set.is_empty() {
            return Err(words.wrong("nothing is to be altered"));
        }
        Ok(Self::alter(AlterPrincipal {
            name,
            set,
            unset: unset.into_iter().map(|it| it.key).collect(),
            ..AlterPrincipal::default()
        }))
    }

    /// What follows `DELETE PRINCIPAL name`.
    pub(super) fn parse_delete_principal(
        name: &str,
        words: &mut Words<'a>,
    ) -> Result<Self, Failure> {
        words.confirm(name, "deleting ends its connections", "DELETE PRINCIPAL")?;
        let delete = DeletePrincipal {
            name: name.to_owned(),
        };
        Ok(Self::Plain(delete.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;
    use super::*;

    #[test]
    fn secrets_are_read_and_never_shown() {
        check("auth token ldt_x", "LogIn(Token(...))");
        check("AUTH ann  two spaces ", "LogIn(Password(\"ann\", ...))");
        assert_eq!(
            Command::parse(b"AUTH ann  two spaces "),
            Ok(Command::LogIn(Credential::Password("ann", " two spaces ")))
        );
        assert_eq!(
            Command::parse(b"AUTH TOKEN  t "),
            Ok(Command::LogIn(Credential::Token("t")))
        );
        check("PASSWORD ann secret", "SetPassword(\"ann\", ...)");
        let usage = "try: AUTH TOKEN token | CERTIFICATE | name password";
        for line in ["AUTH", "AUTH ldt_secret", "AUTH TOKEN"] {
            check(line, &format!("SYNTAX AUTH needs two words; {usage}"));
        }
    }

    #[test]
    fn principals_are_named_behind_their_word_and_topics_of_that_name_remain() {
        check(
            "CREATE PRINCIPAL",
            "Plain(CreateTopic(CreateTopic { name: \"PRINCIPAL\", settings: [], if_not_exists: false }))",
        );
        check(
            "DELETE PRINCIPAL CONFIRM PRINCIPAL",
            "OnTopic(\"PRINCIPAL\", Delete)",
        );
        check(
            "DELETE PRINCIPAL ann CONFIRM ann",
            "Plain(DeletePrincipal(DeletePrincipal { name: \"ann\" }))",
        );
        check(
            "DELETE PRINCIPAL ann",
            "SYNTAX deleting ends its connections: say it twice; try: DELETE PRINCIPAL ann CONFIRM ann",
        );
        for (line, part) in [
            (
                "CREATE PRINCIPAL ann connections=5",
                "quotas: [Setting { key: \"connections\", value: \"5\" }]",
            ),
            (
                "GRANT ann produce,consume app.*",
                "grant: [Grant { rights: Rights(produce,consume), topics: \"app.*\" }]",
            ),
            (
                "REVOKE ann all *",
                "revoke: [Grant { rights: Rights(produce,consume,admin), topics: \"*\" }]",
            ),
            ("TOKEN ann ci", "tokens: [\"ci\"]"),
            ("FORGET TOKEN ann ci", "forget_tokens: [\"ci\"]"),
            ("FORGET PASSWORD ann", "forget_password: true"),
            (
                "ALTER PRINCIPAL ann connections=",
                "unset: [\"connections\"]",
            ),
        ] {
            let command = format!("{:?}", Command::parse(line.as_bytes()).unwrap());
            assert!(command.contains(part), "{line}: {command}");
        }
        check(
            "GRANT ann write app",
            "SYNTAX \"write\" is none of produce, consume, admin and all; try: GRANT principal rights glob",
        );
    }
}

//! Where tokens and passwords are read from: files, the environment, stdin; never the command line,
//! which everybody sees who lists processes.

use std::io::{IsTerminal, Read, stderr, stdin};
use std::path::Path;

use logdrive_client::Credentials;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::args::Common;
use super::exit::{Exit, Fault};

/// Longest file or line that may hold a secret, in bytes.
const LONGEST: u64 = 4 << 10;

/// Refuses secrets that were typed on the command line, without repeating them.
pub(crate) fn check_sight(common: &Common) -> Result<(), Fault> {
    let told = |option: &str, instead: &str| {
        let message = format!(
            "a secret does not belong on the command line, where --{option} shows it to everybody \
             who lists processes: take it for known, and make another"
        );
        Err(Fault::new(Exit::Usage, message).hint(instead))
    };
    if common.token_in_sight.is_some() {
        return told("token", "use --token-file FILE or LOGDRIVE_TOKEN");
    }
    if common.password_in_sight.is_some() {
        return told("password", "use --password-file FILE or LOGDRIVE_PASSWORD");
    }
    Ok(())
}

/// What the command logs in with, if anything was given.
pub(crate) fn of(common: &Common) -> Result<Option<Credentials>, Fault> {
    if common.secure.cert_login {
        return Ok(Some(Credentials::Certificate));
    }
    if let Some(name) = &common.user {
        let password = match &common.password_file {
            Some(path) => read(path)?,
            None => from_environment("LOGDRIVE_PASSWORD")?.ok_or_else(|| {
                let message = format!("there is no password for {name}");
                Fault::new(Exit::Usage, message)
                    .hint("give it in LOGDRIVE_PASSWORD or with --password-file FILE")
            })?,
        };
        let name = name.clone();
        return Ok(Some(Credentials::Password { name, password }));
    }
    let token = match &common.token_file {
        Some(path) => Some(read(path)?),
        None => from_environment("LOGDRIVE_TOKEN")?,
    };
    Ok(token.map(Credentials::Token))
}

fn from_environment(name: &str) -> Result<Option<String>, Fault> {
    match std::env::var(name) {
        Ok(secret) if secret.is_empty() => Ok(None),
        Ok(secret) => Ok(Some(secret)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Fault::new(Exit::Usage, format_args!("{name} is not UTF-8")))
        }
    }
}

/// The secret in a file, without the line end behind it.
fn read(path: &Path) -> Result<String, Fault> {
    let shown = path.display();
    let file = std::fs::File::open(path).map_err(|error| {
        let exit = match error.kind() {
            std::io::ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::Failed,
        };
        Fault::new(exit, format_args!("cannot read {shown}: {error}"))
    })?;
    secret_of(file).map_err(|what| Fault::new(Exit::Failed, format_args!("{shown} {what}")))
}

fn secret_of(from: impl Read) -> Result<String, &'static str> {
    let mut text = String::new();
    let read = from.take(LONGEST + 1).read_to_string(&mut text);
    if read.is_err() {
        return Err("cannot be read as text");
    }
    if text.len() as u64 > LONGEST {
        return Err("is too long to hold a secret");
    }
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    match secret {
        "" => Err("holds nothing"),
        secret if secret.contains('\n') => Err("holds more than one line"),
        secret => Ok(secret.to_owned()),
    }
}

/// A new password: from stdin, whose echo is off while a person types, twice.
pub(crate) fn new_password() -> Result<String, Fault> {
    let unread = |what: &str| Fault::new(Exit::Usage, format_args!("the password on stdin {what}"));
    if !stdin().is_terminal() {
        return secret_of(stdin().lock()).map_err(unread);
    }
    let first = typed("new password: ")?;
    if first.is_empty() {
        return Err(unread("is empty"));
    }
    if typed("again: ")? != first {
        return Err(Fault::new(
            Exit::Usage,
            "the two are not the same: nothing was changed",
        ));
    }
    Ok(first)
}

/// A line that is not shown while it is typed.
fn typed(prompt: &str) -> Result<String, Fault> {
    let failed = |error: std::io::Error| {
        Fault::new(
            Exit::Failed,
            format_args!("cannot read the password: {error}"),
        )
    };
    let shown = tcgetattr(stdin()).map_err(|error| failed(error.into()))?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden.local_modes.insert(LocalModes::ECHONL);
    if stderr().is_terminal() {
        eprint!("{prompt}");
    }
    tcsetattr(stdin(), OptionalActions::Flush, &hidden).map_err(|error| failed(error.into()))?;
    let mut line = String::new();
    let read = stdin().read_line(&mut line);
    tcsetattr(stdin(), OptionalActions::Flush, &shown).map_err(|error| failed(error.into()))?;
    read.map_err(failed)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_without_its_end() {
        for (text, expected) in [
            ("secret", Ok("secret")),
            ("secret\n", Ok("secret")),
            ("a b \r\n", Ok("a b ")),
            ("", Err("holds nothing")),
            ("\n", Err("holds nothing")),
            ("a\nb\n", Err("holds more than one line")),
        ] {
            let got = secret_of(text.as_bytes());
            assert_eq!(got.as_deref().map_err(|it| *it), expected, "{text:?}");
        }
        let long = "x".repeat(5_000);
        assert!(secret_of(long.as_bytes()).is_err());
        assert!(secret_of(&b"\xff"[..]).is_err());
    }
}

//! The first principal, and the file with its token.
//!
//! A store without any principal gets `admin` at its first start with authentication. Its token is
//! written to a file in the data directory, which only the owner can read: who owns the directory
//! owns the broker. The file is on disk before the principal is durable, so that no crash leaves one
//! to whom nobody can log in; a file without a principal is of a start that was cut short, and is
//! replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use logdrive_protocol::operations::{Grant, IssuedToken};
use logdrive_protocol::{Failure, Rights};

use super::directory::{Change, Directory};
use super::grants::EVERYTHING;
use super::rows::{self, PrincipalRow, TokenRow};
use super::{new_token, random};
use crate::clock::wall;
use crate::storage::Row;

/// The first principal.
pub const ADMIN: &str = "admin";
/// Its token's label, and the file's name.
pub const TOKEN_FILE: &str = "admin.token";

/// What a broker begins with.
#[derive(Debug, Default)]
pub struct Beginning {
    /// What holds once `rows` are durable.
    pub directory: Directory,
    /// Rows that are to be written first; empty if nothing is new.
    pub rows: Vec<Row>,
    /// Where the token is, if one was made.
    pub token: Option<PathBuf>,
}

impl Beginning {
    /// Makes what is missing: the secret, and with `reset` or in a store without principals `admin`
    /// with a new token. Blocks.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn of(
        directory: Directory,
        stored: bool,
        reset: bool,
        data: &Path,
    ) -> anyhow::Result<Self> {
        let mut beginning = Self {
            directory,
            ..Self::default()
        };
        if !beginning.directory.is_required() {
            return Ok(beginning);
        }
        if !beginning.directory.has_secret() {
            let secret = random()?;
            beginning.rows.push(rows::secret(secret));
            let directory = std::mem::take(&mut beginning.directory);
            beginning.directory = directory.with_secret(secret);
        }
        if reset || !stored {
            let change = admin(&beginning.directory).context("making the first principal")?;
            let path = data.join(TOKEN_FILE);
            write_token(&path, &change)
                .with_context(|| format!("cannot write {}", path.display()))?;
            beginning.directory = change.directory;
            beginning.rows.push(change.row);
            beginning.token = Some(path);
        }
        Ok(beginning)
    }
}

/// Whether principals are stored, also such as this version does not understand.
pub fn any_stored(stored: &[(Vec<u8>, Vec<u8>)]) -> bool {
    stored.iter().any(|(key, value)| {
        !matches!(
            rows::decode(key, value),
            Ok(rows::Decoded::Other | rows::Decoded::Secret(_))
        )
    })
}

/// `admin` with all rights and one token, and no other way to log in as it.
fn admin(directory: &Directory) -> Result<Change, Failure> {
    let (token, hash) = new_token()?;
    let now = wall();
    let mut row = match directory.find(ADMIN) {
        Some(principal) => principal.row().clone(),
        None => PrincipalRow::new(ADMIN, now),
    };
    row.grants = vec![Grant {
        rights: Rights::ALL,
        topics: EVERYTHING.to_owned(),
    }];
    row.password.clear();
    row.tokens = vec![TokenRow {
        label: TOKEN_FILE.to_owned(),
        hash: hash.to_vec().into(),
        created_at: now,
    }];
    let label = TOKEN_FILE.to_owned();
    directory.with(row, vec![IssuedToken { label, token }])
}

fn write_token(path: &Path, change: &Change) -> anyhow::Result<()> {
    let token = change.tokens.first().context("no token was made")?;
    // A link that somebody has left here is removed, not followed.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(token.token.expose())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    let directory = path.parent().context("it has no directory")?;
    File::open(directory)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_makes_admin_and_later_ones_leave_it() {
        let data = tempfile::tempdir().unwrap();
        let first = Beginning::of(Directory::load(true, &[]), false, false, data.path()).unwrap();
        let path = first.token.clone().unwrap();
        let token = fs::read_to_string(&path).unwrap();
        assert_eq!(token.trim_end().len(), "ldt_".len() + 43);
        assert_eq!(first.rows.len(), 2);
        let admin = first.directory.find(ADMIN).unwrap();
        assert_eq!(admin.rights_everywhere(), Rights::ALL);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let stored: Vec<_> = first
            .rows
            .into_iter()
            .map(|row| (row.key, row.value.unwrap()))
            .collect();
        assert!(any_stored(&stored));
        let load = || Directory::load(true, &stored);
        let next = Beginning::of(load(), true, false, data.path()).unwrap();
        assert!(next.rows.is_empty() && next.token.is_none());
        assert_eq!(fs::read_to_string(&path).unwrap(), token);
        let reset = Beginning::of(load(), true, true, data.path()).unwrap();
        assert_eq!(reset.rows.len(), 1);
        assert_ne!(fs::read_to_string(&path).unwrap(), token);
    }

    #[test]
    fn without_authentication_nothing_is_made() {
        let data = tempfile::tempdir().unwrap();
        let directory = Directory::load(false, &[]);
        let beginning = Beginning::of(directory, false, false, data.path()).unwrap();
        assert!(beginning.rows.is_empty());
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_files_place_is_not_followed() {
        let data = tempfile::tempdir().unwrap();
        let elsewhere = data.path().join("elsewhere");
        fs::write(&elsewhere, "mine").unwrap();
        std::os::unix::fs::symlink(&elsewhere, data.path().join(TOKEN_FILE)).unwrap();
        Beginning::of(Directory::load(true, &[]), false, false, data.path()).unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
    }
}

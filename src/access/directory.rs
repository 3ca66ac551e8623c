//! All principals: looked up by connections, changed by the broker.
//!
//! A value: a change makes another one, and the row that makes it durable. Whoever holds one sees
//! one state of all principals.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use logdrive_protocol::limits::{MAX_GLOB_BYTES, MAX_PRINCIPALS_LISTED};
use logdrive_protocol::operations::{
    AlterPrincipal, CreatePrincipal, Grant, IssuedToken, ListPrincipals, PrincipalsListed, Verifier,
};
use logdrive_protocol::scram::HASH_BYTES;
use logdrive_protocol::{ErrorCode, Failure};
use subtle::ConstantTimeEq;

use super::login::{By, Session};
use super::new_token;
use super::principal::{Principal, Quotas, printable};
use super::rows::{self, Decoded, PrincipalRow, TokenRow};
use crate::account::Account;
use crate::limits::MAX_PRINCIPALS;
use crate::storage::Row;
use crate::suggest;

/// One state of all principals.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// Whether anybody has to log in.
    required: bool,
    /// Behind the salts of those who do not exist.
    secret: [u8; HASH_BYTES],
    principals: BTreeMap<String, Arc<Principal>>,
    /// Who has a token, by its hash.
    tokens: HashMap<[u8; HASH_BYTES], String>,
}

/// A changed directory, the row that makes it durable, and the tokens that were made for it.
#[derive(Debug)]
pub struct Change {
    /// What holds when the row is durable.
    pub directory: Directory,
    /// The row.
    pub row: Row,
    /// To be told once.
    pub tokens: Vec<IssuedToken>,
}

impl Directory {
    /// Takes up what is stored.
    pub fn load(required: bool, stored: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let mut directory = Self {
            required,
            ..Self::default()
        };
        for (key, value) in stored {
            match rows::decode(key, value) {
                Ok(Decoded::Principal(row)) => match Principal::of(row) {
                    Ok(principal) => directory.put(principal),
                    Err(failure) => tracing::error!(%failure, "a principal cannot be taken up"),
                },
                Ok(Decoded::Secret(secret)) => directory.secret = secret,
                Ok(Decoded::Newer(version)) => {
                    tracing::error!(version, "a principal is one of a newer logdrive");
                }
                Ok(Decoded::Other) => {}
                Err(error) => tracing::error!(%error, "a principal cannot be taken up"),
            }
        }
        directory
    }

    /// Whether anybody has to log in.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Whether a secret is stored.
    pub fn has_secret(&self) -> bool {
        self.secret != [0; HASH_BYTES]
    }

    /// How many principals there are.
    pub fn len(&self) -> usize {
        self.principals.len()
    }

    /// Whether there is no principal at all.
    pub fn is_empty(&self) -> bool {
        self.principals.is_empty()
    }

    /// A principal by its name.
    pub fn find(&self, name: &str) -> Option<&Arc<Principal>> {
        self.principals.get(name)
    }

    /// Whose account this is, as long as he is there.
    pub fn of_account(&self, account: &Arc<Account>) -> Option<&Arc<Principal>> {
        let principal = self.find(account.name())?;
        Arc::ptr_eq(principal.account(), account).then_some(principal)
    }

    /// Who has the token of this hash.
    pub(super) fn by_token(&self, hash: &[u8; HASH_BYTES]) -> Option<&Arc<Principal>> {
        self.find(self.tokens.get(hash)?)
    }

    /// What a name's password is checked against: for somebody who does not exist, or has none, what
    /// no password fits.
    pub(super) fn verifier(&self, name: &str) -> Verifier {
        // Both are always there, so that it takes no longer to find out that there is no password.
        let nobody = Verifier::of_nobody(&self.secret, name);
        let known = self.find(name).and_then(|it| it.row().password.first());
        known.cloned().unwrap_or(nobody)
    }

    /// The principal of a session, if it is still there and its credential still its own.
    pub fn standing(&self, session: &Session) -> Option<&Arc<Principal>> {
        let principal = self.find(&session.name)?;
        let row = principal.row();
        let same = |kept: &[u8], given: &[u8; HASH_BYTES]| bool::from(kept.ct_eq(given));
        let holds = match &session.by {
            By::Token(hash) => row.tokens.iter().any(|it| same(it.hash.expose(), hash)),
            By::Password(key) => row
                .password
                .iter()
                .any(|it| same(it.stored_key.expose(), key)),
            By::Certificate => true,
        };
        (holds && row.created_at == session.created_at).then_some(principal)
    }

    /// What a list says.
    ///
    /// # Errors
    /// `MALFORMED`: the glob.
    pub fn list(&self, list: &ListPrincipals) -> Result<PrincipalsListed, Failure> {
        let glob = if list.glob.is_empty() {
            "*"
        } else {
            &list.glob
        };
        let short = Some(glob).filter(|glob| glob.len() <= MAX_GLOB_BYTES);
        let matcher = short.and_then(|glob| globset::Glob::new(glob).ok());
        let Some(matcher) = matcher.map(|it| it.compile_matcher()) else {
            let message = "the glob is too long or not well formed";
            return Err(Failure::new(ErrorCode::Malformed, message)
                .hint("* stands for any characters, ? for one, [ab] for one of these"));
        };
        let limit = match list.limit {
            0 => MAX_PRINCIPALS_LISTED,
            limit => limit.min(MAX_PRINCIPALS_LISTED),
        };
        let after = (Bound::Excluded(list.after.clone()), Bound::Unbounded);
        let mut matching = self.principals.range(after);
        let mut matching = matching
            .by_ref()
            .filter(|(name, _)| matcher.is_match(name.as_str()))
            .map(|(_, principal)| principal.summary());
        let principals = matching.by_ref().take(limit as usize).collect();
        Ok(PrincipalsListed {
            principals,
            more: matching.next().is_some(),
        })
    }

    /// With a new principal.
    ///
    /// # Errors
    /// `PRINCIPAL_EXISTS`, `LIMIT_REACHED`, `INVALID_NAME`, `INVALID_PRINCIPAL`.
    pub fn create(&self, create: CreatePrincipal, now: u64) -> Result<Change, Failure> {
        if self.find(&create.name).is_some() {
            let message = format!("there is a principal {}", printable(&create.name));
            return Err(Failure::new(ErrorCode::PrincipalExists, message)
                .hint("alter it, or delete it first"));
        }
        if self.principals.len() >= MAX_PRINCIPALS {
            let message = format!("the broker has {MAX_PRINCIPALS} principals");
            return Err(Failure::new(ErrorCode::LimitReached, message)
                .hint("delete those that nobody uses"));
        }
        let mut row = PrincipalRow::new(&create.name, now);
        for grant in create.grants {
            add(&mut row.grants, grant);
        }
        row.quotas = create.quotas;
        row.password = create.password;
        let tokens = issue(&mut row, create.tokens, now)?;
        self.with(row, tokens)
    }

    /// With a principal changed.
    ///
    /// # Errors
    /// `PRINCIPAL_NOT_FOUND`, `INVALID_PRINCIPAL`.
    pub fn alter(&self, alter: AlterPrincipal, now: u64) -> Result<Change, Failure> {
        let Some(principal) = self.find(&alter.name) else {
            return Err(self.not_found(&alter.name));
        };
        let invalid = |message: String| Failure::new(ErrorCode::InvalidPrincipal, message);
        let mut row = principal.row().clone();
        for grant in alter.revoke {
            let Some(granted) = row.grants.iter_mut().find(|it| it.topics == grant.topics) else {
                let message = format!("nothing is granted on {}", printable(&grant.topics));
                return Err(invalid(message).hint("name the glob as it was granted"));
            };
            granted.rights = granted.rights.without(grant.rights);
            row.grants.retain(|it| !it.rights.is_none());
        }
        for grant in alter.grant {
            add(&mut row.grants, grant);
        }
        let changed = |key: &str| {
            alter.unset.iter().any(|it| it == key) || alter.set.iter().any(|it| it.key == key)
        };
        row.quotas.retain(|it| !changed(&it.key));
        row.quotas.extend(alter.set);
        for label in &alter.forget_tokens {
            let before = row.tokens.len();
            row.tokens.retain(|it| it.label != *label);
            if row.tokens.len() == before {
                return Err(invalid(format!("it has no token {}", printable(label))));
            }
        }
        match (alter.forget_password, alter.password.is_empty()) {
            (true, true) => row.password.clear(),
            (true, false) => {
                return Err(invalid("its password is set and forgotten".to_owned()));
            }
            (false, true) => {}
            (false, false) => row.password = alter.password,
        }
        let tokens = issue(&mut row, alter.tokens, now)?;
        self.with(row, tokens)
    }

    /// Without a principal.
    ///
    /// # Errors
    /// `PRINCIPAL_NOT_FOUND`.
    pub fn delete(&self, name: &str) -> Result<Change, Failure> {
        let mut directory = self.clone();
        if directory.principals.remove(name).is_none() {
            return Err(self.not_found(name));
        }
        directory.tokens.retain(|_, owner| owner != name);
        Ok(Change {
            directory,
            row: rows::forget(name),
            tokens: Vec::new(),
        })
    }

    /// The same principals as those of `before` go on with their accounts.
    #[must_use]
    pub fn succeeding(mut self, before: &Self) -> Self {
        for (name, principal) in &mut self.principals {
            if let Some(before) = before.find(name) {
                Arc::make_mut(principal).succeed(before);
            }
        }
        self
    }

    /// Allows everybody what his quotas say, in the place of what `before` said.
    pub fn open_accounts(&self, before: &Self) {
        for principal in before.principals.values() {
            principal.account().allow(&Quotas::default());
        }
        // Where nobody logs in, nobody is counted.
        for principal in self.principals.values().filter(|_| self.required) {
            principal.account().allow(principal.quotas());
        }
    }

    /// The account of who was created under this name at this time.
    pub fn account(&self, name: &str, created_at: u64) -> Option<Arc<Account>> {
        let principal = self.find(name).filter(|it| it.is(name, created_at))?;
        Some(principal.account().clone())
    }

    /// With the secret of a store that has none.
    #[must_use]
    pub fn with_secret(mut self, secret: [u8; HASH_BYTES]) -> Self {
        self.secret = secret;
        self
    }

    /// With a principal as `row` has it.
    pub(super) fn with(
        &self,
        row: PrincipalRow,
        tokens: Vec<IssuedToken>,
    ) -> Result<Change, Failure> {
        let principal = Principal::of(row)?;
        let row = rows::principal(principal.row());
        let mut directory = self.clone();
        directory.put(principal);
        Ok(Change {
            directory,
            row,
            tokens,
        })
    }

    fn put(&mut self, mut principal: Principal) {
        let name = principal.name().to_owned();
        if let Some(before) = self.principals.get(&name) {
            principal.succeed(before);
        }
        self.tokens.retain(|_, owner| *owner != name);
        for token in &principal.row().tokens {
            if let Ok(hash) = token.hash.expose().try_into() {
                self.tokens.insert(hash, name.clone());
            }
        }
        self.principals.insert(name, Arc::new(principal));
    }

    fn not_found(&self, name: &str) -> Failure {
        let message = format!("there is no principal {}", printable(name));
        let failure = Failure::new(ErrorCode::PrincipalNotFound, message);
        match suggest::closest(name, self.principals.keys().map(String::as_str)) {
            Some(close) => failure.hint(format!("did you mean \"{close}\"?")),
            None => failure.hint("create it first"),
        }
    }
}

/// Adds a grant to those with other globs; rights on the same one are joined.
fn add(grants: &mut Vec<Grant>, grant: Grant) {
    match grants.iter_mut().find(|it| it.topics == grant.topics) {
        Some(same) => same.rights = same.rights | grant.rights,
        None => grants.push(grant),
    }
}

/// Makes tokens; one of the same label is replaced.
fn issue(
    row: &mut PrincipalRow,
    labels: Vec<String>,
    now: u64,
) -> Result<Vec<IssuedToken>, Failure> {
    let mut issued: Vec<IssuedToken> = Vec::new();
    for label in labels {
        if issued.iter().any(|it| it.label == label) {
            let message = format!("the label {} stands twice", printable(&label));
            return Err(Failure::new(ErrorCode::InvalidPrincipal, message));
        }
        let (token, hash) = new_token()?;
        row.tokens.retain(|it| it.label != label);
        row.tokens.push(TokenRow {
            label: label.clone(),
            hash: hash.to_vec().into(),
            created_at: now,
        });
        issued.push(IssuedToken { label, token });
    }
    Ok(issued)
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;

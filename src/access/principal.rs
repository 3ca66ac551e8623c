//! One principal: what is kept of it, and what follows from that.

use std::sync::Arc;

use logdrive_protocol::limits::{MAX_NAME_BYTES, MAX_TOKENS};
use logdrive_protocol::operations::{PrincipalSummary, Setting, TokenSummary, Verifier};
use logdrive_protocol::{ErrorCode, Failure, Rights, name};

use super::grants::Grants;
use super::rows::PrincipalRow;
use crate::account::Account;

/// The quotas that there are.
pub const QUOTAS: [&str; 5] = [
    "connections",
    "consume_bytes_per_second",
    "produce_bytes_per_second",
    "requests_per_second",
    "stored_bytes",
];

/// How much a principal may use; `None` for as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Connections that are logged in at once.
    pub connections: Option<u64>,
    /// Bytes of records delivered, per second.
    pub consume_bytes_per_second: Option<u64>,
    /// Bytes of batches taken, per second.
    pub produce_bytes_per_second: Option<u64>,
    /// Requests, per second.
    pub requests_per_second: Option<u64>,
    /// Bytes of records that are kept, in all topics that it has created.
    pub stored_bytes: Option<u64>,
}

impl Quotas {
    /// Reads settings.
    ///
    /// # Errors
    /// `INVALID_PRINCIPAL`: one is unknown, stands twice, or is no number from 1 on.
    pub fn of(settings: &[Setting]) -> Result<Self, Failure> {
        let refused = |message: String| Failure::new(ErrorCode::InvalidPrincipal, message);
        let mut quotas = Self::default();
        for Setting { key, value } in settings {
            let Some(quota) = quotas.field(key) else {
                let message = format!("there is no quota {}", printable(key));
                let known = format!("the quotas are {}", QUOTAS.join(", "));
                return Err(refused(message).hint(known));
            };
            let digits = value.bytes().all(|it| it.is_ascii_digit());
            let number = value.parse().ok().filter(|it| *it > 0 && digits);
            let Some(number) = number else {
                let message = format!("{key}={} does not fit", printable(value));
                return Err(refused(message).hint("give a number from 1 on"));
            };
            if quota.replace(number).is_some() {
                return Err(refused(format!("the quota {key} is given twice")));
            }
        }
        Ok(quotas)
    }

    fn field(&mut self, key: &str) -> Option<&mut Option<u64>> {
        Some(match key {
            "connections" => &mut self.connections,
            "consume_bytes_per_second" => &mut self.consume_bytes_per_second,
            "produce_bytes_per_second" => &mut self.produce_bytes_per_second,
            "requests_per_second" => &mut self.requests_per_second,
            "stored_bytes" => &mut self.stored_bytes,
            _ => return None,
        })
    }
}

/// A principal, checked.
#[derive(Clone, Debug)]
pub struct Principal {
    row: PrincipalRow,
    grants: Grants,
    quotas: Quotas,
    account: Arc<Account>,
}

impl Principal {
    /// Checks what is to be kept of a principal.
    ///
    /// # Errors
    /// `INVALID_NAME`, `INVALID_PRINCIPAL`.
    pub fn of(mut row: PrincipalRow) -> Result<Self, Failure> {
        name::check(&row.name, ErrorCode::InvalidName, "principal")?;
        let grants = Grants::of(&row.grants)?;
        let quotas = Quotas::of(&row.quotas)?;
        row.quotas.sort_by(|a, b| a.key.cmp(&b.key));
        row.tokens.sort_by(|a, b| a.label.cmp(&b.label));
        if row.tokens.len() > MAX_TOKENS {
            let message = format!("{} tokens are more than {MAX_TOKENS}", row.tokens.len());
            return Err(Failure::new(ErrorCode::InvalidPrincipal, message)
                .hint("forget those that nobody uses"));
        }
        for token in &row.tokens {
            check_label(&token.label)?;
        }
        let password = row.password.as_slice();
        if password.len() > 1 || !password.iter().all(Verifier::fits) {
            let message = "a principal has one password, of 65536 rounds and a salt of 16 bytes";
            return Err(Failure::new(ErrorCode::InvalidPrincipal, message));
        }
        let account = Arc::new(Account::new(&row.name));
        Ok(Self {
            row,
            grants,
            quotas,
            account,
        })
    }

    /// What it uses; the same one after every change of it.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Goes on with the account of `before`, if that is the same principal.
    pub(super) fn succeed(&mut self, before: &Self) {
        if self.is(before.name(), before.created_at()) {
            self.account = before.account.clone();
        }
    }

    /// Whether it is the one that was created under this name at this time.
    pub fn is(&self, name: &str, created_at: u64) -> bool {
        self.row.name == name && self.row.created_at == created_at
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.row.name
    }

    /// What is kept of it.
    pub fn row(&self) -> &PrincipalRow {
        &self.row
    }

    /// When it was created: another one of its name is somebody else.
    pub fn created_at(&self) -> u64 {
        self.row.created_at
    }

    /// How much it may use.
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// What it may do with a topic.
    pub fn rights_on(&self, topic: &str) -> Rights {
        self.grants.on(topic)
    }

    /// What it may do with every topic, and with the broker itself.
    pub fn rights_everywhere(&self) -> Rights {
        self.grants.everywhere()
    }

    /// What a list says of it: nothing that one could log in with.
    pub fn summary(&self) -> PrincipalSummary {
        let token = |it: &super::rows::TokenRow| TokenSummary {
            label: it.label.clone(),
            created_at: it.created_at,
        };
        PrincipalSummary {
            name: self.row.name.clone(),
            created_at: self.row.created_at,
            grants: self.row.grants.clone(),
            quotas: self.row.quotas.clone(),
            tokens: self.row.tokens.iter().map(token).collect(),
            password: !self.row.password.is_empty(),
            usage: self.account.usage(),
        }
    }
}

fn check_label(label: &str) -> Result<(), Failure> {
    if name::is_valid(label) {
        return Ok(());
    }
    let message = format!("{} cannot be a token's label", printable(label));
    Err(
        Failure::new(ErrorCode::InvalidPrincipal, message).hint(format!(
            "use 1 to {MAX_NAME_BYTES} of A-Z a-z 0-9 . _ - and no dot at the start"
        )),
    )
}

/// What somebody sent, short and on one line.
pub(super) fn printable(text: &str) -> String {
    let shown: String = text
        .chars()
        .take(40)
        .flat_map(char::escape_default)
        .collect();
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: &[(&str, &str)], expected: &str) {
        let setting = |(key, value): &(&str, &str)| Setting {
            key: (*key).into(),
            value: (*value).into(),
        };
        let settings: Vec<_> = settings.iter().map(setting).collect();
        let got = match Quotas::of(&settings) {
            Ok(quotas) => format!("{:?} {:?}", quotas.connections, quotas.stored_bytes),
            Err(failure) => failure.to_string(),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn quotas_are_known_numbers_and_stand_once() {
        check(&[], "None None");
        check(
            &[("connections", "5"), ("stored_bytes", "1")],
            "Some(5) Some(1)",
        );
        for key in QUOTAS {
            assert!(Quotas::default().field(key).is_some(), "{key}");
        }
        let no = "INVALID_PRINCIPAL";
        check(
            &[("speed", "5")],
            &format!("{no} there is no quota \"speed\""),
        );
        for value in ["0", "", "-1", "+1", "1e9", "1 ", "99999999999999999999"] {
            let fault = format!("{no} connections=\"{value}\" does not fit");
            check(&[("connections", value)], &fault);
        }
        let twice = [("connections", "1"), ("connections", "2")];
        check(
            &twice,
            &format!("{no} the quota connections is given twice"),
        );
    }
}

//! Operations on who may do what: logging in, and principals.

use bytes::Bytes;

use crate::body::bodies;
use crate::rights::Rights;
use crate::secret::Secret;

use super::broker::Counter;
use super::topic::Setting;

bodies! {
    /// One step of logging in.
    pub struct Authenticate {
        /// `TOKEN`, `SCRAM-SHA-256` or `EXTERNAL`.
        pub mechanism: String,
        /// The token, a message of SCRAM, or nothing.
        pub data: Secret,
    }

    /// The step was right.
    pub struct Authenticated {
        /// Whether the connection is logged in; otherwise another step follows.
        pub done: bool,
        /// The broker's message of SCRAM.
        pub data: Secret,
        /// Who is logged in; empty before.
        pub principal: String,
    }

    /// Rights on the topics whose names a glob matches.
    pub struct Grant {
        /// 1 = produce, 2 = consume, 4 = admin, or a sum of these.
        pub rights: Rights,
        /// As in `ListTopics`; `*` for all topics and for the broker itself.
        pub topics: String,
    }

    /// What the broker keeps of a password.
    pub struct Verifier {
        /// 16 random bytes.
        pub salt: Bytes,
        /// Rounds of PBKDF2: 65,536.
        pub iterations: u32,
        /// `SHA-256(HMAC(salted password, "Client Key"))`, 32 bytes.
        pub stored_key: Secret,
        /// `HMAC(salted password, "Server Key")`, 32 bytes.
        pub server_key: Secret,
    }

    /// A token that was made; it is told this once.
    pub struct IssuedToken {
        /// As it was asked for.
        pub label: String,
        /// The token, as text.
        pub token: Secret,
    }

    /// Creates a principal.
    pub struct CreatePrincipal {
        /// 1 to 128 of `A-Za-z0-9._-`, not starting with a dot.
        pub name: String,
        /// What it may do; nothing else.
        pub grants: Vec<Grant>,
        /// Quotas other than none.
        pub quotas: Vec<Setting>,
        /// Labels of tokens to make, up to 16.
        pub tokens: Vec<String>,
        /// What is kept of its password: one, or none.
        pub password: Vec<Verifier>,
    }

    /// The principal is durable.
    pub struct PrincipalCreated {
        /// In the order of the labels.
        pub tokens: Vec<IssuedToken>,
    }

    /// Changes a principal; what is not named stays as it is.
    pub struct AlterPrincipal {
        /// Which one.
        pub name: String,
        /// Rights to add.
        pub grant: Vec<Grant>,
        /// Rights to take away, from the grants with the very same glob.
        pub revoke: Vec<Grant>,
        /// Quotas and their new values.
        pub set: Vec<Setting>,
        /// Keys of quotas to lift.
        pub unset: Vec<String>,
        /// Labels of tokens to make; one of the same label is replaced.
        pub tokens: Vec<String>,
        /// Labels of tokens to forget.
        pub forget_tokens: Vec<String>,
        /// What is kept of its new password: one, or none to keep the old.
        pub password: Vec<Verifier>,
        /// Whether it has no password from now on.
        pub forget_password: bool,
    }

    /// The change is durable and in force.
    pub struct PrincipalAltered {
        /// In the order of the labels.
        pub tokens: Vec<IssuedToken>,
    }

    /// Deletes a principal; its connections are ended.
    pub struct DeletePrincipal {
        /// Which one.
        pub name: String,
    }

    /// The principal is gone.
    pub struct PrincipalDeleted {}

    /// Lists principals in the order of their names.
    pub struct ListPrincipals {
        /// As in `ListTopics`; empty for all.
        pub glob: String,
        /// Only names after this one.
        pub after: String,
        /// At most so many, up to 100; 0 for 100.
        pub limit: u32,
    }

    /// Principals.
    pub struct PrincipalsListed {
        /// In the order of their names.
        pub principals: Vec<PrincipalSummary>,
        /// Whether there are more after the last one.
        pub more: bool,
    }

    /// A principal, without anything that one could log in with.
    pub struct PrincipalSummary {
        /// Its name.
        pub name: String,
        /// When it was created, in microseconds since 1970 UTC.
        pub created_at: u64,
        /// What it may do.
        pub grants: Vec<Grant>,
        /// Quotas other than none.
        pub quotas: Vec<Setting>,
        /// Its tokens, in the order of their labels.
        pub tokens: Vec<TokenSummary>,
        /// Whether it has a password.
        pub password: bool,
        /// What it uses, by name.
        pub usage: Vec<Counter>,
    }

    /// One token of a principal.
    pub struct TokenSummary {
        /// Its label.
        pub label: String,
        /// When it was made, in microseconds since 1970 UTC.
        pub created_at: u64,
    }
}

impl Authenticate {
    /// The mechanism of a token.
    pub const TOKEN: &'static str = "TOKEN";
    /// The mechanism of a password, in two steps.
    pub const SCRAM: &'static str = "SCRAM-SHA-256";
    /// The mechanism of a certificate that TLS has checked.
    pub const EXTERNAL: &'static str = "EXTERNAL";
}

//! Doors: who is let in, and what he may do then, over real sockets against the program itself.
//!
//! | module | shows |
//! |---|---|
//! | `login` | every mechanism, right and wrong; what is served before; how often one may guess |
//! | `rights` | every operation refused without its right, binary and text |
//! | `changes` | what follows when principals change under those who are logged in |
//! | `starting` | the first principal, losing its token, and the door of the machine |
//! | `clients` | the Rust client and the command line, and a broker that is none |
//! | `quotas` | who uses too much waits or is told so, and nobody else notices |
//! | `secrets` | that no secret is ever printed |
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod changes;
mod clients;
mod login;
mod peers;
mod quotas;
mod rights;
mod secrets;
mod starting;

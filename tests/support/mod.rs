//! What the tests over real sockets share: a broker as a child process, and peers to talk to it.
//!
//! | module | owns |
//! |---|---|
//! | [`broker`] | the child process and its directory: started, killed, stopped, started again |
//! | [`binary`] | a connection that speaks frames |
//! | [`text`] | a connection that types |
//! | [`bystander`] | a peer that does honest work, and notices when it is disturbed |
//! | [`asking`] | the requests that most tests make |
//! | [`said`] | answers as short texts, to be compared |
//!
//! Nothing here sleeps: what is waited for is an answer, a line or the end of a process. A peer that
//! hears nothing for [`PATIENCE`] fails its test instead of hanging it.
#![allow(
    dead_code,
    unused_imports,
    reason = "every test program uses a part of it"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub(crate) mod asking;
pub(crate) mod binary;
pub(crate) mod broker;
pub(crate) mod bystander;
pub(crate) mod said;
pub(crate) mod text;

use std::time::{Duration, Instant};

pub(crate) use asking::{batch, batch_of};
pub(crate) use binary::Connection;
pub(crate) use broker::Broker;
pub(crate) use bystander::Bystander;
pub(crate) use said::said;
pub(crate) use text::Text;

/// How long nothing may be heard before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Asks until the answer is yes; what is asked must take a round trip to the broker.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never came true: {what}");
        std::thread::yield_now();
    }
}

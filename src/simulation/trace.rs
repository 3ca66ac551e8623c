//! What happened in one simulation: a digest of everything, and the last of it in words.
//!
//! Owns the simulated time as it is outside of the hosts, and the wall clock that they see. Each
//! thread has one simulation at a time, and with it one trace. Its neighbours: whatever happens is
//! noted here; [`run`](super::run) compares and prints.

use std::cell::{Cell, RefCell};
use std::time::Duration;

/// What the wall clock shows at the beginning, in microseconds since 1970 UTC.
const EPOCH: u64 = 1_800_000_000_000_000;

thread_local! {
    static TRACE: RefCell<Trace> = RefCell::default();
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static STEPPED: Cell<i64> = const { Cell::new(0) };
}

/// All that happened so far.
#[derive(Debug, Default)]
struct Trace {
    digest: u64,
    words: Option<Vec<String>>,
}

/// Begins anew; `told` keeps all events in words.
pub(super) fn begin(told: bool) {
    TRACE.set(Trace {
        words: told.then(Vec::new),
        ..Trace::default()
    });
    NOW.set(Duration::ZERO);
    STEPPED.set(0);
}

/// Notes that something happened, and what it came with.
pub(super) fn note(what: &str, number: u64, bytes: &[u8]) {
    let at = micros();
    TRACE.with_borrow_mut(|trace| {
        let checksum = crc32c::crc32c(bytes);
        for part in [
            trace.digest,
            at,
            u64::from(crc32c::crc32c(what.as_bytes())),
            number,
            u64::from(checksum),
        ] {
            trace.digest = mix(trace.digest ^ part);
        }
        if let Some(words) = &mut trace.words {
            let shown = bytes.escape_ascii().to_string();
            words.push(format!(
                "{:>6}.{:03} ms  {what} {number} ({} bytes, {checksum:08x}) {shown:.160}",
                at / 1_000,
                at % 1_000,
                bytes.len(),
            ));
        }
    });
}

/// The digest of everything.
pub(super) fn digest() -> u64 {
    TRACE.with_borrow(|trace| trace.digest)
}

/// All events in words, if they were kept.
pub(super) fn words() -> Vec<String> {
    TRACE.with_borrow_mut(|trace| trace.words.take().unwrap_or_default())
}

/// Spreads what differs in few bits over all of them (the finalizer of splitmix64).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Sets the time outside of the hosts.
pub(super) fn set_now(now: Duration) {
    NOW.set(now);
}

/// Microseconds since the beginning: of the host that runs, or of the whole.
pub(super) fn micros() -> u64 {
    let since = turmoil::sim_elapsed().unwrap_or_else(|| NOW.get());
    u64::try_from(since.as_micros()).unwrap()
}

/// Moves the wall clock by so many seconds.
pub(super) fn step_wall(seconds: i64) {
    STEPPED.set(STEPPED.get() + seconds * 1_000_000);
}

/// The wall clock of all hosts, in microseconds since 1970 UTC.
pub(super) fn wall() -> u64 {
    (EPOCH + micros()).saturating_add_signed(STEPPED.get())
}

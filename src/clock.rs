//! The clock of append times: the wall clock at start, then monotonic.
//!
//! A step of the wall clock must not expire records or turn time back, so the clock runs on the
//! monotonic one and follows the wall clock by at most one part in two hundred. It owns no state
//! that others see; every actor has its own copy. No topic logic reads it: time is an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The clock is moved by at most this share of the time that has passed: 1/200, so that an hour's
/// step is followed within nine days and a second's within four minutes.
const SLEW_DIVISOR: u64 = 200;

/// Microseconds since 1970 UTC that never jump.
#[derive(Clone, Debug)]
pub struct Clock {
    /// What the clock showed at `since`.
    shown: u64,
    since: Instant,
    wall: fn() -> u64,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(wall)
    }
}

/// The machine's wall clock, in microseconds since 1970 UTC.
pub fn wall() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    micros(since)
}

/// A duration in whole microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Clock {
    /// Starts at what `wall` says and follows it slowly.
    pub fn new(wall: fn() -> u64) -> Self {
        Self {
            shown: wall(),
            since: Instant::now(),
            wall,
        }
    }

    /// The time now; never less than at an earlier call.
    pub fn now(&mut self) -> u64 {
        let instant = Instant::now();
        let passed = micros(instant - self.since);
        self.since = instant;
        self.shown = follow(self.shown.saturating_add(passed), passed, (self.wall)());
        self.shown
    }
}

/// Moves `shown` towards `wall`, by at most what `passed` allows, and never back.
fn follow(shown: u64, passed: u64, wall: u64) -> u64 {
    let most = passed / SLEW_DIVISOR;
    if wall >= shown {
        shown + (wall - shown).min(most)
    } else {
        shown - (shown - wall).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000_000;
    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_step_of_the_wall_clock_by_a_day_moves_the_clock_by_milliseconds() {
        let at = 1_000 * DAY;
        assert_eq!(follow(at, SECOND, at + DAY), at + 5_000);
        assert_eq!(follow(at, SECOND, at - DAY), at - 5_000);
        assert_eq!(follow(at, SECOND, at + 10), at + 10);
    }

    #[test]
    fn time_never_runs_back() {
        let mut clock = Clock {
            shown: wall() + DAY,
            since: Instant::now(),
            wall,
        };
        let mut last = 0;
        for _ in 0..1_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }
}

//! The clock of append times: the wall clock at start, then monotonic.
//!
//! A step of the wall clock must not expire records, end leases or turn time back, so the clock runs
//! on the monotonic one and follows the wall clock by at most one part in two hundred. The whole
//! broker has one: whoever needs the time has a clone, and all of them agree. No topic logic reads
//! it: time is an argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The clock is moved by at most this share of the time that has passed: 1/200, so that an hour's
/// step is followed within nine days and a second's within four minutes.
const SLEW_DIVISOR: u64 = 200;
/// How often it is moved, at most, in microseconds.
const MOVE_INTERVAL: u64 = 100_000;
/// Time that counts for one move, at most, in microseconds: a broker that was asked for nothing for
/// a day follows as slowly as any other.
const MOVE_FOR: u64 = 60_000_000;

/// Microseconds since 1970 UTC that never jump; a clone is the same clock.
#[derive(Clone, Debug)]
pub struct Clock {
    shared: Arc<Shared>,
    /// What this clone has shown: it is never asked for less.
    shown: u64,
}

#[derive(Debug)]
struct Shared {
    /// What the wall clock showed when the clock began, in microseconds.
    start: u64,
    began: Instant,
    /// Microseconds that it is ahead of what has passed since.
    ahead: AtomicI64,
    /// When it was moved last, in microseconds after its beginning.
    moved_at: AtomicU64,
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
        let start = wall();
        Self {
            shown: start,
            shared: Arc::new(Shared {
                start,
                began: Instant::now(),
                ahead: AtomicI64::new(0),
                moved_at: AtomicU64::new(0),
                wall,
            }),
        }
    }

    /// The time now; never less than at an earlier call.
    pub fn now(&mut self) -> u64 {
        self.shown = self.shown.max(self.shared.now());
        self.shown
    }
}

impl Shared {
    fn now(&self) -> u64 {
        let passed = micros(self.began.elapsed());
        let last = self.moved_at.load(Ordering::Relaxed);
        let since = passed.saturating_sub(last);
        // Of several threads that find it due, one moves it.
        let moves = since >= MOVE_INTERVAL
            && self
                .moved_at
                .compare_exchange(last, passed, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        let mut ahead = self.ahead.load(Ordering::Relaxed);
        if moves {
            let shown = self.at(passed, ahead);
            ahead = ahead.saturating_add(step(shown, since.min(MOVE_FOR), (self.wall)()));
            self.ahead.store(ahead, Ordering::Relaxed);
        }
        self.at(passed, ahead)
    }

    fn at(&self, passed: u64, ahead: i64) -> u64 {
        self.start
            .saturating_add(passed)
            .saturating_add_signed(ahead)
    }
}

/// How far what is `shown` moves towards `wall`: by at most what `passed` allows.
fn step(shown: u64, passed: u64, wall: u64) -> i64 {
    let most = passed / SLEW_DIVISOR;
    let distance = wall.abs_diff(shown).min(most);
    let distance = i64::try_from(distance).unwrap_or(i64::MAX);
    if wall >= shown { distance } else { -distance }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000_000;
    const SECOND: u64 = 1_000_000;

    thread_local! {
        static WALL: std::cell::Cell<u64> = const { std::cell::Cell::new(1_000 * DAY) };
    }

    fn stepped() -> u64 {
        WALL.get()
    }

    #[test]
    fn a_step_of_the_wall_clock_by_a_day_moves_the_clock_by_milliseconds() {
        let at = 1_000 * DAY;
        assert_eq!(step(at, SECOND, at + DAY), 5_000);
        assert_eq!(step(at, SECOND, at - DAY), -5_000);
        assert_eq!(step(at, SECOND, at + 10), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_have_the_clock_agree_however_seldom_they_ask() {
        let mut often = Clock::new(stepped);
        let mut seldom = often.clone();
        let start = often.now();
        WALL.set(start + DAY);
        for _ in 0..3_600 {
            tokio::time::advance(Duration::from_secs(1)).await;
            often.now();
        }
        let hour = 3_600 * SECOND;
        assert_eq!(often.now(), start + hour + hour / SLEW_DIVISOR);
        assert_eq!(seldom.now(), often.now());
        assert_eq!(often.clone().now(), often.now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_broker_follows_as_slowly_as_any_other() {
        let mut clock = Clock::new(stepped);
        let start = clock.now();
        WALL.set(start - DAY);
        tokio::time::advance(Duration::from_hours(24)).await;
        assert_eq!(clock.now(), start + DAY - MOVE_FOR / SLEW_DIVISOR);
    }

    #[tokio::test(start_paused = true)]
    async fn time_never_runs_back() {
        let mut clocks = [(); 2].map(|()| Clock::new(stepped));
        clocks[1] = clocks[0].clone();
        WALL.set(stepped() - DAY);
        let mut last = [0; 2];
        for turn in 0..1_000 {
            tokio::time::advance(Duration::from_micros(turn * 997)).await;
            for (clock, last) in clocks.iter_mut().zip(&mut last) {
                let now = clock.now();
                assert!(now >= *last);
                *last = now;
            }
        }
    }
}

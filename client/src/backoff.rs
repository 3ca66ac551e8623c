//! When to try again, and when to stop trying. No clock and no sleep: time and chance are arguments.

use std::time::Duration;

use logdrive_protocol::ErrorCode;
use tokio::time::Instant;

use crate::{Backoff, Error, Options};

/// A run of failures: its pauses grow, and it ends when it has lasted too long.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    backoff: Backoff,
    /// How long a run may last.
    limit: Duration,
    pause: Duration,
    since: Option<Instant>,
}

impl Retry {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            backoff: options.backoff,
            limit: options.retry_for,
            pause: options.backoff.first,
            since: None,
        }
    }

    /// Something succeeded: the run of failures is over.
    pub(crate) fn succeeded(&mut self) {
        self.pause = self.backoff.first;
        self.since = None;
    }

    /// The attempt that has failed was with the broker for so long, of the time that it asked to wait.
    /// One that has lasted longer than any pause shows that the broker was there: what failed before
    /// is another run. One that has lasted longer than it asked for shows that nobody answers.
    pub(crate) fn was_held(&mut self, lasted: Duration, asked: Duration) {
        if lasted > self.backoff.longest && lasted <= asked {
            self.succeeded();
        }
    }

    /// How long to pause after `error`; `None` when the time for retries has passed.
    ///
    /// `chance` is in 0..1: so that clients who lost one broker do not all come back at once.
    pub(crate) fn failed(&mut self, now: Instant, chance: f64, error: &Error) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        let left = self.limit.checked_sub(now.duration_since(since))?;
        let jittered = self.pause.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0);
        self.pause = (self.pause * 2).min(self.backoff.longest);
        Some(jittered.max(asked_for(error)).min(left))
    }

    /// As [`Retry::failed`], with the present time and a random chance.
    pub(crate) fn failed_now(&mut self, error: &Error) -> Option<Duration> {
        if self.limit.is_zero() {
            return None;
        }
        let pause = self.failed(Instant::now(), fastrand::f64(), error)?;
        // At the end of the run nothing is left to wait for, and a try without a pause would spin.
        if pause.is_zero() { None } else { Some(pause) }
    }

    /// How long a run of failures may last.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }
}

/// The pause that the broker itself asks for.
fn asked_for(error: &Error) -> Duration {
    match error.failure() {
        Some(failure) if failure.code == ErrorCode::RetryLater => {
            Duration::from_millis(failure.first)
        }
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use logdrive_protocol::Failure;

    fn lost() -> Error {
        Error::new(ErrorKind::ConnectionLost, "lost")
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_start_again_after_a_success() {
        let mut retry = Retry::new(&Options::default());
        let now = Instant::now();
        let mut pauses = |count| -> Vec<u128> {
            (0..count)
                .map(|_| retry.failed(now, 0.0, &lost()).unwrap().as_millis())
                .collect()
        };
        assert_eq!(pauses(8), [20, 40, 80, 160, 320, 640, 1000, 1000]);
        retry.succeeded();
        assert_eq!(
            retry.failed(now, 0.0, &lost()),
            Some(Duration::from_millis(20))
        );
    }

    #[test]
    fn chance_shortens_a_pause_by_at_most_a_half() {
        let mut retry = Retry::new(&Options::default());
        assert_eq!(
            retry.failed(Instant::now(), 1.0, &lost()),
            Some(Duration::from_millis(10))
        );
    }

    #[test]
    fn a_run_of_failures_ends_when_its_time_has_passed() {
        let mut retry = Retry::new(&Options::default());
        let start = Instant::now();
        assert!(retry.failed(start, 0.0, &lost()).is_some());
        let almost = start + Duration::from_millis(59_990);
        assert_eq!(
            retry.failed(almost, 0.0, &lost()),
            Some(Duration::from_millis(10)),
            "the last pause ends with the run"
        );
        let after = start + Duration::from_millis(60_001);
        assert_eq!(retry.failed(after, 0.0, &lost()), None);
    }

    #[test]
    fn a_wait_that_was_held_for_longer_than_any_pause_ends_a_run_of_failures() {
        let mut retry = Retry::new(&Options::default());
        let start = Instant::now();
        let late = start + Duration::from_secs(61);
        assert!(retry.failed(start, 0.0, &lost()).is_some());
        let asked = Duration::from_secs(30);
        for too_short_or_unanswered in [1_000, 30_001] {
            retry.was_held(Duration::from_millis(too_short_or_unanswered), asked);
            assert_eq!(retry.failed(late, 0.0, &lost()), None);
        }
        retry.was_held(Duration::from_millis(1001), asked);
        assert_eq!(
            retry.failed(late, 0.0, &lost()),
            Some(Duration::from_millis(20))
        );
    }

    #[test]
    fn a_broker_that_asks_for_a_longer_pause_gets_it() {
        let mut retry = Retry::new(&Options::default());
        let failure = Failure::new(ErrorCode::RetryLater, "busy").numbers(700, 0);
        assert_eq!(
            retry.failed(Instant::now(), 0.0, &failure.into()),
            Some(Duration::from_millis(700))
        );
    }
}
